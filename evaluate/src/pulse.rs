//! The pulse: the pipeline's own heartbeat. It goes through the public endpoint, so that Thrum
//! notices when no client's ping could have arrived, or not every one (T3).

use crate::Evaluate;
use futures::future::{BoxFuture, join_all};
use std::fmt::Debug;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, PoisonError};
use std::time::Duration;
use thrum_schema::mutant::{self, Mutant};
use thrum_schema::outage::{LINGERS_MS, Outage, Traffic};
use thrum_schema::{MonitorId, UnixMs};
use thrum_store::{Result, StoreError};
use tokio::sync::Mutex;

/// For how long refused heartbeats count, in milliseconds.
const REFUSALS_MS: i64 = 180_000;

/// Sends a ping to Thrum the way clients do.
pub trait SelfPing: Send + Sync + Debug {
    /// Sends a ping of the pulse. An error says why it was not recorded.
    fn send(&self, pulse: MonitorId) -> BoxFuture<'_, std::result::Result<(), String>>;
}

/// Pings Thrum over HTTP, at every URL that clients use, until one succeeds: while one of them
/// works, heartbeats can arrive.
#[derive(Debug, Clone)]
pub struct HttpSelfPing {
    /// Created at the first ping: it reads the system's certificates, which would slow down cold
    /// starts.
    client: OnceLock<reqwest::Client>,
    urls: Vec<String>,
}

impl HttpSelfPing {
    /// Pings the sites at the comma-separated `urls`, in that order.
    pub fn new(urls: &str) -> Self {
        let urls = urls.split(',').map(str::trim).filter(|url| !url.is_empty());
        Self {
            client: OnceLock::new(),
            urls: urls
                .map(|url| url.trim_end_matches('/').to_owned())
                .collect(),
        }
    }

    fn client(&self) -> reqwest::Result<&reqwest::Client> {
        if let Some(client) = self.client.get() {
            return Ok(client);
        }
        thrum_store::tls::install();
        // Each ping opens a connection, as the pings of clients do: one that is open already
        // would not show that no other can be opened.
        let client = reqwest::Client::builder()
            .timeout(Duration::from_secs(10))
            .pool_max_idle_per_host(0)
            .no_proxy()
            .build()?;
        Ok(self.client.get_or_init(|| client))
    }
}

impl SelfPing for HttpSelfPing {
    fn send(&self, pulse: MonitorId) -> BoxFuture<'_, std::result::Result<(), String>> {
        Box::pin(async move {
            let send = async |url: &str| {
                let sent = self.client()?.get(format!("{url}/ping/{pulse}")).send();
                sent.await?.error_for_status().map(drop)
            };
            let mut failures = Vec::new();
            for url in &self.urls {
                match send(url).await {
                    Ok(()) => return Ok(()),
                    Err(error) => failures.push(error.without_url().to_string()),
                }
            }
            Err(failures.join("; "))
        })
    }
}

/// The schedule and the last result of the pulse.
#[derive(Debug)]
pub struct Pulse {
    self_ping: Arc<dyn SelfPing>,
    every_ms: i64,
    pings: usize,
    due: Mutex<Option<UnixMs>>,
    /// Why the last ping failed, if it did.
    failure: std::sync::Mutex<Option<String>>,
    /// Whether a part of the heartbeats was refused lately.
    partial: AtomicBool,
}

impl Pulse {
    /// Creates a pulse that sends `pings` pings with `self_ping` every `every_ms`. More than one
    /// shows sooner that a part of the requests is refused.
    pub fn new(self_ping: Arc<dyn SelfPing>, every_ms: i64, pings: usize) -> Self {
        Self {
            self_ping,
            every_ms,
            pings,
            due: Mutex::new(None),
            failure: std::sync::Mutex::default(),
            partial: AtomicBool::new(false),
        }
    }

    /// Why the last ping failed, if it did. While it fails, no monitor goes down (T3), so an
    /// operator must be alerted.
    pub fn failure(&self) -> Option<String> {
        let failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        failure.clone()
    }

    /// Sends the pings; how many were refused. It has failed if all were.
    async fn send(&self, id: MonitorId) -> Traffic {
        let sent = join_all((0..self.pings).map(|_| self.self_ping.send(id))).await;
        let mut failures: Vec<String> = sent
            .into_iter()
            .filter_map(std::result::Result::err)
            .collect();
        let refused = failures.len();
        let failure = failures.pop().filter(|_| refused == self.pings);
        let mut last = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        // A line at the start and at the end, not for every ping in between.
        match (&*last, &failure) {
            (None, Some(error)) => {
                tracing::error!(%error, "Thrum's own heartbeat failed: an outage begins, and no monitor goes down until the heartbeat succeeds");
            }
            (Some(_), None) => tracing::warn!("Thrum's own heartbeat succeeds again"),
            _ => {}
        }
        *last = failure;
        drop(last);
        Traffic {
            all: self.pings as u64,
            refused: refused as u64,
        }
    }
}

impl Evaluate {
    /// Sends the pulse, if it is due. First, a gap since the last one is recorded as an outage,
    /// before any monitor is judged; while the gap lasts, each call extends it. Then, if heartbeats
    /// were refused, that is recorded as a partial outage. Returns the outage, if there is one.
    ///
    /// # Errors
    /// The table failed. No monitor may be judged then.
    pub async fn keep_pulse(&self, pulse: &Pulse) -> Result<Option<Outage>> {
        let mut due = pulse.due.lock().await;
        let now = self.store.world().now();
        let steady_ms = self.store.world().steady_ms();
        let step_ms = self.step_ms(now, steady_ms);
        // A clock that was set must not stop the pulse.
        let is_due = due.is_none_or(|due| now >= due || due - now > pulse.every_ms);
        if !is_due && step_ms == 0 {
            self.note_clock(now, steady_ms);
            return Ok(None);
        }
        if step_ms != 0 {
            self.record_step(now, step_ms).await?;
        }
        let step = self.step_now(now);
        self.after_step_back(now).await?;
        let outage = self.outage_now(now).await?.or(step);
        if let Some(outage) = &outage {
            self.store.put_outage(outage).await?;
        }
        self.note_clock(now, steady_ms);
        let id = self.store.pulse_id().await?;
        let id = id.ok_or_else(|| StoreError::Corrupt("the table has no pulse".into()))?;
        let sent = pulse.send(id).await;
        *due = Some(now + pulse.every_ms);
        if let Some(outage) = outage.as_ref().filter(|_| sent.refused < sent.all) {
            tracing::warn!(start = %outage.start, end = %outage.end, "an outage of Thrum has ended; deadlines in it are extended");
        }
        // If all were refused, it is a gap. But it may end before it is an outage; then a part was refused.
        if 0 < sent.refused && (sent.refused < sent.all || outage.is_none()) {
            self.store.count_refusals(now, sent).await?;
        }
        let partial = self.record_refusals(now).await?;
        if pulse.partial.swap(partial, Ordering::Relaxed) && !partial {
            tracing::warn!("no heartbeats are refused any more; the partial outage has ended");
        }
        Ok(outage)
    }

    /// Records a partial outage if heartbeats were refused lately, or extends the one that is
    /// recorded. Returns whether there is one. 1 RU, plus 1 RU and 1 WU during a partial outage.
    async fn record_refusals(&self, now: UnixMs) -> Result<bool> {
        let mut lately = self.store.refusals(now - REFUSALS_MS, now).await?;
        if Outage::partial(&lately, now).is_none() || mutant::is(Mutant::RefusalsIgnored) {
            return Ok(false);
        }
        let known = self.store.outages().await?;
        // Those of a takeover are a part of its own outage.
        lately.retain(|minute| {
            let mut takeovers = known.iter().filter(|outage| outage.takeover);
            !takeovers.any(|outage| outage.start <= minute.first && minute.last <= outage.end)
        });
        let Some(partial) = Outage::partial(&lately, now) else {
            return Ok(false);
        };
        let known = known.iter().find(|outage| {
            outage.refused.is_some() && outage.end >= now - REFUSALS_MS && outage.start <= now
        });
        let outage = partial.after(known);
        if known == Some(&outage) {
            return Ok(true);
        }
        if known.is_none() {
            tracing::warn!(
                start = %outage.start, refused_permille = outage.refused,
                "a part of the heartbeats is refused; deadlines are extended accordingly"
            );
        }
        self.store.put_outage(&outage).await?;
        Ok(true)
    }

    /// The outages to judge deadlines by at `now`: the recorded ones, of which a partial one may go
    /// on, and one that is not recorded yet. After an outage, a stream record may come before the schedule's first tick, and a
    /// machine may sleep at any point.
    pub(crate) async fn outages(&self, now: UnixMs) -> Result<Vec<Outage>> {
        // The pulse first: another process records an outage before it sends the next pulse, so an
        // outage that this pulse does not show is among the recorded ones.
        let unrecorded = self.outage_now(now).await?;
        let mut outages = self.store.outages().await?;
        for outage in &mut outages {
            if outage.refused.is_some() && outage.end.is_within(LINGERS_MS, now) {
                outage.end = now;
            }
        }
        outages.extend(unrecorded);
        outages.extend(self.step_now(now));
        Ok(outages)
    }

    /// The outage since the last pulse, if the gap is long enough. 1 RU.
    async fn outage_now(&self, now: UnixMs) -> Result<Option<Outage>> {
        let seen = self.store.pulse().await?;
        Ok(seen
            .filter(|seen| now - *seen > self.gap_ms)
            .map(|seen| Outage::total(seen, now)))
    }
}
