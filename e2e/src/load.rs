//! How fast is it? Pings a second and their latency, against what the embedded engine does alone in the same run;
//! and how soon people hear.
//!
//! `cargo run --release -p e2e -- load`

use crate::server::Server;
use anyhow::Context;
use clap::Args;
use e2e::Receiver;
use futures::future::join_all;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::path::Path;
use std::time::{Duration, Instant};
use thrum::engine::{Durability, Engine, TABLE};
use thrum_ingest::{App, Config};
use thrum_schema::world::SystemWorld;
use thrum_schema::{MonitorId, Store, World};

const MONITORS: usize = 64;
const CONNECTIONS: usize = 16;

/// What to measure.
#[derive(Debug, Args)]
pub struct Load {
    /// Seconds for each measurement of pings
    #[arg(long, default_value_t = 8)]
    seconds: u64,

    /// Where the databases are made: a directory on the disk that is to be measured
    #[arg(long, default_value = ".")]
    directory: std::path::PathBuf,

    /// Only how soon people hear
    #[arg(long)]
    detection_only: bool,
}

/// Measures pings a second, and how soon people hear; prints both as Markdown, and returns it.
///
/// # Errors
/// A server could not be started, or failed.
pub async fn run(options: &Load) -> anyhow::Result<String> {
    let duration = Duration::from_secs(options.seconds);
    let directory = &options.directory;
    let mut table = Table::default();
    if !options.detection_only {
        table.line(&format!(
            "| {CONNECTIONS} connections over {MONITORS} monitors, {} s each | pings a second | p50 ms | p99 ms | of the engine |",
            options.seconds
        ));
        table.line("|---|---|---|---|---|");
        for log in [false, true] {
            let name = if log { "with log" } else { "without log" };
            let alone = engine_alone(directory, log, duration).await?;
            table.line(&alone.row(&format!("engine alone, no flush, {name}"), &alone));
            for sync in ["full", "normal"] {
                let served = served(directory, sync, log, duration).await?;
                table.line(&served.row(&format!("`thrum serve --sync {sync}`, {name}"), &alone));
            }
        }
        table.line("");
    }
    detection(directory, &mut table).await?;
    Ok(table.0)
}

/// Lines that are shown as they come.
#[derive(Default)]
struct Table(String);

impl Table {
    fn line(&mut self, line: &str) {
        println!("{line}");
        self.0.push_str(line);
        self.0.push('\n');
    }
}

/// What a load did.
struct Pings {
    per_second: f64,
    latencies: Vec<Duration>,
}

impl Pings {
    fn new(mut latencies: Vec<Duration>, took: Duration) -> Self {
        latencies.sort_unstable();
        Self {
            per_second: latencies.len() as f64 / took.as_secs_f64(),
            latencies,
        }
    }

    fn row(&self, name: &str, alone: &Self) -> String {
        let ms = |q| percentile(&self.latencies, q).as_secs_f64() * 1000.0;
        format!(
            "| {name} | {:.0} | {:.2} | {:.2} | {:.0} % |",
            self.per_second,
            ms(0.5),
            ms(0.99),
            100.0 * self.per_second / alone.per_second
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

/// The writes of pings through the SDK into the engine, with its stream on and without a flush: what there is to gain.
async fn engine_alone(directory: &Path, log: bool, duration: Duration) -> anyhow::Result<Pings> {
    let directory = tempfile::tempdir_in(directory)?;
    let engine = Engine::open(directory.path(), Durability::Normal)?;
    let world = SystemWorld::arc();
    let store = Store::new(engine.client(), TABLE, 1, world.clone());
    e2e::prepare(&store).await;
    let router = thrum_ingest::router(App::new(store.clone(), Config::default()));
    let project = thrum_schema::ProjectId::FIRST;
    let mut ids: Vec<MonitorId> = Vec::new();
    for i in 0..MONITORS {
        let path = format!("/ping/{}/host-{i}?create=1", e2e::PING_KEY);
        let request = axum::http::Request::get(path).body(axum::body::Body::empty())?;
        let made = tower::ServiceExt::oneshot(router.clone(), request).await?;
        anyhow::ensure!(made.status().is_success(), "{}", made.status());
        ids.push(
            store
                .monitor_named(project, &format!("host-{i}"))
                .await?
                .context("made")?,
        );
    }
    let begun = Instant::now();
    let ping = thrum_schema::Ping {
        n: 0,
        at: world.now(),
        kind: thrum_schema::PingKind::Success,
        scheme: "http".into(),
        remote_addr: Some("127.0.0.1".into()),
        method: "GET".into(),
        ua: String::new(),
        rid: None,
        exit_status: None,
        duration_ms: None,
        early: false,
        overlap: false,
        metrics: Default::default(),
        body: Vec::new(),
    };
    let workers = (0..CONNECTIONS).map(|worker| {
        let (store, ids, world, ping) = (store.clone(), ids.clone(), world.clone(), ping.clone());
        tokio::spawn(async move {
            let mut latencies = Vec::new();
            let mut i = worker;
            while begun.elapsed() < duration {
                let sent = Instant::now();
                let id = ids[i % ids.len()];
                let counted = store
                    .heartbeat(id, world.now(), Default::default(), None)
                    .await;
                let pings = match counted.expect("the engine answers") {
                    thrum_schema::store::Fast::Counted(lease) => lease.pings,
                    // Another connection's reading of the clock was later; it counts as a write all the same.
                    thrum_schema::store::Fast::NeedsRules
                    | thrum_schema::store::Fast::TooMany(_) => 0,
                };
                if log {
                    let ping = thrum_schema::Ping {
                        n: pings,
                        ..ping.clone()
                    };
                    store.log_ping(id, &ping).await.expect("the engine answers");
                }
                latencies.push(sent.elapsed());
                i += 1;
            }
            latencies
        })
    });
    let latencies = join_all(workers)
        .await
        .into_iter()
        .flat_map(Result::unwrap)
        .collect();
    Ok(Pings::new(latencies, begun.elapsed()))
}

/// The same pings over HTTP, from this process to the server's.
async fn served(
    directory: &Path,
    sync: &str,
    log: bool,
    duration: Duration,
) -> anyhow::Result<Pings> {
    let directory = tempfile::tempdir_in(directory)?;
    let log = if log { "on" } else { "off" };
    let server = Server::start(directory.path(), &["--sync", sync, "--ping-log", log]).await?;
    let mut connection = server.connect().await?;
    let mut paths = Vec::new();
    for i in 0..MONITORS {
        let body = json!({"monitor": format!("host-{i}"), "period_s": 3_600});
        let reply = connection.post("/v1/heartbeats", &body).await?;
        let uuid = reply["results"][0]["uuid"]
            .as_str()
            .context("a uuid")?
            .to_owned();
        paths.push(format!("/ping/{uuid}"));
    }
    let begun = Instant::now();
    let mut workers = Vec::new();
    for worker in 0..CONNECTIONS {
        let mut connection = server.connect().await?;
        let paths = paths.clone();
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
    Ok(Pings::new(latencies, begun.elapsed()))
}

/// From deadline to webhook.
async fn detection(directory: &Path, table: &mut Table) -> anyhow::Result<()> {
    table.line("| from deadline to webhook received | p50 ms | p99 ms | last ms |");
    table.line("|---|---|---|---|");
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

fn detected(name: &str, sorted: &[Duration]) -> String {
    let at = |q| percentile(sorted, q).as_secs_f64() * 1000.0;
    format!(
        "| {name} | {:.1} | {:.1} | {:.1} |",
        at(0.5),
        at(0.99),
        at(1.0)
    )
}

/// Lets `count` monitors go silent, whose deadlines are `apart`, and returns how long after its deadline each was told
/// of, sorted.
async fn detect(
    directory: &Path,
    count: usize,
    apart: Duration,
    slow: Option<&Receiver>,
) -> anyhow::Result<Vec<Duration>> {
    let directory = tempfile::tempdir_in(directory)?;
    let server = Server::start(directory.path(), &[]).await?;
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
    // Deadlines of one instant: a batch of pings is stamped when it is received, so each hundred shares its own.
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
    receiver.wait_for(count, Duration::from_secs(60)).await;
    let received = receiver.received();
    anyhow::ensure!(
        received.len() == count,
        "{} of {count} were told",
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
    Ok(took)
}

fn parse_ms(rfc3339: &str) -> anyhow::Result<i64> {
    Ok(chrono::DateTime::parse_from_rfc3339(rfc3339)?.timestamp_millis())
}
