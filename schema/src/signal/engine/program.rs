//! A compiled strategy that is ready to run, and the one step that live bars, replays and backtests
//! share.

use super::detector::{DetectorState, Params, Value};
use super::indicator::{Output, Stepper};
use super::position::{Held, Memory};
use crate::UnixMs;
use crate::mutant::{self, Mutant};
use crate::signal::compile::{Input, Tree, What};
use crate::signal::explanation::{Exit, Op};
use crate::signal::strategy::{Field, Gaps};
use crate::signal::{Bar, CompiledStrategy, Score, Verdict};
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

/// The format of [`State`]. Any change of its fields increments it, and tracks then start over.
const FORMAT: u16 = 3;

/// How many times the bars that fill all windows a strategy steps before its first signal counts, if the series is longer
/// than that. The first of these bars then weighs at most e^-40 in an exponential mean: nothing.
const RUN_UP: u64 = 40;
/// The least bars of such a start.
const MIN_RUN_UP: u64 = 2_000;
/// The same for a detector, which learns what each hour of the week is like: four weeks of values each minute.
const DETECTOR_RUN_UP: u64 = 40_000;
/// The most bars of such a start. They are read at once, and are fewer than the worker steps at once.
const MAX_RUN_UP: u64 = 60_000;

/// A compiled strategy that is ready to run.
#[derive(Debug, Clone)]
pub struct Program {
    compiled: CompiledStrategy,
    /// Bars before the first signal.
    needs: u64,
    /// Bars after a gap until all windows are refilled.
    refill: u64,
    /// The parameters of the detector, if it is one.
    detector: Option<Params>,
}

/// Everything that past bars contribute to future signals.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct State {
    format: u16,
    /// How many bars were stepped.
    pub bars: u64,
    /// When the last bar opened.
    pub last: Option<UnixMs>,
    /// The signal of the last bar.
    pub verdict: Option<Verdict>,
    /// The last gap.
    pub hole: Option<Hole>,
    /// The last sentiment score.
    pub score: Option<Score>,
    /// Whether the last bar needed a sentiment score that was missing or too old.
    pub(super) no_sentiment: bool,
    indicators: Vec<Slot>,
    sources: Vec<Lag>,
    frames: Vec<Frame>,
    /// The comparisons, in the order of `leaves` of the compiled strategy.
    pub(super) leaves: Vec<Compared>,
    /// At how many bars in a row each condition that must be confirmed has held.
    confirms: Vec<u32>,
    /// The position of a strategy that holds them.
    pub(super) memory: Memory,
    /// The detector's part.
    pub(super) detector: Option<DetectorState>,
}

/// A gap: bars that are missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hole {
    /// How many bars are missing.
    pub missing: u64,
    /// How many bars have arrived since.
    pub since: u64,
}

/// An indicator, its last output, and how many bars it has taken.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Slot {
    stepper: Stepper,
    output: Output,
    count: u32,
    lookback: u32,
}

/// The current value of a source, and the earlier ones that `ago` needs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Lag {
    now: f64,
    before: VecDeque<f64>,
}

/// An unfinished bar of a longer timeframe.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Frame {
    bar: Option<Bar>,
    /// The open time of the longer bar in which the series starts. It is incomplete, so it is
    /// skipped.
    partial: Option<UnixMs>,
}

/// A comparison: both sides, its outcome, and its outcome at the bar before.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(super) struct Compared {
    pub left: f64,
    pub right: f64,
    pub met: Option<bool>,
    pub before: Option<bool>,
}

impl State {
    /// Serializes the state, for the table.
    pub fn encode(&self) -> Vec<u8> {
        postcard::to_allocvec(self).expect("a state serializes to postcard")
    }

    /// Why the position that was held ended at the last bar, if it did.
    pub fn ended(&self) -> Option<Exit> {
        self.memory.ended.map(|(_, why)| why)
    }
}

impl Program {
    /// Prepares a compiled strategy.
    pub fn new(compiled: CompiledStrategy) -> Self {
        let needs = u64::from(compiled.needs());
        let longer = compiled.indicators.iter().filter_map(|indicator| {
            let frame = compiled.frames[indicator.frame?].ms()?;
            let base = compiled.timeframe.ms()?;
            let bars = u64::from(indicator.warmup) + 1;
            Some(bars * (frame / base).unsigned_abs())
        });
        let refill = longer.max().unwrap_or(0).max(needs);
        let detector = compiled.detector.as_ref().map(Params::new);
        Self {
            compiled,
            needs,
            refill,
            detector,
        }
    }

    /// The compiled strategy.
    pub const fn compiled(&self) -> &CompiledStrategy {
        &self.compiled
    }

    /// How many bars the first signal needs, at least.
    pub const fn needs(&self) -> u64 {
        self.needs
    }

    /// How many bars after a gap all windows are refilled.
    pub const fn refill(&self) -> u64 {
        self.refill
    }

    /// How many bars before the first signal that counts a long series is stepped from.
    ///
    /// `None` if that would be more than 60,000, as with longer timeframes, or if it holds
    /// positions: then it is stepped from the beginning of the series.
    pub fn run_up(&self) -> Option<usize> {
        let bars = match self.detector {
            // A position may be as old as the series.
            None if self.compiled.has_memory() => return None,
            Some(_) => DETECTOR_RUN_UP,
            None => (RUN_UP * self.refill).max(MIN_RUN_UP),
        };
        let bars = Some(bars).filter(|bars| *bars <= MAX_RUN_UP)?;
        usize::try_from(bars).ok()
    }

    /// The state before the first bar.
    pub fn begin(&self) -> State {
        let compiled = &self.compiled;
        State {
            format: FORMAT,
            bars: 0,
            last: None,
            verdict: None,
            hole: None,
            score: None,
            no_sentiment: false,
            indicators: compiled
                .indicators
                .iter()
                .map(|indicator| Slot {
                    stepper: Stepper::new(indicator.kind, indicator.args),
                    output: [f64::NAN; 3],
                    count: 0,
                    lookback: indicator.kind.lookback(indicator.args),
                })
                .collect(),
            sources: compiled
                .sources
                .iter()
                .map(|_| Lag {
                    now: f64::NAN,
                    before: VecDeque::new(),
                })
                .collect(),
            frames: compiled
                .frames
                .iter()
                .map(|_| Frame {
                    bar: None,
                    partial: None,
                })
                .collect(),
            leaves: vec![
                Compared {
                    left: f64::NAN,
                    right: f64::NAN,
                    met: None,
                    before: None,
                };
                compiled.leaves.len()
            ],
            confirms: vec![0; compiled.confirms.len()],
            memory: Memory::default(),
            detector: self
                .detector
                .map(|params| DetectorState::new(&params, compiled.timeframe.ms())),
        }
    }

    /// Restores a stored state. `None` if it has another format or belongs to another strategy;
    /// then it must be recomputed from the start.
    pub fn decode(&self, bytes: &[u8]) -> Option<State> {
        let mut state: State = postcard::from_bytes(bytes).ok()?;
        if mutant::is(Mutant::PositionForgotten) {
            state.memory = Memory::default();
        }
        let compiled = &self.compiled;
        let fits = state.format == FORMAT
            && state.indicators.len() == compiled.indicators.len()
            && state.sources.len() == compiled.sources.len()
            && state.frames.len() == compiled.frames.len()
            && state.leaves.len() == compiled.leaves.len()
            && state.confirms.len() == compiled.confirms.len()
            && state.detector.is_some() == compiled.detector.is_some();
        fits.then_some(state)
    }

    /// Takes a closed bar, later than the last one, and the last sentiment score known at its
    /// close. Returns the signal.
    #[inline]
    pub fn step(&self, state: &mut State, bar: &Bar, score: Option<Score>) -> Verdict {
        let compiled = &self.compiled;
        debug_assert!(state.last.is_none_or(|last| last < bar.time));
        let close = compiled.timeframe.close_of(bar.time);
        self.note_hole(state, bar);
        state.bars += 1;
        state.last = Some(bar.time);
        if let (Some(detector), Some(params)) = (&mut state.detector, &self.detector) {
            let value = Value {
                at: bar.time,
                x: bar.close,
                interval_ms: compiled.timeframe.ms(),
            };
            let levels = &compiled.levels;
            let known = levels.partition_point(|level| *level <= bar.time);
            let level = known.checked_sub(1).map(|last| levels[last]);
            let verdict = detector.step(params, value, level);
            state.verdict = Some(verdict);
            return verdict;
        }
        // A score from after the close is still unknown.
        if let Some(score) = score.filter(|score| score.time <= close) {
            state.score = Some(score);
        }
        if compiled.has_memory() {
            state.memory.step(bar);
        }
        self.step_indicators(state, bar, None);
        if !compiled.frames.is_empty() {
            self.step_frames(state, bar, close);
        }
        self.compare(state, bar, close);
        let verdict = self.judge(state);
        state.verdict = Some(verdict);
        verdict
    }

    fn note_hole(&self, state: &mut State, bar: &Bar) {
        if let Some(hole) = &mut state.hole {
            hole.since += 1;
        }
        if let (Some(ms), Some(last)) = (self.compiled.timeframe.ms(), state.last) {
            let apart = bar.time - last;
            if apart > ms {
                let compiled = &self.compiled;
                let missing = compiled
                    .calendar
                    .missing(compiled.timeframe, last, bar.time);
                if missing > 0 {
                    state.hole = Some(Hole { missing, since: 1 });
                }
            }
        }
    }

    /// Steps the indicators on a timeframe. Those that others are computed from come first.
    #[inline]
    fn step_indicators(&self, state: &mut State, bar: &Bar, frame: Option<usize>) {
        for (i, indicator) in self.compiled.indicators.iter().enumerate() {
            if indicator.frame == frame {
                let x = match &indicator.of {
                    Input::Field(field) => field_of(bar, *field),
                    input => input_of(input, bar, &state.indicators),
                };
                state.indicators[i].step(bar, x);
            }
        }
    }

    /// Builds the bars of longer timeframes, and steps their indicators when they close.
    fn step_frames(&self, state: &mut State, bar: &Bar, close: UnixMs) {
        for (i, timeframe) in self.compiled.frames.iter().enumerate() {
            let open = timeframe.open_of(bar.time);
            let frame = &mut state.frames[i];
            if state.bars == 1 && bar.time != open {
                frame.partial = Some(open);
            }
            // It closed within a gap, so its last part is missing.
            let overdue = frame.bar.take_if(|longer| longer.time != open);
            if frame.partial != Some(open) {
                match &mut frame.bar {
                    Some(longer) => longer.absorb(bar),
                    None => frame.bar = Some(Bar { time: open, ..*bar }),
                }
            }
            // Ticks have no length, so a longer bar of ticks closes with the first tick after it.
            let closes = self.compiled.timeframe.ms().is_some();
            let closed = frame
                .bar
                .take_if(|longer| closes && timeframe.close_of(longer.time) <= close);
            for longer in overdue.into_iter().chain(closed) {
                self.step_indicators(state, &longer, Some(i));
            }
        }
    }

    /// Updates the values of all sources, and the outcomes of all comparisons.
    fn compare(&self, state: &mut State, bar: &Bar, close: UnixMs) {
        state.no_sentiment = false;
        for (i, source) in self.compiled.sources.iter().enumerate() {
            let value = match source.what {
                What::Const(number) => number,
                What::Field(field) => field_of(bar, field),
                What::Sentiment { max_age_ms } => {
                    let fresh =
                        |score: &Score| max_age_ms.is_none_or(|max| close - score.time <= max);
                    let score = state.score.filter(fresh);
                    state.no_sentiment |= score.is_none();
                    score.map_or(f64::NAN, |score| score.score)
                }
                What::Indicator { index, output } => state.indicators[index].output[output],
                What::Position(figure) => {
                    let held = state.memory.held;
                    held.map_or(f64::NAN, |held| held.figure(figure))
                }
                What::Math { op, left, right } => {
                    op.of(state.sources[left].now, state.sources[right].now)
                }
            };
            let lag = &mut state.sources[i];
            lag.now = if source.ago == 0 {
                value
            } else {
                lag.before.push_back(value);
                if lag.before.len() > source.ago as usize {
                    lag.before.pop_front().unwrap_or(f64::NAN)
                } else {
                    f64::NAN
                }
            };
        }
        for (compared, leaf) in state.leaves.iter_mut().zip(&self.compiled.leaves) {
            let (left, right) = (state.sources[leaf.left].now, state.sources[leaf.right].now);
            compared.before = compared.met;
            let met = compared.outcome(leaf.op, left, right);
            // At the first bar of a position, its figures have nothing to cross from.
            let is_first = leaf.of_position && !left.is_nan() && !right.is_nan();
            compared.met = met.or(is_first.then_some(false));
            compared.left = left;
            compared.right = right;
        }
    }

    fn judge(&self, state: &mut State) -> Verdict {
        let unknown = self.unknown(state);
        let is_held = state.memory.held.is_some();
        for (i, confirm) in self.compiled.confirms.iter().enumerate() {
            let is_asked = unknown.is_none() && (is_held || !confirm.of_position);
            let holds = is_asked && self.holds(&confirm.condition, state);
            let before = state.confirms[i];
            state.confirms[i] = if holds { before.saturating_add(1) } else { 0 };
        }
        if let Some(unknown) = unknown {
            state.memory.end(Exit::Unknown);
            return unknown;
        }
        let entry = match (
            self.holds(&self.compiled.buy, state),
            self.holds(&self.compiled.sell, state),
        ) {
            (true, false) => Some(true),
            (false, true) => Some(false),
            _ => None,
        };
        let is_long = match &self.compiled.exits {
            None => entry,
            Some(exits) => {
                let held = state.memory.held;
                let exit = held.and_then(|held| {
                    let side = if held.is_long {
                        &exits.long
                    } else {
                        &exits.short
                    };
                    let exit = side.iter().find(|(_, when)| self.holds(when, state));
                    let is_reversed = entry == Some(!held.is_long);
                    exit.map(|(why, _)| *why)
                        .or(is_reversed.then_some(Exit::Reversal))
                });
                if let Some(why) = exit {
                    state.memory.end(why);
                }
                // What has just been left is not entered again at the same bar.
                let is_left = |is_long: &bool| held.is_some_and(|held| held.is_long == *is_long);
                if exit.is_some() {
                    // The next position's figures are others.
                    let counts = state.confirms.iter_mut().zip(&self.compiled.confirms);
                    for (count, _) in counts.filter(|(_, confirm)| confirm.of_position) {
                        *count = 0;
                    }
                }
                if state.memory.held.is_none() {
                    let entry = entry.filter(|is_long| !is_left(is_long));
                    state.memory.held = entry.map(Held::new);
                }
                state.memory.held.map(|held| held.is_long)
            }
        };
        match is_long {
            Some(true) => Verdict::Buy,
            Some(false) => Verdict::Sell,
            None => Verdict::Hold,
        }
    }

    /// Why there is no signal, if there is none.
    fn unknown(&self, state: &State) -> Option<Verdict> {
        let is_held = state.memory.held.is_some();
        let mut leaves = state.leaves.iter().zip(&self.compiled.leaves);
        let is_unknown =
            leaves.any(|(compared, leaf)| compared.met.is_none() && (is_held || !leaf.of_position));
        if is_unknown || state.bars < self.needs {
            let warm = state.bars >= self.needs
                && state
                    .indicators
                    .iter()
                    .all(|slot| slot.count >= slot.lookback);
            return Some(match warm {
                false => Verdict::Warming,
                true if state.no_sentiment => Verdict::NoSentiment,
                true => Verdict::Gap,
            });
        }
        let is_gap = self.compiled.gaps == Gaps::Unknown
            && state.hole.is_some_and(|hole| hole.since < self.refill);
        is_gap.then_some(Verdict::Gap)
    }

    /// Whether a rule holds, if all its comparisons are known.
    pub(super) fn holds(&self, tree: &Tree, state: &State) -> bool {
        match tree {
            Tree::Leaf(index) => state.leaves[*index].met == Some(true),
            Tree::All(trees) => trees.iter().all(|tree| self.holds(tree, state)),
            Tree::Any(trees) => trees.iter().any(|tree| self.holds(tree, state)),
            Tree::Not(tree) => !self.holds(tree, state),
            Tree::Confirm(index) => state.confirms[*index] >= self.compiled.confirms[*index].bars,
        }
    }
}

/// The value that an indicator is computed from, at the bar of its timeframe that just closed.
fn input_of(input: &Input, bar: &Bar, slots: &[Slot]) -> f64 {
    match input {
        Input::Field(field) => field_of(bar, *field),
        Input::Const(number) => *number,
        Input::Indicator { index, output } => slots[*index].output[*output],
        Input::Math { op, left, right } => {
            op.of(input_of(left, bar, slots), input_of(right, bar, slots))
        }
    }
}

impl Slot {
    #[inline]
    fn step(&mut self, bar: &Bar, x: f64) {
        if x.is_nan() {
            // An unknown value does not enter the window, and the output at this bar is unknown.
            self.output = [f64::NAN; 3];
            return;
        }
        self.output = self.stepper.step(bar, x);
        self.count = self.count.saturating_add(1);
    }
}

impl Compared {
    fn outcome(&self, op: Op, left: f64, right: f64) -> Option<bool> {
        if left.is_nan() || right.is_nan() {
            return None;
        }
        let before = !(self.left.is_nan() || self.right.is_nan());
        match op {
            Op::Gt => Some(left > right),
            Op::Ge => Some(left >= right),
            Op::Lt => Some(left < right),
            Op::Le => Some(left <= right),
            Op::CrossesAbove => before.then_some(left > right && self.left <= self.right),
            Op::CrossesBelow => before.then_some(left < right && self.left >= self.right),
        }
    }
}

fn field_of(bar: &Bar, field: Field) -> f64 {
    match field {
        Field::Open => bar.open,
        Field::High => bar.high,
        Field::Low => bar.low,
        Field::Close => bar.close,
        Field::Volume => bar.volume.unwrap_or(f64::NAN),
        Field::Typical => (bar.high + bar.low + bar.close) / 3.0,
    }
}

/// Steps `bars`, each with the last of `scores` at or before its close, and calls `each` after
/// every step. Both must be in time order.
pub fn run(
    program: &Program,
    state: &mut State,
    bars: &[Bar],
    scores: &[Score],
    mut each: impl FnMut(&State, &Bar, Verdict),
) {
    let mut next = 0;
    for bar in bars {
        let close = program.compiled.timeframe.close_of(bar.time);
        let known = scores[next..].partition_point(|score| score.time <= close);
        next += known;
        let score = next.checked_sub(1).map(|i| scores[i]);
        let verdict = program.step(state, bar, score);
        each(state, bar, verdict);
    }
}
