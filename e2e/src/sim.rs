//! A deterministic simulation: the real handlers on an embedded table, on one thread, under a
//! simulated clock. The seed decides everything: what clients do, what fails and when, and every
//! latency. Afterwards, the judge checks Thrum's promises against what clients, receivers and the
//! clock recorded.

mod capacity;
mod cast;
mod chance;
mod clients;
pub mod crowd;
mod history;
mod judge;
mod model;
pub mod mutants;
mod net;
pub mod regions;
pub mod scenario;
mod seen;
pub mod shrink;
mod trace;

pub use judge::Broken;
pub use scenario::Scenario;

use crate::{TABLE, prepare};
use cast::Cast;
use chance::{Chance, Clock, Skewed};
use judge::Case;
use net::Net;
use std::mem;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use thrum_schema::World;
use thrum_store::Store;
use thrum_store::sqlite::{Options, SqliteTable};
use tokio::runtime::Builder;
use trace::Trace;

/// The result of a simulation.
#[derive(Debug)]
pub struct Run {
    /// The promises that were broken.
    pub broken: Vec<Broken>,
    /// A hash of the run: equal scenarios have equal digests.
    pub digest: u64,
    /// Number of table calls.
    pub calls: u64,
    /// Number of messages that reached a receiver.
    pub messages: usize,
    /// The log of events, if requested.
    pub trace: Vec<String>,
}

/// Plays and judges a scenario. Keeps the trace if `shown`.
///
/// # Panics
/// If a step that no fault can affect fails, such as the setup.
pub fn run(scenario: &Scenario, shown: bool) -> Run {
    let played = play(scenario, shown);
    Run {
        broken: judge::judge(&played.case),
        digest: played.digest,
        calls: played.calls,
        messages: played.case.history.delivered.len(),
        trace: played.trace,
    }
}

/// A played scenario, not yet judged.
struct Played {
    case: Case,
    digest: u64,
    calls: u64,
    trace: Vec<String>,
}

fn play(scenario: &Scenario, shown: bool) -> Played {
    let runtime = Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime");
    let played = runtime.block_on(act(Arc::new(scenario.clone()), shown));
    // Drops the tasks that are still running.
    drop(runtime);
    played
}

/// How long unfinished work may take at the end, in milliseconds.
const SETTLES_MS: i64 = 5_000;

async fn act(scenario: Arc<Scenario>, shown: bool) -> Played {
    let clock = Clock::start();
    let world: Arc<dyn World> = Skewed::new(clock, 0, None, Chance::new(scenario.seed, "engine"));
    let table = SqliteTable::in_memory(Options::default()).expect("a table");
    let shards = match scenario.place {
        scenario::Place::Serve { .. } => 1,
        scenario::Place::Lambda => 2,
    };
    prepare(&Store::new(Arc::new(table.clone()), TABLE, shards, world)).await;
    let trace = Trace::new(clock, shown);
    let net = Net::new(&scenario, table, clock, trace.clone());
    let cast = Cast::new(&scenario, clock, &net, &trace);
    let setup = clients::set_up(&cast).await;
    cast.start();
    clients::start(&cast, &setup);
    // Nothing new begins after the end, so the reads are consistent.
    clock.until(scenario.end_ms + SETTLES_MS).await;
    let seen = seen::read_all(&cast, &setup).await;
    let case = Case {
        scenario: Scenario::clone(&scenario),
        history: mem::take(&mut *cast.history()),
        setup,
        seen,
        faults: mem::take(&mut *net.faults.lock().expect("not poisoned")),
    };
    Played {
        case,
        digest: trace.digest(),
        calls: net.calls.load(Ordering::Relaxed),
        trace: trace.lines(),
    }
}
