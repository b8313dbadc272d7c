//! A monitor, as `/v1` shows it.

use crate::http::Reader;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use thrum_schema::Targets;
use thrum_schema::flip::Flip;
use thrum_schema::monitor::KeywordFilter;
use thrum_schema::silence::{self, Window};
use thrum_schema::state::Shown;
use thrum_schema::{Monitor, MonitorState, Outage, Ping, PingKind, Project, Schedule, UnixMs};
use utoipa::ToSchema;
use uuid::Uuid;

/// A monitor: what is watched, by which rules, and how it is.
#[derive(Debug, Serialize, ToSchema)]
pub struct MonitorView {
    /// Its id, and the secret of its ping URL; not for read-only keys.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub uuid: Option<Uuid>,
    /// Where its pings go; not for read-only keys.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ping_path: Option<String>,
    /// What read-only clients call it.
    pub unique_key: String,
    /// Its public badge.
    pub badge_path: String,
    pub name: String,
    pub slug: String,
    pub tags: Vec<String>,
    pub desc: String,
    pub status: Shown,
    /// Whether a run is in progress.
    pub started: bool,
    /// The runs in progress, where every run is watched; else the latest.
    pub runs: Vec<RunView>,
    /// How many pings it had.
    pub pings: u64,
    /// The last success or failure.
    pub last_ping: Option<String>,
    /// When it goes down unless it is heard of.
    pub deadline: Option<String>,
    /// The outage of ours that moved the deadline.
    pub outage: Option<OutageView>,
    pub last_duration_ms: Option<i64>,
    /// How many failures there were in a row.
    pub failures_in_a_row: u32,
    /// How many runs were missed so far; in lists, without those since it was last heard of.
    pub missed: u64,
    /// Until when its alerts are silenced, by a snooze or a maintenance window, its own or its project's.
    pub silenced_until: Option<String>,
    /// Seconds between two heartbeats, if its schedule is simple.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub period_s: Option<u32>,
    /// Its cron or OnCalendar expression, if it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub schedule: Option<String>,
    /// The zone of that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tz: Option<String>,
    pub grace_s: u32,
    /// `"all"`, or the ids of its channels.
    #[schema(value_type = serde_json::Value)]
    pub channels: ChannelsView,
    pub manual_resume: bool,
    /// `POST` if only POSTs count, else empty.
    pub methods: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keywords: Option<Keywords>,
    /// How long a run may take, if that is not the grace.
    pub start_grace_s: Option<u32>,
    /// How many failures in a row make it go down.
    pub failures: u32,
    /// A run that comes more than so many seconds before it is expected is marked as early.
    pub early_s: Option<u32>,
    /// Whether every run is watched on its own.
    pub all_runs: bool,
    /// Seconds between two reminders while it is down.
    pub remind_s: Option<u32>,
    pub snoozed_until: Option<String>,
    pub windows: Vec<WindowSpec>,
    /// When it was made.
    pub created: String,
    /// Its last changes of status, newest first; only where one monitor is asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flips: Option<Vec<FlipView>>,
    /// Its last pings, newest first; only where one monitor is asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_pings: Option<Vec<PingView>>,
    /// Its last failures, newest first, however many pings followed; only where one monitor is asked for.
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
    /// The run's id.
    #[schema(value_type = Option<String>)]
    pub rid: Option<Uuid>,
    /// When it began.
    pub started_at: String,
}

/// An outage of ours.
#[derive(Debug, Serialize, ToSchema)]
pub struct OutageView {
    pub start: String,
    pub end: String,
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
    /// Whether people were told.
    pub alert: bool,
    /// Whether it was silenced; what still holds when the silence ends is told then.
    pub silenced: bool,
    /// How many runs were missed before it.
    pub missed: u32,
    pub outage: Option<OutageView>,
}

/// A logged ping. A body that is text is shown as such, any other as base64.
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
    /// Whether the run came too early for the schedule.
    pub early: bool,
    /// Whether the run began while another was in progress.
    pub overlap: bool,
    pub metrics: BTreeMap<String, f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body_base64: Option<String>,
}

/// Keywords that decide what a ping's body means; lists are separated by commas.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Keywords {
    pub failure: String,
    pub success: String,
    pub start: String,
    /// Look at the bodies of HTTP requests; if absent, do so if there is any keyword.
    pub http_body: Option<bool>,
    /// Look at the subjects of e-mails.
    pub subject: bool,
    /// Look at the bodies of e-mails.
    pub body: bool,
    /// A body that has none of them reports a failure, rather than being ignored.
    pub default_fail: bool,
}

/// A recurring maintenance window.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct WindowSpec {
    /// When it opens: a cron expression of five fields.
    pub cron: String,
    /// How long it lasts, in seconds: a minute to a week.
    pub duration_s: u64,
    /// The zone of the expression.
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
            missed: flip.missed,
            outage: flip.outage.map(Into::into),
        }
    }
}

impl PingView {
    /// A logged ping. What was sent, and from where, is not for read-only keys.
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
            body: text.map(str::to_owned),
            body_base64: text.is_none().then(|| BASE64_STANDARD.encode(&ping.body)),
        }
    }
}

/// What monitors are shown with, besides their own.
#[derive(Debug)]
pub struct Around<'a> {
    pub reader: &'a Reader,
    pub outages: &'a [Outage],
    pub now: UnixMs,
    /// Until when the project silences all of them.
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
    /// The monitor, as this caller may see it. Its uuid is the secret of its ping URL, and not for readers.
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
            windows: options.windows.iter().map(Into::into).collect(),
            created: monitor.created.rfc3339(),
            flips: None,
            last_pings: None,
            last_failures: None,
        }
    }
}
