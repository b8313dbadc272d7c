//! The schedule on AWS: EventBridge Scheduler may call late, twice or not at all, and each tick sends the
//! next one through the queue.

use super::lookahead::Queue;
use e2e::Stage;
use std::collections::BTreeSet;
use std::sync::Arc;
use thrum_evaluate::{Evaluate, SweptShards};
use thrum_schema::World;
use thrum_schema::work::EvaluateWork;
use thrum_store::key::Key;

/// The shards of the table, and those that an invocation sweeps.
const SHARDS: (u16, u16) = (5, 2);

struct Aws {
    stage: Stage,
    queue: Arc<Queue>,
    evaluate: Evaluate,
}

impl Aws {
    async fn new() -> Self {
        let stage = Stage::with(SHARDS.0, thrum_ingest::Config::default()).await;
        let queue = Arc::new(Queue::new(&stage));
        let evaluate = stage.scheduled(queue.clone(), SHARDS.1);
        Self {
            stage,
            queue,
            evaluate,
        }
    }

    /// A call by the Scheduler; which shards it swept.
    async fn call(&self) -> Vec<u16> {
        shards(self.evaluate.tick().await.unwrap())
    }

    /// Lets `ms` pass, and delivers what is due; what it was, and which shards were swept.
    async fn pass(&self, ms: i64) -> (Vec<EvaluateWork>, Vec<u16>) {
        let mut works = Vec::new();
        let mut swept = Vec::new();
        let end = self.stage.world.now() + ms;
        while self.stage.world.now() < end {
            self.stage.world.advance(1_000);
            for work in self.queue.due() {
                match &work {
                    EvaluateWork::Tick => swept.extend(self.call().await),
                    EvaluateWork::Sweep { shards: group } => {
                        let group = self.evaluate.sweep_shards(group.clone()).await;
                        swept.extend(shards(group.unwrap()));
                    }
                    other => panic!("{other:?}"),
                }
                works.push(work);
            }
        }
        (works, swept)
    }
}

fn shards(swept: SweptShards) -> Vec<u16> {
    swept.into_iter().map(|(shard, _)| shard).collect()
}

#[tokio::test]
async fn a_tick_has_every_shard_swept_and_sends_the_next_one() {
    let aws = Aws::new().await;
    let mut swept = aws.call().await;
    assert_eq!(swept, [0, 1], "an invocation of its own for the others");
    let (works, others) = aws.pass(1_000).await;
    assert_eq!(
        works,
        [2..4, 4..5].map(|shards| EvaluateWork::Sweep { shards })
    );
    swept.extend(others);
    assert_eq!(swept, [0, 1, 2, 3, 4]);
    let (_, swept) = aws.pass(58_000).await;
    assert_eq!(swept, [0_u16; 0]);
    let (_, swept) = aws.pass(2_000).await;
    assert_eq!(swept.into_iter().collect::<BTreeSet<_>>().len(), 5);
}

/// Of the calls of the Scheduler and the messages, one a minute does the work.
#[tokio::test]
async fn late_and_double_calls_start_no_second_chain() {
    let aws = Aws::new().await;
    aws.call().await;
    let mut ticks = 0;
    // The Scheduler calls at any time, also twice.
    for wait_ms in [7_000, 110_000, 1_000, 59_000, 3_000, 118_000, 44_000] {
        let (works, _) = aws.pass(wait_ms).await;
        ticks += works
            .iter()
            .filter(|work| **work == EvaluateWork::Tick)
            .count();
        aws.call().await;
        aws.call().await;
    }
    let minutes = 342 / 60;
    assert!((minutes..=minutes + 2).contains(&ticks), "{ticks}");
    // One that the Scheduler overtook may still wait, but does nothing.
    aws.pass(15_000).await;
    assert_eq!(aws.queue.waiting(&EvaluateWork::Tick), 1);
}

#[tokio::test]
async fn the_scheduler_restarts_a_broken_chain() {
    let aws = Aws::new().await;
    aws.queue.break_it(true);
    assert_eq!(
        aws.call().await,
        [0, 1, 2, 3, 4],
        "it does all of it itself"
    );
    aws.queue.break_it(false);
    assert_eq!(aws.pass(60_000).await, (vec![], vec![]));
    assert_eq!(aws.call().await, [0, 1]);
    assert_eq!(aws.queue.waiting(&EvaluateWork::Tick), 1);
}

/// A tick that dies before it sends the next one, or whose message the queue refuses, does not hold up the
/// Scheduler's next call: two late ticks in a row would be an outage.
#[tokio::test]
async fn a_tick_that_sent_no_next_one_is_soon_overtaken() {
    let aws = Aws::new().await;
    let now = aws.stage.world.now();
    let died = aws
        .stage
        .store
        .claim_tick(Key::tick(), now, 45_000, 10_000)
        .await;
    assert!(died.unwrap().is_some());
    aws.pass(5_000).await;
    assert_eq!(aws.call().await, [0_u16; 0], "it may still be at work");
    aws.pass(6_000).await;
    assert_eq!(aws.call().await, [0, 1]);
    aws.pass(30_000).await;
    assert_eq!(aws.call().await, [0_u16; 0], "that one sent the next");
    aws.pass(60_000).await;
    aws.queue.break_it(true);
    aws.pass(60_000).await;
    aws.queue.break_it(false);
    aws.pass(11_000).await;
    assert_eq!(aws.call().await, [0, 1], "the queue refused the next one");
}
