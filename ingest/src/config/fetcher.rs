//! Fetches pages with the HTTP client of the AWS SDK, which the Lambda function has anyway.

use super::Fetch;
use aws_smithy_http_client::Connector;
use aws_smithy_http_client::tls::Provider;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_runtime_api::client::http::HttpConnector;
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_types::body::SdkBody;
use aws_smithy_types::byte_stream::ByteStream;
use futures::future::BoxFuture;
use std::sync::OnceLock;
use std::time::Duration;

/// How long a page may take.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Most bytes of a page.
const MAX_PAGE: usize = 65_536;

/// Fetches pages over HTTPS. The client is created when it is first needed.
#[derive(Debug, Default)]
pub struct Fetcher(OnceLock<Connector>);

impl Fetcher {
    async fn page(&self, url: &str) -> Result<Vec<u8>, String> {
        let connector = self.0.get_or_init(|| {
            Connector::builder()
                .tls_provider(Provider::Rustls(CryptoMode::Ring))
                .build()
        });
        let mut request = HttpRequest::new(SdkBody::empty());
        request.set_uri(url).map_err(|error| error.to_string())?;
        let response = connector.call(request).await;
        let response = response.map_err(|error| error.to_string())?;
        if !response.status().is_success() {
            return Err(format!("answered {}", response.status().as_u16()));
        }
        let mut stream = ByteStream::new(response.into_body());
        let mut page = Vec::new();
        while let Some(chunk) = stream.next().await {
            page.extend_from_slice(&chunk.map_err(|error| error.to_string())?);
            if page.len() > MAX_PAGE {
                return Err("the page is too long".to_owned());
            }
        }
        Ok(page)
    }
}

impl Fetch for Fetcher {
    fn get<'a>(&'a self, url: &'a str) -> BoxFuture<'a, Result<Vec<u8>, String>> {
        Box::pin(async move {
            let page = tokio::time::timeout(TIMEOUT, self.page(url)).await;
            page.unwrap_or_else(|_| Err("no answer within five seconds".to_owned()))
        })
    }
}
