//! TLS, everywhere alike: rustls with ring, which is small and starts quickly; the system decides whom to trust.

/// How the SDK's clients connect.
#[cfg(feature = "aws")]
pub fn http_client() -> aws_smithy_runtime_api::client::http::SharedHttpClient {
    use aws_smithy_http_client::tls::Provider;
    use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
    aws_smithy_http_client::Builder::new()
        .tls_provider(Provider::Rustls(CryptoMode::Ring))
        .build_https()
}

/// Sets how every other client in the process connects. Needed before one is made; doing it again does nothing.
pub fn install() {
    let _ = rustls::crypto::ring::default_provider().install_default();
}
