//! Measures pings per second and their CPU time, next to lower bounds: servers that only answer OK,
//! and SQLite writing the same rows in the same batches. Also measures the time from deadline to
//! webhook.
//!
//! `cargo run --release -p e2e -- load`

use crate::server::Server;
use anyhow::Context;
use clap::Args;
use e2e::Receiver;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::path::Path;
use std::time::{Duration, Instant};
use thrum_schema::World;
use thrum_schema::world::SystemWorld;

const MONITORS: usize = 64;
const CONNECTIONS: usize = 16;

/// Options of the load test.
#[derive(Debug, Args)]
pub struct Load {
    /// Seconds per measurement of pings
    #[arg(long, default_value_t = 8)]
    seconds: u64,

    /// Directory for the databases, on the disk to measure
    #[arg(long, default_value = ".")]
    directory: std::path::PathBuf,

    /// Only measure alert latency
    #[arg(long)]
    detection_only: bool,
}

/// Measures pings and alert latency; prints both as Markdown, and returns the text.
///
/// # Errors
/// A server could not be started, or failed.
pub async fn run(options: &Load) -> anyhow::Result<String> {
    let duration = Duration::from_secs(options.seconds);
    let directory = &options.directory;
    let mut table = Table::default();
    if !options.detection_only {
        pings(directory, duration, &mut table).await?;
        table.line("");
    }
    detection(directory, &mut table).await?;
    Ok(table.0)
}

/// Markdown lines that are also printed immediately.
#[derive(Default)]
struct Table(String);

impl Table {
    fn line(&mut self, line: &str) {
        println!("{line}");
        self.0.push_str(line);
        self.0.push('\n');
    }
}

/// Pings to `thrum serve`, and to the baselines.
async fn pings(directory: &Path, duration: Duration, table: &mut Table) -> anyhow::Result<()> {
    table.line(&format!(
        "| {CONNECTIONS} connections over {MONITORS} monitors, {} s each | pings a second | CPU µs a ping | × axum | p50 ms | p99 ms |",
        duration.as_secs()
    ));
    table.line("|---|---|---|---|---|---|");
    let scratch = tempfile::tempdir_in(directory)?;
    let any = vec!["/ping/x".to_owned()];
    if let Some(nginx) = Server::nginx(scratch.path()).await? {
        let pings = load(&nginx, &any, duration).await?;
        table.line(&pings.row("nginx, `return 200 \"OK\"`", None));
    }
    let axum = load(&Server::floor().await?, &any, duration).await?;
    table.line(&axum.row("axum that answers OK", Some(&axum)));
    let rows = sqlite_alone(scratch.path(), duration)?;
    table.line(&rows.row(
        &format!("SQLite alone, the same rows, {CONNECTIONS} a transaction, flushed"),
        Some(&axum),
    ));
    let unlimited = "--pings-per-minute=0";
    let (high, log) = ("--pings-per-minute=1000000", "--ping-log=on");
    let no_log = "--ping-log=off";
    for (name, args) in [
        (
            "`thrum serve --sync full`, without log",
            [unlimited, no_log, "--sync=full"],
        ),
        ("… with a rate limit", [high, no_log, "--sync=full"]),
        ("… `--sync normal`", [unlimited, no_log, "--sync=normal"]),
        ("… `--sync full`, with log", [unlimited, log, "--sync=full"]),
    ] {
        let data = tempfile::tempdir_in(directory)?;
        let server = Server::start(data.path(), &args).await?;
        let paths = monitors(&server).await?;
        table.line(
            &load(&server, &paths, duration)
                .await?
                .row(name, Some(&axum)),
        );
    }
    Ok(())
}

/// Creates the monitors; returns the paths of their pings.
async fn monitors(server: &Server) -> anyhow::Result<Vec<String>> {
    let mut connection = server.connect().await?;
    let mut paths = Vec::new();
    for i in 0..MONITORS {
        let body = json!({"monitor": format!("host-{i}"), "period_s": 3_600});
        let reply = connection.post("/v1/heartbeats", &body).await?;
        let uuid = reply["results"][0]["uuid"].as_str().context("a uuid")?;
        paths.push(format!("/ping/{uuid}"));
    }
    Ok(paths)
}

/// The result of one measurement of pings.
struct Pings {
    per_second: f64,
    cpu_us: f64,
    latencies: Vec<Duration>,
}

impl Pings {
    fn new(mut latencies: Vec<Duration>, took: Duration, cpu_s: f64) -> Self {
        latencies.sort_unstable();
        let n = latencies.len() as f64;
        Self {
            per_second: n / took.as_secs_f64(),
            cpu_us: 1e6 * cpu_s / n,
            latencies,
        }
    }

    fn row(&self, name: &str, axum: Option<&Self>) -> String {
        let ms = |q| percentile(&self.latencies, q).as_secs_f64() * 1000.0;
        let times = axum.map_or("-".to_owned(), |axum| {
            format!("{:.1}", self.cpu_us / axum.cpu_us)
        });
        format!(
            "| {name} | {:.0} | {:.1} | {times} | {:.2} | {:.2} |",
            self.per_second,
            self.cpu_us,
            ms(0.5),
            ms(0.99),
        )
    }
}

fn percentile(sorted: &[Duration], q: f64) -> Duration {
    let last = sorted.len().saturating_sub(1);
    sorted
        .get((last as f64 * q) as usize)
        .copied()
        .unwrap_or_default()
}

/// Writes the rows of pings, in the batches in which they arrive: the least work that SQLite could
/// do.
fn sqlite_alone(directory: &Path, duration: Duration) -> anyhow::Result<Pings> {
    let connection = rusqlite::Connection::open(directory.join("alone.db"))?;
    connection.execute_batch(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;
         CREATE TABLE items (pk TEXT, sk TEXT, body BLOB, PRIMARY KEY (pk, sk)) WITHOUT ROWID;",
    )?;
    let keys: Vec<String> = (0..MONITORS).map(|i| format!("M#{i:036}")).collect();
    // A different body each time: SQLite skips writes that change nothing.
    let mut body = [7_u8; 350];
    for key in &keys {
        connection.execute("INSERT INTO items VALUES (?1, 'LEASE', ?2)", (key, &body))?;
    }
    let mut update =
        connection.prepare("UPDATE items SET body = ?2 WHERE pk = ?1 AND sk = 'LEASE'")?;
    let cpu_s = || -> anyhow::Result<f64> {
        let nanos = std::fs::read_to_string("/proc/thread-self/schedstat")?;
        Ok(nanos.split(' ').next().context("a time")?.parse::<f64>()? / 1e9)
    };
    let (begun, before) = (Instant::now(), cpu_s()?);
    let mut latencies = Vec::new();
    let mut next = keys.iter().cycle();
    while begun.elapsed() < duration {
        let sent = Instant::now();
        connection.execute_batch("BEGIN")?;
        for key in next.by_ref().take(CONNECTIONS) {
            body[..8].copy_from_slice(&latencies.len().to_le_bytes());
            update.execute((key, &body))?;
        }
        connection.execute_batch("COMMIT")?;
        latencies.extend([sent.elapsed(); CONNECTIONS]);
    }
    Ok(Pings::new(latencies, begun.elapsed(), cpu_s()? - before))
}

/// Sends pings over HTTP as fast as the server answers them.
async fn load(server: &Server, paths: &[String], duration: Duration) -> anyhow::Result<Pings> {
    let (begun, before) = (Instant::now(), server.cpu_s()?);
    let mut workers = Vec::new();
    for worker in 0..CONNECTIONS {
        let mut connection = server.connect().await?;
        let paths = paths.to_vec();
        workers.push(tokio::spawn(async move {
            let mut latencies = Vec::new();
            let mut i = worker;
            while begun.elapsed() < duration {
                let sent = Instant::now();
                let (status, _) = connection.send("GET", &paths[i % paths.len()], "").await?;
                anyhow::ensure!(status == 200, "a ping was answered {status}");
                latencies.push(sent.elapsed());
                i += 1;
            }
            Ok(latencies)
        }));
    }
    let mut latencies = Vec::new();
    for worker in workers {
        latencies.extend(worker.await??);
    }
    let cpu_s = server.cpu_s()? - before;
    Ok(Pings::new(latencies, begun.elapsed(), cpu_s))
}

/// Measures the time from deadline to webhook.
async fn detection(directory: &Path, table: &mut Table) -> anyhow::Result<()> {
    table.line(
        "| from deadline to webhook received | p50 ms | p99 ms | last ms | CPU ms an alert |",
    );
    table.line("|---|---|---|---|---|");
    let spread = detect(directory, 200, Duration::from_millis(25), None).await?;
    table.line(&detected("200 deadlines, one every 25 ms", &spread));
    let burst = detect(directory, 500, Duration::ZERO, None).await?;
    table.line(&detected("500 deadlines at one instant, ungrouped", &burst));
    let slow = Receiver::start().await;
    slow.delay(Duration::from_secs(5));
    let beside = detect(directory, 200, Duration::from_millis(25), Some(&slow)).await?;
    table.line(&detected(
        "200 spread, beside a receiver that takes 5 s",
        &beside,
    ));
    Ok(())
}

fn detected(name: &str, detection: &Detection) -> String {
    let at = |q| percentile(&detection.lateness, q).as_secs_f64() * 1000.0;
    format!(
        "| {name} | {:.1} | {:.1} | {:.1} | {:.2} |",
        at(0.5),
        at(0.99),
        at(1.0),
        detection.cpu_ms
    )
}

/// How fast alerts were delivered.
struct Detection {
    /// How long after its deadline each alert came, sorted.
    lateness: Vec<Duration>,
    /// The server's CPU time per alert, in milliseconds, from before the first deadline to the last
    /// delivery.
    cpu_ms: f64,
}

/// Creates `count` monitors whose deadlines are `apart`, lets them fall silent, and measures their
/// alerts.
async fn detect(
    directory: &Path,
    count: usize,
    apart: Duration,
    slow: Option<&Receiver>,
) -> anyhow::Result<Detection> {
    let directory = tempfile::tempdir_in(directory)?;
    let server = Server::start(directory.path(), &["--pings-per-minute=0"]).await?;
    let receiver = Receiver::start().await;
    let mut connection = server.connect().await?;
    for url in [Some(&receiver.url), slow.map(|slow| &slow.url)]
        .into_iter()
        .flatten()
    {
        let body = json!({"kind": "webhook", "url": url, "group_threshold": 0});
        connection.post("/v1/channels", &body).await?;
    }
    let names: Vec<String> = (0..count).map(|i| format!("host-{i}")).collect();
    let mut deadlines = HashMap::new();
    let (started, clock) = (Instant::now(), SystemWorld.now());
    // A batch of pings has one timestamp, so each hundred monitors share a deadline.
    for names in names.chunks(if apart.is_zero() { 100 } else { 1 }) {
        let beats: Vec<Value> = names
            .iter()
            .map(|name| json!({"monitor": name, "period_s": 4, "grace_s": 0}))
            .collect();
        let reply = connection
            .post("/v1/heartbeats", &json!({ "heartbeats": beats }))
            .await?;
        for result in reply["results"].as_array().context("results")? {
            let deadline = result["deadline"].as_str().context("a deadline")?;
            let deadline = parse_ms(deadline)? - clock.0;
            let name = result["monitor"].as_str().context("a name")?.to_owned();
            deadlines.insert(
                name,
                started + Duration::from_millis(deadline.unsigned_abs()),
            );
        }
        tokio::time::sleep(apart).await;
    }
    let before = server.cpu_s()?;
    receiver.wait_for(count, Duration::from_secs(60)).await;
    // The server records each delivery after sending it.
    tokio::time::sleep(Duration::from_millis(300)).await;
    let cpu_ms = 1000.0 * (server.cpu_s()? - before) / count as f64;
    let received = receiver.received();
    anyhow::ensure!(
        received.len() == count,
        "{} of {count} alerts were received",
        received.len()
    );
    let mut took: Vec<Duration> = received
        .iter()
        .flat_map(|received| {
            received
                .changes()
                .into_iter()
                .map(|(name, _)| received.at.saturating_duration_since(deadlines[&name]))
        })
        .collect();
    took.sort_unstable();
    Ok(Detection {
        lateness: took,
        cpu_ms,
    })
}

fn parse_ms(rfc3339: &str) -> anyhow::Result<i64> {
    Ok(chrono::DateTime::parse_from_rfc3339(rfc3339)?.timestamp_millis())
}
