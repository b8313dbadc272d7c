//! Background tasks: the ticker of one process, the minutely schedule, and the stream.

use super::{CALM_TICK_MS, Call, Cast, Handlers};
use crate::sim::chance::{Chance, sleep_ms};
use crate::sim::history::Sweep;
use crate::sim::scenario::FaultKind;
use futures::future::join_all;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use thrum_evaluate::{Swept, SweptShards, event_of};
use thrum_schema::World;
use thrum_store::stream::Change;

/// How old a handled stream record may be to be handled again after a crash, in milliseconds.
const REPLAYED_MS: i64 = 5_000;

impl Cast {
    /// The ticker of one process.
    pub(super) async fn ticker(self: Arc<Self>, tick_ms: i64) {
        while self.clock.ms() < self.scenario.end_ms {
            let started = self.clock.ms();
            let tick_ms = if started < self.scenario.calm_ms {
                tick_ms
            } else {
                CALM_TICK_MS
            };
            let node = &self.nodes[0];
            let next = self
                .invoke(node, |handlers| async move { tick(&handlers).await })
                .await;
            let wait_ms = match next {
                Some(Ok(swept)) => {
                    let next = swept.iter().filter_map(|(_, swept)| swept.next_due).min();
                    self.note_swept(&swept, started);
                    next.map_or(tick_ms, |next| (next - node.world.now()).clamp(1, tick_ms))
                }
                Some(Err(error)) => {
                    self.trace.say(|| format!("a tick failed: {error}"));
                    tick_ms
                }
                None => 250,
            };
            sleep_ms(wait_ms).await;
        }
    }

    /// Records which shards were swept by an invocation that began at `begun_ms`.
    pub(super) fn note_swept(&self, swept: &SweptShards, begun_ms: i64) {
        let done = swept.iter().filter(|(_, swept)| !swept.busy);
        let done = done.map(|(shard, _)| Sweep {
            shard: *shard,
            begun_ms,
            ended_ms: self.clock.ms(),
        });
        self.history().sweeps.extend(done);
    }

    /// EventBridge Scheduler: it calls once a minute, up to 59 s late.
    pub(super) async fn schedule(self: Arc<Self>) {
        let of = |what| match what {
            FaultKind::Schedule(n) => Some(n),
            _ => None,
        };
        let mut minute = 0;
        loop {
            minute += 60_000;
            let times = match (self.is_hit_by(of), self.chance.per_mille(500)) {
                (false, _) => 1,
                (true, true) => 2,
                (true, false) => 0,
            };
            for _ in 0..times {
                let (cast, late_ms) = (Arc::clone(&self), self.chance.range(0, 59_000));
                tokio::spawn(async move {
                    cast.clock.until(minute + late_ms).await;
                    cast.call(Call::Tick).await;
                });
            }
            self.clock.until(minute).await;
        }
    }

    /// An invocation of evaluate by the schedule, or by its queue.
    pub(super) async fn call(self: &Arc<Self>, call: Call) {
        let (started, node) = (self.clock.ms(), self.node());
        // The function's timeout.
        let limit = Duration::from_secs(55);
        let called = self.invoke(node, |handlers| async move {
            let swept = async {
                match call {
                    Call::Tick => handlers.evaluate.tick().await,
                    Call::Sweep(shards) => handlers.evaluate.sweep_shards(shards).await,
                }
            };
            tokio::time::timeout(limit, swept).await
        });
        match called.await {
            Some(Ok(Ok(swept))) => self.note_swept(&swept, started),
            Some(Ok(Err(error))) => {
                self.trace
                    .say(|| format!("{}: tick failed: {error}", node.name));
            }
            Some(Err(_)) => self.trace.say(|| format!("{}: tick timed out", node.name)),
            None => {}
        }
    }

    /// One shard of the stream: an item's records come in order, and a failed record is redelivered
    /// with all after it.
    pub(super) async fn stream(self: Arc<Self>, shard: u64, shards: u64) {
        let chance = Chance::new(self.scenario.seed, &format!("stream {shard}"));
        let of = |what| match what {
            FaultKind::Stream(n) => Some(n),
            _ => None,
        };
        let mut feed = self.net.table.feed();
        let mut waiting: Vec<Change> = Vec::new();
        let mut handled: Vec<(i64, Change)> = Vec::new();
        let mut process = 0;
        loop {
            let changes = feed.next(usize::MAX).await.expect("the feed can be read");
            if let Some(last) = changes.last() {
                feed.advance(last.sequence);
            }
            waiting.extend(
                changes
                    .into_iter()
                    .filter(|change| shard_of(change, shards) == shard),
            );
            let died = self.process.load(Ordering::Relaxed);
            if self.serves() && died != process {
                // The process resumes at the oldest record that it had not deleted.
                process = died;
                let ms = self.clock.ms();
                let again = handled
                    .drain(..)
                    .filter(|(at, _)| ms - at <= REPLAYED_MS)
                    .map(|(_, record)| record);
                waiting.splice(0..0, again.collect::<Vec<_>>());
            }
            if waiting.is_empty() {
                let written = &self.net.written[usize::try_from(shard).expect("few")];
                let _ = tokio::time::timeout(Duration::from_secs(30), written.notified()).await;
                sleep_ms(chance.range(1, 30)).await;
                continue;
            }
            if self.is_hit_by(of) {
                sleep_ms(chance.range(100, 20_000)).await;
            }
            let size = usize::try_from(chance.range(1, 10))
                .expect("few")
                .min(waiting.len());
            let batch = waiting[..size].to_vec();
            let event = event_of(batch.clone());
            let node = self.node();
            let response = self
                .invoke(node, |handlers| async move {
                    handlers.evaluate.on_stream(&event).await
                })
                .await;
            let done = match response {
                // The whole batch is redelivered.
                None => 0,
                Some(response) => {
                    let failed: Vec<String> = response
                        .batch_item_failures
                        .into_iter()
                        .filter_map(|failure| failure.item_identifier)
                        .collect();
                    let first = batch.iter().position(|change| {
                        let sequence = change.sequence.to_string();
                        failed.contains(&sequence)
                    });
                    first.unwrap_or(size)
                }
            };
            // The function succeeded, but its response was lost.
            if done == size && self.is_hit_by(of) {
                self.trace
                    .say(|| "a stream batch is redelivered".to_owned());
                continue;
            }
            let ms = self.clock.ms();
            handled.extend(waiting.drain(..done).map(|record| (ms, record)));
            handled.retain(|(at, _)| ms - at <= 10 * REPLAYED_MS);
            if done < size {
                sleep_ms(chance.range(100, 2_000)).await;
            }
        }
    }
}

/// One tick of a process.
async fn tick(handlers: &Handlers) -> Result<SweptShards, String> {
    let Handlers {
        store,
        evaluate,
        pulse,
        ..
    } = handlers;
    let pulse = evaluate.keep_pulse(pulse).await;
    pulse.map_err(|error| error.to_string())?;
    let swept = join_all((0..store.shards()).map(|shard| evaluate.sweep(shard))).await;
    let swept: Result<Vec<Swept>, _> = swept.into_iter().collect();
    Ok((0..)
        .zip(swept.map_err(|error| error.to_string())?)
        .collect())
}

/// The shard of a change's partition.
fn shard_of(change: &Change, shards: u64) -> u64 {
    change.key.pk.bytes().map(u64::from).sum::<u64>() % shards
}
