//! The kinds of channels, each with its settings. The API, the command, the dashboard and the
//! documentation take them from this one table.

mod check;
mod table;

pub use check::{MAX_TEMPLATE, headers, recipients};
pub use table::KINDS;

use crate::error::Invalid;
use crate::network::Networks;
use std::collections::BTreeMap;

/// The settings of a channel, by their names.
pub type Settings = BTreeMap<String, String>;

/// A kind of channel.
#[derive(Debug, PartialEq, Eq)]
pub struct Kind {
    /// Its name in the API.
    pub name: &'static str,
    /// Its name for people.
    pub title: &'static str,
    /// Where to find the settings, in one sentence.
    pub find: &'static str,
    /// Its settings; those that are required come first.
    pub settings: &'static [Setting],
    /// Whether the receiver keeps one incident for each monitor, so that alerts must not be grouped.
    pub incidents: bool,
}

/// A setting of a kind.
#[derive(Debug, PartialEq, Eq)]
pub struct Setting {
    /// Its name in the API.
    pub name: &'static str,
    /// Its name in forms.
    pub label: &'static str,
    /// An example, or what happens without it.
    pub hint: &'static str,
    /// What its value must be.
    pub must: Must,
    /// Whether it must be given.
    pub required: bool,
    /// Whether it is never shown again.
    pub secret: bool,
}

/// What a value must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Must {
    /// An http or https URL.
    Url,
    /// A Standard Webhooks secret: `whsec_` and the base64 of 24 to 64 bytes.
    SigningSecret,
    /// Printable ASCII characters without spaces, as in tokens and keys.
    Word,
    /// One of these.
    Among(&'static [&'static str]),
    /// An e-mail address.
    Email,
    /// A phone number.
    Phone,
    /// Phone numbers or group IDs, separated by commas.
    Recipients,
    /// The ARN of an SNS topic.
    TopicArn,
    /// The name or the ARN of an EventBridge bus.
    EventBus,
    /// One line of text.
    Line,
    /// A topic of ntfy: letters, digits, `_` and `-`, at most 64.
    Topic,
    /// Lines of `Name: value`.
    Headers,
    /// A template of a request's body.
    Template,
}

impl Kind {
    /// The kind with this name.
    pub fn named(name: &str) -> Option<&'static Self> {
        KINDS.iter().find(|kind| kind.name == name)
    }

    /// The names of all kinds, as a phrase.
    pub fn names() -> String {
        let names: Vec<&str> = KINDS.iter().map(|kind| kind.name).collect();
        let (last, others) = names.split_last().expect("there are kinds");
        format!("{} or {last}", others.join(", "))
    }

    /// The setting with this name.
    pub fn setting(&self, name: &str) -> Option<&'static Setting> {
        self.settings.iter().find(|setting| setting.name == name)
    }

    /// The settings after a change: those of `before`, with `given` put over them; null removes one.
    ///
    /// # Errors
    /// Every value that is unknown, missing or invalid.
    pub fn change(
        &self,
        before: &Settings,
        given: &BTreeMap<String, Option<String>>,
        networks: &Networks,
    ) -> Result<Settings, Vec<Invalid>> {
        let mut invalid = Vec::new();
        let mut after = before.clone();
        for (name, value) in given {
            let Some(setting) = self.setting(name) else {
                let names: Vec<&str> = self.settings.iter().map(|setting| setting.name).collect();
                let names = names.join(", ");
                let problem = format!(
                    "is not a setting of {}; its settings are {names}",
                    self.name
                );
                invalid.push(Invalid::new(name, problem));
                continue;
            };
            match value.as_deref().map(|value| setting.trimmed(value)) {
                None | Some("") => {
                    after.remove(name);
                }
                Some(value) => {
                    if let Err(error) = setting.must.check(setting.name, value, networks) {
                        invalid.push(error);
                    }
                    after.insert(name.clone(), value.to_owned());
                }
            }
        }
        invalid.extend(self.secrets_to_give_again(before, &after, given));
        for setting in self.settings.iter().filter(|setting| setting.required) {
            if !after.contains_key(setting.name) {
                let problem = format!("is required for kind {}: {}", self.name, self.find);
                invalid.push(Invalid::new(setting.name, problem));
            }
        }
        if invalid.is_empty() {
            Ok(after)
        } else {
            Err(invalid)
        }
    }

    /// Secrets are for one receiver: if the URL leads to another, they must be given again. Otherwise anyone
    /// who may change a channel could send them elsewhere. The secret that signs is not sent.
    fn secrets_to_give_again(
        &self,
        before: &Settings,
        after: &Settings,
        given: &BTreeMap<String, Option<String>>,
    ) -> Vec<Invalid> {
        let origin = |settings: &Settings, setting: &Setting| {
            let url = url::Url::parse(settings.get(setting.name)?).ok()?;
            Some(url.origin())
        };
        let moved = self.settings.iter().any(|setting| {
            setting.must == Must::Url
                && before.contains_key(setting.name)
                && origin(before, setting) != origin(after, setting)
        });
        let kept = self.settings.iter().filter(|setting| {
            setting.secret
                && !matches!(setting.must, Must::Url | Must::SigningSecret | Must::Topic)
                && before.contains_key(setting.name)
                && !given.contains_key(setting.name)
        });
        let again = |setting: &Setting| {
            Invalid::new(
                setting.name,
                "must be given again, because the URL leads to another server",
            )
        };
        kept.filter(|_| moved).map(again).collect()
    }
}

impl Setting {
    fn trimmed<'a>(&self, value: &'a str) -> &'a str {
        match self.must {
            Must::Template => value,
            _ => value.trim(),
        }
    }

    /// Whether a form offers several lines for it.
    pub const fn is_long(&self) -> bool {
        matches!(self.must, Must::Headers | Must::Template)
    }

    /// The choices, if there are only these.
    pub const fn choices(&self) -> &'static [&'static str] {
        match self.must {
            Must::Among(choices) => choices,
            _ => &[],
        }
    }

    /// A value as it may be shown: of a secret URL, only its host.
    pub fn shown(&self, value: &str) -> String {
        if !self.secret {
            return value.to_owned();
        }
        let url = url::Url::parse(value)
            .ok()
            .filter(|_| self.must == Must::Url);
        match url {
            Some(url) => format!("{}/…", url.origin().ascii_serialization()),
            None => "…".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(pairs: &[(&str, &str)]) -> BTreeMap<String, Option<String>> {
        let pair = |(name, value): &(&str, &str)| ((*name).to_owned(), Some((*value).to_owned()));
        pairs.iter().map(pair).collect()
    }

    fn problems(kind: &str, pairs: &[(&str, &str)]) -> Vec<String> {
        let kind = Kind::named(kind).unwrap();
        match kind.change(&Settings::new(), &given(pairs), &Networks::default()) {
            Ok(_) => Vec::new(),
            Err(all) => all.iter().map(ToString::to_string).collect(),
        }
    }

    #[test]
    fn names_are_unique_and_required_settings_come_first() {
        for (n, kind) in KINDS.iter().enumerate() {
            assert!(KINDS[..n].iter().all(|other| other.name != kind.name));
            assert!(kind.settings.is_sorted_by_key(|setting| !setting.required));
            for (n, setting) in kind.settings.iter().enumerate() {
                let before = &kind.settings[..n];
                assert!(before.iter().all(|other| other.name != setting.name));
            }
            assert!(kind.settings[0].required, "{}", kind.name);
        }
    }

    #[test]
    fn all_problems_come_at_once() {
        let all = problems("telegram", &[("token", "a b"), ("colour", "red")]);
        assert_eq!(all.len(), 3, "{all:?}");
        assert!(
            all[0].contains("its settings are token, chat, topic"),
            "{all:?}"
        );
        assert!(
            all[2].contains("chat") && all[2].contains("@BotFather"),
            "{all:?}"
        );
    }

    #[test]
    fn values_are_checked() {
        for (kind, settings, is_valid) in [
            (
                "slack",
                &[("url", "https://hooks.slack.com/services/T/B/x")][..],
                true,
            ),
            ("slack", &[("url", "http://127.0.0.1/")], false),
            ("ntfy", &[("topic", "backup_x-1")], true),
            ("ntfy", &[("topic", "https://ntfy.sh/x")], false),
            (
                "pagerduty",
                &[("routing_key", "k"), ("region", "mars")],
                false,
            ),
            (
                "signal",
                &[
                    ("server", "https://e.org"),
                    ("number", "+491701234567"),
                    ("recipients", "+491701234567, group.a+/="),
                ],
                true,
            ),
            (
                "signal",
                &[
                    ("server", "https://e.org"),
                    ("number", "+491701234567"),
                    ("recipients", "bob"),
                ],
                false,
            ),
            (
                "webhook",
                &[
                    ("url", "https://e.org"),
                    ("headers", "X-A: 1\n\nX-B: two words"),
                ],
                true,
            ),
            (
                "webhook",
                &[("url", "https://e.org"), ("headers", "Host: x")],
                false,
            ),
            (
                "webhook",
                &[("url", "https://e.org"), ("headers", "webhook-id: x")],
                false,
            ),
            (
                "webhook",
                &[("url", "https://e.org"), ("headers", "X A: 1")],
                false,
            ),
            (
                "webhook",
                &[("url", "https://e.org"), ("headers", "X-A: é")],
                false,
            ),
            (
                "webhook",
                &[("url", "https://e.org"), ("secret", "plain")],
                false,
            ),
        ] {
            assert_eq!(
                problems(kind, settings).is_empty(),
                is_valid,
                "{kind} {settings:?}"
            );
        }
    }

    #[test]
    fn null_removes_a_setting_and_secrets_are_not_shown() {
        let kind = Kind::named("ntfy").unwrap();
        let before = kind
            .change(
                &Settings::new(),
                &given(&[("topic", "t"), ("token", "tk_1")]),
                &Networks::default(),
            )
            .unwrap();
        let removed = BTreeMap::from([("token".to_owned(), None)]);
        let after = kind
            .change(&before, &removed, &Networks::default())
            .unwrap();
        assert_eq!(after.keys().collect::<Vec<_>>(), ["topic"]);
        assert_eq!(kind.setting("token").unwrap().shown("tk_1"), "…");
        let url = Kind::named("slack").unwrap().setting("url").unwrap();
        assert_eq!(
            url.shown("https://hooks.slack.com/services/T/B/x"),
            "https://hooks.slack.com/…"
        );
        assert_eq!(
            kind.setting("server").unwrap().shown("https://ntfy.sh"),
            "https://ntfy.sh"
        );
    }
}
