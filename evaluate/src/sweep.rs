//! The sweep: handles every due timer, deletes it, and only then advances the cursor (T2).

use crate::deadlines::postponed;
use crate::{BusError, Evaluate};
use futures::{StreamExt, stream};
use std::collections::BTreeSet;
use thiserror::Error;
use thrum_schema::alert::ALERT_TTL_S;
use thrum_schema::id::{AlertId, ChannelId, ProjectId};
use thrum_schema::mutant::{self, Mutant};
use thrum_schema::timer::{Timer, What};
use thrum_schema::work::{EvaluateWork, NotifyWork, Work};
use thrum_schema::{DeliveryState, UnixMs};
use thrum_store::StoreError;
use thrum_store::TimerItem;
use thrum_store::key::Key;

/// How far the cursor stays behind the clock, in minutes, so that a timer that was written late is
/// still found.
const OVERLAP_MIN: i64 = 2;
/// How much further the cursor may fall behind before an idle sweep advances it, in minutes. This
/// saves the write in four of five sweeps.
const IDLE_LAG_MIN: i64 = 5;
/// Most minutes of timers that one sweep reads. After a long outage, several sweeps catch up.
const MAX_MINUTES: i64 = 5_000;
/// Longest time that one sweep takes before it leaves the rest to the next, in milliseconds.
const MAX_MS: i64 = 40_000;
/// How long a sweeper's claim on a shard lasts, in milliseconds.
const CLAIM_MS: i64 = 55_000;
/// Where the sweep of a shard without a cursor starts, in minutes before now. This should not
/// happen: every installation creates its cursors first.
const NO_CURSOR_MIN: i64 = 24 * 60;
/// How many timer items are handled per round, before the clock is read again.
const ROUND: usize = 40;
/// How long a round may take before its `now` is too old to arm timers with, in milliseconds (T2).
const ROUND_MS: i64 = 30_000;
/// How many timers are checked concurrently.
const CONCURRENCY: usize = 16;
/// Shortest and longest time between two audits of an alert, in milliseconds.
const AUDIT_MS: std::ops::RangeInclusive<i64> = 30_000..=300_000;

/// How long after its timer fired a delivery is checked again, in milliseconds.
const DELIVER_AGAIN_MS: i64 = 60_000;

/// How long after its timer fired a watch, request or subscription is checked again, in
/// milliseconds.
const WORK_AGAIN_MS: i64 = 60_000;

/// What a sweep did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Swept {
    /// How many timers fired.
    pub fired: usize,
    /// How many monitors went down.
    pub flips: usize,
    /// When the next known timer is due.
    pub next_due: Option<UnixMs>,
    /// How far behind the shard was at the start, in milliseconds, not counting the intended lag of
    /// its cursor.
    pub lag_ms: i64,
    /// Whether another sweeper has claimed the shard; then nothing was done.
    pub busy: bool,
}

/// Why a sweep stopped. The next one handles the rest.
#[derive(Debug, Error)]
pub enum SweepError {
    /// The table failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The bus failed.
    #[error(transparent)]
    Bus(#[from] BusError),
    /// A round took so long that its `now` is too old to arm timers with (T2).
    #[error("a round of timers took more than {} s; the next sweep handles the rest", ROUND_MS / 1000)]
    TooSlow,
}

impl Evaluate {
    /// Sweeps one shard. When nothing is due, it costs one read for the cursor, one read for each
    /// minute since, and one write every five minutes.
    ///
    /// # Errors
    /// The table or the bus failed, or a round was too slow. Nothing is lost: the next sweep finds
    /// unfinished timers again.
    pub async fn sweep(&self, shard: u16) -> Result<Swept, SweepError> {
        let started = self.store.world().now();
        let read = self.store.cursor(shard).await?.low;
        let mut low = read.unwrap_or(started.minute() - NO_CURSOR_MIN);
        if !mutant::is(Mutant::StepIgnored) && low > started.minute() {
            // The clock was set back: what is armed now is due before the cursor.
            low = started.minute() - OVERLAP_MIN;
        }
        let mut swept = Swept {
            lag_ms: behind_ms(low, started),
            ..Swept::default()
        };
        let mut claimed = false;
        let mut minute = low;
        let may_continue = |minute: i64| {
            let now = self.store.world().now();
            minute <= now.minute() && minute - low < MAX_MINUTES && now - started < MAX_MS
        };
        while may_continue(minute) {
            let now = self.store.world().now();
            let (items, next) = self.store.due_timers(shard, minute, now, ROUND).await?;
            if items.is_empty() {
                swept.next_due = earlier(swept.next_due, next);
                minute += 1;
                continue;
            }
            if !claimed {
                let until = now + CLAIM_MS;
                claimed = self
                    .store
                    .claim_shard(shard, &self.name, until, now)
                    .await?;
                if !claimed {
                    return Ok(Swept {
                        busy: true,
                        ..swept
                    });
                }
            }
            self.handle(&items, now, &mut swept).await?;
        }
        let target = if mutant::is(Mutant::CursorTooFar) {
            minute
        } else {
            minute.min(started.minute() - OVERLAP_MIN)
        };
        if claimed || low + IDLE_LAG_MIN <= target {
            let target = target.max(low);
            self.store
                .advance_cursor(shard, &self.name, (read, target), started)
                .await?;
        }
        Ok(swept)
    }

    /// Handles a round of timers. They are deleted only after all their effects (T2).
    async fn handle(
        &self,
        items: &[TimerItem],
        now: UnixMs,
        swept: &mut Swept,
    ) -> Result<(), SweepError> {
        let keys: Vec<Key> = items.iter().map(|item| item.key.clone()).collect();
        if mutant::is(Mutant::TimersDeletedFirst) {
            self.store.delete_timers(&keys).await?;
        }
        // A crash between arming and deleting can leave a timer armed twice: the set merges them.
        let due: BTreeSet<Timer> = items
            .iter()
            .flat_map(|item| &item.entries)
            .copied()
            .collect();
        swept.fired += due.len();
        let mut rearm = Vec::new();
        let mut works = Vec::new();
        let mut deadlines = BTreeSet::new();
        let mut others = Vec::new();
        for timer in due {
            match timer.what {
                What::Deadline { monitor, epoch } => {
                    deadlines.insert((monitor, epoch));
                }
                _ => others.push(timer),
            }
        }
        // Deadlines first, because they are the most urgent.
        let judged = self.sift(deadlines, now).await?;
        swept.flips += judged.flips;
        rearm.extend(judged.waiting.iter().map(|waiting| waiting.on_grid(now)));
        rearm.extend(judged.postponed);
        let actions: Vec<_> = stream::iter(others)
            .map(|timer| async move { (timer, self.check_timer(timer, now).await) })
            .buffer_unordered(CONCURRENCY)
            .collect()
            .await;
        for (timer, action) in actions {
            match action {
                Ok(action) => {
                    works.extend(action.work);
                    rearm.extend(action.again.map(|due| Timer { due, ..timer }));
                }
                Err(error) => rearm.push(postponed(timer, error, now)?),
            }
        }
        for result in self.publish(&works).await {
            result?;
        }
        if self.store.world().now() - now > ROUND_MS {
            return Err(SweepError::TooSlow);
        }
        self.store.arm(&rearm).await?;
        for timer in &rearm {
            swept.next_due = earlier(swept.next_due, Some(timer.due));
        }
        self.store.delete_timers(&keys).await?;
        Ok(())
    }
}

/// What to do about a timer that fired.
#[derive(Debug, Default)]
pub(crate) struct Action {
    /// Work to publish.
    pub work: Option<Work>,
    /// When to check again.
    pub again: Option<UnixMs>,
}

impl Action {
    /// There is nothing left to do.
    const NOTHING: Self = Self {
        work: None,
        again: None,
    };

    /// Do this now, and check again at `again`, because the message may be lost.
    fn do_now(work: impl Into<Work>, again: UnixMs) -> Self {
        Self {
            work: Some(work.into()),
            again: Some(again),
        }
    }
}

impl Evaluate {
    /// Decides what to do about a timer that fired; nothing, if it is obsolete. 1 RU, plus the cost
    /// of a reminder.
    pub(crate) async fn check_timer(
        &self,
        timer: Timer,
        now: UnixMs,
    ) -> Result<Action, StoreError> {
        Ok(match timer.what {
            What::Deadline { .. } => Action::NOTHING,
            What::Deliver {
                project,
                alert,
                channel,
            } => self.check_delivery(project, alert, channel, now).await?,
            What::Audit { project, alert } => self.audit(project, alert, now).await?,
            What::Flush { project, channel } => Action {
                work: Some(NotifyWork::Flush { project, channel }.into()),
                again: None,
            },
            What::Remind { monitor, flip, n } => Action {
                work: None,
                again: self.remind(monitor, flip, n).await?,
            },
            What::Wake { monitor, flip } => Action {
                work: None,
                again: self.wake(monitor, flip).await?,
            },
            What::Watch {
                project,
                watch,
                epoch,
            } if self.is_watch_timer_valid(watch, epoch).await? => {
                let work = EvaluateWork::Watch {
                    project,
                    watch,
                    asked: true,
                };
                Action::do_now(work, now + WORK_AGAIN_MS)
            }
            What::Subscription { project, channel } => {
                let next = self.store.subscription(project, channel).await?;
                let next = next.map(|subscription| subscription.next);
                // A subscription that was checked since has its own timer.
                if next.is_some_and(|next| next <= Some(timer.due)) {
                    let work = NotifyWork::Subscribe { project, channel };
                    Action::do_now(work, now + WORK_AGAIN_MS)
                } else {
                    Action::NOTHING
                }
            }
            What::Request { request } if self.is_request_queued(request).await? => {
                Action::do_now(EvaluateWork::Request { request }, now + WORK_AGAIN_MS)
            }
            What::Watch { .. } | What::Request { .. } => Action::NOTHING,
        })
    }

    async fn check_delivery(
        &self,
        project: ProjectId,
        alert: AlertId,
        channel: ChannelId,
        now: UnixMs,
    ) -> Result<Action, StoreError> {
        let delivery = self.store.delivery(alert, channel).await?;
        let pending = delivery.is_none_or(|delivery| {
            // A delivery that was claimed or retried since has its own timer.
            let superseded = delivery.until.is_some_and(|until| until > now);
            let gathering = delivery.state == Some(DeliveryState::Gathering);
            !superseded && !delivery.is_over() && !gathering
        });
        // Do nothing if TTL has removed the alert, or soon will.
        let gone = now - UnixMs(alert.created_ms()) > ALERT_TTL_S * 1000;
        if !pending || gone {
            return Ok(Action::NOTHING);
        }
        let work = NotifyWork::Deliver {
            project,
            alert,
            channel,
        };
        // Check again, because groups and redeliveries have no audit that would catch a lost
        // message.
        Ok(Action::do_now(work, now + DELIVER_AGAIN_MS))
    }

    /// Relays an alert again if some channel has not received it yet (A5).
    async fn audit(
        &self,
        project: ProjectId,
        alert: AlertId,
        now: UnixMs,
    ) -> Result<Action, StoreError> {
        let found = self.store.alert(project, alert).await?;
        let open = found.is_some_and(|alert| alert.is_open());
        if !open || mutant::is(Mutant::NoAudit) {
            return Ok(Action::NOTHING);
        }
        let age_ms = now - UnixMs(alert.created_ms());
        let again = now + age_ms.clamp(*AUDIT_MS.start(), *AUDIT_MS.end());
        Ok(Action::do_now(NotifyWork::Alert { project, alert }, again))
    }
}

/// How far behind a shard is whose cursor is at the minute `low`, in milliseconds, not counting the
/// intended lag of its cursor.
pub(crate) fn behind_ms(low: i64, now: UnixMs) -> i64 {
    let behind_min = now.minute() - low - OVERLAP_MIN - IDLE_LAG_MIN;
    behind_min.max(0) * 60_000
}

fn earlier(a: Option<UnixMs>, b: Option<UnixMs>) -> Option<UnixMs> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}
