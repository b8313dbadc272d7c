//! Strategies to JSON.

use super::super::model::{DEFAULT_MODE, Gaps, Number, Operand, Position, Rule, Rules, Strategy};
use super::fields::Fields;
use serde_json::{Value, json};

pub fn to_json(strategy: &Strategy) -> Value {
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
            fields.extend(sides(rules));
        }
        _ => {
            let modes = strategy.modes.iter();
            let modes: Fields = modes
                .map(|(name, rules)| (name.clone(), sides(rules).into()))
                .collect();
            fields.insert("modes".into(), modes.into());
            fields.insert("default_mode".into(), strategy.default_mode.clone().into());
        }
    }
    fields.into()
}

/// What a mode does.
fn sides(rules: &Rules) -> Fields {
    let mut fields = Fields::new();
    match rules {
        Rules::Signals { buy, sell } => {
            fields.insert("buy".into(), rule_json(buy));
            fields.insert("sell".into(), rule_json(sell));
        }
        Rules::Positions { long, short } => {
            for (name, side) in [("long", long), ("short", short)] {
                if let Some(position) = side {
                    fields.insert(name.into(), position_json(position));
                }
            }
        }
    }
    fields
}

fn position_json(position: &Position) -> Value {
    let mut fields = Fields::new();
    fields.insert("enter".into(), rule_json(&position.enter));
    if let Some(exit) = &position.exit {
        fields.insert("exit".into(), rule_json(exit));
    }
    for (stop, number) in &position.stops {
        fields.insert(stop.as_str().into(), number_json(number));
    }
    fields.into()
}

fn rule_json(rule: &Rule) -> Value {
    let list = |rules: &[Rule]| rules.iter().map(rule_json).collect::<Vec<_>>();
    match rule {
        Rule::All(rules) => json!({ "all": list(rules) }),
        Rule::Any(rules) => json!({ "any": list(rules) }),
        Rule::Not(rule) => json!({ "not": rule_json(rule) }),
        Rule::Confirm(rule, bars) => {
            json!({ "confirm": rule_json(rule), "bars": number_json(bars) })
        }
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
        Operand::Position(figure) => json!({ "position": figure.as_str() }),
        Operand::Math { op, left, right } => json!({
            "op": op.as_str(), "left": operand_json(left), "right": operand_json(right),
        }),
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
                fields.insert("of".into(), operand_json(of));
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
pub(super) fn plain(number: f64) -> Value {
    if number.fract() == 0.0 && number.abs() < 1e15 {
        #[expect(clippy::cast_possible_truncation, reason = "whole and below 1e15")]
        return (number as i64).into();
    }
    number.into()
}
