//! Bus and queue in one process: a channel, and a task for each piece of work.
//!
//! Nothing in it is kept: what is lost with the process is in the table, where audits and timers find it again (A5).

use futures::future::BoxFuture;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use thrum_evaluate::{Bus, BusError, Evaluate};
use thrum_notify::Notify;
use thrum_schema::work::Work;
use thrum_store::queue::{Later, LaterError};
use tokio::sync::Semaphore;
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};

/// How much work may be under way; beyond, the bus refuses, and stream and timers bring it again.
const MAX_UNDER_WAY: usize = 20_000;
/// How many long pieces of work are under way at a time.
const MAX_LONG: usize = 4;
/// How often work that failed is tried again, as the queue would; then audits and timers bring it.
const MAX_TRIES: u32 = 5;
/// How long it waits for that.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// The sending side. Cheap to clone.
#[derive(Debug, Clone)]
pub struct LocalQueue {
    work: UnboundedSender<Work>,
    under_way: Arc<AtomicUsize>,
    /// Room for evaluate's work, which is long.
    room: Arc<Semaphore>,
}

impl LocalQueue {
    /// A queue, and the work that will come through it, for [`LocalQueue::run`].
    pub fn new() -> (Self, UnboundedReceiver<Work>) {
        let (work, receiver) = mpsc::unbounded_channel();
        let queue = Self {
            work,
            under_way: Arc::default(),
            room: Arc::new(Semaphore::new(MAX_LONG)),
        };
        (queue, receiver)
    }

    /// How much work is under way.
    pub fn under_way(&self) -> usize {
        self.under_way.load(Ordering::SeqCst)
    }

    /// Hands work to `notify`, or to `evaluate` what is for its worker, each piece to a task of its own, until every sender
    /// is gone.
    pub async fn run(self, mut work: UnboundedReceiver<Work>, notify: Notify, evaluate: Evaluate) {
        while let Some(work) = work.recv().await {
            let (notify, evaluate) = (notify.clone(), evaluate.clone());
            let under_way = Arc::clone(&self.under_way);
            let room = Arc::clone(&self.room);
            tokio::spawn(async move {
                for attempt in 1..=MAX_TRIES {
                    let done = if work.is_for_evaluate() {
                        let _room = room.acquire().await;
                        evaluate
                            .work(&work)
                            .await
                            .map_err(|error| error.to_string())
                    } else {
                        notify
                            .handle(&work)
                            .await
                            .map_err(|error| error.to_string())
                    };
                    match done {
                        Ok(()) => break,
                        Err(error) => {
                            tracing::error!(%error, ?work, attempt, "a piece of work failed");
                            tokio::time::sleep(RETRY_AFTER * attempt).await;
                        }
                    }
                }
                under_way.fetch_sub(1, Ordering::SeqCst);
            });
        }
    }

    fn push(&self, work: Work) -> Result<(), &'static str> {
        if self.under_way.fetch_add(1, Ordering::SeqCst) >= MAX_UNDER_WAY {
            self.under_way.fetch_sub(1, Ordering::SeqCst);
            return Err("too much work is under way");
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
                tracing::warn!(error, "work was put off until its timer fires");
            }
        });
        Box::pin(std::future::ready(Ok(())))
    }
}
