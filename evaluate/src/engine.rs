//! The signal engine: pure, and the same for live bars, replays and backtests.
//!
//! A [`Program`] steps a [`State`] bar by bar. The state is small and serialisable, and holds all that the past means to
//! the future: whoever steps the same bars from the same state gets the same signals, byte for byte.

#[expect(
    missing_docs,
    reason = "figures have their standard names; what is special about one is said"
)]
pub mod backtest;
mod explain;
mod indicator;
mod performance;
mod program;
mod rolling;
mod walk;

pub use backtest::backtest;
pub use indicator::{Output, Stepper};
pub use program::{Program, State, run};
