//! The repair after a takeover. Items were replicated one by one, in any order, and some not at all; so what was written
//! together may have arrived in part. The repair makes it whole again, project by project:
//!
//! - An outage is recorded from the last replicated pulse, because heartbeats since may be missing (T3).
//! - The cursors go back, because timers may have arrived behind them (T2).
//! - Alerts and states agree again (A1), and open alerts have an audit timer (A5).
//! - Every monitor, watch and subscription has its timers (T1).
//! - Deliveries that wait to be grouped are started again, if what they wait for did not arrive (A6).
//!
//! Every step may be repeated. Items can arrive later, even days later, when the lost region comes back. So the same is
//! done again for an hour after the takeover, and after the other region came back.

use super::armed::Armed;
use crate::lookahead::WorkError;
use crate::{Evaluate, RETRY_MS};
use std::time::Duration;
use thrum_schema::announce::timers_of;
use thrum_schema::channel::ChannelKind;
use thrum_schema::fence::{DISORDER_MS, Fence, REROUTED_MS, Refused, TIMING};
use thrum_schema::id::{AlertId, MonitorId};
use thrum_schema::monitor::Monitor;
use thrum_schema::mutant::{self, Mutant};
use thrum_schema::timer::{Timer, What, look_at};
use thrum_schema::transition::{Event, transitions};
use thrum_schema::work::EvaluateWork;
use thrum_schema::{Alert, DeliveryState, MonitorState, Outage, Project, Status, UnixMs};
use thrum_store::regions::{Act, ChangeError, Regions, Repair, Role};
use thrum_store::{Change, Result, StoreError, is_of_lost_region};
use tokio::time::sleep;

/// How long a process may be silent before its repair is continued by another, in milliseconds: as long as an invocation
/// may take, so that only one that died is replaced.
const CLAIM_MS: i64 = 120_000;
/// How long an invocation works on a repair, in milliseconds.
const WORK_MS: i64 = 60_000;
/// How many monitors are checked at a time.
const PAGE: usize = 500;
/// How long after a takeover, or after the other region came back, checks go on, in milliseconds.
const CHECKED_MS: i64 = 3_600_000;
/// When the first check after the repair begins, and the time between two, in milliseconds.
const FIRST_CHECK_MS: i64 = 120_000;
const CHECK_EVERY_MS: i64 = 300_000;
/// How far back the cursors go beyond what may be lost, in minutes.
const OVERLAP_MIN: i64 = 2;
/// How many alerts of a project are compared with their monitors, the newest first, and of how many days.
const ALERTS: usize = 2_000;
const DAYS: i64 = 2;
/// How far ahead the retry of a group is, at most, in milliseconds.
const GROUP_MS: i64 = 45 * 60_000;
/// How far back a check goes, in milliseconds. A timer that arrives later is armed again instead.
const CHECK_BACK_MS: i64 = 3_600_000;

/// A repair as far as this invocation goes.
struct Run<'a> {
    repair: Repair,
    since: UnixMs,
    /// From when on timers are read and swept again.
    from: UnixMs,
    armed: Armed<'a>,
    is_first: bool,
    /// When the invocation must leave the rest to the next.
    ends: UnixMs,
}

/// Whether a part is done.
#[derive(PartialEq, Eq)]
enum Progress {
    Done,
    Paused,
}

impl Evaluate {
    /// Repairs what replication lost, if this region has just taken over, or checks whether anything arrived since.
    pub(super) async fn mend(&self, regions: &Regions, fence: &Fence) -> Result<(), WorkError> {
        let act = match regions.role().await.map_err(StoreError::from)? {
            Role::Active(act) | Role::Repairing(act) => act,
            Role::Passive => return Ok(()),
        };
        if act.epoch() != fence.epoch || (fence.ready && !self.is_check_due(&act).await?) {
            return Ok(());
        }
        let Some((repair, is_first)) = self.claim_repair(&act, fence).await? else {
            return Ok(());
        };
        let here = self.during(&act);
        let now = self.store.world().now();
        let from = match is_first {
            true => repair.lost,
            // Older timers of a region that was lost and is active again may be among those that arrived.
            false => now - CHECK_BACK_MS,
        };
        let mut run = Run {
            since: act.since(),
            from,
            armed: Armed::new(&here.store, from),
            is_first,
            ends: now + WORK_MS,
            repair,
        };
        if is_first {
            here.record_takeover(&run).await?;
        }
        here.rewind_cursors(&run).await?;
        let is_skipped = mutant::is(Mutant::NoRepair);
        if !is_skipped && here.repair_all(&act, &mut run).await? == Progress::Paused {
            self.delegate(EvaluateWork::Tend, Duration::ZERO).await;
            return Ok(());
        }
        self.finish_repair(&act, &here, run).await
    }

    /// Whether it is time to check again.
    async fn is_check_due(&self, act: &Act) -> Result<bool> {
        let now = self.store.world().now();
        let table = act.regions().table();
        let Some(last) = table
            .repair()
            .await?
            .filter(|last| last.epoch == act.epoch())
        else {
            // There was no takeover in this epoch.
            return Ok(false);
        };
        let Some(done) = last.done else {
            return Ok(true);
        };
        let me = act.regions().me();
        let mut reports = table.reports().await?;
        reports.retain(|report| report.region != *me);
        let back = reports.iter().map(|report| report.since).max();
        let since = back.map_or(act.since(), |back| back.max(act.since()));
        let every_ms = match last.begun - since {
            // The other region has just come back.
            ..0 => 0,
            0..FIRST_CHECK_MS => FIRST_CHECK_MS,
            _ => CHECK_EVERY_MS,
        };
        Ok(now - since < CHECKED_MS && now - done >= every_ms)
    }

    /// Claims the repair of this epoch, or the next check; whether it is the first. `None` if another process works on it.
    async fn claim_repair(&self, act: &Act, fence: &Fence) -> Result<Option<(Repair, bool)>> {
        let now = self.store.world().now();
        let table = act.regions().table();
        let last = table.repair().await?;
        let own = last.clone().filter(|last| last.epoch == act.epoch());
        let is_claimed = |last: &Repair| {
            let left_ms = last.until - now;
            last.done.is_none() && 0 < left_ms && left_ms <= CLAIM_MS
        };
        if own.as_ref().is_some_and(is_claimed) {
            return Ok(None);
        }
        let by = self.store.world().uuid_v4();
        let until = now + CLAIM_MS;
        let is_first = !fence.ready;
        let claimed = match own {
            // Continues where the other process stopped.
            Some(own) if own.done.is_none() => Repair { by, until, ..own },
            Some(own) => Repair {
                by,
                until,
                begun: now,
                project: None,
                monitor: None,
                monitors: 0,
                done: None,
                ..own
            },
            None => Repair {
                epoch: act.epoch(),
                by,
                until,
                begun: now,
                lost: self.lost_since(fence).await?,
                project: None,
                monitor: None,
                monitors: 0,
                timers: 0,
                alerts: 0,
                done: None,
                ready: None,
            },
        };
        let written = table.put_repair(last.as_ref(), &claimed).await?;
        Ok(written.then_some((claimed, is_first)))
    }

    /// Since when heartbeats may be missing.
    async fn lost_since(&self, fence: &Fence) -> Result<UnixMs> {
        if mutant::is(Mutant::PulseShared) {
            return Ok(fence.since - TIMING.lease_ms);
        }
        let pulse = self.store.pulse().await?;
        Ok(pulse.unwrap_or(fence.since).min(fence.since) - DISORDER_MS)
    }

    /// Records the outage in which this region took over. It lasts until clients have found this region.
    async fn record_takeover(&self, run: &Run<'_>) -> Result<()> {
        let outage = Outage::takeover(run.repair.lost, run.since + REROUTED_MS);
        self.store.put_outage(&outage).await
    }

    /// Sets the cursors back: timers may have arrived behind them.
    async fn rewind_cursors(&self, run: &Run<'_>) -> Result<()> {
        if mutant::is(Mutant::CursorKept) {
            return Ok(());
        }
        let minute = run.from.minute() - OVERLAP_MIN;
        let by = run.repair.by.to_string();
        for shard in 0..self.store.shards() {
            // In this epoch, nothing was swept before the first repair. Later, if this is refused, a sweep is in progress,
            // and the next check tries again.
            let now = self.store.world().now();
            let by = (!run.is_first).then_some(by.as_str());
            if let Some(by) = by
                && !self
                    .store
                    .claim_shard(shard, by, now + CLAIM_MS, now)
                    .await?
            {
                continue;
            }
            self.store.rewind_cursor(shard, by, minute).await?;
        }
        Ok(())
    }

    /// Repairs the projects that are not done yet.
    async fn repair_all(&self, act: &Act, run: &mut Run<'_>) -> Result<Progress> {
        let mut projects = self.store.projects().await?;
        projects.sort_by_key(|project| project.id);
        for project in projects {
            if run.repair.project.is_some_and(|done| project.id <= done) {
                continue;
            }
            match self.repair_project(act, &project, run).await {
                Ok(Progress::Done) => {}
                Ok(Progress::Paused) => return Ok(Progress::Paused),
                // It must not hold up the other projects.
                Err(StoreError::Corrupt(error)) => {
                    tracing::error!(project = %project.id, %error, "an item of a project can't be read: the rest of the project was not checked");
                }
                Err(error) => return Err(error),
            }
            run.repair.project = Some(project.id);
            run.repair.monitor = None;
            if self.pauses(act, run).await? {
                return Ok(Progress::Paused);
            }
        }
        Ok(Progress::Done)
    }

    /// Records the progress. Returns whether the invocation must stop: its time is over, or another process goes on.
    async fn pauses(&self, act: &Act, run: &mut Run<'_>) -> Result<bool> {
        let now = self.store.world().now();
        let is_over = now >= run.ends;
        run.repair.until = if is_over { now } else { now + CLAIM_MS };
        let table = act.regions().table();
        let kept = table.put_repair(Some(&run.repair), &run.repair).await?;
        Ok(!kept || is_over)
    }

    async fn repair_project(
        &self,
        act: &Act,
        project: &Project,
        run: &mut Run<'_>,
    ) -> Result<Progress> {
        let lost = run.repair.lost;
        let now = self.store.world().now();
        let alerts = self.store.recent_alerts(project.id, now, DAYS, ALERTS);
        let alerts = alerts.await?;
        if run.repair.monitor.is_none() {
            run.repair.alerts += self.reconcile(&alerts, (lost, run.since)).await?;
            self.repair_deliveries(&alerts, run).await?;
            self.repair_watches(project, run).await?;
            self.repair_subscriptions(project, run).await?;
        }
        loop {
            let after = run.repair.monitor;
            let monitors = self.store.monitors_after(project.id, after, PAGE).await?;
            let Some(last) = monitors.last().map(|monitor| monitor.id) else {
                return Ok(Progress::Done);
            };
            self.repair_monitors(project, &monitors, &alerts, run)
                .await?;
            run.repair.monitors += monitors.len() as u64;
            run.repair.monitor = Some(last);
            if monitors.len() < PAGE {
                return Ok(Progress::Done);
            }
            if self.pauses(act, run).await? {
                return Ok(Progress::Paused);
            }
        }
    }

    /// Audits open alerts, and starts deliveries again that wait for a group that did not arrive.
    async fn repair_deliveries(&self, alerts: &[Alert], run: &mut Run<'_>) -> Result<()> {
        let now = self.store.world().now();
        // An audit is at most five minutes ahead.
        run.armed.read(now + 300_000).await?;
        let open = alerts.iter().filter(|alert| alert.is_open());
        let mut unaudited = Vec::new();
        for alert in open {
            let (project, id) = (alert.project, alert.id);
            let audit = What::Audit { project, alert: id };
            if !run.armed.has(audit, UnixMs::LATEST) {
                unaudited.push(id);
            }
            // Only those that the other region gathered may lack what they wait for.
            if UnixMs(id.created_ms()) < run.since {
                self.repair_gathering(id, run).await?;
            }
        }
        run.repair.timers += unaudited.len() as u64;
        if let Some(first) = alerts.first() {
            self.store
                .arm_audits(first.project, &unaudited, now)
                .await?;
        }
        Ok(())
    }

    /// Starts the deliveries of an alert again that wait for a group which neither waits nor exists.
    async fn repair_gathering(&self, id: AlertId, run: &mut Run<'_>) -> Result<()> {
        for delivery in self.store.deliveries(id).await? {
            let (Some(DeliveryState::Gathering), Some(channel)) =
                (delivery.state, delivery.channel)
            else {
                continue;
            };
            if self.store.is_gathered(channel, id).await? {
                continue;
            }
            // A group has a timer.
            let now = self.store.world().now();
            run.armed.read(now + GROUP_MS).await?;
            let mut is_in_group = false;
            for other in run.armed.deliveries(channel) {
                let group = self.store.delivery(other, channel).await?;
                is_in_group |= group.is_some_and(|group| group.members.contains(&id));
            }
            if !is_in_group {
                self.store.ungather(id, channel).await?;
                run.repair.alerts += 1;
            }
        }
        Ok(())
    }

    async fn repair_watches(&self, project: &Project, run: &mut Run<'_>) -> Result<()> {
        let watches = self.store.watches(project.id).await?;
        if watches.is_empty() {
            return Ok(());
        }
        // A watch may be due at any time.
        run.armed.read(UnixMs::LATEST).await?;
        let now = self.store.world().now();
        let mut missing = Vec::new();
        for watch in watches {
            let Some(state) = self.store.watch_state(watch.id).await? else {
                continue;
            };
            let what = What::Watch {
                project: project.id,
                watch: watch.id,
                epoch: state.epoch,
            };
            if !run.armed.has(what, UnixMs::LATEST) {
                missing.push(Timer { due: now, what });
            }
        }
        run.repair.timers += missing.len() as u64;
        self.store.arm(&missing).await
    }

    async fn repair_subscriptions(&self, project: &Project, run: &mut Run<'_>) -> Result<()> {
        let channels = self.store.channels(project.id).await?;
        let now = self.store.world().now();
        let mut missing = Vec::new();
        for channel in channels
            .iter()
            .filter(|channel| matches!(channel.via, ChannelKind::Email { .. }))
        {
            let found = self.store.subscription(project.id, channel.id).await?;
            let Some(next) = found.and_then(|subscription| subscription.next) else {
                continue;
            };
            let what = What::Subscription {
                project: project.id,
                channel: channel.id,
            };
            run.armed.read(next).await?;
            if !run.armed.has(what, next) {
                let due = next.max(now);
                missing.push(Timer { due, what });
            }
        }
        run.repair.timers += missing.len() as u64;
        self.store.arm(&missing).await
    }

    /// Arms the timers that monitors need and don't have, and raises alerts that did not arrive.
    async fn repair_monitors(
        &self,
        project: &Project,
        monitors: &[Monitor],
        alerts: &[Alert],
        run: &mut Run<'_>,
    ) -> Result<()> {
        let now = self.store.world().now();
        let ids: Vec<MonitorId> = monitors.iter().map(|monitor| monitor.id).collect();
        let states = self.store.states(&ids).await?;
        let owned = self.store.owned(&ids).await?;
        let of = |id: MonitorId| states.iter().find(|state| state.monitor == id);
        let deadlines = states.iter().filter_map(MonitorState::deadline);
        if let Some(last) = deadlines.max() {
            run.armed.read(last).await?;
        }
        let outages = self.store.outages().await?;
        let mut missing = Vec::new();
        for monitor in monitors {
            // Or one that an earlier takeover had left behind.
            let is_new = monitor.created >= run.repair.lost || is_of_lost_region(monitor, &outages);
            match (owned.contains(&monitor.id), is_new) {
                (true, false) => {}
                // Its deletion was replicated in part; or, just after the takeover, the rest of it may still arrive.
                (false, false) => {
                    if !run.is_first {
                        self.delete_rest(monitor).await?;
                    }
                    continue;
                }
                (_, true) if monitor.created < run.since => {
                    self.store.complete_monitor(monitor).await?;
                }
                (_, true) => {}
            }
            let Some(state) = of(monitor.id) else {
                // TTL had removed it, and nobody can know from the record here; or it is being deleted.
                if !run.is_first {
                    self.restore_state(monitor.id, alerts).await?;
                }
                continue;
            };
            if let Some(deadline) = state.deadline() {
                let what = What::Deadline {
                    monitor: monitor.id,
                    epoch: state.epoch,
                };
                if !run.armed.has(what, deadline) {
                    let due = look_at(deadline, state.grace_s, now);
                    missing.push(Timer { due, what });
                }
            }
            let others = timers_of(project, monitor, state, now);
            missing.extend(others.into_iter().filter(|timer| {
                let armed = run.armed.has(timer.what, UnixMs::LATEST);
                !armed
            }));
            let restored = self.restore_alert(monitor, state, alerts, run.repair.lost);
            run.repair.alerts += u64::from(restored.await?);
        }
        run.repair.timers += missing.len() as u64;
        self.store.arm(&missing).await
    }

    /// Finishes the deletion of a monitor.
    async fn delete_rest(&self, monitor: &Monitor) -> Result<()> {
        // The owner was looked for in what may have been stale.
        if self.store.locate(monitor.id).await?.is_some() {
            return Ok(());
        }
        match self.store.delete_monitor(monitor).await {
            Ok(()) => {
                tracing::warn!(monitor = %monitor.id, "finished the deletion of a monitor");
                Ok(())
            }
            Err(StoreError::Conflict) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Restores a state that is gone although its monitor exists: it was waiting for something when TTL removed it.
    async fn restore_state(&self, id: MonitorId, alerts: &[Alert]) -> Result<()> {
        let Some(found) = self.store.snapshot(id).await? else {
            return Ok(());
        };
        if found.stored {
            return Ok(());
        }
        let pings = self.store.pings(id).await?;
        let flips = self.store.flips(id, 1).await?;
        let was_down = flips.first().is_some_and(|last| last.to == Status::Down);
        let mut was = found.state.clone();
        let own = alerts
            .iter()
            .filter(|alert| alert.monitor.as_ref().is_some_and(|of| of.uuid == id));
        was.last_alert = own.map(|alert| alert.id).max();
        if was.status == Status::Down && !was_down {
            was.flips = was.flips.saturating_sub(1);
            was.status = Status::Up;
            was.seen = pings.first().map(|last| last.at).or(was.flip_at);
        }
        let outages = self.outages(self.store.world().now()).await?;
        let is_left_behind = self
            .store
            .is_left_behind(&found.monitor, &found.state, &outages);
        let judged = match is_left_behind.await? {
            true => Event::Pause,
            false => Event::Timer { outages: &outages },
        };
        let events = [Event::Reconfigured, judged];
        let restored = self.store.update_monitor(found, RETRY_MS, |current, now| {
            if current.stored {
                return Ok(None);
            }
            let mut outcome = transitions(&current.monitor, &was, &events, now);
            outcome.state.version += 1;
            if let Some(deadline) = outcome.state.deadline() {
                outcome.state.epoch = outcome.state.epoch.wrapping_add(1);
                outcome.arm = Some(deadline);
            }
            Ok::<_, StoreError>(Some(Change::of(outcome)))
        });
        let restored = restored.await?;
        tracing::warn!(monitor = %id, restored = restored.is_some(), "the state of a monitor was missing");
        Ok(())
    }

    /// Ends a repair: from now on, this region evaluates and sends. Then relays the open alerts.
    async fn finish_repair(&self, act: &Act, here: &Self, run: Run<'_>) -> Result<(), WorkError> {
        let regions = act.regions();
        let Run {
            mut repair,
            is_first,
            since,
            ..
        } = run;
        if is_first {
            // Until then, a process may believe the fence of before, and ignore alerts in the stream.
            let wait_ms = since + TIMING.belief_ms + TIMING.skew_ms - self.store.world().now();
            sleep(Duration::from_millis(wait_ms.max(0).unsigned_abs())).await;
            let epoch = act.epoch();
            let marked = regions.change(|read, me| {
                if read.epoch == epoch {
                    read.repaired(me)
                } else {
                    Err(Refused::NotActive(me.clone()))
                }
            });
            match marked.await {
                Ok(Some(_)) => {}
                // The lease was renewed meanwhile; the next time marks it.
                Ok(None) | Err(ChangeError::Refused(_)) => {
                    self.delegate(EvaluateWork::Tend, Duration::from_secs(1))
                        .await;
                    return Ok(());
                }
                Err(ChangeError::Table(error)) => return Err(StoreError::from(error).into()),
            }
        }
        let now = self.store.world().now();
        repair.done = Some(now);
        repair.until = now;
        if is_first {
            repair.ready = Some(now);
        }
        let table = regions.table();
        table
            .put_repair(Some(&repair), &repair)
            .await
            .map_err(StoreError::from)?;
        let Repair {
            monitors,
            timers,
            alerts,
            ..
        } = repair;
        tracing::warn!(
            epoch = act.epoch(),
            monitors,
            timers,
            alerts,
            "repaired what replication lost"
        );
        here.relay_all_open().await?;
        Ok(())
    }
}
