//! `thrum import healthchecks` and `thrum import uptime-kuma`: monitors and channels of other programs,
//! with their IDs, so that no client has to change.

mod healthchecks;
mod kuma;

pub use healthchecks::Healthchecks;
pub use kuma::Kuma;

use super::monitors::import_all;
use super::{Part, Remote, cell, out};
use anyhow::bail;
use reqwest::Method;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use thrum_schema::channel::kind::{Kind, Settings};
use thrum_schema::network::Networks;

/// What another program has.
#[derive(Debug, Default)]
pub struct Found {
    /// Monitors, as in an exported file; their channels by name.
    monitors: Vec<Value>,
    /// Channels, as the API creates them.
    channels: Vec<Value>,
    /// What can't be imported, and what to do about it.
    left: Vec<String>,
    /// Channels that are assigned if the server has one with the name, and what to do if it has not.
    unknown: Vec<(String, String)>,
}

impl Found {
    /// Adds a channel, or notes why it can't be imported.
    fn channel(&mut self, name: &str, kind: &str, settings: &[(&str, &Value)]) {
        let given: BTreeMap<String, Option<String>> = settings
            .iter()
            .filter(|(_, value)| !value.is_null() && *value != "")
            .map(|(name, value)| ((*name).to_owned(), Some(cell(value))))
            .collect();
        let checked = match Kind::named(kind) {
            Some(kind) => kind
                .change(&Settings::new(), &given, &Networks::all())
                .map_err(|all| {
                    all.iter()
                        .map(ToString::to_string)
                        .collect::<Vec<_>>()
                        .join("; ")
                }),
            None => Err(format!("Thrum has no channels of kind {kind}")),
        };
        match checked {
            Ok(settings) => self.channels.push(json!({
                "name": name,
                "kind": kind,
                "settings": settings,
            })),
            Err(problem) => self
                .left
                .push(format!("channel {name} ({kind}): {problem}")),
        }
    }
}

/// Creates the monitors and channels that the server lacks, and updates those that differ. `dry_run`
/// only shows that.
async fn carry_over(remote: &Remote, found: Found, dry_run: bool) -> anyhow::Result<()> {
    let Found {
        mut monitors,
        channels,
        mut left,
        unknown,
    } = found;
    let reply = remote
        .list("/v1/channels", "channels", Part::default())
        .await?;
    let held = reply["channels"].as_array().into_iter().flatten();
    let mut known: Vec<String> = held.map(|channel| cell(&channel["name"])).collect();
    left.extend(
        unknown
            .into_iter()
            .filter(|(name, _)| !known.contains(name))
            .map(|(_, left)| left),
    );
    let are_new = channels
        .iter()
        .any(|channel| !known.contains(&cell(&channel["name"])));
    let on_all = if are_new { on_all(remote).await? } else { 0 };
    if on_all > 0 {
        out(&format!(
            "note: monitors that already alert on all channels, and so on the new ones, too: {on_all}"
        ))?;
    }
    let mut coming = known.clone();
    for channel in channels {
        let name = cell(&channel["name"]);
        let kind = cell(&channel["kind"]);
        coming.push(name.clone());
        if known.contains(&name) {
            continue;
        }
        if dry_run {
            out(&format!("would create channel {name} ({kind})"))?;
            continue;
        }
        remote
            .call(Method::POST, "/v1/channels", Some(channel))
            .await?;
        out(&format!("created channel {name} ({kind})"))?;
        known.push(name);
    }
    for monitor in &mut monitors {
        let is_heard = |name: &Value| coming.contains(&cell(name));
        let channels = monitor["channels"].as_array();
        if !channels.is_some_and(|channels| channels.iter().any(is_heard)) {
            left.push(format!(
                "nobody is notified of {}: it has no channel",
                cell(&monitor["name"])
            ));
        }
        if let Some(names) = monitor["channels"].as_array_mut() {
            names.retain(|name| known.contains(&cell(name)));
        }
    }
    let imported = import_all(remote, monitors, dry_run).await;
    if !left.is_empty() {
        out("\nTo do:")?;
        for one in &left {
            out(&format!("  {one}"))?;
        }
    }
    imported
}

/// How many monitors of the server alert on all channels.
async fn on_all(remote: &Remote) -> anyhow::Result<usize> {
    let reply = remote
        .list("/v1/monitors", "monitors", Part::default())
        .await?;
    let monitors = reply["monitors"].as_array().into_iter().flatten();
    Ok(monitors
        .filter(|monitor| monitor["channels"] == "all")
        .count())
}

/// Splits a string of tags into a list.
fn words(text: &Value) -> Value {
    let text = cell(text);
    text.split_whitespace().map(str::to_owned).collect()
}

/// Fails if nothing was found.
fn not_empty(found: Found, place: &str) -> anyhow::Result<Found> {
    if found.monitors.is_empty() && found.left.is_empty() {
        bail!("{place} has no monitors");
    }
    Ok(found)
}
