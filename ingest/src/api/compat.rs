//! The APIs that existing clients use. docs/compatibility.md states what they guarantee.

pub mod badges;
pub mod management;
pub mod others;
pub mod ping;
pub mod prometheus;
pub mod sns;
