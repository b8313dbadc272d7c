//! The pipeline's own heartbeat: it goes through the front door, so that we know when no heartbeat could (T3).

use crate::Evaluate;
use futures::future::BoxFuture;
use std::fmt::Debug;
use std::sync::{Arc, OnceLock, PoisonError};
use std::time::Duration;
use thrum_schema::{Outage, UnixMs};
use thrum_store::Result;
use tokio::sync::Mutex;

/// The way that heartbeats take.
pub trait FrontDoor: Send + Sync + Debug {
    /// Sends the pulse's ping; an error says why it was not recorded.
    fn knock(&self) -> BoxFuture<'_, std::result::Result<(), String>>;
}

/// The front door at the URLs that lead to it, each with the pulse's path: as long as one of them does, heartbeats come in.
#[derive(Debug, Clone)]
pub struct HttpDoor {
    /// Made when the schedule first knocks: it reads the system's certificates, and a cold start need not.
    client: OnceLock<reqwest::Client>,
    urls: Vec<String>,
}

impl HttpDoor {
    /// The front door at `urls`, with commas between them; they are tried in their order.
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

impl FrontDoor for HttpDoor {
    fn knock(&self) -> BoxFuture<'_, std::result::Result<(), String>> {
        Box::pin(async {
            let knock = async |url: &str| {
                let sent = self.client()?.get(url).send().await?;
                sent.error_for_status().map(drop)
            };
            let mut failures = Vec::new();
            for url in &self.urls {
                match knock(url).await {
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
    door: Arc<dyn FrontDoor>,
    every_ms: i64,
    due: Mutex<Option<UnixMs>>,
    /// Why the last one did not get through, if it did not.
    failure: std::sync::Mutex<Option<String>>,
}

impl Pulse {
    /// A pulse through `door` every `every_ms`.
    pub fn new(door: Arc<dyn FrontDoor>, every_ms: i64) -> Self {
        Self {
            door,
            every_ms,
            due: Mutex::new(None),
            failure: std::sync::Mutex::default(),
        }
    }

    /// Why the last one did not get through its front door, if it did not. While that lasts nothing goes down (T3):
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
        let failure = pulse.door.knock().await.err();
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
