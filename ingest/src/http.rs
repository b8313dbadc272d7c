//! HTTP for all features: authentication, quotas, bodies, problems, and the URLs of this site.

pub mod auth;
pub mod body;
#[cfg(feature = "lambda")]
pub mod function_url;
pub mod headers;
pub mod metering;
pub mod named;
pub mod observe;
pub mod page;
pub mod peer;
pub mod problem;
pub mod replies;
pub mod site;
pub mod traced;

pub use auth::{Admin, Caller, Feeder, Pinger, Reader, Writer};
pub use body::{Json, Params, PathId};
pub use named::{Edit, Named, Read, Write};
pub use page::Page;
pub use problem::Problem;
pub use replies::{Missing, Overload, Problems};
