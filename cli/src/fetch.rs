//! Fetches pages over HTTPS for ingest.

use crate::remote::client;
use futures::future::BoxFuture;
use std::sync::OnceLock;
use std::time::Duration;
use thrum_ingest::Fetch;

/// How long a page may take.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Most bytes of a page.
const MAX_PAGE: usize = 65_536;

/// Fetches pages. The client is created when it is first needed.
#[derive(Debug, Default)]
pub struct Fetcher(OnceLock<reqwest::Client>);

impl Fetcher {
    async fn page(&self, url: &str) -> Result<Vec<u8>, String> {
        let client = match self.0.get() {
            Some(client) => client,
            None => {
                let client = client(TIMEOUT).map_err(|error| error.to_string())?;
                self.0.get_or_init(|| client)
            }
        };
        let answer = client.get(url).send().await;
        let answer = answer.and_then(reqwest::Response::error_for_status);
        let mut answer = answer.map_err(|error| error.without_url().to_string())?;
        let mut page = Vec::new();
        while let Some(chunk) = answer
            .chunk()
            .await
            .map_err(|error| error.without_url().to_string())?
        {
            page.extend_from_slice(&chunk);
            if page.len() > MAX_PAGE {
                return Err("the page is too long".to_owned());
            }
        }
        Ok(page)
    }
}

impl Fetch for Fetcher {
    fn get<'a>(&'a self, url: &'a str) -> BoxFuture<'a, Result<Vec<u8>, String>> {
        Box::pin(self.page(url))
    }
}
