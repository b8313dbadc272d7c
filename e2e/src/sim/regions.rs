//! The simulation of a deployment in two regions: two tables, a replicator, and a fence that can be cut off from either
//! side. Regions are lost, hang, come back, and are switched under load.

mod cast;
mod judge;
mod plan;
mod replicas;

pub use plan::Plan;

use super::chance::{Chance, Clock, Skewed};
use super::trace::Trace;
use super::{Run, cast::answer, clients::api};
use crate::{API_KEY, TABLE, prepare};
use axum::Router;
use axum::http::Method;
use cast::{Cast, NAMES, SHARDS};
use judge::Case;
use replicas::Replicas;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::mem;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use thrum_schema::World;
use thrum_schema::fence::{Fence, Region, TIMING};
use thrum_store::Store;
use thrum_store::regions::FenceTable;
use thrum_store::table::Item;
use tokio::runtime::Builder;

/// How long before the end the replicas have to agree, in milliseconds.
const SETTLES_MS: i64 = 5_000;

/// Plays and judges a plan. Keeps the trace if `shown`.
///
/// # Panics
/// If a step that no fault can affect fails, such as the setup.
pub fn run(plan: &Plan, shown: bool) -> Run {
    let runtime = Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime");
    let run = runtime.block_on(act(Arc::new(plan.clone()), shown));
    drop(runtime);
    run
}

async fn act(plan: Arc<Plan>, shown: bool) -> Run {
    let clock = Clock::start();
    let trace = Trace::new(clock, shown);
    let worlds = [0, 1].map(|region: usize| {
        let chance = Chance::new(plan.seed, &format!("world {region}"));
        Skewed::new(clock, plan.skews_ms[region], None, chance)
    });
    let replicas = Replicas::new(&plan, clock, &trace, worlds.clone());
    let world: Arc<dyn World> = worlds[0].clone();
    let first = Arc::new(replicas.tables[0].clone());
    prepare(&Store::new(first, TABLE, SHARDS, Arc::clone(&world))).await;
    let fence = FenceTable::new(Arc::new(replicas.fence.clone()), "fence");
    let active = Fence::new(Region(NAMES[0].to_owned()), world.now(), &TIMING);
    fence.create(&active).await.expect("a fence");
    let cast = Cast::new(&plan, clock, &replicas, worlds, &trace);
    let (_, monitors) = cast.set_up().await;
    replicas.copy_all().await;
    replicas.begun.store(true, Ordering::Relaxed);
    cast.start();
    cast.start_clients();
    clock.until(plan.end_ms).await;
    // What is under way ends; nothing new begins.
    clock.until(plan.end_ms + SETTLES_MS + plan.lag_ms.1).await;
    let active = replicas.active().await;
    let settled = replicas.is_settled();
    let [a, b] = &replicas.tables;
    let items = [a, b].map(|table| async { table.items().await.expect("items") });
    let [a, b] = items;
    let both = [by_key(a.await), by_key(b.await)];
    let router = {
        // Straight to the replica: the lease has ended.
        let table = Arc::new(replicas.tables[active].clone());
        let store = Store::new(table, TABLE, SHARDS, world);
        let config = thrum_ingest::Config {
            networks: thrum_schema::network::Networks::all(),
            ..thrum_ingest::Config::default()
        };
        thrum_ingest::router(thrum_ingest::App::new(store, config))
    };
    let all = get(&router, "/v1/monitors").await;
    let mut shown = Vec::new();
    let mut logged = Vec::new();
    for i in 0..monitors.len() {
        let name = super::clients::name(i);
        let list = all["monitors"].as_array().into_iter().flatten();
        let mut same: Vec<&Value> = list.filter(|monitor| monitor["name"] == name).collect();
        // One that the lost region had created before is paused.
        same.sort_by_key(|monitor| monitor["status"] == "paused");
        let Some(found) = same.first() else {
            shown.push(None);
            continue;
        };
        let uuid = found["uuid"].as_str().unwrap_or_default();
        let log = get(&router, &format!("/api/v3/checks/{uuid}/pings/")).await;
        let pings = log["pings"].as_array().into_iter().flatten();
        logged.extend(pings.filter_map(|ping| ping["ua"].as_str().map(str::to_owned)));
        shown.push(Some(get(&router, &format!("/v1/monitors/{uuid}")).await));
    }
    let own = both[active].values().cloned().collect();
    let case = Case {
        plan: Plan::clone(&plan),
        history: mem::take(&mut *cast.history()),
        foreign: mem::take(&mut *replicas.foreign.lock().expect("not poisoned")),
        monitors: shown,
        logged,
        items: settled.then_some(both),
        own,
    };
    Run {
        broken: judge::judge(&case),
        digest: trace.digest(),
        calls: replicas.calls.load(Ordering::Relaxed),
        messages: case.history.got.len(),
        trace: trace.lines(),
    }
}

fn by_key(items: Vec<Item>) -> BTreeMap<String, Value> {
    let items = items.into_iter().map(|item| json!(item));
    let key = |item: &Value| format!("{} / {}", item["pk"]["S"], item["sk"]["S"]);
    items.map(|item| (key(&item), item)).collect()
}

async fn get(router: &Router, path: &str) -> Value {
    let request = api(Method::GET, path, API_KEY, &Value::Null);
    let (status, body) = answer(router.clone(), request).await;
    assert!(status.is_success(), "{path}: {status} {body}");
    serde_json::from_str(&body).unwrap_or_default()
}
