//! The pulse: the pipeline's own heartbeat. It goes through the public endpoint, so that Thrum
//! notices when no client's ping could have arrived (T3).

use crate::Evaluate;
use futures::future::BoxFuture;
use std::fmt::Debug;
use std::sync::{Arc, OnceLock, PoisonError};
use std::time::Duration;
use thrum_schema::{Outage, UnixMs};
use thrum_store::Result;
use tokio::sync::Mutex;

/// Sends a ping to Thrum the way clients do.
pub trait SelfPing: Send + Sync + Debug {
    /// Sends the ping of the pulse. An error says why it was not recorded.
    fn send(&self) -> BoxFuture<'_, std::result::Result<(), String>>;
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
    /// Pings the comma-separated `urls`, in that order. Each includes the path of the pulse.
    pub fn new(urls: &str) -> Self {
        let urls = urls.split(',').map(str::trim).filter(|url| !url.is_empty());
        Self {
            client: OnceLock::new(),
            urls: urls.map(str::to_owned).collect(),
        }
    }

    fn client(&self) -> reqwest::Result<&reqwest::Client> {
        if let Some(client) = self.client.get() {
            return Ok(client);
        }
        thrum_store::tls::install();
        let client = reqwest::Client::builder()
            .timeout(Duration::from_secs(10))
            .build()?;
        Ok(self.client.get_or_init(|| client))
    }
}

impl SelfPing for HttpSelfPing {
    fn send(&self) -> BoxFuture<'_, std::result::Result<(), String>> {
        Box::pin(async {
            let send = async |url: &str| {
                let sent = self.client()?.get(url).send().await?;
                sent.error_for_status().map(drop)
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
    due: Mutex<Option<UnixMs>>,
    /// Why the last ping failed, if it did.
    failure: std::sync::Mutex<Option<String>>,
}

impl Pulse {
    /// Creates a pulse that sends `self_ping` every `every_ms`.
    pub fn new(self_ping: Arc<dyn SelfPing>, every_ms: i64) -> Self {
        Self {
            self_ping,
            every_ms,
            due: Mutex::new(None),
            failure: std::sync::Mutex::default(),
        }
    }

    /// Why the last ping failed, if it did. While it fails, no monitor goes down (T3), so an
    /// operator must be alerted.
    pub fn failure(&self) -> Option<String> {
        let failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        failure.clone()
    }
}

impl Evaluate {
    /// Sends the pulse, if it is due. First, a gap since the last one is recorded as an outage,
    /// before any monitor is judged; while the gap lasts, each call extends it. Returns the outage,
    /// if there is one.
    ///
    /// # Errors
    /// The table failed. No monitor may be judged then.
    pub async fn keep_pulse(&self, pulse: &Pulse) -> Result<Option<Outage>> {
        let mut due = pulse.due.lock().await;
        let now = self.store.world().now();
        // A clock that was set back must not stop the pulse.
        if due.is_some_and(|due| now < due && due - now <= pulse.every_ms) {
            return Ok(None);
        }
        let outage = self.outage_now(now).await?;
        if let Some(outage) = &outage {
            tracing::warn!(start = %outage.start, end = %outage.end, "the pipeline had an outage; deadlines in it are extended");
            self.store.put_outage(outage).await?;
        }
        let failure = pulse.self_ping.send().await.err();
        if let Some(error) = &failure {
            tracing::error!(%error, "the pipeline's own heartbeat did not get through; no monitor goes down until it does");
        }
        *pulse.failure.lock().unwrap_or_else(PoisonError::into_inner) = failure;
        *due = Some(now + pulse.every_ms);
        Ok(outage)
    }

    /// The outages to judge deadlines by at `now`: the recorded ones, and one that is not recorded
    /// yet. After an outage, a stream record may come before the schedule's first tick, and a
    /// machine may sleep at any point.
    pub(crate) async fn outages(&self, now: UnixMs) -> Result<Vec<Outage>> {
        let (mut outages, unrecorded) =
            futures::try_join!(self.store.outages(), self.outage_now(now))?;
        outages.extend(unrecorded);
        Ok(outages)
    }

    /// The outage since the last pulse, if the gap is long enough. 1 RU.
    async fn outage_now(&self, now: UnixMs) -> Result<Option<Outage>> {
        let seen = self.store.pulse().await?;
        Ok(seen
            .filter(|seen| now - *seen > self.gap_ms)
            .map(|seen| Outage {
                start: seen,
                end: now,
            }))
    }
}
