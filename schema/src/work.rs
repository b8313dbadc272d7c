//! Messages between the handlers, sent through the bus and the queue.

use crate::id::{AlertId, ChannelId, ProjectId, RequestId, WatchId};
use crate::signal::series::{SeriesName, Timeframe};
use crate::time::UnixMs;
use crate::timer::Timer;
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// The `source` of Thrum's events on the bus.
pub const SOURCE: &str = "thrum";

/// Work for notify. Idempotent: repeating it, or doing what is already done, changes nothing.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", tag = "do")]
pub enum NotifyWork {
    /// Decide an alert's channels, and deliver it to each.
    Alert {
        /// The project.
        project: ProjectId,
        /// The alert.
        alert: AlertId,
    },
    /// Deliver an alert, or a group, through one channel.
    Deliver {
        /// The project.
        project: ProjectId,
        /// The alert or group.
        alert: AlertId,
        /// The channel.
        channel: ChannelId,
    },
    /// Send the alerts collected for a channel.
    Flush {
        /// The project.
        project: ProjectId,
        /// The channel.
        channel: ChannelId,
    },
    /// Maintain the topic and the subscription of an e-mail channel.
    Subscribe {
        /// The project.
        project: ProjectId,
        /// The channel.
        channel: ChannelId,
    },
    /// Confirm that this message arrived, for the deep health check.
    Probe {
        /// The project of Thrum's own monitors. Each message has a project, which the queue is fair by.
        #[serde(default = "own_project")]
        project: ProjectId,
        /// When the check started.
        at: UnixMs,
    },
}

/// Work for evaluate. Idempotent, too.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", tag = "do")]
pub enum EvaluateWork {
    /// Process a request for a signal or a backtest.
    Request {
        /// The request.
        request: RequestId,
    },
    /// Evaluate a watch.
    Watch {
        /// The project.
        project: ProjectId,
        /// The watch.
        watch: WatchId,
        /// Whether its timer or a user triggered this; otherwise, new bars did.
        asked: bool,
    },
    /// Follow a track to the last bar.
    Track {
        /// The project.
        project: ProjectId,
        /// The series.
        series: SeriesName,
        /// Its timeframe.
        timeframe: Timeframe,
        /// The track's key.
        key: String,
    },
    /// Do what the schedule does once a minute.
    Tick,
    /// Renew the lease of this region, or look whether the other one still has it.
    Tend,
    /// Sweep some shards of the timers, in an invocation of their own.
    Sweep {
        /// The shards.
        shards: Range<u16>,
    },
    /// Handle timers exactly when they are due. They stay in the table too, so a sweep finds them
    /// as usual.
    Fire {
        /// The timers.
        timers: Vec<Timer>,
        /// Timers rescheduled past this timestamp are left to the sweep.
        until: UnixMs,
    },
}

const fn own_project() -> ProjectId {
    ProjectId::PIPELINE
}

impl NotifyWork {
    /// The project that it is for.
    pub const fn project(&self) -> ProjectId {
        match self {
            Self::Alert { project, .. }
            | Self::Deliver { project, .. }
            | Self::Flush { project, .. }
            | Self::Subscribe { project, .. }
            | Self::Probe { project, .. } => *project,
        }
    }

    /// The check of the whole path that started at `at`.
    pub const fn probe(at: UnixMs) -> Self {
        Self::Probe {
            project: own_project(),
            at,
        }
    }
}

impl EvaluateWork {
    /// Whether it is part of the schedule, so that the next tick does it anyway.
    pub const fn is_prompt(&self) -> bool {
        matches!(
            self,
            Self::Tick | Self::Tend | Self::Sweep { .. } | Self::Fire { .. }
        )
    }
}

/// Work for either, as it is sent; a handler reads its own kind.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
#[serde(untagged)]
pub enum Work {
    /// For notify.
    Notify(NotifyWork),
    /// For evaluate's worker.
    Evaluate(EvaluateWork),
}

impl From<NotifyWork> for Work {
    fn from(work: NotifyWork) -> Self {
        Self::Notify(work)
    }
}

impl From<EvaluateWork> for Work {
    fn from(work: EvaluateWork) -> Self {
        Self::Evaluate(work)
    }
}

impl Work {
    /// The `detail-type` on the bus.
    pub const fn detail_type(&self) -> &'static str {
        match self {
            Self::Notify(NotifyWork::Alert { .. }) => "alert",
            Self::Notify(NotifyWork::Deliver { .. }) => "deliver",
            Self::Notify(NotifyWork::Flush { .. }) => "flush",
            Self::Notify(NotifyWork::Subscribe { .. }) => "subscribe",
            Self::Notify(NotifyWork::Probe { .. }) => "probe",
            Self::Evaluate(EvaluateWork::Request { .. }) => "request",
            Self::Evaluate(EvaluateWork::Watch { .. }) => "watch",
            Self::Evaluate(EvaluateWork::Track { .. }) => "track",
            Self::Evaluate(EvaluateWork::Fire { .. }) => "fire",
            Self::Evaluate(EvaluateWork::Tick) => "tick",
            Self::Evaluate(EvaluateWork::Tend) => "tend",
            Self::Evaluate(EvaluateWork::Sweep { .. }) => "sweep",
        }
    }
}

/// The envelope that EventBridge puts around an event. Messages sent directly to the queue use it
/// too.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Envelope<W> {
    /// The event.
    pub detail: W,
}
