//! Watches: standing requests that notify users when a signal changes.

use super::series::{SeriesName, Timeframe};
use super::track::Signal;
use super::{Explanation, Verdict};
use crate::id::{AlertId, ProjectId, WatchId};
use crate::schedule::Schedule;
use crate::targets::Targets;
use crate::time::UnixMs;
use crate::trace::TraceId;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Maximum watches per project.
pub const MAX_WATCHES: usize = 200;
/// Maximum watches per series.
pub const MAX_WATCHES_OF_SERIES: usize = 50;
/// Maximum for [`Watch::confirm_bars`].
pub const MAX_CONFIRM_BARS: u32 = 100;

/// When a watch checks its signal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum On {
    /// At every closed bar.
    Bar,
    /// On a schedule.
    Schedule(Schedule),
}

/// A watch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Watch {
    /// Its ID.
    pub id: WatchId,
    /// The project that owns it.
    pub project: ProjectId,
    /// The display name.
    pub name: String,
    /// The series.
    pub series: SeriesName,
    /// Its timeframe.
    pub timeframe: Timeframe,
    /// The strategy; its latest version is used.
    pub strategy: String,
    /// Its mode; `None` for the strategy's default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<String>,
    /// The parameters given.
    #[serde(with = "super::track::json_text")]
    pub params: BTreeMap<String, f64>,
    /// When it checks its signal.
    pub on: On,
    /// Whom it notifies.
    pub targets: Targets,
    /// The minimum time between two notifications, in seconds.
    pub cooldown_s: u32,
    /// How many bars in a row must have a signal before it counts.
    pub confirm_bars: u32,
    /// When it expires.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<UnixMs>,
    /// The last bar when it was created: the signal there is what users know.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<UnixMs>,
    /// When it was created.
    pub created: UnixMs,
}

/// What a watch remembers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct WatchState {
    /// Incremented with every write, and guards it.
    pub version: u64,
    /// The signal that users believe.
    #[serde(rename = "told", skip_serializing_if = "Option::is_none")]
    pub signal: Option<Verdict>,
    /// The bar at which the signal became that.
    #[serde(rename = "told_bar", skip_serializing_if = "Option::is_none")]
    pub signal_bar: Option<UnixMs>,
    /// The last bar that was judged; only kept for detectors, which judge every value.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seen: Option<UnixMs>,
    /// The last change that users were notified of, unless it was STALE.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub change: Option<Notified>,
    /// When users were last notified.
    #[serde(rename = "told_at", skip_serializing_if = "Option::is_none")]
    pub notified_at: Option<UnixMs>,
    /// The last alert, which the next one follows (A8).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alert: Option<AlertId>,
    /// How many notifications it sent.
    pub alerts: u64,
    /// Timers of another epoch are void.
    pub epoch: u32,
    /// When the timer for the next check is due.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub due: Option<UnixMs>,
    /// When it last checked on its schedule.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub looked: Option<UnixMs>,
    /// Why it cannot check.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// A change that users were notified of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notified {
    /// The bar of the change.
    pub bar: UnixMs,
    /// The signal in the notification.
    pub to: Verdict,
    /// The version of the strategy.
    pub version: u32,
}

/// A change of a signal that users are notified of: the alert's own copy.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Change {
    /// The watch.
    pub watch: WatchId,
    /// The watch's name.
    pub name: String,
    /// The series.
    pub series: SeriesName,
    /// Its timeframe.
    pub timeframe: Timeframe,
    /// The strategy.
    pub strategy: String,
    /// Its mode.
    pub mode: String,
    /// The signal before.
    pub from: Verdict,
    /// The signal after.
    pub to: Verdict,
    /// The bar of the change.
    pub bar: UnixMs,
    /// The bar's close.
    pub close: f64,
    /// The age of the data, in seconds.
    pub age_s: i64,
    /// Whether a correction of past bars undid the change that users were notified of.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub undone: bool,
    /// Why.
    pub explanation: Explanation,
    /// The run of the stream or the schedule that found it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace: Option<TraceId>,
}

// The floats are finite, and are only compared for identity.
impl Eq for Change {}

impl Change {
    /// Whether a detector found it, so that it says nothing about buying and selling.
    pub fn is_of_a_detector(&self) -> bool {
        let decides = |verdict: Verdict| verdict.is_anomalous() || verdict == Verdict::Normal;
        decides(self.from) || decides(self.to)
    }
}

/// The input of a check.
#[derive(Debug, Clone, Copy)]
pub struct View<'a> {
    /// The latest signals, newest first, one per bar: as many as must be confirmed, if available.
    pub recent: &'a [Signal],
    /// The signal at the bar that was the last one when the watch was created.
    pub baseline: Verdict,
    /// The current signal at the bar of the last change.
    pub at_change: Option<Verdict>,
    /// The version of the strategy that gave these signals.
    pub version: u32,
    /// When the newest bar becomes too old, if it does.
    pub stale_at: Option<UnixMs>,
    /// Now.
    pub now: UnixMs,
}

/// The result of a check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judgement {
    /// What the watch remembers from now on. The version is not incremented yet.
    pub state: WatchState,
    /// The notification, if any: the signal before, the signal after, and whether it undoes the
    /// last notified change.
    pub notifies: Option<(Verdict, Verdict, bool)>,
    /// When to check again at the latest.
    pub due: Option<UnixMs>,
    /// Whether the watch has expired.
    pub over: bool,
}

impl WatchState {
    /// Remembers a notification, and returns whether it undoes the last one: whether the bar of
    /// that one has another signal now.
    fn notify(&mut self, current: Verdict, view: &View<'_>) -> bool {
        let undone = self.change.is_some_and(|notified| {
            notified.version == view.version && view.at_change.is_some_and(|now| now != notified.to)
        });
        self.notified_at = Some(view.now);
        self.alerts += 1;
        let newest = view.recent.first().filter(|_| current != Verdict::Stale);
        self.change = newest.map(|signal| Notified {
            bar: signal.bar,
            to: current,
            version: view.version,
        });
        undone
    }
}

impl Watch {
    /// Checks the signal. Pure, and the only place that decides when to notify.
    ///
    /// Users are notified of changes from or to BUY or SELL, which let them act or remove the
    /// reason for an earlier action, and when bars stop arriving (STALE) or arrive again. Other
    /// changes, between HOLD and unknown, are recorded silently.
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
        let stale_at = view.stale_at;
        let current = self.current(view, stale_at);
        let cooled = state
            .notified_at
            .map(|at| at + i64::from(self.cooldown_s) * 1000);
        let cooling = cooled.filter(|end| *end > now && self.cooldown_s > 0);
        let mut notifies = None;
        let mut later = None;
        // An alert of a detector lasts until a value is normal again, or values stop coming.
        let says_nothing = |current: Verdict| {
            before.is_anomalous() && !current.is_known() && current != Verdict::Stale
        };
        let current = current.filter(|current| *current != before && !says_nothing(*current));
        if let Some(current) = current {
            let worth_notifying = |verdict: Verdict| verdict.acts() || verdict == Verdict::Stale;
            let worth = worth_notifying(before) || worth_notifying(current);
            match cooling {
                Some(end) if worth => later = Some(end),
                _ => {
                    if worth {
                        let undone = state.notify(current, view);
                        notifies = Some((before, current, undone));
                    }
                    state.signal = Some(current);
                    state.signal_bar = view.recent.first().map(|signal| signal.bar);
                }
            }
        }
        let scheduled = self.next_scheduled(&mut state, now);
        let goes_stale = stale_at.filter(|at| *at > now && self.on == On::Bar);
        let due = [goes_stale, later, scheduled, self.expires];
        Judgement {
            state,
            notifies,
            due: due.into_iter().flatten().min(),
            over: false,
        }
    }

    /// The next time of its schedule, if it has one. A time that has come counts as checked now.
    fn next_scheduled(&self, state: &mut WatchState, now: UnixMs) -> Option<UnixMs> {
        let On::Schedule(schedule) = &self.on else {
            return None;
        };
        let last = state.looked.unwrap_or(self.created);
        let next = schedule.next_after(last.max(self.created))?;
        if next > now {
            return Some(next);
        }
        state.looked = Some(now);
        schedule.next_after(now)
    }

    /// The current signal, if enough bars have it.
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
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signal::Verdict::{Buy, Gap, High, Hold, Low, Normal, Sell, Stale, Warming};

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
                expected: None,
                position: None,
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
            stale_at: recent.first().map(|signal| signal.bar + 3 * HOUR),
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
    fn changes_that_users_can_act_on_are_notified() {
        for (before, after, notifies) in [
            (Hold, Buy, true),
            (Buy, Sell, true),
            (Sell, Hold, true),
            (Buy, Gap, true),
            (Warming, Sell, true),
            (Hold, Gap, false),
            (Warming, Hold, false),
            (Buy, Buy, false),
            (Warming, Normal, false),
            (Normal, Low, true),
            (Low, High, true),
            (High, Normal, true),
        ] {
            let judgement = look(&watch(), &known(before), &[signal(NOW, after)], NOW);
            assert_eq!(judgement.notifies.is_some(), notifies, "{before} {after}");
            assert_eq!(judgement.state.signal, Some(after));
        }
    }

    #[test]
    fn a_detectors_alert_stays_until_recovery() {
        let low = known(Low);
        for unknown in [Gap, Warming] {
            let judgement = look(&watch(), &low, &[signal(NOW, unknown)], NOW);
            assert_eq!(
                (judgement.notifies, judgement.state.signal),
                (None, Some(Low))
            );
        }
        let stopped = look(&watch(), &low, &[signal(NOW, Low)], NOW + 2 * HOUR);
        assert_eq!(stopped.notifies, Some((Low, Stale, false)));
        let back = look(&watch(), &low, &[signal(NOW, Normal)], NOW);
        assert_eq!(back.notifies, Some((Low, Normal, false)));
    }

    #[test]
    fn a_notified_change_is_undone_only_if_its_bar_has_another_signal_now() {
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
                stale_at: Some(NOW + 3 * HOUR),
                now: NOW + HOUR,
            };
            watch.judge(state, &view).notifies.unwrap().2
        };
        // The signal turned; it was corrected; another version of the strategy disagrees.
        assert!(!notifies(&state, Some(Buy), 1));
        assert!(notifies(&state, Some(Hold), 1) && notifies(&state, Some(Sell), 1));
        assert!(!notifies(&state, Some(Hold), 2) && !notifies(&state, None, 1));
        // STALE is not a change at a bar.
        let stopped = look(&watch, &state, &[signal(NOW, Buy)], NOW + 3 * HOUR);
        assert_eq!(stopped.notifies, Some((Buy, Stale, false)));
        assert_eq!(stopped.state.change, None);
        assert!(!notifies(&stopped.state, Some(Buy), 1));
    }

    #[test]
    fn a_cooldown_delays_notifications_and_an_expiry_ends_the_watch() {
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
