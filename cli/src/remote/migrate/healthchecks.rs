//! Imports from Healthchecks through its management API, versions 1 to 3.

use super::{Found, carry_over, not_empty, words};
use crate::remote::{Remote, cell};
use anyhow::{Context, bail, ensure};
use clap::Args;
use reqwest::{Client, StatusCode};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Duration;

const TIMEOUT: Duration = Duration::from_secs(60);

/// Arguments of `thrum import healthchecks`.
#[derive(Debug, Args)]
pub struct Healthchecks {
    /// URL of the server, such as <https://healthchecks.io>
    #[arg(value_name = "URL")]
    from: String,
    /// Read-write API key of the project there
    #[arg(
        value_name = "KEY",
        env = "HEALTHCHECKS_API_KEY",
        hide_env_values = true
    )]
    from_key: SecretString,
    /// Only show what the import would do, and what is invalid
    #[arg(long)]
    dry_run: bool,
}

impl Healthchecks {
    /// Imports the checks of a project.
    ///
    /// # Errors
    /// A server refused a request or can't be reached, or a check is not valid here.
    pub async fn import(self, remote: &Remote) -> anyhow::Result<()> {
        let found = not_empty(self.read().await?, &self.from)?;
        carry_over(remote, found, self.dry_run).await
    }

    async fn read(&self) -> anyhow::Result<Found> {
        ensure!(
            self.from.starts_with("https://") || self.from.starts_with("http://"),
            "the URL must start with https:// or http://"
        );
        thrum_store::tls::install();
        let client = Client::builder().timeout(TIMEOUT).build()?;
        for version in ["v3", "v2", "v1"] {
            let Some(checks) = self.get(&client, version, "checks").await? else {
                continue;
            };
            let channels = self.get(&client, version, "channels").await?;
            return found(&checks, &channels.unwrap_or_default());
        }
        bail!(
            "found no Healthchecks management API at {}; check the URL",
            self.from
        )
    }

    /// A list of the API; `None` if it is not there.
    async fn get(
        &self,
        client: &Client,
        version: &str,
        list: &str,
    ) -> anyhow::Result<Option<Value>> {
        let url = format!("{}/api/{version}/{list}/", self.from.trim_end_matches('/'));
        let request = client
            .get(&url)
            .header("x-api-key", self.from_key.expose_secret());
        let reply = request
            .send()
            .await
            .with_context(|| format!("can't reach {url}"))?;
        match reply.status() {
            StatusCode::NOT_FOUND => return Ok(None),
            StatusCode::UNAUTHORIZED => {
                bail!("{url} does not accept the key; it must be a read-write key of the project")
            }
            status if !status.is_success() => bail!("{url} answered {status}"),
            _ => {}
        }
        let body = reply.json().await;
        let body: Value = body.with_context(|| format!("{url} did not answer with JSON"))?;
        Ok(Some(body))
    }
}

fn found(checks: &Value, channels: &Value) -> anyhow::Result<Found> {
    let checks = checks["checks"].as_array();
    let checks = checks.context("the answer has no list of checks")?;
    let mut found = Found::default();
    let mut names: BTreeMap<String, (String, String)> = BTreeMap::new();
    for channel in channels["channels"].as_array().into_iter().flatten() {
        let (id, kind) = (cell(&channel["id"]), cell(&channel["kind"]));
        let name = cell(&channel["name"]);
        let name = if name.is_empty() { kind.clone() } else { name };
        names.insert(id, (name, kind));
    }
    let mut used: BTreeMap<String, usize> = BTreeMap::new();
    for check in checks {
        let document = document(check, &names)?;
        for name in document["channels"].as_array().into_iter().flatten() {
            *used.entry(cell(name)).or_default() += 1;
        }
        found.monitors.push(document);
    }
    for (name, kind) in names.values() {
        let n = used.get(name).copied().unwrap_or(0);
        let left = format!(
            "channel {name} ({kind}), checks that use it: {n}. Healthchecks does not reveal its settings. \
             Add a channel with this name, then import again to assign it"
        );
        found.unknown.push((name.clone(), left));
    }
    Ok(found)
}

/// A check as a monitor in an exported file.
fn document(check: &Value, names: &BTreeMap<String, (String, String)>) -> anyhow::Result<Value> {
    let url = cell(&check["ping_url"]);
    let uuid = match check["uuid"].as_str() {
        Some(uuid) => uuid.to_owned(),
        None => url.rsplit('/').next().unwrap_or_default().to_owned(),
    };
    ensure!(
        !uuid.is_empty(),
        "the key is read-only: give a read-write key, which shows the ping URLs"
    );
    let mut document = json!({
        "uuid": uuid,
        "name": check["name"],
        "tags": words(&check["tags"]),
        "desc": cell(&check["desc"]),
        "grace_s": check["grace"],
        "manual_resume": check["manual_resume"] == true,
        "methods": cell(&check["methods"]),
        "paused": check["status"] == "paused",
    });
    if let Some(slug) = check["slug"].as_str() {
        document["slug"] = slug.into();
    }
    match check["schedule"].as_str() {
        Some(schedule) => {
            document["schedule"] = schedule.into();
            document["tz"] = check["tz"].clone();
        }
        None => document["period_s"] = check["timeout"].clone(),
    }
    let channels = cell(&check["channels"]);
    let channels = channels.split(',').filter_map(|id| names.get(id.trim()));
    document["channels"] = channels.map(|(name, _)| name.clone()).collect();
    if let Some(keywords) = keywords(check) {
        document["keywords"] = keywords;
    }
    Ok(document)
}

/// The keywords that classify pings, if any.
fn keywords(check: &Value) -> Option<Value> {
    let keywords = json!({
        "failure": cell(&check["failure_kw"]),
        "success": cell(&check["success_kw"]),
        "start": cell(&check["start_kw"]),
        "http_body": check["filter_http_body"] == true,
        "subject": check["filter_subject"] == true,
        "body": check["filter_body"] == true,
        "default_fail": check["filter_default_fail"] == true,
    });
    let mut values = keywords.as_object().into_iter().flatten();
    let is_used = values.any(|(_, value)| *value != false && *value != "");
    is_used.then_some(keywords)
}
