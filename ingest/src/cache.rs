//! A small cache in a handler's memory: bounded, and never older than half a minute.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};
use thrum_schema::UnixMs;

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
