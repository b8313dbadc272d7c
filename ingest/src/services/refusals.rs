//! Heartbeats that Thrum refused for no fault of their senders: evaluate gives monitors more time then
//! (T3).

use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use thrum_schema::outage::Traffic;
use thrum_store::Store;
use tokio::time::Instant;

/// How often refused heartbeats are recorded.
const RECORD_EVERY: Duration = Duration::from_secs(5);

/// Heartbeats since the last record. While none is refused, nothing is written.
#[derive(Debug, Default)]
pub struct Refusals(Mutex<Unrecorded>);

#[derive(Debug, Default)]
struct Unrecorded {
    traffic: Traffic,
    recorded: Option<Instant>,
}

impl Refusals {
    /// Counts a heartbeat, and records the refused ones from time to time.
    pub async fn count(&self, store: &Store, refused: bool) {
        let Some(traffic) = self.due(refused) else {
            return;
        };
        let recorded = store.count_refusals(store.world().now(), traffic).await;
        if let Err(error) = recorded {
            tracing::warn!(%error, "failed to record refused heartbeats; trying again");
            let mut unrecorded = self.lock();
            unrecorded.traffic.all += traffic.all;
            unrecorded.traffic.refused += traffic.refused;
        }
    }

    /// The heartbeats to record, if it is time.
    fn due(&self, refused: bool) -> Option<Traffic> {
        let mut unrecorded = self.lock();
        unrecorded.traffic.all += 1;
        unrecorded.traffic.refused += u64::from(refused);
        let began = *unrecorded.recorded.get_or_insert_with(Instant::now);
        if began.elapsed() < RECORD_EVERY {
            return None;
        }
        unrecorded.recorded = Some(Instant::now());
        let traffic = std::mem::take(&mut unrecorded.traffic);
        (traffic.refused > 0).then_some(traffic)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Unrecorded> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn heartbeats_are_recorded_only_if_some_are_refused() {
        let refusals = Refusals::default();
        for _ in 0..10 {
            assert_eq!(refusals.due(false), None);
        }
        assert_eq!(refusals.due(true), None);
        tokio::time::advance(RECORD_EVERY).await;
        let traffic = Traffic {
            all: 12,
            refused: 1,
        };
        assert_eq!(refusals.due(false), Some(traffic));
        tokio::time::advance(RECORD_EVERY).await;
        assert_eq!(refusals.due(false), None);
    }
}
