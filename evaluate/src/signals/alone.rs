//! One handler of this process at a time follows a track: two equal requests need one computation.
//!
//! Handlers of other processes may still follow it; the version of the track settles that.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use thrum_schema::signal::track::TrackId;
use tokio::sync::OwnedMutexGuard;

type Held = Arc<tokio::sync::Mutex<()>>;

/// The tracks that are followed now. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Following(Arc<Mutex<HashMap<TrackId, Held>>>);

/// The right to follow a track, until it is dropped.
#[derive(Debug)]
pub(super) struct Alone {
    following: Following,
    track: TrackId,
    guard: Option<OwnedMutexGuard<()>>,
}

impl Following {
    /// Waits until nobody else follows the track.
    pub(super) async fn wait(&self, track: &TrackId) -> Alone {
        let guard = self.held(track).lock_owned().await;
        self.alone(track, guard)
    }

    /// `None` if the track is being followed.
    pub(super) fn attempt(&self, track: &TrackId) -> Option<Alone> {
        let guard = self.held(track).try_lock_owned().ok()?;
        Some(self.alone(track, guard))
    }

    fn held(&self, track: &TrackId) -> Held {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(held.entry(track.clone()).or_default())
    }

    fn alone(&self, track: &TrackId, guard: OwnedMutexGuard<()>) -> Alone {
        Alone {
            following: self.clone(),
            track: track.clone(),
            guard: Some(guard),
        }
    }
}

impl Drop for Alone {
    fn drop(&mut self) {
        self.guard = None;
        let following = &self.following.0;
        let mut held = following.lock().unwrap_or_else(PoisonError::into_inner);
        // A task that waits has a reference, too, and references are only taken while the map is locked.
        if held
            .get(&self.track)
            .is_some_and(|held| Arc::strong_count(held) == 1)
        {
            held.remove(&self.track);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use thrum_schema::id::ProjectId;
    use thrum_schema::signal::{SeriesName, Timeframe};

    #[tokio::test]
    async fn a_track_is_followed_by_one_at_a_time_and_forgotten_after_the_last() {
        let track = TrackId {
            project: ProjectId::FIRST,
            series: SeriesName::parse("series", "rows").unwrap(),
            timeframe: Timeframe::HOUR,
            key: "1h#auto@1#0".to_owned(),
        };
        let following = Following::default();
        let first = following.wait(&track).await;
        assert!(following.attempt(&track).is_none());
        let other = TrackId {
            key: "1h#auto@1#1".to_owned(),
            ..track.clone()
        };
        assert!(following.attempt(&other).is_some());
        let waiting = tokio::spawn({
            let (following, track) = (following.clone(), track.clone());
            async move { following.wait(&track).await }
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        drop(first);
        let second = waiting.await.unwrap();
        assert!(following.attempt(&track).is_none());
        drop(second);
        assert!(following.0.lock().unwrap().is_empty());
    }
}
