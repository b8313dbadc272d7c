//! Deadlines: a timer fired; is the monitor late?

use crate::Evaluate;
use futures::{StreamExt, TryStreamExt, stream};
use std::collections::{HashMap, HashSet};
use thrum_schema::id::{MonitorId, ProjectId};
use thrum_schema::store::{Commit, Result};
use thrum_schema::timer::{Timer, What, look_at};
use thrum_schema::transition::{Event, transition};
use thrum_schema::{Lease, Outage, StoreError, UnixMs};

/// How many monitors are flipped at a time.
const CONCURRENCY: usize = 16;
/// How often a flip is tried against heartbeats that race it; then its timer fires again.
const MAX_ATTEMPTS: usize = 20;

/// What judging did.
#[derive(Debug, Default)]
pub struct Judged {
    /// Timers of monitors that are not late, at or before their deadlines (T1).
    pub rearm: Vec<Timer>,
    /// How many monitors went down.
    pub flips: usize,
}

impl Evaluate {
    /// Judges the monitors whose timers fired: reads their leases in batches, drops timers of other epochs, arms
    /// those that are not late anew, and flips the rest. 1 RU a monitor; about 10 WU a flip.
    pub(crate) async fn judge(
        &self,
        fired: HashSet<(MonitorId, u32)>,
        now: UnixMs,
    ) -> Result<Judged> {
        if fired.is_empty() {
            return Ok(Judged::default());
        }
        let mut judged = Judged::default();
        let outages = self.outages(now).await?;
        let leases = self.leases_of(&fired, now, &mut judged).await?;
        let mut late = Vec::new();
        let mut bursts: HashMap<ProjectId, u32> = HashMap::new();
        for lease in leases {
            if !fired.contains(&(lease.monitor, lease.epoch)) {
                continue;
            }
            match lease.deadline_after(&outages) {
                None => {}
                Some((deadline, outage)) => {
                    let moved = lease.extension.map(|e| e.outage) != outage.map(|o| o.start);
                    if deadline > now && !moved {
                        judged.rearm.push(deadline_timer(&lease, deadline, now));
                    } else {
                        if deadline <= now {
                            *bursts.entry(lease.project).or_default() += 1;
                        }
                        late.push(lease);
                    }
                }
            }
        }
        let outages = &outages;
        let results: Vec<Option<Timer>> = stream::iter(late)
            .map(|lease| {
                let burst = bursts.get(&lease.project).copied();
                self.settle_or_postpone(lease, outages, burst)
            })
            .buffer_unordered(CONCURRENCY)
            .try_collect()
            .await?;
        judged.flips = results.iter().filter(|rearmed| rearmed.is_none()).count();
        judged.rearm.extend(results.into_iter().flatten());
        Ok(judged)
    }

    /// The leases of the monitors whose timers fired. One that can't be read must not hold up the others: its
    /// timer is armed again.
    async fn leases_of(
        &self,
        fired: &HashSet<(MonitorId, u32)>,
        now: UnixMs,
        judged: &mut Judged,
    ) -> Result<Vec<Lease>> {
        // A monitor may have timers of several epochs; a batch must not name it twice.
        let ids: HashSet<MonitorId> = fired.iter().map(|(monitor, _)| *monitor).collect();
        let ids: Vec<MonitorId> = ids.into_iter().collect();
        match self.store.leases(&ids).await {
            Err(StoreError::Corrupt(_)) => {}
            result => return result,
        }
        let mut leases = Vec::new();
        for id in ids {
            match self.store.leases(&[id]).await {
                Ok(lease) => leases.extend(lease),
                Err(StoreError::Corrupt(error)) => {
                    tracing::error!(%error, "a lease can't be read; it is looked at again");
                    let epochs = fired.iter().filter(|(monitor, _)| *monitor == id);
                    judged.rearm.extend(epochs.map(|(monitor, epoch)| {
                        let what = What::Deadline {
                            monitor: *monitor,
                            epoch: *epoch,
                        };
                        Timer { due: now, what }.after_trouble(now)
                    }));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(leases)
    }

    async fn settle_or_postpone(
        &self,
        lease: Lease,
        outages: &[Outage],
        burst: Option<u32>,
    ) -> Result<Option<Timer>> {
        let (monitor, epoch) = (lease.monitor, lease.epoch);
        match self.settle(lease, outages, burst).await {
            Err(StoreError::Corrupt(error)) => {
                tracing::error!(%error, "a monitor can't be read; it is looked at again");
                let due = self.store.world().now();
                let what = What::Deadline { monitor, epoch };
                Ok(Some(Timer { due, what }.after_trouble(due)))
            }
            result => result,
        }
    }

    /// Flips a monitor that is late, or records a deadline that an outage moved, guarded by the lease's version;
    /// a heartbeat that came between heals it silently. Returns the timer to arm if it still waits.
    async fn settle(
        &self,
        mut lease: Lease,
        outages: &[Outage],
        burst: Option<u32>,
    ) -> Result<Option<Timer>> {
        let epoch = lease.epoch;
        let Some(monitor) = self.store.monitor(lease.project, lease.monitor).await? else {
            return Ok(None);
        };
        for _ in 0..MAX_ATTEMPTS {
            let now = self.store.world().now();
            let mut outcome = transition(&monitor, &lease, &Event::Timer { outages }, now);
            if outcome.changed(&lease) {
                let alert = self
                    .store
                    .announce(&monitor, &mut outcome, lease.seen, burst, now)
                    .await?;
                let commit = Commit {
                    monitor: &monitor,
                    before: Some(&lease),
                    outcome: &outcome,
                    alert: alert.as_ref(),
                    was: None,
                };
                match self.store.commit(&commit, now).await {
                    Ok(()) => {}
                    Err(StoreError::Conflict) => {
                        match self.store.state(lease.monitor).await? {
                            // Another epoch has a timer of its own; a lost lease is TTL's record to handle.
                            Some(state) => match state.lease {
                                Some(newer) if newer.epoch == epoch => lease = newer,
                                _ => return Ok(None),
                            },
                            None => return Ok(None),
                        }
                        continue;
                    }
                    Err(error) => return Err(error),
                }
            }
            let lease = outcome.lease;
            return Ok(lease
                .deadline()
                .map(|deadline| deadline_timer(&lease, deadline, now)));
        }
        Err(StoreError::Conflict)
    }
}

fn deadline_timer(lease: &Lease, deadline: UnixMs, now: UnixMs) -> Timer {
    Timer {
        due: look_at(deadline, lease.grace_s, now),
        what: What::Deadline {
            monitor: lease.monitor,
            epoch: lease.epoch,
        },
    }
}
