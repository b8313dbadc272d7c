//! Conditions on an item.

use super::{IntoValue, Item, Number, Value};
use std::cmp::Ordering;

/// A condition on an item, which may not exist. A comparison never holds for a missing attribute or
/// one of another type.
#[derive(Debug, Clone, PartialEq)]
pub enum Condition {
    /// Always holds.
    Always,
    /// The item has the attribute.
    Exists(&'static str),
    /// The item does not have the attribute.
    Missing(&'static str),
    /// The attribute compares to the value as given.
    Compare(&'static str, Comparison, Value),
    /// The attribute is one of the values.
    OneOf(&'static str, Vec<Value>),
    /// All of them hold.
    All(Vec<Self>),
    /// At least one of them holds.
    Any(Vec<Self>),
    /// It does not hold.
    Not(Box<Self>),
}

/// How an attribute compares to a value. Numbers are ordered as numbers, strings and binaries by
/// their bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Comparison {
    /// They are equal.
    Eq,
    /// The attribute is less.
    Below,
    /// The attribute is less or equal.
    AtMost,
    /// The attribute is greater.
    Above,
    /// The attribute is greater or equal.
    AtLeast,
}

/// An attribute, for building conditions.
#[derive(Debug, Clone, Copy)]
pub struct Attribute(&'static str);

/// The attribute `name`.
pub const fn attr(name: &'static str) -> Attribute {
    Attribute(name)
}

/// The item exists.
pub const fn exists() -> Condition {
    Condition::Exists("pk")
}

/// The item does not exist.
pub const fn missing() -> Condition {
    Condition::Missing("pk")
}

impl Attribute {
    /// It exists.
    pub const fn exists(self) -> Condition {
        Condition::Exists(self.0)
    }

    /// It does not exist.
    pub const fn missing(self) -> Condition {
        Condition::Missing(self.0)
    }

    /// It equals `value`.
    pub fn eq(self, value: impl IntoValue) -> Condition {
        Condition::Compare(self.0, Comparison::Eq, value.into_value())
    }

    /// It is less than `value`.
    pub fn below(self, value: impl IntoValue) -> Condition {
        Condition::Compare(self.0, Comparison::Below, value.into_value())
    }

    /// It is at most `value`.
    pub fn at_most(self, value: impl IntoValue) -> Condition {
        Condition::Compare(self.0, Comparison::AtMost, value.into_value())
    }

    /// It is greater than `value`.
    pub fn above(self, value: impl IntoValue) -> Condition {
        Condition::Compare(self.0, Comparison::Above, value.into_value())
    }

    /// It is at least `value`.
    pub fn at_least(self, value: impl IntoValue) -> Condition {
        Condition::Compare(self.0, Comparison::AtLeast, value.into_value())
    }

    /// It is one of `values`.
    pub fn one_of<V: IntoValue>(self, values: impl IntoIterator<Item = V>) -> Condition {
        let values = values.into_iter().map(IntoValue::into_value).collect();
        Condition::OneOf(self.0, values)
    }
}

impl Condition {
    /// Both hold.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Always, other) => other,
            (this, Self::Always) => this,
            (Self::All(mut all), other) => {
                all.push(other);
                Self::All(all)
            }
            (this, other) => Self::All(vec![this, other]),
        }
    }

    /// At least one of the two holds.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        match self {
            Self::Any(mut any) => {
                any.push(other);
                Self::Any(any)
            }
            this => Self::Any(vec![this, other]),
        }
    }

    /// It does not hold.
    #[must_use]
    pub fn negated(self) -> Self {
        Self::Not(Box::new(self))
    }

    /// Whether it holds for `item`.
    pub fn holds(&self, item: Option<&Item>) -> bool {
        let value = |name: &str| item.and_then(|item| item.get(name));
        match self {
            Self::Always => true,
            Self::Exists(name) => value(name).is_some(),
            Self::Missing(name) => value(name).is_none(),
            Self::Compare(name, comparison, wanted) => {
                value(name).is_some_and(|value| comparison.holds(value, wanted))
            }
            Self::OneOf(name, wanted) => {
                value(name).is_some_and(|value| wanted.iter().any(|wanted| same(value, wanted)))
            }
            Self::All(all) => all.iter().all(|condition| condition.holds(item)),
            Self::Any(any) => any.iter().any(|condition| condition.holds(item)),
            Self::Not(condition) => !condition.holds(item),
        }
    }
}

impl Comparison {
    /// Its operator in DynamoDB's expressions.
    pub const fn sign(self) -> &'static str {
        match self {
            Self::Eq => "=",
            Self::Below => "<",
            Self::AtMost => "<=",
            Self::Above => ">",
            Self::AtLeast => ">=",
        }
    }

    fn holds(self, value: &Value, wanted: &Value) -> bool {
        if self == Self::Eq {
            return same(value, wanted);
        }
        let Some(order) = order(value, wanted) else {
            return false;
        };
        match self {
            Self::Eq => order.is_eq(),
            Self::Below => order.is_lt(),
            Self::AtMost => order.is_le(),
            Self::Above => order.is_gt(),
            Self::AtLeast => order.is_ge(),
        }
    }
}

/// The order of two values of the same ordered type.
fn order(a: &Value, b: &Value) -> Option<Ordering> {
    match (a, b) {
        (Value::N(a), Value::N(b)) => Some(Number::parse(a)?.cmp(&Number::parse(b)?)),
        (Value::S(a), Value::S(b)) => Some(a.as_bytes().cmp(b.as_bytes())),
        (Value::B(a), Value::B(b)) => Some(a.cmp(b)),
        _ => None,
    }
}

/// Whether two values are equal; sets regardless of their order.
fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::N(_), Value::N(_)) => order(a, b).is_some_and(Ordering::is_eq),
        (Value::Ss(a), Value::Ss(b)) => {
            a.len() == b.len() && a.iter().all(|member| b.contains(member))
        }
        (Value::L(a), Value::L(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b))
        }
        (Value::M(a), Value::M(b)) => {
            let matches = |(name, value)| b.get(name).is_some_and(|other| same(value, other));
            a.len() == b.len() && a.iter().all(matches)
        }
        _ => a == b,
    }
}
