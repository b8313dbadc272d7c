//! What a form says: its fields as text, and as the members of an API request.

use crate::http::body::from_value;
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use std::convert::Infallible;
use thrum_schema::error::Invalid;
use thrum_schema::time::parse_span;

/// Most fields of a form that are looked at.
const MAX_FIELDS: usize = 2_000;

/// The fields of a form, in their order.
#[derive(Debug, Clone, Default)]
pub struct Fields(Vec<(String, String)>);

impl Fields {
    /// Parses a form's body, or a query.
    pub fn parse(bytes: &[u8]) -> Self {
        let pairs = url::form_urlencoded::parse(bytes).take(MAX_FIELDS);
        Self(
            pairs
                // Browsers end lines as networks do.
                .map(|(k, v)| (k.into_owned(), v.replace("\r\n", "\n")))
                .collect(),
        )
    }

    /// Sets a field, where a form shows what is.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.0.push((name.to_owned(), value.into()));
        self
    }

    /// These fields, and others where these say nothing.
    #[must_use]
    pub fn or(mut self, others: Self) -> Self {
        for (name, value) in others.0 {
            if !self.is_on(&name) {
                self.0.push((name, value));
            }
        }
        self
    }

    /// A field's text, trimmed; empty if it is not there.
    pub fn text(&self, name: &str) -> &str {
        let found = self.0.iter().find(|(found, _)| found == name);
        found.map_or("", |(_, value)| value.trim())
    }

    /// A field's text, if there is any.
    pub fn given(&self, name: &str) -> Option<&str> {
        Some(self.text(name)).filter(|text| !text.is_empty())
    }

    /// Whether a box is checked.
    pub fn is_on(&self, name: &str) -> bool {
        self.0.iter().any(|(found, _)| found == name)
    }

    /// Whether one of several boxes of a name is checked.
    pub fn has(&self, name: &str, value: &str) -> bool {
        self.all(name).any(|found| found == value)
    }

    /// The values of all fields of a name.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        let found = self.0.iter().filter(move |(found, _)| found == name);
        found.map(|(_, value)| value.as_str())
    }
}

/// What the address of a page asks for.
impl<S: Send + Sync> FromRequestParts<S> for Fields {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self::parse(
            parts.uri.query().unwrap_or_default().as_bytes(),
        ))
    }
}

/// The JSON fields of an API request that a form makes.
#[derive(Debug, Default)]
pub struct RequestFields(Map<String, Value>);

impl RequestFields {
    /// Sets a field.
    pub fn set(&mut self, name: &str, value: impl Into<Value>) {
        self.0.insert(name.to_owned(), value.into());
    }

    /// Sets a field to a field's text, if there is any.
    pub fn text(&mut self, fields: &Fields, name: &str) {
        if let Some(text) = fields.given(name) {
            self.set(name, text);
        }
    }

    /// Sets a field to a field's number, if there is one.
    pub fn number(&mut self, fields: &Fields, name: &str) -> Result<(), Invalid> {
        if let Some(text) = fields.given(name) {
            let number: f64 = text
                .parse()
                .ok()
                .filter(|x: &f64| x.is_finite())
                .ok_or_else(|| Invalid::new(name, "must be a number"))?;
            // Whole numbers stay whole: most members take no others.
            #[expect(clippy::cast_possible_truncation, reason = "it is whole and small")]
            if number.fract() == 0.0 && number.abs() < 1e15 {
                self.set(name, number as i64);
            } else {
                self.set(name, number);
            }
        }
        Ok(())
    }

    /// Sets the field `name`, in seconds, to the span that the field `field` has, if there is any.
    pub fn span(&mut self, fields: &Fields, field: &str, name: &str) -> Result<(), Invalid> {
        if let Some(text) = fields.given(field) {
            self.set(name, span_of(field, text)?);
        }
        Ok(())
    }

    /// The request, as the API would read it.
    pub fn read<T: DeserializeOwned>(self) -> Result<T, Invalid> {
        from_value(Value::Object(self.0), "")
    }
}

/// The seconds of a span that somebody typed.
pub fn span_of(field: &str, text: &str) -> Result<u64, Invalid> {
    parse_span(text)
        .ok_or_else(|| Invalid::new(field, "must be like 90 s, 5 min, 1 h 30 min or 2 d"))
}
