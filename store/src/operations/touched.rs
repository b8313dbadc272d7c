//! Which monitors were written to, for live views. The feed is complete only if one process does
//! all the writing; otherwise there is none.

use crate::Store;
use thrum_schema::id::{MonitorId, ProjectId};
use tokio::sync::broadcast::{Receiver, Sender, channel};

/// How many changes are buffered for a slow receiver. A receiver that falls further behind gets an
/// error.
const CAPACITY: usize = 16_384;

/// A write that may change what users see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Touched {
    /// The monitor or its state was created, changed or deleted.
    Changed(ProjectId, MonitorId),
    /// A steady heartbeat, which does not change the status.
    Seen(ProjectId, MonitorId),
    /// The feed ends: the process is stopping.
    End,
}

/// The sender of the change feed, if there is one.
#[derive(Debug, Clone, Default)]
pub(crate) struct Feed(Option<Sender<Touched>>);

impl Store {
    /// This store with a change feed.
    #[must_use]
    pub fn with_change_feed(self) -> Self {
        let (sender, _) = channel(CAPACITY);
        Self {
            touched: Feed(Some(sender)),
            ..self
        }
    }

    /// Whether there is a change feed.
    pub const fn has_change_feed(&self) -> bool {
        self.touched.0.is_some()
    }

    /// Subscribes to the writes from now on, if there is a change feed.
    pub fn touched(&self) -> Option<Receiver<Touched>> {
        self.touched.0.as_ref().map(Sender::subscribe)
    }

    /// Ends the change feed.
    pub fn end_touched(&self) {
        self.note_touched(Touched::End);
    }

    /// Reports a write to the change feed.
    pub(super) fn note_touched(&self, touched: Touched) {
        if let Some(sender) = &self.touched.0 {
            // There may be no receivers.
            let _ = sender.send(touched);
        }
    }
}
