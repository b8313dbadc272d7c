//! Tests of the real binary, with real clients.

mod backtest;
mod clients;
mod csv;
mod disk;
mod exec;
mod migrate;
mod operator;
mod process;
mod services;
mod smtp;
mod support;
