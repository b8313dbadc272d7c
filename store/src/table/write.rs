//! Writes of one item.

use super::{Condition, Item, Operation, Update, missing};
use crate::key::Key;

/// A write of one item.
#[derive(Debug, Clone, PartialEq)]
pub enum Write {
    /// Puts the item, replacing the one with its key.
    Put {
        /// The item.
        item: Item,
        /// The condition.
        condition: Condition,
    },
    /// Updates the item, or creates it if it does not exist.
    Update {
        /// The item's key.
        key: Key,
        /// What to try, in order: the first attempt whose condition holds is carried out. In a
        /// transaction there may be only one.
        attempts: Vec<Attempt>,
    },
    /// Deletes the item, if it exists.
    Delete {
        /// The item's key.
        key: Key,
        /// The condition.
        condition: Condition,
    },
    /// Writes nothing; checks a condition within a transaction.
    Check {
        /// The item's key.
        key: Key,
        /// The condition.
        condition: Condition,
    },
}

/// An update with its condition.
#[derive(Debug, Clone, PartialEq)]
pub struct Attempt {
    /// The condition.
    pub condition: Condition,
    /// The update.
    pub update: Update,
}

/// Puts `item`.
pub const fn put(item: Item) -> Write {
    Write::Put {
        item,
        condition: Condition::Always,
    }
}

/// Puts `item`, which must not exist yet.
pub const fn create(item: Item) -> Write {
    Write::Put {
        item,
        condition: missing(),
    }
}

/// Updates the item with this key.
pub fn update(key: Key, update: Update) -> Write {
    Write::Update {
        key,
        attempts: vec![Attempt {
            condition: Condition::Always,
            update,
        }],
    }
}

/// Deletes the item with this key.
pub const fn delete(key: Key) -> Write {
    Write::Delete {
        key,
        condition: Condition::Always,
    }
}

/// Requires `condition` of the item with this key.
pub const fn check(key: Key, condition: Condition) -> Write {
    Write::Check { key, condition }
}

impl Write {
    /// The operation that carries it out alone; a check is only part of a transaction.
    pub const fn operation(&self) -> Operation {
        match self {
            Self::Put { .. } => Operation::PutItem,
            Self::Update { .. } => Operation::UpdateItem,
            Self::Delete { .. } => Operation::DeleteItem,
            Self::Check { .. } => Operation::TransactWriteItems,
        }
    }

    /// Also requires `more`.
    ///
    /// For an update, this applies to the last attempt.
    #[must_use]
    pub fn when(mut self, more: Condition) -> Self {
        let condition = match &mut self {
            Self::Put { condition, .. }
            | Self::Delete { condition, .. }
            | Self::Check { condition, .. } => condition,
            Self::Update { attempts, .. } => match attempts.last_mut() {
                Some(attempt) => &mut attempt.condition,
                None => return self,
            },
        };
        let before = std::mem::replace(condition, Condition::Always);
        *condition = before.and(more);
        self
    }

    /// Also does what `more` does.
    ///
    /// This extends the last attempt of an update, and has no effect on other writes.
    #[must_use]
    pub fn also(mut self, more: Update) -> Self {
        if let Self::Update { attempts, .. } = &mut self
            && let Some(attempt) = attempts.last_mut()
        {
            attempt.update.0.extend(more.0);
        }
        self
    }

    /// Otherwise, does `update` if `condition` holds. On DynamoDB that is a second call; the
    /// embedded table decides in one.
    #[must_use]
    pub fn or_when(mut self, condition: Condition, update: Update) -> Self {
        if let Self::Update { attempts, .. } = &mut self {
            attempts.push(Attempt { condition, update });
        }
        self
    }

    /// The key of its item; `None` for a put without one.
    pub fn key(&self) -> Option<Key> {
        match self {
            Self::Put { item, .. } => Key::of(item),
            Self::Update { key, .. } | Self::Delete { key, .. } | Self::Check { key, .. } => {
                Some(key.clone())
            }
        }
    }
}
