//! Compares what the clients recorded with the alerts that were sent.

use super::{GRACE, PERIOD, SILENCE, Target};
use anyhow::{Context, ensure};
use e2e::Receiver;
use serde::Serialize;
use serde_json::{Value, json};
use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use thrum_schema::world::SystemWorld;
use thrum_schema::{UnixMs, World};
use tokio::time::{Instant, sleep};

/// How much longer than period and grace a silence must last before an alert is required: time for
/// a restart.
const CERTAIN: Duration = Duration::from_secs(10);
/// How far a timestamp of the server may be from the client's.
const CLOCKS: Duration = Duration::from_millis(1_500);
/// One in N monitors falls silent.
const ONE_IN: usize = 100;

/// A monitor and what its client recorded.
#[derive(Debug)]
struct Member {
    name: String,
    path: String,
    /// Start and end of its silence.
    silence: Mutex<Option<(Instant, Instant)>>,
    sent: Mutex<Sent>,
}

#[derive(Debug, Default)]
struct Sent {
    /// When each answered ping was scheduled, and when it was answered.
    answered: Vec<(Instant, Instant)>,
    /// How many times pings were sent, with retries.
    attempts: u64,
}

/// All monitors.
#[derive(Debug, Default)]
pub struct Fleet(Vec<Member>);

impl Fleet {
    /// Adds a monitor.
    pub fn add(&mut self, name: String, path: String) {
        self.0.push(Member {
            name,
            path,
            silence: Mutex::default(),
            sent: Mutex::default(),
        });
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// The ping path of the `i`-th monitor.
    pub fn path(&self, i: usize) -> &str {
        &self.0[i].path
    }

    /// Makes one monitor in a hundred fall silent once, spread over the run; some stay silent to
    /// the end.
    pub fn plan_silences(&self, started: Instant, end: Instant) {
        let silent: Vec<&Member> = self.0.iter().skip(ONE_IN / 2).step_by(ONE_IN).collect();
        let span = (end - started).saturating_sub(PERIOD);
        for (i, member) in silent.iter().enumerate() {
            let from = started + PERIOD + span.mul_f64(i as f64 / silent.len() as f64);
            *lock(&member.silence) = Some((from, from + SILENCE));
        }
    }

    /// How many monitors fall silent.
    pub fn silent(&self) -> usize {
        let silent = self
            .0
            .iter()
            .filter(|member| lock(&member.silence).is_some());
        silent.count()
    }

    /// Whether the `i`-th monitor is silent at that time.
    pub fn is_silent(&self, i: usize, at: Instant) -> bool {
        let silence = *lock(&self.0[i].silence);
        silence.is_some_and(|(from, to)| from <= at && at < to)
    }

    /// Records the outcome at `now` of a ping that was scheduled for `at`.
    pub fn note(&self, i: usize, at: Instant, now: Instant, answered: bool, attempts: u64) {
        let mut sent = lock(&self.0[i].sent);
        sent.attempts += attempts;
        if answered {
            sent.answered.push((at, now));
        }
    }

    /// Compares the alerts and the server's counts with what the clients recorded.
    pub fn judge(&self, alerts: &Alerts, counted: &[(String, u64)]) -> Verdict {
        let counted: HashMap<&str, u64> = counted
            .iter()
            .map(|(name, n)| (name.as_str(), *n))
            .collect();
        let mut verdict = Verdict {
            repeats: alerts.repeats,
            ..Verdict::default()
        };
        for member in &self.0 {
            let mut sent = lock(&member.sent);
            sent.answered.sort_unstable();
            let none = Vec::new();
            let changes = alerts.changes.get(&member.name).unwrap_or(&none);
            judge_one(&sent.answered, changes, alerts.until, &mut verdict);
            let acked = sent.answered.len() as u64;
            verdict.answered += acked;
            // The first heartbeat created the monitor.
            let counted = counted
                .get(&*member.name)
                .map_or(0, |n| n.saturating_sub(1));
            verdict.lost += acked.saturating_sub(counted);
            verdict.invented += counted.saturating_sub(sent.attempts);
        }
        verdict.lags.sort_unstable();
        verdict
    }
}

/// Checks that each silence of a monitor raised an alert, and nothing else did.
fn judge_one(
    answered: &[(Instant, Instant)],
    changes: &[Change],
    until: Instant,
    verdict: &mut Verdict,
) {
    let limit = PERIOD + GRACE;
    let mut unexplained: Vec<&Change> = changes.iter().filter(|change| change.down).collect();
    let mut ups = changes.len() - unexplained.len();
    verdict.notified += changes.len() as u64;
    for (i, (sent, replied)) in answered.iter().enumerate() {
        let next = answered.get(i + 1);
        let deadline = (*sent + limit - CLOCKS)..=(*replied + limit + CLOCKS);
        let found = unexplained
            .iter()
            .position(|change| deadline.contains(&change.happened));
        let may = next.is_none_or(|(_, replied)| *replied >= *sent + limit);
        let must = match next {
            Some((next, _)) => *next > *replied + limit + CERTAIN,
            None => until > *replied + limit + CERTAIN,
        };
        match found {
            Some(found) if may => {
                let change = unexplained.remove(found);
                verdict
                    .lags
                    .push(change.received.saturating_duration_since(change.happened));
                if next.is_some() {
                    match ups {
                        0 => verdict.missed += 1,
                        _ => ups -= 1,
                    }
                }
            }
            None if must => verdict.missed += 1,
            _ => {}
        }
    }
    verdict.false_alerts += (unexplained.len() + ups) as u64;
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The result of the comparison.
#[derive(Debug, Default, Serialize)]
pub struct Verdict {
    /// Pings that were answered.
    pub answered: u64,
    /// Pings that were answered but not counted.
    pub lost: u64,
    /// Pings that were counted but never sent.
    pub invented: u64,
    /// Status changes that were alerted.
    pub notified: u64,
    /// Silences and recoveries without an alert.
    pub missed: u64,
    /// Alerts without a cause.
    pub false_alerts: u64,
    /// Messages that were repeated under the same key.
    pub repeats: u64,
    /// Times from deadline to message, sorted.
    #[serde(skip)]
    pub lags: Vec<Duration>,
}

impl Verdict {
    /// # Errors
    /// Anything was lost, missed or false.
    pub fn check(&self) -> anyhow::Result<()> {
        ensure!(
            self.lost + self.invented + self.missed + self.false_alerts == 0,
            "{} pings were lost and {} invented; {} alerts were missed, {} were false",
            self.lost,
            self.invented,
            self.missed,
            self.false_alerts
        );
        Ok(())
    }
}

/// A status change that was alerted.
#[derive(Debug, Clone)]
struct Change {
    down: bool,
    /// When it happened, according to the message.
    happened: Instant,
    /// When the message arrived.
    received: Instant,
}

/// The alerts that were sent, by monitor.
pub struct Alerts {
    receiver: Option<Receiver>,
    /// The same moment on both clocks.
    anchor: (Instant, UnixMs),
    changes: HashMap<String, Vec<Change>>,
    repeats: u64,
    until: Instant,
}

impl Alerts {
    /// Sets up a webhook receiver if the server is this program's own; the alerts of an external
    /// server are read from its API at the end.
    pub async fn start(target: &Target) -> anyhow::Result<Self> {
        let mut receiver = None;
        if target.own.is_some() {
            let own = receiver.insert(Receiver::start().await);
            let body = json!({"kind": "webhook", "url": own.url, "group_threshold": 0});
            target
                .call(reqwest::Method::POST, "/v1/channels", &body)
                .await?;
        }
        Ok(Self {
            receiver,
            anchor: (Instant::now(), SystemWorld.now()),
            changes: HashMap::new(),
            repeats: 0,
            until: Instant::now(),
        })
    }

    fn instant(&self, rfc3339: &Value) -> anyhow::Result<Instant> {
        let text = rfc3339.as_str().context("a timestamp")?;
        let at = chrono::DateTime::parse_from_rfc3339(text)?.timestamp_millis();
        let since = at - self.anchor.1.0;
        let by = Duration::from_millis(since.unsigned_abs());
        Ok(if since < 0 {
            self.anchor.0 - by
        } else {
            self.anchor.0 + by
        })
    }

    /// Waits for `patience`, then reads all alerts.
    pub async fn settle(mut self, target: &Target, patience: Duration) -> anyhow::Result<Self> {
        // No other monitor goes down in that time: the last ping of each is too recent.
        self.until = Instant::now();
        sleep(patience).await;
        match self.receiver.take() {
            Some(receiver) => self.read_messages(&receiver)?,
            None => self.read_alerts(target).await?,
        }
        Ok(self)
    }

    fn read_messages(&mut self, receiver: &Receiver) -> anyhow::Result<()> {
        let mut seen = HashSet::new();
        for message in receiver.taken() {
            if !seen.insert(message.id.clone()) {
                self.repeats += 1;
                continue;
            }
            let data = &message.body["data"];
            let name = data["monitor"]["name"]
                .as_str()
                .context("a monitor's name")?;
            let change = Change {
                down: data["status"] == "down",
                happened: self.instant(&data["flip_at"])?,
                received: message.at.into(),
            };
            self.changes
                .entry(name.to_owned())
                .or_default()
                .push(change);
        }
        Ok(())
    }

    /// Reads the newest 200 alerts, the most that the API returns at once.
    async fn read_alerts(&mut self, target: &Target) -> anyhow::Result<()> {
        let reply = target
            .call(reqwest::Method::GET, "/v1/alerts?limit=200", &Value::Null)
            .await?;
        for alert in reply["alerts"].as_array().context("alerts")?.iter().rev() {
            let Some(name) = alert["monitor"]["name"].as_str() else {
                continue;
            };
            let change = Change {
                down: alert["type"] == "monitor.down",
                happened: self.instant(&alert["flip_at"])?,
                received: self.instant(&alert["created_at"])?,
            };
            self.changes
                .entry(name.to_owned())
                .or_default()
                .push(change);
        }
        Ok(())
    }
}
