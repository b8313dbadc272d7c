//! The kinds of channels, each with its settings. The API, the command, the dashboard and the
//! documentation take them from this one table.

use super::address::{check_email, check_phone, check_topic_arn, check_webhook_url};
use crate::error::Invalid;
use crate::network::Networks;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use std::collections::BTreeMap;

/// The settings of a channel, by their names.
pub type Settings = BTreeMap<String, String>;

/// Longest value of a setting, in bytes, unless its [`Must`] says otherwise.
const MAX_VALUE: usize = 2_000;
/// Longest template of a body, in bytes.
pub const MAX_TEMPLATE: usize = 16_000;
/// Longest name of a header, in bytes.
const MAX_HEADER: usize = 100;
/// Most headers of a webhook.
const MAX_HEADERS: usize = 20;
/// Headers that Thrum or HTTP sets.
const OWN_HEADERS: [&str; 8] = [
    "connection",
    "content-length",
    "host",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "user-agent",
];

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
    /// One line of text.
    Line,
    /// A topic of ntfy: letters, digits, `_` and `-`, at most 64.
    Topic,
    /// Lines of `Name: value`.
    Headers,
    /// A template of a request's body.
    Template,
}

const fn required(
    name: &'static str,
    label: &'static str,
    hint: &'static str,
    must: Must,
) -> Setting {
    Setting {
        name,
        label,
        hint,
        must,
        required: true,
        secret: false,
    }
}

const fn optional(
    name: &'static str,
    label: &'static str,
    hint: &'static str,
    must: Must,
) -> Setting {
    Setting {
        required: false,
        ..required(name, label, hint, must)
    }
}

const fn secret(setting: Setting) -> Setting {
    Setting {
        secret: true,
        ..setting
    }
}

const fn kind(
    name: &'static str,
    title: &'static str,
    find: &'static str,
    settings: &'static [Setting],
) -> Kind {
    Kind {
        name,
        title,
        find,
        settings,
        incidents: false,
    }
}

const fn incidents(kind: Kind) -> Kind {
    Kind {
        incidents: true,
        ..kind
    }
}

/// Where a vendor keeps the account.
const REGION: Setting = optional("region", "Region", "us", Must::Among(&["us", "eu"]));
const PRIORITY: Must = Must::Among(&["P1", "P2", "P3", "P4", "P5"]);
const SERVER: &str = "URL of the server";

/// All kinds, in the order in which forms offer them.
pub const KINDS: &[Kind] = &[
    kind(
        "email",
        "E-mail",
        "The recipient may have to confirm the address before Thrum sends alerts to it.",
        &[required("to", "Address", "ops@example.org", Must::Email)],
    ),
    kind(
        "webhook",
        "Webhook",
        "Any URL that accepts a request. Thrum signs messages as Standard Webhooks specifies. Templates can replace the JSON.",
        &[
            required("url", "URL", "https://example.org/hook", Must::Url),
            secret(optional(
                "secret",
                "Signing secret",
                "generated if empty",
                Must::SigningSecret,
            )),
            optional(
                "method",
                "Method",
                "POST",
                Must::Among(&["POST", "PUT", "PATCH", "GET"]),
            ),
            secret(optional(
                "headers",
                "Headers, one per line",
                "Authorization: Bearer …",
                Must::Headers,
            )),
            optional(
                "down_body",
                "Body when something is down",
                "Thrum's JSON",
                Must::Template,
            ),
            optional(
                "up_body",
                "Body when it is up again",
                "Thrum's JSON",
                Must::Template,
            ),
            optional(
                "reminder_body",
                "Body of reminders",
                "the body when something is down",
                Must::Template,
            ),
        ],
    ),
    kind(
        "slack",
        "Slack",
        "In Slack: api.slack.com/apps, your app, Incoming Webhooks, Add New Webhook to Workspace.",
        &[secret(required(
            "url",
            "Webhook URL",
            "https://hooks.slack.com/services/…",
            Must::Url,
        ))],
    ),
    kind(
        "discord",
        "Discord",
        "In Discord: the channel's settings, Integrations, Webhooks, New Webhook, Copy Webhook URL.",
        &[secret(required(
            "url",
            "Webhook URL",
            "https://discord.com/api/webhooks/…",
            Must::Url,
        ))],
    ),
    kind(
        "telegram",
        "Telegram",
        "Create a bot with @BotFather, add it to the chat, and read the chat's ID from getUpdates.",
        &[
            secret(required(
                "token",
                "Bot token",
                "123456:ABC-DEF…",
                Must::Word,
            )),
            required("chat", "Chat", "-1001234567890 or @channel", Must::Word),
            optional("topic", "Topic ID", "message_thread_id", Must::Word),
        ],
    ),
    kind(
        "teams",
        "Microsoft Teams",
        "In Teams: the channel's menu, Workflows, “Send webhook alerts to a channel”, copy the URL.",
        &[secret(required(
            "url",
            "Workflow URL",
            "https://….logic.azure.com/workflows/…",
            Must::Url,
        ))],
    ),
    incidents(kind(
        "pagerduty",
        "PagerDuty",
        "In PagerDuty: the service, Integrations, Add an integration, Events API V2, Integration Key.",
        &[
            secret(required(
                "routing_key",
                "Integration key",
                "32 characters",
                Must::Word,
            )),
            REGION,
            optional(
                "severity",
                "Severity",
                "critical",
                Must::Among(&["critical", "error", "warning", "info"]),
            ),
        ],
    )),
    incidents(kind(
        "opsgenie",
        "Opsgenie",
        "In Opsgenie: the team, Integrations, Add integration, API, copy the API key.",
        &[
            secret(required("api_key", "API key", "", Must::Word)),
            REGION,
            optional("priority", "Priority", "P2", PRIORITY),
        ],
    )),
    incidents(kind(
        "jira-ops",
        "Jira Service Management",
        "In Jira: the team's Operations, Integrations, Add integration, API, copy the API key.",
        &[
            secret(required("api_key", "API key", "", Must::Word)),
            optional("priority", "Priority", "P2", PRIORITY),
        ],
    )),
    kind(
        "ntfy",
        "ntfy",
        "Choose a topic that nobody can guess, and subscribe to it in the app.",
        &[
            secret(required(
                "topic",
                "Topic",
                "a name that is hard to guess",
                Must::Topic,
            )),
            optional("server", SERVER, "https://ntfy.sh", Must::Url),
            secret(optional("token", "Access token", "tk_…", Must::Word)),
        ],
    ),
    kind(
        "pushover",
        "Pushover",
        "At pushover.net: your user key is on the first page. Create an application to get a token.",
        &[
            secret(required("user", "User or group key", "", Must::Word)),
            secret(required("token", "Application token", "", Must::Word)),
            optional(
                "priority",
                "Priority when something is down",
                "1; 2 repeats for an hour, until someone acknowledges it",
                Must::Among(&["-2", "-1", "0", "1", "2"]),
            ),
        ],
    ),
    kind(
        "gotify",
        "Gotify",
        "In Gotify: Apps, Create Application, copy its token.",
        &[
            required("server", SERVER, "https://gotify.example.org", Must::Url),
            secret(required("token", "Application token", "", Must::Word)),
        ],
    ),
    kind(
        "matrix",
        "Matrix",
        "Create an account for Thrum, invite it to the room, and copy its access token and the room's internal ID.",
        &[
            required(
                "server",
                "URL of the homeserver",
                "https://matrix.org",
                Must::Url,
            ),
            required("room", "Internal room ID", "!abc:matrix.org", Must::Word),
            secret(required("token", "Access token", "", Must::Word)),
        ],
    ),
    kind(
        "mattermost",
        "Mattermost",
        "In Mattermost: Integrations, Incoming Webhooks, Add Incoming Webhook, copy the URL.",
        &[
            secret(required(
                "url",
                "Webhook URL",
                "https://mattermost.example.org/hooks/…",
                Must::Url,
            )),
            optional(
                "channel",
                "Channel",
                "the webhook's own channel",
                Must::Line,
            ),
        ],
    ),
    kind(
        "rocketchat",
        "Rocket.Chat",
        "In Rocket.Chat: Manage, Workspace, Integrations, New, Incoming, copy the webhook URL.",
        &[
            secret(required(
                "url",
                "Webhook URL",
                "https://chat.example.org/hooks/…",
                Must::Url,
            )),
            optional(
                "channel",
                "Channel",
                "the webhook's own channel",
                Must::Line,
            ),
        ],
    ),
    kind(
        "googlechat",
        "Google Chat",
        "In Google Chat: the space's menu, Apps & integrations, Webhooks, Add webhook, copy the link.",
        &[secret(required(
            "url",
            "Webhook URL",
            "https://chat.googleapis.com/v1/spaces/…",
            Must::Url,
        ))],
    ),
    kind(
        "signal",
        "Signal",
        "Run signal-cli-rest-api, and register or link a number with it.",
        &[
            required(
                "server",
                SERVER,
                "http://signal.example.org:8080",
                Must::Url,
            ),
            required(
                "number",
                "Number to send from",
                "+491701234567",
                Must::Phone,
            ),
            required(
                "recipients",
                "Numbers or groups to send to",
                "+491701234567, group.abc=",
                Must::Recipients,
            ),
        ],
    ),
    kind(
        "apprise",
        "Apprise",
        "Run the Apprise API, and store the services' URLs under a key. The notify URL ends with that key.",
        &[
            secret(required(
                "url",
                "Notify URL",
                "https://apprise.example.org/notify/KEY",
                Must::Url,
            )),
            optional("tag", "Tag", "all URLs of the key", Must::Line),
        ],
    ),
    incidents(kind(
        "alertmanager",
        "Alertmanager",
        "The URL at which Prometheus reaches Alertmanager.",
        &[
            required(
                "server",
                SERVER,
                "http://alertmanager.example.org:9093",
                Must::Url,
            ),
            secret(optional("token", "Bearer token", "", Must::Word)),
        ],
    )),
    kind(
        "sms",
        "Text message",
        "Sent through Amazon SNS.",
        &[required("to", "Phone number", "+491701234567", Must::Phone)],
    ),
    kind(
        "sns",
        "SNS topic",
        "In AWS: Amazon SNS, Topics, copy the ARN.",
        &[required(
            "topic_arn",
            "ARN of the topic",
            "arn:aws:sns:eu-central-1:123456789012:alerts",
            Must::TopicArn,
        )],
    ),
];

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
                let problem = format!(
                    "is not a setting of {}; its settings are {}",
                    self.name,
                    names.join(", ")
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
}

impl Kind {
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

impl Must {
    /// Checks a value.
    fn check(self, name: &str, value: &str, networks: &Networks) -> Result<(), Invalid> {
        let longest = match self {
            Self::Template => MAX_TEMPLATE,
            _ => MAX_VALUE,
        };
        let invalid = |problem: String| Err(Invalid::new(name, problem));
        if value.len() > longest {
            return invalid(format!(
                "must be at most {longest} bytes (got {})",
                value.len()
            ));
        }
        match self {
            Self::Url => check_webhook_url(name, value, networks),
            Self::Email => check_email(name, value),
            Self::Phone => check_phone(name, value),
            Self::TopicArn => check_topic_arn(name, value),
            Self::SigningSecret => check_signing_secret(name, value),
            Self::Headers => check_headers(name, value),
            Self::Template => Ok(()),
            Self::Word if value.bytes().all(|byte| byte.is_ascii_graphic()) => Ok(()),
            Self::Word => invalid("must be printable ASCII characters without spaces".to_owned()),
            Self::Line if !value.chars().any(char::is_control) => Ok(()),
            Self::Line => invalid("must be one line of text".to_owned()),
            Self::Among(choices) if choices.contains(&value) => Ok(()),
            Self::Among(choices) => invalid(format!("must be one of {}", choices.join(", "))),
            Self::Topic if is_topic(value) => Ok(()),
            Self::Topic => {
                invalid("must be 1 to 64 letters, digits, _ and - (not a URL)".to_owned())
            }
            Self::Recipients if recipients(value).all(is_recipient) => Ok(()),
            Self::Recipients => invalid(
                "must be phone numbers in E.164 format or IDs of groups (group.…), separated by commas"
                    .to_owned(),
            ),
        }
    }
}

/// The recipients in a list that is separated by commas.
pub fn recipients(list: &str) -> impl Iterator<Item = &str> {
    list.split(',').map(str::trim)
}

fn is_recipient(text: &str) -> bool {
    check_phone("", text).is_ok()
        || text.strip_prefix("group.").is_some_and(|id| {
            !id.is_empty()
                && id
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || b"+/=-_".contains(&byte))
        })
}

fn is_topic(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte))
}

/// Checks a secret in the format of Standard Webhooks.
fn check_signing_secret(name: &str, secret: &str) -> Result<(), Invalid> {
    let bytes = secret
        .strip_prefix("whsec_")
        .and_then(|text| BASE64_STANDARD.decode(text).ok());
    match bytes {
        Some(bytes) if (24..=64).contains(&bytes.len()) => Ok(()),
        _ => Err(Invalid::new(
            name,
            "must be whsec_ followed by the base64 of 24 to 64 bytes; omit it to generate one",
        )),
    }
}

/// The headers in lines of `Name: value`; blank lines are skipped. A line without a colon has no value.
pub fn headers(lines: &str) -> impl Iterator<Item = (&str, &str)> {
    lines
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .map(|line| {
            let (name, value) = line.split_once(':').unwrap_or((line, ""));
            (name.trim(), value.trim())
        })
}

fn check_headers(setting: &str, lines: &str) -> Result<(), Invalid> {
    let invalid = |problem: String| Err(Invalid::new(setting, problem));
    if headers(lines).count() > MAX_HEADERS {
        return invalid(format!("must have at most {MAX_HEADERS} headers"));
    }
    for (n, (name, value)) in headers(lines).enumerate() {
        let n = n + 1;
        let is_token = (1..=MAX_HEADER).contains(&name.len())
            && name
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte));
        if !is_token {
            return invalid(format!(
                "has an invalid name in header {n}: write `Name: value`, such as Authorization: Bearer 1234"
            ));
        }
        let lower = name.to_ascii_lowercase();
        if OWN_HEADERS.contains(&&*lower) || lower.starts_with("webhook-") {
            return invalid(format!("must not set {name}, which Thrum sets"));
        }
        let is_text = !value.is_empty()
            && value
                .bytes()
                .all(|byte| byte.is_ascii_graphic() || matches!(byte, b' ' | b'\t'));
        if !is_text {
            return invalid(format!(
                "has no valid value for {name} in header {n}: write `Name: value` with printable ASCII characters"
            ));
        }
    }
    Ok(())
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
