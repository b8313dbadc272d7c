//! Conditions and updates as DynamoDB expressions, with a placeholder for every name and value.

use crate::table::{Action, Condition, Operand, Range, Update, Value};
use aws_sdk_dynamodb::types::AttributeValue;
use std::collections::HashMap;

/// The names and values used in a request's expressions.
#[derive(Debug, Default)]
pub struct Expression {
    names: Vec<&'static str>,
    values: Vec<Value>,
}

impl Expression {
    /// The names, by placeholder.
    pub fn names(&self) -> Option<HashMap<String, String>> {
        let names = self.names.iter().enumerate();
        let names: HashMap<_, _> = names
            .map(|(i, name)| (format!("#{i}"), (*name).to_owned()))
            .collect();
        (!names.is_empty()).then_some(names)
    }

    /// The values, by placeholder.
    pub fn values(&mut self) -> Option<HashMap<String, AttributeValue>> {
        let values = std::mem::take(&mut self.values).into_iter().enumerate();
        let values: HashMap<_, _> = values
            .map(|(i, value)| (format!(":{i}"), value.into()))
            .collect();
        (!values.is_empty()).then_some(values)
    }

    /// A condition; `None` if it always holds.
    pub fn condition(&mut self, condition: &Condition) -> Option<String> {
        (*condition != Condition::Always).then(|| self.part(condition))
    }

    /// An update; `None` if it only creates the item.
    pub fn update(&mut self, update: &Update) -> Option<String> {
        let (mut set, mut add, mut delete, mut remove) = (vec![], vec![], vec![], vec![]);
        for action in &update.0 {
            match action {
                Action::Set(name, operand) => {
                    let name = self.name(name);
                    let operand = match operand {
                        Operand::Value(value) => self.value(value),
                        Operand::IfMissing(value) => {
                            format!("if_not_exists({name}, {})", self.value(value))
                        }
                        Operand::Sum(of, value) => {
                            format!("{} + {}", self.name(of), self.value(value))
                        }
                    };
                    set.push(format!("{name} = {operand}"));
                }
                Action::Add(name, value) => {
                    add.push(format!("{} {}", self.name(name), self.value(value)));
                }
                Action::TakeFrom(name, value) => {
                    delete.push(format!("{} {}", self.name(name), self.value(value)));
                }
                Action::Remove(name) => remove.push(self.name(name)),
            }
        }
        let clauses = [
            ("SET", set),
            ("ADD", add),
            ("DELETE", delete),
            ("REMOVE", remove),
        ]
        .into_iter()
        .filter(|(_, parts)| !parts.is_empty())
        .map(|(clause, parts)| format!("{clause} {}", parts.join(", ")))
        .collect::<Vec<_>>();
        (!clauses.is_empty()).then(|| clauses.join(" "))
    }

    /// The key condition of a range.
    pub fn range(&mut self, pk: &str, range: &Range) -> String {
        let partition = format!("pk = {}", self.text(pk));
        match range {
            Range::All => partition,
            // DynamoDB rejects an empty key value, even as a prefix.
            Range::Prefix(prefix) if prefix.is_empty() => partition,
            Range::Prefix(prefix) => {
                format!("{partition} AND begins_with(sk, {})", self.text(prefix))
            }
            Range::Between(first, last) => format!(
                "{partition} AND sk BETWEEN {} AND {}",
                self.text(first),
                self.text(last)
            ),
        }
    }

    fn part(&mut self, condition: &Condition) -> String {
        let mut joined = |parts: &[Condition], word: &str| {
            let parts: Vec<String> = parts.iter().map(|part| self.part(part)).collect();
            format!("({})", parts.join(word))
        };
        match condition {
            // Always true: an item has a key, and a missing item does not.
            Condition::Always => "(attribute_exists(pk) OR attribute_not_exists(pk))".to_owned(),
            Condition::Exists(name) => format!("attribute_exists({})", self.name(name)),
            Condition::Missing(name) => format!("attribute_not_exists({})", self.name(name)),
            Condition::Compare(name, comparison, value) => {
                let name = self.name(name);
                format!("{name} {} {}", comparison.sign(), self.value(value))
            }
            Condition::OneOf(name, values) => {
                let name = self.name(name);
                let values: Vec<String> = values.iter().map(|value| self.value(value)).collect();
                format!("{name} IN ({})", values.join(", "))
            }
            Condition::All(all) => joined(all, " AND "),
            Condition::Any(any) => joined(any, " OR "),
            Condition::Not(condition) => format!("(NOT {})", self.part(condition)),
        }
    }

    fn name(&mut self, name: &'static str) -> String {
        let known = self.names.iter().position(|known| *known == name);
        let at = known.unwrap_or_else(|| {
            self.names.push(name);
            self.names.len() - 1
        });
        format!("#{at}")
    }

    fn value(&mut self, value: &Value) -> String {
        let known = self.values.iter().position(|known| known == value);
        let at = known.unwrap_or_else(|| {
            self.values.push(value.clone());
            self.values.len() - 1
        });
        format!(":{at}")
    }

    fn text(&mut self, text: &str) -> String {
        self.value(&Value::S(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::{attr, exists, set};

    #[test]
    fn each_name_and_value_has_a_placeholder() {
        let mut expression = Expression::default();
        let update = set("state", "on")
            .set_if_missing("since", 7)
            .set_sum("tat", "tat", 5)
            .add("n", 7)
            .remove("error");
        assert_eq!(
            expression.update(&update).unwrap(),
            "SET #0 = :0, #1 = if_not_exists(#1, :1), #2 = #2 + :2 ADD #3 :1 REMOVE #4"
        );
        let condition = exists()
            .and(attr("state").one_of(["on", "off"]))
            .and(attr("n").below(7).or(attr("n").missing()).negated());
        assert_eq!(
            expression.condition(&condition).unwrap(),
            "(attribute_exists(#5) AND #0 IN (:0, :3) AND (NOT (#3 < :1 OR attribute_not_exists(#3))))"
        );
        assert_eq!(expression.names().unwrap()["#5"], "pk");
        assert_eq!(
            expression.values().unwrap()[":3"],
            AttributeValue::S("off".into())
        );
    }
}
