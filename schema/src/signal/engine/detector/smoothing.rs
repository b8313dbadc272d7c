//! Holt-Winters: exponential smoothing of the level and of the season, each value against the same
//! step of the period before.

use super::shift::Shift;
use super::spread::{Compared, Limits, Scale, Spread, Strictness};
use crate::UnixMs;
use serde::{Deserialize, Serialize};

const DAY_MS: i64 = 86_400_000;
/// Periods before the first verdict.
const WARM: u32 = 3;

/// Level and season. If all values are above zero, the season is a factor, otherwise a difference.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Smoothing {
    period: u32,
    /// The values of the first two periods.
    early: Vec<f64>,
    is_factor: bool,
    level: f64,
    season: Vec<f64>,
    /// The step within the period, and when it was.
    step: u32,
    last: Option<UnixMs>,
    seen: u32,
    spread: Spread,
}

impl Smoothing {
    pub fn new(period: u32) -> Self {
        Self {
            period,
            early: Vec::new(),
            is_factor: false,
            level: 0.0,
            season: Vec::new(),
            step: 0,
            last: None,
            seen: 0,
            spread: Spread::default(),
        }
    }

    /// The step of a value at `at`: the next one, or a later one if values are missing.
    fn step_at(&self, at: UnixMs, interval_ms: Option<i64>) -> u32 {
        let ahead = match (self.last, interval_ms) {
            (Some(last), Some(ms)) => u32::try_from((at - last) / ms % i64::from(self.period)),
            (Some(_), None) => Ok(1),
            (None, _) => Ok(0),
        };
        (self.step + ahead.unwrap_or(1)) % self.period
    }

    pub fn expect(&self, at: UnixMs, interval_ms: Option<i64>) -> Option<f64> {
        let season = *self.season.get(self.step_at(at, interval_ms) as usize)?;
        Some(if self.is_factor {
            self.level * season
        } else {
            self.level + season
        })
    }

    /// Compares a value with what is usual; `None` during the warm-up.
    pub fn compare(&self, centre: f64, x: f64, k: f64, interval_ms: Option<i64>) -> Option<Limits> {
        let scale = Scale::new(self.is_factor);
        let middle = scale.of(centre);
        let interval_ms = interval_ms.unwrap_or(DAY_MS);
        let often = Strictness::often(interval_ms);
        let strictness = Strictness::new(k, interval_ms, often);
        let compared = self
            .spread
            .compare(middle, scale.of(x) - middle, strictness);
        let limits = Limits {
            low: scale.back(middle - compared.limit),
            high: scale.back(middle + compared.limit),
            ..Limits::around(centre, compared)
        };
        (self.seen >= WARM * self.period).then_some(limits)
    }

    pub fn deviates(
        &mut self,
        centre: f64,
        x: f64,
        compared: Option<&Compared>,
        limit: Option<f64>,
    ) {
        let scale = Scale::new(self.is_factor);
        let middle = scale.of(centre);
        let deviation = scale.of(x) - middle;
        let fresh = || self.spread.compare(middle, deviation, Strictness::ANY);
        let compared = compared.copied().unwrap_or_else(fresh);
        self.spread.learn(deviation, &compared, limit);
    }

    /// Passes a value by without learning it.
    pub fn pass(&mut self, at: UnixMs, interval_ms: Option<i64>) {
        self.step = self.step_at(at, interval_ms);
        self.last = Some(at);
    }

    pub fn learn(&mut self, at: UnixMs, interval_ms: Option<i64>, x: f64, alpha: f64, gamma: f64) {
        let step = self.step_at(at, interval_ms) as usize;
        self.pass(at, interval_ms);
        self.seen = self.seen.saturating_add(1);
        if self.season.is_empty() {
            // A missing value counts as the one after it.
            while self.early.len() % self.period as usize != step {
                self.early.push(x);
            }
            self.begin(x);
            return;
        }
        let season = self.season[step];
        if self.is_factor && x > 0.0 {
            self.level += alpha * (x / season - self.level);
            self.season[step] += gamma * (x / self.level - season);
        } else {
            self.level += alpha * (x - season - self.level);
            self.season[step] += gamma * (x - self.level - season);
        }
    }

    /// Level and season from the first two periods.
    fn begin(&mut self, x: f64) {
        self.early.push(x);
        let period = self.period as usize;
        if self.early.len() < 2 * period {
            return;
        }
        let mut early = std::mem::take(&mut self.early);
        early.truncate(2 * period);
        self.is_factor = early.iter().all(|x| *x > 0.0);
        self.level = early.iter().sum::<f64>() / early.len() as f64;
        let of = |i: usize| f64::midpoint(early[i], early[i + period]);
        let seasons = (0..period).map(|i| {
            if self.is_factor {
                of(i) / self.level
            } else {
                of(i) - self.level
            }
        });
        self.season = seasons.collect();
    }

    pub fn shift(&mut self, shift: Shift) {
        match (shift, self.is_factor) {
            (Shift::Times(factor), false) => {
                self.season.iter_mut().for_each(|season| *season *= factor);
                self.level *= factor;
            }
            (Shift::Plus(by), true) if self.level + by <= 0.0 => {
                let level = self.level;
                self.season.iter_mut().for_each(|s| *s = *s * level - level);
                (self.level, self.is_factor) = (level + by, false);
            }
            _ => self.level = shift.of(self.level),
        }
        if let Shift::Times(factor) = shift {
            self.spread.scale(factor);
        }
    }
}
