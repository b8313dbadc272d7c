//! A crowd: many hosts register at once, on a table that takes what DynamoDB takes, through as many
//! functions as Lambda runs in an account.

use super::capacity::PARTITION_WU;
use super::chance::{Chance, Clock, Skewed, sleep_ms};
use super::net::Net;
use super::scenario::{FaultKind, Place, Scenario, Spell};
use super::trace::Trace;
use crate::{API_KEY, TABLE, prepare};
use axum::Router;
use axum::body::Body;
use axum::http::Request;
use axum::http::header::RETRY_AFTER;
use futures::future::join_all;
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use thrum_ingest::App;
use thrum_schema::{ProjectId, World};
use thrum_store::Store;
use thrum_store::sqlite::{Options, SqliteTable};
use tokio::runtime::Builder;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tower::ServiceExt;

/// How many requests Lambda handles at a time in most accounts. It answers the others with 429.
const CONCURRENCY: usize = 1_000;
/// How often a client retries (`curl --retry 5`), and how long it waits for each answer (`-m 10`).
const RETRIES: u32 = 5;
const PATIENCE: Duration = Duration::from_secs(10);
/// The functions' execution environments with caches of their own, fewer than in reality.
const FUNCTIONS: usize = 20;

/// How it went.
#[derive(Debug)]
pub struct Crowd {
    /// Seconds until every host had registered or given up.
    pub took_s: f64,
    /// The hosts that gave up.
    pub gave_up: usize,
    /// How many answers had each status; 0 for none.
    pub answers: BTreeMap<u16, usize>,
    /// How many monitors there are, by the census and by the list.
    pub counted: (i64, usize),
}

/// `hosts` hosts send their first heartbeat at the same moment, in simulated time.
///
/// # Panics
/// The setup fails.
pub fn register(hosts: usize) -> Crowd {
    let runtime = Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime");
    runtime.block_on(play(hosts))
}

async fn play(hosts: usize) -> Crowd {
    let forever = 86_400_000;
    let scenario = Arc::new(Scenario {
        place: Place::Lambda,
        spells: vec![Spell {
            from_ms: 0,
            to_ms: forever,
            what: FaultKind::Capacity(PARTITION_WU),
        }],
        calm_ms: forever,
        end_ms: forever,
        ..Scenario::of(1)
    });
    let clock = Clock::start();
    let table = SqliteTable::in_memory(Options::default()).expect("a table");
    let world: Arc<dyn World> = Skewed::new(clock, 0, None, Chance::new(1, "setup"));
    let own = Store::new(Arc::new(table.clone()), TABLE, 4, world);
    prepare(&own).await;
    let net = Net::new(&scenario, table, clock, Trace::new(clock, false));
    let functions: Vec<_> = (0..FUNCTIONS)
        .map(|i| {
            let world = Skewed::new(clock, 0, None, Chance::new(1, &format!("world {i}")));
            let port = net.table("ingest", Chance::new(1, &format!("net {i}")));
            let store = Store::new(port, TABLE, 4, world);
            thrum_ingest::router(App::new(store, thrum_ingest::Config::default()))
        })
        .collect();
    let free = Semaphore::new(CONCURRENCY);
    let answers = Mutex::new(BTreeMap::new());
    let chance = Chance::new(1, "clients");
    let clients = (0..hosts).map(|host| {
        let (functions, free, answers, chance) = (&functions, &free, &answers, &chance);
        async move {
            // No two programs start in the same millisecond.
            sleep_ms(chance.range(0, 2_000)).await;
            for retry in 0..=RETRIES {
                let router = functions[(host + retry as usize * 7) % FUNCTIONS].clone();
                let (status, after_s) = match free.try_acquire() {
                    Err(_) => (429, None),
                    Ok(_busy) => timeout(PATIENCE, answer(router, request(host)))
                        .await
                        .unwrap_or_default(),
                };
                note(answers, status);
                if status == 200 {
                    return true;
                }
                // As curl does: as long as the answer says, or a second, and twice as long each time.
                let wait_ms = after_s.map_or(1_000 << retry, |after_s| after_s * 1_000);
                sleep_ms(wait_ms + chance.range(0, 500)).await;
            }
            false
        }
    });
    let done = join_all(clients).await;
    let took_s = clock.ms() as f64 / 1_000.0;
    let census = own.census(ProjectId::FIRST).await.expect("a census");
    let monitors = own.monitors(ProjectId::FIRST).await.expect("the monitors");
    Crowd {
        took_s,
        gave_up: done.iter().filter(|done| !**done).count(),
        answers: answers.into_inner().expect("not poisoned"),
        counted: (census.n, monitors.len()),
    }
}

fn note(answers: &Mutex<BTreeMap<u16, usize>>, status: u16) {
    let mut answers = answers.lock().expect("not poisoned");
    *answers.entry(status).or_insert(0) += 1;
}

/// The status of an answer, and its `Retry-After`.
async fn answer(router: Router, request: Request<Body>) -> (u16, Option<i64>) {
    let reply = match router.oneshot(request).await {
        Ok(reply) => reply,
        Err(never) => match never {},
    };
    let after = reply.headers().get(RETRY_AFTER);
    let after = after.and_then(|after| after.to_str().ok()?.parse().ok());
    (reply.status().as_u16(), after)
}

fn request(host: usize) -> Request<Body> {
    let body = json!({"monitor": format!("host-{host}"), "period_s": 60, "grace_s": 60});
    Request::post("/v1/heartbeats")
        .header("x-api-key", API_KEY)
        .header("content-type", "application/json")
        .body(Body::from(body.to_string()))
        .expect("a request")
}
