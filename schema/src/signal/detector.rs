//! The anomaly detectors: strategies for plain values that say NORMAL, LOW or HIGH. evaluate
//! implements the arithmetic.

use super::indicator::Arg;
use crate::error::Invalid;
use serde::{Deserialize, Serialize};

/// A detector.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Chooses what to compare with from the series' own history: the last values, the hour of
    /// the day, or the hour or day of the week.
    Auto,
    /// The median of the same hour or day in past weeks.
    Seasonal,
    /// Exponential smoothing of level, trend and season.
    HoltWinters,
    /// The median of the last values, and their median absolute deviation.
    RobustZscore,
    /// The exponentially weighted mean of the last values, and their deviation.
    Ewma,
    /// Sums of small deviations, for shifts of the level that no single value shows.
    Cusum,
    /// Fixed limits.
    Threshold,
    /// The change since an earlier value.
    RateOfChange,
    /// Values that do not come, or do not change.
    Absence,
}

/// Most parameters of a detector.
pub const MAX_ARGS: usize = 8;

/// A detector with its parameters, in the order of [`Kind::args`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Detector {
    /// Which one.
    pub kind: Kind,
    /// The values of its parameters; those that it does not have are 0.
    pub args: [f64; MAX_ARGS],
}

impl Detector {
    /// The value of a parameter; 0 if the detector has no such parameter.
    pub fn arg(&self, name: &str) -> f64 {
        let index = self.kind.args().iter().position(|arg| arg.name == name);
        index.map_or(0.0, |index| self.args[index])
    }
}

impl Detector {
    /// Checks parameters against each other.
    ///
    /// # Errors
    /// The values can't work together.
    pub fn check(&self) -> Result<(), Invalid> {
        let arg = |name| self.arg(name);
        match self.kind {
            Kind::Threshold if arg("min") > arg("max") => {
                Err(Invalid::new("params.min", "must be at most max"))
            }
            Kind::Threshold if arg("hysteresis") > arg("max") - arg("min") => Err(Invalid::new(
                "params.hysteresis",
                "must be at most max - min; otherwise an alert would never end",
            )),
            Kind::Seasonal if ![0.0, 7.0, 24.0, 168.0].contains(&arg("period")) => {
                Err(Invalid::new(
                    "params.period",
                    "must be 24 (hours of the day), 168 (hours of the week), 7 (weekdays), or 0 (hours or days of \
                     the week, by how often values come)",
                ))
            }
            Kind::HoltWinters if arg("period") == 1.0 => Err(Invalid::new(
                "params.period",
                "must be at least 2 values, or 0 (24 for values that come more often than once a day, else 7)",
            )),
            _ => Ok(()),
        }
    }
}

const fn arg(name: &'static str, default: f64, min: f64, max: f64) -> Arg {
    Arg {
        name,
        default: Some(default),
        min,
        max,
        whole: false,
    }
}

const fn whole(name: &'static str, default: f64, min: f64, max: f64) -> Arg {
    Arg {
        whole: true,
        ..arg(name, default, min, max)
    }
}

/// The least absolute deviation that counts.
const MIN_ABS: Arg = arg("min_abs", 0.0, 0.0, 1e99);
/// The least deviation that counts, as a fraction of the expected value.
const MIN_REL: Arg = arg("min_rel", 0.02, 0.0, 10.0);
/// After how many days beyond the limits a value becomes the new normal; 0 for never.
const ACCEPT_DAYS: Arg = arg("accept_days", 28.0, 0.0, 3_650.0);
/// -1 for LOW only, 1 for HIGH only, 0 for both.
const DIRECTION: Arg = whole("direction", 0.0, -1.0, 1.0);

impl Kind {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Auto,
        Self::Seasonal,
        Self::HoltWinters,
        Self::RobustZscore,
        Self::Ewma,
        Self::Cusum,
        Self::Threshold,
        Self::RateOfChange,
        Self::Absence,
    ];

    /// Its name in strategies.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Seasonal => "seasonal",
            Self::HoltWinters => "holt-winters",
            Self::RobustZscore => "robust-zscore",
            Self::Ewma => "ewma",
            Self::Cusum => "cusum",
            Self::Threshold => "threshold",
            Self::RateOfChange => "rate-of-change",
            Self::Absence => "absence",
        }
    }

    /// Its parameters.
    pub const fn args(self) -> &'static [Arg] {
        const AUTO: &[Arg] = &[
            arg("k", 3.25, 1.0, 20.0),
            MIN_ABS,
            MIN_REL,
            ACCEPT_DAYS,
            DIRECTION,
        ];
        const SEASONAL: &[Arg] = &[
            arg("k", 3.25, 1.0, 20.0),
            MIN_ABS,
            MIN_REL,
            ACCEPT_DAYS,
            DIRECTION,
            whole("period", 0.0, 0.0, 168.0),
            whole("weeks", 6.0, 2.0, 8.0),
        ];
        const HOLT_WINTERS: &[Arg] = &[
            arg("k", 3.5, 1.0, 20.0),
            MIN_ABS,
            MIN_REL,
            ACCEPT_DAYS,
            DIRECTION,
            whole("period", 0.0, 0.0, 336.0),
            arg("alpha", 0.1, 0.001, 1.0),
            arg("gamma", 0.2, 0.001, 1.0),
        ];
        const ROBUST: &[Arg] = &[
            arg("k", 4.0, 1.0, 20.0),
            MIN_ABS,
            MIN_REL,
            ACCEPT_DAYS,
            DIRECTION,
            whole("n", 50.0, 5.0, 500.0),
        ];
        const EWMA: &[Arg] = &[
            arg("k", 3.0, 1.0, 20.0),
            MIN_ABS,
            MIN_REL,
            ACCEPT_DAYS,
            DIRECTION,
            whole("n", 20.0, 2.0, 1_000.0),
            arg("alpha", 0.2, 0.001, 1.0),
        ];
        const CUSUM: &[Arg] = &[
            arg("h", 8.0, 1.0, 100.0),
            MIN_ABS,
            MIN_REL,
            ACCEPT_DAYS,
            DIRECTION,
            whole("n", 50.0, 5.0, 500.0),
            arg("drift", 0.5, 0.0, 10.0),
        ];
        const THRESHOLD: &[Arg] = &[
            arg("min", -1e99, -1e99, 1e99),
            arg("max", 1e99, -1e99, 1e99),
            arg("hysteresis", 0.0, 0.0, 1e99),
        ];
        const RATE: &[Arg] = &[
            arg("pct", 50.0, 0.1, 100_000.0),
            MIN_ABS,
            arg("accept_days", 1.0, 0.0, 3_650.0),
            DIRECTION,
            whole("n", 1.0, 1.0, 500.0),
        ];
        const ABSENCE: &[Arg] = &[
            whole("after_s", 0.0, 0.0, 31_536_000.0),
            whole("n", 0.0, 0.0, 10_000.0),
            arg("tolerance", 0.0, 0.0, 1e99),
        ];
        match self {
            Self::Auto => AUTO,
            Self::Seasonal => SEASONAL,
            Self::HoltWinters => HOLT_WINTERS,
            Self::RobustZscore => ROBUST,
            Self::Ewma => EWMA,
            Self::Cusum => CUSUM,
            Self::Threshold => THRESHOLD,
            Self::RateOfChange => RATE,
            Self::Absence => ABSENCE,
        }
    }
}
