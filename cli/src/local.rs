//! Bus and queue in one process: a channel, and a task for each work item.
//!
//! Nothing is persisted here. Work lost with the process is still in the table, where audits and
//! timers find it again (A5).

use futures::future::BoxFuture;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use thrum_evaluate::{Bus, BusError, Evaluate};
use thrum_notify::Notify;
use thrum_schema::work::Work;
use thrum_store::queue::{Later, LaterError};
use thrum_store::trace::{self, Trace};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};

/// Maximum number of work items in progress. Above it the bus refuses work, and stream and timers
/// retry it.
const MAX_UNDER_WAY: usize = 20_000;
/// Maximum number of evaluate's work items in progress; each takes long.
const MAX_LONG: usize = 4;
/// Attempts per work item, as the SQS queue makes. After the last one, audits and timers retry it.
const MAX_TRIES: u32 = 5;
/// Pause after the first failed attempt; it grows linearly.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// The sending side. Cheap to clone.
#[derive(Debug, Clone)]
pub struct LocalQueue {
    work: UnboundedSender<Work>,
    under_way: Arc<AtomicUsize>,
    /// Limits evaluate's work to [`MAX_LONG`].
    room: Arc<Semaphore>,
    /// Where notify runs: nothing that a receiver or a name server does takes a thread from others.
    outside: Handle,
}

impl LocalQueue {
    /// A queue, and its receiving side for [`LocalQueue::run`]. Notify runs on `outside`.
    pub fn new(outside: Handle) -> (Self, UnboundedReceiver<Work>) {
        let (work, receiver) = mpsc::unbounded_channel();
        let queue = Self {
            work,
            under_way: Arc::default(),
            room: Arc::new(Semaphore::new(MAX_LONG)),
            outside,
        };
        (queue, receiver)
    }

    /// The number of work items in progress.
    pub fn under_way(&self) -> usize {
        self.under_way.load(Ordering::SeqCst)
    }

    /// Runs each work item in its own task, on `evaluate` if it is for its worker and otherwise on
    /// `notify`, until every sender is dropped.
    pub async fn run(self, mut work: UnboundedReceiver<Work>, notify: Notify, evaluate: Evaluate) {
        while let Some(work) = work.recv().await {
            let (notify, evaluate) = (notify.clone(), evaluate.clone());
            let under_way = Arc::clone(&self.under_way);
            let room = Arc::clone(&self.room);
            let place = match &work {
                Work::Evaluate(_) => Handle::current(),
                Work::Notify(_) => self.outside.clone(),
            };
            let trace = Trace::start(evaluate.store().world());
            let worked = async move {
                for attempt in 1..=MAX_TRIES {
                    let done = match &work {
                        Work::Evaluate(work) => {
                            let _room = room.acquire().await;
                            let done = evaluate.work(work).await;
                            done.map_err(|error| error.to_string())
                        }
                        Work::Notify(work) => {
                            let done = notify.handle(work).await;
                            done.map_err(|error| error.to_string())
                        }
                    };
                    match done {
                        Ok(()) => break,
                        Err(error) => {
                            tracing::error!(%error, ?work, attempt, "a work item failed");
                            tokio::time::sleep(RETRY_AFTER * attempt).await;
                        }
                    }
                }
                under_way.fetch_sub(1, Ordering::SeqCst);
            };
            place.spawn(trace::within(trace, worked));
        }
    }

    fn push(&self, work: Work) -> Result<(), &'static str> {
        if self.under_way.fetch_add(1, Ordering::SeqCst) >= MAX_UNDER_WAY {
            self.under_way.fetch_sub(1, Ordering::SeqCst);
            return Err("too many work items are in progress");
        }
        self.work.send(work).map_err(|_| "the process is stopping")
    }
}

impl Bus for LocalQueue {
    fn publish<'a>(&'a self, works: &'a [Work]) -> BoxFuture<'a, Vec<Result<(), BusError>>> {
        let results = works
            .iter()
            .map(|work| self.push(work.clone()).map_err(|e| BusError(e.into())))
            .collect();
        Box::pin(std::future::ready(results))
    }
}

impl Later for LocalQueue {
    fn send(&self, work: Work, delay: Duration) -> BoxFuture<'_, Result<(), LaterError>> {
        let queue = self.clone();
        tokio::spawn(async move {
            tokio::time::sleep(delay).await;
            if let Err(error) = queue.push(work) {
                tracing::warn!(error, "delayed work was dropped; its timer brings it back");
            }
        });
        Box::pin(std::future::ready(Ok(())))
    }
}
