//! Compiled strategies: one mode of a strategy with its numbers filled in, for bars of one
//! timeframe. This is what the engine steps.

mod plan;

use super::calendar::Calendar;
use super::detector::{Detector, MAX_ARGS};
use super::explanation::{Exit, Op, Side};
use super::indicator::Kind;
use super::series::Timeframe;
use super::strategy::{DEFAULT_MODE, Field, Figure, Gaps, Math, Rules, Strategy};
use crate::error::{Invalid, Invalids};
use crate::time::UnixMs;
use plan::{Planner, check_arg};
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
    /// The conditions that must hold for some bars in a row; those within others come first.
    pub confirms: Vec<Confirm>,
    /// When to buy, or to enter a long position.
    pub buy: Tree,
    /// When to sell, or to enter a short position.
    pub sell: Tree,
    /// When to leave positions, if it holds any.
    pub exits: Option<Exits>,
    /// The minimum number of bars.
    pub warmup: u32,
    /// How to treat gaps in the bars.
    pub gaps: Gaps,
}

/// A condition that must hold for some bars in a row.
#[derive(Debug, Clone, PartialEq)]
pub struct Confirm {
    /// The condition.
    pub condition: Tree,
    /// The bars.
    pub bars: u32,
    /// Whether it is about the position that is held, so that it counts from its first bar on.
    pub of_position: bool,
}

/// When to leave long and short positions. The first that holds is the reason.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Exits {
    /// Long positions.
    pub long: Vec<(Exit, Tree)>,
    /// Short positions.
    pub short: Vec<(Exit, Tree)>,
}

/// An indicator with its parameters.
#[derive(Debug, Clone, PartialEq)]
pub struct Indicator {
    /// Which indicator.
    pub kind: Kind,
    /// Its parameters, in the order of [`Kind::args`].
    pub args: [f64; 3],
    /// What it is computed from.
    pub of: Input,
    /// The longer timeframe it is computed on, as an index into [`CompiledStrategy::frames`].
    pub frame: Option<usize>,
    /// How many bars of its timeframe it needs before all outputs have a value, including those
    /// that its input needs.
    pub warmup: u32,
}

/// What an indicator is computed from.
#[derive(Debug, Clone, PartialEq)]
pub enum Input {
    /// A field of the bar.
    Field(Field),
    /// A number.
    Const(f64),
    /// An output of an indicator that comes before it, on the same timeframe.
    Indicator {
        /// Its index.
        index: usize,
        /// The output.
        output: usize,
    },
    /// Two of these combined.
    Math {
        /// How.
        op: Math,
        /// The left one.
        left: Box<Self>,
        /// The right one.
        right: Box<Self>,
    },
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
    /// A figure of the position that is held.
    Position(Figure),
    /// Two sources that come before it, combined.
    Math {
        /// How.
        op: Math,
        /// Index of the left one.
        left: usize,
        /// Index of the right one.
        right: usize,
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
    /// Whether it is about the position that is held, so that it is only known while there is one.
    pub of_position: bool,
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
    /// The condition with this index in [`CompiledStrategy::confirms`] has held long enough.
    Confirm(usize),
}

impl CompiledStrategy {
    /// Whether it holds positions, so that its signal depends on all bars since the last entry.
    pub const fn has_memory(&self) -> bool {
        self.exits.is_some()
    }

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
                self.indicators[index].warmup + source.ago
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
                confirms: Vec::new(),
                buy: Tree::Any(Vec::new()),
                sell: Tree::Any(Vec::new()),
                exits: None,
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
        match rules {
            Rules::Signals { buy, sell } => {
                planner.compiled.buy = planner.tree(buy, Side::Buy, &format!("{place}buy"));
                planner.compiled.sell = planner.tree(sell, Side::Sell, &format!("{place}sell"));
            }
            Rules::Positions { long, short } => {
                planner.positions(long.as_ref(), short.as_ref(), &place);
            }
        }
        if planner.problems.is_empty() {
            planner.check_size()?;
            Ok(planner.compiled)
        } else {
            Err(Invalids(planner.problems))
        }
    }
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
        assert_eq!(
            fields,
            ["buy.any[0].left.n", "$x", "buy.any[2]", "params.n"]
        );
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
