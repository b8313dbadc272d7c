//! Updates of an item.

use super::{IntoValue, Item, Number, Result, TableError, Value};

/// The actions of an update. All operands refer to the item before it.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Update(pub Vec<Action>);

/// A change of an attribute.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Sets it.
    Set(&'static str, Operand),
    /// Adds to a number, or adds members to a set. A missing attribute is created.
    Add(&'static str, Value),
    /// Removes members from a set. A set without members does not exist.
    TakeFrom(&'static str, Value),
    /// Removes it.
    Remove(&'static str),
}

/// What an attribute is set to.
#[derive(Debug, Clone, PartialEq)]
pub enum Operand {
    /// A value.
    Value(Value),
    /// The value, unless the attribute exists.
    IfMissing(Value),
    /// The sum of an attribute, which must exist, and a number.
    Sum(&'static str, Value),
}

/// Sets `name` to `value`.
pub fn set(name: &'static str, value: impl IntoValue) -> Update {
    Update::default().set(name, value)
}

/// Sets `name` to `value` unless it exists.
pub fn set_if_missing(name: &'static str, value: impl IntoValue) -> Update {
    Update::default().set_if_missing(name, value)
}

/// Sets `name` to the attribute `of` plus `value`.
pub fn set_sum(name: &'static str, of: &'static str, value: impl IntoValue) -> Update {
    Update::default().set_sum(name, of, value)
}

/// Adds `value` to the number or set `name`.
pub fn add(name: &'static str, value: impl IntoValue) -> Update {
    Update::default().add(name, value)
}

/// Removes the members of `value` from the set `name`.
pub fn take_from(name: &'static str, value: impl IntoValue) -> Update {
    Update::default().take_from(name, value)
}

/// Removes `name`.
pub fn remove(name: &'static str) -> Update {
    Update::default().remove(name)
}

impl Update {
    /// Also sets `name` to `value`.
    #[must_use]
    pub fn set(self, name: &'static str, value: impl IntoValue) -> Self {
        self.with(Action::Set(name, Operand::Value(value.into_value())))
    }

    /// Also sets `name` to `value` unless it exists.
    #[must_use]
    pub fn set_if_missing(self, name: &'static str, value: impl IntoValue) -> Self {
        self.with(Action::Set(name, Operand::IfMissing(value.into_value())))
    }

    /// Also sets `name` to the attribute `of` plus `value`.
    #[must_use]
    pub fn set_sum(self, name: &'static str, of: &'static str, value: impl IntoValue) -> Self {
        self.with(Action::Set(name, Operand::Sum(of, value.into_value())))
    }

    /// Also adds `value` to the number or set `name`.
    #[must_use]
    pub fn add(self, name: &'static str, value: impl IntoValue) -> Self {
        self.with(Action::Add(name, value.into_value()))
    }

    /// Also removes the members of `value` from the set `name`.
    #[must_use]
    pub fn take_from(self, name: &'static str, value: impl IntoValue) -> Self {
        self.with(Action::TakeFrom(name, value.into_value()))
    }

    /// Also removes `name`.
    #[must_use]
    pub fn remove(self, name: &'static str) -> Self {
        self.with(Action::Remove(name))
    }

    /// Also does what `other` does.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        self.0.extend(other.0);
        self
    }

    fn with(mut self, action: Action) -> Self {
        self.0.push(action);
        self
    }

    /// Applies the update to `item`.
    ///
    /// # Errors
    /// [`TableError::Invalid`] if an operand is missing or of the wrong type.
    pub fn apply(&self, item: &mut Item) -> Result<()> {
        // Operands first: they refer to the item before the update.
        let mut changes: Vec<(&'static str, Option<Value>)> = Vec::with_capacity(self.0.len());
        for action in &self.0 {
            match action {
                Action::Set(name, Operand::Value(value)) => {
                    changes.push((name, Some(value.clone())));
                }
                Action::Set(name, Operand::IfMissing(value)) => {
                    if item.get(*name).is_none() {
                        changes.push((name, Some(value.clone())));
                    }
                }
                Action::Set(name, Operand::Sum(of, value)) => {
                    let before = item.get(*of).ok_or_else(|| {
                        TableError::Invalid(format!("the attribute {of} does not exist"))
                    })?;
                    changes.push((name, Some(sum(of, before, value)?)));
                }
                Action::Add(name, value) => {
                    let after = match (item.get(*name), value) {
                        (None, value) => value.clone(),
                        (Some(Value::Ss(before)), Value::Ss(more)) => {
                            let mut after = before.clone();
                            after.extend(more.iter().filter(|m| !before.contains(m)).cloned());
                            after.sort_unstable();
                            Value::Ss(after)
                        }
                        (Some(before), value) => sum(name, before, value)?,
                    };
                    changes.push((name, Some(after)));
                }
                Action::TakeFrom(name, value) => match (item.get(*name), value) {
                    (None, _) => {}
                    (Some(Value::Ss(before)), Value::Ss(taken)) => {
                        let left = before.iter().filter(|m| !taken.contains(m));
                        let left: Vec<String> = left.cloned().collect();
                        changes.push((name, (!left.is_empty()).then_some(Value::Ss(left))));
                    }
                    _ => return Err(TableError::Invalid(format!("{name} is not a set"))),
                },
                Action::Remove(name) => changes.push((name, None)),
            }
        }
        for (name, value) in changes {
            match value {
                Some(value) => match item.get_mut(name) {
                    Some(slot) => *slot = value,
                    None => drop(item.insert(name.to_owned(), value)),
                },
                None => drop(item.remove(name)),
            }
        }
        Ok(())
    }
}

fn sum(name: &str, before: &Value, value: &Value) -> Result<Value> {
    let (Value::N(a), Value::N(b)) = (before, value) else {
        return Err(TableError::Invalid(format!("{name} is not a number")));
    };
    let sum = Number::parse(a)
        .zip(Number::parse(b))
        .and_then(|(a, b)| a.plus(b));
    sum.map(|sum| Value::N(sum.to_string())).ok_or_else(|| {
        TableError::Invalid(format!("{name} can't be computed exactly: {a} plus {b}"))
    })
}
