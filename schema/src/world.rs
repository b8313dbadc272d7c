//! The only source of time and randomness. Everything else takes them as arguments, so that a test
//! or a seeded simulation controls both.

use crate::time::UnixMs;
use std::fmt::Debug;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Instant;
use uuid::Uuid;

/// A handler's clock and source of randomness.
pub trait World: Send + Sync + Debug {
    /// The current time.
    fn now(&self) -> UnixMs;

    /// Milliseconds since some point in the past, by a clock that nobody can set.
    fn steady_ms(&self) -> i64;

    /// 128 random bits; cryptographically secure outside tests.
    fn random(&self) -> u128;

    /// A random (version 4) UUID.
    fn uuid_v4(&self) -> Uuid {
        uuid::Builder::from_random_bytes(self.random().to_be_bytes()).into_uuid()
    }

    /// A time-ordered (version 7) UUID for `now`.
    fn uuid_v7(&self, now: UnixMs) -> Uuid {
        let random = self.random().to_be_bytes();
        let mut tail = [0; 10];
        tail.copy_from_slice(&random[..10]);
        uuid::Builder::from_unix_timestamp_millis(now.0.max(0).cast_unsigned(), &tail).into_uuid()
    }

    /// A uniform number in `0.0..1.0`, for jitter.
    fn jitter(&self) -> f64 {
        // The top 53 bits fill a double's mantissa.
        #[expect(clippy::cast_precision_loss, reason = "53 bits fit an f64 exactly")]
        let unit = (self.random() >> 75) as f64 / (1u64 << 53) as f64;
        unit
    }
}

/// The real clock and the operating system's randomness.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemWorld;

impl SystemWorld {
    /// A shared handle.
    pub fn arc() -> Arc<dyn World> {
        Arc::new(Self)
    }
}

impl World for SystemWorld {
    #[expect(clippy::disallowed_methods, reason = "this is the edge")]
    fn now(&self) -> UnixMs {
        chrono::Utc::now().into()
    }

    fn steady_ms(&self) -> i64 {
        static START: LazyLock<Instant> = LazyLock::new(Instant::now);
        i64::try_from(START.elapsed().as_millis()).unwrap_or(i64::MAX)
    }

    fn random(&self) -> u128 {
        rand::random()
    }
}

/// For tests: a clock that only moves when it is set, and a reproducible sequence of random
/// numbers.
#[derive(Debug)]
pub struct ManualWorld {
    now_ms: AtomicI64,
    steady_ms: AtomicI64,
    state: AtomicU64,
}

impl ManualWorld {
    /// A world at `now`, with randomness seeded by `seed`.
    pub fn new(now: UnixMs, seed: u64) -> Arc<Self> {
        Arc::new(Self {
            now_ms: AtomicI64::new(now.0),
            steady_ms: AtomicI64::new(0),
            state: AtomicU64::new(seed),
        })
    }

    /// Sets the wall clock to `now`.
    pub fn set(&self, now: UnixMs) {
        self.now_ms.store(now.0, Ordering::SeqCst);
    }

    /// Advances the clock by `ms` and returns the new time.
    pub fn advance(&self, ms: i64) -> UnixMs {
        self.steady_ms.fetch_add(ms, Ordering::SeqCst);
        UnixMs(self.now_ms.fetch_add(ms, Ordering::SeqCst) + ms)
    }

    /// SplitMix64: <https://prng.di.unimi.it/splitmix64.c>.
    fn next(&self) -> u64 {
        const GAMMA: u64 = 0x9e37_79b9_7f4a_7c15;
        let mut z = self
            .state
            .fetch_add(GAMMA, Ordering::SeqCst)
            .wrapping_add(GAMMA);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

impl World for ManualWorld {
    fn now(&self) -> UnixMs {
        UnixMs(self.now_ms.load(Ordering::SeqCst))
    }

    fn steady_ms(&self) -> i64 {
        self.steady_ms.load(Ordering::SeqCst)
    }

    fn random(&self) -> u128 {
        u128::from(self.next()) << 64 | u128::from(self.next())
    }
}
