//! Alerts and states of different ages: after a takeover, one may have been replicated without the other.

use crate::{Evaluate, RETRY_MS};
use std::collections::HashMap;
use thrum_schema::alert::AlertKind;
use thrum_schema::announce::flip_of_state;
use thrum_schema::id::MonitorId;
use thrum_schema::monitor::Monitor;
use thrum_schema::transition::{Event, transition};
use thrum_schema::{Alert, MonitorState, Status, UnixMs};
use thrum_store::{Change, Raise, Result, Standing, StoreError};

impl Evaluate {
    /// Makes the states of monitors agree with their alerts, which are those of a project: goes on from flips that a state
    /// does not have, and drops alerts that contradict it. Only alerts since `lost` can have arrived without the state, and
    /// only those from before `since` were raised in the other region. Returns how many did not agree.
    pub(super) async fn reconcile(
        &self,
        alerts: &[Alert],
        (lost, since): (UnixMs, UnixMs),
    ) -> Result<u64> {
        let is_of_other = |alert: &&Alert| {
            let created = UnixMs(alert.id.created_ms());
            created >= lost && created < since
        };
        let mut newest: HashMap<MonitorId, &Alert> = HashMap::new();
        let mut changed = 0;
        let with_flip = alerts
            .iter()
            .filter(is_of_other)
            .filter(|alert| matches!(alert.what, AlertKind::Down | AlertKind::Up))
            .filter(|alert| alert.flip.as_ref().is_some_and(|flip| flip.n > 0));
        for alert in with_flip {
            let Some(subject) = &alert.monitor else {
                continue;
            };
            let latest = newest.entry(subject.uuid).or_insert(alert);
            if latest.id < alert.id {
                *latest = alert;
            }
        }
        for (monitor, alert) in newest {
            if self.standing_of(alert).await? == Some(Standing::Unknown) {
                changed += u64::from(self.go_on_from(monitor, alert).await?);
            }
        }
        for alert in alerts
            .iter()
            .filter(is_of_other)
            .filter(|alert| alert.is_open())
        {
            if self.standing_of(alert).await? == Some(Standing::Superseded) {
                tracing::warn!(alert = %alert.id, "an alert of the lost region arrived too late: this one had decided otherwise");
                self.store.supersede(alert.project, alert.id).await?;
                changed += 1;
            }
        }
        Ok(changed)
    }

    /// `None` if an item can't be read: others must not wait for it.
    async fn standing_of(&self, alert: &Alert) -> Result<Option<Standing>> {
        match self.store.standing(alert).await {
            Err(StoreError::Corrupt(error)) => {
                tracing::error!(alert = %alert.id, %error, "an alert can't be compared with its monitor");
                Ok(None)
            }
            standing => standing.map(Some),
        }
    }

    /// Goes on from the flip of an alert that the monitor's state does not have.
    async fn go_on_from(&self, id: MonitorId, alert: &Alert) -> Result<bool> {
        let (Some(first), Some(flip)) = (self.store.snapshot(id).await?, &alert.flip) else {
            return Ok(false);
        };
        self.store.put_flip(id, flip).await?;
        let known = Event::Known {
            flip,
            alert: alert.id,
        };
        let updated = self.store.update_monitor(first, RETRY_MS, |current, now| {
            let outcome = transition(&current.monitor, &current.state, &known, now);
            let raise = match &outcome.flip {
                Some(_) => Raise::Flip { burst: None },
                None => Raise::Nothing,
            };
            let changed = current.stored && outcome.changed(&current.state);
            Ok::<_, StoreError>(changed.then_some(Change {
                raise,
                ..Change::of(outcome)
            }))
        });
        Ok(updated
            .await?
            .is_some_and(|updated| updated.outcome.is_some()))
    }

    /// Raises the last alert of a monitor again, under its ID, if the state names it and it was not replicated. Returns
    /// whether it was missing.
    pub(super) async fn restore_alert(
        &self,
        monitor: &Monitor,
        state: &MonitorState,
        known: &[Alert],
        lost: UnixMs,
    ) -> Result<bool> {
        let recent = |id: &thrum_schema::AlertId| UnixMs(id.created_ms()) >= lost;
        let Some(id) = state.last_alert.filter(recent) else {
            return Ok(false);
        };
        if known.iter().any(|alert| alert.id == id)
            || self.store.alert(monitor.project, id).await?.is_some()
        {
            return Ok(false);
        }
        let now = self.store.world().now();
        let flips = self.store.flips(monitor.id, 1).await?;
        let last = flips.into_iter().find(|flip| flip.n == state.flips);
        let mut flip = last.unwrap_or_else(|| flip_of_state(state, now));
        (flip.alert, flip.silenced) = (true, false);
        let own = known.iter().filter(|alert| {
            let subject = alert.monitor.as_ref();
            subject.is_some_and(|subject| subject.uuid == monitor.id) && alert.id < id
        });
        let prev = own.map(|alert| alert.id).max();
        let is_reminder = state.status == Status::Down && state.reminded > 0;
        let alert = if is_reminder {
            Alert::reminder(id, monitor, &flip, state.seen, prev)
        } else {
            Alert::of_flip(id, monitor, &flip, state.seen, prev, None)
        };
        match self.store.raise(&alert, now).await {
            Ok(()) => Ok(true),
            // It has arrived meanwhile.
            Err(StoreError::Conflict) => Ok(false),
            Err(error) => Err(error),
        }
    }
}
