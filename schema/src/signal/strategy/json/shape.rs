//! The JSON Schema of strategies, from the same tables that they are read with.

use super::super::model::{Field, Figure, MAX_AGO, MAX_PARAMS, Math, Stop};
use super::fields::{MAX_DESCRIPTION, SIDES};
use crate::signal::detector;
use crate::signal::explanation::Op;
use crate::signal::indicator::{Arg, Kind, MAX_WINDOW};
use serde_json::{Map, Value, json};

/// The JSON Schema (draft 2020-12) of a strategy.
///
/// It describes the form. What it can't say (that a parameter exists, and what a comparison can
/// reach) is checked when a strategy is stored.
pub fn schema() -> Value {
    let name = json!({ "type": "string", "pattern": "^[A-Za-z0-9_-]{1,40}$" });
    let numbers = |of: Value| json!({ "type": "object", "propertyNames": name, "maxProperties": MAX_PARAMS, "additionalProperties": of });
    let stops: Map<String, Value> = Stop::ALL
        .iter()
        .map(|stop| (stop.as_str().to_owned(), reference("number")))
        .collect();
    let mut position = Map::from_iter([
        ("enter".to_owned(), reference("condition")),
        ("exit".to_owned(), reference("condition")),
    ]);
    position.extend(stops);
    let rules = json!({
        "buy": reference("condition"), "sell": reference("condition"),
        "long": reference("position"), "short": reference("position"),
    });
    let sides = |fields: &Value| {
        json!({
            "type": "object", "properties": fields, "additionalProperties": false,
            "oneOf": [
                { "required": ["buy", "sell"], "not": any_of(&SIDES[2..]) },
                any_without(&SIDES[2..], &SIDES[..2]),
            ],
        })
    };
    let mut common = Map::from_iter([
        (
            "description".to_owned(),
            json!({ "type": "string", "maxLength": MAX_DESCRIPTION }),
        ),
        ("params".to_owned(), numbers(json!({ "type": "number" }))),
    ]);
    let of_detector = {
        let mut fields = common.clone();
        let kinds = detector::Kind::ALL.map(detector::Kind::as_str);
        fields.insert("detector".into(), json!({ "enum": kinds }));
        json!({
            "title": "An anomaly detector", "type": "object", "properties": fields,
            "required": ["detector"], "additionalProperties": false,
        })
    };
    common.insert(
        "warmup".into(),
        json!({ "type": "integer", "minimum": 0, "maximum": MAX_WINDOW }),
    );
    common.insert("gaps".into(), json!({ "enum": ["unknown", "count"] }));
    let with = |more: &Value| {
        let mut fields = common.clone();
        fields.extend(more.as_object().cloned().unwrap_or_default());
        Value::Object(fields)
    };
    let mut one_mode = sides(&with(&rules));
    one_mode["title"] = "A strategy with one mode".into();
    let mut modes = numbers(reference("mode"));
    modes["minProperties"] = 1.into();
    let several = json!({
        "title": "A strategy with several modes", "type": "object",
        "properties": with(&json!({ "modes": modes, "default_mode": name })),
        "required": ["modes"], "additionalProperties": false,
    });
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A strategy of Thrum",
        "oneOf": [one_mode, several, of_detector],
        "$defs": {
            "number": {
                "title": "A number, or a parameter such as \"$n\"",
                "oneOf": [{ "type": "number" }, { "type": "string", "pattern": "^-?\\$[A-Za-z0-9_-]{1,40}$" }],
            },
            "mode": sides(&rules),
            "position": {
                "type": "object", "properties": position, "required": ["enter"], "additionalProperties": false,
            },
            "condition": condition(),
            "operand": operand(),
        },
    })
}

fn reference(name: &str) -> Value {
    json!({ "$ref": format!("#/$defs/{name}") })
}

fn any_of(names: &[&str]) -> Value {
    let each: Vec<Value> = names
        .iter()
        .map(|name| json!({ "required": [name] }))
        .collect();
    json!({ "anyOf": each })
}

/// At least one of `names`, and none of `others`.
fn any_without(names: &[&str], others: &[&str]) -> Value {
    let mut schema = any_of(names);
    schema["not"] = any_of(others);
    schema
}

/// An object with exactly these fields.
fn exactly(fields: &Value) -> Value {
    let names: Vec<&String> = fields
        .as_object()
        .into_iter()
        .flatten()
        .map(|(name, _)| name)
        .collect();
    json!({ "type": "object", "properties": fields, "required": names, "additionalProperties": false })
}

fn condition() -> Value {
    let each = json!({ "type": "array", "items": reference("condition") });
    let mut all = each.clone();
    all["minItems"] = 1.into();
    json!({
        "oneOf": [
            exactly(&json!({ "all": all })),
            exactly(&json!({ "any": each })),
            exactly(&json!({ "not": reference("condition") })),
            exactly(&json!({ "confirm": reference("condition"), "bars": reference("number") })),
            exactly(&json!({
                "left": reference("operand"),
                "op": { "enum": Op::ALL.map(Op::as_str) },
                "right": reference("operand"),
            })),
        ],
    })
}

fn operand() -> Value {
    let fields = Field::ALL.map(Field::as_str);
    let ago = json!({ "type": "integer", "minimum": 0, "maximum": MAX_AGO });
    let names: Vec<&str> = fields.into_iter().chain(["value"]).collect();
    let whole: Vec<&str> = names.iter().copied().chain(["sentiment"]).collect();
    let mut options = vec![
        reference("number"),
        json!({ "enum": whole }),
        json!({
            "type": "object", "properties": { "field": { "enum": names }, "ago": ago },
            "required": ["field"], "additionalProperties": false,
        }),
        exactly(&json!({ "sentiment": {
            "type": "object", "properties": { "max_age_s": reference("number") }, "additionalProperties": false,
        } })),
        exactly(&json!({ "position": { "enum": Figure::ALL.map(Figure::as_str) } })),
        exactly(&json!({
            "op": { "enum": Math::ALL.map(Math::as_str) },
            "left": reference("operand"), "right": reference("operand"),
        })),
    ];
    options.extend(Kind::ALL.iter().map(|kind| indicator(*kind, &ago)));
    json!({ "oneOf": options })
}

fn indicator(kind: Kind, ago: &Value) -> Value {
    let mut fields = Map::new();
    fields.insert("indicator".into(), json!({ "const": kind.as_str() }));
    let mut required = vec!["indicator"];
    for arg in kind.args() {
        fields.insert(arg.name.into(), argument(arg));
        if arg.default.is_none() {
            required.push(arg.name);
        }
    }
    if kind.is_of_a_value() {
        fields.insert("of".into(), reference("operand"));
    }
    fields.insert("timeframe".into(), json!({ "type": "string" }));
    fields.insert("output".into(), json!({ "enum": kind.outputs() }));
    fields.insert("ago".into(), ago.clone());
    json!({ "type": "object", "properties": fields, "required": required, "additionalProperties": false })
}

fn argument(arg: &Arg) -> Value {
    let kind = if arg.whole { "integer" } else { "number" };
    let mut number = json!({ "type": kind, "minimum": arg.min, "maximum": arg.max });
    if let Some(default) = arg.default {
        number["default"] = super::write::plain(default);
    }
    json!({ "oneOf": [number, { "type": "string", "pattern": "^-?\\$[A-Za-z0-9_-]{1,40}$" }] })
}
