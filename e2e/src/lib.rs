//! What the end-to-end tests share: the real handlers on the real engine, under a clock that a test moves, and
//! receivers that do as they are told.

pub mod fuzz;
pub mod lambda;
mod receiver;
pub mod sim;
mod stage;

pub use receiver::{Received, Receiver};
pub use stage::{
    ADMIN_KEY, API_KEY, METRICS_KEY, PING_KEY, READ_KEY, Reply, START, Stage, prepare,
};
