//! The signal engine: pure functions, the same for live bars, replays and backtests.
//!
//! A [`Program`] steps a [`State`] bar by bar. The state is small and serializable, and holds
//! everything that past bars contribute to future signals: the same state and the same bars give
//! the same signals, byte for byte.

mod anomaly;
mod detector;
mod explain;
mod indicator;
mod position;
mod program;
mod rolling;

pub use indicator::{Output, Stepper};
pub use program::{Program, State, run};
