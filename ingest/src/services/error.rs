//! The error of a service.

use thiserror::Error;
use thrum_schema::error::Invalid;
use thrum_store::StoreError;

/// Why a service refuses a request. The text is for the client.
#[derive(Debug, Error)]
pub enum ServiceError {
    /// Something does not exist.
    #[error("{0}")]
    NotFound(String),
    /// The request conflicts with what is stored.
    #[error("{0}")]
    Conflict(String),
    /// A field is invalid.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// The table failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The result of a service.
pub type ServiceResult<T> = Result<T, ServiceError>;
