//! Monitors, by id, name, slug and project.

use super::{Query, Result, Store};
use crate::id::{MonitorId, ProjectId};
use crate::item::Key;
use crate::lease::Lease;
use crate::monitor::Monitor;
use serde::Deserialize;

impl Store {
    /// A monitor's configuration. 1 RU.
    pub async fn monitor(&self, project: ProjectId, monitor: MonitorId) -> Result<Option<Monitor>> {
        self.get(&Key::monitor(project, monitor)).await
    }

    /// The monitor that heartbeats by `name` mean. 1 RU.
    pub async fn monitor_named(&self, project: ProjectId, name: &str) -> Result<Option<MonitorId>> {
        #[derive(Deserialize)]
        struct Name {
            monitor: MonitorId,
        }
        let found: Option<Name> = self.get(&Key::name(project, name)).await?;
        Ok(found.map(|found| found.monitor))
    }

    /// The monitors that have `slug`; more than one is ambiguous. 1 RU.
    pub async fn monitors_with_slug(
        &self,
        project: ProjectId,
        slug: &str,
    ) -> Result<Vec<MonitorId>> {
        #[derive(Deserialize)]
        struct Slug {
            #[serde(default)]
            ids: Vec<MonitorId>,
        }
        let found: Option<Slug> = self.get(&Key::slug(project, slug)).await?;
        Ok(found.map(|found| found.ids).unwrap_or_default())
    }

    /// A project's monitors. 0.5 RU per 4 kB.
    pub async fn monitors(&self, project: ProjectId) -> Result<Vec<Monitor>> {
        self.query_prefix(&Key::project(project).pk, "M#", Query::default())
            .await
    }

    /// The leases of monitors, as far as they have one, in no order. 1 RU each, 100 a call.
    pub async fn leases(&self, monitors: &[MonitorId]) -> Result<Vec<Lease>> {
        self.get_many(monitors.iter().map(|id| Key::lease(*id)).collect())
            .await
    }
}
