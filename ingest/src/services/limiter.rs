//! Rate limits in memory, by a clock that no one can set.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};
use thrum_schema::plan::Rate;
use tokio::time::Instant;

/// Above this number of senders, those that have not used anything for a while are forgotten.
const MAX_SENDERS: usize = 10_000;

/// A rate limit for each of many senders.
#[derive(Debug)]
pub struct Limiter<K> {
    started: Instant,
    used: Mutex<HashMap<K, i64>>,
}

impl<K> Default for Limiter<K> {
    fn default() -> Self {
        Self {
            started: Instant::now(),
            used: Mutex::default(),
        }
    }
}

impl<K: Eq + Hash> Limiter<K> {
    /// Whether `sender` may go on.
    ///
    /// # Errors
    /// Milliseconds until it may.
    pub fn check(&self, sender: &K, rate: Rate) -> Result<(), i64> {
        let now = self.now();
        let used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        match used.get(sender).map(|tat| tat - now - rate.burst_ms) {
            Some(wait_ms @ 1..) => Err(wait_ms),
            _ => Ok(()),
        }
    }

    /// Takes `n` from the limit of `sender`, whether or not it has so much: at most twice the limit.
    pub fn count(&self, sender: K, n: usize, rate: Rate) {
        let now = self.now();
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        if used.len() > MAX_SENDERS {
            used.retain(|_, tat| *tat > now);
        }
        let tat = used.entry(sender).or_insert(now);
        let n = i64::try_from(n).unwrap_or(i64::MAX);
        let most = now + 2 * (rate.burst_ms + rate.interval_ms);
        let next = (*tat)
            .max(now)
            .saturating_add(rate.interval_ms.saturating_mul(n));
        *tat = next.min(most);
    }

    /// Takes one from the limit of `sender`.
    ///
    /// # Errors
    /// Milliseconds until there is one. Nothing is taken.
    pub fn take(&self, sender: K, rate: Rate) -> Result<(), i64> {
        self.check(&sender, rate)?;
        self.count(sender, 1, rate);
        Ok(())
    }

    fn now(&self) -> i64 {
        i64::try_from(self.started.elapsed().as_millis()).unwrap_or(i64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[tokio::test(start_paused = true)]
    async fn each_sender_has_its_own_limit() {
        let limiter = Limiter::default();
        let rate = Rate::per_minute(60);
        for _ in 0..60 {
            limiter.take("a", rate).unwrap();
        }
        assert_eq!(limiter.take("a", rate), Err(1_000));
        assert_eq!(limiter.take("b", rate), Ok(()));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(limiter.take("a", rate), Ok(()));
        limiter.count("b", 100, rate);
        assert!(limiter.check(&"b", rate).unwrap_err() > 30_000);
    }
}
