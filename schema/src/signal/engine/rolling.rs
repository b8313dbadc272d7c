//! Rolling windows over the last bars. Each takes O(1) per bar, and is as exact after a million
//! bars as after one.

use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

/// The last `n` values.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Ring {
    values: Vec<f64>,
    n: u32,
    next: u32,
}

impl Ring {
    pub fn new(n: u32) -> Self {
        Self {
            values: Vec::with_capacity(n as usize),
            n,
            next: 0,
        }
    }

    /// Pushes a value. Returns the value that leaves the window, if it was full.
    #[inline]
    pub fn push(&mut self, value: f64) -> Option<f64> {
        if self.values.len() < self.n as usize {
            self.values.push(value);
            return None;
        }
        let old = std::mem::replace(&mut self.values[self.next as usize], value);
        self.next += 1;
        if self.next == self.n {
            self.next = 0;
        }
        Some(old)
    }

    #[inline]
    pub fn is_full(&self) -> bool {
        self.values.len() == self.n as usize
    }

    /// Whether the oldest value is in the first slot, which is so once every `n` values.
    #[inline]
    pub fn is_round(&self) -> bool {
        self.next == 0
    }

    /// The sum of the values, weighted from 1 for the oldest to `n` for the newest.
    pub fn weighted(&self) -> f64 {
        let (newer, older) = self.values.split_at(self.next as usize);
        let in_order = older.iter().chain(newer);
        let weights = (1..=self.n).map(f64::from);
        Sum::of(in_order.zip(weights).map(|(x, weight)| x * weight)).get()
    }

    /// The values, in no particular order.
    pub fn values(&self) -> &[f64] {
        &self.values
    }
}

/// A sum in double-double precision (Knuth's TwoSum), so that values can enter and leave without
/// accumulating rounding errors.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Sum {
    hi: f64,
    lo: f64,
}

/// How many times the remaining sum a leaving value may be before too many digits are lost.
const MAX_CANCELLED: f64 = (1_u64 << 40) as f64;

impl Sum {
    #[inline]
    pub fn add(&mut self, x: f64) {
        let s = self.hi + x;
        let b = s - self.hi;
        let error = (self.hi - (s - b)) + (x - b);
        let lo = self.lo + error;
        self.hi = s + lo;
        self.lo = lo - (self.hi - s);
    }

    #[inline]
    pub const fn get(self) -> f64 {
        self.hi
    }

    /// Whether `old`, which has just left, was so much larger than the rest that the sum must be
    /// recomputed.
    #[inline]
    fn lost_by(self, old: f64) -> bool {
        old.abs() > MAX_CANCELLED * self.hi.abs()
    }

    fn of(values: impl Iterator<Item = f64>) -> Self {
        let mut sum = Self::default();
        values.for_each(|x| sum.add(x));
        sum
    }
}

/// The mean of the last `n` values. For `n` equal values, it is exactly that value.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Mean {
    ring: Ring,
    sum: Sum,
    last: f64,
    run: u32,
}

impl Mean {
    pub fn new(n: u32) -> Self {
        Self {
            ring: Ring::new(n),
            sum: Sum::default(),
            last: f64::NAN,
            run: 0,
        }
    }

    /// Pushes a value. Returns the value that leaves the window, if it was full.
    #[inline]
    pub fn push(&mut self, x: f64) -> Option<f64> {
        self.run = if x == self.last {
            self.run.saturating_add(1)
        } else {
            1
        };
        self.last = x;
        let old = self.ring.push(x);
        self.sum.add(x);
        if let Some(old) = old {
            self.sum.add(-old);
            if self.sum.lost_by(old) {
                self.sum = Sum::of(self.ring.values().iter().copied());
            }
        }
        old
    }

    #[inline]
    pub fn is_full(&self) -> bool {
        self.ring.is_full()
    }

    /// The sum of the values.
    #[inline]
    pub const fn sum(&self) -> f64 {
        self.sum.get()
    }

    /// The mean; NaN until the window is full.
    #[inline]
    pub fn get(&self) -> f64 {
        if !self.is_full() {
            f64::NAN
        } else if self.run >= self.ring.n {
            self.last
        } else {
            self.sum.get() / f64::from(self.ring.n)
        }
    }
}

/// Mean and standard deviation of the last `n` values, computed about a pivot near them for
/// precision.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Moments {
    mean: Mean,
    pivot: f64,
    first: Sum,
    second: Sum,
}

/// How many standard deviations the pivot may be from the mean before it is moved.
const MAX_OFF: f64 = 1e3;

impl Moments {
    pub fn new(n: u32) -> Self {
        Self {
            mean: Mean::new(n),
            pivot: f64::NAN,
            first: Sum::default(),
            second: Sum::default(),
        }
    }

    #[inline]
    pub fn push(&mut self, x: f64) {
        if self.pivot.is_nan() {
            self.pivot = x;
        }
        let old = self.mean.push(x);
        let d = x - self.pivot;
        self.first.add(d);
        self.second.add(d * d);
        let Some(old) = old else { return };
        let d = old - self.pivot;
        self.first.add(-d);
        self.second.add(-(d * d));
        let off = self.first.get() * self.first.get() / f64::from(self.mean.ring.n);
        let spread = self.second.get() - off;
        let far = off > MAX_OFF * MAX_OFF * spread && off > 0.0;
        if far || self.second.lost_by(d * d) || self.first.lost_by(d) {
            self.centre(x);
        }
    }

    /// Moves the pivot to the mean, or to `x` if the mean is unknown, and recomputes the sums.
    fn centre(&mut self, x: f64) {
        let mean = self.mean.get();
        self.pivot = if mean.is_finite() { mean } else { x };
        let pivot = self.pivot;
        let deviations = || self.mean.ring.values().iter().map(move |x| x - pivot);
        self.first = Sum::of(deviations());
        self.second = Sum::of(deviations().map(|d| d * d));
    }

    /// The mean; NaN until the window is full.
    #[inline]
    pub fn mean(&self) -> f64 {
        self.mean.get()
    }

    /// The standard deviation with divisor `n - less`; NaN until the window is full.
    #[inline]
    pub fn deviation(&self, less: u32) -> f64 {
        let n = self.mean.ring.n;
        if !self.mean.is_full() {
            return f64::NAN;
        }
        if self.mean.run >= n {
            return 0.0;
        }
        let n = f64::from(n);
        let squares = self.second.get() - self.first.get() * self.first.get() / n;
        (squares.max(0.0) / (n - f64::from(less))).sqrt()
    }
}

/// The maximum of the last `n` values: a queue of those that can still become the maximum.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Highest {
    queue: VecDeque<(u64, f64)>,
    n: u32,
    count: u64,
}

impl Highest {
    pub fn new(n: u32) -> Self {
        Self {
            queue: VecDeque::new(),
            n,
            count: 0,
        }
    }

    /// Pushes a value. Returns the maximum; NaN until the window is full.
    #[inline]
    pub fn push(&mut self, x: f64) -> f64 {
        while self.queue.back().is_some_and(|(_, value)| *value <= x) {
            self.queue.pop_back();
        }
        self.queue.push_back((self.count, x));
        self.count += 1;
        if self
            .queue
            .front()
            .is_some_and(|(i, _)| *i + u64::from(self.n) < self.count)
        {
            self.queue.pop_front();
        }
        match self.queue.front() {
            Some((_, value)) if self.count >= u64::from(self.n) => *value,
            _ => f64::NAN,
        }
    }
}
