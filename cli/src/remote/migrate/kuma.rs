//! Imports from Uptime Kuma through its database (`kuma.db`, versions 1 and 2 on SQLite).

use super::{Found, carry_over, not_empty};
use crate::remote::{Remote, cell};
use anyhow::{Context, ensure};
use clap::Args;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, OpenFlags};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::path::PathBuf;
use thrum_schema::id::MonitorId;
use thrum_schema::monitor::slugify;

/// Shortest grace of an imported monitor, in seconds: it allows for network delay.
const MIN_GRACE_S: i64 = 20;

/// Arguments of `thrum import uptime-kuma`.
#[derive(Debug, Args)]
pub struct Kuma {
    /// Path of the database: data/kuma.db in Uptime Kuma's folder
    file: PathBuf,
    /// Only show what the import would do, and what is invalid
    #[arg(long)]
    dry_run: bool,
}

impl Kuma {
    /// Imports the push monitors and the notifications.
    ///
    /// # Errors
    /// The file can't be read, or the server refused a request.
    pub async fn import(self, remote: &Remote) -> anyhow::Result<()> {
        let found = self.read()?;
        let place = self.file.display().to_string();
        carry_over(remote, not_empty(found, &place)?, self.dry_run).await
    }

    fn read(&self) -> anyhow::Result<Found> {
        let place = self.file.display();
        ensure!(self.file.is_file(), "{place} is not a file");
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let database = Connection::open_with_flags(&self.file, flags)
            .with_context(|| format!("can't open {place}"))?;
        let read = |table: &str| {
            rows(&database, table)
                .with_context(|| format!("{place} is not a database of Uptime Kuma"))
        };
        let mut found = Found::default();
        let mut names: BTreeMap<i64, String> = BTreeMap::new();
        for row in read("notification")? {
            let config = row["config"].as_str().unwrap_or("{}");
            let config: Value = serde_json::from_str(config).unwrap_or_default();
            let name = cell(&row["name"]);
            channel(&mut found, &name, &config);
            names.insert(row["id"].as_i64().unwrap_or_default(), name);
        }
        let tags_by_id: BTreeMap<i64, String> = read("tag")?
            .iter()
            .filter_map(|row| Some((row["id"].as_i64()?, cell(&row["name"]))))
            .collect();
        let (of_tags, of_channels) = (read("monitor_tag")?, read("monitor_notification")?);
        let of = |rows: &[Value], id: &Value, field: &str| -> Vec<i64> {
            let own = rows.iter().filter(|row| row["monitor_id"] == *id);
            own.filter_map(|row| row[field].as_i64()).collect()
        };
        for row in read("monitor")? {
            let (name, kind) = (cell(&row["name"]), cell(&row["type"]));
            if kind != "push" {
                found.left.push(format!(
                    "monitor {name} ({kind}): Thrum does not poll. Let a cron job check it, as in \
                     `thrum exec PING_URL -- curl -fsS https://…`"
                ));
                continue;
            }
            let tags = of(&of_tags, &row["id"], "tag_id");
            let tags = tags.iter().filter_map(|id| tags_by_id.get(id));
            // A tag of Thrum is one word.
            let mut tags: Vec<String> = tags.map(|tag| tag.replace(' ', "-")).collect();
            tags.sort_unstable();
            tags.dedup();
            let channels = of(&of_channels, &row["id"], "notification_id");
            let channels = channels.iter().filter_map(|id| names.get(id));
            let number = |field: &str| row[field].as_i64().unwrap_or(0);
            let patience = number("maxretries") * number("retry_interval");
            let token = cell(&row["push_token"]);
            found.monitors.push(json!({
                "uuid": MonitorId::of_push_token(&token),
                "name": name,
                "slug": free_slug(&name, &found.monitors),
                "desc": cell(&row["description"]),
                "tags": tags,
                "period_s": number("interval").max(1),
                "grace_s": patience.max(MIN_GRACE_S),
                "channels": channels.collect::<Vec<_>>(),
                "paused": number("active") == 0,
            }));
        }
        Ok(found)
    }
}

/// The slug of a name, with a number if another monitor has it.
fn free_slug(name: &str, others: &[Value]) -> String {
    let slug = slugify(name);
    let is_free = |slug: &String| others.iter().all(|other| other["slug"] != **slug);
    let numbered = (2..).map(|n| format!("{slug}-{n}"));
    let mut all = std::iter::once(slug.clone()).chain(numbered);
    if slug.is_empty() {
        return slug;
    }
    all.find(is_free).unwrap_or(slug)
}

/// The rows of a table, as objects.
fn rows(database: &Connection, table: &str) -> rusqlite::Result<Vec<Value>> {
    let mut statement = database.prepare(&format!("SELECT * FROM \"{table}\""))?;
    let columns: Vec<String> = statement.column_names().map(str::to_owned).collect();
    let mut found = Vec::new();
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let mut object = Map::new();
        for (i, column) in columns.iter().enumerate() {
            let value = match row.get_ref(i)? {
                ValueRef::Integer(n) => n.into(),
                ValueRef::Real(x) => x.into(),
                ValueRef::Text(text) => String::from_utf8_lossy(text).into(),
                ValueRef::Null | ValueRef::Blob(_) => Value::Null,
            };
            object.insert(column.clone(), value);
        }
        found.push(Value::Object(object));
    }
    Ok(found)
}

/// A notification as a channel. The names of its settings are those of Uptime Kuma's forms:
/// <https://github.com/louislam/uptime-kuma/tree/master/server/notification-providers>
fn channel(found: &mut Found, name: &str, config: &Value) {
    let kind = cell(&config["type"]);
    let region = match config["opsgenieRegion"].as_str() {
        Some("eu") => json!("eu"),
        _ => Value::Null,
    };
    let settings: &[(&str, &Value)] = match kind.as_str() {
        "slack" => &[("url", &config["slackwebhookURL"])],
        "discord" => &[("url", &config["discordWebhookUrl"])],
        "teams" => &[("url", &config["webhookUrl"])],
        "mattermost" => &[
            ("url", &config["mattermostWebhookUrl"]),
            ("channel", &config["mattermostchannel"]),
        ],
        "rocket.chat" => &[
            ("url", &config["rocketwebhookURL"]),
            ("channel", &config["rocketchannel"]),
        ],
        "GoogleChat" => &[("url", &config["googleChatWebhookURL"])],
        "webhook" => &[("url", &config["webhookURL"])],
        "telegram" => &[
            ("token", &config["telegramBotToken"]),
            ("chat", &config["telegramChatID"]),
            ("topic", &config["telegramMessageThreadID"]),
        ],
        "PagerDuty" => &[("routing_key", &config["pagerdutyIntegrationKey"])],
        "Opsgenie" => &[("api_key", &config["opsgenieApiKey"]), ("region", &region)],
        "ntfy" => &[
            ("topic", &config["ntfytopic"]),
            ("server", &config["ntfyserverurl"]),
            ("token", &config["ntfyaccesstoken"]),
        ],
        "pushover" => &[
            ("user", &config["pushoveruserkey"]),
            ("token", &config["pushoverapptoken"]),
        ],
        "gotify" => &[
            ("server", &config["gotifyserverurl"]),
            ("token", &config["gotifyapplicationToken"]),
        ],
        "matrix" => &[
            ("server", &config["homeserverUrl"]),
            ("room", &config["internalRoomId"]),
            ("token", &config["accessToken"]),
        ],
        "signal" => {
            let url = cell(&config["signalURL"]);
            let server = json!(url.trim_end_matches("/v2/send"));
            let settings = [
                ("server", &server),
                ("number", &config["signalNumber"]),
                ("recipients", &config["signalRecipients"]),
            ];
            return found.channel(name, "signal", &settings);
        }
        "smtp" => &[("to", &config["smtpTo"])],
        _ => &[],
    };
    let known = match kind.as_str() {
        "rocket.chat" => "rocketchat",
        "GoogleChat" => "googlechat",
        "PagerDuty" => "pagerduty",
        "Opsgenie" => "opsgenie",
        "smtp" => "email",
        other => other,
    };
    found.channel(name, known, settings);
}
