//! The fields of a form, as text and as the JSON fields of an API request.

use crate::http::body::from_value;
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::convert::Infallible;
use thrum_schema::error::Invalid;
use thrum_schema::time::parse_span;

/// Maximum number of fields read from a form; the rest are ignored.
const MAX_FIELDS: usize = 2_000;

/// The fields of a form or query, in order.
#[derive(Debug, Clone, Default)]
pub struct Fields(Vec<(String, String)>);

impl Fields {
    /// Parses the body of a form, or a query.
    pub fn parse(bytes: &[u8]) -> Self {
        let pairs = url::form_urlencoded::parse(bytes).take(MAX_FIELDS);
        Self(
            pairs
                // Browsers submit line breaks as CRLF.
                .map(|(k, v)| (k.into_owned(), v.replace("\r\n", "\n")))
                .collect(),
        )
    }

    /// Adds a field, to prefill a form.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.0.push((name.to_owned(), value.into()));
        self
    }

    /// Adds those of `others` whose names are missing here.
    #[must_use]
    pub fn or(mut self, others: Self) -> Self {
        for (name, value) in others.0 {
            if !self.is_on(&name) {
                self.0.push((name, value));
            }
        }
        self
    }

    /// The text of a field, trimmed; empty if the field is missing.
    pub fn text(&self, name: &str) -> &str {
        let found = self.0.iter().find(|(found, _)| found == name);
        found.map_or("", |(_, value)| value.trim())
    }

    /// The text of a field, unless it is missing or blank.
    pub fn given(&self, name: &str) -> Option<&str> {
        Some(self.text(name)).filter(|text| !text.is_empty())
    }

    /// Whether a checkbox is checked, or another field is present.
    pub fn is_on(&self, name: &str) -> bool {
        self.0.iter().any(|(found, _)| found == name)
    }

    /// Whether the checkbox with this value is checked, of several with the same name.
    pub fn has(&self, name: &str, value: &str) -> bool {
        self.all(name).any(|found| found == value)
    }

    /// The values of all fields with a name.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        let found = self.0.iter().filter(move |(found, _)| found == name);
        found.map(|(_, value)| value.as_str())
    }
}

impl Fields {
    /// The numbers in a field like `fast = 5 10 20; slow = 50`, by name.
    pub fn grid(&self, field: &str) -> Result<BTreeMap<String, Vec<f64>>, Invalid> {
        let wrong = |part: &str| {
            let problem = format!(
                "must be NAME = NUMBERS pairs separated by ;, such as `fast = 5; slow = 50` (got {part:?})"
            );
            Invalid::new(field, problem)
        };
        let parts = self.text(field).split([';', '\n']).map(str::trim);
        let parts = parts.filter(|part| !part.is_empty());
        let read = parts.map(|part| {
            let (name, values) = part.split_once('=').ok_or_else(|| wrong(part))?;
            let values = values.split([' ', ',']).filter(|text| !text.is_empty());
            let values: Option<Vec<f64>> = values
                .map(|text| text.parse().ok().filter(|x: &f64| x.is_finite()))
                .collect();
            let values = values.filter(|values| !values.is_empty());
            Ok((name.trim().to_owned(), values.ok_or_else(|| wrong(part))?))
        });
        read.collect()
    }
}

/// Extracts the query of the URL. Never fails.
impl<S: Send + Sync> FromRequestParts<S> for Fields {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self::parse(
            parts.uri.query().unwrap_or_default().as_bytes(),
        ))
    }
}

/// The JSON fields of an API request, collected from a form.
#[derive(Debug, Default)]
pub struct RequestFields(Map<String, Value>);

impl RequestFields {
    /// Sets a field.
    pub fn set(&mut self, name: &str, value: impl Into<Value>) {
        self.0.insert(name.to_owned(), value.into());
    }

    /// Copies the text of the form's field `name`, unless it is blank.
    pub fn text(&mut self, fields: &Fields, name: &str) {
        if let Some(text) = fields.given(name) {
            self.set(name, text);
        }
    }

    /// Copies the form's field `name` as a number, unless it is blank.
    pub fn number(&mut self, fields: &Fields, name: &str) -> Result<(), Invalid> {
        if let Some(text) = fields.given(name) {
            let number: f64 = text
                .parse()
                .ok()
                .filter(|x: &f64| x.is_finite())
                .ok_or_else(|| Invalid::new(name, format!("must be a number (got {text:?})")))?;
            // Most fields of the API accept only integers.
            #[expect(
                clippy::cast_possible_truncation,
                reason = "the number is an integer below 1e15"
            )]
            if number.fract() == 0.0 && number.abs() < 1e15 {
                self.set(name, number as i64);
            } else {
                self.set(name, number);
            }
        }
        Ok(())
    }

    /// Sets `name` to the numbers in the form's field `name`, unless it is blank.
    pub fn numbers(&mut self, fields: &Fields, name: &str) -> Result<(), Invalid> {
        let grid = fields.grid(name)?;
        if let Some((of, _)) = grid.iter().find(|(_, values)| values.len() != 1) {
            let problem = format!("must have exactly one number for {of}");
            return Err(Invalid::new(name, problem));
        }
        let numbers: Map<String, Value> = grid
            .into_iter()
            .map(|(name, values)| (name, values[0].into()))
            .collect();
        if !numbers.is_empty() {
            self.set(name, numbers);
        }
        Ok(())
    }

    /// The fields as JSON.
    pub fn value(self) -> Value {
        self.0.into()
    }

    /// Sets `name` to the duration in the form's field `field`, in seconds, unless it is blank.
    pub fn span(&mut self, fields: &Fields, field: &str, name: &str) -> Result<(), Invalid> {
        if let Some(text) = fields.given(field) {
            self.set(name, span_of(field, text)?);
        }
        Ok(())
    }

    /// Deserializes the request as the API does.
    pub fn read<T: DeserializeOwned>(self) -> Result<T, Invalid> {
        from_value(Value::Object(self.0), "")
    }
}

/// The seconds of a duration in a form.
pub fn span_of(field: &str, text: &str) -> Result<u64, Invalid> {
    parse_span(text).ok_or_else(|| {
        let problem = "must be a duration like 90 s, 5 min, 1 h 30 min or 2 d";
        Invalid::new(field, format!("{problem} (got {text:?})"))
    })
}
