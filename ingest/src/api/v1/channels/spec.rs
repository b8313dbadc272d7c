//! Requests to create or change a channel. Absent fields keep their value, or get their default.

use super::super::monitors::some;
use crate::app::App;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde::Deserialize;
use std::collections::BTreeMap;
use thrum_schema::channel::kind::{Kind, Settings};
use thrum_schema::channel::{Channel, ChannelKind, MAX_AFTER_S, MAX_FALLBACK_AFTER, identify};
use thrum_schema::error::Invalid;
use thrum_schema::id::ChannelId;
use thrum_schema::notice::{samples, template};
use thrum_schema::{UnixMs, World};
use utoipa::ToSchema;

/// The longest name, in characters.
const MAX_NAME: usize = 100;
/// The prefix of Standard Webhooks secrets.
const SECRET_PREFIX: &str = "whsec_";

/// A channel to create, or the fields of a channel to change. Absent fields keep their value, or
/// get their default.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ChannelRequest {
    /// 1 to 100 characters. The default is the kind.
    #[schema(min_length = 1, max_length = 100)]
    pub(super) name: Option<String>,
    /// `webhook`, `email`, `slack`, or another kind. Can't be changed.
    pub(super) kind: Option<String>,
    /// The settings of the kind, by their names; null removes one.
    #[serde(default)]
    #[schema(value_type = Option<HashMap<String, Option<String>>>)]
    pub(super) settings: BTreeMap<String, Option<String>>,
    /// The same as the setting `url`.
    pub(super) url: Option<String>,
    /// The same as the setting `secret`.
    pub(super) secret: Option<String>,
    /// The same as the setting `to`.
    pub(super) to: Option<String>,
    /// The same as the setting `topic_arn`.
    pub(super) topic_arn: Option<String>,
    /// Whether to notify when a monitor goes down.
    pub(super) notify_down: Option<bool>,
    /// Whether to notify when a monitor comes back up.
    pub(super) notify_up: Option<bool>,
    /// More alerts than this within two seconds are sent as one message; 0 never groups.
    #[schema(value_type = Option<i64>, minimum = 0, maximum = 4_294_967_295_i64)]
    pub(super) group_threshold: Option<u32>,
    /// The most messages per day (UTC); null for no limit.
    #[serde(default, deserialize_with = "some")]
    #[schema(value_type = Option<i64>, minimum = 1, maximum = 4_294_967_295_i64)]
    pub(super) daily_limit: Option<Option<u32>>,
    /// Notify it only of monitors that are still down, and not acknowledged, this many seconds after
    /// they went down; null for at once.
    #[serde(default, deserialize_with = "some")]
    #[schema(value_type = Option<i64>, minimum = 1, maximum = 86_400)]
    pub(super) after_s: Option<Option<u32>>,
    /// The ID or unique name of the channel that gets what this one fails to deliver; null for none.
    #[serde(default, deserialize_with = "some")]
    #[schema(value_type = Option<String>)]
    pub(super) fallback: Option<Option<String>>,
    /// After how many failed attempts of a delivery; 3 by default.
    #[serde(default, deserialize_with = "some")]
    #[schema(value_type = Option<i64>, minimum = 1, maximum = 20)]
    pub(super) fallback_after: Option<Option<u32>>,
}

impl ChannelRequest {
    /// The settings that are given, by their names.
    fn given(&self) -> BTreeMap<String, Option<String>> {
        let mut given = self.settings.clone();
        for (name, value) in [
            ("url", &self.url),
            ("secret", &self.secret),
            ("to", &self.to),
            ("topic_arn", &self.topic_arn),
        ] {
            if let Some(value) = value {
                given.insert(name.to_owned(), Some(value.clone()));
            }
        }
        given
    }

    /// Whether the request sets the setting `name`.
    pub fn sets(&self, name: &str) -> bool {
        self.given().contains_key(name)
    }

    /// How the channel delivers after this request; `before` is how it delivered until now.
    ///
    /// # Errors
    /// A setting is missing, invalid, or belongs to another kind.
    fn via(&self, before: Option<&ChannelKind>, app: &App) -> Result<ChannelKind, Vec<Invalid>> {
        let invalid = |field: &str, problem: String| vec![Invalid::new(field, problem)];
        let name = self.kind.as_deref().or(before.map(ChannelKind::name));
        let name =
            name.ok_or_else(|| invalid("kind", format!("is required: {}", Kind::names())))?;
        if before.is_some_and(|before| before.name() != name) {
            let problem = "can't be changed; create another channel".to_owned();
            return Err(invalid("kind", problem));
        }
        let kind = Kind::named(name)
            .ok_or_else(|| invalid("kind", format!("must be {}", Kind::names())))?;
        let had = before.map(ChannelKind::settings).unwrap_or_default();
        let mut settings = kind.change(&had, &self.given(), &app.config.networks)?;
        if kind.name == "webhook" {
            settings
                .entry("secret".to_owned())
                .or_insert_with(|| new_secret(app.store.world()));
            check_bodies(&settings, app.store.world().now())?;
        }
        let config = &app.config;
        for (setting, allowed, what) in [
            (
                "topic_arn",
                &config.topics,
                "a topic that this installation may publish to; the operator can add it to the parameter TopicArns",
            ),
            (
                "bus",
                &config.buses,
                "allowed on this installation; use an ARN in the parameter EventBusArns, or ask the operator to add it",
            ),
        ] {
            let value = settings.get(setting);
            let is_allowed =
                |value: &String| allowed.as_ref().is_none_or(|list| list.contains(value));
            if value.is_some_and(|value| !is_allowed(value)) {
                return Err(invalid(setting, format!("is not {what}")));
            }
        }
        Ok(ChannelKind::of(kind, settings))
    }

    /// How the channel delivers after this request, as [`Self::via`], if all other fields are valid, too.
    ///
    /// # Errors
    /// Every invalid field.
    pub fn check(
        &self,
        before: Option<&ChannelKind>,
        app: &App,
    ) -> Result<ChannelKind, Vec<Invalid>> {
        let mut invalid = Vec::new();
        if let Some(name) = &self.name
            && !(1..=MAX_NAME).contains(&name.chars().count())
        {
            let problem = format!("must be 1 to {MAX_NAME} characters");
            invalid.push(Invalid::new("name", problem));
        }
        if self.daily_limit == Some(Some(0)) {
            let problem = "must be at least 1, or null for no limit";
            invalid.push(Invalid::new("daily_limit", problem));
        }
        for (name, value, most) in [
            ("after_s", self.after_s, MAX_AFTER_S),
            ("fallback_after", self.fallback_after, MAX_FALLBACK_AFTER),
        ] {
            if value.flatten().is_some_and(|n| !(1..=most).contains(&n)) {
                let problem = format!("must be between 1 and {most}, or null");
                invalid.push(Invalid::new(name, problem));
            }
        }
        match self.via(before, app) {
            Ok(via) if invalid.is_empty() => Ok(via),
            Ok(_) => Err(invalid),
            Err(errors) => {
                invalid.extend(errors);
                Err(invalid)
            }
        }
    }

    /// The channel that is the fallback after this request, of `channels`.
    ///
    /// # Errors
    /// There is no such channel, several have the name, or it is the channel `own` itself.
    pub fn fallback(
        &self,
        own: ChannelId,
        before: Option<ChannelId>,
        channels: &[Channel],
    ) -> Result<Option<ChannelId>, Invalid> {
        match &self.fallback {
            None => Ok(before),
            Some(None) => Ok(None),
            Some(Some(wanted)) => match identify(wanted, channels) {
                Ok(id) if id == own => Err(Invalid::new("fallback", "must be another channel")),
                Ok(id) => Ok(Some(id)),
                Err(_) => Err(Invalid::new(
                    "fallback",
                    format!("must be the ID or unique name of a channel; {wanted:?} is none"),
                )),
            },
        }
    }

    /// The channel with the checked request applied, except for its kind, destination and fallback.
    pub fn applied_to(self, mut channel: Channel) -> Channel {
        if let Some(name) = self.name {
            channel.name = name;
        }
        channel.notify_down = self.notify_down.unwrap_or(channel.notify_down);
        channel.notify_up = self.notify_up.unwrap_or(channel.notify_up);
        channel.group_threshold = self.group_threshold.unwrap_or(channel.group_threshold);
        channel.daily_limit = self.daily_limit.unwrap_or(channel.daily_limit);
        channel.after_s = self.after_s.unwrap_or(channel.after_s);
        channel.fallback_after = self.fallback_after.unwrap_or(channel.fallback_after);
        channel
    }
}

/// Checks the templates of a webhook's bodies with sample messages.
fn check_bodies(settings: &Settings, now: UnixMs) -> Result<(), Vec<Invalid>> {
    let samples = samples(now);
    let invalid: Vec<Invalid> = ["down_body", "up_body", "reminder_body"]
        .into_iter()
        .filter_map(|name| Some((name, settings.get(name)?)))
        .filter_map(|(name, text)| template::check(name, text, true, &samples).err())
        .collect();
    if invalid.is_empty() {
        Ok(())
    } else {
        Err(invalid)
    }
}

fn new_secret(world: &dyn World) -> String {
    let (head, tail) = (world.random().to_be_bytes(), world.random().to_be_bytes());
    format!(
        "{SECRET_PREFIX}{}",
        BASE64_STANDARD.encode([head, tail].concat())
    )
}
