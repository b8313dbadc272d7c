//! The values of the same hour or day in the past: their medians.

use super::shift::Shift;
use serde::{Deserialize, Serialize};

/// How far a value moves the offset, at most: as if it were this far from the median.
const MAX_PULL: f64 = 0.2;

/// Most values of a slot.
pub const MOST: usize = 8;
/// A time within the slots.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Place {
    /// The number of the slot since the epoch.
    slot: i64,
    index: usize,
    /// For values between the centres of two slots: that of the first one, and the share of the
    /// second.
    between: Option<(usize, f64)>,
}

/// The medians of the slots of a day or a week, and how far the level is from them now.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Slots {
    depth: u8,
    slots: Vec<Slot>,
    /// The current level, as a multiple of the medians, or as a difference if some values are not
    /// above zero.
    times: f64,
    plus: f64,
    /// The slot in progress, if several values share one: its number since the epoch, the sum and
    /// the count.
    open: Option<(i64, f64, u32)>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Slot {
    next: u8,
    /// By age, as a ring.
    values: Vec<f64>,
    /// The indices of the values, from the least to the greatest.
    order: [u8; MOST],
    median: f64,
}

impl Slot {
    fn push(&mut self, x: f64, depth: u8) {
        let n = self.values.len();
        let index = if n < usize::from(depth) {
            self.values.push(x);
            n
        } else {
            let oldest = usize::from(self.next);
            self.values[oldest] = x;
            self.next = if self.next + 1 == depth {
                0
            } else {
                self.next + 1
            };
            oldest
        };
        // Close the gap that the oldest value leaves, then let the greater ones make room.
        let others = n.min(usize::from(depth) - 1);
        let mut gap = 0;
        while gap < others && usize::from(self.order[gap]) != index {
            gap += 1;
        }
        for i in gap..others {
            self.order[i] = self.order[i + 1];
        }
        let mut to = others;
        while to > 0 && self.values[usize::from(self.order[to - 1])] > x {
            self.order[to] = self.order[to - 1];
            to -= 1;
        }
        self.order[to] = index as u8;
        let n = self.values.len();
        let at = |rank: usize| self.values[usize::from(self.order[rank])];
        self.median = f64::midpoint(at((n - 1) / 2), at(n / 2));
    }

    /// The median of at least two values.
    fn median(&self) -> Option<f64> {
        (self.values.len() >= 2).then_some(self.median)
    }
}

impl Slots {
    /// `count` slots, each with the last `depth` (at most [`MOST`]) values.
    pub fn new(count: usize, depth: u8) -> Self {
        Self {
            depth,
            slots: vec![Slot::default(); count],
            times: 1.0,
            plus: 0.0,
            open: None,
        }
    }

    /// Where `at` is, a number of slots since the epoch. If `is_fine`, several values share a slot,
    /// and those between two centres are interpolated.
    #[expect(clippy::cast_possible_truncation, reason = "slots since the epoch")]
    pub fn place(&self, at: f64, is_fine: bool) -> Place {
        let slot = at.floor() as i64;
        let index = slot.rem_euclid(self.slots.len() as i64).unsigned_abs() as usize;
        let between = is_fine.then(|| {
            let share = at - at.floor() - 0.5;
            if share < 0.0 {
                (self.before(index), share + 1.0)
            } else {
                (index, share)
            }
        });
        Place {
            slot,
            index,
            between,
        }
    }

    const fn before(&self, index: usize) -> usize {
        if index == 0 {
            self.slots.len() - 1
        } else {
            index - 1
        }
    }

    const fn after(&self, index: usize) -> usize {
        if index + 1 == self.slots.len() {
            0
        } else {
            index + 1
        }
    }

    /// What is expected.
    pub fn expect(&self, place: &Place) -> Option<f64> {
        Some(self.base(place)? * self.times + self.plus)
    }

    /// What is expected a slot earlier and a slot later.
    pub fn around(&self, place: &Place) -> [Option<f64>; 2] {
        let moved = |first, index| Place {
            index,
            between: place.between.map(|(_, share)| (first, share)),
            ..*place
        };
        let first = place.between.map_or(0, |(first, _)| first);
        [
            self.expect(&moved(self.before(first), self.before(place.index))),
            self.expect(&moved(self.after(first), self.after(place.index))),
        ]
    }

    fn base(&self, place: &Place) -> Option<f64> {
        let Some((first, share)) = place.between else {
            return self.slots[place.index].median();
        };
        let (left, right) = (&self.slots[first], &self.slots[self.after(first)]);
        Some(left.median()? * (1.0 - share) + right.median()? * share)
    }

    /// Notes a value. `weight` is how much the offset follows it; `are_positive` whether all values
    /// so far were above zero.
    pub fn learn(&mut self, place: &Place, x: f64, weight: f64, are_positive: bool) {
        if let Some(base) = self.base(place) {
            if are_positive {
                let now = base * self.times;
                self.times *= 1.0 + weight * (x / now - 1.0).clamp(-MAX_PULL, MAX_PULL);
            } else {
                if self.times != 1.0 {
                    self.plus += base * (self.times - 1.0);
                    self.times = 1.0;
                }
                self.plus += weight * (x - base - self.plus);
            }
        }
        if place.between.is_none() {
            self.slots[place.index].push(x, self.depth);
            return;
        }
        match &mut self.open {
            Some((open, sum, count)) if *open == place.slot => {
                *sum += x;
                *count += 1;
            }
            open => {
                let before = open.replace((place.slot, x, 1));
                if let Some((slot, sum, count)) = before {
                    let index = slot.rem_euclid(self.slots.len() as i64).unsigned_abs() as usize;
                    self.slots[index].push(sum / f64::from(count), self.depth);
                }
            }
        }
    }

    /// Moves all values to a new level.
    pub fn shift(&mut self, shift: Shift) {
        for slot in &mut self.slots {
            for value in &mut slot.values {
                *value = shift.of(*value);
            }
            slot.median = shift.of(slot.median);
        }
        if let Some((_, sum, count)) = &mut self.open {
            *sum = shift.of(*sum / f64::from(*count)) * f64::from(*count);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signal::engine::detector::window::median;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_median_is_that_of_the_last_values(
            values in prop::collection::vec(prop_oneof![-9.0..9.0_f64, Just(3.0)], 1..40), depth in 1..=8_u8,
        ) {
            let mut slot = Slot::default();
            for (i, x) in values.iter().enumerate() {
                slot.push(*x, depth);
                let mut last = values[(i + 1).saturating_sub(usize::from(depth))..=i].to_vec();
                last.sort_by(f64::total_cmp);
                prop_assert_eq!(Some(slot.median), median(&last));
            }
        }
    }
}
