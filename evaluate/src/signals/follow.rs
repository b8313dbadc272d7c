//! Following a strategy along a series: from where the track is to the last bar.

use super::{MAX_ATTEMPTS, Progress};
use crate::Evaluate;
use crate::engine::{Program, State};
use std::collections::HashMap;
use thrum_schema::UnixMs;
use thrum_schema::signal::Score;
use thrum_schema::signal::track::{
    BACKFILL_BARS, CHECKPOINT_BARS, Checkpoint, Followed, Head, MAX_TRACKS, Signal, StoredBar,
    TrackId, TrackState,
};
use thrum_store::StoreError;
use thrum_store::{Advance, Result};

/// How many bars are read at a time.
const PAGE: usize = 2_000;
/// Most signals of a transaction: with the state and the checkpoints there are at most 100 items.
const MAX_SIGNALS: usize = 80;
const MAX_CHECKPOINTS: usize = 15;
/// The end of time.
pub const EVER: UnixMs = UnixMs(9_999_999_999_999);

/// Bars to step, and the sentiment of their time.
struct Page<'a> {
    bars: &'a [StoredBar],
    scores: &'a [Score],
    /// How often the series had been nudged before they were read.
    nudge: u64,
    /// There are no bars after these.
    is_last: bool,
}

impl Evaluate {
    /// Brings a track up to the last bar: reads its state, and the bars after it; steps them; and writes state, signals and
    /// checkpoints together, guarded by the state's version, and by the count of nudges: if bars came since these were read,
    /// they are read again, so a correction is either among them, or finds the track past it. Gives the signal of the last
    /// bar. A bar in its order is one read of the state, one of the bars, and one transaction, whatever came before.
    pub(crate) async fn follow(
        &self,
        track: &TrackId,
        (program, of): (&Program, &Followed),
        head: &Head,
        left: &mut usize,
        asked: bool,
    ) -> Result<Progress<Option<Signal>>> {
        if !head.followed {
            // From here on whoever corrects the past says so.
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
            // Bars came meanwhile, or another follows: what is there now is looked at anew.
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
        // What is later may be half of a request.
        let through = head.through.unwrap_or(EVER);
        let mut before = None;
        let mut stored = match self.store.track(track).await? {
            Some(stored) => {
                before = Some(stored.version);
                stored
            }
            None => {
                self.make_room(track).await?;
                let last = self
                    .store
                    .last_bars(track.project, head, through, BACKFILL_BARS)
                    .await?;
                let Some(first) = last.last() else {
                    return Ok(Progress::Done(None));
                };
                TrackState {
                    of: of.clone(),
                    asked: now,
                    version: 0,
                    last: None,
                    // Signals may be there already, of a track that was forgotten.
                    high: Some(EVER),
                    since: first.t,
                    begun: now,
                    sentiment: program.compile().uses_sentiment(),
                    state: Vec::new(),
                }
            }
        };
        // A day is near enough.
        let note = asked && now - stored.asked > 86_400_000;
        if asked {
            stored.asked = now;
        }
        let mut state = match stored.last {
            None => program.begin(),
            Some(_) => program.decode(&stored.state).unwrap_or_else(|| {
                // It is of another format: all begins anew.
                stored.last = None;
                stored.begun = now;
                program.begin()
            }),
        };
        let mut newest = None;
        loop {
            if *left == 0 {
                return Ok(Progress::More);
            }
            let from = stored.last.map_or(UnixMs(0), |last| last + 1);
            let wanted = PAGE.min(*left);
            let bars = self
                .store
                .bars(track.project, head, from, through, wanted)
                .await?;
            let Some(end) = bars.last() else {
                break;
            };
            *left -= bars.len();
            let scores = if program.compile().uses_sentiment() {
                let after = state.score.map(|score| score.time);
                let close = track.timeframe.close_of(end.t);
                self.store
                    .scores(track.project, &track.series, after, close)
                    .await?
            } else {
                Vec::new()
            };
            let full = bars.len() == wanted;
            let page = Page {
                bars: &bars,
                scores: &scores,
                nudge: head.nudge,
                is_last: !full,
            };
            newest = self
                .step_page(track, program, &mut state, &mut stored, &mut before, &page)
                .await?
                .or(newest);
            if !full {
                break;
            }
        }
        if newest.is_none() && note {
            stored.version += 1;
            let advance = Advance {
                before,
                state: &stored,
                signals: &[],
                checkpoints: &[],
                nudge: None,
            };
            self.store.advance_track(track, &advance, now).await?;
        }
        if newest.is_none() {
            newest = self.store.signal_at(track, EVER).await?;
        }
        Ok(Progress::Done(newest))
    }

    /// Steps bars, and writes what came of them. Gives the signal of the last of them, if it is stored.
    async fn step_page(
        &self,
        track: &TrackId,
        program: &Program,
        state: &mut State,
        stored: &mut TrackState,
        before: &mut Option<u64>,
        page: &Page<'_>,
    ) -> Result<Option<Signal>> {
        let Page {
            bars,
            scores,
            nudge,
            is_last,
        } = *page;
        let now = self.store.world().now();
        let known = self.known_signals(track, stored, bars).await?;
        let mut newest = None;
        let mut rest = bars.iter().peekable();
        while rest.peek().is_some() {
            let (mut signals, mut checkpoints) = (Vec::new(), Vec::new());
            while signals.len() < MAX_SIGNALS && checkpoints.len() < MAX_CHECKPOINTS {
                let Some(bar) = rest.next() else { break };
                let close = track.timeframe.close_of(bar.t);
                let score = scores
                    .partition_point(|score| score.time <= close)
                    .checked_sub(1);
                let verdict = program.step(state, &bar.bar(), score.map(|i| scores[i]));
                stored.last = Some(bar.t);
                if bar.t >= stored.since {
                    let old = known.get(&bar.t);
                    let signal = Signal {
                        bar: bar.t,
                        revision: old.map_or(0, |old| old.revision + 1),
                        verdict,
                        close: bar.c,
                        explanation: program.explain(state, &bar.bar()),
                        bar_rev: bar.rev,
                        score: if program.compile().uses_sentiment() {
                            state.score
                        } else {
                            None
                        },
                        computed: now,
                    };
                    match old {
                        Some(old) if is_same(old, &signal) => newest = Some(old.clone()),
                        _ => {
                            newest = Some(signal.clone());
                            signals.push(signal);
                        }
                    }
                }
                if state.bars.is_multiple_of(CHECKPOINT_BARS) {
                    checkpoints.push(Checkpoint {
                        last: bar.t,
                        state: state.encode(),
                    });
                }
            }
            stored.state = state.encode();
            stored.version += 1;
            let reached = stored.last;
            stored.high = match stored.high {
                Some(EVER) if rest.peek().is_none() && is_last => reached,
                high => high.max(reached),
            };
            let advance = Advance {
                before: *before,
                state: stored,
                signals: &signals,
                checkpoints: &checkpoints,
                nudge: Some(nudge),
            };
            self.store.advance_track(track, &advance, now).await?;
            *before = Some(stored.version);
        }
        Ok(newest)
    }

    /// A series has so many tracks; for another, the one goes that nobody has asked for for the longest time.
    async fn make_room(&self, track: &TrackId) -> Result<()> {
        let mut tracks = self
            .store
            .tracks(track.project, &track.series, track.timeframe)
            .await?;
        tracks.sort_by_key(|(_, stored)| stored.asked);
        let many = (tracks.len() + 1).saturating_sub(MAX_TRACKS);
        for (oldest, _) in tracks.iter().take(many) {
            self.store.forget_track(oldest).await?;
        }
        Ok(())
    }

    /// The latest revisions of signals that are there already, where the track was before.
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
        // Later revisions come later, and stay.
        Ok(found
            .into_iter()
            .map(|signal| (signal.bar, signal))
            .collect())
    }
}

/// Whether a signal need not be stored again: it says the same, from the same.
fn is_same(old: &Signal, new: &Signal) -> bool {
    old.says_the_same_as(new) && old.bar_rev == new.bar_rev && old.score == new.score
}
