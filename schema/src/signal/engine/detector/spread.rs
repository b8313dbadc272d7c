//! How far values usually are from what was expected.

use serde::{Deserialize, Serialize};

const HOUR_MS: i64 = 3_600_000;
/// How much stricter limits are for values that come more often than hourly.
const OFTEN: f64 = 0.2;
/// Weight of a new deviation in the mean deviation, once there are enough.
const WEIGHT: f64 = 0.02;
/// The standard deviation of normally distributed values, as a multiple of their mean deviation.
const NORMAL: f64 = 1.253_314;
/// Steps of the quantiles: largest at the start, smallest later.
const STEPS: (f64, f64) = (0.1, 0.04);
/// The share of `q99² / q90` that limits have. For normally distributed values, it gives 3.3
/// standard deviations, which one of 1,000 values exceeds; for heavier tails it gives more.
const TAIL: f64 = 0.83;
/// How much wider limits are for few values: by this over their number.
const FEW: f64 = 4.0;
/// Weight of a new deviation in the relation between level and deviation.
const SLOPE_WEIGHT: f64 = 0.01;
/// The slope that is assumed as long as the levels hardly differ, and the variance of their
/// logarithms at which it counts as much as what was seen.
const SLOPE: f64 = 0.75;
const SLOPE_PRIOR: f64 = 0.05;

/// What is too much.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Strictness {
    /// As many standard deviations.
    pub k: f64,
    /// More, if the deviations have a heavier tail than the normal distribution.
    pub by_tail: bool,
}

impl Strictness {
    /// For comparisons whose limits do not matter.
    pub const ANY: Self = Self {
        k: 4.0,
        by_tail: false,
    };

    /// For values that come every `interval_ms`, of which `often` is [`Self::often`].
    pub fn new(k: f64, interval_ms: i64, often: f64) -> Self {
        Self {
            k: k * often,
            by_tail: interval_ms < 12 * HOUR_MS,
        }
    }

    /// How much wider limits are by how often values come: the more often, the rarer each may be
    /// beyond the limits.
    #[expect(clippy::cast_precision_loss, reason = "milliseconds")]
    pub fn often(interval_ms: i64) -> f64 {
        let per_hour = HOUR_MS as f64 / interval_ms as f64;
        (1.0 + OFTEN * per_hour.max(1.0).ln()).sqrt()
    }
}

/// The scale on which deviations are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scale {
    /// The value.
    Linear,
    /// Its root.
    Root,
}

impl Scale {
    /// Values that were never negative vary more the larger they are, and more upwards than
    /// downwards.
    pub const fn new(is_never_negative: bool) -> Self {
        if is_never_negative {
            Self::Root
        } else {
            Self::Linear
        }
    }

    pub fn of(self, x: f64) -> f64 {
        match self {
            Self::Linear => x,
            Self::Root => x.abs().sqrt().copysign(x),
        }
    }

    pub fn back(self, y: f64) -> f64 {
        match self {
            Self::Linear => y,
            Self::Root => y * y.abs(),
        }
    }
}

/// The size of deviations, and the weight of their tail.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Tail {
    n: u32,
    /// The mean absolute deviation.
    mean: f64,
    /// Quantiles of the absolute deviations, in standard deviations.
    q90: f64,
    q99: f64,
}

impl Default for Tail {
    fn default() -> Self {
        Self {
            n: 0,
            mean: 0.0,
            q90: 1.645,
            q99: 2.576,
        }
    }
}

impl Tail {
    pub fn deviation(&self) -> f64 {
        NORMAL * self.mean
    }

    /// The deviation that is too much.
    pub fn limit(&self, strictness: Strictness) -> f64 {
        let Strictness { k, by_tail } = strictness;
        let tail = if by_tail {
            TAIL * self.q99 * self.q99 / self.q90
        } else {
            0.0
        };
        self.deviation() * k.max(tail) * (1.0 + FEW / f64::from(self.n.max(1)))
    }

    pub fn learn(&mut self, size: f64) {
        let sigma = self.deviation();
        self.n = self.n.saturating_add(1);
        self.mean += (size - self.mean) * WEIGHT.max(1.0 / f64::from(self.n));
        if self.n < 10 || sigma == 0.0 {
            return;
        }
        let z = size / sigma;
        let step = (20.0 / f64::from(self.n)).clamp(STEPS.1, STEPS.0);
        let moved = |q: f64, share: f64| {
            let up = if z > q { 1.0 } else { 0.0 };
            q * (1.0 + step * (up - share))
        };
        self.q90 = moved(self.q90, 0.1).max(0.5);
        self.q99 = moved(self.q99, 0.01).max(self.q90);
    }
}

/// The size of deviations as a function of the level: `level^slope`, with a slope between 0 (the
/// same everywhere) and 1 (proportional).
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    /// Deviations of single values.
    one: Tail,
    /// Sums of three deviations in a row.
    three: Tail,
    before: [f64; 2],
    /// Whether some levels were not above zero. Then deviations are the same everywhere.
    is_signed: bool,
    n: u32,
    level: f64,
    size: f64,
    level_variance: f64,
    covariance: f64,
    slope: f64,
}

/// A deviation, compared with what is usual.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Compared {
    /// The deviation of this value, as a fraction of what is too much; negative below the level.
    pub alone: f64,
    /// The deviation of this value and the two before it together, likewise.
    pub together: f64,
    /// The deviation that is too much.
    pub limit: f64,
    /// The logarithm of the level, and how much larger than average deviations are there.
    level: f64,
    factor: f64,
}

impl Compared {
    /// A deviation from something else than a level.
    pub fn of(alone: f64, together: f64, limit: f64) -> Self {
        Self {
            alone,
            together,
            limit,
            level: 0.0,
            factor: 1.0,
        }
    }
}

impl Spread {
    /// The logarithm of the level, and how much larger than average deviations are there.
    fn factor(&self, level: f64) -> (f64, f64) {
        if level <= 0.0 || self.is_signed {
            return (f64::NEG_INFINITY, 1.0);
        }
        let level = level.ln();
        (level, (self.slope * (level - self.level)).exp())
    }

    /// Compares the deviation of a value from `level`.
    pub fn compare(&self, level: f64, deviation: f64, strictness: Strictness) -> Compared {
        let (level, factor) = self.factor(level);
        let sum = deviation / factor + self.before[0] + self.before[1];
        let limit = factor * self.one.limit(strictness);
        Compared {
            alone: share(deviation, limit),
            together: match self.three.limit(strictness) {
                0.0 => 0.0,
                limit => sum / limit,
            },
            limit,
            level,
            factor,
        }
    }

    /// Notes a deviation that was compared, normal or not. Only what is normal, or the first of
    /// several that are not, changes what is usual: for no more than `usual`.
    pub fn learn(&mut self, deviation: f64, compared: &Compared, usual: Option<f64>) {
        let Compared { level, factor, .. } = *compared;
        let d = deviation / factor;
        let sum = d + self.before[0] + self.before[1];
        self.before = [d, self.before[0]];
        let Some(most) = usual else { return };
        let size = deviation.abs().min(most);
        self.one.learn(size / factor);
        if deviation.abs() <= most {
            self.three.learn(sum.abs());
        }
        let floor = 0.05 * self.one.mean * factor;
        if level == f64::NEG_INFINITY {
            self.is_signed = true;
        } else if size.max(floor) > 0.0 {
            self.relate(level, size.max(floor).ln());
        }
    }

    fn relate(&mut self, level: f64, size: f64) {
        self.n = self.n.saturating_add(1);
        let weight = SLOPE_WEIGHT.max(1.0 / f64::from(self.n));
        let (dl, ds) = (level - self.level, size - self.size);
        self.level += weight * dl;
        self.size += weight * ds;
        self.level_variance = (1.0 - weight) * (self.level_variance + weight * dl * dl);
        self.covariance = (1.0 - weight) * (self.covariance + weight * dl * ds);
        let slope = (self.covariance + SLOPE_PRIOR * SLOPE) / (self.level_variance + SLOPE_PRIOR);
        self.slope = slope.clamp(0.0, 1.0);
    }

    /// The level has changed by `factor`.
    pub fn scale(&mut self, factor: f64) {
        self.level += factor.ln();
    }
}

/// What is too low and too high, and where a value is between them.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    pub low: f64,
    pub high: f64,
    pub compared: Compared,
}

impl Limits {
    /// As far below the expected value as above it.
    pub fn around(centre: f64, compared: Compared) -> Self {
        Self {
            low: centre - compared.limit,
            high: centre + compared.limit,
            compared,
        }
    }

    /// Limits for the value `x` alone.
    pub fn of(centre: f64, limit: f64, x: f64) -> Self {
        let compared = Compared::of(share(x - centre, limit), 0.0, limit);
        Self::around(centre, compared)
    }

    /// Wider, if deviations below `least` do not count.
    pub fn at_least(self, centre: f64, least: f64) -> Self {
        Self {
            low: self.low.min(centre - least),
            high: self.high.max(centre + least),
            ..self
        }
    }
}

/// A deviation as a fraction of its limit.
fn share(deviation: f64, limit: f64) -> f64 {
    if deviation == 0.0 {
        0.0
    } else {
        deviation / limit
    }
}
