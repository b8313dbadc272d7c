//! Projects: the owners of monitors, channels and keys.

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
    /// Its ID.
    pub id: ProjectId,
    /// The display name.
    pub name: String,
    /// The name of its plan.
    #[serde(default = "default_plan")]
    pub plan: String,
    /// The start of its public badge URLs.
    #[serde(default)]
    pub badge_key: String,
    /// The secret that signs badge URLs.
    #[serde(default)]
    pub badge_secret: String,
    /// When it was created.
    #[serde(default)]
    pub created: UnixMs,
    /// No alerts before this timestamp.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snoozed_until: Option<UnixMs>,
    /// Recurring maintenance windows: no alerts, and no downtime is counted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub windows: Vec<Window>,
    /// Seconds between reminders, for monitors without their own setting.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remind_s: Option<u32>,
    /// The status page, public to anyone who has its URL (which starts with the badge key).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status_page: Option<StatusPage>,
    /// The IANA time zone of times in messages; UTC if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    /// Its own texts of messages.
    #[serde(default, skip_serializing_if = "Templates::is_empty")]
    pub templates: Templates,
    /// Incremented with every change.
    #[serde(default)]
    pub version: u64,
}

/// A project's own texts; an empty one leaves Thrum's.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Templates {
    /// The title, in one line.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub title: String,
    /// The sentences under it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub text: String,
}

impl Templates {
    /// Whether there are none.
    pub const fn is_empty(&self) -> bool {
        self.title.is_empty() && self.text.is_empty()
    }
}

/// A public status page.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatusPage {
    /// Its title.
    pub title: String,
    /// Only monitors with this tag are shown; all of them if it is empty.
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
            zone: None,
            templates: Templates::default(),
            version: 0,
        }
    }

    /// A project with a new badge key and secret.
    pub fn with_badges(id: ProjectId, name: &str, world: &dyn World) -> Self {
        Self {
            badge_key: key::new_badge_key(world),
            badge_secret: key::new_badge_secret(world),
            created: world.now(),
            ..Self::new(id, name)
        }
    }
}
