//! Projects: what owns monitors, channels and keys.

use crate::id::ProjectId;
use crate::key;
use crate::plan::OWNER;
use crate::silence::Window;
use crate::time::UnixMs;
use crate::world::World;
use serde::{Deserialize, Serialize};

/// A project.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Project {
    /// Its id.
    pub id: ProjectId,
    /// What people call it.
    pub name: String,
    /// The name of its plan.
    #[serde(default = "default_plan")]
    pub plan: String,
    /// What the URLs of its public badges begin with.
    #[serde(default)]
    pub badge_key: String,
    /// What signs them.
    #[serde(default)]
    pub badge_secret: String,
    /// When it was made.
    #[serde(default)]
    pub created: UnixMs,
    /// Nothing alerts before this instant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snoozed_until: Option<UnixMs>,
    /// Recurring times in which nothing alerts, and nothing counts as downtime.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub windows: Vec<Window>,
    /// Seconds between two reminders of monitors that say nothing of their own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remind_s: Option<u32>,
    /// What everybody may see who has its address, which begins with the badges' key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status_page: Option<StatusPage>,
    /// Counts the changes.
    #[serde(default)]
    pub version: u64,
}

/// A public status page.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatusPage {
    /// What it is called.
    pub title: String,
    /// It shows the monitors with this tag; all of them, if it is empty.
    pub tag: String,
}

fn default_plan() -> String {
    OWNER.to_owned()
}

impl Project {
    /// A project without badges.
    pub fn new(id: ProjectId, name: &str) -> Self {
        Self {
            id,
            name: name.to_owned(),
            plan: default_plan(),
            badge_key: String::new(),
            badge_secret: String::new(),
            created: UnixMs(0),
            snoozed_until: None,
            windows: Vec::new(),
            remind_s: None,
            status_page: None,
            version: 0,
        }
    }

    /// A project with keys for its badges.
    pub fn with_badges(id: ProjectId, name: &str, world: &dyn World) -> Self {
        Self {
            badge_key: key::new_badge_key(world),
            badge_secret: key::new_badge_secret(world),
            created: world.now(),
            ..Self::new(id, name)
        }
    }
}
