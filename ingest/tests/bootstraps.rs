//! Runs the bootstrap as a process. `e2e/tests/bootstraps.rs` tests how it handles events.

use std::process::Command;

#[test]
fn an_invalid_environment_variable_is_named() {
    let output = Command::new(env!("CARGO_BIN_EXE_bootstrap-ingest"))
        .env_clear()
        .env("AWS_LAMBDA_RUNTIME_API", "127.0.0.1:1")
        .env("AWS_REGION", "eu-central-1")
        .env("THRUM_TABLE", "thrum")
        .env("THRUM_TIMER_SHARDS", "many")
        .output()
        .unwrap();
    assert!(!output.status.success());
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(
        stderr.contains("THRUM_TIMER_SHARDS must be 1 to 999"),
        "{stderr}"
    );
}
