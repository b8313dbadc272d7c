//! Checks in responses of the management API.

use crate::http::site::Site;
use serde::Serialize;
use std::collections::BTreeSet;
use thrum_schema::Targets;
use thrum_schema::channel::Channel;
use thrum_schema::id::ChannelId;
use thrum_schema::state::Shown;
use thrum_schema::{Monitor, MonitorState, Outage, Schedule, UnixMs};
use utoipa::ToSchema;
use uuid::Uuid;

/// A check. A read-only key sees `unique_key` instead of `uuid`, the URLs and `channels`.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Check {
    /// Its name.
    name: String,
    /// Its slug.
    slug: String,
    /// Its tags, separated by spaces.
    tags: String,
    /// Its description.
    desc: String,
    /// Its grace, in seconds.
    grace: u32,
    /// How many pings it has received.
    n_pings: u64,
    /// `new`, `up`, `grace`, `down` or `paused`; in version 1 also `started`.
    status: &'static str,
    /// Whether a run is in progress.
    started: bool,
    /// The last success or failure.
    last_ping: Option<String>,
    /// When the next success is expected.
    next_ping: Option<String>,
    /// Whether pings leave it paused.
    manual_resume: bool,
    /// `POST` if only POSTs count, else empty.
    methods: &'static str,
    /// The keywords of a success, if `filter_subject` is on.
    subject: String,
    /// The keywords of a failure, if `filter_subject` is on.
    subject_fail: String,
    /// The keywords of a start.
    start_kw: String,
    /// The keywords of a success.
    success_kw: String,
    /// The keywords of a failure.
    failure_kw: String,
    filter_subject: bool,
    filter_body: bool,
    filter_http_body: bool,
    filter_default_fail: bool,
    /// The URL of its badge.
    badge_url: String,
    /// How long the last run took, in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    last_duration: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    uuid: Option<Uuid>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ping_url: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    update_url: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pause_url: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    resume_url: Option<String>,
    /// The IDs of its channels, separated by commas.
    #[serde(skip_serializing_if = "Option::is_none")]
    channels: Option<String>,
    /// Identifies it for read-only keys.
    #[serde(skip_serializing_if = "Option::is_none")]
    unique_key: Option<String>,
    /// Its period in seconds, if it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    timeout: Option<u32>,
    /// Its cron or OnCalendar expression, if it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    schedule: Option<String>,
    /// The time zone of the expression.
    #[serde(skip_serializing_if = "Option::is_none")]
    tz: Option<String>,
}

/// What is needed to show a check.
#[derive(Debug, Clone, Copy)]
pub struct View<'a> {
    /// The site's URLs.
    pub site: &'a Site,
    /// The version of the API.
    pub version: u8,
    /// Whether the key may write.
    pub writes: bool,
    /// The project's channels.
    pub channels: &'a [Channel],
    /// The outages of Thrum.
    pub outages: &'a [Outage],
    /// The current time.
    pub now: UnixMs,
}

impl View<'_> {
    /// The check.
    pub fn of(&self, monitor: &Monitor, state: &MonitorState) -> Check {
        let (timeout, schedule, tz) = match &monitor.schedule {
            Schedule::Simple { period_s } => (Some(*period_s), None, None),
            Schedule::Cron { expr, tz } | Schedule::OnCalendar { expr, tz } => {
                (None, Some(expr.clone()), Some(tz.clone()))
            }
        };
        let filter = &monitor.filter;
        let mirrored = |keywords: &String| {
            if filter.subject {
                keywords.clone()
            } else {
                String::new()
            }
        };
        let id = monitor.id;
        let base = format!("{}/api/v{}/checks/{id}", self.site.root, self.version);
        let started = state.run.is_some();
        let for_writers = |text: String| self.writes.then_some(text);
        Check {
            name: monitor.name.clone(),
            slug: monitor.slug.clone(),
            tags: monitor.tags.join(" "),
            desc: monitor.desc.clone(),
            grace: monitor.grace_s,
            n_pings: state.pings,
            status: self.status(state),
            started,
            last_ping: state.seen.map(iso),
            next_ping: state.next_ping().map(iso),
            manual_resume: monitor.manual_resume,
            methods: if monitor.post_only { "POST" } else { "" },
            subject: mirrored(&filter.success),
            subject_fail: mirrored(&filter.failure),
            start_kw: filter.start.clone(),
            success_kw: filter.success.clone(),
            failure_kw: filter.failure.clone(),
            filter_subject: filter.subject,
            filter_body: filter.body,
            filter_http_body: filter.http_body,
            filter_default_fail: filter.default_fail,
            badge_url: format!("{}/b/2/{}.svg", self.site.root, monitor.badge()),
            last_duration: state.last_duration_ms.map(|ms| ms / 1000),
            uuid: self.writes.then_some(id.0),
            ping_url: for_writers(self.site.ping_url(id)),
            update_url: for_writers(base.clone()),
            pause_url: for_writers(format!("{base}/pause")),
            resume_url: for_writers(format!("{base}/resume")),
            channels: for_writers(self.channels_of(monitor)),
            unique_key: (!self.writes).then(|| monitor.unique_key()),
            timeout,
            schedule,
            tz,
        }
    }

    /// The status. In version 1, a check with a run that is in progress and in time is `started`.
    fn status(&self, state: &MonitorState) -> &'static str {
        let shown = state.shown(self.now, self.outages);
        match shown {
            Shown::Down if state.run.is_none() || self.overdue(state) => "down",
            _ if self.version == 1 && state.run.is_some() => "started",
            Shown::New => "new",
            Shown::Up => "up",
            Shown::Grace => "grace",
            Shown::Down => "down",
            Shown::Paused => "paused",
        }
    }

    fn overdue(&self, state: &MonitorState) -> bool {
        let limit_ms = state.run_limit_ms();
        state.runs().any(|run| self.now >= run.at + limit_ms)
    }

    fn channels_of(&self, monitor: &Monitor) -> String {
        let ids: BTreeSet<ChannelId> = match &monitor.targets {
            Targets::All => self.channels.iter().map(|channel| channel.id).collect(),
            Targets::These(ids) => {
                let there = |id: &&ChannelId| self.channels.iter().any(|c| c.id == **id);
                ids.iter().filter(there).copied().collect()
            }
        };
        let ids: Vec<String> = ids.iter().map(ToString::to_string).collect();
        ids.join(",")
    }
}

impl Check {
    /// The check after its deletion, without channels.
    pub fn deleted(self) -> Self {
        Self {
            channels: self.channels.map(|_| String::new()),
            ..self
        }
    }
}

/// `2026-11-21T05:00:00+00:00`
pub fn iso(at: UnixMs) -> String {
    at.utc().format("%Y-%m-%dT%H:%M:%S+00:00").to_string()
}

/// `2026-11-21T05:00:00.123000+00:00`
pub fn iso_us(at: UnixMs) -> String {
    at.utc().format("%Y-%m-%dT%H:%M:%S%.6f+00:00").to_string()
}
