//! The history of a monitor: its flips and its uptime.

use super::Monitors;
use thrum_schema::flip::Flip;
use thrum_schema::silence::{Window, maintenance};
use thrum_schema::{Monitor, Project, Status, UnixMs, uptime};
use thrum_store::{Result, StoreError};

/// The most flips that an uptime is computed from.
const MAX_FLIPS: usize = 10_000;
/// The most openings of a maintenance window that an uptime is computed from.
const MAX_OPENINGS: usize = 10_000;

/// The flips of a monitor, and its uptime in some spans.
#[derive(Debug)]
pub struct History {
    /// Its flips, oldest first.
    pub flips: Vec<Flip>,
    /// Its uptime in each span.
    pub uptimes: Vec<uptime::Uptime>,
}

impl Monitors {
    /// The flips of a monitor that now has `status`, and its uptime in each of `spans` (start,
    /// end).
    pub async fn history(
        &self,
        project: &Project,
        (monitor, status): (&Monitor, Status),
        spans: &[(UnixMs, UnixMs)],
    ) -> Result<History> {
        let starts = spans.iter().map(|(from, _)| *from);
        let first = starts.min().unwrap_or_default();
        let last = spans.iter().map(|(_, to)| *to).max().unwrap_or_default();
        // Read all flips, because the flip before a span determines the status at its start.
        let mut flips = self
            .store
            .flips_between(monitor.id, UnixMs(0), last + 1, MAX_FLIPS)
            .await?;
        flips.reverse();
        let before = flips.first().map_or(status, |flip| flip.from);
        let windows = monitor.options.windows.iter().chain(&project.windows);
        let windows: Vec<Window> = windows.cloned().collect();
        // Many openings take a while to compute, which must not block the threads that serve
        // requests.
        let spans = spans.to_vec();
        let computed = tokio::task::spawn_blocking(move || {
            let windows: Vec<&Window> = windows.iter().collect();
            let closed = maintenance(&windows, first, last, MAX_OPENINGS);
            let uptime =
                |(from, to): &(UnixMs, UnixMs)| uptime::uptime(before, &flips, &closed, *from, *to);
            let uptimes = spans.iter().map(uptime).collect();
            History { flips, uptimes }
        });
        let failed =
            |error| StoreError::Unavailable(format!("the uptime was not computed: {error}"));
        computed.await.map_err(failed)
    }
}
