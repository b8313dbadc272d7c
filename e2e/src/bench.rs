//! `bench`: runs the benchmarks and regenerates docs/benchmarks.md.

use crate::load::{self, Load};
use anyhow::{Context, ensure};
use clap::Args;
use serde_json::Value;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The root of the workspace.
const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
/// The template of the page, with `{…}` placeholders for the figures.
const PAGE: &str = include_str!("../benchmarks.md.in");
/// The endurance runs shown on the page, by report name.
const ENDURED: [&str; 4] = ["full", "full-chaos", "normal", "normal-chaos"];

/// Options of the benchmarks.
#[derive(Debug, Args)]
pub struct Bench {
    #[command(flatten)]
    load: Load,

    /// Directory of the endurance reports. They are not regenerated here, because each takes ten
    /// minutes
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/endurance"))]
    endurance: PathBuf,
}

/// Runs the benchmarks and writes the page.
///
/// # Errors
/// A benchmark failed, or the page can't be written.
pub async fn run(options: &Bench) -> anyhow::Result<()> {
    let core = core()?;
    let load = load::run(&options.load).await?;
    let page = PAGE
        .replace("{machine}", &machine())
        .replace("{core}", &core)
        .replace("{load}", load.trim_end())
        .replace("{endurance}", endurance(&options.endurance)?.trim_end());
    let path = Path::new(ROOT).join("docs/benchmarks.md");
    fs::write(&path, page).with_context(|| format!("can't write {}", path.display()))?;
    println!("\nwrote docs/benchmarks.md");
    Ok(())
}

fn machine() -> String {
    let cpus = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let mut models = cpus
        .lines()
        .filter_map(|line| line.strip_prefix("model name"));
    let model = models.next().map_or("an unknown processor", |model| {
        model.trim_start_matches([' ', '\t', ':'])
    });
    let n = std::thread::available_parallelism().map_or(1, usize::from);
    format!("{n} cores of {model}")
}

/// Criterion's figures for the pure core.
fn core() -> anyhow::Result<String> {
    // Remove the results of other benches.
    let _ = fs::remove_dir_all(Path::new(ROOT).join("target/criterion"));
    let status = Command::new(env!("CARGO"))
        .args([
            "bench",
            "-p",
            "thrum-schema",
            "-p",
            "thrum-evaluate",
            "--bench",
            "core",
            "--bench",
            "engine",
        ])
        .current_dir(ROOT)
        .status()?;
    ensure!(status.success(), "cargo bench failed");
    let mut rows = Vec::new();
    for group in fs::read_dir(Path::new(ROOT).join("target/criterion"))?.flatten() {
        for bench in fs::read_dir(group.path()).into_iter().flatten().flatten() {
            let estimates = bench.path().join("new/estimates.json");
            let Ok(text) = fs::read_to_string(estimates) else {
                continue;
            };
            let about: Value = serde_json::from_str(&fs::read_to_string(
                bench.path().join("new/benchmark.json"),
            )?)?;
            let estimates: Value = serde_json::from_str(&text)?;
            let per = about["throughput"]["Elements"].as_f64().unwrap_or(1.0);
            let ns = |bound: &str| {
                let interval = &estimates["median"]["confidence_interval"];
                let ns = if bound.is_empty() {
                    &estimates["median"]["point_estimate"]
                } else {
                    &interval[bound]
                };
                ns.as_f64().map(|ns| ns / per)
            };
            let (Some(median), Some(low), Some(high)) =
                (ns(""), ns("lower_bound"), ns("upper_bound"))
            else {
                continue;
            };
            let name = about["full_id"].as_str().unwrap_or_default().to_owned();
            rows.push(format!(
                "| {name} | {} | {} to {} |",
                time(median),
                time(low),
                time(high)
            ));
        }
    }
    rows.sort();
    Ok(format!(
        "| | median | 95 % confidence interval |\n|---|---|---|\n{}",
        rows.join("\n")
    ))
}

fn time(ns: f64) -> String {
    match ns {
        ..1e3 => format!("{ns:.1} ns"),
        ..1e6 => format!("{:.2} µs", ns / 1e3),
        _ => format!("{:.2} ms", ns / 1e6),
    }
}

/// The endurance reports side by side, and their charts.
fn endurance(directory: &Path) -> anyhow::Result<String> {
    let mut reports = Vec::new();
    let mut names = Vec::new();
    for name in ENDURED {
        // Skip runs without a report.
        let path = directory.join(name).with_extension("json");
        if let Ok(text) = fs::read_to_string(&path) {
            reports.push(serde_json::from_str::<Value>(&text)?);
            names.push(name);
        }
    }
    ensure!(
        !names.is_empty(),
        "no reports of `endure` in {}",
        directory.display()
    );
    let mut table = String::new();
    let mut row = |name: &str, of: &dyn Fn(&Value) -> String| {
        let cells: Vec<String> = reports.iter().map(of).collect();
        let _ = writeln!(table, "| {name} | {} |", cells.join(" | "));
    };
    let n = |value: &Value| value.as_u64().map_or("-".to_owned(), |n| n.to_string());
    let ms = |value: &Value| {
        value
            .as_f64()
            .map_or("-".to_owned(), |ms| format!("{ms:.1}"))
    };
    let mib = |value: &Value| match (value[0].as_u64(), value[1].as_u64()) {
        (Some(from), Some(most)) => format!("{} → {} MiB", from >> 20, most >> 20),
        _ => "-".to_owned(),
    };
    row("", &|r| {
        let killed = r["kill_every_s"].as_u64() > Some(0);
        format!(
            "{} monitors, `--sync {}`{}",
            n(&r["monitors"]),
            r["sync"].as_str().unwrap_or("-"),
            if killed { ", killed" } else { "" }
        )
    });
    row("---", &|_| "---".to_owned());
    row(
        "killed with `kill -9`",
        &|r| match r["kill_every_s"].as_u64() {
            Some(0) => "never".to_owned(),
            _ => format!(
                "every {} s, {} times; restarted within {} ms",
                n(&r["kill_every_s"]),
                n(&r["kills"]),
                n(&r["restart_ms"])
            ),
        },
    );
    row("pings answered; answered but lost", &|r| {
        format!("{}; {}", n(&r["answered"]), n(&r["lost"]))
    });
    row("ping latency p50, p99, p99.9, ms", &|r| {
        format!(
            "{}, {}, {}",
            ms(&r["p50_ms"]),
            ms(&r["p99_ms"]),
            ms(&r["p999_ms"])
        )
    });
    row("after the first two minutes", &|r| {
        format!(
            "{}, {}, {}",
            ms(&r["steady_p50_ms"]),
            ms(&r["steady_p99_ms"]),
            ms(&r["steady_p999_ms"])
        )
    });
    row("changes notified; missed; false", &|r| {
        format!(
            "{}; {}; {}",
            n(&r["told"]),
            n(&r["missed"]),
            n(&r["false_alerts"])
        )
    });
    row("repeated messages", &|r| n(&r["repeats"]));
    row("deadline to message p50, p99, max, ms", &|r| {
        format!(
            "{}, {}, {}",
            n(&r["lag_p50_ms"]),
            n(&r["lag_p99_ms"]),
            n(&r["lag_max_ms"])
        )
    });
    row("CPU, share of one core", &|r| {
        r["cpu_ms_a_second"]
            .as_f64()
            .map_or("-".to_owned(), |ms| format!("{:.0} %", ms / 10.0))
    });
    row("memory at 25 % of the run → max later", &|r| {
        mib(&r["memory"])
    });
    row("database at 25 % of the run → max later", &|r| {
        mib(&r["database"])
    });
    table.push('\n');
    for name in names {
        let _ = writeln!(table, "![{name}](endurance/{name}.svg)");
    }
    Ok(table)
}
