//! The last values, sorted: their median and their median absolute deviation.

use super::shift::Shift;
use serde::{Deserialize, Serialize};

/// The standard deviation of normally distributed values, as a multiple of their median absolute
/// deviation, and of their mean absolute deviation.
const MAD: f64 = 1.482_602;
const MEAN: f64 = 1.253_314;

/// Up to how many values are counted instead of searched.
const COUNTED: usize = 64;

/// The last values.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Window {
    n: u32,
    next: u32,
    /// By age, as a ring.
    values: Vec<f64>,
    sorted: Vec<f64>,
}

impl Window {
    pub const fn new(n: u32) -> Self {
        Self {
            n,
            next: 0,
            values: Vec::new(),
            sorted: Vec::new(),
        }
    }

    pub const fn is_full(&self) -> bool {
        self.values.len() == self.n as usize
    }

    /// How many values are below `x`. Few are counted rather than searched: that has no branches
    /// to mispredict.
    fn below(&self, x: f64) -> usize {
        if self.sorted.len() <= COUNTED {
            self.sorted
                .iter()
                .map(|value| usize::from(*value < x))
                .sum()
        } else {
            self.sorted.partition_point(|value| *value < x)
        }
    }

    pub fn push(&mut self, x: f64) {
        let to = self.below(x);
        if !self.is_full() {
            self.values.push(x);
            self.sorted.insert(to, x);
            return;
        }
        let old = std::mem::replace(&mut self.values[self.next as usize], x);
        self.next += 1;
        if self.next == self.n {
            self.next = 0;
        }
        // The new value takes the place of the old one; those between them move by one.
        let from = self.below(old);
        if from < to {
            self.sorted.copy_within(from + 1..to, from);
            self.sorted[to - 1] = x;
        } else {
            self.sorted.copy_within(to..from, to + 1);
            self.sorted[to] = x;
        }
    }

    /// The oldest value, once the window is full.
    pub fn oldest(&self) -> Option<f64> {
        self.is_full().then(|| self.values[self.next as usize])
    }

    /// The median; `None` without values.
    pub fn median(&self) -> Option<f64> {
        median(&self.sorted)
    }

    /// The robust standard deviation about the median `centre`.
    pub fn deviation(&self, centre: f64) -> f64 {
        let mad = MAD * self.median_distance(centre);
        if mad > 0.0 {
            return mad;
        }
        // More than half of the values are the same.
        let sum: f64 = self.sorted.iter().map(|x| (x - centre).abs()).sum();
        MEAN * sum / self.sorted.len().max(1) as f64
    }

    /// The median distance from the median `centre`.
    fn median_distance(&self, centre: f64) -> f64 {
        let n = self.sorted.len();
        let right = self.sorted.partition_point(|x| *x < centre);
        let upper = self.distance(centre, right, n / 2);
        if n.is_multiple_of(2) {
            f64::midpoint(self.distance(centre, right, n / 2 - 1), upper)
        } else {
            upper
        }
    }

    /// The `rank`th smallest distance from `centre`, from 0. The values on either side of it, of
    /// which `right` are below it, are sorted by their distance, so a binary search finds how many
    /// of each side are nearer.
    fn distance(&self, centre: f64, right: usize, rank: usize) -> f64 {
        let below = |i: usize| centre - self.sorted[right - 1 - i];
        let above = |i: usize| self.sorted[right + i] - centre;
        let (n_below, n_above) = (right, self.sorted.len() - right);
        // How many of the `rank` nearest are below.
        let (mut least, mut most) = (rank.saturating_sub(n_above), rank.min(n_below));
        while least < most {
            let taken = usize::midpoint(least, most);
            if below(taken) < above(rank - taken - 1) {
                least = taken + 1;
            } else {
                most = taken;
            }
        }
        let next_below = (least < n_below).then(|| below(least));
        let next_above = (rank - least < n_above).then(|| above(rank - least));
        match (next_below, next_above) {
            (Some(below), Some(above)) => below.min(above),
            (below, above) => below.or(above).unwrap_or_default(),
        }
    }

    /// Moves all values to a new level.
    pub fn shift(&mut self, shift: Shift) {
        for value in self.values.iter_mut().chain(&mut self.sorted) {
            *value = shift.of(*value);
        }
    }
}

/// The median of sorted values; `None` without values.
pub fn median(sorted: &[f64]) -> Option<f64> {
    let n = sorted.len();
    let upper = *sorted.get(n / 2)?;
    Some(if n.is_multiple_of(2) {
        f64::midpoint(sorted[n / 2 - 1], upper)
    } else {
        upper
    })
}

/// A value that follows another slowly, with the size of its deviations.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Mean {
    pub count: u32,
    pub mean: f64,
    variance: f64,
}

impl Mean {
    pub fn new() -> Self {
        Self {
            count: 0,
            mean: 0.0,
            variance: 0.0,
        }
    }

    pub fn deviation(&self) -> f64 {
        self.variance.sqrt()
    }

    pub fn learn(&mut self, x: f64, alpha: f64) {
        if self.count == 0 {
            self.mean = x;
        }
        self.count = self.count.saturating_add(1);
        let d = x - self.mean;
        self.mean += alpha * d;
        self.variance = (1.0 - alpha) * (self.variance + alpha * d * d);
    }

    pub fn shift(&mut self, shift: Shift) {
        self.mean = shift.of(self.mean);
        if let Shift::Times(factor) = shift {
            self.variance *= factor * factor;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn medians_and_distances_equal_those_of_sorting(
            values in prop::collection::vec(prop_oneof![-9.0..9.0_f64, Just(3.0)], 1..60), n in 1..20_u32,
        ) {
            let mut window = Window::new(n);
            for (i, x) in values.iter().enumerate() {
                window.push(*x);
                let mut last = values[(i + 1).saturating_sub(n as usize)..=i].to_vec();
                last.sort_by(f64::total_cmp);
                prop_assert_eq!(&window.sorted, &last);
                let centre = window.median().unwrap();
                let mut distances: Vec<f64> = last.iter().map(|x| (x - centre).abs()).collect();
                distances.sort_by(f64::total_cmp);
                prop_assert_eq!(Some(window.median_distance(centre)), median(&distances));
            }
        }
    }
}
