//! Watches: standing requests, which tell people when a signal changes.

use super::series::{SeriesName, Timeframe};
use super::track::{STALE_BARS, Signal};
use super::{Explanation, Verdict};
use crate::id::{AlertId, ProjectId, WatchId};
use crate::schedule::Schedule;
use crate::targets::Targets;
use crate::time::UnixMs;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Most watches of a project, and of a series.
pub const MAX_WATCHES: usize = 200;
/// Most watches of a series.
pub const MAX_WATCHES_OF_SERIES: usize = 50;
/// Most bars that a change is confirmed over.
pub const MAX_CONFIRM_BARS: u32 = 100;

/// When a watch looks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum On {
    /// At every closed bar.
    Bar,
    /// By a schedule.
    Schedule(Schedule),
}

/// A watch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Watch {
    /// Its id.
    pub id: WatchId,
    /// The project that owns it.
    pub project: ProjectId,
    /// What people call it.
    pub name: String,
    /// The series.
    pub series: SeriesName,
    /// Its timeframe.
    pub timeframe: Timeframe,
    /// The strategy, in its latest version.
    pub strategy: String,
    /// Its mode; the strategy's default without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<String>,
    /// Its parameters, those that were given.
    #[serde(with = "super::track::json_text")]
    pub params: BTreeMap<String, f64>,
    /// When it looks.
    pub on: On,
    /// Whom it notifies.
    pub targets: Targets,
    /// After it told people, it notifies nothing for so many seconds.
    pub cooldown_s: u32,
    /// A signal counts once so many bars in a row have it.
    pub confirm_bars: u32,
    /// When it ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<UnixMs>,
    /// The last bar when it was made: the signal there is what people know.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<UnixMs>,
    /// When it was made.
    pub created: UnixMs,
}

/// What a watch remembers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct WatchState {
    /// Counts the writes, and guards them.
    pub version: u64,
    /// What people believe.
    #[serde(rename = "told", skip_serializing_if = "Option::is_none")]
    pub signal: Option<Verdict>,
    /// The bar at which it became so.
    #[serde(rename = "told_bar", skip_serializing_if = "Option::is_none")]
    pub signal_bar: Option<UnixMs>,
    /// The last change that they were told of, unless it was that bars stopped coming.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub change: Option<Notified>,
    /// When they were last told.
    #[serde(rename = "told_at", skip_serializing_if = "Option::is_none")]
    pub notified_at: Option<UnixMs>,
    /// By which alert: the next one follows it (A8).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alert: Option<AlertId>,
    /// How often they were told.
    pub alerts: u64,
    /// Timers of another epoch are void.
    pub epoch: u32,
    /// When the timer is due that will look again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub due: Option<UnixMs>,
    /// When it last looked by its schedule.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub looked: Option<UnixMs>,
    /// Why it can't look.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// A change that people were told of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notified {
    /// The bar at which it came.
    pub bar: UnixMs,
    /// What they were told that the signal is there.
    pub to: Verdict,
    /// By which version of the strategy.
    pub version: u32,
}

/// What people are told of a signal: an alert's own copy.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Change {
    /// The watch.
    pub watch: WatchId,
    /// What it is called.
    pub name: String,
    /// The series.
    pub series: SeriesName,
    /// Its timeframe.
    pub timeframe: Timeframe,
    /// The strategy.
    pub strategy: String,
    /// Its mode.
    pub mode: String,
    /// What people believed.
    pub from: Verdict,
    /// What it is.
    pub to: Verdict,
    /// The bar that it is so at.
    pub bar: UnixMs,
    /// The bar's close.
    pub close: f64,
    /// How old the data was, in seconds.
    pub age_s: i64,
    /// A correction of the past undid what they were told of.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub undone: bool,
    /// Why it is so.
    pub explanation: Explanation,
}

// Figures are finite and never compared for more than identity.
impl Eq for Change {}

/// What is known when a watch looks.
#[derive(Debug, Clone, Copy)]
pub struct View<'a> {
    /// The last signals, newest first, one a bar; as many as are to be confirmed, if there are.
    pub recent: &'a [Signal],
    /// The signal at the bar that was the last when the watch was made.
    pub baseline: Verdict,
    /// What the signal at the bar of the last change is now.
    pub at_change: Option<Verdict>,
    /// The version of the strategy that says so.
    pub version: u32,
    /// When bars last came.
    pub heard: Option<UnixMs>,
    /// Now.
    pub now: UnixMs,
}

/// What a look comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judgement {
    /// What the watch remembers from now on. Its version is not counted yet.
    pub state: WatchState,
    /// What people are told: before, after, and whether it undoes what they were told.
    pub notifies: Option<(Verdict, Verdict, bool)>,
    /// When to look again, whatever comes.
    pub due: Option<UnixMs>,
    /// It has ended.
    pub over: bool,
}

impl Watch {
    /// Looks at a signal: pure, and the only place that knows when people are told.
    ///
    /// They are told of a change that lets them do something, or takes the ground from what they did, from or to BUY or
    /// SELL; and that bars stopped coming (STALE), or come again. What else is between HOLD and not knowing is noted in
    /// silence.
    pub fn judge(&self, state: &WatchState, view: &View<'_>) -> Judgement {
        let now = view.now;
        let mut state = state.clone();
        state.error = None;
        if self.expires.is_some_and(|end| end <= now) {
            state.due = None;
            return Judgement {
                state,
                notifies: None,
                due: None,
                over: true,
            };
        }
        let before = *state.signal.get_or_insert(view.baseline);
        let stale_at = self.stale_at(view);
        let current = self.current(view, stale_at);
        let cooled = state
            .notified_at
            .map(|at| at + i64::from(self.cooldown_s) * 1000);
        let cooling = cooled.filter(|end| *end > now && self.cooldown_s > 0);
        let mut notifies = None;
        let mut later = None;
        if let Some(current) = current.filter(|current| *current != before) {
            let worth_notifying = |verdict: Verdict| verdict.acts() || verdict == Verdict::Stale;
            let worth = worth_notifying(before) || worth_notifying(current);
            match cooling {
                Some(end) if worth => later = Some(end),
                _ => {
                    let bar = view.recent.first().map(|signal| signal.bar);
                    if worth {
                        // The bar of which they were told says something else now.
                        let undone = state.change.is_some_and(|notified| {
                            notified.version == view.version
                                && view.at_change.is_some_and(|now| now != notified.to)
                        });
                        notifies = Some((before, current, undone));
                        state.notified_at = Some(now);
                        state.alerts += 1;
                        let notified = |bar| Notified {
                            bar,
                            to: current,
                            version: view.version,
                        };
                        state.change = bar
                            .map(notified)
                            .filter(|notified| notified.to != Verdict::Stale);
                    }
                    state.signal = Some(current);
                    state.signal_bar = bar;
                }
            }
        }
        let scheduled = match &self.on {
            On::Bar => None,
            On::Schedule(schedule) => {
                let last = state.looked.unwrap_or(self.created);
                let next = schedule.next_after(last.max(self.created));
                match next {
                    Some(next) if next <= now => {
                        state.looked = Some(now);
                        schedule.next_after(now)
                    }
                    next => next,
                }
            }
        };
        let goes_stale = stale_at.filter(|at| *at > now && self.on == On::Bar);
        let due = [goes_stale, later, scheduled, self.expires];
        Judgement {
            state,
            notifies,
            due: due.into_iter().flatten().min(),
            over: false,
        }
    }

    /// What the signal is, if enough bars have it.
    fn current(&self, view: &View<'_>, stale_at: Option<UnixMs>) -> Option<Verdict> {
        let newest = view.recent.first()?;
        if stale_at.is_some_and(|at| at <= view.now) {
            return Some(Verdict::Stale);
        }
        let enough = self.confirm_bars.max(1) as usize;
        let mut same = view.recent.iter().take(enough);
        let confirmed = view.recent.len() >= enough && same.all(|s| s.verdict == newest.verdict);
        confirmed.then_some(newest.verdict)
    }

    /// When the newest bar is too old: some timeframes after its close, or after it came, or the watch was made, if that was
    /// later.
    fn stale_at(&self, view: &View<'_>) -> Option<UnixMs> {
        let newest = view.recent.first()?;
        let ms = self.timeframe.ms()?;
        let closed = self.timeframe.close_of(newest.bar);
        let heard = view.heard.unwrap_or(closed).max(self.created);
        Some(closed.max(heard) + STALE_BARS * ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signal::Verdict::{Buy, Gap, Hold, Sell, Stale, Warming};

    const HOUR: i64 = 3_600_000;
    const NOW: UnixMs = UnixMs(1_763_697_600_000);

    fn watch() -> Watch {
        Watch {
            id: WatchId(uuid::Uuid::from_u128(1)),
            project: ProjectId::FIRST,
            name: "w".into(),
            series: SeriesName::parse("series", "x").unwrap(),
            timeframe: Timeframe::HOUR,
            strategy: "s".into(),
            mode: None,
            params: BTreeMap::new(),
            on: On::Bar,
            targets: Targets::All,
            cooldown_s: 0,
            confirm_bars: 1,
            expires: None,
            from: None,
            created: NOW - 100 * HOUR,
        }
    }

    /// The signal of the bar that closes at `at`.
    fn signal(at: UnixMs, verdict: Verdict) -> Signal {
        Signal {
            bar: at - HOUR,
            revision: 0,
            verdict,
            close: 1.0,
            explanation: Explanation {
                conditions: Vec::new(),
                changed: Vec::new(),
                summary: String::new(),
            },
            bar_rev: 0,
            score: None,
            computed: at,
        }
    }

    fn look(watch: &Watch, state: &WatchState, recent: &[Signal], now: UnixMs) -> Judgement {
        let view = View {
            recent,
            baseline: Warming,
            at_change: None,
            version: 1,
            heard: recent.first().map(|signal| signal.bar + HOUR),
            now,
        };
        watch.judge(state, &view)
    }

    fn known(verdict: Verdict) -> WatchState {
        WatchState {
            signal: Some(verdict),
            ..WatchState::default()
        }
    }

    #[test]
    fn people_are_told_of_what_lets_them_do_something_or_takes_its_ground() {
        for (before, after, notifies) in [
            (Hold, Buy, true),
            (Buy, Sell, true),
            (Sell, Hold, true),
            (Buy, Gap, true),
            (Warming, Sell, true),
            (Hold, Gap, false),
            (Warming, Hold, false),
            (Buy, Buy, false),
        ] {
            let judgement = look(&watch(), &known(before), &[signal(NOW, after)], NOW);
            assert_eq!(judgement.notifies.is_some(), notifies, "{before} {after}");
            assert_eq!(judgement.state.signal, Some(after));
        }
    }

    #[test]
    fn what_people_were_told_is_undone_only_if_that_bar_says_something_else_now() {
        let (watch, first) = (watch(), signal(NOW, Buy));
        let state = look(&watch, &known(Hold), &[first], NOW).state;
        let change = state.change.unwrap();
        assert_eq!((change.bar, change.to), (NOW - HOUR, Buy));
        let later = [signal(NOW + HOUR, Sell)];
        let notifies = |state: &WatchState, at_change, version| {
            let view = View {
                recent: &later,
                baseline: Warming,
                at_change,
                version,
                heard: None,
                now: NOW + HOUR,
            };
            watch.judge(state, &view).notifies.unwrap().2
        };
        // It turned; it was corrected; another version of the strategy sees it otherwise.
        assert!(!notifies(&state, Some(Buy), 1));
        assert!(notifies(&state, Some(Hold), 1) && notifies(&state, Some(Sell), 1));
        assert!(!notifies(&state, Some(Hold), 2) && !notifies(&state, None, 1));
        // That bars stopped coming is no change at a bar.
        let stopped = look(&watch, &state, &[signal(NOW, Buy)], NOW + 3 * HOUR);
        assert_eq!(stopped.notifies, Some((Buy, Stale, false)));
        assert_eq!(stopped.state.change, None);
        assert!(!notifies(&stopped.state, Some(Buy), 1));
    }

    #[test]
    fn a_cooldown_puts_off_and_an_end_ends() {
        let watch = Watch {
            cooldown_s: 600,
            expires: Some(NOW + HOUR),
            ..watch()
        };
        let state = look(&watch, &known(Hold), &[signal(NOW, Buy)], NOW).state;
        let soon = look(&watch, &state, &[signal(NOW, Sell)], NOW + 60_000);
        assert_eq!((soon.notifies, soon.due), (None, Some(NOW + 600_000)));
        assert_eq!(soon.state.signal, Some(Buy));
        let after = look(&watch, &soon.state, &[signal(NOW, Sell)], NOW + 600_000);
        assert_eq!(after.notifies, Some((Buy, Sell, false)));
        assert_eq!(after.due, Some(NOW + HOUR));
        let over = look(&watch, &after.state, &[signal(NOW, Buy)], NOW + HOUR);
        assert!(over.over && over.notifies.is_none() && over.due.is_none());
    }
}
