//! `thrum`: the whole pipeline in one process, and the tools around it.
//!
//! The handlers are the ones that run on Lambda. What differs is around them: [`engine`] plays DynamoDB and its
//! stream, [`local`] plays bus and queue, [`pipeline`] plays the schedule.

pub mod engine;
pub mod exec;
pub mod local;
pub mod pipeline;
pub mod remote;
pub mod serve;
pub mod signals;
