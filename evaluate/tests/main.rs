//! Tests of the signal engine, detectors and backtests.

mod backtests;
mod bootstraps;
mod detectors;
mod engine;
mod oracle;
mod portfolio;
mod positions;
mod reference;
mod support;
