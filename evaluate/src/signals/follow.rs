//! Follows a strategy along a series, from the position of its track to the last bar.

use super::{INLINE_BARS, MAX_ATTEMPTS, Progress};
use crate::Evaluate;
use std::collections::HashMap;
use thrum_schema::UnixMs;
use thrum_schema::signal::engine::{Program, State};
use thrum_schema::signal::track::{
    BACKFILL_BARS, CHECKPOINT_BARS, Checkpoint, FOLLOW_MS, Followed, Head, MAX_TRACKS, Signal,
    StoredBar, TrackId, TrackState,
};
use thrum_schema::signal::{Score, Verdict};
use thrum_store::StoreError;
use thrum_store::{Advance, Result};

/// How many bars are read at a time.
const PAGE: usize = 2_000;
/// Most signals in a transaction: with the state and the checkpoints, it has at most 100 items.
const MAX_SIGNALS: usize = 80;
/// Most checkpoints in a transaction.
const MAX_CHECKPOINTS: usize = 15;

/// Bars to step, with the sentiment scores of their time.
struct Page {
    bars: Vec<StoredBar>,
    scores: Vec<Score>,
    /// How often the series had been nudged before the bars were read.
    nudge: u64,
    /// Whether there are no bars after these.
    is_last: bool,
}

impl Page {
    /// The last score that was known at `close`.
    fn score_at(&self, close: UnixMs) -> Option<Score> {
        let known = self.scores.partition_point(|score| score.time <= close);
        known.checked_sub(1).map(|last| self.scores[last])
    }
}

/// The position of a track.
struct Position {
    /// The version that is stored; `None` if the track is new.
    before: Option<u64>,
    stored: TrackState,
    state: State,
}

impl Position {
    /// The program with the calendar of the series, and with the accepted levels that the track has
    /// applied. Those that were accepted since then first rewind it.
    fn program(&self, program: &Program, head: &Head) -> Program {
        let mut compiled = program.compiled().clone().along(Some(head));
        compiled.levels = self.stored.levels();
        Program::new(compiled)
    }

    /// Updates the stored track from the state. `at_end`: there are no more bars.
    fn save_state(&mut self, at_end: bool) {
        let stored = &mut self.stored;
        stored.state = self.state.encode();
        stored.version += 1;
        stored.high = match stored.high {
            Some(UnixMs::LATEST) if at_end => stored.last,
            high => high.max(stored.last),
        };
    }
}

/// The signal of a bar, which supersedes `old`.
fn signal_of(
    program: &Program,
    state: &State,
    bar: &StoredBar,
    verdict: Verdict,
    old: Option<&Signal>,
    now: UnixMs,
) -> Signal {
    Signal {
        bar: bar.t,
        revision: old.map_or(0, |old| old.revision + 1),
        verdict,
        close: bar.c,
        explanation: program.explain(state, &bar.bar()),
        bar_rev: bar.rev,
        score: state.score.filter(|_| program.compiled().uses_sentiment()),
        computed: now,
    }
}

impl Evaluate {
    /// Brings a track up to the last bar, and returns the signal of that bar. Reads the state and
    /// the bars after it, steps them, and writes state, signals and checkpoints in one transaction.
    /// It is guarded by the version of the state and by the count of nudges: if bars arrived after
    /// the read, they are read again. So a correction is either among the bars read, or its nudge
    /// finds the track past it. A new bar in order costs one read of the state, one read of the
    /// bars, and one transaction, however long the series is. `left` is the budget of bars; `asked`
    /// records that the track was requested.
    pub(crate) async fn follow(
        &self,
        track: &TrackId,
        (program, of): (&Program, &Followed),
        head: &Head,
        left: &mut usize,
        asked: bool,
    ) -> Result<Progress<Option<Signal>>> {
        let _alone = if *left > INLINE_BARS {
            self.following.wait(track).await
        } else {
            // The stream does not wait.
            match self.following.attempt(track) {
                Some(alone) => alone,
                None => return Ok(Progress::More),
            }
        };
        if !head.followed {
            // From now on, corrections of past bars are nudges.
            self.store
                .mark_followed(track.project, &track.series, track.timeframe)
                .await?;
        }
        let mut head = head.clone();
        for _ in 0..MAX_ATTEMPTS {
            match self
                .follow_once(track, (program, of), &head, left, asked)
                .await
            {
                Err(StoreError::Conflict) => {}
                result => return result,
            }
            // New bars arrived, or another handler follows the same track: read again.
            let project = track.project;
            let found = self
                .store
                .head(project, &track.series, track.timeframe)
                .await?;
            head = found.unwrap_or(head);
        }
        Err(StoreError::Conflict)
    }

    async fn follow_once(
        &self,
        track: &TrackId,
        (program, of): (&Program, &Followed),
        head: &Head,
        left: &mut usize,
        asked: bool,
    ) -> Result<Progress<Option<Signal>>> {
        let now = self.store.world().now();
        // Later bars may be part of a request that is still being written.
        let through = head.through.unwrap_or(UnixMs::LATEST);
        let found = self.position(track, (program, of), head, through, *left);
        let (mut position, mut ahead) = match found.await? {
            Progress::Done(Some(found)) => found,
            Progress::Done(None) => return Ok(Progress::Done(None)),
            Progress::More => return Ok(Progress::More),
        };
        let program = &position.program(program, head);
        // Precise to a day, to save writes.
        let record_request = asked && now - position.stored.asked > 86_400_000;
        if asked {
            position.stored.asked = now;
        }
        let mut newest = None;
        loop {
            if *left == 0 {
                return Ok(Progress::More);
            }
            let from = position
                .stored
                .last
                .map_or(position.stored.start, |last| last + 1);
            let wanted = PAGE.min(*left);
            let (bars, is_last) = if ahead.is_empty() {
                let bars = self
                    .store
                    .bars(track.project, head, from, through, wanted)
                    .await?;
                let is_last = bars.len() < wanted;
                (bars, is_last)
            } else {
                let rest = ahead.split_off(wanted.min(ahead.len()));
                let bars = std::mem::replace(&mut ahead, rest);
                (bars, ahead.is_empty())
            };
            let Some(end) = bars.last() else {
                break;
            };
            *left -= bars.len();
            let page = Page {
                scores: self.scores_until(track, program, &position, end).await?,
                nudge: head.nudge,
                is_last,
                bars,
            };
            let stepped = self.step_page(track, program, &mut position, &page).await?;
            newest = stepped.or(newest);
            if page.is_last {
                break;
            }
        }
        if newest.is_none() && record_request {
            position.stored.version += 1;
            let (before, state) = (position.before, &position.stored);
            let advance = Advance {
                before,
                state,
                signals: &[],
                checkpoints: &[],
                nudge: None,
            };
            self.store.advance_track(track, &advance, now).await?;
        }
        if newest.is_none() {
            newest = self.store.signal_at(track, UnixMs::LATEST).await?;
        }
        Ok(Progress::Done(newest))
    }

    /// The position of a track, with the bars that are next if they are read already. `None` if there
    /// are no bars.
    async fn position(
        &self,
        track: &TrackId,
        (program, of): (&Program, &Followed),
        head: &Head,
        through: UnixMs,
        budget: usize,
    ) -> Result<Progress<Option<(Position, Vec<StoredBar>)>>> {
        let now = self.store.world().now();
        let found = self.store.track(track).await?;
        let before = found.as_ref().map(|stored| stored.version);
        let (mut stored, ahead) = match found {
            Some(stored) if !is_left_behind(&stored, program, track, through.min(now)) => {
                (stored, Vec::new())
            }
            found => {
                let most = BACKFILL_BARS + program.run_up().unwrap_or(0);
                let bars = self
                    .last_bars(track, head, through, most.min(budget.saturating_add(1)))
                    .await?;
                let Some(first) = bars.first() else {
                    return Ok(Progress::Done(None));
                };
                if bars.len() > budget {
                    return Ok(Progress::More);
                }
                if found.is_none() {
                    self.make_room(track).await?;
                }
                // Also those of an evicted track.
                self.store.forget_checkpoints(track, UnixMs(0)).await?;
                let since = bars[bars.len().saturating_sub(BACKFILL_BARS)].t;
                let (start, ahead) = match program.run_up() {
                    _ if bars.len() < most => (UnixMs(0), bars),
                    Some(_) => (first.t, bars),
                    // All bars are too many to read at once.
                    None => (UnixMs(0), Vec::new()),
                };
                let stored = TrackState {
                    of: of.clone(),
                    asked: found.map_or(now, |stored| stored.asked),
                    version: before.unwrap_or(0),
                    last: None,
                    start,
                    // Signals of an evicted track may still exist.
                    high: Some(UnixMs::LATEST),
                    since,
                    begun: now,
                    sentiment: program.compiled().uses_sentiment(),
                    levels: program.compiled().detector.map(|_| head.levels.clone()),
                    state: Vec::new(),
                };
                (stored, ahead)
            }
        };
        let state = match stored.last {
            None => program.begin(),
            Some(_) => program.decode(&stored.state).unwrap_or_else(|| {
                // It has another format: start over.
                stored.last = None;
                stored.begun = now;
                program.begin()
            }),
        };
        let position = Position {
            before,
            stored,
            state,
        };
        Ok(Progress::Done(Some((position, ahead))))
    }

    /// The last bars up to `through`, in order, at most `most`.
    pub(super) async fn last_bars(
        &self,
        track: &TrackId,
        head: &Head,
        through: UnixMs,
        most: usize,
    ) -> Result<Vec<StoredBar>> {
        let bars = self.store.last_bars(track.project, head, through, most);
        let mut bars = bars.await?;
        bars.reverse();
        Ok(bars)
    }

    /// The scores up to the close of the bar `end`, if the strategy uses any.
    async fn scores_until(
        &self,
        track: &TrackId,
        program: &Program,
        position: &Position,
        end: &StoredBar,
    ) -> Result<Vec<Score>> {
        if !program.compiled().uses_sentiment() {
            return Ok(Vec::new());
        }
        let after = position.state.score.map(|score| score.time);
        let close = track.timeframe.close_of(end.t);
        self.store
            .scores(track.project, &track.series, after, close)
            .await
    }

    /// Steps the bars of a page, and writes the results. Returns the signal of the last bar, if it
    /// is stored.
    async fn step_page(
        &self,
        track: &TrackId,
        program: &Program,
        position: &mut Position,
        page: &Page,
    ) -> Result<Option<Signal>> {
        let now = self.store.world().now();
        let known = self.known_signals(track, &position.stored, &page.bars);
        let known = known.await?;
        let mut newest = None;
        let mut rest = page.bars.iter().peekable();
        while rest.peek().is_some() {
            let (mut signals, mut checkpoints) = (Vec::new(), Vec::new());
            while signals.len() < MAX_SIGNALS && checkpoints.len() < MAX_CHECKPOINTS {
                let Some(bar) = rest.next() else { break };
                let verdict = program.step(
                    &mut position.state,
                    &bar.bar(),
                    page.score_at(track.timeframe.close_of(bar.t)),
                );
                position.stored.last = Some(bar.t);
                if bar.t >= position.stored.since {
                    let old = known.get(&bar.t);
                    let signal = signal_of(program, &position.state, bar, verdict, old, now);
                    match old {
                        Some(old) if is_same(old, &signal) => newest = Some(old.clone()),
                        _ => {
                            newest = Some(signal.clone());
                            signals.push(signal);
                        }
                    }
                }
                if position.state.bars.is_multiple_of(CHECKPOINT_BARS) {
                    checkpoints.push(Checkpoint {
                        last: bar.t,
                        state: position.state.encode(),
                    });
                }
            }
            position.save_state(rest.peek().is_none() && page.is_last);
            let advance = Advance {
                before: position.before,
                state: &position.stored,
                signals: &signals,
                checkpoints: &checkpoints,
                nudge: Some(page.nudge),
            };
            self.store.advance_track(track, &advance, now).await?;
            position.before = Some(position.stored.version);
        }
        Ok(newest)
    }

    /// Makes room for a new track: at [`MAX_TRACKS`], evicts the least recently requested one.
    async fn make_room(&self, track: &TrackId) -> Result<()> {
        let mut tracks = self
            .store
            .tracks(track.project, &track.series, track.timeframe)
            .await?;
        tracks.sort_by_key(|(_, stored)| stored.asked);
        let excess = (tracks.len() + 1).saturating_sub(MAX_TRACKS);
        for (oldest, _) in tracks.iter().take(excess) {
            self.store.forget_track(oldest).await?;
        }
        Ok(())
    }

    /// The latest revisions of the signals that are already stored for these bars.
    async fn known_signals(
        &self,
        track: &TrackId,
        stored: &TrackState,
        bars: &[StoredBar],
    ) -> Result<HashMap<UnixMs, Signal>> {
        let (Some(high), Some(first), Some(last)) = (stored.high, bars.first(), bars.last()) else {
            return Ok(HashMap::new());
        };
        if high < first.t || last.t < stored.since {
            return Ok(HashMap::new());
        }
        let found = self
            .store
            .signals(track, first.t, last.t.min(high), None, false)
            .await?;
        // Later revisions come later, so they win.
        Ok(found
            .into_iter()
            .map(|signal| (signal.bar, signal))
            .collect())
    }
}

/// Whether a track that nobody has asked for lately is so far behind `end` that it starts over near
/// there.
fn is_left_behind(stored: &TrackState, program: &Program, track: &TrackId, end: UnixMs) -> bool {
    let Some(run_up) = program.run_up() else {
        return false;
    };
    let most = i64::try_from(BACKFILL_BARS + run_up).unwrap_or(i64::MAX);
    let far_ms = match track.timeframe.ms() {
        Some(ms) => ms.saturating_mul(most),
        None => FOLLOW_MS,
    };
    stored
        .last
        .is_some_and(|last| end - last > far_ms.max(FOLLOW_MS))
        && end - stored.asked > FOLLOW_MS
}

/// Whether a signal need not be stored again: it has the same content, from the same bar and score.
fn is_same(old: &Signal, new: &Signal) -> bool {
    old.says_the_same_as(new) && old.bar_rev == new.bar_rev && old.score == new.score
}
