//! Strategies as data: named, versioned conditions over indicators.
//!
//! ```json
//! {"description": "the short mean crosses the long one", "params": {"fast": 10, "slow": 30},
//!  "buy":  {"left": {"indicator": "sma", "n": "$fast"}, "op": "crosses_above", "right": {"indicator": "sma", "n": "$slow"}},
//!  "sell": {"left": {"indicator": "sma", "n": "$fast"}, "op": "crosses_below", "right": {"indicator": "sma", "n": "$slow"}}}
//! ```
//!
//! Or one that holds positions:
//!
//! ```json
//! {"long": {"enter": {"left": "close", "op": ">", "right": {"indicator": "donchian", "n": 20, "ago": 1}},
//!           "exit": {"left": "close", "op": "<", "right": {"indicator": "sma", "n": 10}}, "stop_loss_pct": 5}}
//! ```
//!
//! Or an anomaly detector, with its parameters:
//!
//! ```json
//! {"description": "rows of the nightly backup", "detector": "seasonal", "params": {"k": 4}}
//! ```
//!
//! Parsed by hand, so that errors name the exact place.

mod builtin;
mod json;
mod model;

pub use builtin::{VERSION as BUILTIN_VERSION, builtin, builtins};
pub use json::schema;
pub use model::*;

use super::series::Timeframe;
use crate::error::{Invalid, Invalids};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;
use std::collections::BTreeMap;

impl Strategy {
    /// Parses a strategy, and checks all its modes with its own parameters.
    ///
    /// # Errors
    /// All that is wrong, and where.
    pub fn parse(value: &Value) -> Result<Self, Invalids> {
        let strategy = json::strategy(value)?;
        let mut problems: Vec<Invalid> = Vec::new();
        for mode in strategy.modes.keys() {
            // The series' timeframe is not known yet. Ticks accept any longer timeframe.
            let compiled = strategy.compile_all(Some(mode), &BTreeMap::new(), Timeframe::TICK);
            if let Err(Invalids(found)) = compiled {
                problems.extend(found);
            }
        }
        problems.extend(json::unused(&strategy));
        if problems.is_empty() {
            Ok(strategy)
        } else {
            problems.dedup();
            Err(Invalids(problems))
        }
    }

    /// The JSON that [`Self::parse`] reads.
    pub fn to_json(&self) -> Value {
        json::to_json(self)
    }
}

impl Serialize for Strategy {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&self.to_json().to_string())
    }
}

impl<'de> Deserialize<'de> for Strategy {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        use serde::de::Error;
        let text = String::deserialize(from)?;
        let value: Value = serde_json::from_str(&text).map_err(Error::custom)?;
        json::strategy(&value).map_err(Error::custom)
    }
}

/// A stored strategy.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Stored {
    /// Its name.
    pub name: String,
    /// Incremented with every change, from 1.
    pub version: u32,
    /// The strategy.
    pub strategy: Strategy,
    /// When this version was stored.
    pub updated: crate::UnixMs,
    /// Whether it was deleted. If it is created again, the version continues.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub deleted: bool,
}
