//! TLS, everywhere alike: rustls with ring, which is small and starts quickly; whom to trust is the system's to say.

use aws_smithy_http_client::Builder;
use aws_smithy_http_client::tls::Provider;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_runtime_api::client::http::SharedHttpClient;

/// What the SDK's clients connect by.
pub fn http_client() -> SharedHttpClient {
    Builder::new()
        .tls_provider(Provider::Rustls(CryptoMode::Ring))
        .build_https()
}

/// Says what every other client in the process connects by. Needed before one is made; doing it again does nothing.
pub fn install() {
    let _ = rustls::crypto::ring::default_provider().install_default();
}
