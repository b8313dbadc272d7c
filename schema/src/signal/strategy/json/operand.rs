//! The operands of conditions, from JSON.

use super::super::model::{Field, Figure, MAX_AGO, MAX_DEPTH, MAX_OPERANDS, Math, Operand};
use super::Reader;
use super::fields::{Fields, join, number, object, only, text, whole};
use crate::error::Invalid;
use crate::signal::indicator::Kind;
use crate::signal::series::Timeframe;
use serde_json::Value;
use std::collections::BTreeMap;

impl Reader {
    pub(super) fn operand(
        &mut self,
        value: &Value,
        place: &str,
        depth: usize,
    ) -> Result<Operand, Invalid> {
        self.operands = self.operands.checked_sub(1).ok_or_else(|| {
            Invalid::new(
                place,
                format!("exceeds the limit of {MAX_OPERANDS} operands"),
            )
        })?;
        if depth > MAX_DEPTH {
            return Err(Invalid::new(
                place,
                format!("is nested more than {MAX_DEPTH} levels deep"),
            ));
        }
        match value {
            Value::Number(_) => number(value, place).map(Operand::Number),
            Value::String(text) if text.starts_with('$') || text.starts_with("-$") => {
                number(value, place).map(Operand::Number)
            }
            Value::String(text) if text == "sentiment" => {
                Ok(Operand::Sentiment { max_age_s: None })
            }
            Value::String(text) => Ok(Operand::Field {
                field: field(text, place)?,
                ago: 0,
            }),
            Value::Object(fields) if fields.contains_key("sentiment") => {
                only(fields, place, &["sentiment"])?;
                let place = join(place, "sentiment");
                let fields = object(&fields["sentiment"], &place)?;
                only(fields, &place, &["max_age_s"])?;
                let max_age_s = fields
                    .get("max_age_s")
                    .map(|value| number(value, &join(&place, "max_age_s")))
                    .transpose()?;
                Ok(Operand::Sentiment { max_age_s })
            }
            Value::Object(fields) if fields.contains_key("field") => {
                only(fields, place, &["field", "ago"])?;
                let name = text(fields, place, "field")?.unwrap_or_default();
                Ok(Operand::Field {
                    field: field(&name, &join(place, "field"))?,
                    ago: ago(fields, place)?,
                })
            }
            Value::Object(fields) if fields.contains_key("position") => {
                only(fields, place, &["position"])?;
                figure(fields, place).map(Operand::Position)
            }
            Value::Object(fields) if fields.contains_key("op") => self.math(fields, place, depth),
            Value::Object(fields) if fields.contains_key("indicator") => {
                self.indicator(fields, place, depth)
            }
            _ => Err(Invalid::new(
                place,
                "must be a number, a parameter (\"$n\"), open, high, low, close, volume, typical, sentiment, or an \
                 object: {\"indicator\": …}, {\"field\": …, \"ago\": …}, {\"sentiment\": {\"max_age_s\": …}}, \
                 {\"position\": …} or {\"op\": \"-\", \"left\": …, \"right\": …}",
            )),
        }
    }

    /// Two operands combined.
    fn math(&mut self, fields: &Fields, place: &str, depth: usize) -> Result<Operand, Invalid> {
        only(fields, place, &["op", "left", "right"])?;
        let name = text(fields, place, "op")?.unwrap_or_default();
        let op = Math::ALL.into_iter().find(|op| op.as_str() == name);
        let op =
            op.ok_or_else(|| Invalid::new(join(place, "op"), "must be +, -, *, /, min or max"))?;
        let mut side = |name: &str| {
            let place = join(place, name);
            let value = fields
                .get(name)
                .ok_or_else(|| Invalid::new(&place, "is required: an operand"))?;
            self.operand(value, &place, depth + 1).map(Box::new)
        };
        let (left, right) = (side("left")?, side("right")?);
        Ok(Operand::Math { op, left, right })
    }

    fn indicator(
        &mut self,
        fields: &Fields,
        place: &str,
        depth: usize,
    ) -> Result<Operand, Invalid> {
        let name = text(fields, place, "indicator")?.unwrap_or_default();
        let kind = Kind::ALL.into_iter().find(|kind| kind.as_str() == name);
        let kind = kind.ok_or_else(|| {
            let names: Vec<&str> = Kind::ALL.iter().map(|kind| kind.as_str()).collect();
            Invalid::new(
                join(place, "indicator"),
                format!("must be one of {}", names.join(", ")),
            )
        })?;
        let mut args = BTreeMap::new();
        let mut of = None;
        for (name, value) in fields {
            let place = join(place, name);
            match name.as_str() {
                "indicator" | "timeframe" | "output" | "ago" => {}
                "of" if kind.is_of_a_value() => {
                    of = Some(Box::new(self.operand(value, &place, depth + 1)?));
                }
                name if kind.args().iter().any(|arg| arg.name == name) => {
                    args.insert(name.to_owned(), number(value, &place)?);
                }
                _ => {
                    let names = kind.args().iter().map(|arg| arg.name);
                    let names: Vec<&str> =
                        names.chain(kind.is_of_a_value().then_some("of")).collect();
                    return Err(Invalid::new(
                        place,
                        format!(
                            "is not a parameter of {}; its parameters are {}timeframe, output and ago",
                            kind.as_str(),
                            names
                                .iter()
                                .map(|name| format!("{name}, "))
                                .collect::<String>()
                        ),
                    ));
                }
            }
        }
        let output = match text(fields, place, "output")? {
            None => 0,
            Some(name) => {
                let place = join(place, "output");
                let found = kind.outputs().iter().position(|output| **output == name);
                found.ok_or_else(|| {
                    Invalid::new(
                        place,
                        format!("must be one of {}", kind.outputs().join(", ")),
                    )
                })?
            }
        };
        let timeframe = text(fields, place, "timeframe")?;
        let timeframe = timeframe
            .map(|text| Timeframe::parse(&join(place, "timeframe"), &text))
            .transpose()?;
        Ok(Operand::Indicator {
            kind,
            args,
            of,
            timeframe,
            output,
            ago: ago(fields, place)?,
        })
    }
}

fn ago(fields: &Fields, place: &str) -> Result<u32, Invalid> {
    match fields.get("ago") {
        None => Ok(0),
        Some(value) => whole(value, &join(place, "ago"), 0, MAX_AGO),
    }
}

fn field(name: &str, place: &str) -> Result<Field, Invalid> {
    // A plain value has only a close.
    let name = if name == "value" { "close" } else { name };
    let found = Field::ALL.into_iter().find(|field| field.as_str() == name);
    found.ok_or_else(|| {
        Invalid::new(place, "must be open, high, low, close (or value), volume or typical (or sentiment, but only as a whole side)")
    })
}

/// A figure of the position that is held.
fn figure(fields: &Fields, place: &str) -> Result<Figure, Invalid> {
    let name = text(fields, place, "position")?.unwrap_or_default();
    let found = Figure::ALL
        .into_iter()
        .find(|figure| figure.as_str() == name);
    found.ok_or_else(|| {
        let names = Figure::ALL.map(Figure::as_str).join(", ");
        Invalid::new(join(place, "position"), format!("must be one of {names}"))
    })
}
