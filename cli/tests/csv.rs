//! Imports and backtests of CSV files as exchanges and data services write them.

use crate::support::{self, Thrum};
use serde_json::Value;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn thrum(url: &str, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_thrum"))
        .args(args)
        .env("THRUM_URL", url)
        .env("THRUM_API_KEY", support::API_KEY)
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn file(directory: &Path, name: &str, content: &[u8]) -> PathBuf {
    let path = directory.join(name);
    std::fs::write(&path, content).unwrap();
    path
}

/// The same two daily bars, as others write them: the name of the layout, and a file.
const LAYOUTS: [(&str, &str); 12] = [
    (
        "time, open, high, low, close",
        "time,open,high,low,close,volume\n2024-01-02T00:00:00Z,10,12.5,9,11,100\n2024-01-03T00:00:00Z,11,13,10,12,200\n",
    ),
    (
        "Yahoo Finance",
        "Date,Open,High,Low,Close,Adj Close,Volume\n2024-01-02,10,12.5,9,11,9.9,100\n2024-01-03,11,13,10,12,10.8,200\n",
    ),
    (
        "Binance klines",
        "open_time,open,high,low,close,volume,close_time,quote_volume,count,taker_buy_volume,taker_buy_quote_volume,ignore\n\
         1704153600000,10,12.5,9,11,100,1704239999999,1,1,1,1,0\n1704240000000,11,13,10,12,200,1704326399999,1,1,1,1,0\n",
    ),
    (
        "Binance klines without a header",
        "1704153600000000,10,12.5,9,11,100,1704239999999999,1,1,1,1,0\n1704240000000000,11,13,10,12,200,1704326399999999,1,1,1,1,0\n",
    ),
    (
        "Kraken bars without a header",
        "1704153600,10,12.5,9,11,100,7\n1704240000,11,13,10,12,200,9\n",
    ),
    (
        "CryptoDataDownload",
        "https://www.CryptoDataDownload.com\nunix,date,symbol,open,high,low,close,Volume BTC,Volume USD\n\
         1704240000000,2024-01-03 00:00:00,BTC/USD,11,13,10,12,200,1\n1704153600000,2024-01-02 00:00:00,BTC/USD,10,12.5,9,11,100,1\n",
    ),
    (
        "time, open, high, low, close",
        "time,open,high,low,close,Volume,RSI\n2024-01-02T01:00:00+01:00,10,12.5,9,11,100,50\n2024-01-03T01:00:00+01:00,11,13,10,12,200,51\n",
    ),
    (
        "time, open, high, low, close",
        "time,open,high,low,close,Volume\n1704153600,10,12.5,9,11,100\n1704240000,11,13,10,12,200\n",
    ),
    (
        "time, open, high, low, close",
        "Date,Open,High,Low,Close,Volume\n2024-01-02,10,12.5,9,11,100\n2024-01-03,11,13,10,12,200\n",
    ),
    (
        "separated by semicolons, with decimal commas",
        "\u{feff}Time;Open;High;Low;Close;Volume\n02.01.2024;10,0;12,5;9;11;100\n03.01.2024;11;13;10;12;200\n",
    ),
    (
        "without a header, separated by semicolons",
        "20240102;10;12.5;9;11;100\n20240103;11;13;10;12;200\n",
    ),
    (
        "Stooq",
        "<TICKER>,<PER>,<DATE>,<TIME>,<OPEN>,<HIGH>,<LOW>,<CLOSE>,<VOL>,<OPENINT>\n\
         A.US,D,20240102,000000,10,12.5,9,11,100,0\nA.US,D,20240103,000000,11,13,10,12,200,0\n",
    ),
];

#[test]
fn usual_layouts_are_recognised_and_named() {
    let directory = tempfile::tempdir().unwrap();
    let server = Thrum::start(directory.path(), &[]);
    let mut expected: Option<Vec<Value>> = None;
    for (i, (name, content)) in LAYOUTS.iter().enumerate() {
        let series = format!("s{i}");
        let plain = file(directory.path(), &format!("{i}.csv"), content.as_bytes());
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(content.as_bytes()).unwrap();
        let gzip = file(
            directory.path(),
            &format!("{i}.csv.gz"),
            &gzip.finish().unwrap(),
        );
        for (path, tally) in [
            (plain, "2 accepted, 0 unchanged, 0 revised, 0 rejected"),
            (gzip, "0 accepted, 2 unchanged, 0 revised, 0 rejected"),
        ] {
            let mut args = vec![
                "import",
                "bars",
                path.to_str().unwrap(),
                "--series",
                &series,
                "--timeframe",
                "1d",
            ];
            // Its times of day have no zone.
            if *name == "Stooq" {
                let refused = thrum(&server.url, &args);
                assert!(text(&refused.stderr).contains("pass --utc"), "{refused:?}");
                args.push("--utc");
            }
            let done = thrum(&server.url, &args);
            assert!(done.status.success(), "{name}: {done:?}");
            assert!(text(&done.stdout).contains(tally), "{name}: {done:?}");
            assert!(text(&done.stderr).contains(name), "{name}: {done:?}");
        }
        let stored = server.get(&format!("/v1/series/{series}/bars?timeframe=1d"));
        let mut bars = stored["bars"].as_array().unwrap().clone();
        for bar in &mut bars {
            bar["received_at"] = Value::Null;
        }
        assert_eq!(bars[0]["volume"], 100.0, "{name}");
        assert_eq!(
            expected.get_or_insert_with(|| bars.clone()),
            &bars,
            "{name}"
        );
    }
}

#[test]
fn other_layouts_take_columns_and_errors_say_so() {
    let directory = tempfile::tempdir().unwrap();
    let server = Thrum::start(directory.path(), &[]);
    let odd = file(
        directory.path(),
        "odd.csv",
        b"Tag,A,B,C,D\n2024-01-02,10,12,9,11\n2024-01-03,11,13,10,x\n",
    );
    let odd = odd.to_str().unwrap();
    let import = [
        "import",
        "bars",
        odd,
        "--series",
        "odd",
        "--timeframe",
        "1d",
    ];
    let refused = thrum(&server.url, &import);
    assert!(
        text(&refused.stderr).contains("has no column \"time\" (its header is tag,a,b,c,d)"),
        "{refused:?}"
    );
    let mut with = import.to_vec();
    with.extend(["--columns", "time=Tag,open=2,high=B,low=4,close=D"]);
    let done = thrum(&server.url, &with);
    assert!(
        text(&done.stdout).contains("1 accepted, 0 unchanged, 0 revised, 1 rejected"),
        "{done:?}"
    );
    assert!(
        text(&done.stderr).contains("line 3: d must be a number (got \"x\")"),
        "{done:?}"
    );
    for (columns, said) in [
        ("time=Tag,open=9", "has no column \"9\": it has 5 columns"),
        ("time=Tag", "--columns must have open="),
        ("when=Tag", "\"when\" is not one of time, clock"),
        ("Tag", "must be like time=Date"),
    ] {
        let mut with = import.to_vec();
        with.extend(["--columns", columns]);
        let refused = thrum(&server.url, &with);
        assert!(
            text(&refused.stderr).contains(said),
            "{columns}: {refused:?}"
        );
    }
    let three = file(directory.path(), "three.csv", b"2024-01-02,1,2\n");
    let refused = thrum(
        &server.url,
        &["import", "bars", three.to_str().unwrap(), "--series", "x"],
    );
    assert!(
        text(&refused.stderr).contains("has no header and 3 columns"),
        "{refused:?}"
    );
    let empty = file(directory.path(), "empty.csv", b"");
    let refused = thrum(
        &server.url,
        &["import", "bars", empty.to_str().unwrap(), "--series", "x"],
    );
    assert!(text(&refused.stderr).contains("has no rows"), "{refused:?}");
}

#[test]
fn values_are_imported_as_values() {
    let directory = tempfile::tempdir().unwrap();
    let server = Thrum::start(directory.path(), &[]);
    let path = file(
        directory.path(),
        "rows.csv",
        b"time,value\n2024-01-02T02:00:00Z,118000\n2024-01-03T02:00:00Z,121000\n",
    );
    let path = path.to_str().unwrap();
    let refused = thrum(&server.url, &["import", "bars", path, "--series", "rows"]);
    assert!(
        text(&refused.stderr).contains("use `thrum import values`"),
        "{refused:?}"
    );
    let done = thrum(&server.url, &["import", "values", path, "--series", "rows"]);
    assert!(text(&done.stdout).contains("2 accepted"), "{done:?}");
    let stored = server.get("/v1/series/rows/bars?timeframe=tick");
    assert_eq!(stored["bars"][1]["close"], 121_000.0);
    let listed = thrum(&server.url, &["series"]);
    assert!(text(&listed.stdout).contains("rows    tick"), "{listed:?}");
    let accept = ["series", "accept", "rows", "--timeframe", "tick"];
    assert!(thrum(&server.url, &accept).status.success());
    let list = server.get("/v1/series");
    assert_eq!(
        list["series"][0]["accepted_levels"][0],
        "2024-01-03T02:00:00.000Z"
    );
    let delete = [
        "series",
        "delete",
        "rows",
        "-t",
        "tick",
        "--to",
        "2024-01-03T00:00:00Z",
    ];
    let deleted = thrum(&server.url, &delete);
    assert!(text(&deleted.stdout).contains("Bars: 1."), "{deleted:?}");
    assert!(
        thrum(&server.url, &["series", "delete", "rows", "-t", "tick"])
            .status
            .success()
    );
    assert_eq!(server.get("/v1/series")["series"], serde_json::json!([]));
}

/// A file may be longer than a backtest: `--from` and `--to` choose the part, wherever it is, in any order.
#[test]
fn a_backtest_takes_a_part_of_a_file_of_any_size() {
    let directory = tempfile::tempdir().unwrap();
    let mut lines: Vec<String> = (0..450_000_i64)
        .map(|i| {
            let close = 100.0 + (i % 97) as f64 / 10.0;
            format!("{},{close},{close},{close},{close}", 1_600_000_020 + i * 60)
        })
        .collect();
    let time = |i: i64| {
        let at = thrum_schema::UnixMs((1_600_000_020 + i * 60) * 1_000);
        at.rfc3339()
    };
    let (from, to) = (time(130_000), time(140_000));
    let mut reports = Vec::new();
    for _ in 0..2 {
        let content = lines.join("\n");
        let path = file(directory.path(), "long.csv", content.as_bytes());
        let backtest = |more: &[&str]| {
            let mut args = vec![
                "backtest",
                path.to_str().unwrap(),
                "-t",
                "1m",
                "--strategy",
                "sma-cross",
                "--json",
            ];
            args.extend(more);
            thrum("http://127.0.0.1:1", &args)
        };
        let done = backtest(&["--from", &from, "--to", &to]);
        assert!(done.status.success(), "{done:?}");
        let report: Value = serde_json::from_slice(&done.stdout).unwrap();
        assert_eq!(report["from"], from);
        reports.push(report);
        let refused = backtest(&["--from", &time(100)]);
        assert!(
            text(&refused.stderr)
                .contains("--from must be later: a backtest takes at most 200000 bars"),
            "{refused:?}"
        );
        lines.reverse();
    }
    assert_eq!(reports[0], reports[1]);
}
