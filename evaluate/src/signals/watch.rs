//! Watches: a look at a signal, and what people are told of it.

use super::follow::EVER;
use super::{MAX_ATTEMPTS, Progress};
use crate::Evaluate;
use crate::engine::Program;
use thrum_schema::UnixMs;
use thrum_schema::alert::Alert;
use thrum_schema::id::{AlertId, ProjectId, WatchId};
use thrum_schema::signal::Verdict;
use thrum_schema::signal::track::{Followed, Head, Signal, TrackId};
use thrum_schema::signal::watch::{Change, Judgement, Memory, On, View, Watch};
use thrum_store::Result;
use thrum_store::StoreError;

impl Evaluate {
    /// Whether the timer of a watch still means anything. 1 RU.
    pub(crate) async fn watch_waits(&self, watch: WatchId, epoch: u32) -> Result<bool> {
        let memory = self.store.memory(watch).await?;
        Ok(memory.is_some_and(|memory| memory.epoch == epoch))
    }

    /// Looks at the signal of a watch, and tells people if it changed: the memory, the alert with its audit, and the timer
    /// that looks again are one transaction, guarded by the memory's version. A watch with a schedule looks only when that
    /// or a person says so (`asked`).
    pub(crate) async fn look_at_watch(
        &self,
        project: ProjectId,
        id: WatchId,
        budget: &mut usize,
        asked: bool,
    ) -> Result<Progress<()>> {
        for _ in 0..MAX_ATTEMPTS {
            match self.look_once(project, id, budget, asked).await {
                Err(StoreError::Conflict) => {}
                Err(StoreError::Corrupt(error)) => {
                    // It must not hold up the others; somebody will mend it.
                    tracing::error!(%error, watch = %id, "a watch can't look");
                    return Ok(Progress::Done(()));
                }
                result => return result,
            }
        }
        Err(StoreError::Conflict)
    }

    async fn look_once(
        &self,
        project: ProjectId,
        id: WatchId,
        budget: &mut usize,
        asked: bool,
    ) -> Result<Progress<()>> {
        // The memory first: whoever changes the watch changes it too, and what is written here then fails.
        let memory = self.store.memory(id).await?;
        let watch = self.store.watch(project, id).await?;
        let (Some(watch), Some(memory)) = (watch, memory) else {
            return Ok(Progress::Done(()));
        };
        if watch.on != On::Bar && !asked {
            return Ok(Progress::Done(()));
        }
        let now = self.store.world().now();
        if watch.expires.is_some_and(|end| end <= now) {
            if memory.due.is_some() {
                self.rest(&watch, memory, None, None, now).await?;
            }
            return Ok(Progress::Done(()));
        }
        let (program, version) = match self.program_of(&watch).await? {
            Ok(found) => found,
            Err(error) => {
                let next = match &watch.on {
                    On::Bar => None,
                    On::Schedule(schedule) => schedule.next_after(now),
                };
                let waits =
                    memory.due.is_some_and(|due| due > now) || (memory.due, next) == (None, None);
                if memory.error.as_ref() != Some(&error) || !waits {
                    self.rest(&watch, memory, Some(error), next, now).await?;
                }
                return Ok(Progress::Done(()));
            }
        };
        let head = self
            .store
            .head(project, &watch.series, watch.timeframe)
            .await?;
        let head = head.unwrap_or_else(|| Head::new(&watch.series, watch.timeframe));
        let track = TrackId::new(
            project,
            &watch.series,
            &watch.strategy,
            version,
            program.plan(),
        );
        let of = Followed::new(&watch.strategy, version, program.plan());
        let followed = self.follow(&track, (&program, &of), &head, budget, true);
        let newest = match followed.await? {
            Progress::Done(newest) => newest,
            Progress::More => return Ok(Progress::More),
        };
        let recent = self.recent(&track, &watch, newest).await?;
        let at_change = match memory.change {
            Some(ref change) => self
                .signal_of(&track, change.bar)
                .await?
                .map(|signal| signal.verdict),
            None => None,
        };
        let now = self.store.world().now();
        let view = View {
            recent: &recent,
            baseline: match (memory.told, watch.from) {
                (None, Some(bar)) => {
                    let signal = self.signal_of(&track, bar).await?;
                    signal.map_or(Verdict::Warming, |signal| signal.verdict)
                }
                _ => Verdict::Warming,
            },
            at_change,
            version,
            heard: head.heard,
            now,
        };
        let judgement = watch.judge(&memory, &view);
        self.conclude_look(&watch, memory, judgement, recent.first(), &program, now)
            .await?;
        Ok(Progress::Done(()))
    }

    /// Notes that a watch can't look, or has nothing to look for any more, and when it tries again.
    async fn rest(
        &self,
        watch: &Watch,
        memory: Memory,
        error: Option<String>,
        next: Option<UnixMs>,
        now: UnixMs,
    ) -> Result<()> {
        let memory = Memory {
            error,
            due: next,
            epoch: memory.epoch.wrapping_add(1),
            ..memory
        };
        self.store.remember(watch, &memory, None, next, now).await
    }

    /// Writes what a look came to, if it came to anything.
    async fn conclude_look(
        &self,
        watch: &Watch,
        before: Memory,
        judgement: Judgement,
        newest: Option<&Signal>,
        program: &Program,
        now: UnixMs,
    ) -> Result<()> {
        let mut memory = judgement.memory;
        let alert = match (judgement.tells, newest) {
            (Some((from, to, undone)), Some(newest)) => {
                let change = change(watch, program, newest, (from, to), undone, now);
                let id = AlertId(self.store.world().uuid_v7(now));
                let prev = memory.alert.replace(id);
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
        // One timer waits for a watch: a later look is found when it fires, an earlier one takes its place.
        let waits = before.due.filter(|due| *due > now);
        let timer = match (waits, judgement.due) {
            (Some(waits), Some(due)) if waits <= due => None,
            (None, None) if before.due.is_none() => None,
            (_, due) => {
                memory.due = due;
                memory.epoch = memory.epoch.wrapping_add(1);
                due
            }
        };
        if memory == before {
            return Ok(());
        }
        self.store
            .remember(watch, &memory, alert.as_ref(), timer, now)
            .await
    }

    /// The last signals, newest first, one a bar: as many as are to be confirmed.
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
        let mut to = EVER;
        while recent.len() < wanted {
            // Superseded revisions are among them, after their bar's latest.
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

    /// The signal of a bar, as it now is.
    async fn signal_of(&self, track: &TrackId, bar: UnixMs) -> Result<Option<Signal>> {
        let found = self.store.signal_at(track, bar).await?;
        Ok(found.filter(|signal| signal.bar == bar))
    }

    /// The strategy of a watch, made ready; or why it can't be.
    async fn program_of(
        &self,
        watch: &Watch,
    ) -> Result<std::result::Result<(Program, u32), String>> {
        let Some((strategy, version)) = self.strategy(watch.project, &watch.strategy, None).await?
        else {
            return Ok(Err(format!(
                "there is no strategy {} any more",
                watch.strategy
            )));
        };
        Ok(strategy
            .plan(watch.mode.as_deref(), &watch.params, watch.timeframe)
            .map(|plan| (Program::new(plan), version))
            .map_err(|error| format!("the strategy has changed: {error}")))
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
            "Unknown, for no bar came since. What it said last: {}",
            explanation.summary
        );
    }
    if undone {
        explanation.summary = format!(
            "A correction of past bars undid the change that you were told of. {}",
            explanation.summary
        );
    }
    Change {
        watch: watch.id,
        name: watch.name.clone(),
        series: watch.series.clone(),
        timeframe: watch.timeframe,
        strategy: watch.strategy.clone(),
        mode: program.plan().mode.clone(),
        from,
        to,
        bar: newest.bar,
        close: newest.close,
        age_s: age_ms / 1000,
        undone,
        explanation,
    }
}
