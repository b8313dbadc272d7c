//! The APIs: Thrum's own, and those of existing clients.

pub mod compat;
pub mod v1;
