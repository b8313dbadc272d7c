//! The rules of each service.

use super::answering;
use super::markup::{html, mrkdwn};
use chrono::DateTime;
use serde_json::{Value, json};
use thrum_notify::send::{Answer, Call};

type Checked = Result<(), String>;

/// Settings with which each service accepts messages.
pub const SETTINGS: [(&str, &[(&str, &str)]); 17] = [
    (
        "slack",
        &[("url", "https://hooks.slack.com/services/T0/B0/x")],
    ),
    (
        "discord",
        &[("url", "https://discord.com/api/webhooks/1/x")],
    ),
    (
        "telegram",
        &[
            ("token", "123456:ABC-DEF"),
            ("chat", "-1001"),
            ("topic", "7"),
        ],
    ),
    (
        "teams",
        &[("url", "https://prod.logic.azure.com/workflows/1?sig=x")],
    ),
    (
        "pagerduty",
        &[
            ("routing_key", "0123456789abcdef0123456789abcdef"),
            ("region", "eu"),
        ],
    ),
    (
        "opsgenie",
        &[
            ("api_key", "01234567-89ab-cdef-0123-456789abcdef"),
            ("region", "eu"),
        ],
    ),
    (
        "jira-ops",
        &[("api_key", "01234567-89ab-cdef-0123-456789abcdef")],
    ),
    ("ntfy", &[("topic", "backup_1"), ("token", "tk_1")]),
    (
        "pushover",
        &[
            ("user", "uQiRzpo4DXghDmr9QzzfQu27cmVRsG"),
            ("token", "azGDORePK8gMaC0QOYAMyEEuzJnyUi"),
            ("priority", "2"),
        ],
    ),
    (
        "gotify",
        &[("server", "https://gotify.example.org/"), ("token", "AxYz")],
    ),
    (
        "matrix",
        &[
            ("server", "https://matrix.example.org"),
            ("room", "!abc:example.org"),
            ("token", "syt_1"),
        ],
    ),
    (
        "mattermost",
        &[
            ("url", "https://mm.example.org/hooks/abc"),
            ("channel", "ops"),
        ],
    ),
    ("rocketchat", &[("url", "https://rc.example.org/hooks/a/b")]),
    (
        "googlechat",
        &[(
            "url",
            "https://chat.googleapis.com/v1/spaces/A/messages?key=k&token=t",
        )],
    ),
    (
        "signal",
        &[
            ("server", "http://signal.example.org:8080"),
            ("number", "+491701234567"),
            ("recipients", "+491701234568, group.abc="),
        ],
    ),
    (
        "apprise",
        &[
            ("url", "https://apprise.example.org/notify/key"),
            ("tag", "ops"),
        ],
    ),
    ("alertmanager", &[("server", "http://am.example.org:9093")]),
];

/// The answer of the service that channels of `kind` send to.
pub fn answer(kind: &str, call: &Call) -> Answer {
    let body: Value = match serde_json::from_str(&call.body) {
        Ok(body) => body,
        Err(error) => return answering(400, &json!({ "message": error.to_string() }).to_string()),
    };
    let is_json = call
        .header("content-type")
        .is_some_and(|kind| kind.starts_with("application/json"));
    if !is_json {
        return answering(415, "{}");
    }
    let (checked, status, reply) = match kind {
        "slack" => (slack(call, &body), 200, "ok"),
        "discord" => (discord(call, &body), 204, ""),
        "telegram" => (telegram(call, &body), 200, r#"{"ok": true}"#),
        "teams" => (teams(call, &body), 202, ""),
        "pagerduty" => (pagerduty(call, &body), 202, r#"{"status": "success"}"#),
        "opsgenie" => (
            opsgenie(call, &body, "https://api.eu.opsgenie.com"),
            202,
            "{}",
        ),
        "jira-ops" => {
            let server = "https://api.atlassian.com/jsm/ops/integration";
            (opsgenie(call, &body, server), 202, "{}")
        }
        "ntfy" => (ntfy(call, &body), 200, "{}"),
        "pushover" => (pushover(call, &body), 200, r#"{"status": 1}"#),
        "gotify" => (gotify(call, &body), 200, "{}"),
        "matrix" => (matrix(call, &body), 200, r#"{"event_id": "$1"}"#),
        "mattermost" => (mattermost(call, &body), 200, "ok"),
        "rocketchat" => (rocketchat(call, &body), 200, r#"{"success": true}"#),
        "googlechat" => (googlechat(call, &body), 200, "{}"),
        "signal" => (signal(call, &body), 201, r#"{"timestamp": "1"}"#),
        "apprise" => (apprise(call, &body), 200, "{}"),
        "alertmanager" => (alertmanager(call, &body), 200, ""),
        _ => (Err(format!("no service {kind}")), 200, ""),
    };
    match checked {
        Ok(()) => answering(status, reply),
        Err(problem) => answering(400, &json!({ "message": problem }).to_string()),
    }
}

/// Refuses unless `holds`.
fn require(holds: bool, problem: &str) -> Checked {
    if holds {
        Ok(())
    } else {
        Err(problem.to_owned())
    }
}

fn posts_to(call: &Call, url: &str) -> Checked {
    require(
        call.method == "POST" && call.url == url,
        &format!("{} {}", call.method, call.url),
    )
}

/// A text of 1 to `most` characters.
fn text(value: &Value, most: usize, what: &str) -> Result<String, String> {
    let text = value.as_str().ok_or(format!("{what} must be text"))?;
    let n = text.chars().count();
    require(
        (1..=most).contains(&n),
        &format!("{what} has {n} characters, not 1 to {most}"),
    )?;
    Ok(text.to_owned())
}

fn time(value: &Value) -> Checked {
    let text = value.as_str().unwrap_or_default();
    DateTime::parse_from_rfc3339(text)
        .map(drop)
        .map_err(|error| format!("{value}: {error}"))
}

fn bearer(call: &Call, token: &str) -> Checked {
    let expected = format!("Bearer {token}");
    require(
        call.header("authorization") == Some(&expected),
        "M_MISSING_TOKEN",
    )
}

fn slack(call: &Call, body: &Value) -> Checked {
    posts_to(call, "https://hooks.slack.com/services/T0/B0/x")?;
    mrkdwn(&text(&body["text"], 40_000, "text")?)?;
    let attachment = &body["attachments"][0];
    let colour = attachment["color"].as_str().unwrap_or_default();
    require(colour.len() == 7 && colour.starts_with('#'), "color")?;
    for block in attachment["blocks"].as_array().ok_or("blocks")? {
        let inner = &block["text"];
        match (block["type"].as_str(), inner["type"].as_str()) {
            (Some("header"), Some("plain_text")) => drop(text(&inner["text"], 150, "header")?),
            (Some("section"), Some("mrkdwn")) => mrkdwn(&text(&inner["text"], 3_000, "section")?)?,
            other => return Err(format!("invalid_blocks: {other:?}")),
        }
    }
    Ok(())
}

fn discord(call: &Call, body: &Value) -> Checked {
    posts_to(call, "https://discord.com/api/webhooks/1/x")?;
    let embed = &body["embeds"][0];
    let title = text(&embed["title"], 256, "title")?;
    let description = text(&embed["description"], 4_096, "description")?;
    require(
        title.chars().count() + description.chars().count() <= 6_000,
        "embed too large",
    )?;
    require(
        embed["color"]
            .as_u64()
            .is_some_and(|colour| colour <= 0x00FF_FFFF),
        "color",
    )?;
    time(&embed["timestamp"])?;
    require(
        body["allowed_mentions"]["parse"] == json!([]),
        "mentions are allowed",
    )
}

fn telegram(call: &Call, body: &Value) -> Checked {
    posts_to(
        call,
        "https://api.telegram.org/bot123456:ABC-DEF/sendMessage",
    )?;
    require(
        body["chat_id"] == "-1001" && body["message_thread_id"] == 7,
        "chat not found",
    )?;
    require(body["parse_mode"] == "HTML", "parse_mode")?;
    let raw = body["text"].as_str().ok_or("text")?;
    let parsed = html(raw, &["b", "i", "a", "pre", "code"])?;
    require(
        (1..=4_096).contains(&parsed.chars().count()),
        "message is too long",
    )
}

fn teams(call: &Call, body: &Value) -> Checked {
    posts_to(call, "https://prod.logic.azure.com/workflows/1?sig=x")?;
    require(call.body.len() <= 28_000, "message is larger than 28 KB")?;
    require(body["type"] == "message", "type")?;
    let attachment = &body["attachments"][0];
    require(
        attachment["contentType"] == "application/vnd.microsoft.card.adaptive",
        "contentType",
    )?;
    let card = &attachment["content"];
    require(
        card["type"] == "AdaptiveCard" && card["version"] == "1.4",
        "card",
    )?;
    for part in card["body"].as_array().ok_or("body")? {
        match part["type"].as_str() {
            Some("TextBlock") => require(part["text"].is_string(), "text")?,
            Some("RichTextBlock") => require(part["inlines"][0]["text"].is_string(), "inlines")?,
            Some("FactSet") => require(part["facts"][0]["title"].is_string(), "facts")?,
            other => return Err(format!("unknown element {other:?}")),
        }
    }
    Ok(())
}

fn pagerduty(call: &Call, body: &Value) -> Checked {
    posts_to(call, "https://events.eu.pagerduty.com/v2/enqueue")?;
    require(call.body.len() <= 512_000, "event object is too large")?;
    let key = text(&body["routing_key"], 32, "routing_key")?;
    require(key.len() == 32, "routing_key must be 32 characters")?;
    text(&body["dedup_key"], 255, "dedup_key")?;
    match body["event_action"].as_str() {
        Some("resolve") => Ok(()),
        Some("trigger") => {
            let payload = &body["payload"];
            text(&payload["summary"], 1_024, "summary")?;
            text(&payload["source"], 255, "source")?;
            time(&payload["timestamp"])?;
            let severities = ["critical", "error", "warning", "info"];
            let severity = payload["severity"].as_str().unwrap_or_default();
            require(severities.contains(&severity), "severity")
        }
        other => Err(format!("event_action {other:?}")),
    }
}

fn opsgenie(call: &Call, body: &Value, server: &str) -> Checked {
    let key = "GenieKey 01234567-89ab-cdef-0123-456789abcdef";
    require(
        call.header("authorization") == Some(key),
        "Key format is not valid!",
    )?;
    require(call.method == "POST", call.method)?;
    let path = call.url.strip_prefix(server).ok_or(call.url.clone())?;
    if let Some(rest) = path.strip_prefix("/v2/alerts/") {
        let alias = rest
            .strip_suffix("/close?identifierType=alias")
            .ok_or(path)?;
        require(
            (1..=512).contains(&alias.len()) && !alias.contains('/'),
            "alias",
        )?;
        return text(&body["note"], 25_000, "note").map(drop);
    }
    require(path == "/v2/alerts", path)?;
    text(&body["message"], 130, "message")?;
    text(&body["alias"], 512, "alias")?;
    text(&body["description"], 15_000, "description")?;
    let tags = body["tags"].as_array().ok_or("tags")?;
    require(tags.len() <= 20, "too many tags")?;
    for tag in tags {
        text(tag, 50, "tag")?;
    }
    let priorities = ["P1", "P2", "P3", "P4", "P5"];
    require(
        priorities.contains(&body["priority"].as_str().unwrap_or_default()),
        "priority",
    )?;
    let details = body["details"].as_object().ok_or("details")?;
    let sizes = details.iter().map(|(name, value)| {
        let value = value.as_str().unwrap_or_default();
        name.chars().count() + value.chars().count()
    });
    require(sizes.sum::<usize>() <= 8_000, "details are too long")
}

fn ntfy(call: &Call, body: &Value) -> Checked {
    posts_to(call, "https://ntfy.sh")?;
    bearer(call, "tk_1")?;
    require(body["topic"] == "backup_1", "topic")?;
    let message = text(&body["message"], 4_096, "message")?;
    require(message.len() <= 4_096, "the message becomes an attachment")?;
    text(&body["title"], 1_000, "title")?;
    require(
        body["priority"]
            .as_u64()
            .is_some_and(|n| (1..=5).contains(&n)),
        "priority",
    )?;
    let click = &body["click"];
    require(
        click.is_null()
            || click
                .as_str()
                .is_some_and(|url| url.starts_with("https://")),
        "click",
    )
}

fn pushover(call: &Call, body: &Value) -> Checked {
    posts_to(call, "https://api.pushover.net/1/messages.json")?;
    for key in ["token", "user"] {
        let key = text(&body[key], 30, key)?;
        require(
            key.len() == 30 && key.bytes().all(|b| b.is_ascii_alphanumeric()),
            "key is invalid",
        )?;
    }
    text(&body["message"], 1_024, "message")?;
    text(&body["title"], 250, "title")?;
    if !body["url"].is_null() {
        text(&body["url"], 512, "url")?;
        text(&body["url_title"], 100, "url_title")?;
    }
    match body["priority"].as_i64() {
        Some(2) => require(
            body["retry"].as_u64().is_some_and(|n| n >= 30)
                && body["expire"].as_u64().is_some_and(|n| n <= 10_800),
            "an emergency needs retry and expire",
        ),
        Some(-2..=1) => Ok(()),
        other => Err(format!("priority {other:?}")),
    }
}

fn gotify(call: &Call, body: &Value) -> Checked {
    posts_to(call, "https://gotify.example.org/message")?;
    require(
        call.header("x-gotify-key") == Some("AxYz"),
        "you need to provide a valid token",
    )?;
    text(&body["message"], 100_000, "message")?;
    text(&body["title"], 1_000, "title")?;
    require(
        body["priority"].as_u64().is_some_and(|n| n <= 10),
        "priority",
    )
}

fn matrix(call: &Call, body: &Value) -> Checked {
    bearer(call, "syt_1")?;
    let start = "https://matrix.example.org/_matrix/client/v3/rooms/%21abc%3Aexample.org/send/m.room.message/";
    let id = call.url.strip_prefix(start).ok_or(call.url.clone())?;
    require(
        call.method == "PUT" && !id.is_empty() && !id.contains('/'),
        "no transaction ID",
    )?;
    // The event has more around its content.
    require(call.body.len() <= 60_000, "M_TOO_LARGE")?;
    require(
        body["msgtype"] == "m.text" && body["format"] == "org.matrix.custom.html",
        "msgtype",
    )?;
    text(&body["body"], 60_000, "body")?;
    let formatted = body["formatted_body"].as_str().ok_or("formatted_body")?;
    html(formatted, &["b", "a", "pre", "br"]).map(drop)
}

fn mattermost(call: &Call, body: &Value) -> Checked {
    posts_to(call, "https://mm.example.org/hooks/abc")?;
    require(
        call.body.chars().count() <= 16_383 * 2,
        "the post is too long",
    )?;
    require(body["channel"] == "ops", "channel")?;
    let attachment = &body["attachments"][0];
    text(&attachment["fallback"], 1_000, "fallback")?;
    text(&attachment["title"], 1_000, "title")?;
    text(&attachment["text"], 16_383, "text").map(drop)
}

fn rocketchat(call: &Call, body: &Value) -> Checked {
    posts_to(call, "https://rc.example.org/hooks/a/b")?;
    let attachment = &body["attachments"][0];
    time(&attachment["ts"])?;
    text(&attachment["text"], 5_000, "text").map(drop)
}

fn googlechat(call: &Call, body: &Value) -> Checked {
    let url = "https://chat.googleapis.com/v1/spaces/A/messages?key=k&token=t\
               &messageReplyOption=REPLY_MESSAGE_FALLBACK_TO_NEW_THREAD";
    posts_to(call, url)?;
    require(
        call.body.len() <= 32_000,
        "the message is larger than 32 KB",
    )?;
    mrkdwn(&text(&body["text"], 4_096, "text")?)?;
    text(&body["thread"]["threadKey"], 4_000, "threadKey").map(drop)
}

fn signal(call: &Call, body: &Value) -> Checked {
    posts_to(call, "http://signal.example.org:8080/v2/send")?;
    require(body["number"] == "+491701234567", "number")?;
    require(
        body["recipients"] == json!(["+491701234568", "group.abc="]),
        "recipients",
    )?;
    text(&body["message"], 2_000, "message").map(drop)
}

fn apprise(call: &Call, body: &Value) -> Checked {
    posts_to(call, "https://apprise.example.org/notify/key")?;
    text(&body["body"], 32_768, "body")?;
    let kinds = ["info", "success", "warning", "failure"];
    require(
        kinds.contains(&body["type"].as_str().unwrap_or_default()),
        "type",
    )?;
    require(body["format"] == "text" && body["tag"] == "ops", "format")
}

fn alertmanager(call: &Call, body: &Value) -> Checked {
    posts_to(call, "http://am.example.org:9093/api/v2/alerts")?;
    let alerts = body.as_array().ok_or("not a list")?;
    for alert in alerts {
        let labels = alert["labels"].as_object().ok_or("labels")?;
        require(
            !labels.is_empty() && labels.contains_key("alertname"),
            "labels",
        )?;
        let is_text = |(name, value): (&String, &Value)| {
            let mut bytes = name.bytes();
            bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') && value.is_string()
        };
        require(labels.iter().all(is_text), "labels")?;
        time(&alert["startsAt"])?;
        time(&alert["endsAt"])?;
        let at = |name: &str| alert[name].as_str().unwrap_or_default().to_owned();
        require(
            at("startsAt") <= at("endsAt"),
            "start time must be before end time",
        )?;
    }
    Ok(())
}
