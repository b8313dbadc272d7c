//! Backtests: pure functions over the signals that the engine gives.

mod account;
mod backtest;
mod benchmark;
mod chances;
#[expect(missing_docs, reason = "fields say what they are")]
mod detect;
mod performance;
pub mod periods;
mod points;
#[expect(
    missing_docs,
    reason = "most fields are standard statistics under their usual names"
)]
pub mod report;
mod search;
mod tested;
mod walk;

pub use backtest::{backtest, portfolio};
pub use benchmark::Benchmark;
pub use detect::{Detected, detect};
pub use tested::Part;
