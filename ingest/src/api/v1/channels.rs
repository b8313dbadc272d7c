//! `/v1/channels`: where alerts go.

mod spec;
mod view;

pub use spec::ChannelRequest;
pub use view::{ChannelView, Failing};

use crate::app::App;
use crate::config::ConfirmMail;
use crate::http::{
    Edit, Json, Missing, Named, Overload, Page, Params, Problem, Problems, Read, Reader, Write,
    Writer,
};
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use thrum_schema::alert::{Alert, AlertKind};
use thrum_schema::channel::{Channel, ChannelKind, MAX_CHANNELS, Subscription};
use thrum_schema::id::{AlertId, ChannelId, ProjectId};
use thrum_schema::{Targets, UnixMs};
use thrum_store::{Kind, Snapshot, StoreError, trace};
use utoipa::ToSchema;
use view::{shown, view};

/// How often to try again while other channels are created.
const MAX_ATTEMPTS: u32 = 64;

/// Channels.
#[derive(Debug, Serialize, ToSchema)]
pub struct Channels {
    pub channels: Vec<ChannelView>,
    /// The cursor of the next part, if there is more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_cursor: Option<String>,
}

/// A test message that is being sent.
#[derive(Debug, Serialize, ToSchema)]
pub struct TestSent {
    #[schema(value_type = String)]
    alert_id: AlertId,
    /// The path that shows its delivery.
    see: &'static str,
}

/// Lists the channels of the project, and shows which of them are failing.
#[utoipa::path(
    get, path = "/v1/channels", operation_id = "list_channels", tag = "channels",
    params(Page),
    responses((status = 200, body = Channels), Problems, Overload),
)]
pub async fn list(
    State(app): State<App>,
    reader: Reader,
    Params(page): Params<Page>,
) -> Result<axum::Json<Channels>, Problem> {
    reader.caller.charge(&app).await?;
    let (mut channels, failing) = futures::try_join!(
        app.store.channels(reader.project),
        app.store.failing_channels(reader.project)
    )?;
    channels.sort_by_key(|channel| (channel.created, channel.id));
    let key = |channel: &Channel| format!("{:020}{}", channel.created.0, channel.id);
    let (channels, next_cursor) = page.of(channels, key)?;
    let mut views = Vec::with_capacity(channels.len());
    for channel in &channels {
        let subscription = subscription(&app, channel).await?;
        views.push(shown(&reader, channel, &failing, subscription.as_ref()));
    }
    Ok(axum::Json(Channels {
        channels: views,
        next_cursor,
    }))
}

/// Shows a channel.
#[utoipa::path(
    get, path = "/v1/channels/{id}", operation_id = "get_channel", tag = "channels",
    params(("id" = String, Path, description = "The channel's ID or unique name")),
    responses((status = 200, body = ChannelView), Problems, Overload, Missing),
)]
pub async fn get(
    State(app): State<App>,
    Read {
        reader,
        it: channel,
    }: Read<Channel>,
) -> Result<axum::Json<ChannelView>, Problem> {
    let failing = app.store.failing_channels(reader.project).await?;
    let subscription = subscription(&app, &channel).await?;
    let view = shown(&reader, &channel, &failing, subscription.as_ref());
    Ok(axum::Json(view))
}

/// Creates a channel. The secret of a webhook is shown only in this response.
#[utoipa::path(
    post, path = "/v1/channels", operation_id = "create_channel", tag = "channels",
    request_body = ChannelRequest,
    responses((status = 201, body = ChannelView), Problems, Overload),
)]
pub async fn create(
    State(app): State<App>,
    writer: Writer,
    Json(request): Json<ChannelRequest>,
) -> Result<(StatusCode, axum::Json<ChannelView>), Problem> {
    let project = writer.project;
    let world = app.store.world();
    let via = request.check(None, &app)?;
    let id = ChannelId(world.uuid_v4());
    let others = app.store.channels(project).await?;
    let fallback = request.fallback(id, None, &others)?;
    let channel = Channel {
        fallback,
        ..request.applied_to(Channel::new(id, project, via, world.now()))
    };
    let mut charged = false;
    for attempt in 0.. {
        let counted = app.store.before_count(project, Kind::Channels).await?;
        if app.store.channels(project).await?.len() >= MAX_CHANNELS {
            return Err(Problem::conflict(format!(
                "a project has at most {MAX_CHANNELS} channels; delete one first"
            )));
        }
        if !charged {
            writer.caller.charge(&app).await?;
            charged = true;
        }
        let check = next_check(&app, &channel).await?;
        match app.store.create_channel(&channel, check, &counted).await {
            Ok(()) => break,
            Err(StoreError::Conflict) if attempt < MAX_ATTEMPTS => {
                app.store.back_off(attempt).await;
            }
            Err(error) => return Err(error.into()),
        }
    }
    let mut body = view(&channel);
    // The secret is shown only here.
    if let ChannelKind::Webhook { secret, .. } = &channel.via {
        body.secret = Some(secret.clone());
    }
    Ok((StatusCode::CREATED, axum::Json(body)))
}

/// Changes a channel: only the given fields.
#[utoipa::path(
    patch, path = "/v1/channels/{id}", operation_id = "update_channel", tag = "channels",
    request_body = ChannelRequest,
    params(("id" = String, Path, description = "The channel's ID or unique name")),
    responses((status = 200, body = ChannelView), Problems, Overload, Missing),
)]
pub async fn update(
    State(app): State<App>,
    Edit {
        writer,
        it: mut channel,
    }: Edit<Channel>,
    Json(request): Json<ChannelRequest>,
) -> Result<axum::Json<ChannelView>, Problem> {
    channel.via = request.check(Some(&channel.via), &app)?;
    if request.fallback.is_some() {
        let others = app.store.channels(channel.project).await?;
        channel.fallback = request.fallback(channel.id, channel.fallback, &others)?;
    }
    let asks = request.sets("to");
    let channel = request.applied_to(channel);
    writer.caller.charge(&app).await?;
    let check = next_check(&app, &channel).await?.filter(|_| asks);
    match app.store.replace_channel(&channel, check).await {
        Ok(()) => Ok(axum::Json(view(&channel))),
        Err(StoreError::Conflict) => Err(Problem::not_found("channel")),
        Err(error) => Err(error.into()),
    }
}

/// How to delete a channel.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Deletion {
    /// Delete it even if some monitors alert on no other channel.
    pub force: Option<bool>,
}

/// Deletes a channel. Thrum gives up on its unfinished deliveries.
#[utoipa::path(
    delete, path = "/v1/channels/{id}", operation_id = "delete_channel", tag = "channels",
    params(("id" = String, Path, description = "The channel's ID or unique name"), Deletion),
    responses((status = 204, description = "Deleted"), Problems, Overload, Missing),
)]
pub async fn delete(
    State(app): State<App>,
    Edit {
        writer,
        it: channel,
    }: Edit<Channel>,
    Params(params): Params<Deletion>,
) -> Result<StatusCode, Problem> {
    if !params.force.unwrap_or(false) {
        let monitors = app.monitors.list(writer.project).await?;
        let only = Targets::These(vec![channel.id]);
        let left = monitors.iter().filter(|monitor| monitor.targets == only);
        let left: Vec<&str> = left.map(|monitor| &*monitor.name).collect();
        if let Some(first) = left.first() {
            return Err(Problem::conflict(format!(
                "{} of the monitors alert on no other channel ({first:?} is one); give them another channel \
                 first, or delete this one with ?force=true",
                left.len()
            )));
        }
    }
    let mut others = app.store.channels(writer.project).await?;
    others.retain(|other| other.fallback == Some(channel.id));
    if let Some(first) = others.first().filter(|_| !params.force.unwrap_or(false)) {
        return Err(Problem::conflict(format!(
            "it is the fallback of {} other channels ({:?} is one); give them another fallback first, or delete \
             this one with ?force=true",
            others.len(),
            first.name
        )));
    }
    writer.caller.charge(&app).await?;
    for other in others {
        let other = Channel {
            fallback: None,
            ..other
        };
        match app.store.replace_channel(&other, None).await {
            // Deleted in the meantime.
            Ok(()) | Err(StoreError::Conflict) => {}
            Err(error) => return Err(error.into()),
        }
    }
    let check = next_check(&app, &channel).await?;
    app.store
        .delete_channel(writer.project, channel.id, check)
        .await?;
    Ok(StatusCode::NO_CONTENT)
}

/// What a test message is about.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct TestOf {
    /// The uuid, slug or name of a monitor: the message looks like an alert about it.
    pub monitor: Option<String>,
}

/// Sends a test message, through the same outbox as an alert.
#[utoipa::path(
    post, path = "/v1/channels/{id}/test", operation_id = "test_channel", tag = "channels",
    params(("id" = String, Path, description = "The channel's ID or unique name"), TestOf),
    responses((status = 202, body = TestSent), Problems, Overload, Missing),
)]
pub async fn test(
    State(app): State<App>,
    Write { it: channel, .. }: Write<Channel>,
    Params(of): Params<TestOf>,
) -> Result<(StatusCode, axum::Json<TestSent>), Problem> {
    let now = app.store.world().now();
    let id = app.store.new_alert_id(now);
    let mut alert = Alert::of_channel(id, channel.project, AlertKind::Test, channel.id);
    alert.trace = trace::current();
    if let Some(monitor) = of.monitor {
        let found = Snapshot::find(&app, channel.project, &monitor).await?;
        alert.about(&found.monitor, found.state.last_success(), now);
    }
    app.store.raise(&alert, now).await?;
    let sent = TestSent {
        alert_id: id,
        see: "/v1/alerts",
    };
    Ok((StatusCode::ACCEPTED, axum::Json(sent)))
}

impl Named for Channel {
    async fn find(app: &App, project: ProjectId, id: &str) -> Result<Self, Problem> {
        if let Ok(id) = id.parse()
            && let Some(found) = app.store.channel(project, id).await?
        {
            return Ok(found);
        }
        let mut channels = app.store.channels(project).await?;
        channels.retain(|channel| channel.name == id);
        match channels.pop() {
            None => Err(Problem::not_found("channel")),
            Some(found) if channels.is_empty() => Ok(found),
            Some(_) => Err(Problem::conflict(
                "several channels have this name; use the ID",
            )),
        }
    }
}

/// The time of the next check of a channel's subscription, if it needs one: now.
async fn next_check(app: &App, channel: &Channel) -> Result<Option<UnixMs>, StoreError> {
    if !matches!(channel.via, ChannelKind::Email { .. }) {
        return Ok(None);
    }
    let is_asked = app.config.mail_by_topics
        || match app.config.confirm_mail {
            ConfirmMail::On => true,
            ConfirmMail::Off => false,
            ConfirmMail::Auto => app.store.projects().await?.len() > 1,
        }
        || subscription(app, channel).await?.is_some();
    Ok(is_asked.then(|| app.store.world().now()))
}

/// A channel's subscription, if it has one.
async fn subscription(app: &App, channel: &Channel) -> Result<Option<Subscription>, StoreError> {
    match channel.via {
        ChannelKind::Email { .. } => app.store.subscription(channel.project, channel.id).await,
        _ => Ok(None),
    }
}
