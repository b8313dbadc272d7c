//! Clients of AWS services that are created when they are first needed.

use crate::error::SendError;
use futures::future::BoxFuture;
use tokio::sync::OnceCell;

/// Creates a client when it is first needed.
pub type MakeClient<C> = fn() -> BoxFuture<'static, C>;

/// A client that is created when it is first needed: most installations on one machine never need
/// it.
#[derive(Debug)]
pub struct Lazy<C> {
    client: OnceCell<C>,
    make: Option<MakeClient<C>>,
}

impl<C> Lazy<C> {
    /// The client that `make` creates.
    pub fn made_by(make: MakeClient<C>) -> Self {
        Self {
            client: OnceCell::new(),
            make: Some(make),
        }
    }

    /// This client.
    pub fn of(client: C) -> Self {
        Self {
            client: OnceCell::new_with(Some(client)),
            make: None,
        }
    }

    /// The client.
    ///
    /// # Errors
    /// Nothing can create it.
    pub async fn get(&self) -> Result<&C, SendError> {
        if let Some(client) = self.client.get() {
            return Ok(client);
        }
        let make = self
            .make
            .ok_or_else(|| SendError::permanent("AWS is not configured"))?;
        Ok(self.client.get_or_init(make).await)
    }
}

/// Why an AWS service could not be reached.
pub fn unreachable(service: &str) -> SendError {
    SendError::passing(format!(
        "{service} could not be reached; AWS_REGION and credentials must be set as for the AWS CLI"
    ))
}
