//! `thrum`: the whole pipeline in one process, and its command-line tools.
//!
//! The handlers are the same as on Lambda. Only their surroundings differ: the table is SQLite,
//! [`local`] replaces bus and queue, and [`pipeline`] replaces stream and schedule.

pub mod backup;
mod container;
pub mod exec;
mod fetch;
mod http;
pub mod local;
pub mod pipeline;
pub mod remote;
pub mod serve;
pub mod signals;
mod smtp;

/// With the system's allocator, allocation took a third of the time of a heartbeat.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;
