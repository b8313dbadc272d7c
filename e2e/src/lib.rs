//! Shared by the end-to-end tests: the real handlers on a real table, a clock that the test moves,
//! and scripted webhook receivers.

pub mod container;
pub mod detectors;
pub mod dynoxide;
mod faulty;
pub mod fuzz;
pub mod lambda;
mod receiver;
mod records;
pub mod sim;
mod stage;
pub mod vendors;

pub use faulty::Switch;
pub use receiver::{Received, Receiver};
pub use records::record;
pub use stage::{
    ADMIN_KEY, API_KEY, METRICS_KEY, PING_KEY, READ_KEY, Reply, SITE, START, Stage, TABLE, prepare,
};
