//! `/v1/channels`: where alerts go.

use crate::app::App;
use crate::auth::{Reader, Writer};
use crate::body::{Json, PathId};
use crate::monitors::some;
use crate::problem::Problem;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde::{Deserialize, Serialize};
use thrum_schema::alert::{Alert, AlertKind};
use thrum_schema::channel::{
    Channel, ChannelKind, DEFAULT_GROUP_THRESHOLD, MAX_CHANNELS, Subscription, SubscriptionState,
    Targets, check_email, check_phone, check_topic_arn, check_webhook_url,
};
use thrum_schema::error::Invalid;
use thrum_schema::id::{AlertId, ChannelId, ProjectId};
use thrum_schema::{UnixMs, World};
use thrum_store::ChannelHealth;
use thrum_store::StoreError;
use utoipa::ToSchema;

/// Longest name, in characters.
const MAX_NAME: usize = 100;
/// The prefix of Standard Webhooks secrets.
const SECRET_PREFIX: &str = "whsec_";

/// What a client sends to make or change a channel. Absent members keep their value, or take their default.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ChannelRequest {
    /// 1 to 100 characters; the kind by default.
    #[schema(min_length = 1, max_length = 100)]
    name: Option<String>,
    /// It can't be changed.
    #[schema(value_type = Option<KindName>)]
    kind: Option<String>,
    /// Where a webhook posts.
    url: Option<String>,
    /// What signs it, `whsec_` and base64; made if absent.
    secret: Option<String>,
    /// An e-mail address, or a phone number in E.164 form.
    to: Option<String>,
    topic_arn: Option<String>,
    notify_down: Option<bool>,
    notify_up: Option<bool>,
    /// Alerts within two seconds beyond which they are sent as one; 0 never groups.
    #[schema(value_type = Option<i64>, minimum = 0, maximum = 4_294_967_295_i64)]
    group_threshold: Option<u32>,
    /// Most messages a (UTC) day; null for no limit.
    #[serde(default, deserialize_with = "some")]
    #[schema(value_type = Option<i64>, minimum = 1, maximum = 4_294_967_295_i64)]
    daily_limit: Option<Option<u32>>,
}

/// How a channel delivers.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[expect(
    dead_code,
    reason = "it describes what `ChannelRequest::via` tells apart by hand"
)]
pub enum KindName {
    Webhook,
    Email,
    Sms,
    Sns,
}

/// A channel.
#[derive(Debug, Serialize, ToSchema)]
pub struct ChannelView {
    #[schema(value_type = String)]
    pub id: ChannelId,
    pub name: String,
    pub kind: &'static str,
    pub notify_down: bool,
    pub notify_up: bool,
    pub group_threshold: u32,
    pub daily_limit: Option<u32>,
    pub created: String,
    /// Not for read-only keys: it lets others post there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// What signs a webhook: shown when it is made, and never again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub topic_arn: Option<String>,
    /// How its deliveries fail, if the last one did.
    pub failing: Option<Failing>,
    /// How far its subscription is, where e-mail goes by SNS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subscription: Option<SubscriptionView>,
}

/// How a channel's deliveries fail.
#[derive(Debug, Serialize, ToSchema)]
pub struct Failing {
    /// How many attempts failed since one was sent.
    pub attempts: u64,
    pub since: String,
    pub last_at: String,
    pub last_error: String,
}

/// How far an e-mail channel's subscription is.
#[derive(Debug, Serialize, ToSchema)]
pub struct SubscriptionView {
    /// `asking`, `pending`, `confirmed` or `lost`.
    pub state: &'static str,
    /// What to do, if anything.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<&'static str>,
    /// Why SNS did not do what was asked of it, if it did not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    pub checked_at: Option<String>,
}

impl From<&Subscription> for SubscriptionView {
    fn from(subscription: &Subscription) -> Self {
        let (state, hint) = match subscription.state {
            _ if subscription.asks() => (
                "asking",
                Some("within a minute the address gets a mail that asks it to confirm"),
            ),
            None => ("asking", None),
            Some(SubscriptionState::Pending) => (
                "pending",
                Some(
                    "the address must follow the link in the mail from AWS Notifications; nothing arrives before",
                ),
            ),
            Some(SubscriptionState::Confirmed) => ("confirmed", None),
            Some(SubscriptionState::Lost) => (
                "lost",
                Some(
                    "the address unsubscribed, or never confirmed; change the channel with the same `to` to ask it again",
                ),
            ),
        };
        Self {
            state,
            hint,
            error: subscription.error.clone(),
            checked_at: subscription.checked.map(UnixMs::rfc3339),
        }
    }
}

/// Channels.
#[derive(Debug, Serialize, ToSchema)]
pub struct Channels {
    pub channels: Vec<ChannelView>,
}

/// A test message that is on its way.
#[derive(Debug, Serialize, ToSchema)]
pub struct TestSent {
    #[schema(value_type = String)]
    alert_id: AlertId,
    /// Where to see what became of it.
    see: &'static str,
}

impl From<&ChannelHealth> for Failing {
    fn from(health: &ChannelHealth) -> Self {
        Self {
            attempts: health.failures,
            since: health.since.rfc3339(),
            last_at: health.failed_at.rfc3339(),
            last_error: health.last_error.clone(),
        }
    }
}

/// Lists the channels of the project, and which of them fail.
#[utoipa::path(
    get, path = "/v1/channels", operation_id = "list_channels", tag = "channels",
    security(("api_key" = []), ("bearer" = [])),
    responses((status = 200, body = Channels), crate::openapi::Problems, crate::openapi::Overload),
)]
pub async fn list(State(app): State<App>, reader: Reader) -> Result<axum::Json<Channels>, Problem> {
    reader.caller.charge(&app).await?;
    let (mut channels, failing) = futures::try_join!(
        app.store.channels(reader.project),
        app.store.failing_channels(reader.project)
    )?;
    channels.sort_by_key(|channel| (channel.created, channel.id));
    let mut views = Vec::with_capacity(channels.len());
    for channel in &channels {
        let subscription = app.subscription(channel).await?;
        views.push(reader.shown(channel, &failing, subscription.as_ref()));
    }
    Ok(axum::Json(Channels { channels: views }))
}

/// Shows a channel.
#[utoipa::path(
    get, path = "/v1/channels/{id}", operation_id = "get_channel", tag = "channels",
    security(("api_key" = []), ("bearer" = [])),
    params(("id" = String, Path, description = "The channel's id")),
    responses((status = 200, body = ChannelView), crate::openapi::Problems, crate::openapi::Overload, crate::openapi::Missing),
)]
pub async fn get(
    State(app): State<App>,
    reader: Reader,
    PathId(id): PathId,
) -> Result<axum::Json<ChannelView>, Problem> {
    let channel = find(&app, reader.project, &id).await?;
    reader.caller.charge(&app).await?;
    let failing = app.store.failing_channels(reader.project).await?;
    let subscription = app.subscription(&channel).await?;
    Ok(axum::Json(reader.shown(
        &channel,
        &failing,
        subscription.as_ref(),
    )))
}

impl Reader {
    /// A channel as this caller may see it.
    fn shown(
        &self,
        channel: &Channel,
        failing: &[ChannelHealth],
        subscription: Option<&Subscription>,
    ) -> ChannelView {
        let mut view = view(channel);
        if !self.sees_secrets {
            view.url = None;
        }
        let health = failing.iter().find(|health| health.channel == channel.id);
        view.failing = health.map(Failing::from);
        view.subscription = subscription.map(SubscriptionView::from);
        view
    }
}

/// Makes a channel. The secret of a webhook is shown once.
#[utoipa::path(
    post, path = "/v1/channels", operation_id = "create_channel", tag = "channels",
    security(("api_key" = []), ("bearer" = [])), request_body = ChannelRequest,
    responses((status = 201, body = ChannelView), crate::openapi::Problems, crate::openapi::Overload),
)]
pub async fn create(
    State(app): State<App>,
    writer: Writer,
    Json(request): Json<ChannelRequest>,
) -> Result<(StatusCode, axum::Json<ChannelView>), Problem> {
    let project = writer.project;
    let world = app.store.world();
    let via = request.via(None, &app)?;
    if app.store.channels(project).await?.len() >= MAX_CHANNELS {
        return Err(Problem::new(
            StatusCode::CONFLICT,
            format!("a project has at most {MAX_CHANNELS} channels; delete one first"),
        ));
    }
    let channel = request.applied_to(Channel {
        id: ChannelId(world.uuid_v4()),
        project,
        name: via.name().to_owned(),
        via,
        notify_down: true,
        notify_up: true,
        group_threshold: DEFAULT_GROUP_THRESHOLD,
        daily_limit: None,
        created: world.now(),
    })?;
    writer.caller.charge(&app).await?;
    let see_to = app.sees_to(&channel);
    app.store.create_channel(&channel, see_to).await?;
    let mut body = view(&channel);
    // Shown here, and never again.
    if let ChannelKind::Webhook { secret, .. } = &channel.via {
        body.secret = Some(secret.clone());
    }
    Ok((StatusCode::CREATED, axum::Json(body)))
}

/// Changes a channel: only what is given.
#[utoipa::path(
    patch, path = "/v1/channels/{id}", operation_id = "update_channel", tag = "channels",
    security(("api_key" = []), ("bearer" = [])), request_body = ChannelRequest,
    params(("id" = String, Path, description = "The channel's id")),
    responses((status = 200, body = ChannelView), crate::openapi::Problems, crate::openapi::Overload, crate::openapi::Missing),
)]
pub async fn update(
    State(app): State<App>,
    writer: Writer,
    PathId(id): PathId,
    Json(request): Json<ChannelRequest>,
) -> Result<axum::Json<ChannelView>, Problem> {
    let mut channel = find(&app, writer.project, &id).await?;
    channel.via = request.via(Some(&channel.via), &app)?;
    let asks = request.to.is_some();
    let channel = request.applied_to(channel)?;
    writer.caller.charge(&app).await?;
    let see_to = app.sees_to(&channel).filter(|_| asks);
    match app.store.replace_channel(&channel, see_to).await {
        Ok(()) => Ok(axum::Json(view(&channel))),
        Err(StoreError::Conflict) => Err(Problem::not_found("channel")),
        Err(error) => Err(error.into()),
    }
}

/// How a channel is to be deleted.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Deletion {
    /// Even if monitors alert nobody else.
    pub force: Option<bool>,
}

/// Deletes a channel. What was on its way through it is given up.
#[utoipa::path(
    delete, path = "/v1/channels/{id}", operation_id = "delete_channel", tag = "channels",
    security(("api_key" = []), ("bearer" = [])),
    params(("id" = String, Path, description = "The channel's id"), Deletion),
    responses((status = 204, description = "It is gone"), crate::openapi::Problems, crate::openapi::Overload, crate::openapi::Missing),
)]
pub async fn delete(
    State(app): State<App>,
    writer: Writer,
    PathId(id): PathId,
    params: Result<Query<Deletion>, QueryRejection>,
) -> Result<StatusCode, Problem> {
    let Query(params) = params.map_err(|error| Problem::bad_request(error.body_text()))?;
    let channel = find(&app, writer.project, &id).await?;
    if !params.force.unwrap_or(false) {
        let monitors = app.monitors(writer.project).await?;
        let only = Targets::These(vec![channel.id]);
        let left = monitors.iter().filter(|monitor| monitor.targets == only);
        let left: Vec<&str> = left.map(|monitor| &*monitor.name).collect();
        if let Some(first) = left.first() {
            return Err(Problem::new(
                StatusCode::CONFLICT,
                format!(
                    "{} of the monitors alert nobody else ({first:?} is one); give them another channel first, or \
                     delete it with ?force=true",
                    left.len()
                ),
            ));
        }
    }
    writer.caller.charge(&app).await?;
    let see_to = app.sees_to(&channel);
    app.store
        .delete_channel(writer.project, channel.id, see_to)
        .await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Sends a test message, through the same outbox as every alert.
#[utoipa::path(
    post, path = "/v1/channels/{id}/test", operation_id = "test_channel", tag = "channels",
    security(("api_key" = []), ("bearer" = [])),
    params(("id" = String, Path, description = "The channel's id")),
    responses((status = 202, body = TestSent), crate::openapi::Problems, crate::openapi::Overload, crate::openapi::Missing),
)]
pub async fn test(
    State(app): State<App>,
    writer: Writer,
    PathId(id): PathId,
) -> Result<(StatusCode, axum::Json<TestSent>), Problem> {
    let project = writer.project;
    let channel = find(&app, project, &id).await?;
    writer.caller.charge(&app).await?;
    let now = app.store.world().now();
    let id = AlertId(app.store.world().uuid_v7(now));
    let alert = Alert::of_channel(id, project, AlertKind::Test, channel.id);
    app.store.raise(&alert, now).await?;
    let sent = TestSent {
        alert_id: id,
        see: "/v1/alerts",
    };
    Ok((StatusCode::ACCEPTED, axum::Json(sent)))
}

impl App {
    /// When a channel's subscription is to be seen to, if it has one: now.
    fn sees_to(&self, channel: &Channel) -> Option<UnixMs> {
        let subscribed =
            self.config.mail_by_topics && matches!(channel.via, ChannelKind::Email { .. });
        subscribed.then(|| self.store.world().now())
    }

    /// What is known of a channel's subscription, if it has one.
    async fn subscription(&self, channel: &Channel) -> Result<Option<Subscription>, StoreError> {
        if self.sees_to(channel).is_none() {
            return Ok(None);
        }
        self.store.subscription(channel.project, channel.id).await
    }
}

async fn find(app: &App, project: ProjectId, id: &str) -> Result<Channel, Problem> {
    let not_found = || Problem::not_found("channel");
    let id = id.parse().map_err(|_| not_found())?;
    let found = app.store.channel(project, id).await?;
    found.ok_or_else(not_found)
}

impl ChannelRequest {
    /// How the channel is to deliver: `before` is how it did.
    fn via(&self, before: Option<&ChannelKind>, app: &App) -> Result<ChannelKind, Invalid> {
        let kind = match (&self.kind, before) {
            (Some(kind), Some(before)) if kind != before.name() => {
                return Err(Invalid::new(
                    "kind",
                    "can't be changed; make another channel",
                ));
            }
            (Some(kind), _) => kind.as_str(),
            (None, Some(before)) => before.name(),
            (None, None) => {
                return Err(Invalid::new(
                    "kind",
                    "is required: webhook, email, sms or sns",
                ));
            }
        };
        let members = [
            ("url", &self.url),
            ("secret", &self.secret),
            ("to", &self.to),
            ("topic_arn", &self.topic_arn),
        ];
        let own: &[&str] = match kind {
            "webhook" => &["url", "secret"],
            "email" | "sms" => &["to"],
            "sns" => &["topic_arn"],
            _ => {
                return Err(Invalid::new("kind", "must be webhook, email, sms or sns"));
            }
        };
        for (name, value) in members {
            if value.is_some() && !own.contains(&name) {
                let problem = format!("does not belong to a channel of kind {kind}");
                return Err(Invalid::new(name, problem));
            }
        }
        let required = |name: &str, given: &Option<String>, before: Option<&String>| {
            given
                .as_ref()
                .or(before)
                .cloned()
                .ok_or_else(|| Invalid::new(name, format!("is required for kind {kind}")))
        };
        match (kind, before) {
            ("webhook", before) => {
                let (old_url, old_secret) = match before {
                    Some(ChannelKind::Webhook { url, secret }) => (Some(url), Some(secret)),
                    _ => (None, None),
                };
                let url = required("url", &self.url, old_url)?;
                check_webhook_url("url", &url, app.config.allow_private_webhooks)?;
                let secret = match (&self.secret, old_secret) {
                    (Some(secret), _) => check_secret(secret)?,
                    (None, Some(secret)) => secret.clone(),
                    (None, None) => new_secret(app.store.world()),
                };
                Ok(ChannelKind::Webhook { url, secret })
            }
            ("sns", before) => {
                let old = match before {
                    Some(ChannelKind::Sns { topic_arn }) => Some(topic_arn),
                    _ => None,
                };
                let topic_arn = required("topic_arn", &self.topic_arn, old)?;
                check_topic_arn("topic_arn", &topic_arn)?;
                if app
                    .config
                    .topics
                    .as_ref()
                    .is_some_and(|allowed| !allowed.contains(&topic_arn))
                {
                    return Err(Invalid::new(
                        "topic_arn",
                        "is not among the topics that this installation may publish to; its operator allows them by the \
                         parameter TopicArns",
                    ));
                }
                Ok(ChannelKind::Sns { topic_arn })
            }
            (kind, before) => {
                let old = match before {
                    Some(ChannelKind::Email { to } | ChannelKind::Sms { to }) => Some(to),
                    _ => None,
                };
                let to = required("to", &self.to, old)?;
                if kind == "email" {
                    check_email("to", &to)?;
                    Ok(ChannelKind::Email { to })
                } else {
                    check_phone("to", &to)?;
                    Ok(ChannelKind::Sms { to })
                }
            }
        }
    }

    /// The channel with what the request says of it besides its kind.
    fn applied_to(self, mut channel: Channel) -> Result<Channel, Invalid> {
        if let Some(name) = self.name {
            if name.is_empty() || name.chars().count() > MAX_NAME {
                return Err(Invalid::new(
                    "name",
                    format!("must be 1 to {MAX_NAME} characters"),
                ));
            }
            channel.name = name;
        }
        channel.notify_down = self.notify_down.unwrap_or(channel.notify_down);
        channel.notify_up = self.notify_up.unwrap_or(channel.notify_up);
        channel.group_threshold = self.group_threshold.unwrap_or(channel.group_threshold);
        if let Some(daily_limit) = self.daily_limit {
            if daily_limit == Some(0) {
                return Err(Invalid::new(
                    "daily_limit",
                    "must be at least 1, or null for no limit",
                ));
            }
            channel.daily_limit = daily_limit;
        }
        Ok(channel)
    }
}

fn view(channel: &Channel) -> ChannelView {
    let mut view = ChannelView {
        id: channel.id,
        name: channel.name.clone(),
        kind: channel.via.name(),
        notify_down: channel.notify_down,
        notify_up: channel.notify_up,
        group_threshold: channel.group_threshold,
        daily_limit: channel.daily_limit,
        created: channel.created.rfc3339(),
        url: None,
        secret: None,
        to: None,
        topic_arn: None,
        failing: None,
        subscription: None,
    };
    match channel.via.clone() {
        ChannelKind::Webhook { url, .. } => view.url = Some(url),
        ChannelKind::Email { to } | ChannelKind::Sms { to } => view.to = Some(to),
        ChannelKind::Sns { topic_arn } => view.topic_arn = Some(topic_arn),
    }
    view
}

/// A secret as Standard Webhooks have it: `whsec_` and the base64 of 24 to 64 bytes.
fn check_secret(secret: &str) -> Result<String, Invalid> {
    let bytes = secret
        .strip_prefix(SECRET_PREFIX)
        .and_then(|text| BASE64_STANDARD.decode(text).ok());
    match bytes {
        Some(bytes) if (24..=64).contains(&bytes.len()) => Ok(secret.to_owned()),
        _ => Err(Invalid::new(
            "secret",
            "must be whsec_ and the base64 of 24 to 64 bytes; leave it out to have one made",
        )),
    }
}

fn new_secret(world: &dyn World) -> String {
    let (head, tail) = (world.random().to_be_bytes(), world.random().to_be_bytes());
    format!(
        "{SECRET_PREFIX}{}",
        BASE64_STANDARD.encode([head, tail].concat())
    )
}
