//! Channels in responses of `/v1`.

use crate::http::Reader;
use serde::Serialize;
use std::collections::BTreeMap;
use thrum_schema::UnixMs;
use thrum_schema::channel::{Channel, ChannelKind, Subscription, SubscriptionState};
use thrum_schema::id::ChannelId;
use thrum_store::ChannelHealth;
use utoipa::ToSchema;

/// A channel.
#[derive(Debug, Serialize, ToSchema)]
pub struct ChannelView {
    #[schema(value_type = String)]
    pub id: ChannelId,
    pub name: String,
    pub kind: String,
    /// The settings of the kind. A secret is shown as an ellipsis; a secret URL, with its host.
    #[schema(value_type = HashMap<String, String>)]
    pub settings: BTreeMap<String, String>,
    pub notify_down: bool,
    pub notify_up: bool,
    pub group_threshold: u32,
    pub daily_limit: Option<u32>,
    /// It is notified only of what is still down, and not acknowledged, after this many seconds.
    pub after_s: Option<u32>,
    /// The channel that gets what this one fails to deliver, after `fallback_after` failed attempts.
    #[schema(value_type = Option<String>)]
    pub fallback: Option<ChannelId>,
    pub fallback_after: u32,
    pub created: String,
    /// Where a webhook posts. Hidden from read-only keys, because anyone who has it can post there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// The secret that signs a webhook. Shown only when the channel is created.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub topic_arn: Option<String>,
    /// How its deliveries fail, if the last one failed.
    pub failing: Option<Failing>,
    /// Whether its address has confirmed, if it must.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subscription: Option<SubscriptionView>,
}

/// How a channel's deliveries fail.
#[derive(Debug, Serialize, ToSchema)]
pub struct Failing {
    /// How many attempts have failed since the last successful one.
    pub attempts: u64,
    pub since: String,
    pub last_at: String,
    pub last_error: String,
}

/// The subscription of an e-mail channel.
#[derive(Debug, Serialize, ToSchema)]
pub struct SubscriptionView {
    /// `asking`, `pending`, `confirmed` or `lost`.
    pub state: &'static str,
    /// What to do, if anything.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<&'static str>,
    /// Why a request to SNS failed, if it did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    pub checked_at: Option<String>,
}

impl From<&Subscription> for SubscriptionView {
    fn from(subscription: &Subscription) -> Self {
        let (state, hint) = match subscription.state {
            _ if subscription.asks() => (
                "asking",
                Some("within a minute the address gets an e-mail that asks it to confirm"),
            ),
            None => ("asking", None),
            Some(SubscriptionState::Pending) => (
                "pending",
                Some(
                    "someone at the address must follow the link in the e-mail that asks to confirm; until then nothing is delivered",
                ),
            ),
            Some(SubscriptionState::Confirmed) => ("confirmed", None),
            Some(SubscriptionState::Lost) => (
                "lost",
                Some(
                    "the address unsubscribed, or never confirmed; to ask again, update the channel with the same `to`",
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

/// A channel, as this caller may see it.
pub fn shown(
    reader: &Reader,
    channel: &Channel,
    failing: &[ChannelHealth],
    subscription: Option<&Subscription>,
) -> ChannelView {
    let mut view = view(channel);
    if !reader.sees_secrets && view.url.take().is_some() {
        view.settings.remove("url");
    }
    let health = failing.iter().find(|health| health.channel == channel.id);
    view.failing = health.map(Failing::from);
    view.subscription = subscription.map(SubscriptionView::from);
    view
}

/// A channel, without its health and subscription.
pub fn view(channel: &Channel) -> ChannelView {
    let mut view = ChannelView {
        id: channel.id,
        name: channel.name.clone(),
        kind: channel.via.name().to_owned(),
        settings: settings(channel),
        notify_down: channel.notify_down,
        notify_up: channel.notify_up,
        group_threshold: channel.group_threshold,
        daily_limit: channel.daily_limit,
        after_s: channel.after_s,
        fallback: channel.fallback,
        fallback_after: channel.failures_to_fall_back(),
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
        ChannelKind::Service { .. } => {}
    }
    view
}

/// The settings of a channel, without what must not be shown.
fn settings(channel: &Channel) -> BTreeMap<String, String> {
    let kind = channel.via.kind();
    let shown = |(name, value): (String, String)| {
        let setting = kind.and_then(|kind| kind.setting(&name));
        let value = setting.map_or_else(|| "…".to_owned(), |setting| setting.shown(&value));
        (name, value)
    };
    channel.via.settings().into_iter().map(shown).collect()
}
