//! The table of all kinds.

use super::{Kind, Must, Setting};

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
    kind(
        "eventbridge",
        "EventBridge",
        "In AWS: Amazon EventBridge, Event buses, the bus, copy the ARN.",
        &[required(
            "bus",
            "ARN or name of the event bus",
            "arn:aws:events:eu-central-1:123456789012:event-bus/alerts",
            Must::EventBus,
        )],
    ),
];
