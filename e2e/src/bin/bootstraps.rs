//! Measures how fast the bootstraps start, how much memory they need, how large they are, and the
//! CPU time of a heartbeat and of a timer:
//!
//! ```text
//! deploy/build x86_64 && cargo run --release -p e2e --bin bootstraps
//! ```
//!
//! Lambda's Runtime API is simulated. The table runs in an emulator's process, so its CPU time is
//! not counted.

use anyhow::{Context, ensure};
use axum::body::Body;
use axum::http::Request;
use clap::Parser;
use e2e::dynoxide::Dynoxide;
use e2e::lambda::{Function, url_event};
use e2e::{API_KEY, PING_KEY, Stage, TABLE, prepare};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use thrum_ingest::App;
use thrum_schema::timer::{Timer, What};
use thrum_schema::world::SystemWorld;
use thrum_schema::{MonitorId, ProjectId};
use thrum_store::Store;
use tower::ServiceExt;

/// Measure the bootstraps: start time, memory, size, and CPU time per heartbeat.
#[derive(Debug, Parser)]
struct Options {
    /// The directory that `deploy/build` wrote them to
    #[arg(default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/lambda"))]
    directory: PathBuf,

    /// How often to start each
    #[arg(long, default_value = "31")]
    starts: usize,

    /// How many heartbeats to send
    #[arg(long, default_value = "5000")]
    pings: usize,

    /// How many timers to sweep
    #[arg(long, default_value = "12000")]
    timers: usize,

    /// Only measure the sweep
    #[arg(long)]
    sweep_only: bool,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    sweep(
        &options.directory.join("bootstrap-evaluate/bootstrap"),
        options.timers,
    )
    .await?;
    if options.sweep_only {
        return Ok(());
    }
    let emulator = Dynoxide::start()
        .await
        .context("THRUM_TEST_DYNOXIDE must be the path of the emulator")?;
    Stage::on(&emulator).await;
    println!("function   zip        start: median   p90        memory");
    for name in ["ingest", "evaluate", "notify"] {
        let directory = options.directory.join(format!("bootstrap-{name}"));
        let zip = std::fs::metadata(directory.join("bootstrap.zip")).with_context(|| {
            format!(
                "{} has no bootstrap.zip; run deploy/build",
                directory.display()
            )
        })?;
        let mut starts = Vec::new();
        let mut memory = 0;
        for _ in 0..options.starts {
            let function = Function::start(&directory.join("bootstrap"), &emulator, &[]).await?;
            starts.push(function.ready().await?);
            memory = memory.max(resident(&function)?);
        }
        starts.sort_unstable();
        let at = |part: f64| ms(starts[(part * (starts.len() - 1) as f64) as usize]);
        println!(
            "{name:<10} {:.2} MB    {:>6.1} ms       {:>6.1} ms  {:.1} MiB",
            zip.len() as f64 / 1e6,
            at(0.5),
            at(0.9),
            memory as f64 / 1024.0
        );
    }
    let bootstrap = options.directory.join("bootstrap-ingest/bootstrap");
    for log in ["off", "on"] {
        pings(&bootstrap, &emulator, options.pings, log).await?;
    }
    Ok(())
}

/// Measures a warm heartbeat: CPU time and elapsed time.
async fn pings(bootstrap: &Path, emulator: &Dynoxide, n: usize, log: &str) -> anyhow::Result<()> {
    let variables = [("THRUM_PING_LOG", log), ("THRUM_PINGS_PER_MINUTE", "0")];
    let function = Function::start(bootstrap, emulator, &variables).await?;
    let ping =
        |query| url_event("POST", &format!("/ping/{PING_KEY}/job{query}"), &[], "").to_string();
    function.invoke(ping("?create=1")).await?;
    let nothing = url_event("GET", "/health", &[], "").to_string();
    for (what, event) in [("a health check", nothing), ("a heartbeat", ping(""))] {
        for _ in 0..200 {
            function.invoke(&*event).await?;
        }
        let (cpu, started) = (cpu(&function)?, std::time::Instant::now());
        for _ in 0..n {
            function.invoke(&*event).await?;
        }
        let spent = self::cpu(&function)? - cpu;
        println!(
            "{what}, log {log}: {:.0} µs CPU, {:.2} ms elapsed; {:.1} MiB after {n}",
            spent.as_secs_f64() * 1e6 / n as f64,
            ms(started.elapsed()) / n as f64,
            resident(&function)? as f64 / 1024.0
        );
    }
    Ok(())
}

/// How many timers of monitors that are not late an invocation of evaluate handles: the CPU time for
/// each.
async fn sweep(binary: &Path, timers: usize) -> anyhow::Result<()> {
    let emulator = Dynoxide::start().await.context("an emulator")?;
    let table = Arc::new(emulator.quiet_table(TABLE).await);
    let store = Store::new(table, TABLE, 4, SystemWorld::arc());
    prepare(&store).await;
    let router = thrum_ingest::router(App::new(store.clone(), thrum_ingest::Config::default()));
    for start in (0..timers).step_by(100) {
        let beats: Vec<Value> = (start..start + 100)
            .map(|n| json!({"monitor": format!("m{n}"), "period_s": 3_600, "grace_s": 60}))
            .collect();
        let request = Request::post("/v1/heartbeats")
            .header("x-api-key", API_KEY)
            .body(Body::from(json!({ "heartbeats": beats }).to_string()))?;
        let Ok(reply) = router.clone().oneshot(request).await;
        ensure!(reply.status().is_success(), "{}", reply.status());
    }
    let monitors = store.monitors(ProjectId::FIRST).await?;
    let ids: Vec<MonitorId> = monitors.iter().map(|monitor| monitor.id).collect();
    let now = store.world().now();
    let states = store.states(&ids).await?;
    let due: Vec<Timer> = states
        .iter()
        .map(|state| Timer {
            due: now,
            what: What::Deadline {
                monitor: state.monitor,
                epoch: state.epoch,
            },
        })
        .collect();
    store.arm(&due).await?;
    let function = Function::start(binary, &emulator, &[]).await?;
    function.ready().await?;
    let (before, started) = (cpu(&function)?, std::time::Instant::now());
    function.invoke("{\"do\": \"sweep\"}").await?;
    let spent = cpu(&function)? - before;
    let left = store.timers_between(0, now - 1, now + 1).await?;
    ensure!(left.is_empty(), "{} timers are left", left.len());
    println!(
        "a timer of a monitor that is not late: {:.1} µs CPU; {timers} in {:.0} ms elapsed",
        spent.as_secs_f64() * 1e6 / timers as f64,
        ms(started.elapsed()),
    );
    Ok(())
}

fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

/// The resident memory of a function's process, in KiB.
fn resident(function: &Function) -> anyhow::Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", process(function)?))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let text = line.context("no VmRSS")?.trim().trim_end_matches(" kB");
    Ok(text.parse()?)
}

/// The CPU time of a function's process so far.
fn cpu(function: &Function) -> anyhow::Result<Duration> {
    let mut spent = 0;
    for thread in std::fs::read_dir(format!("/proc/{}/task", process(function)?))? {
        // The first field is the time on a CPU, in nanoseconds.
        let text = std::fs::read_to_string(thread?.path().join("schedstat"))?;
        spent += text.split(' ').next().context("no time")?.parse::<u64>()?;
    }
    Ok(Duration::from_nanos(spent))
}

fn process(function: &Function) -> anyhow::Result<u32> {
    function.process().context("the function has ended")
}
