//! Strategies from and to JSON.

use super::{
    Comparison, DEFAULT_MODE, Field, Gaps, MAX_AGO, MAX_CONDITIONS, MAX_DEPTH, MAX_LEAVES,
    MAX_PARAMS, Number, Operand, Rule, Rules, Strategy, check_name,
};
use crate::error::{Invalid, Invalids};
use crate::signal::bar::check_number;
use crate::signal::detector;
use crate::signal::explanation::Op;
use crate::signal::indicator::{Kind, MAX_WINDOW};
use crate::signal::series::Timeframe;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// Maximum length of a description, in characters.
const MAX_DESCRIPTION: usize = 1_000;

type Fields = Map<String, Value>;

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

/// Reads strategies, and collects what is wrong with them.
#[derive(Default)]
struct Reader {
    problems: Vec<Invalid>,
    /// How many more comparisons and conditions the mode may have.
    comparisons: usize,
    conditions: usize,
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
        if fields.contains_key("buy") || fields.contains_key("sell") {
            self.problems.push(Invalid::new(
                "modes",
                "must not be combined with buy and sell",
            ));
        }
        let none = Fields::new();
        let given = self.or(object(value, "modes"), &none);
        let mut modes = BTreeMap::new();
        for (name, value) in given {
            let place = format!("modes.{name}");
            self.or(check_name(&place, name), ());
            let fields = self.or(object(value, &place), &none);
            self.or(only(fields, &place, &["buy", "sell"]), ());
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
        let mut side = |name: &str| {
            let place = join(place, name);
            if let Some(value) = fields.get(name) {
                return self.rule(value, &place, 1);
            }
            self.problems.push(Invalid::new(
                &place,
                "is required: a condition, or {\"any\": []} for never",
            ));
            NEVER
        };
        Rules {
            buy: side("buy"),
            sell: side("sell"),
        }
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
                "must be {\"all\": […]}, {\"any\": […]}, {\"not\": …}, or a comparison {\"left\", \"op\", \"right\"}",
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
            let operand = operand(&fields[name], &join(place, name));
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
    let never = Rules {
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

fn operand(value: &Value, place: &str) -> Result<Operand, Invalid> {
    match value {
        Value::Number(_) => number(value, place).map(Operand::Number),
        Value::String(text) if text.starts_with('$') || text.starts_with("-$") => {
            number(value, place).map(Operand::Number)
        }
        Value::String(text) if text == "sentiment" => Ok(Operand::Sentiment { max_age_s: None }),
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
        Value::Object(fields) if fields.contains_key("indicator") => indicator(fields, place),
        _ => Err(Invalid::new(
            place,
            "must be a number, a parameter (\"$n\"), open, high, low, close, volume, typical, sentiment, or an object: \
             {\"indicator\": …}, {\"field\": …, \"ago\": …} or {\"sentiment\": {\"max_age_s\": …}}",
        )),
    }
}

fn indicator(fields: &Fields, place: &str) -> Result<Operand, Invalid> {
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
                of = Some(field(value.as_str().unwrap_or_default(), &place)?);
            }
            name if kind.args().iter().any(|arg| arg.name == name) => {
                args.insert(name.to_owned(), number(value, &place)?);
            }
            _ => {
                let names = kind.args().iter().map(|arg| arg.name);
                let names: Vec<&str> = names.chain(kind.is_of_a_value().then_some("of")).collect();
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

fn number(value: &Value, place: &str) -> Result<Number, Invalid> {
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

fn whole(value: &Value, place: &str, min: u32, max: u32) -> Result<u32, Invalid> {
    let number = value.as_u64().and_then(|n| u32::try_from(n).ok());
    number.filter(|n| (min..=max).contains(n)).ok_or_else(|| {
        Invalid::new(
            place,
            format!("must be a whole number between {min} and {max}"),
        )
    })
}

fn object<'a>(value: &'a Value, place: &str) -> Result<&'a Fields, Invalid> {
    value
        .as_object()
        .ok_or_else(|| Invalid::new(place, "must be an object"))
}

fn text(fields: &Fields, place: &str, name: &str) -> Result<Option<String>, Invalid> {
    match fields.get(name) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(_) => Err(Invalid::new(join(place, name), "must be a string")),
    }
}

fn only(fields: &Fields, place: &str, known: &[&str]) -> Result<(), Invalid> {
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

fn join(place: &str, name: &str) -> String {
    if place.is_empty() {
        name.to_owned()
    } else {
        format!("{place}.{name}")
    }
}

pub fn to_json(strategy: &Strategy) -> Value {
    let sides =
        |rules: &Rules| json!({ "buy": rule_json(&rules.buy), "sell": rule_json(&rules.sell) });
    let mut fields = Fields::new();
    if !strategy.description.is_empty() {
        fields.insert("description".into(), strategy.description.clone().into());
    }
    if !strategy.params.is_empty() {
        let params = strategy.params.iter();
        let params: Fields = params
            .map(|(name, value)| (name.clone(), plain(*value)))
            .collect();
        fields.insert("params".into(), params.into());
    }
    if let Some(kind) = strategy.detector {
        fields.insert("detector".into(), kind.as_str().into());
        return fields.into();
    }
    if strategy.warmup > 0 {
        fields.insert("warmup".into(), strategy.warmup.into());
    }
    if strategy.gaps == Gaps::Count {
        fields.insert("gaps".into(), "count".into());
    }
    match strategy.modes.get(DEFAULT_MODE) {
        Some(rules) if strategy.modes.len() == 1 => {
            fields.insert("buy".into(), rule_json(&rules.buy));
            fields.insert("sell".into(), rule_json(&rules.sell));
        }
        _ => {
            let modes = strategy.modes.iter();
            let modes: Fields = modes
                .map(|(name, rules)| (name.clone(), sides(rules)))
                .collect();
            fields.insert("modes".into(), modes.into());
            fields.insert("default_mode".into(), strategy.default_mode.clone().into());
        }
    }
    fields.into()
}

fn rule_json(rule: &Rule) -> Value {
    let list = |rules: &[Rule]| rules.iter().map(rule_json).collect::<Vec<_>>();
    match rule {
        Rule::All(rules) => json!({ "all": list(rules) }),
        Rule::Any(rules) => json!({ "any": list(rules) }),
        Rule::Not(rule) => json!({ "not": rule_json(rule) }),
        Rule::Compare(compare) => json!({
            "left": operand_json(&compare.left),
            "op": compare.op.as_str(),
            "right": operand_json(&compare.right),
        }),
    }
}

fn operand_json(operand: &Operand) -> Value {
    match operand {
        Operand::Number(number) => number_json(number),
        Operand::Field { field, ago: 0 } => field.as_str().into(),
        Operand::Field { field, ago } => json!({ "field": field.as_str(), "ago": ago }),
        Operand::Sentiment { max_age_s: None } => "sentiment".into(),
        Operand::Sentiment {
            max_age_s: Some(max_age_s),
        } => json!({ "sentiment": { "max_age_s": number_json(max_age_s) } }),
        Operand::Indicator {
            kind,
            args,
            of,
            timeframe,
            output,
            ago,
        } => {
            let mut fields = Fields::new();
            fields.insert("indicator".into(), kind.as_str().into());
            for (name, value) in args {
                fields.insert(name.clone(), number_json(value));
            }
            if let Some(of) = of {
                fields.insert("of".into(), of.as_str().into());
            }
            if let Some(timeframe) = timeframe {
                fields.insert("timeframe".into(), timeframe.to_string().into());
            }
            if *output > 0 {
                fields.insert("output".into(), kind.outputs()[*output].into());
            }
            if *ago > 0 {
                fields.insert("ago".into(), (*ago).into());
            }
            fields.into()
        }
    }
}

fn number_json(number: &Number) -> Value {
    match number {
        Number::Is(number) => plain(*number),
        Number::Param { name, negated } => {
            format!("{}${name}", if *negated { "-" } else { "" }).into()
        }
    }
}

/// A number, without a decimal point if it is whole.
fn plain(number: f64) -> Value {
    if number.fract() == 0.0 && number.abs() < 1e15 {
        #[expect(clippy::cast_possible_truncation, reason = "whole and below 1e15")]
        return (number as i64).into();
    }
    number.into()
}
