//! The bootstrap as a process; what it does with events is in `e2e/tests/bootstraps.rs`.

use std::process::Command;

#[test]
fn an_environment_that_lacks_something_says_what() {
    let output = Command::new(env!("CARGO_BIN_EXE_bootstrap-evaluate"))
        .env_clear()
        .env("AWS_LAMBDA_RUNTIME_API", "127.0.0.1:1")
        .env("AWS_REGION", "eu-central-1")
        .env("THRUM_TABLE", "thrum")
        .output()
        .unwrap();
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("THRUM_BUS must be set"), "{said}");
}
