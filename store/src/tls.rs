//! TLS for all connections: rustls with ring, which is small and starts quickly, and the system's
//! trusted certificates.

/// The HTTP client for the SDK's clients.
#[cfg(feature = "aws")]
pub fn http_client() -> aws_smithy_runtime_api::client::http::SharedHttpClient {
    use aws_smithy_http_client::tls::Provider;
    use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
    aws_smithy_http_client::Builder::new()
        .tls_provider(Provider::Rustls(CryptoMode::Ring))
        .build_https()
}

/// Sets up TLS for all other clients in the process. Call it before creating one; further calls do
/// nothing.
pub fn install() {
    let _ = rustls::crypto::ring::default_provider().install_default();
}
