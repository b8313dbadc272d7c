//! Time and chance of a simulation: both follow from the seed.

use crate::START;
use std::sync::Arc;
use std::time::Duration;
use thrum_schema::world::ManualWorld;
use thrum_schema::{UnixMs, World};
use tokio::time::Instant;

/// A reproducible sequence of numbers.
#[derive(Debug, Clone)]
pub struct Chance(Arc<ManualWorld>);

impl Chance {
    /// The sequence of a seed; `label` tells several of the same seed apart.
    pub fn new(seed: u64, label: &str) -> Self {
        // FNV-1a: <http://www.isthe.com/chongo/tech/comp/fnv/>.
        let mixed = label.bytes().fold(0xcbf2_9ce4_8422_2325 ^ seed, |hash, b| {
            (hash ^ u64::from(b)).wrapping_mul(0x100_0000_01b3)
        });
        let world = ManualWorld::new(UnixMs(0), mixed);
        // What is near in the beginning is far apart after some steps.
        world.random();
        Self(world)
    }

    /// 128 random bits.
    pub fn bits(&self) -> u128 {
        self.0.random()
    }

    /// A number from `from` to `to`, both included.
    pub fn range(&self, from: i64, to: i64) -> i64 {
        let span = (to - from).max(0).unsigned_abs() + 1;
        from + i64::try_from(self.bits() % u128::from(span)).expect("it lies within")
    }

    /// True so many times in a thousand.
    pub fn per_mille(&self, n: u16) -> bool {
        n > 0 && self.range(0, 999) < i64::from(n)
    }

    /// One of them.
    pub fn pick<'a, T>(&self, of: &'a [T]) -> &'a T {
        let last = i64::try_from(of.len()).expect("not that many") - 1;
        &of[usize::try_from(self.range(0, last)).expect("an index")]
    }
}

/// The clock of a simulation: it begins at [`START`], and goes on when nobody has anything to do.
#[derive(Debug, Clone, Copy)]
pub struct Clock(Instant);

impl Clock {
    /// A clock that starts now. There must be a runtime.
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// Milliseconds since it started.
    pub fn ms(self) -> i64 {
        i64::try_from(self.0.elapsed().as_millis()).expect("a simulation ends")
    }

    /// The instant that it shows.
    pub fn now(self) -> UnixMs {
        START + self.ms()
    }

    /// Waits until so many milliseconds have passed since it started.
    pub async fn until(self, ms: i64) {
        tokio::time::sleep_until(self.0 + Duration::from_millis(ms.max(0).unsigned_abs())).await;
    }
}

/// Sleeps some milliseconds.
pub async fn sleep_ms(ms: i64) {
    tokio::time::sleep(Duration::from_millis(ms.max(0).unsigned_abs())).await;
}

/// The world of a handler: a clock that is a little off, and numbers of its own.
#[derive(Debug)]
pub struct Skewed {
    clock: Clock,
    skew_ms: i64,
    chance: Chance,
}

impl Skewed {
    /// A world whose clock is `skew_ms` ahead.
    pub fn new(clock: Clock, skew_ms: i64, chance: Chance) -> Arc<Self> {
        Arc::new(Self {
            clock,
            skew_ms,
            chance,
        })
    }
}

impl World for Skewed {
    fn now(&self) -> UnixMs {
        self.clock.now() + self.skew_ms
    }

    fn random(&self) -> u128 {
        self.chance.bits()
    }
}
