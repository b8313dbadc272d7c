//! Measures how fast the bootstraps start, how much memory they need, how large they are, and the
//! CPU time of a heartbeat:
//!
//! ```text
//! deploy/build x86_64 && cargo run --release -p e2e --bin bootstraps
//! ```
//!
//! Lambda's Runtime API is simulated. The table runs in an emulator's process, so its CPU time is
//! not counted.

use anyhow::Context;
use clap::Parser;
use e2e::dynoxide::Dynoxide;
use e2e::lambda::{Function, url_event};
use e2e::{PING_KEY, Stage};
use std::path::{Path, PathBuf};
use std::time::Duration;

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
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let options = Options::parse();
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
