//! What the clients know, what people were told, and whether the one deserved the other.

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

/// How much longer than it may a monitor is silent before it is certain that people have to be told: a restart lies within.
const CERTAIN: Duration = Duration::from_secs(10);
/// By how much an instant that the server tells may be off from what its client can know.
const CLOCKS: Duration = Duration::from_millis(1_500);
/// How often one in so many monitors falls silent.
const ONE_IN: usize = 100;

/// A monitor, as its client knows it.
#[derive(Debug)]
struct Member {
    name: String,
    path: String,
    /// From when to when it sends nothing.
    silence: Mutex<Option<(Instant, Instant)>>,
    sent: Mutex<Sent>,
}

#[derive(Debug, Default)]
struct Sent {
    /// When each ping that was answered was sent, and when it was answered.
    answered: Vec<(Instant, Instant)>,
    /// How often pings were sent.
    attempts: u64,
}

/// All monitors.
#[derive(Debug, Default)]
pub struct Fleet(Vec<Member>);

impl Fleet {
    /// A further monitor.
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

    /// Where the pings of the `i`-th go.
    pub fn path(&self, i: usize) -> &str {
        &self.0[i].path
    }

    /// Lets one monitor in a hundred fall silent once, at instants that are spread over the time; some of them to its end.
    pub fn plan_silences(&self, begun: Instant, end: Instant) {
        let silent: Vec<&Member> = self.0.iter().skip(ONE_IN / 2).step_by(ONE_IN).collect();
        let span = (end - begun).saturating_sub(PERIOD);
        for (i, member) in silent.iter().enumerate() {
            let from = begun + PERIOD + span.mul_f64(i as f64 / silent.len() as f64);
            *lock(&member.silence) = Some((from, from + SILENCE));
        }
    }

    /// How many fall silent.
    pub fn silent(&self) -> usize {
        let silent = self
            .0
            .iter()
            .filter(|member| lock(&member.silence).is_some());
        silent.count()
    }

    /// Whether the `i`-th sends nothing at that instant.
    pub fn is_silent(&self, i: usize, at: Instant) -> bool {
        let silence = *lock(&self.0[i].silence);
        silence.is_some_and(|(from, to)| from <= at && at < to)
    }

    /// Notes a ping that was to be sent at `at`, and what had become of it by `now`.
    pub fn note(&self, i: usize, at: Instant, now: Instant, answered: bool, attempts: u64) {
        let mut sent = lock(&self.0[i].sent);
        sent.attempts += attempts;
        if answered {
            sent.answered.push((at, now));
        }
    }

    /// Compares what people were told, and what the server counted, with what the clients know.
    pub fn judge(&self, told: &Told, counted: &[(String, u64)]) -> Verdict {
        let counted: HashMap<&str, u64> = counted
            .iter()
            .map(|(name, n)| (name.as_str(), *n))
            .collect();
        let mut verdict = Verdict {
            repeats: told.repeats,
            ..Verdict::default()
        };
        for member in &self.0 {
            let mut sent = lock(&member.sent);
            sent.answered.sort_unstable();
            let none = Vec::new();
            let changes = told.changes.get(&member.name).unwrap_or(&none);
            judge_one(&sent.answered, changes, told.until, &mut verdict);
            let acked = sent.answered.len() as u64;
            verdict.answered += acked;
            // The first one made it.
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

/// Whether each silence of a monitor was told of, and nothing else.
fn judge_one(
    answered: &[(Instant, Instant)],
    changes: &[Change],
    until: Instant,
    verdict: &mut Verdict,
) {
    let limit = PERIOD + GRACE;
    let mut unexplained: Vec<&Change> = changes.iter().filter(|change| change.down).collect();
    let mut ups = changes.len() - unexplained.len();
    verdict.told += changes.len() as u64;
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

/// What came of it.
#[derive(Debug, Default, Serialize)]
pub struct Verdict {
    /// Pings that were answered.
    pub answered: u64,
    /// Pings that were answered, and not counted.
    pub lost: u64,
    /// Pings that were counted, and never sent.
    pub invented: u64,
    /// Changes that people were told of.
    pub told: u64,
    /// Silences and returns that nobody was told of.
    pub missed: u64,
    /// Alerts without a cause.
    pub false_alerts: u64,
    /// Messages that came again, under the same key.
    pub repeats: u64,
    /// From a deadline to the message, sorted.
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

/// A change that people were told of.
#[derive(Debug, Clone)]
struct Change {
    down: bool,
    /// When it happened, as the message says.
    happened: Instant,
    /// When the message came.
    received: Instant,
}

/// What people were told, by monitor.
pub struct Told {
    receiver: Option<Receiver>,
    /// The same instant by both clocks.
    anchor: (Instant, UnixMs),
    changes: HashMap<String, Vec<Change>>,
    repeats: u64,
    until: Instant,
}

impl Told {
    /// Lets a receiver of our own be told, if the server is ours; else what is told is looked up at the end.
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
        let text = rfc3339.as_str().context("an instant")?;
        let at = chrono::DateTime::parse_from_rfc3339(text)?.timestamp_millis();
        let since = at - self.anchor.1.0;
        let by = Duration::from_millis(since.unsigned_abs());
        Ok(if since < 0 {
            self.anchor.0 - by
        } else {
            self.anchor.0 + by
        })
    }

    /// Waits for `patience`, and for whoever is still to be told; then nothing more may come.
    pub async fn settle(mut self, target: &Target, patience: Duration) -> anyhow::Result<Self> {
        // Nobody else falls silent while we wait: the last ping of all others is not that old.
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

    /// The newest 200 alerts, which is all that a server tells at once.
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
