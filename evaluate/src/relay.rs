//! Relays open alerts again, after what would bring them back was lost or set to a later time.

use crate::Evaluate;
use thrum_schema::work::{NotifyWork, Work};
use thrum_schema::{Alert, ProjectId, UnixMs};
use thrum_store::Result;

/// How many alerts of a project are relayed, the newest first, and of how many days.
const ALERTS: usize = 1_000;
const DAYS: i64 = 2;

impl Evaluate {
    /// Relays the open alerts of all projects. After a crash, that is what the process had in memory:
    /// its audits would find it again, but only half a minute later.
    ///
    /// # Errors
    /// The table failed.
    pub async fn relay_all_open(&self) -> Result<()> {
        let now = self.store.world().now();
        for project in self.store.projects().await? {
            self.relay_open(project.id, now).await?;
        }
        Ok(())
    }

    /// Relays the open alerts of a project that were created up to `until`.
    pub(crate) async fn relay_open(&self, project: ProjectId, until: UnixMs) -> Result<()> {
        let recent = self.store.recent_alerts(project, until, DAYS, ALERTS);
        let open = recent.await?.into_iter().filter(Alert::is_open);
        let works: Vec<Work> = open
            .map(|alert| {
                let alert = alert.id;
                NotifyWork::Alert { project, alert }.into()
            })
            .collect();
        for sent in self.publish(&works).await {
            if let Err(error) = sent {
                tracing::warn!(%error, "an alert was not relayed again; its audit relays it");
            }
        }
        Ok(())
    }
}
