//! The bus, the queues, and the way to ingest that the pulse uses.

use super::{Call, Cast, TURNED_AWAY, answer};
use crate::sim::chance::sleep_ms;
use crate::sim::scenario::FaultKind;
use axum::Router;
use axum::body::Body;
use axum::http::Request;
use futures::future::BoxFuture;
use std::fmt;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;
use thrum_evaluate::{Bus, BusError, SelfPing};
use thrum_schema::MonitorId;
use thrum_schema::mutant::{self, Mutant};
use thrum_schema::work::{EvaluateWork, Work};
use thrum_store::queue::{Later, LaterError};

/// How often a message is received before it becomes a dead letter.
const MAX_RECEIVES: u32 = 5;
/// The visibility timeout of the queues, in milliseconds.
const VISIBILITY_MS: i64 = 60_000;

impl Cast {
    /// Delivers a message to its handler after `delay_ms`; `is_long` if it is in the queue for long work.
    fn send(self: &Arc<Self>, work: Work, delay_ms: i64, is_long: bool) {
        let of = |what| match what {
            FaultKind::Queue(n) => Some(n),
            _ => None,
        };
        let copies = if self.is_hit_by(of) && !self.serves() {
            2
        } else {
            1
        };
        for _ in 0..copies {
            let late_ms = if self.is_hit_by(of) {
                self.chance.range(0, 15_000)
            } else {
                0
            };
            let wait_ms = delay_ms + late_ms + self.chance.range(1, 30);
            tokio::spawn(Arc::clone(self).receive(work.clone(), wait_ms, is_long));
        }
    }

    async fn receive(self: Arc<Self>, work: Work, wait_ms: i64, is_long: bool) {
        let process = self.process.load(Ordering::Relaxed);
        sleep_ms(wait_ms).await;
        // The next tick does what this one leaves.
        match &work {
            Work::Evaluate(EvaluateWork::Tick) => return self.call(Call::Tick).await,
            Work::Evaluate(EvaluateWork::Sweep { shards }) => {
                return self.call(Call::Sweep(shards.clone())).await;
            }
            _ => {}
        }
        for attempt in 1..=MAX_RECEIVES {
            // A crash loses the messages that the process held in memory.
            if self.serves() && self.process.load(Ordering::Relaxed) != process {
                return;
            }
            let consumer = match is_long {
                true => Some(self.consumers.acquire().await.expect("never closed")),
                false => None,
            };
            let (node, own) = (self.node(), work.clone());
            let handled = self
                .invoke(node, |handlers| async move {
                    match &own {
                        Work::Evaluate(work) => {
                            let done = handlers.evaluate.work(work).await;
                            done.map_err(|error| error.to_string())
                        }
                        Work::Notify(work) => {
                            let done = handlers.notify.handle(work).await;
                            done.map_err(|error| error.to_string())
                        }
                    }
                })
                .await;
            drop(consumer);
            match handled {
                Some(Ok(())) => return,
                Some(Err(error)) => self.trace.say(|| format!("{work:?} failed: {error}")),
                None => {}
            }
            let pause_ms = if self.serves() {
                1_000 * i64::from(attempt)
            } else {
                VISIBILITY_MS
            };
            sleep_ms(pause_ms).await;
        }
        self.trace.say(|| format!("{work:?} becomes a dead letter"));
    }
}

/// The bus, or the queue of a function.
pub struct Wire {
    cast: Weak<Cast>,
    /// Whether it is the queue for ticks and timers.
    is_of_timers: bool,
}

impl fmt::Debug for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Wire")
    }
}

impl Wire {
    pub fn new(cast: &Weak<Cast>) -> Self {
        Self {
            cast: Weak::clone(cast),
            is_of_timers: false,
        }
    }

    pub fn of_timers(cast: &Weak<Cast>) -> Self {
        Self {
            is_of_timers: !mutant::is(Mutant::TimersBehindWork),
            ..Self::new(cast)
        }
    }

    /// Accepts a message, refuses it, or accepts it but reports an error.
    fn take(&self, work: &Work, delay_ms: i64) -> Result<(), String> {
        let Some(cast) = self.cast.upgrade() else {
            return Ok(());
        };
        let fails = cast.is_hit_by(|what| match what {
            FaultKind::Bus(n) => Some(n),
            _ => None,
        });
        cast.trace.say(|| {
            format!(
                "published: {work:?}{}",
                if fails { ", reported as refused" } else { "" }
            )
        });
        if !fails || cast.chance.per_mille(300) {
            let is_of_evaluate = matches!(work, Work::Evaluate(_));
            let is_long = is_of_evaluate && !self.is_of_timers && !cast.serves();
            cast.send(work.clone(), delay_ms, is_long);
        }
        if fails {
            Err("the message was refused".to_owned())
        } else {
            Ok(())
        }
    }
}

impl Bus for Wire {
    fn publish<'a>(&'a self, works: &'a [Work]) -> BoxFuture<'a, Vec<Result<(), BusError>>> {
        Box::pin(async move {
            sleep_ms(2).await;
            works
                .iter()
                .map(|work| self.take(work, 0).map_err(BusError))
                .collect()
        })
    }
}

impl Later for Wire {
    fn send(&self, work: Work, delay: Duration) -> BoxFuture<'_, Result<(), LaterError>> {
        Box::pin(async move {
            sleep_ms(2).await;
            let delay_ms = i64::try_from(delay.as_millis()).unwrap_or(i64::MAX);
            self.take(&work, delay_ms).map_err(LaterError)
        })
    }
}

/// The way to ingest that the pulse uses.
#[derive(Clone)]
pub struct OwnPing(pub Weak<Cast>, pub Option<Router>);

impl fmt::Debug for OwnPing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Door")
    }
}

impl SelfPing for OwnPing {
    fn send(&self, pulse: MonitorId) -> BoxFuture<'_, Result<(), String>> {
        Box::pin(async move {
            let cast = self.0.upgrade().ok_or("the simulation has ended")?;
            let sent = cast.clock.ms();
            cast.history().pulse_attempts.push(sent);
            let path = format!("/ping/{pulse}");
            let request = Request::get(path)
                .body(Body::empty())
                .map_err(|error| error.to_string())?;
            let reply = match &self.1 {
                Some(_) if cast.is_shut() => None,
                Some(_) if cast.turns_away() => Some((TURNED_AWAY, String::new())),
                Some(router) => Some(answer(router.clone(), request).await),
                None => cast.request(request).await,
            };
            match reply {
                Some((status, _)) if status.is_success() => {
                    let answered = cast.clock.ms();
                    cast.history().pulses.push((sent, answered));
                    Ok(())
                }
                Some((status, _)) => {
                    let refused = cast.clock.ms();
                    cast.history().pulse_refusals.push(refused);
                    Err(status.to_string())
                }
                None => Err("no answer".to_owned()),
            }
        })
    }
}
