//! The APIs: Thrum's own, and those that existing clients use.

pub mod compat;
pub mod v1;
