//! `/v1/channels`: where alerts go.

use crate::app::App;
use crate::auth::{Reader, Writer};
use crate::body::{Json, PathId};
use crate::problem::Problem;
use axum::extract::State;
use axum::http::StatusCode;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};
use thrum_schema::alert::{Alert, AlertKind};
use thrum_schema::channel::{
    Channel, ChannelKind, DEFAULT_GROUP_THRESHOLD, MAX_CHANNELS, check_email, check_phone,
    check_topic_arn, check_webhook_url,
};
use thrum_schema::error::Invalid;
use thrum_schema::id::{AlertId, ChannelId, ProjectId};
use thrum_schema::{StoreError, World};

/// Longest name, in characters.
const MAX_NAME: usize = 100;
/// The prefix of Standard Webhooks secrets.
const SECRET_PREFIX: &str = "whsec_";

/// What a client sends to make or change a channel. Absent members keep their value, or take their default.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    name: Option<String>,
    kind: Option<String>,
    url: Option<String>,
    secret: Option<String>,
    to: Option<String>,
    topic_arn: Option<String>,
    notify_down: Option<bool>,
    notify_up: Option<bool>,
    group_threshold: Option<u32>,
    #[serde(default, deserialize_with = "some")]
    daily_limit: Option<Option<u32>>,
}

/// Tells an explicit null, which removes the limit, from a missing member.
fn some<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Option<u32>>, D::Error> {
    Option::deserialize(from).map(Some)
}

pub async fn list(State(app): State<App>, reader: Reader) -> Result<axum::Json<Value>, Problem> {
    let mut channels = app.store.channels(reader.project).await?;
    channels.sort_by_key(|channel| (channel.created, channel.id));
    let channels: Vec<Value> = channels
        .iter()
        .map(|channel| reader.shown(view(channel)))
        .collect();
    Ok(axum::Json(json!({ "channels": channels })))
}

pub async fn get(
    State(app): State<App>,
    reader: Reader,
    PathId(id): PathId,
) -> Result<axum::Json<Value>, Problem> {
    let channel = find(&app, reader.project, &id).await?;
    Ok(axum::Json(reader.shown(view(&channel))))
}

impl Reader {
    /// A channel as this caller may see it: the URL of a webhook lets others post there.
    fn shown(self, mut channel: Value) -> Value {
        if let (false, Some(members)) = (self.sees_secrets, channel.as_object_mut()) {
            members.remove("url");
        }
        channel
    }
}

pub async fn create(
    State(app): State<App>,
    Writer(project): Writer,
    Json(request): Json<Request>,
) -> Result<(StatusCode, axum::Json<Value>), Problem> {
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
    app.store.put_channel(&channel).await?;
    let mut body = view(&channel);
    // Shown here, and never again.
    if let ChannelKind::Webhook { secret, .. } = &channel.via {
        body["secret"] = json!(secret);
    }
    Ok((StatusCode::CREATED, axum::Json(body)))
}

pub async fn update(
    State(app): State<App>,
    Writer(project): Writer,
    PathId(id): PathId,
    Json(request): Json<Request>,
) -> Result<axum::Json<Value>, Problem> {
    let mut channel = find(&app, project, &id).await?;
    channel.via = request.via(Some(&channel.via), &app)?;
    let channel = request.applied_to(channel)?;
    match app.store.replace_channel(&channel).await {
        Ok(()) => Ok(axum::Json(view(&channel))),
        Err(StoreError::Conflict) => Err(Problem::not_found("channel")),
        Err(error) => Err(error.into()),
    }
}

pub async fn delete(
    State(app): State<App>,
    Writer(project): Writer,
    PathId(id): PathId,
) -> Result<StatusCode, Problem> {
    let channel = find(&app, project, &id).await?;
    app.store.delete_channel(project, channel.id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Sends a test message, through the same outbox as every alert.
pub async fn test(
    State(app): State<App>,
    Writer(project): Writer,
    PathId(id): PathId,
) -> Result<(StatusCode, axum::Json<Value>), Problem> {
    let channel = find(&app, project, &id).await?;
    let now = app.store.world().now();
    let id = AlertId(app.store.world().uuid_v7(now));
    let alert = Alert::of_channel(id, project, AlertKind::Test, channel.id);
    app.store.raise(&alert, now).await?;
    let body = json!({ "alert_id": id, "see": "/v1/alerts" });
    Ok((StatusCode::ACCEPTED, axum::Json(body)))
}

async fn find(app: &App, project: ProjectId, id: &str) -> Result<Channel, Problem> {
    let not_found = || Problem::not_found("channel");
    let id = id.parse().map_err(|_| not_found())?;
    let found = app.store.channel(project, id).await?;
    found.ok_or_else(not_found)
}

impl Request {
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

fn view(channel: &Channel) -> Value {
    let mut view = json!({
        "id": channel.id,
        "name": channel.name,
        "kind": channel.via.name(),
        "notify_down": channel.notify_down,
        "notify_up": channel.notify_up,
        "group_threshold": channel.group_threshold,
        "daily_limit": channel.daily_limit,
        "created": channel.created.rfc3339(),
    });
    match &channel.via {
        ChannelKind::Webhook { url, .. } => view["url"] = json!(url),
        ChannelKind::Email { to } | ChannelKind::Sms { to } => view["to"] = json!(to),
        ChannelKind::Sns { topic_arn } => view["topic_arn"] = json!(topic_arn),
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
