//! What the handlers tell each other through bus and queue.

use crate::id::{AlertId, ChannelId, ProjectId, RequestId, WatchId};
use crate::signal::series::{SeriesName, Timeframe};
use crate::time::UnixMs;
use crate::timer::Timer;
use serde::{Deserialize, Serialize};

/// The `source` of our events on the bus.
pub const SOURCE: &str = "thrum";

/// Something for notify to do, or for evaluate's worker. Idempotent: done twice, or for what is done already, it changes nothing.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", tag = "do")]
pub enum Work {
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
    /// Send what was gathered for a channel.
    Flush {
        /// The project.
        project: ProjectId,
        /// The channel.
        channel: ChannelId,
    },
    /// Work on a request (evaluate's).
    Request {
        /// The request.
        request: RequestId,
    },
    /// Look at a watch's signal (evaluate's).
    Watch {
        /// The project.
        project: ProjectId,
        /// The watch.
        watch: WatchId,
        /// Whether its timer or a person asks; if not, bars came.
        asked: bool,
    },
    /// Follow a track (evaluate's).
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
    /// Look at timers at the very instant at which they are due (evaluate's). They are in the table, too: this
    /// changes nothing about when a sweep finds them.
    Fire {
        /// The timers.
        timers: Vec<Timer>,
        /// What moved on, and is due later than this, is left to the sweep.
        until: UnixMs,
    },
    /// See to the topic and the subscription of an e-mail channel.
    Subscribe {
        /// The project.
        project: ProjectId,
        /// The channel.
        channel: ChannelId,
    },
    /// Say that this came through: the deep health check asks.
    Probe {
        /// When it was asked.
        at: UnixMs,
    },
}

impl Work {
    /// Whether it is for evaluate's worker, and not for notify.
    pub const fn is_for_evaluate(&self) -> bool {
        matches!(
            self,
            Self::Request { .. } | Self::Watch { .. } | Self::Track { .. } | Self::Fire { .. }
        )
    }

    /// The `detail-type` on the bus.
    pub const fn detail_type(&self) -> &'static str {
        match self {
            Self::Alert { .. } => "alert",
            Self::Deliver { .. } => "deliver",
            Self::Flush { .. } => "flush",
            Self::Request { .. } => "request",
            Self::Watch { .. } => "watch",
            Self::Track { .. } => "track",
            Self::Fire { .. } => "fire",
            Self::Subscribe { .. } => "subscribe",
            Self::Probe { .. } => "probe",
        }
    }
}

/// The envelope that EventBridge puts around an event; messages that go straight to the queue wear it too.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Envelope {
    /// The event.
    pub detail: Work,
}
