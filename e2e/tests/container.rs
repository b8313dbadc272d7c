//! `thrum serve --table`: ingest of a deployment, in its own process.

use std::path::Path;
use std::process::Command;

const BINARY: &str = env!("CARGO_BIN_EXE_e2e");

#[tokio::test]
async fn what_a_container_acknowledges_is_in_the_table_and_judged() {
    let say = |line: String| eprintln!("{line}");
    let report = e2e::container::run(Path::new(BINARY), 150, say).await;
    report.unwrap();
}

#[test]
fn a_container_needs_the_admin_key_and_an_existing_table() {
    let run = |variables: &[(&str, &str)]| {
        let done = Command::new(BINARY)
            .args(["serve", "--listen", "127.0.0.1:0", "--table", "nowhere"])
            .env("AWS_REGION", "us-east-1")
            .env("AWS_ACCESS_KEY_ID", "id")
            .env("AWS_SECRET_ACCESS_KEY", "secret")
            .env("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
            .envs(variables.iter().copied())
            .output()
            .unwrap();
        assert!(!done.status.success());
        String::from_utf8_lossy(&done.stderr).into_owned()
    };
    let error = run(&[]);
    assert!(error.contains("--table needs --admin-key"), "{error}");
    let error = run(&[("THRUM_ADMIN_KEY", e2e::ADMIN_KEY)]);
    assert!(
        error.contains("can't read table nowhere in us-east-1"),
        "{error}"
    );
}
