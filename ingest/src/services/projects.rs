//! Changes to projects, and their effects on monitors.

use super::accounts::Accounts;
use super::monitors::Monitors;
use std::sync::Arc;
use thrum_schema::{Project, ProjectId};
use thrum_store::{Result, Store, StoreError};

/// How often to retry a change that conflicts with others.
const MAX_ATTEMPTS: usize = 10;

/// The projects.
#[derive(Debug)]
pub struct Projects {
    store: Store,
    accounts: Arc<Accounts>,
    monitors: Arc<Monitors>,
}

impl Projects {
    /// The projects in `store`.
    pub const fn new(store: Store, accounts: Arc<Accounts>, monitors: Arc<Monitors>) -> Self {
        Self {
            store,
            accounts,
            monitors,
        }
    }

    /// Changes a project with `edit`, which may be called more than once. `None` if there is no
    /// such project.
    pub async fn change(
        &self,
        id: ProjectId,
        edit: impl Fn(&mut Project),
    ) -> Result<Option<Project>> {
        for _ in 0..MAX_ATTEMPTS {
            let Some(before) = self.store.project(id).await? else {
                return Ok(None);
            };
            let mut after = before.clone();
            edit(&mut after);
            if after == before {
                return Ok(Some(after));
            }
            match self.store.replace_project(&before, &after).await {
                Ok(()) => {
                    self.accounts.forget_project(id);
                    self.monitors.after_project_edit(&before, &after).await?;
                    return Ok(Some(after));
                }
                Err(StoreError::Conflict) => {}
                Err(error) => return Err(error),
            }
        }
        Err(StoreError::Conflict)
    }
}
