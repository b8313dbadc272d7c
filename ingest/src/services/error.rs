//! Why a service does not do what it is asked to.

use thiserror::Error;
use thrum_schema::error::Invalid;
use thrum_store::StoreError;

/// Why a service does not do what it is asked to. The text is for the client.
#[derive(Debug, Error)]
pub enum ServiceError {
    /// Something is missing.
    #[error("{0}")]
    NotFound(String),
    /// The request contradicts what is stored.
    #[error("{0}")]
    Conflict(String),
    /// A field is wrong.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// The table failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The result of a service.
pub type ServiceResult<T> = Result<T, ServiceError>;
