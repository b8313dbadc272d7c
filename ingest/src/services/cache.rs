//! What a handler keeps in memory: a small cache, bounded and never older than half a minute; and what is made for a project
//! now and then.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};
use thrum_schema::{ProjectId, UnixMs};

/// How long an entry is believed, in milliseconds.
const FRESH_MS: i64 = 30_000;
/// How many entries are kept.
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
        let (value, until) = entries.get(key)?;
        (now < *until).then(|| value.clone())
    }

    /// Keeps `value` for `key`. A full cache forgets what is stale, or else everything.
    pub fn put(&self, key: K, value: V, now: UnixMs) {
        let mut entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if entries.len() >= MAX_ENTRIES && !entries.contains_key(&key) {
            entries.retain(|_, (_, until)| now < *until);
            if entries.len() >= MAX_ENTRIES {
                entries.clear();
            }
        }
        entries.insert(key, (value, now + FRESH_MS));
    }

    /// Forgets `key`.
    pub fn forget(&self, key: &K) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(key);
    }
}

/// Something that is made for a project; whoever asks while it is made waits for it.
pub type Slot<T> = Arc<tokio::sync::Mutex<Option<T>>>;

/// What is kept of each project.
#[derive(Debug)]
pub struct ByProject<T>(Mutex<HashMap<ProjectId, Slot<T>>>);

impl<T> Default for ByProject<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T> ByProject<T> {
    /// The slot of `project`. Beyond `most` of them, those that nobody uses now are forgotten.
    pub fn of(&self, project: ProjectId, most: usize) -> Slot<T> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() > most {
            kept.retain(|_, slot| Arc::strong_count(slot) > 1);
        }
        Arc::clone(kept.entry(project).or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_age_and_are_bounded() {
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
