//! The table's stream: which changes evaluate is called for.
//!
//! On AWS the event source's filters in `template.yaml` select them; in the embedded table the
//! writer does, with [`Change::is_wanted`]. A test checks that both agree.

use crate::key::Key;
use crate::table::{Item, Value};

/// A change of an item: what it was and what it became.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// Its number, which orders the changes of a table.
    pub sequence: i64,
    /// The item's key.
    pub key: Key,
    /// The item before; `None` if it was created.
    pub old: Option<Item>,
    /// The item after; `None` if it was removed.
    pub new: Option<Item>,
    /// Whether the item was removed because its TTL had passed.
    pub expired: bool,
}

impl Change {
    /// DynamoDB's name for the event.
    pub const fn event_name(&self) -> &'static str {
        match (&self.old, &self.new) {
            (None, _) => "INSERT",
            (Some(_), Some(_)) => "MODIFY",
            (Some(_), None) => "REMOVE",
        }
    }

    /// Whether evaluate is called for it.
    pub fn is_wanted(&self) -> bool {
        is_wanted(self.old.as_ref(), self.new.as_ref(), self.expired)
    }
}

/// Whether evaluate is called for a change: alerts and requests when they are created; probes,
/// watches, heads of series that ask for it (`calls`) and timers that are due soon whenever they
/// are written; states when TTL removes them.
pub fn is_wanted(old: Option<&Item>, new: Option<&Item>, expired: bool) -> bool {
    match (old, new) {
        (None, Some(new)) if matches!(kind(new), Some("alert" | "request")) => true,
        (_, Some(new)) => match kind(new) {
            Some("probe" | "watch" | "soon") => true,
            Some("series") => new.get("calls") == Some(&Value::Bool(true)),
            _ => false,
        },
        (Some(old), None) => expired && kind(old) == Some("lease"),
        (None, None) => false,
    }
}

/// Whether evaluate may be called for a change of this item other than its removal. An item's kind
/// never changes.
pub fn may_be_wanted(item: &Item) -> bool {
    let kinds = ["alert", "request", "probe", "watch", "soon", "series"];
    kind(item).is_some_and(|kind| kinds.contains(&kind))
}

fn kind(item: &Item) -> Option<&str> {
    match item.get("kind") {
        Some(Value::S(kind)) => Some(kind),
        _ => None,
    }
}
