//! Compiles the conditions of a strategy: numbers filled in, duplicates merged, sizes checked.

use super::super::explanation::{Exit, Op, Side};
use super::super::indicator::{Arg, Kind};
use super::super::number::show;
use super::super::series::Timeframe;
use super::super::strategy::{
    Comparison, Field, MAX_AGO, MAX_INDICATORS, MAX_WINDOWS, Number, Operand, Position, Rule, Stop,
};
use super::{CompiledStrategy, Confirm, Exits, Indicator, Input, Leaf, Source, Tree, What};
use crate::error::Invalid;
use std::collections::BTreeMap;

pub(super) struct Planner {
    pub compiled: CompiledStrategy,
    /// Whether a leaf has appeared without a `not` around it.
    pub straight: Vec<bool>,
    /// What is wrong.
    pub problems: Vec<Invalid>,
}

impl Planner {
    /// The conditions to enter and leave positions.
    pub fn positions(&mut self, long: Option<&Position>, short: Option<&Position>, place: &str) {
        let mut exits = Exits::default();
        if let Some(long) = long {
            let place = format!("{place}long");
            self.compiled.buy = self.tree(&long.enter, Side::Buy, &format!("{place}.enter"));
            exits.long = self.exits(long, Side::ExitLong, &place);
        }
        if let Some(short) = short {
            let place = format!("{place}short");
            self.compiled.sell = self.tree(&short.enter, Side::Sell, &format!("{place}.enter"));
            exits.short = self.exits(short, Side::ExitShort, &place);
        }
        self.compiled.exits = Some(exits);
        let is_endless = |side: Option<&Position>, other: Option<&Position>| {
            side.is_some_and(|side| side.exit.is_none() && side.stops.is_empty()) && other.is_none()
        };
        for (side, other, name) in [(long, short, "long"), (short, long, "short")] {
            if is_endless(side, other) {
                let names = Stop::ALL.map(Stop::as_str).join(", ");
                self.problems.push(Invalid::new(
                    format!("{place}{name}"),
                    format!("must have an end: an exit, or one of {names}"),
                ));
            }
        }
    }

    /// What ends positions of one side: the stops, then the strategy's own condition.
    fn exits(&mut self, position: &Position, side: Side, place: &str) -> Vec<(Exit, Tree)> {
        let mut exits = Vec::new();
        for (stop, number) in &position.stops {
            let field = match number {
                Number::Param { name, .. } => format!("params.{name}"),
                Number::Is(_) => format!("{place}.{}", stop.as_str()),
            };
            match self.stop(*stop, number, side) {
                Ok(leaf) => exits.push((Exit::of(*stop), Tree::Leaf(leaf))),
                Err(problem) if problem.field.starts_with('$') => self.problems.push(problem),
                Err(problem) => self.problems.push(Invalid::new(field, problem.problem)),
            }
        }
        if let Some(exit) = &position.exit {
            let tree = self.tree(exit, side, &format!("{place}.exit"));
            exits.push((Exit::Signal, tree));
        }
        exits
    }

    /// A stop, as a comparison.
    fn stop(&mut self, stop: Stop, number: &Number, side: Side) -> Result<usize, Invalid> {
        let level = self.number(number)?;
        let (least, most) = match stop {
            Stop::Loss | Stop::Trailing => (0.001, 100.0),
            Stop::Profit => (0.001, 100_000.0),
            Stop::Time => (1.0, 1e6),
        };
        let is_whole = stop != Stop::Time || level.fract() == 0.0;
        if !(least..=most).contains(&level) || !is_whole {
            let what = if stop == Stop::Time {
                "a whole number"
            } else {
                "a percentage"
            };
            return Err(Invalid::new(
                "",
                format!(
                    "must be {what} between {} and {} (got {})",
                    show(least),
                    show(most),
                    show(level)
                ),
            ));
        }
        let (op, level) = match stop {
            Stop::Loss => (Op::Le, -level),
            _ => (Op::Ge, level),
        };
        let figure = self.source(&Operand::Position(stop.figure()))?;
        let right = self.source(&Operand::Number(Number::Is(level)))?;
        Ok(self.add_leaf(op, figure, right, side, false))
    }

    pub fn tree(&mut self, rule: &Rule, side: Side, place: &str) -> Tree {
        self.subtree(rule, side, false, place)
    }

    fn subtree(&mut self, rule: &Rule, side: Side, negated: bool, place: &str) -> Tree {
        let mut list = |rules: &[Rule], name: &str| -> Vec<Tree> {
            let rules = rules.iter().enumerate();
            rules
                .map(|(i, rule)| self.subtree(rule, side, negated, &format!("{place}.{name}[{i}]")))
                .collect()
        };
        match rule {
            Rule::All(rules) => Tree::All(list(rules, "all")),
            Rule::Any(rules) => Tree::Any(list(rules, "any")),
            Rule::Not(rule) => {
                let inner = self.subtree(rule, side, !negated, &format!("{place}.not"));
                Tree::Not(Box::new(inner))
            }
            Rule::Confirm(rule, bars) => {
                let inner = self.subtree(rule, side, negated, &format!("{place}.confirm"));
                let bars = self.confirm_bars(bars, place).unwrap_or_else(|problem| {
                    self.problems.push(problem);
                    1
                });
                let confirm = Confirm {
                    of_position: self.depends_on_position(&inner),
                    condition: inner,
                    bars,
                };
                Tree::Confirm(index_of(&mut self.compiled.confirms, confirm))
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

    /// Whether a condition is about the position that is held.
    fn depends_on_position(&self, tree: &Tree) -> bool {
        match tree {
            Tree::Leaf(index) => self.compiled.leaves[*index].of_position,
            Tree::All(trees) | Tree::Any(trees) => {
                trees.iter().any(|tree| self.depends_on_position(tree))
            }
            Tree::Not(tree) => self.depends_on_position(tree),
            Tree::Confirm(index) => self.compiled.confirms[*index].of_position,
        }
    }

    fn confirm_bars(&self, bars: &Number, place: &str) -> Result<u32, Invalid> {
        let value = self.number(bars)?;
        if value.fract() == 0.0 && (1.0..=f64::from(MAX_AGO)).contains(&value) {
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "whole and bounded"
            )]
            return Ok(value as u32);
        }
        let place = match bars {
            Number::Param { name, .. } => format!("params.{name}"),
            Number::Is(_) => format!("{place}.bars"),
        };
        Err(Invalid::new(
            place,
            format!(
                "must be a whole number between 1 and {MAX_AGO} (got {})",
                show(value)
            ),
        ))
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
            let place = format!("{place}.{side}.{}", problem.field);
            Invalid::new(place.trim_end_matches('.'), problem.problem)
        };
        let left = self.source(&compare.left);
        let left = left.map_err(|problem| at("left", problem))?;
        let right = self.source(&compare.right);
        let right = right.map_err(|problem| at("right", problem))?;
        self.check_possible(compare, left.0, right.0, place)?;
        let is_exit = matches!(side, Side::ExitLong | Side::ExitShort);
        if !is_exit && (self.is_of_position(left.0) || self.is_of_position(right.0)) {
            return Err(Invalid::new(
                place,
                "must not use {\"position\": …}; only the exit of long or short can",
            ));
        }
        Ok(self.add_leaf(compare.op, left, right, side, negated))
    }

    /// The index of a comparison; it is added if it is new.
    fn add_leaf(
        &mut self,
        op: Op,
        (left, left_label): (usize, String),
        (right, right_label): (usize, String),
        side: Side,
        negated: bool,
    ) -> usize {
        // Each side has its own exits, so that explanations show them.
        let is_exit = |side: Side| matches!(side, Side::ExitLong | Side::ExitShort);
        let same = |leaf: &Leaf| {
            (leaf.left, leaf.op, leaf.right) == (left, op, right)
                && (leaf.side == side || !(is_exit(leaf.side) || is_exit(side)))
        };
        if let Some(index) = self.compiled.leaves.iter().position(same) {
            // An occurrence without a `not` decides which side it supports.
            if !negated && !self.straight[index] {
                self.straight[index] = true;
                self.compiled.leaves[index].side = side;
                self.compiled.leaves[index].negated = false;
            }
            return index;
        }
        self.straight.push(!negated);
        let of_position = self.is_of_position(left) || self.is_of_position(right);
        self.compiled.leaves.push(Leaf {
            side,
            op,
            left,
            right,
            left_label: bare(left_label),
            right_label: bare(right_label),
            negated,
            of_position,
        });
        self.compiled.leaves.len() - 1
    }

    /// Whether a source is computed from a figure of the position.
    fn is_of_position(&self, source: usize) -> bool {
        match self.compiled.sources[source].what {
            What::Position(_) => true,
            What::Math { left, right, .. } => {
                self.is_of_position(left) || self.is_of_position(right)
            }
            _ => false,
        }
    }

    /// Refuses a price beyond a Donchian channel that the bar itself is part of.
    fn check_channel(&self, op: Op, left: usize, right: usize, place: &str) -> Result<(), Invalid> {
        let sources = &self.compiled.sources;
        let is_price = |source: &Source| {
            matches!(source.what, What::Field(field) if field != Field::Volume) && source.ago == 0
        };
        // The output of a channel that contains this bar.
        let channel = |source: &Source| match source.what {
            What::Indicator { index, output } if source.ago == 0 => {
                let of = &self.compiled.indicators[index];
                (of.kind == Kind::Donchian && of.frame.is_none()).then_some(output)
            }
            _ => None,
        };
        let (left, right) = (&sources[left], &sources[right]);
        let (output, is_above) = match (channel(left), channel(right)) {
            (None, Some(output)) if is_price(left) => (output, op.wants_more()),
            (Some(output), None) if is_price(right) => (output, !op.wants_more()),
            _ => return Ok(()),
        };
        let is_strict = !matches!(op, Op::Ge | Op::Le);
        // Its outputs are upper, middle and lower.
        if is_strict && matches!((output, is_above), (0, true) | (2, false)) {
            return Err(Invalid::new(
                place,
                "can never hold: the channel contains this bar; compare with the one before, with \"ago\": 1",
            ));
        }
        Ok(())
    }

    /// Refuses a comparison with a number that the other side can never reach.
    fn check_possible(
        &self,
        compare: &Comparison,
        left: usize,
        right: usize,
        place: &str,
    ) -> Result<(), Invalid> {
        self.check_channel(compare.op, left, right, place)?;
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
                let frame = timeframe.map(|frame| self.frame(frame)).transpose()?;
                let frame = frame.flatten();
                let (index, label) =
                    self.indicator(*kind, args, (of.as_deref(), frame, *timeframe), *output)?;
                let output = *output;
                (What::Indicator { index, output }, *ago, label)
            }
            Operand::Position(figure) => (What::Position(*figure), 0, figure.words().to_owned()),
            Operand::Math { op, left, right } => {
                let left = self
                    .source(left)
                    .map_err(|problem| within("left", problem))?;
                let right = self
                    .source(right)
                    .map_err(|problem| within("right", problem))?;
                let label = op.label(&left.1, &right.1);
                let (op, left, right) = (*op, left.0, right.0);
                (What::Math { op, left, right }, 0, label)
            }
        };
        if ago > 0 {
            let bars = if ago == 1 { "bar" } else { "bars" };
            label = format!("{label} {ago} {bars} ago");
        }
        let source = Source { what, ago };
        Ok((index_of(&mut self.compiled.sources, source), label))
    }

    /// The index and the label of an indicator on a timeframe.
    fn indicator(
        &mut self,
        kind: Kind,
        given: &BTreeMap<String, Number>,
        (of, frame, timeframe): (Option<&Operand>, Option<usize>, Option<Timeframe>),
        output: usize,
    ) -> Result<(usize, String), Invalid> {
        let (args, mut shown) = self.args(kind, given)?;
        let (of, label, before) = match of {
            None => (Input::Field(Field::Close), String::new(), 1),
            Some(of) => self
                .input(of, frame, timeframe)
                .map_err(|problem| within("of", problem))?,
        };
        if of != Input::Field(Field::Close) {
            shown.insert(0, bare(label));
        }
        let mut label = if shown.is_empty() {
            kind.as_str().to_owned()
        } else {
            format!("{}({})", kind.as_str(), shown.join(", "))
        };
        if let Some(frame) = frame {
            label = format!("{label} of {}", self.compiled.frames[frame]);
        }
        if kind.outputs().len() > 1 {
            label = format!("{label} {}", kind.outputs()[output]);
        }
        let indicator = Indicator {
            kind,
            args,
            of,
            frame,
            warmup: kind.lookback(args) + before - 1,
        };
        Ok((index_of(&mut self.compiled.indicators, indicator), label))
    }

    /// What an indicator is computed from, its label, and how many bars that needs.
    fn input(
        &mut self,
        operand: &Operand,
        frame: Option<usize>,
        outer: Option<Timeframe>,
    ) -> Result<(Input, String, u32), Invalid> {
        match operand {
            Operand::Number(number) => {
                let number = self.number(number)?;
                Ok((Input::Const(number), show(number), 1))
            }
            Operand::Field { field, ago: 0 } => {
                Ok((Input::Field(*field), field.as_str().to_owned(), 1))
            }
            Operand::Indicator {
                kind,
                args,
                of,
                timeframe,
                output,
                ago: 0,
            } => {
                if timeframe.is_some() && *timeframe != outer {
                    return Err(Invalid::new(
                        "timeframe",
                        "must be absent, or the same as the timeframe of the outer indicator",
                    ));
                }
                let of = (of.as_deref(), frame, outer);
                let (index, label) = self.indicator(*kind, args, of, *output)?;
                let warmup = self.compiled.indicators[index].warmup;
                let output = *output;
                Ok((Input::Indicator { index, output }, label, warmup))
            }
            Operand::Math { op, left, right } => {
                let left = self.input(left, frame, outer);
                let left = left.map_err(|problem| within("left", problem))?;
                let right = self.input(right, frame, outer);
                let right = right.map_err(|problem| within("right", problem))?;
                let label = op.label(&left.1, &right.1);
                let input = Input::Math {
                    op: *op,
                    left: Box::new(left.0),
                    right: Box::new(right.0),
                };
                Ok((input, label, left.2.max(right.2)))
            }
            Operand::Field { .. }
            | Operand::Indicator { .. }
            | Operand::Sentiment { .. }
            | Operand::Position(_) => Err(Invalid::new(
                "",
                "must be a field, a number, an indicator, or arithmetic with these, without ago",
            )),
        }
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

    pub fn check_size(&self) -> Result<(), Invalid> {
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
            .map(|indicator| indicator.kind.lookback(indicator.args));
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
pub(super) fn check_arg(place: String, arg: &Arg, value: f64) -> Result<(), Invalid> {
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

/// A problem within an operand, named from outside.
fn within(name: &str, problem: Invalid) -> Invalid {
    if problem.field.starts_with("params.") || problem.field.starts_with('$') {
        return problem;
    }
    let place = format!("{name}.{}", problem.field);
    Invalid::new(place.trim_end_matches('.'), problem.problem)
}

/// A label without the parentheses around all of it.
fn bare(label: String) -> String {
    let inner = label
        .strip_prefix('(')
        .and_then(|rest| rest.strip_suffix(')'));
    let Some(inner) = inner else {
        return label;
    };
    // Whether the first parenthesis is closed by the last one.
    let mut open = 0_i32;
    let is_whole = inner.chars().all(|c| {
        open += i32::from(c == '(') - i32::from(c == ')');
        open >= 0
    });
    if is_whole { inner.to_owned() } else { label }
}
