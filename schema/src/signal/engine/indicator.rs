//! The arithmetic of the indicators. Recursive ones start like TA-Lib's: with the simple mean of
//! the first window.

use super::rolling::{Highest, Mean, Moments, Ring};
use crate::signal::Bar;
use crate::signal::indicator::Kind;
use serde::{Deserialize, Serialize};

/// The outputs of an indicator, in the order of [`Kind::outputs`]; NaN where there is no value yet.
pub type Output = [f64; 3];

const NONE: Output = [f64::NAN; 3];
/// How many times the rest of a weighted mean a leaving value may be before the mean is recomputed.
const MAX_DWARFED: f64 = 1024.0;
/// Largest absolute z-score, so that it is finite even if the deviation is 0.
const MAX_Z: f64 = 1e9;

/// The state of an indicator.
#[expect(missing_docs, reason = "the fields are the terms of each formula")]
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Stepper {
    Sma(Mean),
    Ema(Ema),
    Wma {
        mean: Mean,
        weighted: f64,
        n: u32,
        ring: Ring,
    },
    Rsi {
        last: f64,
        gain: Wilder,
        loss: Wilder,
    },
    Cutler {
        last: f64,
        gain: Mean,
        loss: Mean,
    },
    Macd(Box<Macd>),
    Bollinger {
        moments: Moments,
        k: f64,
    },
    Atr {
        last: f64,
        mean: Wilder,
    },
    Adx(Box<Adx>),
    Stochastic(Box<Stochastic>),
    Obv {
        last: f64,
        sum: f64,
    },
    Donchian {
        high: Highest,
        low: Highest,
    },
    Std(Moments),
    Zscore(Moments),
    Roc(Ring),
    LogReturn(Ring),
    Range {
        high: Highest,
        low: Highest,
    },
    EwmaZ {
        alpha: f64,
        n: u32,
        count: u32,
        mean: f64,
        variance: f64,
    },
}

impl Stepper {
    /// The initial state of an indicator. `args` must be within the bounds of `kind`.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "window lengths are bounded integers"
    )]
    pub fn new(kind: Kind, args: [f64; 3]) -> Self {
        let n = args[0] as u32;
        match kind {
            Kind::Sma => Self::Sma(Mean::new(n)),
            Kind::Ema => Self::Ema(Ema::new(n, 0)),
            Kind::Wma => Self::Wma {
                mean: Mean::new(n),
                weighted: 0.0,
                n,
                ring: Ring::new(n),
            },
            Kind::Rsi => Self::Rsi {
                last: f64::NAN,
                gain: Wilder::new(n),
                loss: Wilder::new(n),
            },
            Kind::RsiCutler => Self::Cutler {
                last: f64::NAN,
                gain: Mean::new(n),
                loss: Mean::new(n),
            },
            Kind::Macd => Self::Macd(Box::new(Macd::new(n, args[1] as u32, args[2] as u32))),
            Kind::Bollinger => Self::Bollinger {
                moments: Moments::new(n),
                k: args[1],
            },
            Kind::Atr => Self::Atr {
                last: f64::NAN,
                mean: Wilder::new(n),
            },
            Kind::Adx => Self::Adx(Box::new(Adx::new(n))),
            Kind::Stochastic => Self::Stochastic(Box::new(Stochastic {
                high: Highest::new(n),
                low: Highest::new(n),
                k: Mean::new(args[1] as u32),
                d: Mean::new(args[2] as u32),
            })),
            Kind::Obv => Self::Obv {
                last: f64::NAN,
                sum: 0.0,
            },
            Kind::Donchian => Self::Donchian {
                high: Highest::new(n),
                low: Highest::new(n),
            },
            Kind::Std => Self::Std(Moments::new(n)),
            Kind::Zscore => Self::Zscore(Moments::new(n)),
            Kind::Roc => Self::Roc(Ring::new(n)),
            Kind::LogReturn => Self::LogReturn(Ring::new(n)),
            Kind::Range => Self::Range {
                high: Highest::new(n),
                low: Highest::new(n),
            },
            Kind::EwmaZ => Self::EwmaZ {
                alpha: args[0],
                n: args[1] as u32,
                count: 0,
                mean: f64::NAN,
                variance: 0.0,
            },
        }
    }

    /// Takes a bar. `x` is the field of the bar that the indicator is computed from.
    #[inline]
    pub fn step(&mut self, bar: &Bar, x: f64) -> Output {
        let one = |value| [value, f64::NAN, f64::NAN];
        match self {
            Self::Sma(mean) => {
                mean.push(x);
                one(mean.get())
            }
            Self::Ema(ema) => one(ema.push(x)),
            Self::Wma {
                mean,
                weighted,
                n,
                ring,
            } => one(wma(mean, weighted, *n, ring, x)),
            Self::Rsi { last, gain, loss } => one(rsi(last, gain, loss, x)),
            Self::Cutler { last, gain, loss } => one(cutler(last, gain, loss, x)),
            Self::Macd(macd) => macd.push(x),
            Self::Bollinger { moments, k } => {
                moments.push(x);
                let (mean, width) = (moments.mean(), *k * moments.deviation(0));
                [mean + width, mean, mean - width]
            }
            Self::Atr { last, mean } => {
                let before = std::mem::replace(last, bar.close);
                if before.is_nan() {
                    return NONE;
                }
                one(mean.push(true_range(bar, before)))
            }
            Self::Adx(adx) => one(adx.push(bar)),
            Self::Stochastic(stochastic) => stochastic.push(bar),
            Self::Obv { last, sum } => one(obv(last, sum, bar, x)),
            Self::Donchian { high, low } => {
                let (high, low) = (high.push(bar.high), -low.push(-bar.low));
                [high, f64::midpoint(high, low), low]
            }
            Self::Std(moments) => {
                moments.push(x);
                one(moments.deviation(1))
            }
            Self::Zscore(moments) => {
                moments.push(x);
                let (mean, deviation) = (moments.mean(), moments.deviation(1));
                one(score(x - mean, deviation))
            }
            Self::Roc(ring) => one(match ring.push(x) {
                Some(before) if before != 0.0 => (x / before - 1.0) * 100.0,
                _ => f64::NAN,
            }),
            Self::LogReturn(ring) => one(match ring.push(x) {
                Some(before) if x / before > 0.0 => (x / before).ln(),
                _ => f64::NAN,
            }),
            Self::Range { high, low } => one(high.push(x) + low.push(-x)),
            Self::EwmaZ {
                alpha,
                n,
                count,
                mean,
                variance,
            } => one(ewma_z(*alpha, *n, (count, mean, variance), x)),
        }
    }
}

fn wma(mean: &mut Mean, weighted: &mut f64, n: u32, ring: &mut Ring, x: f64) -> f64 {
    let sum = mean.sum();
    let old = ring.push(x);
    mean.push(x);
    let n = f64::from(n);
    if let Some(old) = old {
        *weighted += n * x - sum;
        // Recompute once per window, and after a leaving value that dwarfs the rest, so that rounding
        // errors do not accumulate.
        if ring.is_round() || (n * old).abs() > MAX_DWARFED * weighted.abs() {
            *weighted = ring.weighted();
        }
    } else if ring.is_full() {
        *weighted = ring.weighted();
    } else {
        return f64::NAN;
    }
    *weighted / (n * (n + 1.0) / 2.0)
}

fn rsi(last: &mut f64, gain: &mut Wilder, loss: &mut Wilder, x: f64) -> f64 {
    let change = x - std::mem::replace(last, x);
    if change.is_nan() {
        return f64::NAN;
    }
    let gain = gain.push(change.max(0.0));
    let loss = loss.push((-change).max(0.0));
    let both = gain + loss;
    if both == 0.0 {
        50.0
    } else {
        100.0 * (gain / both)
    }
}

fn cutler(last: &mut f64, gain: &mut Mean, loss: &mut Mean, x: f64) -> f64 {
    let change = x - std::mem::replace(last, x);
    // The first change is undefined, and counts as 0.
    let change = if change.is_nan() { 0.0 } else { change };
    gain.push(change.max(0.0));
    loss.push((-change).max(0.0));
    // Without any change it is 0, like the predecessor's, which adds 1e-9 to the loss.
    let ratio = if gain.get() == 0.0 {
        0.0
    } else {
        gain.get() / loss.get()
    };
    100.0 - 100.0 / (1.0 + ratio)
}

fn obv(last: &mut f64, sum: &mut f64, bar: &Bar, x: f64) -> f64 {
    let before = std::mem::replace(last, x);
    let volume = bar.volume.unwrap_or(0.0);
    if before.is_nan() || x > before {
        *sum += volume;
    } else if x < before {
        *sum -= volume;
    }
    *sum
}

fn ewma_z(
    alpha: f64,
    n: u32,
    (count, mean, variance): (&mut u32, &mut f64, &mut f64),
    x: f64,
) -> f64 {
    if *count == 0 {
        *mean = x;
    }
    let d = x - *mean;
    let z = if *count >= n {
        score(d, variance.sqrt())
    } else {
        f64::NAN
    };
    *count = count.saturating_add(1);
    *mean += alpha * d;
    *variance = (1.0 - alpha) * (*variance + alpha * d * d);
    z
}

/// The z-score of the distance `d` from the mean. If the deviation is 0, any distance gives
/// ±[`MAX_Z`].
fn score(d: f64, deviation: f64) -> f64 {
    if d == 0.0 {
        // 0, or NaN if the deviation is NaN.
        return d * deviation;
    }
    (d / deviation).clamp(-MAX_Z, MAX_Z)
}

fn true_range(bar: &Bar, before: f64) -> f64 {
    let range = bar.high - bar.low;
    range
        .max((bar.high - before).abs())
        .max((bar.low - before).abs())
}

/// An exponential mean that skips `skip` values, and starts with the simple mean of the next `n`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Ema {
    n: u32,
    skip: u32,
    count: u32,
    value: f64,
}

impl Ema {
    const fn new(n: u32, skip: u32) -> Self {
        Self {
            n,
            skip,
            count: 0,
            value: 0.0,
        }
    }

    #[inline]
    fn push(&mut self, x: f64) -> f64 {
        let end = self.skip + self.n;
        if self.count < end {
            self.count += 1;
            if self.count <= self.skip {
                return f64::NAN;
            }
            self.value += x;
            if self.count < end {
                return f64::NAN;
            }
            self.value /= f64::from(self.n);
        } else {
            self.value += (x - self.value) * (2.0 / (f64::from(self.n) + 1.0));
        }
        self.value
    }
}

/// Wilder's mean: starts with the simple mean of the first `n` values; each later value has weight
/// `1/n`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Wilder {
    n: u32,
    count: u32,
    value: f64,
}

impl Wilder {
    const fn new(n: u32) -> Self {
        Self {
            n,
            count: 0,
            value: 0.0,
        }
    }

    #[inline]
    fn push(&mut self, x: f64) -> f64 {
        let n = f64::from(self.n);
        if self.count < self.n {
            self.count += 1;
            self.value += x;
            if self.count < self.n {
                return f64::NAN;
            }
            self.value /= n;
        } else {
            self.value = (self.value * (n - 1.0) + x) / n;
        }
        self.value
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Macd {
    fast: Ema,
    slow: Ema,
    signal: Ema,
}

impl Macd {
    /// Both means start at the same bar, as in TA-Lib.
    const fn new(fast: u32, slow: u32, signal: u32) -> Self {
        Self {
            fast: Ema::new(fast, slow - fast),
            slow: Ema::new(slow, 0),
            signal: Ema::new(signal, 0),
        }
    }

    #[inline]
    fn push(&mut self, x: f64) -> Output {
        let macd = self.fast.push(x) - self.slow.push(x);
        if macd.is_nan() {
            return NONE;
        }
        let signal = self.signal.push(macd);
        [macd, signal, macd - signal]
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Adx {
    n: u32,
    count: u32,
    last: Option<(f64, f64, f64)>,
    plus: f64,
    minus: f64,
    range: f64,
    value: f64,
}

impl Adx {
    const fn new(n: u32) -> Self {
        Self {
            n,
            count: 0,
            last: None,
            plus: 0.0,
            minus: 0.0,
            range: 0.0,
            value: 0.0,
        }
    }

    fn push(&mut self, bar: &Bar) -> f64 {
        let Some((high, low, close)) = self.last.replace((bar.high, bar.low, bar.close)) else {
            return f64::NAN;
        };
        let (up, down) = (bar.high - high, low - bar.low);
        let n = f64::from(self.n);
        self.count = self.count.saturating_add(1);
        // Wilder's smoothing: from the n-th change on, the sums decay by `1/n` before each new
        // change.
        if self.count >= self.n {
            self.plus -= self.plus / n;
            self.minus -= self.minus / n;
            self.range -= self.range / n;
        }
        if down > 0.0 && up < down {
            self.minus += down;
        } else if up > 0.0 && up > down {
            self.plus += up;
        }
        self.range += true_range(bar, close);
        if self.count < self.n {
            return f64::NAN;
        }
        let both = self.plus + self.minus;
        let index = (self.range > 0.0 && both > 0.0)
            .then(|| 100.0 * ((self.minus - self.plus).abs() / both));
        if self.count < 2 * self.n {
            self.value += index.unwrap_or(0.0);
            if self.count < 2 * self.n - 1 {
                return f64::NAN;
            }
            self.value /= n;
        } else if let Some(index) = index {
            self.value = (self.value * (n - 1.0) + index) / n;
        }
        self.value
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Stochastic {
    high: Highest,
    low: Highest,
    k: Mean,
    d: Mean,
}

impl Stochastic {
    #[inline]
    fn push(&mut self, bar: &Bar) -> Output {
        let (high, low) = (self.high.push(bar.high), -self.low.push(-bar.low));
        let width = high - low;
        if width.is_nan() {
            return NONE;
        }
        let raw = if width == 0.0 {
            0.0
        } else {
            (bar.close - low) / (width / 100.0)
        };
        self.k.push(raw);
        let k = self.k.get();
        if k.is_nan() {
            return NONE;
        }
        self.d.push(k);
        [k, self.d.get(), f64::NAN]
    }
}
