//! The clock and the randomness of a simulation; both follow from the seed.

use crate::START;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Duration;
use thrum_schema::world::ManualWorld;
use thrum_schema::{UnixMs, World};
use tokio::time::Instant;

/// A reproducible random sequence.
#[derive(Debug, Clone)]
pub struct Chance(Arc<ManualWorld>);

impl Chance {
    /// The sequence for a seed. `label` separates independent sequences of the same seed.
    pub fn new(seed: u64, label: &str) -> Self {
        // FNV-1a: <http://www.isthe.com/chongo/tech/comp/fnv/>.
        let mixed = label.bytes().fold(0xcbf2_9ce4_8422_2325 ^ seed, |hash, b| {
            (hash ^ u64::from(b)).wrapping_mul(0x100_0000_01b3)
        });
        let world = ManualWorld::new(UnixMs(0), mixed);
        // Discard the first output: similar seeds only diverge after a step.
        world.random();
        Self(world)
    }

    /// 128 random bits.
    pub fn bits(&self) -> u128 {
        self.0.random()
    }

    /// A number from `from` to `to`, inclusive.
    pub fn range(&self, from: i64, to: i64) -> i64 {
        let span = (to - from).max(0).unsigned_abs() + 1;
        from + i64::try_from(self.bits() % u128::from(span)).expect("the span fits in i64")
    }

    /// True `n` times in a thousand.
    pub fn per_mille(&self, n: u16) -> bool {
        n > 0 && self.range(0, 999) < i64::from(n)
    }

    /// A random element of a non-empty slice.
    pub fn pick<'a, T>(&self, of: &'a [T]) -> &'a T {
        let last = i64::try_from(of.len()).expect("the length fits in i64") - 1;
        &of[usize::try_from(self.range(0, last)).expect("an index")]
    }
}

/// The simulated clock: it begins at [`START`], and advances when all tasks are idle.
#[derive(Debug, Clone, Copy)]
pub struct Clock(Instant);

impl Clock {
    /// A clock that starts now. Must be called within a runtime.
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// Milliseconds since it started.
    pub fn ms(self) -> i64 {
        i64::try_from(self.0.elapsed().as_millis()).expect("a simulation ends")
    }

    /// The current timestamp.
    pub fn now(self) -> UnixMs {
        START + self.ms()
    }

    /// Waits until `ms` milliseconds have passed since it started.
    pub async fn until(self, ms: i64) {
        tokio::time::sleep_until(self.0 + Duration::from_millis(ms.max(0).unsigned_abs())).await;
    }
}

/// Sleeps for `ms` milliseconds.
pub async fn sleep_ms(ms: i64) {
    tokio::time::sleep(Duration::from_millis(ms.max(0).unsigned_abs())).await;
}

/// The world of a handler: a slightly skewed clock, and its own random sequence.
#[derive(Debug)]
pub struct Skewed {
    clock: Clock,
    skew_ms: i64,
    step: Option<ClockStep>,
    chance: Chance,
}

/// A step of a wall clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClockStep {
    /// When it happens, in simulated milliseconds.
    pub at_ms: i64,
    /// How far it is set forward, in milliseconds; negative for back.
    pub by_ms: i64,
}

impl Skewed {
    /// A world whose clock is `skew_ms` ahead, and may be set.
    pub fn new(clock: Clock, skew_ms: i64, step: Option<ClockStep>, chance: Chance) -> Arc<Self> {
        Arc::new(Self {
            clock,
            skew_ms,
            step,
            chance,
        })
    }
}

impl World for Skewed {
    fn now(&self) -> UnixMs {
        let step = self.step.filter(|step| self.clock.ms() >= step.at_ms);
        self.clock.now() + self.skew_ms + step.map_or(0, |step| step.by_ms)
    }

    fn steady_ms(&self) -> i64 {
        self.clock.ms()
    }

    fn random(&self) -> u128 {
        self.chance.bits()
    }
}
