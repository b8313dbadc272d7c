//! Strategies from and to JSON.

mod fields;
mod operand;
mod shape;
mod write;

pub use shape::schema;
pub use write::to_json;

use super::model::{
    Comparison, DEFAULT_MODE, Gaps, MAX_CONDITIONS, MAX_DEPTH, MAX_LEAVES, MAX_OPERANDS,
    MAX_PARAMS, Number, Operand, Position, Rule, Rules, Stop, Strategy, check_name,
};
use crate::error::{Invalid, Invalids};
use crate::signal::bar::check_number;
use crate::signal::detector;
use crate::signal::explanation::Op;
use crate::signal::indicator::MAX_WINDOW;
use fields::{Fields, MAX_DESCRIPTION, SIDES, join, number, object, only, text, whole};
use serde_json::Value;
use std::collections::BTreeMap;

/// Reads a strategy; if anything is wrong, returns all problems.
pub fn strategy(value: &Value) -> Result<Strategy, Invalids> {
    let mut reader = Reader::default();
    let strategy = reader.strategy(value);
    if reader.problems.is_empty() {
        Ok(strategy?)
    } else {
        let mut problems = reader.problems;
        problems.extend(strategy.err());
        Err(Invalids(problems))
    }
}

/// The parameters that no condition uses: probably misspelled.
pub fn unused(strategy: &Strategy) -> Vec<Invalid> {
    if strategy.detector.is_some() {
        return Vec::new();
    }
    let mut definition = to_json(strategy);
    let params = definition
        .as_object_mut()
        .and_then(|fields| fields.remove("params"));
    let mut used = Vec::new();
    names(&definition, &mut used);
    let params = params
        .as_ref()
        .and_then(Value::as_object)
        .into_iter()
        .flatten();
    let unused = params.filter(|(name, _)| !used.contains(name));
    unused
        .map(|(name, _)| Invalid::new(format!("params.{name}"), "is not used by any condition"))
        .collect()
}

/// The names of the parameters in a definition.
fn names(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::String(text) => {
            let name = text.strip_prefix('-').unwrap_or(text).strip_prefix('$');
            found.extend(name.map(str::to_owned));
        }
        Value::Array(items) => items.iter().for_each(|item| names(item, found)),
        Value::Object(fields) => fields
            .iter()
            .filter(|(name, _)| *name != "description")
            .for_each(|(_, value)| names(value, found)),
        _ => {}
    }
}

/// Reads strategies, and collects what is wrong with them.
#[derive(Default)]
struct Reader {
    problems: Vec<Invalid>,
    /// How many more comparisons, conditions and operands the mode may have.
    comparisons: usize,
    conditions: usize,
    operands: usize,
}

impl Reader {
    /// The result, or `otherwise` after noting the problem.
    fn or<T>(&mut self, result: Result<T, Invalid>, otherwise: T) -> T {
        result.unwrap_or_else(|problem| {
            self.problems.push(problem);
            otherwise
        })
    }

    fn strategy(&mut self, value: &Value) -> Result<Strategy, Invalid> {
        let fields = object(value, "the strategy")?;
        let known = only(
            fields,
            "",
            &[
                "description",
                "params",
                "detector",
                "modes",
                "default_mode",
                "warmup",
                "gaps",
                "buy",
                "sell",
                "long",
                "short",
            ],
        );
        self.or(known, ());
        let description = self.or(text(fields, "", "description"), None);
        let description = description.unwrap_or_default();
        if description.chars().count() > MAX_DESCRIPTION {
            self.problems.push(Invalid::new(
                "description",
                format!("must be at most {MAX_DESCRIPTION} characters"),
            ));
        }
        let params = params(fields.get("params"));
        let params = self.or(params, BTreeMap::new());
        if fields.contains_key("detector") {
            return detector_of(fields, description, params);
        }
        let modes = self.modes(fields);
        let default_mode = self.or(text(fields, "", "default_mode"), None);
        let default_mode =
            default_mode.unwrap_or_else(|| modes.keys().next().cloned().unwrap_or_default());
        if !modes.is_empty() && !modes.contains_key(&default_mode) {
            let problem = Invalid::new("default_mode", "must be one of the modes");
            self.problems.push(problem);
        }
        let warmup = match fields.get("warmup") {
            None => 0,
            Some(value) => self.or(whole(value, "warmup", 0, MAX_WINDOW), 0),
        };
        let gaps = text(fields, "", "gaps").and_then(|gaps| gaps_of(gaps.as_deref()));
        Ok(Strategy {
            description,
            params,
            detector: None,
            modes,
            default_mode,
            warmup,
            gaps: self.or(gaps, Gaps::Unknown),
        })
    }

    /// The modes of a strategy. A strategy without modes has its rules at the top.
    fn modes(&mut self, fields: &Fields) -> BTreeMap<String, Rules> {
        let Some(value) = fields.get("modes") else {
            let rules = self.rules(fields, "");
            return BTreeMap::from([(DEFAULT_MODE.to_owned(), rules)]);
        };
        if SIDES.iter().any(|side| fields.contains_key(*side)) {
            self.problems.push(Invalid::new(
                "modes",
                "must not be combined with buy and sell, or long and short",
            ));
        }
        let none = Fields::new();
        let given = self.or(object(value, "modes"), &none);
        let mut modes = BTreeMap::new();
        for (name, value) in given {
            let place = format!("modes.{name}");
            self.or(check_name(&place, name), ());
            let fields = self.or(object(value, &place), &none);
            self.or(only(fields, &place, &SIDES), ());
            modes.insert(name.clone(), self.rules(fields, &place));
        }
        if modes.is_empty() || modes.len() > MAX_PARAMS {
            self.problems.push(Invalid::new(
                "modes",
                format!("must have 1 to {MAX_PARAMS} entries"),
            ));
        }
        modes
    }

    fn rules(&mut self, fields: &Fields, place: &str) -> Rules {
        (self.comparisons, self.conditions) = (MAX_LEAVES, MAX_CONDITIONS);
        self.operands = MAX_OPERANDS;
        let has = |name: &str| fields.contains_key(name);
        if has("long") || has("short") {
            if has("buy") || has("sell") {
                self.problems.push(Invalid::new(
                    join(place, if has("buy") { "buy" } else { "sell" }),
                    "must not be combined with long and short",
                ));
            }
            let mut side = |name: &str| {
                let value = fields.get(name)?;
                self.position(value, &join(place, name))
            };
            let (long, short) = (side("long"), side("short"));
            return Rules::Positions { long, short };
        }
        let mut side = |name: &str| {
            let place = join(place, name);
            if let Some(value) = fields.get(name) {
                return self.rule(value, &place, 1);
            }
            self.problems.push(Invalid::new(
                &place,
                "is required: a condition, or {\"any\": []} for never (or use long and short, for a strategy that \
                 holds positions)",
            ));
            NEVER
        };
        Rules::Signals {
            buy: side("buy"),
            sell: side("sell"),
        }
    }

    /// When to enter and leave positions of one side.
    fn position(&mut self, value: &Value, place: &str) -> Option<Position> {
        let none = Fields::new();
        let fields = self.or(object(value, place), &none);
        let stops = Stop::ALL.map(Stop::as_str);
        let known: Vec<&str> = ["enter", "exit"].into_iter().chain(stops).collect();
        self.or(only(fields, place, &known), ());
        let Some(enter) = fields.get("enter") else {
            let problem = "is required: the condition to enter a position";
            let problem = Invalid::new(join(place, "enter"), problem);
            self.problems.push(problem);
            return None;
        };
        let enter = self.rule(enter, &join(place, "enter"), 1);
        let exit = fields.get("exit");
        let exit = exit.map(|value| self.rule(value, &join(place, "exit"), 1));
        let mut stops = BTreeMap::new();
        for stop in Stop::ALL {
            if let Some(value) = fields.get(stop.as_str()) {
                let number = number(value, &join(place, stop.as_str()));
                stops.insert(stop, self.or(number, Number::Is(1.0)));
            }
        }
        Some(Position { enter, exit, stops })
    }

    fn rule(&mut self, value: &Value, place: &str, depth: usize) -> Rule {
        let rule = self.try_rule(value, place, depth);
        self.or(rule, NEVER)
    }

    fn several(&mut self, value: &Value, place: &str, depth: usize) -> Result<Vec<Rule>, Invalid> {
        let items = value
            .as_array()
            .ok_or_else(|| Invalid::new(place, "must be a list of conditions"))?;
        let rules = items.iter().enumerate();
        Ok(rules
            .map(|(i, item)| self.rule(item, &format!("{place}[{i}]"), depth + 1))
            .collect())
    }

    fn try_rule(&mut self, value: &Value, place: &str, depth: usize) -> Result<Rule, Invalid> {
        self.conditions = self.conditions.checked_sub(1).ok_or_else(|| {
            Invalid::new(
                place,
                format!("exceeds the limit of {MAX_CONDITIONS} conditions"),
            )
        })?;
        if depth > MAX_DEPTH {
            return Err(Invalid::new(
                place,
                format!("is nested more than {MAX_DEPTH} levels deep"),
            ));
        }
        let fields = object(value, place)?;
        match (fields.len(), fields.iter().next()) {
            (1, Some((name, value))) if name == "all" => {
                let place = join(place, name);
                let rules = self.several(value, &place, depth)?;
                if rules.is_empty() {
                    return Err(Invalid::new(place, "must have at least one condition"));
                }
                Ok(Rule::All(rules))
            }
            (1, Some((name, value))) if name == "any" => {
                Ok(Rule::Any(self.several(value, &join(place, name), depth)?))
            }
            (1, Some((name, value))) if name == "not" => {
                let inner = self.rule(value, &join(place, name), depth + 1);
                Ok(Rule::Not(Box::new(inner)))
            }
            (2, _) if fields.contains_key("confirm") && fields.contains_key("bars") => {
                let bars = self.or(
                    number(&fields["bars"], &join(place, "bars")),
                    Number::Is(1.0),
                );
                let inner = self.rule(&fields["confirm"], &join(place, "confirm"), depth + 1);
                Ok(Rule::Confirm(Box::new(inner), bars))
            }
            _ => {
                let comparison = self.comparison(fields, place)?;
                Ok(Rule::Compare(Box::new(comparison)))
            }
        }
    }

    fn comparison(&mut self, fields: &Fields, place: &str) -> Result<Comparison, Invalid> {
        let fits = ["left", "op", "right"]
            .iter()
            .all(|name| fields.contains_key(*name));
        if !fits || fields.len() != 3 {
            return Err(Invalid::new(
                place,
                "must be {\"all\": […]}, {\"any\": […]}, {\"not\": …}, {\"confirm\": …, \"bars\": …}, or a comparison \
                 {\"left\", \"op\", \"right\"}",
            ));
        }
        self.comparisons = self.comparisons.checked_sub(1).ok_or_else(|| {
            Invalid::new(
                place,
                format!("exceeds the limit of {MAX_LEAVES} comparisons"),
            )
        })?;
        let op = fields["op"].as_str().unwrap_or_default();
        let op = Op::ALL.into_iter().find(|known| known.as_str() == op);
        let op = op.ok_or_else(|| {
            Invalid::new(
                join(place, "op"),
                "must be >, >=, <, <=, crosses_above or crosses_below",
            )
        });
        let mut side = |name: &str| {
            let operand = self.operand(&fields[name], &join(place, name), 1);
            self.or(operand, Operand::Number(Number::Is(0.0)))
        };
        let (left, right) = (side("left"), side("right"));
        Ok(Comparison {
            left,
            op: self.or(op, Op::Gt),
            right,
        })
    }
}

/// A condition that never holds.
const NEVER: Rule = Rule::Any(Vec::new());

fn gaps_of(text: Option<&str>) -> Result<Gaps, Invalid> {
    match text {
        None | Some("unknown") => Ok(Gaps::Unknown),
        Some("count") => Ok(Gaps::Count),
        Some(_) => Err(Invalid::new(
            "gaps",
            "must be unknown (a gap in the bars makes the signal GAP until the windows are full again), or count \
             (windows count bars and ignore gaps)",
        )),
    }
}

/// A detector. It has no rules, and exactly the parameters of its kind.
fn detector_of(
    fields: &Fields,
    description: String,
    given: BTreeMap<String, f64>,
) -> Result<Strategy, Invalid> {
    only(fields, "", &["description", "params", "detector"])?;
    let name = text(fields, "", "detector")?.unwrap_or_default();
    let kind = detector::Kind::ALL
        .into_iter()
        .find(|kind| kind.as_str() == name)
        .ok_or_else(|| {
            let names = detector::Kind::ALL.map(detector::Kind::as_str);
            Invalid::new("detector", format!("must be one of {}", names.join(", ")))
        })?;
    let defaults = kind.args().iter();
    let mut params: BTreeMap<String, f64> = defaults
        .map(|arg| (arg.name.to_owned(), arg.default.unwrap_or_default()))
        .collect();
    for (name, value) in given {
        let names: Vec<&str> = kind.args().iter().map(|arg| arg.name).collect();
        let param = params.get_mut(&name).ok_or_else(|| {
            Invalid::new(
                format!("params.{name}"),
                format!(
                    "is not a parameter of {}; its parameters are {}",
                    kind.as_str(),
                    names.join(", ")
                ),
            )
        })?;
        *param = value;
    }
    let never = Rules::Signals {
        buy: NEVER,
        sell: NEVER,
    };
    Ok(Strategy {
        description,
        params,
        detector: Some(kind),
        modes: BTreeMap::from([(DEFAULT_MODE.to_owned(), never)]),
        default_mode: DEFAULT_MODE.to_owned(),
        warmup: 0,
        gaps: Gaps::Count,
    })
}

fn params(value: Option<&Value>) -> Result<BTreeMap<String, f64>, Invalid> {
    let mut params = BTreeMap::new();
    let Some(value) = value else {
        return Ok(params);
    };
    for (name, value) in object(value, "params")? {
        let place = format!("params.{name}");
        check_name(&place, name)?;
        let number = value
            .as_f64()
            .ok_or_else(|| Invalid::new(&place, "must be a number"))?;
        check_number(&place, number)?;
        params.insert(name.clone(), number);
    }
    if params.len() > MAX_PARAMS {
        return Err(Invalid::new(
            "params",
            format!("must have at most {MAX_PARAMS} entries"),
        ));
    }
    Ok(params)
}
