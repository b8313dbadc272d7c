//! The position that a strategy that holds positions holds.

use crate::UnixMs;
use crate::signal::Bar;
use crate::signal::explanation::{Exit, Holding};
use crate::signal::strategy::Figure;
use serde::{Deserialize, Serialize};

/// A position.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(super) struct Held {
    pub is_long: bool,
    /// When it was entered, and at what price; from the bar after the signal on.
    entry: Option<(UnixMs, f64)>,
    /// The best close since, and the last one.
    best: f64,
    close: f64,
    bars: u32,
}

/// What a strategy that holds positions remembers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Memory {
    /// The position that it holds.
    pub held: Option<Held>,
    /// The position that ended at the last bar, and why.
    pub ended: Option<(Held, Exit)>,
}

impl Held {
    /// A position that will be entered at the open of the next bar.
    pub const fn new(is_long: bool) -> Self {
        Self {
            is_long,
            entry: None,
            best: f64::NAN,
            close: f64::NAN,
            bars: 0,
        }
    }

    /// Takes the next bar.
    fn step(&mut self, bar: &Bar) {
        let (_, entry) = *self.entry.get_or_insert((bar.time, bar.open));
        self.bars = self.bars.saturating_add(1);
        self.close = bar.close;
        let best = if self.bars == 1 { entry } else { self.best };
        self.best = if self.is_long {
            best.max(bar.close)
        } else {
            best.min(bar.close)
        };
    }

    /// A figure of it; NaN if it is unknown.
    ///
    /// Not inlined: its divisions would be done ahead of time at every step, on whatever is there
    /// without a position, which is slow.
    #[inline(never)]
    pub fn figure(&self, figure: Figure) -> f64 {
        let entry = self.entry.map_or(f64::NAN, |(_, price)| price);
        let sign = if self.is_long { 1.0 } else { -1.0 };
        // Percentages of what is not above zero have no meaning.
        let percent = |change: f64, of: f64| {
            if of > 0.0 {
                // Not -0.
                change / of * 100.0 + 0.0
            } else {
                f64::NAN
            }
        };
        match figure {
            Figure::Entry => entry,
            Figure::Best => self.best,
            Figure::GainPct => percent(sign * (self.close - entry), entry),
            Figure::FallPct => percent(sign * (self.best - self.close), self.best),
            Figure::Bars => f64::from(self.bars),
        }
    }

    /// It as shown to users.
    pub fn holding(&self, ended: Option<Exit>) -> Holding {
        let gain = self.figure(Figure::GainPct);
        Holding {
            long: self.is_long,
            entered_at: self.entry.map(|(at, _)| at.rfc3339()),
            entry: self.entry.map(|(_, price)| price),
            bars: self.bars,
            gain_pct: gain.is_finite().then_some(gain),
            ended,
        }
    }
}

impl Memory {
    /// Takes the next bar.
    pub fn step(&mut self, bar: &Bar) {
        self.ended = None;
        if let Some(held) = &mut self.held {
            held.step(bar);
        }
    }

    /// Ends the position that is held.
    pub fn end(&mut self, why: Exit) {
        self.ended = self.held.take().map(|held| (held, why));
    }
}
