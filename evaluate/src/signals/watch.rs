//! Watches: evaluates a signal, and notifies people when it changes.

use super::{MAX_ATTEMPTS, Progress};
use crate::Evaluate;
use thrum_schema::UnixMs;
use thrum_schema::alert::Alert;
use thrum_schema::id::{AlertId, ProjectId, WatchId};
use thrum_schema::signal::engine::Program;
use thrum_schema::signal::track::{Followed, Head, Signal, TrackId};
use thrum_schema::signal::watch::{Change, Judgement, On, View, Watch, WatchState};
use thrum_schema::signal::{CompiledStrategy, Verdict};
use thrum_store::Result;
use thrum_store::StoreError;
use thrum_store::trace;

/// Most earlier values that are judged one by one. More than that are an import.
const MAX_UNSEEN: usize = 100;

/// Which signal of a watch was judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Judged {
    /// The last one.
    Newest,
    /// An earlier one; there is more to do.
    Earlier,
}

impl Evaluate {
    /// Whether the timer of a watch is still valid. 1 RU.
    pub(crate) async fn is_watch_timer_valid(&self, watch: WatchId, epoch: u32) -> Result<bool> {
        let state = self.store.watch_state(watch).await?;
        Ok(state.is_some_and(|state| state.epoch == epoch))
    }

    /// Evaluates the signal of a watch, and notifies people if it changed. The state, the alert
    /// with its audit, and the next timer are one transaction, guarded by the version of the state.
    /// A watch with a schedule is evaluated only if its timer or a person requested it (`asked`).
    pub(crate) async fn evaluate_watch(
        &self,
        project: ProjectId,
        id: WatchId,
        budget: &mut usize,
        asked: bool,
    ) -> Result<Progress<()>> {
        let mut conflicts = 0;
        while conflicts < MAX_ATTEMPTS {
            match self.evaluate_watch_once(project, id, budget, asked).await {
                Err(StoreError::Conflict) => conflicts += 1,
                Ok(Progress::Done(Judged::Earlier)) => {}
                Ok(Progress::Done(Judged::Newest)) => return Ok(Progress::Done(())),
                Ok(Progress::More) => return Ok(Progress::More),
                Err(StoreError::Corrupt(error)) => {
                    // It must not hold up the others. An operator must fix the item.
                    tracing::error!(%error, watch = %id, "skipped a watch that needs an item that can't be read");
                    return Ok(Progress::Done(()));
                }
                Err(error) => return Err(error),
            }
        }
        Err(StoreError::Conflict)
    }

    async fn evaluate_watch_once(
        &self,
        project: ProjectId,
        id: WatchId,
        budget: &mut usize,
        asked: bool,
    ) -> Result<Progress<Judged>> {
        // Read the state first: a change of the watch changes it too, so that the write below
        // conflicts.
        let state = self.store.watch_state(id).await?;
        let watch = self.store.watch(project, id).await?;
        let (Some(watch), Some(state)) = (watch, state) else {
            return Ok(Progress::Done(Judged::Newest));
        };
        if watch.on != On::Bar && !asked {
            return Ok(Progress::Done(Judged::Newest));
        }
        let now = self.store.world().now();
        if watch.expires.is_some_and(|end| end <= now) {
            if state.due.is_some() {
                self.suspend(&watch, state, None, None, now).await?;
            }
            return Ok(Progress::Done(Judged::Newest));
        }
        let (compiled, version) = match self.compiled_of(&watch).await? {
            Ok(found) => found,
            Err(error) => {
                self.record_error(&watch, state, error, now).await?;
                return Ok(Progress::Done(Judged::Newest));
            }
        };
        let head = self
            .store
            .head(project, &watch.series, watch.timeframe)
            .await?;
        let head = head.unwrap_or_else(|| Head::new(&watch.series, watch.timeframe));
        let program = Program::new(compiled.along(Some(&head)));
        let track = TrackId::new(
            project,
            &watch.series,
            &watch.strategy,
            version,
            program.compiled(),
        );
        let of = Followed::new(&watch.strategy, version, program.compiled());
        let followed = self.follow(&track, (&program, &of), &head, budget, true);
        let newest = match followed.await? {
            Progress::Done(newest) => newest,
            Progress::More => return Ok(Progress::More),
        };
        let now = self.store.world().now();
        let baseline = match (state.signal, watch.from) {
            (None, Some(bar)) => self.verdict_at(&track, Some(bar)).await?,
            _ => None,
        };
        let changed_at = state.change.map(|change| change.bar);
        let view = View {
            recent: &[],
            baseline: baseline.unwrap_or(Verdict::Warming),
            at_change: self.verdict_at(&track, changed_at).await?,
            version,
            stale_at: None,
            now,
        };
        let mut judged = state.clone();
        let is_detector = program.compiled().detector.is_some();
        let bar = newest.as_ref().map(|newest| newest.bar);
        if is_detector {
            for signal in self.unseen(&track, &watch, &state, bar).await? {
                let recent = std::slice::from_ref(&signal);
                let mut judgement = watch.judge(&judged, &View { recent, ..view });
                judgement.state.seen = Some(signal.bar);
                if judgement.notifies.is_some() {
                    self.write_evaluation(&watch, state, judgement, Some(&signal), &program, now)
                        .await?;
                    return Ok(Progress::Done(Judged::Earlier));
                }
                judged = judgement.state;
            }
        }
        let recent = self.recent(&track, &watch, newest).await?;
        let view = View {
            recent: &recent,
            stale_at: recent.first().and_then(|newest| {
                let heard = head.heard.unwrap_or_default();
                let received = heard.max(watch.created);
                program.compiled().stale_at(newest.bar, received)
            }),
            ..view
        };
        let mut judgement = watch.judge(&judged, &view);
        if is_detector {
            judgement.state.seen = bar;
        }
        self.write_evaluation(&watch, state, judgement, recent.first(), &program, now)
            .await?;
        Ok(Progress::Done(Judged::Newest))
    }

    /// The signals before the last one, at `newest`, that a watch with a detector has not judged
    /// yet, in order of time: at most [`MAX_UNSEEN`]. Several values in a request are each judged.
    async fn unseen(
        &self,
        track: &TrackId,
        watch: &Watch,
        state: &WatchState,
        newest: Option<UnixMs>,
    ) -> Result<Vec<Signal>> {
        let Some(newest) = newest else {
            return Ok(Vec::new());
        };
        if watch.confirm_bars > 1 || watch.on != On::Bar {
            return Ok(Vec::new());
        }
        let from = state.seen.or(watch.from).map_or(UnixMs(0), |bar| bar + 1);
        // Usually, one bar has arrived.
        let next = from - 1 + watch.timeframe.ms().unwrap_or(1);
        if next >= newest {
            return Ok(Vec::new());
        }
        let found = self
            .store
            .signals(track, from, newest - 1, Some(MAX_UNSEEN), true)
            .await?;
        // Newest first, and superseded revisions after the latest of their bar.
        let mut unseen: Vec<Signal> = Vec::new();
        for signal in found {
            if unseen.last().is_none_or(|later| signal.bar < later.bar) {
                unseen.push(signal);
            }
        }
        unseen.reverse();
        Ok(unseen)
    }

    /// The verdict of a bar's signal.
    async fn verdict_at(&self, track: &TrackId, bar: Option<UnixMs>) -> Result<Option<Verdict>> {
        let Some(bar) = bar else {
            return Ok(None);
        };
        let signal = self.signal_of(track, bar).await?;
        Ok(signal.map(|signal| signal.verdict))
    }

    /// Records why a watch can't be evaluated, unless that is recorded already and its timer is
    /// armed.
    async fn record_error(
        &self,
        watch: &Watch,
        state: WatchState,
        error: String,
        now: UnixMs,
    ) -> Result<()> {
        let next = match &watch.on {
            On::Bar => None,
            On::Schedule(schedule) => schedule.next_after(now),
        };
        let armed = state.due.is_some_and(|due| due > now) || (state.due, next) == (None, None);
        if state.error.as_ref() == Some(&error) && armed {
            return Ok(());
        }
        self.suspend(watch, state, Some(error), next, now).await
    }

    /// Records that a watch failed or expired, and when it is evaluated next, if at all.
    async fn suspend(
        &self,
        watch: &Watch,
        state: WatchState,
        error: Option<String>,
        next: Option<UnixMs>,
        now: UnixMs,
    ) -> Result<()> {
        let state = WatchState {
            error,
            due: next,
            epoch: state.epoch.wrapping_add(1),
            ..state
        };
        self.store
            .put_watch_state(watch, &state, None, next, now)
            .await
    }

    /// Writes the outcome of an evaluation, unless nothing changed.
    async fn write_evaluation(
        &self,
        watch: &Watch,
        before: WatchState,
        judgement: Judgement,
        newest: Option<&Signal>,
        program: &Program,
        now: UnixMs,
    ) -> Result<()> {
        let mut state = judgement.state;
        let alert = match (judgement.notifies, newest) {
            (Some((from, to, undone)), Some(newest)) => {
                let change = change(watch, program, newest, (from, to), undone, now);
                let id = AlertId(self.store.world().uuid_v7(now));
                let prev = state.alert.replace(id);
                Some(Alert::of_signal(
                    id,
                    watch.project,
                    watch.targets.clone(),
                    change,
                    prev,
                ))
            }
            _ => None,
        };
        // A watch has one valid timer. A later due time is handled when it fires; an earlier one
        // replaces it.
        let armed = before.due.filter(|due| *due > now);
        let timer = match (armed, judgement.due) {
            (Some(armed), Some(due)) if armed <= due => None,
            (None, None) if before.due.is_none() => None,
            (_, due) => {
                state.due = due;
                state.epoch = state.epoch.wrapping_add(1);
                due
            }
        };
        if state == before {
            return Ok(());
        }
        self.store
            .put_watch_state(watch, &state, alert.as_ref(), timer, now)
            .await
    }

    /// The last signals, newest first, one per bar: as many as are needed to confirm a change.
    async fn recent(
        &self,
        track: &TrackId,
        watch: &Watch,
        newest: Option<Signal>,
    ) -> Result<Vec<Signal>> {
        let wanted = watch.confirm_bars.max(1) as usize;
        if wanted == 1 {
            return Ok(newest.into_iter().collect());
        }
        let mut recent: Vec<Signal> = Vec::new();
        let mut to = UnixMs::LATEST;
        while recent.len() < wanted {
            // They include superseded revisions, each after the latest of its bar.
            let found = self
                .store
                .signals(track, UnixMs(0), to, Some(2 * wanted), true)
                .await?;
            let Some(last) = found.last().map(|signal| signal.bar) else {
                break;
            };
            for signal in found {
                if recent.last().is_none_or(|later| signal.bar < later.bar) {
                    recent.push(signal);
                }
            }
            to = last - 1;
        }
        recent.truncate(wanted);
        Ok(recent)
    }

    /// The current signal of a bar.
    async fn signal_of(&self, track: &TrackId, bar: UnixMs) -> Result<Option<Signal>> {
        let found = self.store.signal_at(track, bar).await?;
        Ok(found.filter(|signal| signal.bar == bar))
    }

    /// The strategy of a watch, compiled, with its version; or a readable reason why it can't be
    /// compiled.
    async fn compiled_of(
        &self,
        watch: &Watch,
    ) -> Result<std::result::Result<(CompiledStrategy, u32), String>> {
        let Some((strategy, version)) = self.strategy(watch.project, &watch.strategy, None).await?
        else {
            return Ok(Err(format!(
                "the strategy {} no longer exists",
                watch.strategy
            )));
        };
        Ok(strategy
            .compile(watch.mode.as_deref(), &watch.params, watch.timeframe)
            .map(|compiled| (compiled, version))
            .map_err(|error| format!("the strategy no longer fits this watch: {error}")))
    }
}

fn change(
    watch: &Watch,
    program: &Program,
    newest: &Signal,
    (from, to): (Verdict, Verdict),
    undone: bool,
    now: UnixMs,
) -> Change {
    let age_ms = (now - watch.timeframe.close_of(newest.bar)).max(0);
    let mut explanation = newest.explanation.clone();
    if to == Verdict::Stale {
        explanation.summary = format!(
            "Unknown: no new bar has arrived. The last explanation was: {}",
            explanation.summary
        );
    }
    if undone {
        let why = if program.compiled().detector.is_some() {
            "The earlier alert no longer holds: its values were corrected, or accepted as normal."
        } else {
            "A correction of past bars undid the change that you were notified of."
        };
        explanation.summary = format!("{why} {}", explanation.summary);
    }
    Change {
        watch: watch.id,
        name: watch.name.clone(),
        series: watch.series.clone(),
        timeframe: watch.timeframe,
        strategy: watch.strategy.clone(),
        mode: program.compiled().mode.clone(),
        from,
        to,
        bar: newest.bar,
        close: newest.close,
        age_s: age_ms / 1000,
        undone,
        explanation,
        trace: trace::current(),
    }
}
