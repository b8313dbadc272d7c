//! Writes of one item.

use super::{Condition, Item, Update, missing};
use crate::key::Key;

/// A write of one item.
#[derive(Debug, Clone, PartialEq)]
pub enum Write {
    /// Puts the item in place of the one with its key.
    Put {
        /// The item.
        item: Item,
        /// On which condition.
        condition: Condition,
    },
    /// Updates the item, which comes into being if it does not exist.
    Update {
        /// The item's key.
        key: Key,
        /// What to try, one after the other: the first attempt whose condition holds is carried out. In a transaction
        /// there is only one.
        attempts: Vec<Attempt>,
    },
    /// Deletes the item, if it exists.
    Delete {
        /// The item's key.
        key: Key,
        /// On which condition.
        condition: Condition,
    },
    /// Writes nothing: the condition of a transaction.
    Check {
        /// The item's key.
        key: Key,
        /// The condition.
        condition: Condition,
    },
}

/// An update, and when it is carried out.
#[derive(Debug, Clone, PartialEq)]
pub struct Attempt {
    /// On which condition.
    pub condition: Condition,
    /// What it does.
    pub update: Update,
}

/// Puts `item`.
pub const fn put(item: Item) -> Write {
    Write::Put {
        item,
        condition: Condition::Always,
    }
}

/// Puts `item`, which must not exist.
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
    /// Only if `more` holds, too.
    ///
    /// It is a condition of the last attempt of an update.
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

    /// And does what `more` does, too.
    ///
    /// It is part of the last attempt of an update, and of nothing else.
    #[must_use]
    pub fn also(mut self, more: Update) -> Self {
        if let Self::Update { attempts, .. } = &mut self
            && let Some(attempt) = attempts.last_mut()
        {
            attempt.update.0.extend(more.0);
        }
        self
    }

    /// Or else, if `condition` holds, does `update` instead. On DynamoDB that is a second call; embedded, one decides.
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
