//! The schedule on AWS fires once a minute; timers due in between arrive through the work queue,
//! exactly on time.

use axum::http::Method;
use e2e::Stage;
use futures::future::BoxFuture;
use serde_json::json;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use thrum_evaluate::{Evaluate, event_of};
use thrum_schema::metrics::Count;
use thrum_schema::work::{EvaluateWork, Work};
use thrum_schema::{UnixMs, World};
use thrum_store::key::Key;
use thrum_store::queue::{Later, LaterError};
use thrum_store::table::{Value, set, update};

/// A queue that delivers each message when its delay is over, by the stage's clock.
#[derive(Debug)]
pub struct Queue {
    world: Arc<thrum_schema::world::ManualWorld>,
    messages: Mutex<Vec<(UnixMs, EvaluateWork)>>,
    /// How many messages were sent.
    sent: Mutex<usize>,
    broken: Mutex<bool>,
}

impl Queue {
    pub fn new(stage: &Stage) -> Self {
        Self {
            world: Arc::clone(&stage.world),
            messages: Mutex::default(),
            sent: Mutex::default(),
            broken: Mutex::default(),
        }
    }

    /// The messages that are due now.
    pub fn due(&self) -> Vec<EvaluateWork> {
        let now = self.world.now();
        let mut messages = self.messages.lock().unwrap();
        let (due, left) = messages.drain(..).partition(|(at, _)| *at <= now);
        *messages = left;
        let due: Vec<(UnixMs, EvaluateWork)> = due;
        due.into_iter().map(|(_, work)| work).collect()
    }

    /// How many messages wait that are the same as `work`.
    pub fn waiting(&self, work: &EvaluateWork) -> usize {
        let messages = self.messages.lock().unwrap();
        messages.iter().filter(|(_, one)| one == work).count()
    }

    /// Whether it refuses messages from now on.
    pub fn break_it(&self, broken: bool) {
        *self.broken.lock().unwrap() = broken;
    }
}

impl Later for Queue {
    fn send(&self, work: Work, delay: Duration) -> BoxFuture<'_, Result<(), LaterError>> {
        Box::pin(async move {
            if *self.broken.lock().unwrap() {
                return Err(LaterError("broken".into()));
            }
            let Work::Evaluate(work) = work else {
                panic!("evaluate queues its own work only: {work:?}");
            };
            *self.sent.lock().unwrap() += 1;
            let at = self.world.now() + i64::try_from(delay.as_millis()).unwrap();
            self.messages.lock().unwrap().push((at, work));
            Ok(())
        })
    }
}

/// A stage that calls evaluate as AWS does.
struct Aws {
    stage: Stage,
    queue: Arc<Queue>,
    evaluate: Evaluate,
    swept: Mutex<Option<UnixMs>>,
}

impl Aws {
    async fn new() -> Self {
        Self::with(3, thrum_ingest::Config::default()).await
    }

    async fn with(shards: u16, config: thrum_ingest::Config) -> Self {
        let stage = Stage::with(shards, config).await;
        let queue = Arc::new(Queue::new(&stage));
        let evaluate = stage.sweeper("aws").with_timer_queue(queue.clone());
        Self {
            stage,
            queue,
            evaluate,
            swept: Mutex::default(),
        }
    }

    /// How many changes the stream would pass to evaluate.
    async fn records(&self) -> usize {
        let changes = self.stage.all_changes().await;
        changes.iter().filter(|change| change.is_wanted()).count()
    }

    fn sent(&self) -> usize {
        *self.queue.sent.lock().unwrap()
    }

    /// One invocation by the schedule.
    async fn tick(&self) {
        self.stage.keep_pulse().await;
        let started = self.stage.world.now();
        for shard in 0..self.stage.store.shards() {
            self.evaluate.sweep(shard).await.unwrap();
        }
        let _ = self
            .evaluate
            .look_ahead(0..self.stage.store.shards(), started)
            .await;
    }

    /// Delivers the records of timers that are due soon, as the stream's filters pass them. Even if
    /// the queue fails, evaluate must report none of them, because a failure would block the
    /// stream.
    async fn stream(&self) {
        let mut changes = self.stage.all_changes().await;
        let soon = Some(&Value::S("soon".to_owned()));
        changes.retain(|change| change.new.as_ref().and_then(|new| new.get("kind")) == soon);
        let event = event_of(changes);
        let response = self.evaluate.on_stream(&event).await;
        assert!(response.batch_item_failures.is_empty());
    }

    /// Lets `ms` pass, second by second: the queue delivers its due messages, and the schedule
    /// fires once a minute.
    async fn run(&self, ms: i64) {
        let end = self.stage.world.now() + ms;
        while self.stage.world.now() < end {
            let now = self.stage.world.advance(1_000);
            for work in self.queue.due() {
                self.evaluate.work(&work).await.unwrap();
            }
            let swept = *self.swept.lock().unwrap();
            if swept.is_none_or(|swept| now - swept >= 60_000) {
                *self.swept.lock().unwrap() = Some(now);
                self.tick().await;
            }
        }
    }

    async fn monitor(&self, name: &str, period_s: i64, grace_s: i64) -> String {
        let body = json!({"name": name, "slug": name, "period_s": period_s, "grace_s": grace_s});
        let created = self.stage.call(Method::POST, "/v1/monitors", body).await;
        assert_eq!(created.status, 201, "{}", created.text());
        let id = created.json()["uuid"].as_str().unwrap().to_owned();
        self.stage.ping(&id).await;
        id
    }

    /// Whether the latest alert of a monitor is down. The state in the API would not do: it may be
    /// computed from the deadline.
    async fn is_down(&self, id: &str) -> bool {
        let alerts = self.stage.alerts().await;
        let mut own = alerts.iter().filter(|alert| alert["monitor"]["uuid"] == id);
        own.next()
            .is_some_and(|alert| alert["type"] == "monitor.down")
    }
}

#[tokio::test]
async fn a_monitor_goes_down_within_a_second_of_its_deadline() {
    let aws = Aws::new().await;
    aws.run(5_000).await;
    for (i, (period_s, grace_s)) in [(60, 60), (100, 33), (61, 1), (300, 60), (17, 0)]
        .into_iter()
        .enumerate()
    {
        let id = aws.monitor(&format!("m{i}"), period_s, grace_s).await;
        aws.stream().await;
        let total_ms = (period_s + grace_s) * 1_000;
        aws.run(total_ms - 1_000).await;
        assert!(!aws.is_down(&id).await, "{period_s} {grace_s}: early");
        aws.run(2_000).await;
        assert!(aws.is_down(&id).await, "{period_s} {grace_s}: late");
    }
}

#[tokio::test]
async fn short_periods_are_detected_on_time_with_few_messages() {
    let aws = Aws::new().await;
    aws.run(5_000).await;
    let id = aws.monitor("quick", 20, 5).await;
    aws.stream().await;
    let before = aws.sent();
    for _ in 0..60 {
        aws.run(20_000).await;
        aws.stage.ping(&id).await;
    }
    assert!(!aws.is_down(&id).await);
    // In twenty minutes, each look-ahead starts a chain of messages that ends before the next one.
    let sent = aws.sent() - before;
    assert!(sent <= 20 * 5, "{sent} messages in twenty minutes");
    aws.run(24_000).await;
    assert!(!aws.is_down(&id).await);
    aws.run(2_000).await;
    assert!(aws.is_down(&id).await);
}

#[tokio::test]
async fn a_steady_one_minute_monitor_queues_no_messages() {
    let aws = Aws::new().await;
    let id = aws.monitor("steady", 60, 60).await;
    aws.run(60_000).await;
    let before = aws.sent();
    for _ in 0..30 {
        aws.stage.ping(&id).await;
        aws.run(45_000).await;
    }
    assert_eq!(
        aws.sent(),
        before,
        "a monitor that is never late needs no messages"
    );
    assert!(!aws.is_down(&id).await);
}

#[tokio::test]
async fn a_run_with_a_short_grace_goes_down_between_sweeps() {
    let aws = Aws::new().await;
    let id = aws.monitor("job", 3_600, 7).await;
    aws.run(61_000).await;
    aws.stage.ping(&format!("{id}/start")).await;
    aws.stream().await;
    aws.run(6_000).await;
    assert!(!aws.is_down(&id).await);
    aws.run(2_000).await;
    assert!(aws.is_down(&id).await);
}

#[tokio::test]
async fn without_the_queue_a_sweep_finds_a_missed_deadline_within_a_minute() {
    let aws = Aws::new().await;
    let id = aws.monitor("job", 60, 60).await;
    aws.run(5_000).await;
    aws.queue.break_it(true);
    aws.stage.ping(&format!("{id}/start")).await;
    aws.stream().await;
    aws.run(125_000 + 60_000).await;
    assert!(aws.is_down(&id).await);
    let alerts = aws.stage.alerts().await;
    assert_eq!(alerts.len(), 1, "one alert: {alerts:?}");
    let metrics = aws.stage.store.metrics();
    assert_eq!(metrics.counted(Count::Flips), 2, "one flip up, one down");
}

#[tokio::test]
async fn a_period_of_two_seconds_is_detected_on_time() {
    let aws = Aws::new().await;
    aws.run(5_000).await;
    let id = aws.monitor("host", 2, 1).await;
    aws.stream().await;
    for _ in 0..100 {
        aws.run(2_000).await;
        aws.stage.ping(&id).await;
    }
    assert!(!aws.is_down(&id).await);
    aws.run(4_000).await;
    assert!(aws.is_down(&id).await);
}

#[tokio::test]
async fn an_unreadable_monitor_does_not_delay_others() {
    let aws = Aws::new().await;
    aws.run(5_000).await;
    let (broken, id) = (
        aws.monitor("broken", 100, 33).await,
        aws.monitor("job", 100, 33).await,
    );
    let odd = update(
        Key::new(format!("M#{broken}"), "LEASE"),
        set("status", "odd"),
    );
    aws.stage.store.table().write(odd).await.unwrap();
    aws.run(132_000).await;
    assert!(!aws.is_down(&id).await);
    aws.run(2_000).await;
    assert!(aws.is_down(&id).await);
}

#[tokio::test]
async fn duplicate_late_and_orphaned_messages_change_nothing() {
    let aws = Aws::new().await;
    let id = aws.monitor("job", 30, 5).await;
    let gone = aws.monitor("gone", 30, 5).await;
    aws.stream().await;
    let messages: Vec<EvaluateWork> = {
        let messages = aws.queue.messages.lock().unwrap();
        messages.iter().map(|(_, work)| work.clone()).collect()
    };
    assert_eq!(
        messages.len(),
        1,
        "timers of the same second share a message"
    );
    let reply = aws
        .stage
        .call(
            Method::DELETE,
            &format!("/v1/monitors/{gone}"),
            serde_json::Value::Null,
        )
        .await;
    assert_eq!(reply.status, 204);
    aws.run(36_000).await;
    assert!(aws.is_down(&id).await);
    for work in messages.iter().chain(&messages) {
        aws.evaluate.work(work).await.unwrap();
    }
    assert_eq!(aws.stage.alerts().await.len(), 1);
    // A message that arrives before the deadline waits again.
    aws.stage.ping(&id).await;
    for work in &messages {
        aws.evaluate.work(work).await.unwrap();
    }
    assert!(!aws.is_down(&id).await);
}

/// The costs used in docs/cost.md: by DynamoDB's formulas, with evaluate called as on AWS.
#[tokio::test]
async fn a_steady_heartbeat_costs_about_one_unit_and_invokes_no_function() {
    const MONITORS: usize = 600;
    const MINUTES: usize = 12;
    let config = thrum_ingest::Config {
        ping_log: false,
        ..Default::default()
    };
    let aws = Aws::with(4, config).await;
    let mut ids = Vec::new();
    for i in 0..MONITORS {
        ids.push(aws.monitor(&format!("m{i}"), 60, 60).await);
    }
    // The monitors are spread over the minute, like real hosts.
    let beats = async |minutes: usize| {
        for _ in 0..minutes * 60 {
            aws.run(1_000).await;
            let second = usize::try_from(aws.stage.world.now().secs().rem_euclid(60)).unwrap();
            for id in ids.iter().skip(second).step_by(60) {
                aws.stage.ping(id).await;
            }
        }
    };
    beats(4).await;
    let (sent, records) = (aws.sent(), aws.records().await);
    aws.stage.meter.take();
    beats(MINUTES).await;
    let used = aws.stage.meter.take();
    let heartbeats = (MONITORS * MINUTES) as f64;
    // The pulse and idle sweeps cost the same for any number of monitors.
    let fixed = MINUTES as f64;
    let writes = (used.write_units - fixed) / heartbeats;
    let reads = used.read_units / heartbeats;
    println!(
        "per heartbeat: {writes:.3} WU, {reads:.3} RU; {:?}",
        used.calls
    );
    assert!(writes <= 1.1, "{writes}");
    assert!(reads <= 0.8, "{reads}");
    assert_eq!(aws.sent(), sent, "no messages in the work queue");
    assert_eq!(
        aws.records().await,
        records,
        "no records for evaluate in the stream"
    );
}
