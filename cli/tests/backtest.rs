//! `thrum backtest` and `thrum strategies` as someone with files and an editor uses them.

use crate::support::{API_KEY, Thrum};
use serde_json::{Value, json};
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn thrum(url: &str, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_thrum"))
        .args(args)
        .env("THRUM_URL", url)
        .env("THRUM_API_KEY", API_KEY)
        .output()
        .unwrap()
}

/// Runs it without a server.
fn offline(args: &[&str]) -> Output {
    thrum("http://127.0.0.1:1", args)
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr].concat()).into_owned()
}

/// A file of demo bars.
fn demo(directory: &Path, name: &str, seed: &str) -> PathBuf {
    let path = directory.join(name);
    let output = offline(&["demo-bars", "--seed", seed, "--bars", "900"]);
    assert!(output.status.success(), "{output:?}");
    std::fs::write(&path, output.stdout).unwrap();
    path
}

fn name(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn files_are_tested_as_a_portfolio_and_saved() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let (a, b) = (
        demo(directory.path(), "a.csv", "1"),
        demo(directory.path(), "b.csv", "2"),
    );
    let (html, trades, equity) = (at("r.html"), at("t.csv"), at("e.csv"));
    let done = offline(&[
        "backtest",
        name(&a),
        name(&b),
        "--weights",
        "0.6,0.3",
        "--size",
        "volatility=0.3,30",
        "--benchmark",
        name(&a),
        "--strategy",
        "turtle",
        "--monte-carlo",
        "200",
        "--html",
        name(&html),
        "--trades-csv",
        name(&trades),
        "--equity-csv",
        name(&equity),
        "--json",
    ]);
    assert!(done.status.success(), "{done:?}");
    let report: Value = serde_json::from_slice(&done.stdout).unwrap();
    assert_eq!(report["portfolio"][1]["series"], "b");
    assert_eq!(
        report["sizing"],
        json!({ "volatility": { "target": 0.3, "bars": 30 } })
    );
    assert_eq!(report["benchmark"]["series"], "a");
    let read = |path: &Path| std::fs::read_to_string(path).unwrap();
    assert_eq!(
        read(&trades).lines().count() - 1,
        report["trades"].as_array().unwrap().len()
    );
    // Every row of the equity curve, however many there are.
    assert!(read(&equity).lines().count() > 800);
    assert!(read(&html).contains("turtle on a, b (1h)"));
    let shown = said(&offline(&[
        "backtest",
        name(&a),
        name(&b),
        "--strategy",
        "turtle",
    ]));
    assert!(
        shown.contains("contribution") && shown.contains("50.00 %"),
        "{shown}"
    );
    for (args, problem) in [
        (
            &["--weights", "0.6"][..],
            "--weights must have one number per series (got 1 for 2 series)",
        ),
        (
            &["--weights", "0.6,0.6"],
            "portfolio must have weights that add up to at most 1",
        ),
        (
            &["--size", "half"],
            "must be fraction=0.5, fixed=0.1 or volatility=0.2",
        ),
        (&["--grid", "fast"], "must be NAME=NUMBERS"),
        (&["--walk-forward", "100,50"], "--grid"),
        (&["--svg", "x.svg"], "--svg draws one series"),
    ] {
        let all = [&["backtest", name(&a), name(&b)], args].concat();
        let refused = offline(&all);
        assert!(
            !refused.status.success() && said(&refused).contains(problem),
            "{args:?}: {refused:?}"
        );
    }
}

#[test]
fn parameters_are_searched_and_walked_forward() {
    let directory = tempfile::tempdir().unwrap();
    let a = demo(directory.path(), "a.csv", "1");
    let grid = [
        "backtest",
        name(&a),
        "--strategy",
        "macd",
        "--grid",
        "fast=5,12,40",
        "--grid",
        "signal=5,9",
    ];
    let shown = said(&offline(&grid));
    assert!(
        shown.contains("fast=5 signal=9") && shown.contains("  best"),
        "{shown}"
    );
    assert!(shown.contains("must be less than slow"), "{shown}");
    let walked = said(&offline(
        &[&grid[..], &["--walk-forward", "200,100"]].concat(),
    ));
    assert!(
        walked.contains("out of sample") && !walked.contains("  best"),
        "{walked}"
    );
}

#[test]
fn a_detector_is_tried_on_a_file_of_values() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("rows.csv");
    let mut content = "time,value\n".to_owned();
    for day in 0..60_i64 {
        let at = thrum_schema::UnixMs((1_750_000_000 + day * 86_400) * 1_000).rfc3339();
        let rows = if day == 50 { 400 } else { 1_000 + day * 7 % 13 };
        writeln!(content, "{at},{rows}").unwrap();
    }
    std::fs::write(&path, content).unwrap();
    let shown = said(&offline(&["backtest", name(&path), "--strategy", "auto"]));
    assert!(
        shown.contains("It would have sent 1 alert in 59 days (1 LOW, 0 HIGH)")
            && shown.contains("LOW at 400: far below its usual"),
        "{shown}"
    );
}

#[test]
fn strategies_are_checked_stored_tested_and_deleted() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("mine.json");
    let write = |content: &Value| std::fs::write(&file, content.to_string()).unwrap();
    write(
        &json!({ "long": { "enter": { "left": "close", "op": ">", "right": { "indicator": "sma", "n": 0 } } }, "x": 1 }),
    );
    let refused = said(&offline(&["strategies", "check", name(&file)]));
    for problem in ["x is not a known field", "mine.json is not a strategy"] {
        assert!(refused.contains(problem), "{refused}");
    }
    let shown = offline(&["strategies", "show", "rsi-dip"]);
    std::fs::write(&file, &shown.stdout).unwrap();
    let fine = offline(&["strategies", "check", name(&file)]);
    assert!(fine.status.success(), "{fine:?}");
    let schema = offline(&["strategies", "schema"]);
    let schema: Value = serde_json::from_slice(&schema.stdout).unwrap();
    assert!(schema["$defs"]["operand"].is_object());

    let server = Thrum::start(&directory.path().join("data"), &[]);
    let run = |args: &[&str]| {
        let output = thrum(&server.url, args);
        assert!(output.status.success(), "{args:?}: {output:?}");
        said(&output)
    };
    assert!(run(&["strategies", "set", "mine", name(&file)]).contains("Stored mine, version 1."));
    assert!(run(&["strategies"]).contains("mine"));
    let bars = demo(directory.path(), "demo.csv", "3");
    run(&["import", "bars", name(&bars), "--series", "demo"]);
    let remote: Value = serde_json::from_str(
        run(&[
            "backtest",
            "--series",
            "demo",
            "--strategy",
            "mine",
            "--json",
        ])
        .trim_end_matches(|c| c != '}'),
    )
    .unwrap();
    let local = offline(&[
        "backtest",
        name(&bars),
        "--strategy-file",
        name(&file),
        "--json",
    ]);
    let local: Value = serde_json::from_slice(&local.stdout).unwrap();
    for field in ["total_return", "sharpe", "trades", "rows"] {
        assert_eq!(remote[field], local[field], "{field}");
    }
    assert!(run(&["strategies", "delete", "mine"]).contains("Deleted mine."));
}
