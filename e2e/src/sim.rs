//! A deterministic simulation: the real handlers on an embedded table, on one thread and under a clock that
//! goes on by itself. A seed decides everything: what clients do, what goes wrong and when, and every latency. What was promised
//! is then judged by what clients, receivers and the clock know.

mod cast;
mod chance;
mod clients;
mod history;
mod judge;
mod model;
pub mod mutants;
mod net;
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

/// How a simulation ended.
#[derive(Debug)]
pub struct Run {
    /// What was not kept.
    pub broken: Vec<Broken>,
    /// The same whenever the scenario is.
    pub digest: u64,
    /// How often the table was called.
    pub calls: u64,
    /// How many messages people got.
    pub messages: usize,
    /// What happened, if that was asked for.
    pub trace: Vec<String>,
}

/// Plays a scenario, and judges it; keeps what happened if it is to be `shown`.
///
/// # Panics
/// What has to work where nothing goes wrong did not.
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

/// A scenario that was played.
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
    // What is still under way ends here.
    drop(runtime);
    played
}

async fn act(scenario: Arc<Scenario>, shown: bool) -> Played {
    let clock = Clock::start();
    let world: Arc<dyn World> = Skewed::new(clock, 0, Chance::new(scenario.seed, "engine"));
    let table = SqliteTable::in_memory(Options::default()).expect("a table");
    let shards = match scenario.place {
        scenario::Place::Serve { .. } => 1,
        scenario::Place::Lambda => 2,
    };
    prepare(&Store::new(Arc::new(table.clone()), TABLE, shards, world)).await;
    let trace = Trace::new(clock, shown);
    let net = Net::new(&scenario, table, clock, trace.clone());
    let cast = Cast::new(&scenario, clock, &net, &trace);
    let made = clients::make(&cast).await;
    cast.start();
    clients::start(&cast, &made);
    clock.until(scenario.end_ms).await;
    let seen = seen::look(&cast, &made).await;
    let case = Case {
        scenario: Scenario::clone(&scenario),
        history: mem::take(&mut *cast.history()),
        made,
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
