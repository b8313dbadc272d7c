//! The fields of JSON objects, with errors that name their place.

use super::super::model::{Number, check_name};
use crate::error::Invalid;
use crate::signal::bar::check_number;
use serde_json::{Map, Value};

/// Maximum length of a description, in characters.
pub const MAX_DESCRIPTION: usize = 1_000;
/// The fields that say what a mode does.
pub const SIDES: [&str; 4] = ["buy", "sell", "long", "short"];

pub type Fields = Map<String, Value>;

pub fn number(value: &Value, place: &str) -> Result<Number, Invalid> {
    if let Some(number) = value.as_f64() {
        check_number(place, number)?;
        return Ok(Number::Is(number));
    }
    let text = value.as_str().unwrap_or_default();
    let (negated, text) = match text.strip_prefix('-') {
        Some(text) => (true, text),
        None => (false, text),
    };
    match text.strip_prefix('$') {
        Some(name) => {
            check_name(place, name)?;
            let name = name.to_owned();
            Ok(Number::Param { name, negated })
        }
        None => Err(Invalid::new(
            place,
            "must be a number, or a parameter such as \"$n\"",
        )),
    }
}

pub fn whole(value: &Value, place: &str, min: u32, max: u32) -> Result<u32, Invalid> {
    let number = value.as_u64().and_then(|n| u32::try_from(n).ok());
    number.filter(|n| (min..=max).contains(n)).ok_or_else(|| {
        Invalid::new(
            place,
            format!("must be a whole number between {min} and {max}"),
        )
    })
}

pub fn object<'a>(value: &'a Value, place: &str) -> Result<&'a Fields, Invalid> {
    value
        .as_object()
        .ok_or_else(|| Invalid::new(place, "must be an object"))
}

pub fn text(fields: &Fields, place: &str, name: &str) -> Result<Option<String>, Invalid> {
    match fields.get(name) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(_) => Err(Invalid::new(join(place, name), "must be a string")),
    }
}

pub fn only(fields: &Fields, place: &str, known: &[&str]) -> Result<(), Invalid> {
    match fields.keys().find(|name| !known.contains(&name.as_str())) {
        None => Ok(()),
        Some(name) => Err(Invalid::new(
            join(place, name),
            format!(
                "is not a known field; the known fields are: {}",
                known.join(", ")
            ),
        )),
    }
}

pub fn join(place: &str, name: &str) -> String {
    if place.is_empty() {
        name.to_owned()
    } else {
        format!("{place}.{name}")
    }
}
