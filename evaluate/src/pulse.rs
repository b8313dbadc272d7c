//! The pipeline's own heartbeat: it goes through the front self_ping, so that we know when no heartbeat could (T3).

use crate::Evaluate;
use futures::future::BoxFuture;
use std::fmt::Debug;
use std::sync::{Arc, OnceLock, PoisonError};
use std::time::Duration;
use thrum_schema::{Outage, UnixMs};
use thrum_store::Result;
use tokio::sync::Mutex;

/// The way that heartbeats take.
pub trait SelfPing: Send + Sync + Debug {
    /// Sends the pulse's ping; an error says why it was not recorded.
    fn send(&self) -> BoxFuture<'_, std::result::Result<(), String>>;
}

/// The front self_ping at the URLs that lead to it, each with the pulse's path: as long as one of them does, heartbeats come in.
#[derive(Debug, Clone)]
pub struct HttpSelfPing {
    /// Made when the schedule first knocks: it reads the system's certificates, and a cold start need not.
    client: OnceLock<reqwest::Client>,
    urls: Vec<String>,
}

impl HttpSelfPing {
    /// The front self_ping at `urls`, with commas between them; they are tried in their order.
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

/// How the pulse is kept.
#[derive(Debug)]
pub struct Pulse {
    self_ping: Arc<dyn SelfPing>,
    every_ms: i64,
    due: Mutex<Option<UnixMs>>,
    /// Why the last one did not get through, if it did not.
    failure: std::sync::Mutex<Option<String>>,
}

impl Pulse {
    /// A pulse through `self_ping` every `every_ms`.
    pub fn new(self_ping: Arc<dyn SelfPing>, every_ms: i64) -> Self {
        Self {
            self_ping,
            every_ms,
            due: Mutex::new(None),
            failure: std::sync::Mutex::default(),
        }
    }

    /// Why the last one did not get through its front self_ping, if it did not. While that lasts nothing goes down (T3):
    /// somebody has to hear of it.
    pub fn failure(&self) -> Option<String> {
        let failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        failure.clone()
    }
}

impl Evaluate {
    /// Keeps the pulse, if it is due: a gap since the last one is recorded as an outage before any monitor is
    /// judged, and for as long as it lasts. Returns the outage, if there is one.
    ///
    /// # Errors
    /// The table failed; nothing may be judged then.
    pub async fn keep_pulse(&self, pulse: &Pulse) -> Result<Option<Outage>> {
        let mut due = pulse.due.lock().await;
        let now = self.store.world().now();
        // A clock that was set back must not silence the pulse.
        if due.is_some_and(|due| now < due && due - now <= pulse.every_ms) {
            return Ok(None);
        }
        let outage = self.outage_now(now).await?;
        if let Some(outage) = &outage {
            tracing::warn!(start = %outage.start, end = %outage.end, "the pipeline was away");
            self.store.put_outage(outage).await?;
        }
        let failure = pulse.self_ping.send().await.err();
        if let Some(error) = &failure {
            tracing::error!(%error, "the pipeline's own heartbeat did not get through its front door");
        }
        *pulse.failure.lock().unwrap_or_else(PoisonError::into_inner) = failure;
        *due = Some(now + pulse.every_ms);
        Ok(outage)
    }

    /// The outages to judge by at `now`: those that are recorded, and the one that may not be yet. A stream record
    /// may come before the schedule does, and a machine may be put to sleep between any two lines.
    pub(crate) async fn outages(&self, now: UnixMs) -> Result<Vec<Outage>> {
        let (mut outages, unrecorded) =
            futures::try_join!(self.store.outages(), self.outage_now(now))?;
        outages.extend(unrecorded);
        Ok(outages)
    }

    /// The outage since the last pulse, if the gap is one. 1 RU.
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
