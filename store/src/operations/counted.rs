//! Limits on how many things of a kind a project has. They are counted first and written later, so a
//! write depends on the count: of two that were decided by the same count, only one succeeds.

use crate::item::MAPPING_VERSION;
use crate::key::Key;
use crate::table::{Write, add, attr, update};
use crate::{Result, Store};
use serde::Deserialize;
use thrum_schema::id::ProjectId;

/// A kind of things that a project has a limited number of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// API keys.
    Keys,
    /// Channels.
    Channels,
    /// Strategies.
    Strategies,
    /// Watches.
    Watches,
}

impl Kind {
    /// Its name in keys.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Keys => "keys",
            Self::Channels => "channels",
            Self::Strategies => "strategies",
            Self::Watches => "watches",
        }
    }
}

/// A count that a write depends on.
#[derive(Debug, Clone)]
pub struct Counted {
    key: Key,
    version: Option<u64>,
}

impl Store {
    /// To be called before the things of a kind are counted. 1 RU.
    pub async fn before_count(&self, project: ProjectId, kind: Kind) -> Result<Counted> {
        #[derive(Deserialize)]
        struct Guard {
            version: u64,
        }
        let key = Key::counted(project, kind.name());
        let found: Option<Guard> = self.get(key.clone()).await?;
        Ok(Counted {
            key,
            version: found.map(|guard| guard.version),
        })
    }
}

impl Counted {
    /// Fails the transaction that it is part of, if another one depended on the same count. 2 WU.
    pub(super) fn write(&self) -> Write {
        let unchanged = match self.version {
            Some(version) => attr("version").eq(version),
            None => attr("version").missing(),
        };
        let next = add("version", 1)
            .set("kind", "counted")
            .set("v", MAPPING_VERSION);
        update(self.key.clone(), next).when(unchanged)
    }
}
