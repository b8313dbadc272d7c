//! Endurance: many monitors are pinged for minutes, some fall silent, and optionally the server is
//! killed every few seconds. There must be no false and no missing alert, and neither memory nor
//! the database may grow.
//!
//! The load is open-loop: each ping has a scheduled time that does not depend on earlier responses,
//! and its latency counts from there. So pings that a stalled server keeps waiting count in full.

mod report;
mod watch;

use crate::server::Server;
use anyhow::{Context, ensure};
use clap::{Args, ValueEnum};
use e2e::API_KEY;
use report::{Report, Sample};
use reqwest::Client;
use serde_json::{Value, json};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep, sleep_until};
use watch::{Alerts, Fleet};

const PERIOD: Duration = Duration::from_secs(60);
const GRACE: Duration = Duration::from_secs(30);
/// How long a silence lasts: the monitor is down for the second half of it.
const SILENCE: Duration = Duration::from_secs(180);
/// How many monitors one request creates.
const BATCH: usize = 100;
/// Maximum number of pings in flight.
const AT_A_TIME: usize = 256;
/// How long a client waits before it retries an unanswered ping.
const RETRY: Duration = Duration::from_millis(100);
/// Maximum number of monitors on an external server: its alerts are read from the API, which shows
/// the last 200.
const MOST_BY_URL: usize = 5_000;
/// How often memory, database size and latencies are sampled.
const SAMPLE: Duration = Duration::from_secs(5);
/// How long to wait for alerts after the last ping. Shorter than period and grace, so that no other
/// monitor goes down in that time.
const PATIENCE: Duration = Duration::from_secs(30);

/// Options of an endurance run.
#[derive(Debug, Args)]
pub struct Endure {
    /// Number of monitors, each pinged once a minute
    #[arg(long, default_value_t = 10_000)]
    monitors: usize,

    /// How long to run, in minutes
    #[arg(long, default_value_t = 10)]
    minutes: u64,

    /// When the server answers a ping: after it is flushed to disk (full), or once the operating
    /// system has it (normal)
    #[arg(long, default_value = "full")]
    sync: Sync,

    /// Kill the server with SIGKILL every N seconds, and restart it; 0 for never
    #[arg(long, default_value_t = 0, value_name = "SECONDS")]
    kill_every: u64,

    /// A server that is already running, such as https://thrum.example.org. Its API key is read
    /// from THRUM_API_KEY. It can't be killed, and its memory and database size are not measured
    #[arg(long, conflicts_with = "kill_every")]
    url: Option<String>,

    /// Directory for the database, on the disk to measure
    #[arg(long, default_value = ".")]
    directory: PathBuf,

    /// Write the report to NAME.json and NAME.svg
    #[arg(long, value_name = "NAME")]
    report: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Sync {
    Full,
    Normal,
}

impl Sync {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Normal => "normal",
        }
    }
}

/// The server under test, and a client for it.
struct Target {
    base: String,
    key: String,
    client: Client,
    /// The server's process; `None` for an external server.
    own: Option<Own>,
}

struct Own {
    server: tokio::sync::Mutex<Server>,
    data: tempfile::TempDir,
    args: Vec<&'static str>,
}

impl Target {
    async fn start(options: &Endure) -> anyhow::Result<Self> {
        thrum_store::tls::install();
        let client = Client::builder()
            .timeout(Duration::from_secs(30))
            .pool_max_idle_per_host(AT_A_TIME)
            .build()?;
        if let Some(url) = &options.url {
            let key = std::env::var("THRUM_API_KEY").context("THRUM_API_KEY is not set")?;
            let base = url.trim_end_matches('/').to_owned();
            return Ok(Self {
                base,
                key,
                client,
                own: None,
            });
        }
        let data = tempfile::tempdir_in(&options.directory)?;
        let sync = options.sync.as_str();
        let args = vec!["--sync", sync, "--ping-log=off", "--pings-per-minute=0"];
        let server = Server::start(data.path(), &args).await?;
        Ok(Self {
            base: format!("http://{}", server.address),
            key: API_KEY.to_owned(),
            client,
            own: Some(Own {
                server: server.into(),
                data,
                args,
            }),
        })
    }

    async fn call(
        &self,
        method: reqwest::Method,
        path: &str,
        body: &Value,
    ) -> anyhow::Result<Value> {
        let request = self
            .client
            .request(method, format!("{}{path}", self.base))
            .header("x-api-key", &self.key);
        let request = if body.is_null() {
            request
        } else {
            request.json(body)
        };
        let reply = request.send().await?;
        let status = reply.status();
        let text = reply.text().await?;
        ensure!(status.is_success(), "{path}: {status} {text}");
        Ok(serde_json::from_str(&text)?)
    }

    /// Sends a ping until it is answered. Returns whether it succeeded, and the number of attempts.
    async fn ping(&self, path: &str, give_up: Instant) -> (bool, u64) {
        let url = format!("{}{path}", self.base);
        let mut attempts = 0;
        loop {
            attempts += 1;
            match self.client.get(&url).send().await {
                Ok(reply) if reply.status().is_success() => return (true, attempts),
                // The server refused it, so a retry would not help.
                Ok(reply) if reply.status().is_client_error() => return (false, attempts),
                _ if Instant::now() >= give_up => return (false, attempts),
                _ => sleep(RETRY).await,
            }
        }
    }

    /// Resident memory and database size, in bytes.
    async fn size(&self) -> Option<(u64, u64)> {
        let own = self.own.as_ref()?;
        let id = own.server.lock().await.id()?;
        let status = std::fs::read_to_string(format!("/proc/{id}/status")).ok()?;
        let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
        let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
        Some((kib * 1024, size_of(own.data.path())))
    }

    /// The CPU time that the server has used, in seconds.
    async fn cpu_s(&self) -> Option<f64> {
        let id = self.own.as_ref()?.server.lock().await.id()?;
        let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
        let fields: Vec<&str> = stat.rsplit(')').next()?.split_whitespace().collect();
        let ticks: f64 =
            fields.get(11)?.parse::<f64>().ok()? + fields.get(12)?.parse::<f64>().ok()?;
        // Linux counts a hundred ticks a second on every platform.
        Some(ticks / 100.0)
    }
}

fn size_of(directory: &Path) -> u64 {
    let files = std::fs::read_dir(directory).into_iter().flatten().flatten();
    files
        .filter_map(|file| Some(file.metadata().ok()?.len()))
        .sum()
}

/// Runs the load, prints the figures, and fails if an alert was missed or false, or a ping was
/// lost.
///
/// # Errors
/// A server could not be started, or a promise was broken.
pub async fn run(options: Endure) -> anyhow::Result<()> {
    ensure!(
        options.url.is_none() || options.monitors <= MOST_BY_URL,
        "--monitors must be at most {MOST_BY_URL} with --url (got {}): the API shows only the last 200 alerts",
        options.monitors
    );
    let target = Arc::new(Target::start(&options).await?);
    let alerts = Alerts::start(&target).await?;
    let fleet = Arc::new(provision(&target, options.monitors).await?);
    let started = Instant::now();
    let end = started + Duration::from_secs(options.minutes * 60);
    fleet.plan_silences(started, end);
    println!(
        "{} monitors, one ping a minute each, for {} min; {} of them fall silent for {} s",
        options.monitors,
        options.minutes,
        fleet.silent(),
        SILENCE.as_secs()
    );
    let report = Arc::new(Report::new(&options, started));
    let kills = tokio::spawn(kill_repeatedly(
        Arc::clone(&target),
        Arc::clone(&report),
        options.kill_every,
        end,
    ));
    let samples = tokio::spawn(sample(Arc::clone(&target), Arc::clone(&report), end));
    let cpu = target.cpu_s().await;
    load(&target, &fleet, &report, started, end).await?;
    kills.await??;
    samples.await?;
    if options.kill_every == 0 {
        report.note_cpu(cpu, target.cpu_s().await);
    }
    // Monitors that are silent at the end must alert, too.
    let alerts = alerts.settle(&target, PATIENCE).await?;
    let counted = counted(&target).await?;
    let verdict = fleet.judge(&alerts, &counted);
    report.finish(&verdict);
    println!("\n{}", report.table());
    if let Some(name) = &options.report {
        report.write(name)?;
        println!("\nwrote {0}.json and {0}.svg", name.display());
    }
    verdict.check()?;
    report.check()
}

/// Creates the monitors, each by its first heartbeat.
async fn provision(target: &Target, monitors: usize) -> anyhow::Result<Fleet> {
    let bar = indicatif::ProgressBar::new(monitors as u64).with_message("monitors");
    let mut fleet = Fleet::default();
    for first in (0..monitors).step_by(BATCH) {
        let names: Vec<String> = (first..monitors.min(first + BATCH))
            .map(|i| format!("host-{i:06}"))
            .collect();
        let heartbeats: Vec<Value> = names
            .iter()
            // A log ping sets no deadline: creating fifty thousand monitors takes longer than a
            // minute.
            .map(|name| json!({"monitor": name, "status": "log", "period_s": PERIOD.as_secs(), "grace_s": GRACE.as_secs()}))
            .collect();
        let body = json!({ "heartbeats": heartbeats });
        let reply = target
            .call(reqwest::Method::POST, "/v1/heartbeats", &body)
            .await?;
        for (name, result) in names
            .into_iter()
            .zip(reply["results"].as_array().context("results")?)
        {
            let uuid = result["uuid"]
                .as_str()
                .with_context(|| format!("{name}: {result}"))?;
            fleet.add(name, format!("/ping/{uuid}"));
        }
        bar.inc(heartbeats.len() as u64);
    }
    bar.finish_and_clear();
    Ok(fleet)
}

/// Sends each ping at its scheduled time.
async fn load(
    target: &Arc<Target>,
    fleet: &Arc<Fleet>,
    report: &Arc<Report>,
    started: Instant,
    end: Instant,
) -> anyhow::Result<()> {
    let bar = indicatif::ProgressBar::new((end - started).as_secs()).with_style(
        indicatif::ProgressStyle::with_template("{wide_bar} {pos}/{len} s  {msg}")?,
    );
    let room = Arc::new(Semaphore::new(AT_A_TIME));
    let mut due: BinaryHeap<Reverse<(Instant, usize)>> = (0..fleet.len())
        .map(|i| {
            let phase = PERIOD.mul_f64(i as f64 / fleet.len() as f64);
            Reverse((started + phase, i))
        })
        .collect();
    while let Some(Reverse((at, i))) = due.pop() {
        if at >= end {
            continue;
        }
        due.push(Reverse((at + PERIOD, i)));
        if fleet.is_silent(i, at) {
            continue;
        }
        sleep_until(at).await;
        let (target, fleet, report, room) = (
            Arc::clone(target),
            Arc::clone(fleet),
            Arc::clone(report),
            Arc::clone(&room),
        );
        if i % 100 == 0 {
            bar.set_position(started.elapsed().as_secs());
            bar.set_message(report.line());
        }
        tokio::spawn(async move {
            // The run has ended: pings that still wait are not sent.
            let Ok(_room) = room.acquire_owned().await else {
                report.ping(Duration::ZERO, false, 1);
                return;
            };
            let (answered, attempts) = target.ping(fleet.path(i), at + PERIOD).await;
            let now = Instant::now();
            fleet.note(i, at, now, answered, attempts);
            report.ping(now - at, answered, attempts);
        });
    }
    // Wait for the last pings.
    let all = room.acquire_many(AT_A_TIME as u32);
    if tokio::time::timeout(GRACE, all).await.is_err() {
        room.close();
        sleep(GRACE).await;
    }
    bar.finish_and_clear();
    Ok(())
}

/// Kills and restarts the server every `seconds`.
async fn kill_repeatedly(
    target: Arc<Target>,
    report: Arc<Report>,
    seconds: u64,
    end: Instant,
) -> anyhow::Result<()> {
    let Some(own) = target.own.as_ref().filter(|_| seconds > 0) else {
        return Ok(());
    };
    let mut next = Instant::now() + Duration::from_secs(seconds);
    while next < end {
        sleep_until(next).await;
        next += Duration::from_secs(seconds);
        let mut server = own.server.lock().await;
        let killed = Instant::now();
        server.kill().await?;
        let address = server.address.clone();
        *server = Server::start_at(&address, own.data.path(), &own.args).await?;
        report.killed(killed.elapsed());
    }
    Ok(())
}

/// Samples the server's figures until `end`.
async fn sample(target: Arc<Target>, report: Arc<Report>, end: Instant) {
    let mut next = Instant::now() + SAMPLE;
    while next < end {
        sleep_until(next).await;
        next += SAMPLE;
        let size = target.size().await;
        report.sample(|at_s, p50_ms, p99_ms, pings| Sample {
            at_s,
            pings,
            p50_ms,
            p99_ms,
            memory: size.map(|(memory, _)| memory),
            database: size.map(|(_, database)| database),
        });
    }
}

/// How many pings the server counted, by monitor name.
async fn counted(target: &Target) -> anyhow::Result<Vec<(String, u64)>> {
    let reply = target
        .call(reqwest::Method::GET, "/v1/monitors", &Value::Null)
        .await?;
    let monitors = reply["monitors"].as_array().context("monitors")?;
    let one = |monitor: &Value| {
        let name = monitor["name"].as_str().context("a name")?.to_owned();
        Ok((name, monitor["pings"].as_u64().context("pings")?))
    };
    monitors.iter().map(one).collect()
}
