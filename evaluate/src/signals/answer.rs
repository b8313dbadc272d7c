//! Answers requests for a signal or a backtest.

use super::Progress;
use crate::Evaluate;
use crate::backtests::report::Report;
use crate::backtests::{Benchmark, Detected, Part, detect, portfolio};
use serde::Serialize;
use serde_json::Value;
use thrum_schema::UnixMs;
use thrum_schema::error::Invalid;
use thrum_schema::id::RequestId;
use thrum_schema::signal::compile::CompiledStrategy;
use thrum_schema::signal::engine::{Program, run};
use thrum_schema::signal::request::{
    Backtest, MAX_BACKTEST_BARS, MAX_REQUEST_AGE_MS, Request, RequestKind, RequestState,
    check_backtest, check_detector,
};
use thrum_schema::signal::track::{Followed, Head, Signal, StoredBar, TrackId};
use thrum_schema::signal::view::{Applied, SignalView};
use thrum_schema::signal::{Bar, Score, SeriesName, Strategy};
use thrum_store::Result;

/// How many bars are read at a time.
const PAGE: usize = 10_000;
/// For a series that is too long to test from its start: the warm-up before the first tested bar,
/// as a multiple of the bars that the strategy needs.
const WARM_TIMES: usize = 20;

/// The result of a request: JSON, or why it failed.
type Outcome = std::result::Result<Value, Invalid>;

/// The result of a backtest, with the strategy and the series it applies to.
#[derive(Serialize)]
struct Tested {
    #[serde(flatten)]
    applied: Applied,
    #[serde(flatten)]
    report: Figures,
}

/// What a backtest found.
#[derive(Serialize)]
#[serde(untagged)]
enum Figures {
    Traded(Box<Report>),
    Detected(Detected),
}

/// A series of a backtest, with its bars and sentiment scores.
#[derive(Debug, Clone)]
pub struct Input {
    /// Its name, in a portfolio.
    pub series: Option<String>,
    /// Its share of the equity.
    pub weight: f64,
    /// The strategy, for this series.
    pub compiled: CompiledStrategy,
    /// Its bars.
    pub bars: Vec<Bar>,
    /// Its sentiment scores.
    pub scores: Vec<Score>,
}

/// A series to compare a backtest with: its name and its bars.
pub type Other = (String, Vec<Bar>);

impl Evaluate {
    /// Answers a request, unless it is answered already, or needs more than `budget` bars to be
    /// stepped.
    pub(super) async fn answer(&self, id: RequestId, budget: usize) -> Result<Progress<()>> {
        let Some(request) = self.store.request(id).await? else {
            return Ok(Progress::Done(()));
        };
        if request.state != RequestState::Queued {
            return Ok(Progress::Done(()));
        }
        let now = self.store.world().now();
        let outcome = if now - request.created > MAX_REQUEST_AGE_MS {
            Err(Invalid::new(
                "the request",
                "could not be finished within an hour",
            ))
        } else {
            match self.compute(&request, budget).await? {
                Progress::Done(outcome) => outcome,
                Progress::More => return Ok(Progress::More),
            }
        };
        let now = self.store.world().now();
        match outcome {
            Ok(result) => {
                self.store
                    .finish_request(id, Ok(&result.to_string()), now)
                    .await?;
            }
            Err(error) => {
                self.store
                    .finish_request(id, Err(&error.to_string()), now)
                    .await?;
            }
        }
        Ok(Progress::Done(()))
    }

    /// Whether a request is still queued. 1 RU.
    pub(crate) async fn is_request_queued(&self, id: RequestId) -> Result<bool> {
        let request = self.store.request(id).await?;
        Ok(request.is_some_and(|request| request.state == RequestState::Queued))
    }

    async fn compute(&self, request: &Request, budget: usize) -> Result<Progress<Outcome>> {
        let found = self
            .strategy(request.project, &request.strategy, Some(request.version))
            .await?;
        let Some((strategy, version)) = found else {
            let error = Invalid::new("strategy", "no longer exists");
            return Ok(Progress::Done(Err(error)));
        };
        let compiled =
            match strategy.compile(Some(&request.mode), &request.params, request.timeframe) {
                Ok(compiled) => compiled,
                Err(error) => return Ok(Progress::Done(Err(error))),
            };
        let applied = Applied::new(
            request.series.as_ref(),
            &request.strategy,
            version,
            &compiled,
        );
        match &request.what {
            RequestKind::Signal { at } => {
                self.signal(request, applied, compiled, *at, budget).await
            }
            // Backtests take too long for the stream.
            RequestKind::Backtest(_) if budget != usize::MAX => Ok(Progress::More),
            RequestKind::Backtest(spec) => {
                let inputs = match self.inputs(request, &compiled, spec).await? {
                    Ok(inputs) => inputs,
                    Err(error) => return Ok(Progress::Done(Err(error))),
                };
                let other = match &spec.benchmark {
                    Some(series) => {
                        let bars = self.bars_to(request, series, spec.to, MAX_BACKTEST_BARS);
                        let bars = bars.await?;
                        Some((series.to_string(), bars))
                    }
                    None => None,
                };
                let (strategy, spec) = (strategy.into_owned(), spec.clone());
                // This may take seconds, so it must not block the executor.
                let tested = tokio::task::spawn_blocking(move || {
                    test(applied, &strategy, &inputs, other.as_ref(), &spec)
                });
                let tested = tested.await.map_err(|error| {
                    thrum_store::StoreError::Corrupt(format!("a backtest failed: {error}"))
                })?;
                Ok(Progress::Done(tested))
            }
        }
    }

    /// The series of a backtest, with their bars.
    async fn inputs(
        &self,
        request: &Request,
        compiled: &CompiledStrategy,
        spec: &Backtest,
    ) -> Result<std::result::Result<Vec<Input>, Invalid>> {
        let parts = match &spec.portfolio[..] {
            [] => vec![(request.series.as_ref(), 1.0)],
            parts => parts
                .iter()
                .map(|part| (Some(&part.series), part.weight))
                .collect(),
        };
        let most = MAX_BACKTEST_BARS / parts.len();
        let mut inputs = Vec::with_capacity(parts.len());
        for (series, weight) in parts {
            let head = match series {
                Some(series) => {
                    let head = self.store.head(request.project, series, request.timeframe);
                    head.await?
                }
                None => None,
            };
            let compiled = compiled.clone().along(head.as_ref());
            let history = self.history(request, series, head.as_ref(), (&compiled, most), spec);
            let (bars, scores) = match history.await? {
                Ok(history) => history,
                Err(error) => return Ok(Err(error)),
            };
            let is_portfolio = !spec.portfolio.is_empty();
            inputs.push(Input {
                series: series.filter(|_| is_portfolio).map(ToString::to_string),
                weight,
                compiled,
                bars,
                scores,
            });
        }
        Ok(Ok(inputs))
    }

    /// The last bars of a series before `to`, one more than `most`.
    async fn bars_to(
        &self,
        request: &Request,
        series: &SeriesName,
        to: Option<UnixMs>,
        most: usize,
    ) -> Result<Vec<Bar>> {
        let head = self.store.head(request.project, series, request.timeframe);
        let Some(head) = head.await? else {
            return Ok(Vec::new());
        };
        let to = to.map_or(UnixMs::LATEST, |to| to - 1);
        let mut bars = self
            .store
            .last_bars(request.project, &head, to, most + 1)
            .await?;
        bars.reverse();
        Ok(bars.iter().map(StoredBar::bar).collect())
    }

    async fn signal(
        &self,
        request: &Request,
        applied: Applied,
        compiled: CompiledStrategy,
        at: Option<UnixMs>,
        mut budget: usize,
    ) -> Result<Progress<Outcome>> {
        let now = self.store.world().now();
        let timeframe = request.timeframe;
        let head = match &request.series {
            Some(series) => self.store.head(request.project, series, timeframe).await?,
            None => None,
        };
        let program = Program::new(compiled.along(head.as_ref()));
        let view = |view: SignalView| {
            let value = serde_json::to_value(view).expect("a signal serializes to JSON");
            Ok(Progress::Done(Ok(value)))
        };
        let last_open = |at: UnixMs| at - timeframe.ms().unwrap_or(0);
        let Some(series) = &request.series else {
            let mut bars = self.store.request_bars(request.id).await?;
            bars.retain(|bar| at.is_none_or(|at| bar.time <= last_open(at)));
            let Some(signal) = last_signal(&program, &bars, &[], now) else {
                return view(SignalView::without_bars(applied, now));
            };
            // Inline bars are never stale: the client that sent them knows their age.
            let seen = at.unwrap_or_else(|| timeframe.close_of(signal.bar));
            let stale_at = stale_at(&program, &signal);
            return view(SignalView::new(applied, signal, seen, stale_at));
        };
        let Some(head) = head else {
            return view(SignalView::without_bars(applied, now));
        };
        let track = TrackId::new(
            request.project,
            series,
            &request.strategy,
            request.version,
            program.compiled(),
        );
        let of = Followed::new(&request.strategy, request.version, program.compiled());
        let newest = match self
            .follow(&track, (&program, &of), &head, &mut budget, true)
            .await?
        {
            Progress::Done(newest) => newest,
            Progress::More => return Ok(Progress::More),
        };
        let signal = match at {
            None => newest,
            Some(at) => {
                self.signal_as_of(&track, &program, &head, last_open(at), now)
                    .await?
            }
        };
        match signal {
            Some(signal) => {
                let stale_at = stale_at(&program, &signal);
                view(SignalView::new(
                    applied,
                    signal,
                    at.unwrap_or(now),
                    stale_at,
                ))
            }
            None => view(SignalView::without_bars(applied, at.unwrap_or(now))),
        }
    }

    /// The signal of the last bar that opened at or before `to`. If it is older than the stored
    /// signals, it is computed again, from the last checkpoint before it.
    async fn signal_as_of(
        &self,
        track: &TrackId,
        program: &Program,
        head: &Head,
        to: UnixMs,
        now: UnixMs,
    ) -> Result<Option<Signal>> {
        let last = self.store.last_bars(track.project, head, to, 1).await?;
        let Some(bar) = last.first() else {
            return Ok(None);
        };
        if let Some(signal) = self.store.signal_at(track, to).await?
            && signal.bar == bar.t
        {
            return Ok(Some(signal));
        }
        let checkpoint = self.store.checkpoint_before(track, bar.t).await?;
        let begun = checkpoint.and_then(|checkpoint| program.decode(&checkpoint.state));
        let ahead = match (&begun, program.run_up()) {
            (None, Some(run_up)) => self.last_bars(track, head, bar.t, run_up + 1).await?,
            _ => Vec::new(),
        };
        let mut state = begun.unwrap_or_else(|| program.begin());
        let close = head.timeframe.close_of(bar.t);
        let after = state.score.map(|score| score.time);
        let scores = self
            .store
            .scores(track.project, &track.series, after, close)
            .await?;
        let mut verdict = None;
        let ahead: Vec<Bar> = ahead.iter().map(StoredBar::bar).collect();
        run(program, &mut state, &ahead, &scores, |_, _, current| {
            verdict = Some(current);
        });
        while state.last < Some(bar.t) {
            let from = state.last.map_or(UnixMs(0), |last| last + 1);
            let page = self
                .store
                .bars(track.project, head, from, bar.t, PAGE)
                .await?;
            if page.is_empty() {
                break;
            }
            let page: Vec<Bar> = page.iter().map(|bar| bar.bar()).collect();
            run(program, &mut state, &page, &scores, |_, _, current| {
                verdict = Some(current);
            });
        }
        let last = bar.bar();
        Ok(verdict.map(|verdict| Signal {
            bar: last.time,
            revision: 0,
            verdict,
            close: last.close,
            explanation: program.explain(&state, &last),
            bar_rev: bar.rev,
            score: state.score,
            computed: now,
        }))
    }

    /// The bars and sentiment scores of a backtest. They start with the series, so that every state
    /// is what it was live. If the series is too long for that, they start early enough before
    /// `from` to fill the windows, and to make the influence of older bars on exponential means
    /// negligible.
    async fn history(
        &self,
        request: &Request,
        series: Option<&SeriesName>,
        head: Option<&Head>,
        (compiled, most): (&CompiledStrategy, usize),
        spec: &Backtest,
    ) -> Result<std::result::Result<(Vec<Bar>, Vec<Score>), Invalid>> {
        let Some(series) = series else {
            return Ok(Ok((self.store.request_bars(request.id).await?, Vec::new())));
        };
        if head.is_none() {
            return Ok(Ok((Vec::new(), Vec::new())));
        }
        let bars = self.bars_to(request, series, spec.to, most).await?;
        let bars = match fit(bars, compiled, spec, most) {
            Ok(bars) => bars,
            Err(error) => return Ok(Err(error)),
        };
        let scores = match bars.last() {
            Some(last) if compiled.uses_sentiment() => {
                let close = request.timeframe.close_of(last.time);
                self.store
                    .scores(request.project, series, None, close)
                    .await?
            }
            _ => Vec::new(),
        };
        Ok(Ok((bars, scores)))
    }
}

/// The bars that a backtest takes: at most `most`, the last ones. `bars` are those up to its end, or
/// at least one more than that.
///
/// # Errors
/// It would not have enough bars before `from` that warm up the strategy.
pub fn fit(
    mut bars: Vec<Bar>,
    compiled: &CompiledStrategy,
    spec: &Backtest,
    most: usize,
) -> std::result::Result<Vec<Bar>, Invalid> {
    let excess = bars.len().saturating_sub(most);
    if excess == 0 {
        return Ok(bars);
    }
    bars.drain(..excess);
    let begin = spec.from.unwrap_or(UnixMs(0));
    let before = bars.partition_point(|bar| bar.time < begin);
    if before < WARM_TIMES * compiled.needs() as usize {
        return Err(Invalid::new(
            "from",
            format!(
                "must be later: a backtest takes at most {most} bars of a series, including those before \
                 `from` that warm up the strategy; or test a longer timeframe"
            ),
        ));
    }
    Ok(bars)
}

/// When a signal becomes too old, if its bar was received when it closed.
fn stale_at(program: &Program, signal: &Signal) -> Option<UnixMs> {
    let compiled = program.compiled();
    let closed = compiled.timeframe.close_of(signal.bar);
    compiled.stale_at(signal.bar, closed)
}

/// The signal of the last bar.
fn last_signal(program: &Program, bars: &[Bar], scores: &[Score], now: UnixMs) -> Option<Signal> {
    let mut state = program.begin();
    let mut verdict = None;
    run(program, &mut state, bars, scores, |_, _, current| {
        verdict = Some(current);
    });
    let last = bars.last()?;
    Some(Signal {
        bar: last.time,
        revision: 0,
        verdict: verdict?,
        close: last.close,
        explanation: program.explain(&state, last),
        bar_rev: 0,
        score: state.score,
        computed: now,
    })
}

fn test(
    applied: Applied,
    strategy: &Strategy,
    inputs: &[Input],
    other: Option<&Other>,
    spec: &Backtest,
) -> Outcome {
    let figures = match inputs {
        [one] if one.series.is_none() && one.compiled.detector.is_some() => {
            check_detector(spec)?;
            Figures::Detected(detect(&one.compiled, &one.bars, spec)?)
        }
        _ => {
            let parts: Vec<Part<'_>> = inputs
                .iter()
                .map(|input| Part {
                    series: input.series.as_deref(),
                    weight: input.weight,
                    compiled: &input.compiled,
                    bars: &input.bars,
                    scores: &input.scores,
                })
                .collect();
            let benchmark = other.map(|(series, bars)| Benchmark {
                series,
                timeframe: applied.timeframe,
                bars,
            });
            Figures::Traded(Box::new(portfolio(strategy, &parts, benchmark, spec)?))
        }
    };
    let tested = Tested {
        applied,
        report: figures,
    };
    Ok(serde_json::to_value(tested).expect("a report serializes to JSON"))
}

/// Runs a backtest without a table. The result is the same as the API's, as JSON; `series` names a
/// single series.
///
/// # Errors
/// The request is invalid, or the bars do not suffice.
pub fn offline(
    (name, series): (&str, Option<&SeriesName>),
    strategy: &Strategy,
    inputs: &[Input],
    other: Option<&Other>,
    spec: &Backtest,
) -> Outcome {
    check_backtest(spec)?;
    let Some(first) = inputs.first() else {
        return Err(Invalid::new("the bars", "are required"));
    };
    let applied = Applied::new(series, name, 0, &first.compiled);
    test(applied, strategy, inputs, other, spec)
}
