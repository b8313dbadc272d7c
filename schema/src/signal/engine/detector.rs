//! The anomaly detectors. Each compares a value with what was expected before it came. Values that
//! are not normal change no expectation, until a new level is accepted: after some days, or by a
//! person.

mod baseline;
mod shift;
mod slots;
mod smoothing;
mod spread;
mod window;

use crate::UnixMs;
use crate::mutant::{self, Mutant};
use crate::signal::Verdict;
use crate::signal::detector::{Detector, Kind};
use crate::signal::explanation::Basis;
use baseline::{Baseline, Outlook};
use serde::{Deserialize, Serialize};
use shift::Shift;
use smoothing::Smoothing;
use spread::{Compared, Limits};
use window::{Mean, Window};

const DAY: i64 = 86_400_000;
const DAY_MS: f64 = DAY as f64;
const WEEK_MS: i64 = 7 * DAY;
/// An alert ends when a value is within this share of the limits.
const BACK: f64 = 0.7;
/// A value beyond the limits may be chance if it is within this multiple of them.
const CHANCE: f64 = 1.5;
/// Three values together are too much only if the last one is beyond this share of its limit.
const SHARE: f64 = 0.5;
/// Values of a new level that are remembered.
const NEW_LEVEL: usize = 9;
/// While a level that a person accepted is learned, how far from it a value may be, as a share of
/// the level.
const WITHIN: f64 = 0.5;
/// How many values a new level has at least before it is accepted by itself.
const MIN_RUN: u32 = 14;
/// How many values a person's "this is the new normal" takes, if there is no new level yet.
const LEARN: usize = 3;

/// The parameters of a detector; those that it does not have are 0.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Params {
    pub kind: Kind,
    k: f64,
    min_abs: f64,
    min_rel: f64,
    accept_ms: f64,
    direction: f64,
    n: f64,
    period: f64,
    weeks: f64,
    alpha: f64,
    gamma: f64,
    h: f64,
    drift: f64,
    pct: f64,
    min: f64,
    max: f64,
    hysteresis: f64,
    tolerance: f64,
}

impl Params {
    pub fn new(detector: &Detector) -> Self {
        let arg = |name| detector.arg(name);
        Self {
            kind: detector.kind,
            k: arg("k"),
            min_abs: arg("min_abs"),
            min_rel: arg("min_rel"),
            accept_ms: arg("accept_days") * DAY_MS,
            direction: arg("direction"),
            n: arg("n"),
            period: arg("period"),
            weeks: arg("weeks"),
            alpha: arg("alpha"),
            gamma: arg("gamma"),
            h: arg("h"),
            drift: arg("drift"),
            pct: arg("pct"),
            min: arg("min"),
            max: arg("max"),
            hysteresis: arg("hysteresis"),
            tolerance: arg("tolerance"),
        }
    }

    /// The least deviation that counts.
    fn least(&self, centre: f64) -> f64 {
        self.min_abs.max(self.min_rel * centre.abs())
    }
}

/// The state of a detector.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DetectorState {
    model: Model,
    run: Run,
    /// The last "this is the new normal" that was applied, and how many values it still takes.
    accepted: Option<UnixMs>,
    learning: u8,
    /// The verdict on the last value, and why.
    pub judged: Judged,
}

/// The verdict on a value, and why.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Judged {
    pub verdict: Verdict,
    /// The expected value, and the limits of what is normal; NaN if unknown.
    pub centre: f64,
    pub low: f64,
    pub high: f64,
    pub basis: Basis,
    /// How many values in a row are beyond the same limit, and since when.
    pub run: u32,
    pub since: UnixMs,
    /// How many values the detector has seen.
    pub seen: u32,
    /// Whether a new level was accepted with this value.
    pub accepted: bool,
    /// Whether no value so far was below zero.
    pub is_never_negative: bool,
}

/// The values in a row that are beyond the same limit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Run {
    count: u32,
    since: UnixMs,
    /// Each with what was expected.
    values: Vec<(f64, f64)>,
}

impl Run {
    const fn new() -> Self {
        Self {
            count: 0,
            since: UnixMs(0),
            values: Vec::new(),
        }
    }

    fn note(&mut self, at: UnixMs, x: f64, centre: f64) {
        if self.count == 0 {
            self.since = at;
        }
        self.count = self.count.saturating_add(1);
        if self.values.len() == NEW_LEVEL {
            self.values.remove(0);
        }
        self.values.push((x, centre));
    }

    /// From the level before to that of these values.
    fn shift(&self) -> Option<Shift> {
        let median_of = |mut values: Vec<f64>| {
            values.sort_unstable_by(f64::total_cmp);
            window::median(&values)
        };
        let pairs = || self.values.iter();
        if pairs().all(|(x, centre)| *x > 0.0 && *centre > 0.0) {
            median_of(pairs().map(|(x, centre)| x / centre).collect()).map(Shift::Times)
        } else {
            median_of(pairs().map(|(x, centre)| x - centre).collect()).map(Shift::Plus)
        }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
enum Model {
    Baseline(Box<Baseline>),
    Smoothing(Smoothing),
    Window(Window),
    Mean(Mean),
    Cusum { window: Window, high: f64, low: f64 },
    Change(Window),
    Threshold,
    Absence { last: f64, same: u32 },
}

/// A value at a time.
#[derive(Debug, Clone, Copy)]
pub struct Value {
    pub at: UnixMs,
    pub x: f64,
    /// The time between two values, if it is fixed.
    pub interval_ms: Option<i64>,
}

impl DetectorState {
    /// The state before the first value.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the parameters are bounded whole numbers"
    )]
    pub fn new(params: &Params, interval_ms: Option<i64>) -> Self {
        let n = params.n as u32;
        let period = params.period as u32;
        let model = match params.kind {
            Kind::Auto => Model::Baseline(Box::new(Baseline::new(None, 6))),
            Kind::Seasonal => {
                let weeks = params.weeks as u8;
                Model::Baseline(Box::new(Baseline::new(Some(period), weeks)))
            }
            Kind::HoltWinters => {
                // A week, or a day if a week is too long.
                let by_interval = match interval_ms {
                    Some(ms) if WEEK_MS / ms <= 336 => (WEEK_MS / ms).max(2),
                    Some(ms) => (DAY / ms).min(336),
                    None => 7,
                };
                let by_interval = u32::try_from(by_interval).unwrap_or(7);
                let period = if period == 0 { by_interval } else { period };
                Model::Smoothing(Smoothing::new(period))
            }
            Kind::RobustZscore => Model::Window(Window::new(n)),
            Kind::Ewma => Model::Mean(Mean::new()),
            Kind::Cusum => Model::Cusum {
                window: Window::new(n),
                high: 0.0,
                low: 0.0,
            },
            Kind::RateOfChange => Model::Change(Window::new(n)),
            Kind::Threshold => Model::Threshold,
            Kind::Absence => Model::Absence {
                last: f64::NAN,
                same: 0,
            },
        };
        Self {
            model,
            run: Run::new(),
            accepted: None,
            learning: 0,
            judged: Judged {
                verdict: Verdict::Warming,
                centre: f64::NAN,
                low: f64::NAN,
                high: f64::NAN,
                basis: Basis::Level,
                run: 0,
                since: UnixMs(0),
                seen: 0,
                accepted: false,
                is_never_negative: true,
            },
        }
    }

    /// Takes a value, later than the last one. `mark`: the last time at or before which a person
    /// accepted the level of the values from then on as the new normal.
    #[inline]
    pub fn step(&mut self, params: &Params, value: Value, mark: Option<UnixMs>) -> Verdict {
        let seen = self.judged.seen.saturating_add(1);
        let mut judged = match &self.model {
            Model::Threshold => self.by_limits(params, value.x),
            Model::Absence { .. } => self.by_sameness(params, value.x),
            _ => self.by_history(params, value, mark),
        };
        judged.seen = seen;
        judged.is_never_negative &= value.x >= 0.0;
        if judged.verdict == self.judged.verdict {
            judged.run = self.judged.run.saturating_add(1);
            judged.since = self.judged.since;
        } else {
            judged.run = 1;
            judged.since = value.at;
        }
        self.judged = judged;
        judged.verdict
    }

    fn by_limits(&self, params: &Params, x: f64) -> Judged {
        let (low, high) = (params.min, params.max);
        let back = params.hysteresis;
        let verdict = match self.judged.verdict {
            Verdict::Low if x < low + back => Verdict::Low,
            Verdict::High if x > high - back => Verdict::High,
            _ if x < low => Verdict::Low,
            _ if x > high => Verdict::High,
            _ => Verdict::Normal,
        };
        Judged {
            verdict,
            low,
            high,
            centre: f64::NAN,
            basis: Basis::Limits,
            accepted: false,
            ..self.judged
        }
    }

    fn by_sameness(&mut self, params: &Params, x: f64) -> Judged {
        let (n, tolerance) = (params.n, params.tolerance);
        let Model::Absence { last, same } = &mut self.model else {
            return self.judged;
        };
        if (x - *last).abs() <= tolerance {
            *same = same.saturating_add(1);
        } else {
            (*last, *same) = (x, 1);
        }
        let verdict = if n > 0.0 && f64::from(*same) >= n {
            Verdict::Stale
        } else {
            Verdict::Normal
        };
        Judged {
            verdict,
            basis: Basis::Changes,
            accepted: false,
            ..self.judged
        }
    }

    fn by_history(&mut self, params: &Params, value: Value, mark: Option<UnixMs>) -> Judged {
        let Value { at, x, .. } = value;
        let mut outlook = self.model.expect(value);
        let mut centre = self.model.centre(&outlook);
        let is_marked = mark.is_some() && mark != self.accepted;
        if is_marked && self.judged.seen == 0 {
            self.accepted = mark;
        } else if is_marked {
            self.accepted = mark;
            self.learning = if self.run.count > 0 { 1 } else { LEARN as u8 };
        }
        if let (Some(of), 1..) = (centre, self.learning) {
            if !self.is_beyond_accepted(x, of) {
                return self.relearn(params, value, of);
            }
            // Nobody accepted this one: it is judged by what was learned so far.
            self.learning = 0;
            self.take_level();
            outlook = self.model.expect(value);
            centre = self.model.centre(&outlook);
        }
        let limits = centre.and_then(|centre| self.model.compare(params, value, centre));
        let (Some(centre), Some(limits)) = (centre, limits) else {
            if let Some(centre) = centre {
                self.model
                    .deviates(value, &outlook, centre, None, Some(f64::INFINITY));
            }
            self.model.learn(params, value, &outlook);
            return Judged {
                verdict: Verdict::Warming,
                accepted: false,
                ..self.judged
            };
        };
        let least = params.least(centre);
        let verdict = self.verdict(params, x - centre, least, limits.compared);
        let is_new = verdict != self.judged.verdict;
        let usual = match verdict {
            Verdict::Normal => Some(f64::INFINITY),
            // The first one may be chance if it is near the limit. Then it counts, but not in its
            // full size.
            _ if is_new && limits.compared.alone.abs() < CHANCE => Some(limits.compared.limit),
            _ => None,
        };
        let limits = limits.at_least(centre, least);
        let compared = Some(&limits.compared);
        self.model
            .deviates(value, &outlook, centre, compared, usual);
        let judged = |verdict, accepted, basis| Judged {
            verdict,
            centre,
            low: limits.low,
            high: limits.high,
            basis,
            accepted,
            ..self.judged
        };
        let basis = self.model.basis();
        if verdict == Verdict::Normal {
            if let ([(x, _)], Model::Baseline(baseline)) = (&self.run.values[..], &mut self.model) {
                baseline.was_alone(*x);
            }
            self.run = Run::new();
            self.model.learn(params, value, &outlook);
            return judged(verdict, false, basis);
        }
        if is_new {
            self.run = Run::new();
        }
        self.run.note(at, x, centre);
        let lasts = params.accept_ms > 0.0 && (at - self.run.since) as f64 >= params.accept_ms;
        if lasts && self.run.count >= MIN_RUN {
            let judged = judged(Verdict::Normal, true, basis);
            self.accept(params, value);
            return judged;
        }
        if mutant::is(Mutant::AnomaliesLearned) {
            self.model.learn(params, value, &outlook);
        }
        self.model.pass(value);
        judged(verdict, false, basis)
    }

    fn verdict(&self, params: &Params, d: f64, least: f64, compared: Compared) -> Verdict {
        let Compared {
            alone, together, ..
        } = compared;
        // Sums have no limits for single values.
        let is_sum = compared.limit.is_infinite();
        let (side, sign) = if (is_sum && together > 0.0) || (!is_sum && d > 0.0) {
            (Verdict::High, 1.0)
        } else {
            (Verdict::Low, -1.0)
        };
        if params.direction == -sign {
            return Verdict::Normal;
        }
        let share = if self.judged.verdict == side {
            BACK
        } else {
            1.0
        };
        let is_beyond = if is_sum {
            together.abs() > share
        } else {
            let with_others = together * sign > 1.0 && alone.abs() > SHARE;
            (alone.abs() > share || with_others) && d.abs() > share * least
        };
        if is_beyond { side } else { Verdict::Normal }
    }

    /// Takes a value of a level that a person accepted.
    fn relearn(&mut self, params: &Params, value: Value, centre: f64) -> Judged {
        self.run.note(value.at, value.x, centre);
        self.learning -= 1;
        if self.learning == 0 {
            self.accept(params, value);
        } else {
            self.model.pass(value);
        }
        Judged {
            verdict: Verdict::Normal,
            centre: f64::NAN,
            low: f64::NAN,
            high: f64::NAN,
            basis: self.model.basis(),
            accepted: true,
            ..self.judged
        }
    }

    /// Whether a value is too far from the level of the run to belong to it.
    fn is_beyond_accepted(&self, x: f64, centre: f64) -> bool {
        let level = self.run.shift().map(|shift| shift.of(centre));
        level.is_some_and(|level| (x - level).abs() > WITHIN * level.abs().max(centre.abs()))
    }

    /// Moves the model to the level of the values in the run.
    fn take_level(&mut self) {
        if let Some(shift) = self.run.shift() {
            self.model.shift(shift);
        }
        self.run = Run::new();
    }

    /// Accepts the level of the values in the run.
    fn accept(&mut self, params: &Params, value: Value) {
        self.take_level();
        let outlook = self.model.expect(value);
        self.model.learn(params, value, &outlook);
    }
}

impl Model {
    fn expect(&self, value: Value) -> Outlook {
        let one = Outlook::of;
        match self {
            Self::Baseline(baseline) => baseline.expect(value.at),
            Self::Smoothing(smoothing) => one(smoothing.expect(value.at, value.interval_ms)),
            Self::Window(window) | Self::Cusum { window, .. } => one(window.median()),
            Self::Mean(mean) => one((mean.count > 0).then_some(mean.mean)),
            Self::Change(window) => one(window.oldest()),
            Self::Threshold | Self::Absence { .. } => Outlook::default(),
        }
    }

    fn centre(&self, outlook: &Outlook) -> Option<f64> {
        match self {
            Self::Baseline(baseline) => baseline.centre(&outlook.expected),
            _ => outlook.expected[0],
        }
    }

    /// Compares a value with what is usual; `None` during the warm-up.
    fn compare(&mut self, params: &Params, value: Value, centre: f64) -> Option<Limits> {
        let k = params.k;
        let alone = |limit| Limits::of(centre, limit, value.x);
        match self {
            Self::Baseline(baseline) => baseline.compare(value.at, centre, value.x, k),
            Self::Smoothing(smoothing) => smoothing.compare(centre, value.x, k, value.interval_ms),
            Self::Window(window) => {
                let limit = || k * window.deviation(centre);
                window.is_full().then(|| alone(limit()))
            }
            Self::Mean(mean) => {
                let is_warm = f64::from(mean.count) >= params.n;
                is_warm.then(|| alone(k * mean.deviation()))
            }
            Self::Cusum { window, high, low } => {
                if !window.is_full() {
                    return None;
                }
                let h = params.h;
                let deviation = window.deviation(centre);
                let least = params.least(centre);
                let z = (value.x - centre) / deviation.max(least).max(f64::MIN_POSITIVE);
                let drift = params.drift;
                let sum = |before: f64, z: f64| {
                    // Back at the level, an alert ends soon.
                    let before = if before > h && z.abs() < 2.0 {
                        before / 2.0
                    } else {
                        before
                    };
                    (before + z - drift).clamp(0.0, 2.0 * h)
                };
                (*high, *low) = (sum(*high, z), sum(*low, -z));
                let together = if *high > *low { *high } else { -*low } / h;
                // The sums alone decide.
                let compared = Compared::of(0.0, together, f64::INFINITY);
                Some(Limits::around(centre, compared))
            }
            Self::Change(_) => Some(alone(params.pct / 100.0 * centre.abs())),
            Self::Threshold | Self::Absence { .. } => None,
        }
    }

    /// Notes a deviation. `limit` is given if it counts as usual: then it counts for no more.
    fn deviates(
        &mut self,
        value: Value,
        outlook: &Outlook,
        centre: f64,
        compared: Option<&Compared>,
        limit: Option<f64>,
    ) {
        match self {
            Self::Baseline(baseline) => {
                baseline.deviates(value.x, outlook, centre, compared, limit);
            }
            Self::Smoothing(smoothing) => smoothing.deviates(centre, value.x, compared, limit),
            _ => {}
        }
    }

    fn learn(&mut self, params: &Params, value: Value, outlook: &Outlook) {
        let Value { at, x, interval_ms } = value;
        match self {
            Self::Baseline(baseline) => baseline.learn(at, interval_ms, x, outlook),
            Self::Smoothing(smoothing) => {
                let (alpha, gamma) = (params.alpha, params.gamma);
                smoothing.learn(at, interval_ms, x, alpha, gamma);
            }
            Self::Window(window) | Self::Cusum { window, .. } | Self::Change(window) => {
                window.push(x);
            }
            Self::Mean(mean) => mean.learn(x, params.alpha),
            Self::Threshold | Self::Absence { .. } => {}
        }
    }

    /// Passes a value by that is not normal.
    fn pass(&mut self, value: Value) {
        if let Self::Smoothing(smoothing) = self {
            smoothing.pass(value.at, value.interval_ms);
        }
    }

    fn shift(&mut self, shift: Shift) {
        match self {
            Self::Baseline(baseline) => baseline.shift(shift),
            Self::Smoothing(smoothing) => smoothing.shift(shift),
            Self::Window(window) | Self::Change(window) => window.shift(shift),
            Self::Mean(mean) => mean.shift(shift),
            Self::Cusum { window, high, low } => {
                window.shift(shift);
                (*high, *low) = (0.0, 0.0);
            }
            Self::Threshold | Self::Absence { .. } => {}
        }
    }

    fn basis(&self) -> Basis {
        match self {
            Self::Baseline(baseline) => baseline.basis(),
            Self::Smoothing(_) => Basis::Smoothing,
            Self::Window(_) => Basis::Level,
            Self::Mean(_) => Basis::Mean,
            Self::Cusum { .. } => Basis::Sum,
            Self::Change(_) => Basis::Before,
            Self::Threshold => Basis::Limits,
            Self::Absence { .. } => Basis::Changes,
        }
    }
}
