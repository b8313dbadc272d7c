//! What the commands of a server's operator have in common: the admin key.

use super::{Direct, Remote};
use anyhow::Context;
use clap::Args;
use reqwest::Method;
use secrecy::SecretString;
use serde_json::Value;

/// Server, admin key and output format.
#[derive(Debug, Args)]
pub struct Operator {
    /// Admin key of the server
    #[arg(
        long,
        global = true,
        env = "THRUM_ADMIN_KEY",
        hide_env_values = true,
        value_name = "KEY",
        help_heading = "Server options"
    )]
    admin_key: Option<SecretString>,

    /// Server, API key and output format.
    #[command(flatten)]
    pub remote: Remote,
}

impl Operator {
    /// Opens the table of `--table`, if it is given, and sends further requests there.
    ///
    /// # Errors
    /// The table can't be opened.
    pub async fn connect(&mut self) -> anyhow::Result<Option<Direct>> {
        let Some(table) = &self.remote.table else {
            return Ok(None);
        };
        let direct = Direct::open(table, None, false).await?;
        self.remote.connect_to(&direct);
        self.admin_key = Some(direct.admin_key.clone());
        Ok(Some(direct))
    }

    /// Calls `path` with the admin key. An error has the server's status and reason.
    pub(super) async fn call(
        &self,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> anyhow::Result<Value> {
        let key = self.admin_key.as_ref();
        let key =
            key.context("the admin key is required: set THRUM_ADMIN_KEY or pass --admin-key")?;
        let header = ("x-admin-key", key);
        let (_, reply) = self.remote.call_with(header, method, path, body).await?;
        Ok(reply)
    }
}
