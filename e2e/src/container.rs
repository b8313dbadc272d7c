//! Ingest in a container: `thrum serve --table` in its own process, on a third-party DynamoDB
//! emulator, while evaluate sweeps the same table. Checks that what clients report is what the table
//! says, for as many monitors as wanted.

use crate::dynoxide::Dynoxide;
use crate::{ADMIN_KEY, API_KEY, TABLE, prepare};
use anyhow::{Context, ensure};
use futures::{StreamExt, TryStreamExt, future::BoxFuture, stream};
use serde_json::{Value, json};
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};
use thrum_evaluate::{Bus, BusError, Evaluate, HttpSelfPing, Pulse};
use thrum_schema::work::Work;
use thrum_schema::world::SystemWorld;
use thrum_schema::{MonitorId, ProjectId, Status};
use thrum_store::Store;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::time::sleep;

/// The timer shards of the table. The server must find out by itself.
const SHARDS: u16 = 4;
/// Heartbeats per request, and requests at a time.
const BATCH: usize = 100;
const AT_A_TIME: usize = 8;
/// Period and grace of the monitors that fall silent, in seconds.
const SHORT_S: (u32, u32) = (5, 5);
/// How many pings are measured.
const PINGS: usize = 300;
/// How long the sweeps may take to find them all, at least.
const PATIENCE: Duration = Duration::from_secs(120);

/// What was measured.
#[derive(Debug)]
pub struct Report {
    /// Monitors created per second.
    pub created_a_second: f64,
    /// Heartbeats recorded per second.
    pub beats_a_second: f64,
    /// CPU time of the server for a ping of its own request and connection, in milliseconds.
    pub cpu_ms: f64,
    /// Seconds from the last heartbeat until every silent monitor was down.
    pub found_after_s: f64,
}

/// A bus that drops everything: only the table is checked.
#[derive(Debug)]
struct Nowhere;

impl Bus for Nowhere {
    fn publish<'a>(&'a self, works: &'a [Work]) -> BoxFuture<'a, Vec<Result<(), BusError>>> {
        Box::pin(async move { works.iter().map(|_| Ok(())).collect() })
    }
}

/// Runs the check for `monitors` monitors, half of which fall silent; `None` without an emulator.
/// `binary` has the command `serve`. Calls `say` with what happens.
///
/// # Errors
/// Something is not as clients reported it.
pub async fn run(
    binary: &Path,
    monitors: usize,
    say: impl Fn(String),
) -> anyhow::Result<Option<Report>> {
    let Some(emulator) = Dynoxide::start().await else {
        return Ok(None);
    };
    let table = Arc::new(emulator.quiet_table(TABLE).await);
    let store = Store::new(table, TABLE, SHARDS, SystemWorld::arc());
    prepare(&store).await;
    let (server, url) = start(binary, &emulator).await?;
    let ticking = tokio::spawn(tick(store.clone(), url.clone()));
    let http = reqwest::Client::new();
    let health = http.get(format!("{url}/health")).send().await?;
    ensure!(health.text().await? == "OK", "/health");

    let begun = Instant::now();
    beat(&http, &url, monitors).await?;
    let created_s = begun.elapsed().as_secs_f64();
    say(format!("{monitors} monitors created in {created_s:.1} s"));
    let begun = Instant::now();
    beat(&http, &url, monitors).await?;
    let beaten_s = begun.elapsed().as_secs_f64();
    say(format!("{monitors} heartbeats in {beaten_s:.1} s"));

    let project = get(&http, &url, "/v1/project").await?;
    ensure!(project["monitors"] == monitors, "{project}");
    let all = store.monitors(ProjectId::FIRST).await?;
    ensure!(all.len() == monitors, "{} monitors are listed", all.len());
    let begun = Instant::now();
    let patience = PATIENCE + Duration::from_secs_f64(created_s);
    let ids: Vec<MonitorId> = all.iter().map(|monitor| monitor.id).collect();
    let is_short = |id: MonitorId| {
        let own = all.binary_search_by_key(&id, |monitor| monitor.id);
        own.is_ok_and(|at| goes_silent(number(&all[at].name)))
    };
    ensure!(
        all.is_sorted_by_key(|monitor| monitor.id),
        "in order of ids"
    );
    let found_after_s = loop {
        let states = store.states(&ids).await?;
        ensure!(states.len() == monitors, "{} states", states.len());
        for state in &states {
            // A monitor that was down before its second heartbeat has one more flip for each.
            ensure!(state.pings == 2, "{state:?}");
            let up = state.status == Status::Up;
            ensure!(is_short(state.monitor) || up, "{state:?}");
        }
        let down = states.iter().filter(|state| state.status == Status::Down);
        if down.count() == monitors.div_ceil(2) {
            break begun.elapsed().as_secs_f64();
        }
        ensure!(
            begun.elapsed() < patience,
            "not all silent monitors went down"
        );
        sleep(Duration::from_secs(1)).await;
    };
    say(format!(
        "all that fell silent are down after {found_after_s:.1} s"
    ));
    ticking.abort();
    let steady: Vec<MonitorId> = ids.iter().copied().filter(|id| !is_short(*id)).collect();
    let before = cpu_ms(&server)?;
    for id in steady.iter().cycle().take(PINGS) {
        // A connection for each, as cron jobs open.
        let client = reqwest::Client::builder()
            .pool_max_idle_per_host(0)
            .build()?;
        let reply = client.get(format!("{url}/ping/{id}")).send().await?;
        ensure!(reply.status().is_success(), "{}", reply.status());
    }
    let cpu_ms = (cpu_ms(&server)? - before) / PINGS as f64;
    say(format!("{cpu_ms:.2} ms of CPU a ping"));
    // Each flip has its alert, and each alert its flip.
    let states = store.states(&ids).await?;
    let flips: u64 = states
        .iter()
        .map(|state| state.flips.saturating_sub(1))
        .sum();
    let now = store.world().now();
    let limit = usize::try_from(flips)? + 1;
    let alerts = store
        .alerts_before(ProjectId::FIRST, None, now, limit)
        .await?;
    ensure!(
        alerts.len() as u64 == flips,
        "{} alerts, {flips} flips",
        alerts.len()
    );
    let first = get(&http, &url, "/v1/monitors/host-0").await?;
    ensure!(first["status"] == "down", "{first}");
    say(format!("{flips} alerts, one for each flip"));
    Ok(Some(Report {
        created_a_second: monitors as f64 / created_s,
        beats_a_second: monitors as f64 / beaten_s,
        found_after_s,
        cpu_ms,
    }))
}

/// The CPU time that a process has used, in milliseconds.
fn cpu_ms(process: &Child) -> anyhow::Result<f64> {
    let id = process.id().context("the server has ended")?;
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat"))?;
    let fields = stat.rsplit(')').next().context("fields")?;
    let times = fields.split_whitespace().skip(11).take(2);
    let ticks: u64 = times.map(|field| field.parse().unwrap_or(0)).sum();
    // Linux counts a hundred ticks a second on every platform.
    Ok(ticks as f64 * 10.0)
}

/// Starts the server at a free port; returns its URL.
async fn start(binary: &Path, emulator: &Dynoxide) -> anyhow::Result<(Child, String)> {
    let mut child = Command::new(binary)
        .args(["serve", "--listen", "127.0.0.1:0", "--table", TABLE])
        .env("THRUM_ADMIN_KEY", ADMIN_KEY)
        .env("AWS_ENDPOINT_URL", emulator.url())
        .env("AWS_REGION", "us-east-1")
        .env("AWS_ACCESS_KEY_ID", "id")
        .env("AWS_SECRET_ACCESS_KEY", "secret")
        // As deploy/containers.yaml sets what is not used.
        .envs(["TOPICS", "BUSES", "SNS_TOPICS", "PLANS"].map(|name| (format!("THRUM_{name}"), "")))
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let mut lines = BufReader::new(child.stdout.take().context("piped")?).lines();
    let first = lines.next_line().await?.context("the server has ended")?;
    let url = first
        .strip_prefix("Thrum listens on ")
        .context("a URL")?
        .to_owned();
    tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
    Ok((child, url))
}

/// The schedule, with a pulse through the server.
async fn tick(store: Store, url: String) {
    let evaluate = Evaluate::new(store, Arc::new(Nowhere), "container", 150_000);
    let pulse = Pulse::new(Arc::new(HttpSelfPing::new(&url)), 10_000, 1);
    loop {
        let ticked = async {
            evaluate.keep_pulse(&pulse).await?;
            for shard in 0..SHARDS {
                evaluate.sweep(shard).await?;
            }
            anyhow::Ok(())
        };
        if let Err(error) = ticked.await {
            eprintln!("a tick failed: {error:#}");
        }
        sleep(Duration::from_secs(2)).await;
    }
}

/// Sends one heartbeat of each monitor.
async fn beat(http: &reqwest::Client, url: &str, monitors: usize) -> anyhow::Result<()> {
    let starts = (0..monitors).step_by(BATCH);
    stream::iter(starts)
        .map(|start| async move {
            let hosts = start..(start + BATCH).min(monitors);
            let heartbeats: Vec<Value> = hosts.clone().map(heartbeat).collect();
            let sent = http
                .post(format!("{url}/v1/heartbeats"))
                .header("x-api-key", API_KEY);
            let reply = sent
                .json(&json!({ "heartbeats": heartbeats }))
                .send()
                .await?;
            let status = reply.status();
            let reply: Value = reply.json().await?;
            ensure!(status.is_success(), "{status}: {reply}");
            let results = reply["results"].as_array().context("results")?;
            let done = results.iter().filter(|result| result["uuid"].is_string());
            ensure!(done.count() == hosts.len(), "{reply}");
            Ok(())
        })
        .buffer_unordered(AT_A_TIME)
        .try_collect()
        .await
}

fn heartbeat(host: usize) -> Value {
    let (period_s, grace_s) = match goes_silent(host) {
        true => SHORT_S,
        false => (86_400, 3_600),
    };
    json!({"monitor": format!("host-{host}"), "period_s": period_s, "grace_s": grace_s})
}

const fn goes_silent(host: usize) -> bool {
    host.is_multiple_of(2)
}

fn number(name: &str) -> usize {
    name.trim_start_matches("host-").parse().unwrap_or(1)
}

async fn get(http: &reqwest::Client, url: &str, path: &str) -> anyhow::Result<Value> {
    let sent = http
        .get(format!("{url}{path}"))
        .header("x-api-key", API_KEY);
    Ok(sent.send().await?.error_for_status()?.json().await?)
}
