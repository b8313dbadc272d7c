//! Compiled strategies: one mode of a strategy with its numbers filled in, for bars of one
//! timeframe. This is what the engine steps.

use super::calendar::Calendar;
use super::detector::{Detector, MAX_ARGS};
use super::explanation::{Op, Side};
use super::indicator::{Arg, Kind};
use super::number::show;
use super::series::Timeframe;
use super::strategy::{
    Comparison, DEFAULT_MODE, Field, Gaps, MAX_INDICATORS, MAX_WINDOWS, Number, Operand, Rule,
    Strategy,
};
use crate::error::{Invalid, Invalids};
use crate::time::UnixMs;
use std::collections::BTreeMap;

/// How many bars that were due may be missing before a signal is too old.
const STALE_BARS: i64 = 2;

/// A compiled strategy. All indices are valid, all numbers are within their bounds.
#[derive(Debug, Clone, PartialEq)]
pub struct CompiledStrategy {
    /// The mode.
    pub mode: String,
    /// All parameters with their values.
    pub params: BTreeMap<String, f64>,
    /// The series' timeframe.
    pub timeframe: Timeframe,
    /// When the series' bars are due.
    pub calendar: Calendar,
    /// For a detector: times from which on the values are the new normal, in order.
    pub levels: Vec<UnixMs>,
    /// The longer timeframes it uses.
    pub frames: Vec<Timeframe>,
    /// Its indicators, without duplicates.
    pub indicators: Vec<Indicator>,
    /// The sides of its comparisons, without duplicates.
    pub sources: Vec<Source>,
    /// Its comparisons, without duplicates.
    pub leaves: Vec<Leaf>,
    /// The detector, if it is one; then it has no conditions.
    pub detector: Option<Detector>,
    /// When to buy.
    pub buy: Tree,
    /// When to sell.
    pub sell: Tree,
    /// The minimum number of bars.
    pub warmup: u32,
    /// How to treat gaps in the bars.
    pub gaps: Gaps,
}

/// An indicator with its parameters.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Indicator {
    /// Which indicator.
    pub kind: Kind,
    /// Its parameters, in the order of [`Kind::args`].
    pub args: [f64; 3],
    /// The bar field it is computed from.
    pub of: Field,
    /// The longer timeframe it is computed on, as an index into [`CompiledStrategy::frames`].
    pub frame: Option<usize>,
}

/// One side of a comparison.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Source {
    /// What it refers to.
    pub what: What,
    /// How many bars back.
    pub ago: u32,
}

/// What a side of a comparison refers to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum What {
    /// A number.
    Const(f64),
    /// A field of the bar.
    Field(Field),
    /// The latest sentiment.
    Sentiment {
        /// Its maximum age in milliseconds, if any.
        max_age_ms: Option<i64>,
    },
    /// An output of an indicator.
    Indicator {
        /// Its index.
        index: usize,
        /// The output.
        output: usize,
    },
}

/// A comparison.
#[derive(Debug, Clone, PartialEq)]
pub struct Leaf {
    /// The side it supports, taken from where it appears without a `not`.
    pub side: Side,
    /// The operator.
    pub op: Op,
    /// Index of the left side's source.
    pub left: usize,
    /// Index of the right side's source.
    pub right: usize,
    /// The left side, as shown to users.
    pub left_label: String,
    /// The right side, as shown to users.
    pub right_label: String,
    /// Whether it only appears within `not`, so that explanations show its opposite.
    pub negated: bool,
}

/// Conditions over comparisons.
#[derive(Debug, Clone, PartialEq)]
pub enum Tree {
    /// All hold.
    All(Vec<Self>),
    /// At least one holds.
    Any(Vec<Self>),
    /// It does not hold.
    Not(Box<Self>),
    /// The comparison with this index holds.
    Leaf(usize),
}

impl CompiledStrategy {
    /// Whether it uses sentiment.
    pub fn uses_sentiment(&self) -> bool {
        let is = |source: &Source| matches!(source.what, What::Sentiment { .. });
        self.sources.iter().any(is)
    }

    /// When a signal is too old: too many bars after the one that opened at `open` and was received
    /// at `received` should have come; `None` for never.
    pub fn stale_at(&self, open: UnixMs, received: UnixMs) -> Option<UnixMs> {
        let bars = match &self.detector {
            #[expect(clippy::cast_possible_truncation, reason = "at most a year")]
            Some(detector) if detector.arg("after_s") > 0.0 => {
                let after = self.timeframe.close_of(open).max(received);
                return Some(after + detector.arg("after_s") as i64 * 1_000);
            }
            // One missing value means nothing.
            Some(_) => STALE_BARS + 1,
            None => STALE_BARS,
        };
        self.calendar
            .overdue_at(self.timeframe, open, received, bars)
    }

    /// How many bars of its own timeframe it needs before it gives a signal; longer timeframes may
    /// need more.
    pub fn needs(&self) -> u32 {
        let crosses = u32::from(self.leaves.iter().any(|leaf| leaf.op.crosses()));
        let sources = self.sources.iter().map(|source| match source.what {
            What::Indicator { index, .. } if self.indicators[index].frame.is_none() => {
                let indicator = &self.indicators[index];
                indicator.kind.lookback(indicator.args) + source.ago
            }
            _ => 1 + source.ago,
        });
        sources
            .max()
            .unwrap_or(1)
            .saturating_add(crosses)
            .max(self.warmup)
    }
}

impl Strategy {
    /// Compiles `mode` (or the default mode), with `given` overriding the strategy's own
    /// parameters.
    ///
    /// # Errors
    /// There is no such mode or parameter, or a number is out of bounds: the first of the problems.
    pub fn compile(
        &self,
        mode: Option<&str>,
        given: &BTreeMap<String, f64>,
        timeframe: Timeframe,
    ) -> Result<CompiledStrategy, Invalid> {
        Ok(self.compile_all(mode, given, timeframe)?)
    }

    /// Like [`Self::compile`], with all problems.
    ///
    /// # Errors
    /// There is no such mode or parameter, or numbers are out of bounds.
    pub fn compile_all(
        &self,
        mode: Option<&str>,
        given: &BTreeMap<String, f64>,
        timeframe: Timeframe,
    ) -> Result<CompiledStrategy, Invalids> {
        let mode = mode.unwrap_or(&self.default_mode);
        let rules = self.modes.get(mode).ok_or_else(|| {
            let names: Vec<&str> = self.modes.keys().map(String::as_str).collect();
            Invalid::new("mode", format!("must be one of {}", names.join(", ")))
        })?;
        let mut params = self.params.clone();
        for (name, value) in given {
            let place = format!("params.{name}");
            let Some(param) = params.get_mut(name) else {
                let names: Vec<&str> = self.params.keys().map(String::as_str).collect();
                let known = if names.is_empty() {
                    "it has none".to_owned()
                } else {
                    format!("its parameters are {}", names.join(", "))
                };
                let problem = format!("is not a parameter of this strategy; {known}");
                return Err(Invalid::new(place, problem).into());
            };
            super::bar::check_number(&place, *value)?;
            *param = *value;
        }
        let mut problems = Vec::new();
        let detector = self.detector.map(|kind| {
            let mut args = [0.0; MAX_ARGS];
            for (slot, arg) in args.iter_mut().zip(kind.args()) {
                let value = params.get(arg.name).copied().or(arg.default);
                *slot = value.unwrap_or_default();
                problems.extend(check_arg(format!("params.{}", arg.name), arg, *slot).err());
            }
            let detector = Detector { kind, args };
            if problems.is_empty() {
                problems.extend(detector.check().err());
            }
            detector
        });
        let mut planner = Planner {
            compiled: CompiledStrategy {
                mode: mode.to_owned(),
                params,
                timeframe,
                calendar: Calendar::default(),
                levels: Vec::new(),
                frames: Vec::new(),
                indicators: Vec::new(),
                sources: Vec::new(),
                leaves: Vec::new(),
                detector,
                buy: Tree::Any(Vec::new()),
                sell: Tree::Any(Vec::new()),
                warmup: self.warmup,
                gaps: self.gaps,
            },
            straight: Vec::new(),
            problems,
        };
        let place = if self.modes.len() == 1 && mode == DEFAULT_MODE {
            String::new()
        } else {
            format!("modes.{mode}.")
        };
        let [buy, sell] = ["buy", "sell"].map(|side| format!("{place}{side}"));
        planner.compiled.buy = planner.tree(&rules.buy, Side::Buy, false, &buy);
        planner.compiled.sell = planner.tree(&rules.sell, Side::Sell, false, &sell);
        if planner.problems.is_empty() {
            planner.check_size()?;
            Ok(planner.compiled)
        } else {
            Err(Invalids(planner.problems))
        }
    }
}

struct Planner {
    compiled: CompiledStrategy,
    /// Whether a leaf has appeared without a `not` around it.
    straight: Vec<bool>,
    /// What is wrong.
    problems: Vec<Invalid>,
}

impl Planner {
    fn tree(&mut self, rule: &Rule, side: Side, negated: bool, place: &str) -> Tree {
        let mut list = |rules: &[Rule], name: &str| -> Vec<Tree> {
            let rules = rules.iter().enumerate();
            rules
                .map(|(i, rule)| self.tree(rule, side, negated, &format!("{place}.{name}[{i}]")))
                .collect()
        };
        match rule {
            Rule::All(rules) => Tree::All(list(rules, "all")),
            Rule::Any(rules) => Tree::Any(list(rules, "any")),
            Rule::Not(rule) => {
                let inner = self.tree(rule, side, !negated, &format!("{place}.not"));
                Tree::Not(Box::new(inner))
            }
            Rule::Compare(compare) => match self.leaf(compare, side, negated, place) {
                Ok(index) => Tree::Leaf(index),
                Err(problem) => {
                    self.problems.push(problem);
                    Tree::Any(Vec::new())
                }
            },
        }
    }

    fn leaf(
        &mut self,
        compare: &Comparison,
        side: Side,
        negated: bool,
        place: &str,
    ) -> Result<usize, Invalid> {
        let at = |side: &str, problem: Invalid| {
            if problem.field.starts_with("params.") || problem.field.starts_with('$') {
                return problem;
            }
            Invalid::new(format!("{place}.{side}.{}", problem.field), problem.problem)
        };
        let left = self.source(&compare.left);
        let (left, left_label) = left.map_err(|problem| at("left", problem))?;
        let right = self.source(&compare.right);
        let (right, right_label) = right.map_err(|problem| at("right", problem))?;
        let op = compare.op;
        self.check_possible(compare, left, right, place)?;
        let same = |leaf: &Leaf| (leaf.left, leaf.op, leaf.right) == (left, op, right);
        if let Some(index) = self.compiled.leaves.iter().position(same) {
            // An occurrence without a `not` decides which side it supports.
            if !negated && !self.straight[index] {
                self.straight[index] = true;
                self.compiled.leaves[index].side = side;
                self.compiled.leaves[index].negated = false;
            }
            return Ok(index);
        }
        self.straight.push(!negated);
        self.compiled.leaves.push(Leaf {
            side,
            op,
            left,
            right,
            left_label,
            right_label,
            negated,
        });
        Ok(self.compiled.leaves.len() - 1)
    }

    /// Refuses a comparison with a number that the other side can never reach.
    fn check_possible(
        &self,
        compare: &Comparison,
        left: usize,
        right: usize,
        place: &str,
    ) -> Result<(), Invalid> {
        let sources = &self.compiled.sources;
        let (of, number, given, wants_more) = match (sources[left].what, sources[right].what) {
            (What::Indicator { index, .. }, What::Const(number)) => {
                (index, number, &compare.right, compare.op.wants_more())
            }
            (What::Const(number), What::Indicator { index, .. }) => {
                (index, number, &compare.left, !compare.op.wants_more())
            }
            _ => return Ok(()),
        };
        let indicator = &self.compiled.indicators[of];
        let Some((least, most)) = indicator.kind.bounds(indicator.args) else {
            return Ok(());
        };
        let is_possible = if wants_more {
            number < most
        } else {
            number > least
        };
        let may_equal =
            matches!(compare.op, Op::Ge | Op::Le) && (number == most || number == least);
        if is_possible || may_equal {
            return Ok(());
        }
        let place = match given {
            Operand::Number(Number::Param { name, .. }) => format!("params.{name}"),
            _ => place.to_owned(),
        };
        let why = match indicator.kind {
            Kind::Zscore => format!(
                ": with n = {}, no value is more than (n - 1)/√n = {} standard deviations from the mean; choose \
                 a smaller k, or a larger n",
                indicator.args[0],
                show((most * 100.0).floor() / 100.0)
            ),
            kind => format!(
                ": {} is always between {} and {}",
                kind.as_str(),
                show(least),
                show(most)
            ),
        };
        Err(Invalid::new(
            place,
            format!("can never be reached{why} (got {})", show(number)),
        ))
    }

    fn source(&mut self, operand: &Operand) -> Result<(usize, String), Invalid> {
        let (what, ago, mut label) = match operand {
            Operand::Number(number) => {
                let number = self.number(number)?;
                (What::Const(number), 0, show(number))
            }
            Operand::Field { field, ago } => (What::Field(*field), *ago, field.as_str().to_owned()),
            Operand::Sentiment { max_age_s } => {
                let max_age_s = max_age_s
                    .as_ref()
                    .map(|number| self.number(number))
                    .transpose()?;
                let max_age_ms = match max_age_s {
                    None => None,
                    Some(0.0) => None,
                    #[expect(clippy::cast_possible_truncation, reason = "the range is checked")]
                    Some(s) if (1.0..=1e10).contains(&s) => Some((s * 1000.0) as i64),
                    Some(_) => {
                        return Err(Invalid::new(
                            "sentiment.max_age_s",
                            "must be at least 1 second, or 0 for any age",
                        ));
                    }
                };
                (What::Sentiment { max_age_ms }, 0, "sentiment".to_owned())
            }
            Operand::Indicator {
                kind,
                args,
                of,
                timeframe,
                output,
                ago,
            } => {
                let (index, mut label) = self.indicator(*kind, args, *of, *timeframe)?;
                if kind.outputs().len() > 1 {
                    label = format!("{label} {}", kind.outputs()[*output]);
                }
                let output = *output;
                (What::Indicator { index, output }, *ago, label)
            }
        };
        if ago > 0 {
            let bars = if ago == 1 { "bar" } else { "bars" };
            label = format!("{label} {ago} {bars} ago");
        }
        let source = Source { what, ago };
        Ok((index_of(&mut self.compiled.sources, source), label))
    }

    fn indicator(
        &mut self,
        kind: Kind,
        given: &BTreeMap<String, Number>,
        of: Option<Field>,
        timeframe: Option<Timeframe>,
    ) -> Result<(usize, String), Invalid> {
        let (args, mut shown) = self.args(kind, given)?;
        let of = of.unwrap_or(Field::Close);
        if of != Field::Close {
            shown.insert(0, of.as_str().to_owned());
        }
        let mut label = if shown.is_empty() {
            kind.as_str().to_owned()
        } else {
            format!("{}({})", kind.as_str(), shown.join(", "))
        };
        let frame = timeframe.map(|frame| self.frame(frame)).transpose()?;
        let frame = frame.flatten();
        if let Some(frame) = frame {
            label = format!("{label} of {}", self.compiled.frames[frame]);
        }
        let indicator = Indicator {
            kind,
            args,
            of,
            frame,
        };
        Ok((index_of(&mut self.compiled.indicators, indicator), label))
    }

    /// The indicator's parameters: as numbers, and as shown to users.
    fn args(
        &self,
        kind: Kind,
        given: &BTreeMap<String, Number>,
    ) -> Result<([f64; 3], Vec<String>), Invalid> {
        let mut args = [0.0; 3];
        let mut shown = Vec::new();
        for (slot, arg) in args.iter_mut().zip(kind.args()) {
            let place = match given.get(arg.name) {
                Some(Number::Param { name, .. }) => format!("params.{name}"),
                _ => arg.name.to_owned(),
            };
            let value = match (given.get(arg.name), arg.default) {
                (Some(number), _) => self.number(number)?,
                (None, Some(default)) => default,
                (None, None) => return Err(Invalid::new(place, "is required")),
            };
            check_arg(place, arg, value)?;
            *slot = value;
            shown.push(show(value));
        }
        if kind == Kind::Macd && args[0] >= args[1] {
            return Err(Invalid::new("fast", "must be less than slow"));
        }
        Ok((args, shown))
    }

    /// The index of a longer timeframe; None if it is the series' own.
    fn frame(&mut self, timeframe: Timeframe) -> Result<Option<usize>, Invalid> {
        let base = self.compiled.timeframe;
        if timeframe == base {
            return Ok(None);
        }
        if !timeframe.is_made_of(base) {
            return Err(Invalid::new(
                "timeframe",
                format!(
                    "of a condition must be a multiple of the series' timeframe {base} (got {timeframe})"
                ),
            ));
        }
        Ok(Some(index_of(&mut self.compiled.frames, timeframe)))
    }

    fn number(&self, number: &Number) -> Result<f64, Invalid> {
        match number {
            Number::Is(number) => Ok(*number),
            Number::Param { name, negated } => {
                let found = self.compiled.params.get(name).copied();
                let value = found.ok_or_else(|| {
                    Invalid::new(
                        format!("${name}"),
                        "is not a parameter of this strategy; add it to params",
                    )
                })?;
                Ok(if *negated { -value } else { value })
            }
        }
    }

    fn check_size(&self) -> Result<(), Invalid> {
        if self.compiled.indicators.len() > MAX_INDICATORS {
            return Err(Invalid::new(
                "the strategy",
                format!("must have at most {MAX_INDICATORS} different indicators"),
            ));
        }
        let windows = self
            .compiled
            .indicators
            .iter()
            .map(|i| i.kind.lookback(i.args));
        let windows: u32 =
            windows.sum::<u32>() + self.compiled.sources.iter().map(|s| s.ago).sum::<u32>();
        if windows > MAX_WINDOWS {
            return Err(Invalid::new(
                "the strategy",
                format!(
                    "must use at most {MAX_WINDOWS} bars in all its windows together (got {windows})"
                ),
            ));
        }
        Ok(())
    }
}

/// Checks the bounds of a parameter.
fn check_arg(place: String, arg: &Arg, value: f64) -> Result<(), Invalid> {
    let fits = (arg.min..=arg.max).contains(&value) && (!arg.whole || value.fract() == 0.0);
    if fits {
        return Ok(());
    }
    let whole = if arg.whole { "a whole number " } else { "" };
    let (min, max) = (show(arg.min), show(arg.max));
    Err(Invalid::new(
        place,
        format!(
            "must be {whole}between {min} and {max} (got {})",
            show(value)
        ),
    ))
}

/// The index of an item in a list without duplicates; it is added if it is new.
fn index_of<T: PartialEq>(list: &mut Vec<T>, item: T) -> usize {
    let known = list.iter().position(|known| *known == item);
    known.unwrap_or_else(|| {
        list.push(item);
        list.len() - 1
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signal::strategy::{builtin, builtins};
    use serde_json::json;

    #[test]
    fn built_in_strategies_round_trip_through_json() {
        for (name, strategy) in builtins() {
            let again = Strategy::parse(&strategy.to_json());
            assert_eq!(again.as_ref(), Ok(strategy), "{name}");
        }
    }

    #[test]
    fn a_compiled_strategy_has_no_duplicates_and_the_right_sides() {
        let strategy = builtin("trend-rsi").unwrap();
        let compiled = strategy
            .compile(Some("combined"), &BTreeMap::new(), Timeframe::HOUR)
            .unwrap();
        let labels: Vec<String> = compiled
            .leaves
            .iter()
            .map(|leaf| {
                format!(
                    "{:?} {} {} {}",
                    leaf.side,
                    leaf.left_label,
                    leaf.op.as_str(),
                    leaf.right_label
                )
            })
            .collect();
        assert_eq!(
            labels,
            [
                "Buy close > sma(20)",
                "Buy rsi_cutler(14) > 55",
                "Sell sentiment < 0.45",
                "Sell close < sma(20)",
                "Sell rsi_cutler(14) < 45",
                "Buy sentiment > 0.55",
            ]
        );
        assert_eq!((compiled.indicators.len(), compiled.needs()), (2, 50));
        assert!(compiled.uses_sentiment());
    }

    #[test]
    fn errors_name_the_place() {
        let never = json!({ "any": [] });
        let of = |buy| json!({ "params": { "n": 5 }, "buy": buy, "sell": never });
        let compare = |left| json!({ "left": left, "op": ">", "right": 1 });
        let deep = (0..10).fold(compare(json!("close")), |inner, _| json!({ "not": inner }));
        let many = json!({ "any": vec![compare(json!("close")); 33] });
        let cases = [
            (json!([]), "the strategy"),
            (json!({}), "buy"),
            (json!({ "buy": never }), "sell"),
            (json!({ "buy": never, "sell": never, "x": 1 }), "x"),
            (json!({ "buy": never, "sell": never, "modes": {} }), "modes"),
            (json!({ "buy": never, "sell": never, "gaps": "x" }), "gaps"),
            (
                json!({ "buy": never, "sell": never, "warmup": 1.5 }),
                "warmup",
            ),
            (
                json!({ "buy": never, "sell": never, "params": { "a b": 1 } }),
                "params.a b",
            ),
            (
                json!({ "buy": never, "sell": never, "params": { "a": "1" } }),
                "params.a",
            ),
            (of(json!({ "all": [] })), "buy.all"),
            (
                of(json!({ "all": [compare(json!("close")), 3] })),
                "buy.all[1]",
            ),
            (of(json!({ "left": 1, "op": "=", "right": 2 })), "buy.op"),
            (of(compare(json!("clos"))), "buy.left"),
            (
                of(compare(json!({ "indicator": "x" }))),
                "buy.left.indicator",
            ),
            (
                of(compare(json!({ "indicator": "sma", "m": 1 }))),
                "buy.left.m",
            ),
            (of(compare(json!({ "indicator": "sma" }))), "buy.left.n"),
            (
                of(compare(json!({ "indicator": "sma", "n": 0 }))),
                "buy.left.n",
            ),
            (
                of(compare(json!({ "indicator": "sma", "n": 1.5 }))),
                "buy.left.n",
            ),
            (
                of(compare(json!({ "indicator": "sma", "n": 1e6 }))),
                "buy.left.n",
            ),
            (of(compare(json!({ "indicator": "sma", "n": "$m" }))), "$m"),
            (
                of(compare(
                    json!({ "indicator": "sma", "n": "$n", "timeframe": "7m" }),
                )),
                "buy.left.timeframe",
            ),
            (
                of(compare(json!({ "indicator": "macd", "output": "x" }))),
                "buy.left.output",
            ),
            (
                of(compare(json!({ "indicator": "macd", "fast": 26 }))),
                "buy.left.fast",
            ),
            (
                of(compare(json!({ "field": "close", "ago": 101 }))),
                "buy.left.ago",
            ),
            (
                of(compare(json!({ "sentiment": { "age": 1 } }))),
                "buy.left.sentiment.age",
            ),
            (of(deep), "buy.not.not.not.not.not.not.not.not"),
            (of(many), "buy.any[32]"),
        ];
        for (strategy, field) in cases {
            let error = Invalid::from(Strategy::parse(&strategy).unwrap_err());
            assert_eq!(error.field, field, "{error}");
        }
        // All problems at once.
        let strategy = json!({
            "params": { "n": 1.5, "a b": 1 }, "warmup": -1,
            "buy": { "all": [compare(json!("clos")), { "left": 1, "op": "=", "right": "volum" }] },
        });
        let Invalids(problems) = Strategy::parse(&strategy).unwrap_err();
        let fields: Vec<&str> = problems.iter().map(|p| p.field.as_str()).collect();
        assert_eq!(
            fields,
            [
                "params.a b",
                "buy.all[0].left",
                "buy.all[1].right",
                "buy.all[1].op",
                "sell",
                "warmup"
            ]
        );
        let strategy = of(json!({ "any": [
            compare(json!({ "indicator": "sma", "n": 0 })),
            compare(json!({ "indicator": "rsi", "n": "$x" })),
            { "left": { "indicator": "zscore", "n": 10 }, "op": ">", "right": 3 },
        ] }));
        let Invalids(problems) = Strategy::parse(&strategy).unwrap_err();
        let fields: Vec<&str> = problems.iter().map(|p| p.field.as_str()).collect();
        assert_eq!(fields, ["buy.any[0].left.n", "$x", "buy.any[2]"]);
        let strategy = builtin("sma-cross").unwrap();
        let compiled = |mode, params: &[(&str, f64)]| {
            let params = params
                .iter()
                .map(|(name, value)| ((*name).to_owned(), *value))
                .collect();
            strategy
                .compile(mode, &params, Timeframe::HOUR)
                .map_err(|error| error.field)
        };
        assert_eq!(compiled(Some("x"), &[]), Err("mode".into()));
        assert_eq!(compiled(None, &[("n", 1.0)]), Err("params.n".into()));
        assert_eq!(
            compiled(None, &[("fast", 2000.0)]),
            Err("params.fast".into())
        );
        assert_eq!(
            compiled(None, &[("fast", f64::NAN)]),
            Err("params.fast".into())
        );
    }
}
