//! `thrum`: the whole pipeline in one process, and the tools around it.
//!
//! The handlers are the ones that run on Lambda. What differs is around them: the table is SQLite's, [`local`] plays bus
//! and queue, [`pipeline`] plays stream and schedule.

pub mod backup;
pub mod exec;
mod http;
pub mod local;
pub mod pipeline;
pub mod remote;
pub mod serve;
pub mod signals;

/// The system's allocator took a third of a heartbeat's time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;
