//! Messages between the handlers, sent through the bus and the queue.

use crate::id::{AlertId, ChannelId, ProjectId, RequestId, WatchId};
use crate::signal::series::{SeriesName, Timeframe};
use crate::time::UnixMs;
use crate::timer::Timer;
use serde::{Deserialize, Serialize};

/// The `source` of Thrum's events on the bus.
pub const SOURCE: &str = "thrum";

/// Work for notify or for evaluate's worker. Idempotent: repeating it, or doing what is already
/// done, changes nothing.
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
    /// Send the alerts collected for a channel.
    Flush {
        /// The project.
        project: ProjectId,
        /// The channel.
        channel: ChannelId,
    },
    /// Process a request (evaluate).
    Request {
        /// The request.
        request: RequestId,
    },
    /// Check a watch's signal (evaluate).
    Watch {
        /// The project.
        project: ProjectId,
        /// The watch.
        watch: WatchId,
        /// Whether its timer or a user triggered this; otherwise, new bars did.
        asked: bool,
    },
    /// Follow a track (evaluate).
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
    /// Check timers exactly when they are due (evaluate). They stay in the table too, so a sweep
    /// finds them as usual.
    Fire {
        /// The timers.
        timers: Vec<Timer>,
        /// Timers rescheduled past this timestamp are left to the sweep.
        until: UnixMs,
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
        /// When the check started.
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

/// The envelope that EventBridge puts around an event. Messages sent directly to the queue use it
/// too.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Envelope {
    /// The event.
    pub detail: Work,
}
