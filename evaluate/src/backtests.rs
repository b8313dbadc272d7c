//! Backtests: pure functions over the signals that the engine gives.

mod account;
mod backtest;
mod performance;
pub mod periods;
#[expect(
    missing_docs,
    reason = "most fields are standard statistics under their usual names"
)]
pub mod report;
mod walk;

pub use backtest::backtest;
