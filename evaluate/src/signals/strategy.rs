//! Looks up strategies by name.

use crate::Evaluate;
use std::borrow::Cow;
use thrum_schema::id::ProjectId;
use thrum_schema::signal::Strategy;
use thrum_schema::signal::strategy::{BUILTIN_VERSION, builtin};
use thrum_store::Result;

impl Evaluate {
    /// The strategy `name` and its version: `version`, or the latest that is not deleted. `None` if
    /// there is none. 1 RU, or nothing for a built-in strategy.
    pub(crate) async fn strategy(
        &self,
        project: ProjectId,
        name: &str,
        version: Option<u32>,
    ) -> Result<Option<(Cow<'static, Strategy>, u32)>> {
        if let Some(strategy) = builtin(name) {
            return Ok(Some((Cow::Borrowed(strategy), BUILTIN_VERSION)));
        }
        let found = match version {
            Some(version) => self.store.strategy_version(project, name, version).await?,
            None => self
                .store
                .strategy(project, name)
                .await?
                .filter(|stored| !stored.deleted),
        };
        Ok(found.map(|stored| (Cow::Owned(stored.strategy), stored.version)))
    }
}
