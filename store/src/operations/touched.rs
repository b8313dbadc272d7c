//! Which monitors were written to, for whoever shows them while it happens. Only where one process does all the writing
//! does this say everything; elsewhere there is no feed.

use crate::Store;
use thrum_schema::id::{MonitorId, ProjectId};
use tokio::sync::broadcast::{Receiver, Sender, channel};

/// How many changes wait for whoever is slow; who lags behind more is told so.
const CAPACITY: usize = 16_384;

/// A write that may change what people see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Touched {
    /// The monitor, or its state: made, changed, deleted, or in another state.
    Changed(ProjectId, MonitorId),
    /// A steady heartbeat, which changes no state.
    Seen(ProjectId, MonitorId),
    /// Nothing more comes: the process ends.
    End,
}

/// Where writes are told, if anybody is to know.
#[derive(Debug, Clone, Default)]
pub(crate) struct Feed(Option<Sender<Touched>>);

impl Store {
    /// The same table, whose writes are told.
    #[must_use]
    pub fn with_change_feed(self) -> Self {
        let (sender, _) = channel(CAPACITY);
        Self {
            touched: Feed(Some(sender)),
            ..self
        }
    }

    /// Whether writes are told.
    pub const fn has_change_feed(&self) -> bool {
        self.touched.0.is_some()
    }

    /// What is written from now on, where that is told.
    pub fn touched(&self) -> Option<Receiver<Touched>> {
        self.touched.0.as_ref().map(Sender::subscribe)
    }

    /// Tells everybody that nothing more comes.
    pub fn end_touched(&self) {
        self.note_touched(Touched::End);
    }

    /// Tells of a write to a monitor.
    pub(super) fn note_touched(&self, touched: Touched) {
        if let Some(sender) = &self.touched.0 {
            // Nobody may be listening.
            let _ = sender.send(touched);
        }
    }
}
