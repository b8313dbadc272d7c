//! Alerts: the outbox. An alert is written together with the flip that caused it and stays open
//! until each of its channels has delivered it or given up.

use crate::flip::Flip;
use crate::id::{AlertId, ChannelId, MonitorId, ProjectId};
use crate::monitor::Monitor;
use crate::outage::Outage;
use crate::signal::watch::Change;
use crate::targets::Targets;
use crate::time::UnixMs;
use crate::trace::TraceId;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// How long an alert and its deliveries are kept, in seconds: 35 days.
pub const ALERT_TTL_S: i64 = 35 * 86_400;
/// How long delivery of an alert is tried by default, in seconds: a day. `--delivery-window`
/// changes it.
pub const DELIVERY_WINDOW_S: i64 = 86_400;

/// Longest description that an alert keeps, in characters.
pub const MAX_DESC: usize = 1_000;

/// What an alert is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum AlertKind {
    /// A monitor went down.
    #[serde(rename = "monitor.down")]
    Down,
    /// A monitor came back up.
    #[serde(rename = "monitor.up")]
    Up,
    /// A monitor is still down.
    #[serde(rename = "monitor.reminder")]
    Reminder,
    /// A user tests a channel.
    #[serde(rename = "channel.test")]
    Test,
    /// A signal changed.
    #[serde(rename = "signal.changed")]
    Signal,
    /// A channel reached its daily limit: later alerts that day are suppressed.
    #[serde(rename = "channel.limited")]
    Limited,
}

impl AlertKind {
    /// The event type in webhooks.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Down => "monitor.down",
            Self::Up => "monitor.up",
            Self::Reminder => "monitor.reminder",
            Self::Signal => "signal.changed",
            Self::Test => "channel.test",
            Self::Limited => "channel.limited",
        }
    }
}

/// Delivery progress of an alert.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum AlertState {
    /// At least one channel has not received it yet.
    Pending,
    /// Every channel has received it or does not need it.
    Delivered,
    /// At least one channel gave up; the alert can be redelivered.
    Dead,
}

/// What an alert keeps about its monitor, which may be deleted before delivery.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subject {
    /// Its ID.
    pub uuid: MonitorId,
    /// Its name.
    pub name: String,
    /// Its slug.
    pub slug: String,
    /// Its tags.
    #[serde(default)]
    pub tags: Vec<String>,
    /// The start of its description.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub desc: String,
    /// Its schedule and grace, in words.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub schedule: String,
    /// Its grace, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grace_s: Option<u32>,
    /// The names of the first monitors that depend on it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub children: Vec<String>,
    /// How many more there are.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub more_children: usize,
}

const fn is_zero(n: &usize) -> bool {
    *n == 0
}

impl Subject {
    /// What an alert keeps of `monitor`.
    pub fn of(monitor: &Monitor) -> Self {
        Self {
            uuid: monitor.id,
            name: monitor.name.clone(),
            slug: monitor.slug.clone(),
            tags: monitor.tags.clone(),
            desc: monitor.desc.chars().take(MAX_DESC).collect(),
            schedule: monitor.schedule_in_words(),
            grace_s: Some(monitor.grace_s),
            children: Vec::new(),
            more_children: 0,
        }
    }
}

/// An alert.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alert {
    /// Its ID.
    pub id: AlertId,
    /// The project it belongs to.
    pub project: ProjectId,
    /// What it is about.
    #[serde(rename = "type")]
    pub what: AlertKind,
    /// Whether a channel gave up on it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dead: bool,
    /// The channels that have not received it yet; `None` before they are decided, and when none is
    /// left.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub open: Option<BTreeSet<String>>,
    /// Whether its channels are decided.
    #[serde(default)]
    pub planned: bool,
    /// Channels that it also goes to, because others failed to deliver it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub added: Option<BTreeSet<String>>,
    /// Where it goes.
    pub targets: Targets,
    /// The monitor, for alerts about one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub monitor: Option<Subject>,
    /// The flip, for alerts about a monitor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flip: Option<Flip>,
    /// The signal change, for alerts about one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<Box<Change>>,
    /// The last lines of the output of the run that took the monitor down.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<String>,
    /// The last success or failure up to the flip, including a ping that caused it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_ping: Option<UnixMs>,
    /// The previous alert of the same monitor or watch, which is delivered first (A8).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prev: Option<AlertId>,
    /// How many alerts the same sweep raised in the project, including this one: bursts are grouped
    /// (A6).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub burst: Option<u32>,
    /// Whether its monitor is flapping: no alert follows until it is stable.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub flapping: bool,
    /// What raised it, if it is about a channel.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace: Option<TraceId>,
}

impl Alert {
    /// The alert for `flip`.
    pub fn of_flip(
        id: AlertId,
        monitor: &Monitor,
        flip: &Flip,
        last_ping: Option<UnixMs>,
        prev: Option<AlertId>,
        burst: Option<u32>,
    ) -> Self {
        let what = if flip.to == crate::Status::Down {
            AlertKind::Down
        } else {
            AlertKind::Up
        };
        Self {
            id,
            project: monitor.project,
            what,
            dead: false,
            open: None,
            planned: false,
            added: None,
            targets: monitor.targets.clone(),
            monitor: Some(Subject::of(monitor)),
            flip: Some(flip.clone()),
            signal: None,
            output: None,
            last_ping,
            prev,
            burst,
            flapping: false,
            trace: None,
        }
    }

    /// A reminder that a monitor has been down since `flip`.
    pub fn reminder(
        id: AlertId,
        monitor: &Monitor,
        flip: &Flip,
        last_ping: Option<UnixMs>,
        prev: Option<AlertId>,
    ) -> Self {
        Self {
            what: AlertKind::Reminder,
            ..Self::of_flip(id, monitor, flip, last_ping, prev, None)
        }
    }

    /// An alert about one channel, sent to that channel.
    pub fn of_channel(
        id: AlertId,
        project: ProjectId,
        what: AlertKind,
        channel: ChannelId,
    ) -> Self {
        Self {
            id,
            project,
            what,
            dead: false,
            open: None,
            planned: false,
            added: None,
            targets: Targets::These(vec![channel]),
            monitor: None,
            flip: None,
            signal: None,
            output: None,
            last_ping: None,
            prev: None,
            burst: None,
            flapping: false,
            trace: None,
        }
    }

    /// Makes a test look as if `monitor` had missed its deadline now.
    pub fn about(&mut self, monitor: &Monitor, last_success: Option<UnixMs>, now: UnixMs) {
        self.monitor = Some(Subject::of(monitor));
        self.last_ping = Some(last_success.unwrap_or(now));
        self.flip = Some(Flip {
            n: 0,
            at: now,
            from: crate::Status::Up,
            to: crate::Status::Down,
            reason: crate::Reason::Timeout,
            alert: true,
            silenced: false,
            deadline: None,
            outage: None,
            why: None,
            missed: 0,
            lasted_ms: None,
            last_success,
            trace: None,
        });
    }

    /// The alert for a signal change.
    pub fn of_signal(
        id: AlertId,
        project: ProjectId,
        targets: Targets,
        change: Change,
        prev: Option<AlertId>,
    ) -> Self {
        Self {
            id,
            project,
            what: AlertKind::Signal,
            dead: false,
            open: None,
            planned: false,
            added: None,
            targets,
            monitor: None,
            flip: None,
            signal: Some(Box::new(change)),
            output: None,
            last_ping: None,
            prev,
            burst: None,
            flapping: false,
            trace: None,
        }
    }

    /// Delivery progress. Derived, so it always agrees with the channels.
    pub const fn state(&self) -> AlertState {
        match (self.dead, self.is_open()) {
            (true, _) => AlertState::Dead,
            (false, true) => AlertState::Pending,
            (false, false) => AlertState::Delivered,
        }
    }

    /// Whether a channel still needs it, or its channels are not decided yet.
    pub const fn is_open(&self) -> bool {
        !self.planned || self.open.is_some()
    }

    /// When the event happened: the time of the flip, otherwise when the alert was created.
    pub fn happened(&self) -> UnixMs {
        self.flip
            .as_ref()
            .map_or(UnixMs(self.id.created_ms()), |flip| flip.at)
    }

    /// The trace that caused the alert; for a reminder, the one that caused the flip. `None` if the flip is not stored
    /// or older than traces.
    pub fn trace(&self) -> Option<TraceId> {
        let flip = self.flip.as_ref().and_then(|flip| flip.trace);
        let signal = || self.signal.as_ref()?.trace;
        flip.or_else(signal).or(self.trace)
    }

    /// Thrum's own outage that moved the deadline (T3), if any.
    pub fn outage(&self) -> Option<Outage> {
        self.flip.as_ref().and_then(|flip| flip.outage)
    }
}
