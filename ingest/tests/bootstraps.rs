//! The bootstrap as a process; what it does with events is in `e2e/tests/bootstraps.rs`.

use std::process::Command;

#[test]
fn an_environment_that_lacks_something_says_what() {
    let output = Command::new(env!("CARGO_BIN_EXE_bootstrap-ingest"))
        .env_clear()
        .env("AWS_LAMBDA_RUNTIME_API", "127.0.0.1:1")
        .env("AWS_REGION", "eu-central-1")
        .env("THRUM_TABLE", "thrum")
        .env("THRUM_TIMER_SHARDS", "many")
        .output()
        .unwrap();
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        said.contains("THRUM_TIMER_SHARDS must be 1 to 999"),
        "{said}"
    );
}
