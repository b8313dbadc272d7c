//! The services that the API and the dashboard share: accounts, monitors, projects, series, and the
//! health check. Services know the table and the domain, and nothing about HTTP.

mod accounts;
mod cache;
mod error;
mod health;
mod limiter;
pub mod monitors;
mod projects;
mod refusals;
mod series;
pub mod sns;

pub use accounts::{Accounts, AdminKeyUnavailable};
pub use cache::ByProject;
pub use error::{ServiceError, ServiceResult};
pub use health::{Checked, Health};
pub use limiter::Limiter;
pub use monitors::Monitors;
pub use projects::Projects;
pub use refusals::Refusals;
pub use series::Series;
