//! Backtests: pure functions over the signals that the engine gives.

mod account;
mod backtest;
mod benchmark;
mod chances;
#[expect(missing_docs, reason = "fields say what they are")]
mod detect;
mod performance;
pub mod periods;
#[expect(
    missing_docs,
    reason = "most fields are standard statistics under their usual names"
)]
pub mod report;
mod search;
mod walk;

pub use backtest::{Part, backtest, portfolio};
pub use benchmark::Benchmark;
pub use detect::{Detected, detect};
