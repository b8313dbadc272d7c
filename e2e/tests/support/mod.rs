//! moto, the AWS emulator from PyPI, and a validator of JSON Schemas.

pub mod schemas;

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// A moto server, killed on drop.
pub struct Moto {
    /// The client configuration that reaches it.
    pub config: SdkConfig,
    child: Child,
}

impl Moto {
    /// Starts the server. Without `THRUM_TEST_PYTHON` it reports the skipped test and returns
    /// `None`.
    pub fn start() -> Option<Self> {
        let Some(python) = std::env::var_os("THRUM_TEST_PYTHON") else {
            eprintln!("SKIPPED: THRUM_TEST_PYTHON is not set; see CONTRIBUTING.md");
            return None;
        };
        let port = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let child = Command::new(python)
            .args([
                "-m",
                "moto.server",
                "-H",
                "127.0.0.1",
                "-p",
                &port.to_string(),
            ])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let started = std::time::Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(
                started.elapsed() < Duration::from_secs(60),
                "moto did not start within 60 s"
            );
            std::thread::sleep(Duration::from_millis(50));
        }
        let credentials = Credentials::new("test", "test", None, None, "test");
        let config = SdkConfig::builder()
            .behavior_version(BehaviorVersion::latest())
            .http_client(thrum_store::tls::http_client())
            .region(Region::from_static("eu-central-1"))
            .endpoint_url(format!("http://127.0.0.1:{port}"))
            .credentials_provider(SharedCredentialsProvider::new(credentials))
            .build();
        Some(Self { config, child })
    }
}

impl Drop for Moto {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
