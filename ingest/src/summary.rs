//! How a project is, at a glance: what badges and metrics show. Made anew for each request while the project is small,
//! and kept for some seconds where that costs something; never cached by HTTP.

use crate::app::App;
use crate::cache::ByProject;
use crate::management::Site;
use base64::Engine;
use base64::prelude::{BASE64_URL_SAFE, BASE64_URL_SAFE_NO_PAD};
use hmac::{Hmac, Mac};
use serde::Serialize;
use sha1::Sha1;
use sha2::Sha256;
use std::sync::Arc;
use thrum_schema::state::Shown;
use thrum_schema::{Monitor, MonitorState, Outage, Project, ProjectId, UnixMs};
use thrum_store::StoreError;
use utoipa::ToSchema;

/// How long a summary is given again, in milliseconds.
const FRESH_MS: i64 = 10_000;
/// Projects with at most so many monitors are looked at anew each time.
const SMALL: usize = 200;
/// Summaries beyond which those that are stale are forgotten.
const MAX_KEPT: usize = 1_000;

/// A monitor, at a glance.
#[derive(Debug, Clone)]
pub struct Glance {
    pub name: String,
    pub tags: Vec<String>,
    pub unique_key: String,
    pub shown: Shown,
    pub started: bool,
}

/// A project's monitors, at a glance, in the order of their names.
#[derive(Debug, Clone, Default)]
pub struct Summary(pub Vec<Glance>);

/// How many of some monitors are how.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    pub total: usize,
    pub grace: usize,
    pub down: usize,
}

/// The summaries that are kept.
#[derive(Debug, Default)]
pub struct Summaries(ByProject<(UnixMs, Arc<Summary>)>);

impl Glance {
    /// The monitor as it is at `now`.
    pub fn of(monitor: &Monitor, state: &MonitorState, outages: &[Outage], now: UnixMs) -> Self {
        Self {
            name: monitor.name.clone(),
            tags: monitor.tags.clone(),
            unique_key: monitor.unique_key(),
            shown: state.shown(now, outages),
            started: state.run.is_some(),
        }
    }
}

impl Tally {
    /// Counts monitors. New and paused ones are as good as up.
    pub fn of<'a>(glances: impl Iterator<Item = &'a Glance>) -> Self {
        glances.fold(Self::default(), |tally, glance| Self {
            total: tally.total + 1,
            grace: tally.grace + usize::from(glance.shown == Shown::Grace),
            down: tally.down + usize::from(glance.shown == Shown::Down),
        })
    }
}

impl Summary {
    /// Those that have `tag`; all of them for `*`.
    pub fn tagged<'a>(&'a self, tag: &'a str) -> impl Iterator<Item = &'a Glance> {
        let has = move |glance: &&Glance| tag == "*" || glance.tags.iter().any(|t| t == tag);
        self.0.iter().filter(has)
    }
}

impl App {
    /// A project, at a glance.
    pub(crate) async fn summary(&self, project: ProjectId) -> Result<Arc<Summary>, StoreError> {
        let kept = self.summaries.0.of(project, MAX_KEPT);
        let mut kept = kept.lock().await;
        let now = self.store.world().now();
        if let Some((at, summary)) = &*kept
            && now - *at < FRESH_MS
        {
            return Ok(Arc::clone(summary));
        }
        let summary = Arc::new(self.summarize(project, now).await?);
        *kept = (summary.0.len() > SMALL).then(|| (now, Arc::clone(&summary)));
        Ok(summary)
    }

    async fn summarize(&self, project: ProjectId, now: UnixMs) -> Result<Summary, StoreError> {
        let (monitors, outages) = futures::try_join!(self.monitors(project), self.store.outages())?;
        let mut monitors: Vec<&Monitor> = monitors.iter().map(AsRef::as_ref).collect();
        monitors.sort_by(|a, b| a.name.cmp(&b.name).then(a.id.cmp(&b.id)));
        let states = self.states_of(&monitors).await?;
        let glances = monitors.iter().zip(&states);
        let glances = glances.map(|(monitor, state)| Glance::of(monitor, state, &outages, now));
        Ok(Summary(glances.collect()))
    }
}

/// The URLs of a badge: with two states (late is up) and with three.
#[derive(Debug, Serialize, ToSchema)]
pub struct BadgeUrls {
    svg: String,
    pub svg3: String,
    json: String,
    json3: String,
    shields: String,
    shields3: String,
}

impl BadgeUrls {
    /// The URLs of the badge of a tag; of all monitors for `*`.
    pub fn of(project: &Project, tag: &str, site: &Site) -> Self {
        let signature = signature(project, tag);
        let root = format!("{}/badge/{}", site.root, project.badge_key);
        let url = |states: &str, format: &str| match tag {
            "*" => format!("{root}/{signature}{states}.{format}"),
            tag => format!("{root}/{signature}{states}/{}.{format}", quote(tag)),
        };
        Self {
            svg: url("-2", "svg"),
            svg3: url("", "svg"),
            json: url("-2", "json"),
            json3: url("", "json"),
            shields: url("-2", "shields"),
            shields3: url("", "shields"),
        }
    }
}

/// Letters of a badge's signature.
pub const SIGNATURE_LEN: usize = 8;

/// What signs the URL of a badge. Contract §4.
pub fn signature(project: &Project, tag: &str) -> String {
    let mut mac = Hmac::<Sha1>::new_from_slice(project.badge_secret.as_bytes())
        .expect("a key of any length will do");
    mac.update(project.badge_key.as_bytes());
    mac.update(tag.as_bytes());
    let mut text = BASE64_URL_SAFE.encode(mac.finalize().into_bytes());
    text.truncate(SIGNATURE_LEN);
    text
}

/// The path of a project's status page. Who knows a badge's URL does not know this, but it changes with them.
pub fn status_path(project: &Project) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(project.badge_secret.as_bytes())
        .expect("a key of any length will do");
    mac.update(b"status page");
    let signed = BASE64_URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes());
    format!("/status/{}.{signed}", project.badge_key)
}

/// A text as a part of a path.
pub fn quote(tag: &str) -> String {
    tag.bytes().fold(String::new(), |mut path, b| {
        if b.is_ascii_alphanumeric() || b"-_.~".contains(&b) {
            path.push(char::from(b));
        } else {
            path.push_str(&format!("%{b:02X}"));
        }
        path
    })
}
