//! Secrets in AWS Secrets Manager.

use super::SecretSource;
use aws_sdk_secretsmanager::Client;
use aws_sdk_secretsmanager::error::DisplayErrorContext;
use futures::future::BoxFuture;
use secrecy::SecretString;

/// A secret in AWS Secrets Manager.
#[derive(Debug, Clone)]
pub struct SecretsManager {
    client: Client,
    arn: String,
}

impl SecretsManager {
    /// The secret with this ARN, which must be a string.
    pub fn new(client: Client, arn: &str) -> Self {
        Self {
            client,
            arn: arn.to_owned(),
        }
    }
}

impl SecretSource for SecretsManager {
    fn fetch(&self) -> BoxFuture<'_, Result<SecretString, String>> {
        Box::pin(async {
            let found = self.client.get_secret_value().secret_id(&self.arn).send();
            let found = found
                .await
                .map_err(|error| DisplayErrorContext(&error).to_string())?;
            let secret = found.secret_string.ok_or("the secret is not a string")?;
            Ok(secret.into())
        })
    }
}
