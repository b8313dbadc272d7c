//! The three handlers in one process. A pump replaces the table's stream, a ticker replaces the
//! schedule, and a channel replaces bus and queue.

use crate::local::LocalQueue;
use anyhow::anyhow;
use axum::Router;
use secrecy::SecretString;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use thrum_evaluate::{Evaluate, Pulse, SelfPing, event_of};
use thrum_ingest::App;
use thrum_notify::send::{Email, EventBridge, Http, Mail, Reach, Sns};
use thrum_notify::{Notify, Sender};
use thrum_schema::{UnixMs, World};
use thrum_store::Store;
use thrum_store::sqlite::{Feed, SqliteTable};
use thrum_store::trace::{self, Trace};
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// The longest time between two ticks.
const TICK: Duration = Duration::from_millis(250);
/// The table's name in logs.
pub const TABLE: &str = "thrum";
/// How often the pump reads changes if nothing wakes it, and how many at a time.
const POLL: Duration = Duration::from_millis(500);
const BATCH: usize = 100;
/// How long handled changes are kept. After a crash they are handled again, in case the work that
/// they started did not finish.
const KEEP: Duration = Duration::from_secs(5);
/// How often the pipeline pings itself through its own socket, and the gap that is an outage (T3).
const PULSE_EVERY_MS: i64 = 5_000;
const PULSE_GAP_MS: i64 = 60_000;
/// Pings per pulse. With several, a share of refused requests shows.
const PULSE_PINGS: usize = 3;
/// How often expired items are removed.
const TTL_EVERY: Duration = Duration::from_secs(60);
/// Pause between the start and reading the monitors into the cache. Reading tens of thousands takes
/// seconds, and the pings that clients retry after a restart come first.
const WARM_AFTER: Duration = Duration::from_secs(30);
/// Most threads that wait for name servers.
const LOOKUPS: usize = 128;
/// How long a shutdown waits for deliveries in progress.
const DRAIN: Duration = Duration::from_secs(12);

/// Configuration of the pipeline.
#[derive(Debug, Clone)]
pub struct Options {
    /// Configuration of ingest.
    pub ingest: thrum_ingest::Config,
    /// Configuration of notify.
    pub notify: thrum_notify::Config,
    /// URL of the mail server; without one, e-mails are printed to stdout.
    pub smtp_url: Option<SecretString>,
    /// The URL of the proxy for messages over HTTP.
    pub proxy: Option<String>,
    /// Sender address of e-mails.
    pub mail_from: String,
    /// How the pipeline sends its own heartbeat: the way clients do.
    pub door: Arc<dyn SelfPing>,
}

/// A running pipeline.
#[derive(Debug)]
pub struct Pipeline {
    /// The HTTP service.
    pub router: Router,
    /// The table.
    pub store: Store,
    /// The service behind the routes.
    pub app: App,
    queue: LocalQueue,
    stop: watch::Sender<bool>,
    tasks: JoinSet<()>,
    outside: Outside,
}

/// The runtime of deliveries.
#[derive(Debug)]
struct Outside(Option<Runtime>);

impl Outside {
    fn new() -> std::io::Result<Self> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(2)
            .max_blocking_threads(LOOKUPS)
            .thread_name("deliveries")
            .enable_all()
            .build()?;
        Ok(Self(Some(runtime)))
    }
}

impl Drop for Outside {
    /// Does not wait: a name server may never answer.
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

impl Pipeline {
    /// Starts everything except the HTTP listener.
    ///
    /// # Errors
    /// An option is invalid, or the database fails.
    pub async fn start(
        table: &SqliteTable,
        options: Options,
        world: Arc<dyn World>,
    ) -> anyhow::Result<Self> {
        let port = Arc::new(table.clone());
        let store = Store::new(port, TABLE, 1, Arc::clone(&world))
            .with_change_feed()
            .as_only_process();
        store.ensure_pipeline(world.now()).await?;
        let reach = Reach {
            networks: options.ingest.networks.clone(),
            proxy: options.proxy,
        };
        let app = App::new(store.clone(), options.ingest);
        let router = thrum_ingest::router(app.clone());
        let outside = Outside::new()?;
        let handle = outside.0.as_ref().map(|runtime| runtime.handle().clone());
        let (queue, work) = LocalQueue::new(handle.unwrap_or_else(Handle::current));
        let email = Email::new(&options.mail_from, options.smtp_url.as_ref())
            .map_err(|error| anyhow!(error))?;
        let sender = Sender {
            http: Http::new(reach, Arc::clone(&world)),
            mail: Mail::Smtp(email),
            sns: sns(),
            eventbridge: eventbridge(),
        };
        let notify = Notify::new(
            store.clone(),
            sender,
            Arc::new(queue.clone()),
            options.notify,
        );
        // Only one process can have the database open, so a fixed name for its claims is safe.
        let evaluate = Evaluate::new(
            store.clone(),
            Arc::new(queue.clone()),
            "serve",
            PULSE_GAP_MS,
        )
        .watching_clock();
        let pulse = Pulse::new(options.door, PULSE_EVERY_MS, PULSE_PINGS);
        let (stop, stopped) = watch::channel(false);
        let mut tasks = JoinSet::new();
        tasks.spawn(tick(evaluate.clone(), pulse, stopped.clone()));
        tasks.spawn(pump(table.clone(), evaluate.clone(), stopped.clone()));
        tasks.spawn(remove_expired(table.clone(), world, stopped));
        tokio::spawn(queue.clone().run(work, notify, evaluate.clone()));
        tokio::spawn(async move {
            if let Err(error) = evaluate.relay_all_open().await {
                tracing::warn!(%error, "failed to relay open alerts at the start; their audits relay them");
            }
        });
        Ok(Self {
            router,
            store,
            app,
            queue,
            stop,
            tasks,
            outside,
        })
    }

    /// Fills the monitor cache 30 s after the start, so that the first list is fast.
    pub fn warm(&self) {
        let app = self.app.clone();
        tokio::spawn(async move {
            tokio::time::sleep(WARM_AFTER).await;
            if let Err(error) = app.warm().await {
                tracing::warn!(%error, "failed to fill the monitor cache; the first list fills it");
            }
        });
    }

    /// Ends the schedule and the stream after their current round.
    pub fn stop_ticking(&self) {
        self.stop.send_replace(true);
    }

    /// Stops the schedule and the stream, then waits up to 12 s for the deliveries in progress. The
    /// rest continue after the next start.
    pub async fn stop(mut self) {
        self.stop.send_replace(true);
        while self.tasks.join_next().await.is_some() {}
        let drained = async {
            while self.queue.under_way() > 0 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        if tokio::time::timeout(DRAIN, drained).await.is_err() {
            let left = self.queue.under_way();
            tracing::warn!(
                left,
                "deliveries in progress were cut off; they continue after the next start"
            );
        }
        drop(self.outside);
    }
}

/// SNS, configured as for the AWS CLI (environment, profiles, instance role).
#[cfg(feature = "aws")]
fn sns() -> Sns {
    Sns::lazy(|| Box::pin(async { aws_sdk_sns::Client::new(&aws().await) }))
}

/// EventBridge, configured as for the AWS CLI.
#[cfg(feature = "aws")]
fn eventbridge() -> EventBridge {
    EventBridge::lazy(|| Box::pin(async { aws_sdk_eventbridge::Client::new(&aws().await) }))
}

#[cfg(feature = "aws")]
async fn aws() -> aws_config::SdkConfig {
    // A claim on a delivery lasts 30 s.
    let timeouts = aws_config::timeout::TimeoutConfig::builder()
        .operation_timeout(Duration::from_secs(10))
        .build();
    aws_config::defaults(aws_config::BehaviorVersion::latest())
        .http_client(thrum_store::tls::http_client())
        .timeout_config(timeouts)
        .load()
        .await
}

#[cfg(not(feature = "aws"))]
const fn sns() -> Sns {
    Sns
}

#[cfg(not(feature = "aws"))]
const fn eventbridge() -> EventBridge {
    EventBridge
}

/// The schedule: wakes when the next timer is due, and at least every [`TICK`].
async fn tick(evaluate: Evaluate, pulse: Pulse, mut stopped: watch::Receiver<bool>) {
    let store = evaluate.store().clone();
    while !*stopped.borrow() {
        let work = async {
            let round = round(&evaluate, &pulse, store.shards()).await;
            round.unwrap_or_else(|error| {
                tracing::error!(%error, "a sweep failed; the next one catches up");
                None
            })
        };
        let next_due = trace::within(Trace::start(store.world()), work).await;
        let now = store.world().now();
        let until_due = next_due.map_or(TICK, |due| {
            Duration::from_millis((due - now).max(0).unsigned_abs())
        });
        let _ = tokio::time::timeout(TICK.min(until_due), stopped.changed()).await;
    }
}

/// One tick. The pulse comes first, so that an outage is known before the sweep evaluates monitors.
async fn round(evaluate: &Evaluate, pulse: &Pulse, shards: u16) -> anyhow::Result<Option<UnixMs>> {
    evaluate.keep_pulse(pulse).await?;
    let mut next_due: Option<UnixMs> = None;
    for shard in 0..shards {
        let swept = evaluate.sweep(shard).await?;
        next_due = [next_due, swept.next_due].into_iter().flatten().min();
    }
    Ok(next_due)
}

/// Replaces the stream's event source: passes changes to evaluate, and retries those that failed.
async fn pump(table: SqliteTable, evaluate: Evaluate, mut stopped: watch::Receiver<bool>) {
    let mut feed = table.feed();
    let mut handled = Handled::default();
    while !*stopped.borrow() {
        match pump_once(&mut feed, &evaluate, &mut handled).await {
            Ok(true) => continue,
            Ok(false) => {}
            Err(error) => tracing::error!(%error, "failed to handle changes; retrying"),
        }
        if let Some(through) = handled.deletable()
            && let Err(error) = feed.delete_through(through).await
        {
            tracing::error!(%error, "failed to delete handled changes");
        }
        tokio::select! {
            () = table.changed() => {}
            () = tokio::time::sleep(POLL) => {}
            _ = stopped.changed() => {}
        }
    }
}

/// Handles the next batch; true if there may be more.
async fn pump_once(
    feed: &mut Feed,
    evaluate: &Evaluate,
    handled: &mut Handled,
) -> anyhow::Result<bool> {
    let changes = feed.next(BATCH).await?;
    let full = changes.len() == BATCH;
    let Some(last) = changes.last().map(|change| change.sequence) else {
        return Ok(false);
    };
    let event = event_of(changes);
    let trace = Trace::start(evaluate.store().world());
    let response = trace::within(trace, evaluate.on_stream(&event)).await;
    let failed = response.batch_item_failures.len();
    anyhow::ensure!(failed == 0, "{failed} changes in a batch failed");
    feed.advance(last);
    handled.0.push_back((Instant::now(), last));
    Ok(full)
}

/// Times at which batches were handled, each with the batch's last sequence number.
#[derive(Default)]
struct Handled(VecDeque<(Instant, i64)>);

impl Handled {
    /// The sequence number up to which changes may be deleted; removes it from the list.
    fn deletable(&mut self) -> Option<i64> {
        let mut through = None;
        while let Some((at, sequence)) = self.0.front()
            && at.elapsed() >= KEEP
        {
            through = Some(*sequence);
            self.0.pop_front();
        }
        through
    }
}

/// Replaces DynamoDB's TTL: deletes expired items.
async fn remove_expired(
    table: SqliteTable,
    world: Arc<dyn World>,
    mut stopped: watch::Receiver<bool>,
) {
    // Wait first: after a long downtime the sweep must evaluate overdue monitors before items
    // expire.
    while tokio::time::timeout(TTL_EVERY, stopped.changed())
        .await
        .is_err()
    {
        if let Err(error) = table.remove_expired(world.now().secs()).await {
            tracing::error!(%error, "failed to delete expired items");
        }
    }
}
