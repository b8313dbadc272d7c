//! Monitors in responses of `/v1`.

use crate::http::Reader;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use thrum_schema::Targets;
use thrum_schema::flip::Flip;
use thrum_schema::monitor::{KeywordFilter, unique_key};
use thrum_schema::silence::{self, Window};
use thrum_schema::state::Shown;
use thrum_schema::{
    Monitor, MonitorState, Outage, Ping, PingKind, Project, Schedule, TraceId, UnixMs,
};
use utoipa::ToSchema;
use uuid::Uuid;

/// A monitor: its configuration and its state.
#[derive(Debug, Serialize, ToSchema)]
pub struct MonitorView {
    /// Its ID, which is also the secret in its ping URL. Hidden from read-only keys.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub uuid: Option<Uuid>,
    /// The path of its ping URL. Hidden from read-only keys.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ping_path: Option<String>,
    /// Identifies it for read-only keys.
    pub unique_key: String,
    /// The path of its public badge.
    pub badge_path: String,
    pub name: String,
    pub slug: String,
    pub tags: Vec<String>,
    pub desc: String,
    pub status: Shown,
    /// Whether a run is in progress.
    pub started: bool,
    /// The runs in progress: all of them with `all_runs`, otherwise only the latest.
    pub runs: Vec<RunView>,
    /// How many pings it has received.
    pub pings: u64,
    /// The last success or failure.
    pub last_ping: Option<String>,
    /// When it goes down unless it pings.
    pub deadline: Option<String>,
    /// The outage of Thrum that extended the deadline.
    pub outage: Option<OutageView>,
    pub last_duration_ms: Option<i64>,
    /// How many failures in a row it has had.
    pub failures_in_a_row: u32,
    /// How many runs it has missed so far; in lists, without those since its last ping.
    pub missed: u64,
    /// Until when its alerts are silenced by a snooze or a maintenance window, of its own or of the
    /// project.
    pub silenced_until: Option<String>,
    /// Whether Thrum holds the alert of its last status change: because of a snooze, a maintenance window,
    /// flapping, or a parent that is down.
    pub alert_held: bool,
    /// Seconds between two pings, if it has a period.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub period_s: Option<u32>,
    /// Its cron or OnCalendar expression, if it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub schedule: Option<String>,
    /// The time zone of the expression.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tz: Option<String>,
    pub grace_s: u32,
    /// `"all"`, or the IDs of its channels.
    #[schema(value_type = serde_json::Value)]
    pub channels: ChannelsView,
    pub manual_resume: bool,
    /// `POST` if only POSTs count, else empty.
    pub methods: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keywords: Option<Keywords>,
    /// How many seconds a run may take, if that is not the grace.
    pub start_grace_s: Option<u32>,
    /// How many failures in a row take it down.
    pub failures: u32,
    /// A run that comes more than this many seconds before it is due is marked as early.
    pub early_s: Option<u32>,
    /// Whether every run is watched by its run ID.
    pub all_runs: bool,
    /// Seconds between two reminders while it is down.
    pub remind_s: Option<u32>,
    pub snoozed_until: Option<String>,
    /// When a user acknowledged that it is down.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub acknowledged_at: Option<String>,
    pub windows: Vec<WindowSpec>,
    /// The unique keys of the monitors that it depends on.
    pub parents: Vec<String>,
    /// What is expected of the metrics, and of `duration`, of a run, by name.
    #[schema(value_type = Object)]
    pub expect: BTreeMap<String, serde_json::Value>,
    /// When it was created.
    pub created: String,
    /// Its last changes of status, newest first; absent in lists.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flips: Option<Vec<FlipView>>,
    /// Its last pings, newest first; absent in lists.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_pings: Option<Vec<PingView>>,
    /// Its last failures, newest first, even if many other pings followed; absent in lists.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_failures: Option<Vec<PingView>>,
}

/// Where alerts go.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub enum ChannelsView {
    All(&'static str),
    These(Vec<String>),
}

/// A run in progress.
#[derive(Debug, Serialize, ToSchema)]
pub struct RunView {
    /// The run ID.
    #[schema(value_type = Option<String>)]
    pub rid: Option<Uuid>,
    /// When it started.
    pub started_at: String,
}

/// An outage of Thrum.
#[derive(Debug, Serialize, ToSchema)]
pub struct OutageView {
    pub start: String,
    pub end: String,
    /// The share of heartbeats that were refused, from 0 to 1; absent if none could arrive.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refused: Option<f64>,
    /// Whether another region took over then, so that heartbeats may be missing.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub takeover: bool,
}

/// A change of status.
#[derive(Debug, Serialize, ToSchema)]
pub struct FlipView {
    pub n: u64,
    pub at: String,
    #[schema(value_type = String)]
    pub from: thrum_schema::Status,
    #[schema(value_type = String)]
    pub to: thrum_schema::Status,
    #[schema(value_type = String)]
    pub reason: thrum_schema::Reason,
    /// Whether it sent an alert.
    pub alert: bool,
    /// Whether it was silenced. If the status is still the same when the silence ends, an alert is
    /// sent then.
    pub silenced: bool,
    /// What was not as expected in the run that took it down.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// How many runs were missed before it.
    pub missed: u32,
    pub outage: Option<OutageView>,
    /// The trace ID of the request that caused it, or of the run of the schedule that found it. The same ID is in
    /// Thrum's log and in AWS X-Ray.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub trace: Option<TraceId>,
}

/// A logged ping. `body` has a body that is valid UTF-8, `body_base64` any other.
#[derive(Debug, Serialize, ToSchema)]
pub struct PingView {
    pub n: u64,
    pub at: String,
    /// `success`, `start`, `fail`, `log` or `ign`.
    #[serde(rename = "type")]
    #[schema(value_type = String)]
    pub kind: PingKind,
    pub scheme: String,
    pub remote_addr: Option<String>,
    pub method: String,
    pub ua: String,
    #[schema(value_type = Option<String>)]
    pub rid: Option<Uuid>,
    pub exit_status: Option<u8>,
    pub duration_ms: Option<i64>,
    /// Whether the run came too early.
    pub early: bool,
    /// Whether the run started while another one was in progress.
    pub overlap: bool,
    pub metrics: BTreeMap<String, f64>,
    /// What was not as expected in the metrics or the duration.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unexpected: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body_base64: Option<String>,
    /// Whether the body was longer than what is stored.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub body_truncated: bool,
}

/// Keywords that decide what a ping means, as lists separated by commas.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Keywords {
    pub failure: String,
    pub success: String,
    pub start: String,
    /// Look for keywords in the bodies of HTTP requests; if absent, true if there is any keyword.
    pub http_body: Option<bool>,
    /// Look for keywords in the subjects of e-mails.
    pub subject: bool,
    /// Look for keywords in the bodies of e-mails.
    pub body: bool,
    /// A ping without any keyword is a failure, instead of being ignored.
    pub default_fail: bool,
}

/// A recurring maintenance window.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct WindowSpec {
    /// When it opens: a cron expression with five fields.
    pub cron: String,
    /// How long it lasts, in seconds: a minute to a week.
    pub duration_s: u64,
    /// The time zone of the expression.
    #[serde(default = "utc")]
    pub tz: String,
}

fn utc() -> String {
    "UTC".to_owned()
}

impl From<&Window> for WindowSpec {
    fn from(window: &Window) -> Self {
        Self {
            cron: window.cron.clone(),
            duration_s: window.duration_s.into(),
            tz: window.tz.clone(),
        }
    }
}

impl From<&KeywordFilter> for Keywords {
    fn from(filter: &KeywordFilter) -> Self {
        Self {
            failure: filter.failure.clone(),
            success: filter.success.clone(),
            start: filter.start.clone(),
            http_body: Some(filter.http_body),
            subject: filter.subject,
            body: filter.body,
            default_fail: filter.default_fail,
        }
    }
}

impl From<Outage> for OutageView {
    fn from(outage: Outage) -> Self {
        Self {
            start: outage.start.rfc3339(),
            end: outage.end.rfc3339(),
            refused: outage.refused.map(|permille| f64::from(permille) / 1_000.0),
            takeover: outage.takeover,
        }
    }
}

impl From<&Targets> for ChannelsView {
    fn from(targets: &Targets) -> Self {
        match targets {
            Targets::All => Self::All("all"),
            Targets::These(ids) => Self::These(ids.iter().map(ToString::to_string).collect()),
        }
    }
}

impl From<&Flip> for FlipView {
    fn from(flip: &Flip) -> Self {
        Self {
            n: flip.n,
            at: flip.at.rfc3339(),
            from: flip.from,
            to: flip.to,
            reason: flip.reason,
            alert: flip.alert,
            silenced: flip.silenced,
            why: flip.why.clone(),
            missed: flip.missed,
            outage: flip.outage.map(Into::into),
            trace: flip.trace,
        }
    }
}

impl PingView {
    /// A logged ping. Its body and address are hidden from read-only keys.
    pub fn of(ping: &Ping, sees_secrets: bool) -> Self {
        let mut view = Self::whole(ping);
        if !sees_secrets {
            (view.remote_addr, view.body, view.body_base64) = (None, None, None);
        }
        view
    }

    fn whole(ping: &Ping) -> Self {
        let text = std::str::from_utf8(&ping.body).ok();
        Self {
            n: ping.n,
            at: ping.at.rfc3339(),
            kind: ping.kind,
            scheme: ping.scheme.clone(),
            remote_addr: ping.remote_addr.clone(),
            method: ping.method.clone(),
            ua: ping.ua.clone(),
            rid: ping.rid,
            exit_status: ping.exit_status,
            duration_ms: ping.duration_ms,
            early: ping.early,
            overlap: ping.overlap,
            metrics: ping.metrics.clone(),
            unexpected: ping.unexpected.clone(),
            body: text.map(str::to_owned),
            body_base64: text.is_none().then(|| BASE64_STANDARD.encode(&ping.body)),
            body_truncated: ping.truncated,
        }
    }
}

/// What is needed to show monitors, besides the monitors themselves.
#[derive(Debug)]
pub struct Around<'a> {
    pub reader: &'a Reader,
    pub outages: &'a [Outage],
    pub now: UnixMs,
    /// Until when the project silences all monitors.
    silenced_until: Option<UnixMs>,
}

impl<'a> Around<'a> {
    pub fn new(
        reader: &'a Reader,
        project: &'a Project,
        outages: &'a [Outage],
        now: UnixMs,
    ) -> Self {
        Self {
            reader,
            outages,
            now,
            silenced_until: silence::until(project.snoozed_until, &project.windows, now),
        }
    }
}

impl Around<'_> {
    /// The monitor, as this caller may see it.
    pub fn view(&self, monitor: &Monitor, state: &MonitorState) -> MonitorView {
        let held = state.deadline_after(self.outages);
        let (period_s, schedule, tz) = match &monitor.schedule {
            Schedule::Simple { period_s } => (Some(*period_s), None, None),
            Schedule::Cron { expr, tz } | Schedule::OnCalendar { expr, tz } => {
                (None, Some(expr.clone()), Some(tz.clone()))
            }
        };
        let secrets = self.reader.sees_secrets;
        let options = &monitor.options;
        let own = silence::until(options.snoozed_until, &options.windows, self.now);
        let silenced = own.max(self.silenced_until);
        MonitorView {
            uuid: secrets.then_some(monitor.id.0),
            ping_path: secrets.then(|| format!("/ping/{}", monitor.id)),
            unique_key: monitor.unique_key(),
            badge_path: format!("/b/3/{}.svg", monitor.badge()),
            name: monitor.name.clone(),
            slug: monitor.slug.clone(),
            tags: monitor.tags.clone(),
            desc: monitor.desc.clone(),
            status: state.shown(self.now, self.outages),
            started: state.run.is_some(),
            runs: state
                .runs()
                .map(|run| RunView {
                    rid: run.rid,
                    started_at: run.at.rfc3339(),
                })
                .collect(),
            pings: state.pings,
            last_ping: state.seen.map(UnixMs::rfc3339),
            deadline: held.map(|(at, _)| at.rfc3339()),
            outage: held.and_then(|(_, outage)| outage).map(Into::into),
            last_duration_ms: state.last_duration_ms,
            failures_in_a_row: state.failures,
            missed: state.missed,
            silenced_until: silenced.map(UnixMs::rfc3339),
            alert_held: state.silenced,
            period_s,
            schedule,
            tz,
            grace_s: monitor.grace_s,
            channels: (&monitor.targets).into(),
            manual_resume: monitor.manual_resume,
            methods: if monitor.post_only { "POST" } else { "" },
            keywords: (monitor.filter != KeywordFilter::default())
                .then(|| (&monitor.filter).into()),
            start_grace_s: options.start_grace_s,
            failures: monitor.failures_to_alert(),
            early_s: options.early_s,
            all_runs: options.all_runs,
            remind_s: options.remind_s,
            snoozed_until: options.snoozed_until.map(UnixMs::rfc3339),
            acknowledged_at: state.acknowledged_at.map(UnixMs::rfc3339),
            windows: options.windows.iter().map(Into::into).collect(),
            parents: options.parents.iter().copied().map(unique_key).collect(),
            expect: options
                .expect
                .iter()
                .map(|(name, expectation)| (name.clone(), expectation.to_json()))
                .collect(),
            created: monitor.created.rfc3339(),
            flips: None,
            last_pings: None,
            last_failures: None,
        }
    }
}
