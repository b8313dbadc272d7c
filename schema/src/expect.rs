//! What a monitor expects of the numbers that its runs report: a run that succeeded but wrote half
//! of the usual rows is a failure.

use crate::error::Invalid;
use crate::monitor::Monitor;
use crate::mutant::{self, Mutant};
use crate::ping::{DURATION, INTERVAL, check_metric, seconds};
use crate::signal::engine::{Program, State};
use crate::signal::number::quantity;
use crate::signal::strategy::builtin;
use crate::signal::{Bar, CompiledStrategy, Timeframe, Verdict};
use crate::state::MAX_FEEDS;
use crate::time::UnixMs;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::time::Duration;

/// The most numbers that a monitor has expectations of: each that has a detector is a series.
pub const MAX_EXPECTATIONS: usize = MAX_FEEDS;
/// The most characters of a text that says what was not as expected.
const MAX_TEXT: usize = 300;

/// What is expected of a number.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Expectation {
    /// The detector that learns what is usual: a built-in strategy, such as `auto`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detector: Option<String>,
    /// Its parameters, if they differ from the defaults.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub params: BTreeMap<String, f64>,
    /// The least value.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min: Option<f64>,
    /// The greatest value.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max: Option<f64>,
    /// Whether a violation only marks the run, and does not make it a failure.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub warn: bool,
}

/// Its numbers are finite.
impl Eq for Expectation {}

/// What was not as expected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unexpected {
    /// A clause, such as `rows is 60,000, below the minimum of 100,000`.
    pub text: String,
    /// Whether it only marks the run.
    pub warn: bool,
}

/// What detectors know about the earlier values of a monitor's numbers, by the names of these.
#[derive(Debug, Default)]
pub struct Known(pub BTreeMap<String, (Program, State)>);

impl Expectation {
    /// Reads the expectation of the number `name`: an object, or a text as in `auto warn` or
    /// `min 1000 max 5000`.
    ///
    /// # Errors
    /// What is wrong, at a path below `expect`.
    pub fn parse(name: &str, value: &Value) -> Result<Self, Invalid> {
        let path = format!("expect.{name}");
        if name == INTERVAL {
            return Err(Invalid::new(
                path,
                "can't be expected: the monitor's schedule says when it pings",
            ));
        }
        if name != DURATION {
            check_metric(name, 1.0).map_err(|problem| Invalid::new(&*path, problem))?;
        }
        let object = match value {
            Value::Object(object) => object.clone(),
            Value::String(text) => object_of(&path, text)?,
            _ => return Err(Invalid::new(path, SHAPE)),
        };
        let known = ["detector", "params", "min", "max", "effect"];
        if let Some(unknown) = object.keys().find(|key| !known.contains(&key.as_str())) {
            return Err(Invalid::new(
                format!("{path}.{unknown}"),
                "is not known; an expectation has detector, params, min, max and effect",
            ));
        }
        let expectation = Self {
            detector: text_of(&path, "detector", &object)?,
            params: params_of(&path, &object)?,
            min: limit_of(&path, "min", name, &object)?,
            max: limit_of(&path, "max", name, &object)?,
            warn: match object.get("effect") {
                None => false,
                Some(Value::String(effect)) if effect == "down" => false,
                Some(Value::String(effect)) if effect == "warn" => true,
                Some(_) => {
                    return Err(Invalid::new(
                        format!("{path}.effect"),
                        "must be down or warn",
                    ));
                }
            },
        };
        expectation.check(&path)?;
        Ok(expectation)
    }

    fn check(&self, path: &str) -> Result<(), Invalid> {
        if (&self.detector, self.min, self.max) == (&None, None, None) {
            return Err(Invalid::new(path, SHAPE));
        }
        if self.detector.is_none() && !self.params.is_empty() {
            return Err(Invalid::new(
                format!("{path}.params"),
                "needs a detector, such as auto",
            ));
        }
        if let (Some(min), Some(max)) = (self.min, self.max)
            && min > max
        {
            return Err(Invalid::new(
                format!("{path}.min"),
                format!("must not be above max (got {min} and {max})"),
            ));
        }
        let limits = ["min", "max"].map(|name| self.params.contains_key(name));
        if self.detector.as_deref() == Some("threshold") && limits == [false; 2] {
            return Err(Invalid::new(
                format!("{path}.params"),
                "must have min, max or both for the threshold detector; if you need no hysteresis, leave out detector and set \
                 min and max directly",
            ));
        }
        if self.detector.as_deref() == Some("absence") && !self.params.contains_key("n") {
            return Err(Invalid::new(
                format!("{path}.params"),
                "must have n, the number of equal values in a row that causes an alert; missing pings are covered by the \
                 monitor's schedule",
            ));
        }
        if self.detector.is_some() {
            self.compile()
                .map_err(|error| Invalid::new(format!("{path}.{}", error.field), error.problem))?;
        }
        Ok(())
    }

    /// The compiled detector, if there is one.
    ///
    /// # Errors
    /// There is no such detector, or a parameter is wrong.
    pub fn compile(&self) -> Result<Option<CompiledStrategy>, Invalid> {
        let Some(name) = &self.detector else {
            return Ok(None);
        };
        let compiled = match builtin(name) {
            Some(strategy) => Some(strategy.compile(None, &self.params, Timeframe::TICK)?),
            None => None,
        };
        let detector = compiled.filter(|compiled| compiled.detector.is_some());
        detector.map(Some).ok_or_else(|| {
            Invalid::new(
                "detector",
                format!("must be a detector, such as auto, seasonal or threshold (got {name:?})"),
            )
        })
    }

    /// The expectation as JSON, in the form that [`Self::parse`] reads.
    pub fn to_json(&self) -> Value {
        let mut json = Map::new();
        if let Some(detector) = &self.detector {
            json.insert("detector".to_owned(), json!(detector));
        }
        if !self.params.is_empty() {
            json.insert("params".to_owned(), json!(self.params));
        }
        for (key, limit) in [("min", self.min), ("max", self.max)] {
            if let Some(limit) = limit {
                json.insert(key.to_owned(), json!(limit));
            }
        }
        let effect = if self.warn { "warn" } else { "down" };
        json.insert("effect".to_owned(), json!(effect));
        Value::Object(json)
    }

    /// The expectation of the number `name` as a text that [`Self::parse`] reads.
    pub fn to_text(&self, name: &str) -> String {
        let mut words: Vec<String> = self.detector.iter().cloned().collect();
        let params = self.params.iter();
        words.extend(params.map(|(param, value)| format!("{param}={value}")));
        for (key, limit) in [("min", self.min), ("max", self.max)] {
            words.extend(limit.map(|limit| match name {
                DURATION if is_exact(limit) => format!("{key} {}", span(limit).replace(' ', "")),
                _ => format!("{key} {limit}"),
            }));
        }
        if self.warn {
            words.push("warn".to_owned());
        }
        words.join(" ")
    }

    /// Says what is wrong with the value `x` of the number `name`, if anything is.
    fn judge(&self, name: &str, x: f64, at: UnixMs, known: &Known) -> Option<String> {
        let shown = |x: f64| match name {
            DURATION => span(x),
            _ => quantity(x),
        };
        if let Some(min) = self.min.filter(|min| x < *min) {
            let (x, min) = (shown(x), shown(min));
            return Some(format!("{name} is {x}, below the minimum of {min}"));
        }
        if let Some(max) = self.max.filter(|max| x > *max) {
            let (x, max) = (shown(x), shown(max));
            return Some(format!("{name} is {x}, above the maximum of {max}"));
        }
        let (program, state) = known.0.get(name)?;
        if state.last.is_some_and(|last| last >= at) {
            return None;
        }
        let (mut state, bar) = (state.clone(), Bar::value(at, x));
        let verdict = program.step(&mut state, &bar, None);
        let side = match verdict {
            Verdict::Low => "below",
            Verdict::High => "above",
            Verdict::Stale => return Some(format!("{name} is {} and has not changed", shown(x))),
            _ => return None,
        };
        let explanation = program.explain(&state, &bar);
        let expected = explanation.expected;
        let far = match expected {
            Some(expected) if expected.is_far(x) => "far ",
            _ => "",
        };
        let usual = expected.and_then(|expected| expected.range());
        Some(match usual {
            Some(range) => format!("{name} is {}, {far}{side} its usual {range}", shown(x)),
            None => format!("{name} is {}, {side} what is usual", shown(x)),
        })
    }
}

impl Monitor {
    /// What is not as expected in a successful run that reported these metrics at `at`, and took
    /// `duration_ms`. A number that is not reported only marks the run.
    pub fn unexpected(
        &self,
        metrics: &BTreeMap<String, f64>,
        duration_ms: Option<i64>,
        at: UnixMs,
        known: &Known,
    ) -> Vec<Unexpected> {
        if mutant::is(Mutant::ExpectationsIgnored) {
            return Vec::new();
        }
        let judged = self
            .options
            .expect
            .iter()
            .filter_map(|(name, expectation)| {
                let x = match name.as_str() {
                    DURATION => duration_ms.map(seconds)?,
                    name => match metrics.get(name) {
                        Some(x) => *x,
                        None => {
                            return Some(Unexpected {
                                text: format!("{name} was not reported"),
                                warn: true,
                            });
                        }
                    },
                };
                let text = expectation.judge(name, x, at, known)?;
                Some(Unexpected {
                    text: text.chars().take(MAX_TEXT).collect(),
                    warn: expectation.warn,
                })
            });
        judged.collect()
    }
}

/// Reads expectations by their names.
///
/// # Errors
/// All that are wrong.
pub fn parse_all(
    given: &Map<String, Value>,
) -> Result<BTreeMap<String, Expectation>, Vec<Invalid>> {
    if given.len() > MAX_EXPECTATIONS {
        return Err(vec![Invalid::new(
            "expect",
            format!(
                "must have at most {MAX_EXPECTATIONS} numbers (got {})",
                given.len()
            ),
        )]);
    }
    let (mut expect, mut invalid) = (BTreeMap::new(), Vec::new());
    for (name, value) in given {
        match Expectation::parse(name, value) {
            Ok(expectation) => {
                expect.insert(name.clone(), expectation);
            }
            Err(error) => invalid.push(error),
        }
    }
    if invalid.is_empty() {
        Ok(expect)
    } else {
        Err(invalid)
    }
}

const SHAPE: &str =
    "must have a detector, min or max, as in {\"detector\": \"auto\"} or \"min 1000\"";

/// The object that a text such as `auto k=4 max 30m warn` stands for.
fn object_of(path: &str, text: &str) -> Result<Map<String, Value>, Invalid> {
    let (mut object, mut params) = (Map::new(), Map::new());
    let mut words = text.split_whitespace();
    while let Some(word) = words.next() {
        let (key, value) = match (word, word.split_once('=')) {
            ("min" | "max", _) => {
                let limit = words.next().ok_or_else(|| {
                    Invalid::new(path, format!("must have a number after {word}"))
                })?;
                let number = limit.parse().ok().filter(|number: &f64| number.is_finite());
                (
                    word,
                    number.map_or_else(|| json!(limit), |number| json!(number)),
                )
            }
            ("warn" | "down", _) => ("effect", json!(word)),
            (_, Some((param, value))) => {
                let number = value.parse().ok().filter(|number: &f64| number.is_finite());
                let number = number.ok_or_else(|| {
                    Invalid::new(
                        path,
                        format!("must have a number after {param}= (got {value:?})"),
                    )
                })?;
                params.insert(param.to_owned(), json!(number));
                continue;
            }
            _ => ("detector", json!(word)),
        };
        if object.insert(key.to_owned(), value).is_some() {
            return Err(Invalid::new(
                path,
                format!("has two values of {key} (the second is {word:?})"),
            ));
        }
    }
    if !params.is_empty() {
        object.insert("params".to_owned(), Value::Object(params));
    }
    Ok(object)
}

fn text_of(path: &str, key: &str, object: &Map<String, Value>) -> Result<Option<String>, Invalid> {
    match object.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(_) => Err(Invalid::new(format!("{path}.{key}"), "must be a text")),
    }
}

fn params_of(path: &str, object: &Map<String, Value>) -> Result<BTreeMap<String, f64>, Invalid> {
    let path = format!("{path}.params");
    let params = match object.get("params") {
        None | Some(Value::Null) => return Ok(BTreeMap::new()),
        Some(Value::Object(params)) => params,
        Some(_) => return Err(Invalid::new(path, "must be an object of numbers")),
    };
    let numbers = params.iter().map(|(name, value)| {
        let number = value.as_f64().filter(|number| number.is_finite());
        let number =
            number.ok_or_else(|| Invalid::new(format!("{path}.{name}"), "must be a number"))?;
        Ok((name.clone(), number))
    });
    numbers.collect()
}

/// A limit: a number, or, for a duration, also a text such as `30m`, in seconds.
fn limit_of(
    path: &str,
    key: &str,
    name: &str,
    object: &Map<String, Value>,
) -> Result<Option<f64>, Invalid> {
    let given = match object.get(key) {
        None | Some(Value::Null) => return Ok(None),
        Some(given) => given,
    };
    let number = match given {
        Value::String(text) if name == DURATION => {
            let span = humantime::parse_duration(text).ok();
            span.map(|span| span.as_secs_f64())
        }
        given => given.as_f64(),
    };
    let fits = |x: &f64| *x == 0.0 || (1e-100..1e100).contains(&x.abs());
    let number = number.filter(fits).filter(|x| name != DURATION || *x > 0.0);
    number.map(Some).ok_or_else(|| {
        let shape = match name {
            DURATION => "must be above zero: seconds, or a duration such as 30m",
            _ => "must be a plain number such as 1000",
        };
        Invalid::new(format!("{path}.{key}"), format!("{shape} (got {given})"))
    })
}

/// Whether the words for these seconds mean exactly them.
fn is_exact(seconds: f64) -> bool {
    let read = humantime::parse_duration(&span(seconds));
    read.is_ok_and(|read| read.as_secs_f64().to_bits() == seconds.to_bits())
}

/// Seconds in words, such as `1h 5m`.
fn span(seconds: f64) -> String {
    let span = Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or(Duration::MAX);
    let whole = Duration::from_secs(span.as_secs());
    let shown = if span < Duration::from_secs(10) {
        span
    } else {
        whole
    };
    humantime::format_duration(Duration::from_millis(
        u64::try_from(shown.as_millis()).unwrap_or(u64::MAX),
    ))
    .to_string()
}
