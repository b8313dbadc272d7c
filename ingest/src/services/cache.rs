//! Caches in memory: a bounded one whose entries are valid for half a minute, and one with a slot
//! per project.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};
use thrum_schema::{ProjectId, UnixMs};

/// How long an entry is valid, in milliseconds.
const FRESH_MS: i64 = 30_000;
/// The most entries to keep.
const MAX_ENTRIES: usize = 20_000;

#[derive(Debug)]
pub struct Cache<K, V>(Mutex<HashMap<K, (V, UnixMs)>>);

impl<K, V> Default for Cache<K, V> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Eq + Hash, V: Clone> Cache<K, V> {
    /// The value of `key`, if it was put within the last half minute.
    pub fn get(&self, key: &K, now: UnixMs) -> Option<V> {
        let entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (value, put) = entries.get(key)?;
        put.is_within(FRESH_MS, now).then(|| value.clone())
    }

    /// Stores `value` for `key`. A full cache drops its stale entries, or else all of them.
    pub fn put(&self, key: K, value: V, now: UnixMs) {
        let mut entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if entries.len() >= MAX_ENTRIES && !entries.contains_key(&key) {
            entries.retain(|_, (_, put)| put.is_within(FRESH_MS, now));
            if entries.len() >= MAX_ENTRIES {
                entries.clear();
            }
        }
        entries.insert(key, (value, now));
    }

    /// Forgets `key`.
    pub fn forget(&self, key: &K) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(key);
    }
}

/// A value computed for a project. Its lock makes concurrent requests wait for one computation.
pub type Slot<T> = Arc<tokio::sync::Mutex<Option<T>>>;

/// A slot for each project.
#[derive(Debug)]
pub struct ByProject<T>(Mutex<HashMap<ProjectId, Slot<T>>>);

impl<T> Default for ByProject<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T> ByProject<T> {
    /// The slot of `project`. With more than `most` slots, those not in use are dropped.
    pub fn of(&self, project: ProjectId, most: usize) -> Slot<T> {
        let mut slots = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if slots.len() > most {
            slots.retain(|_, slot| Arc::strong_count(slot) > 1);
        }
        Arc::clone(slots.entry(project).or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_expire_and_their_number_is_bounded() {
        let cache = Cache::default();
        cache.put(1, "one", UnixMs(0));
        assert_eq!(cache.get(&1, UnixMs(FRESH_MS - 1)), Some("one"));
        assert_eq!(cache.get(&1, UnixMs(FRESH_MS)), None);
        for key in 0..MAX_ENTRIES + 10 {
            cache.put(key, "", UnixMs(1));
        }
        assert!(cache.0.lock().unwrap().len() <= MAX_ENTRIES);
    }
}
