//! The state machine of a monitor, and the only place that knows it.
//!
//! [`transition`] is total and pure: any event in any state has an outcome, and nothing is read but its
//! arguments. It follows the Healthchecks-compatible contract: a table of four states by seven events.

use crate::alert::{Alert, Reason};
use crate::id::AlertId;
use crate::lease::{Extension, Lease, Run, Status};
use crate::monitor::Monitor;
use crate::outage::Outage;
use crate::ping::PingKind;
use crate::time::UnixMs;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// How long a flip is kept, in seconds: 93 days.
pub const FLIP_TTL_S: i64 = 93 * 86_400;

/// What happens to a monitor.
#[derive(Debug, Clone)]
pub enum Event<'a> {
    /// A ping, already classified by the monitor's rules.
    Ping {
        /// What it means.
        kind: PingKind,
        /// The run it belongs to.
        rid: Option<Uuid>,
        /// When it was received.
        at: UnixMs,
    },
    /// A timer fired: is the deadline over? Outages of ours may have moved it.
    Timer {
        /// The outages that are known.
        outages: &'a [Outage],
    },
    /// A person or a client pauses it.
    Pause,
    /// A person or a client resumes it.
    Resume,
    /// Its configuration changed.
    Reconfigured,
}

/// A change of status.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Flip {
    /// Its number, counted from 1 for each monitor.
    pub n: u64,
    /// When it happened: a timeout at its deadline, anything else when it was received.
    pub at: UnixMs,
    /// The status before.
    pub from: Status,
    /// The status after.
    pub to: Status,
    /// Why.
    pub reason: Reason,
    /// Whether people are told.
    pub alert: bool,
    /// The deadline that was missed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<UnixMs>,
    /// The outage of ours after which it was judged anew.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outage: Option<Outage>,
}

/// What an event does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// The lease afterwards. Its version is one more than before, unless nothing changed.
    pub lease: Lease,
    /// The change of status, if there was one.
    pub flip: Option<Flip>,
    /// A timer that must be armed in the same write: the deadline came closer (T1).
    pub arm: Option<UnixMs>,
    /// How long the run took that a ping ended.
    pub duration_ms: Option<i64>,
    /// What the ping meant in the end: a paused monitor may ignore it.
    pub kind: Option<PingKind>,
}

impl Outcome {
    /// The alert that the flip asks for, if it does; the lease remembers it, for the next alert follows it (A8).
    pub fn raise(
        &mut self,
        monitor: &Monitor,
        id: AlertId,
        last_ping: Option<UnixMs>,
        burst: Option<u32>,
    ) -> Option<Alert> {
        let flip = self.flip.as_ref().filter(|flip| flip.alert)?;
        let prev = self.lease.last_alert.replace(id);
        Some(Alert::of_flip(id, monitor, flip, last_ping, prev, burst))
    }

    /// Whether there is anything to write.
    pub fn changed(&self, before: &Lease) -> bool {
        self.lease.version != before.version
    }
}

/// Applies `event` to a monitor's lease at `now`.
pub fn transition(monitor: &Monitor, before: &Lease, event: &Event<'_>, now: UnixMs) -> Outcome {
    transitions(monitor, before, std::slice::from_ref(event), now)
}

/// Applies several events as one, such as a changed period and the ping that brought it.
pub fn transitions(
    monitor: &Monitor,
    before: &Lease,
    events: &[Event<'_>],
    now: UnixMs,
) -> Outcome {
    let mut step = Step {
        lease: before.clone(),
        flip: None,
        duration_ms: None,
        kind: None,
    };
    for event in events {
        match *event {
            Event::Ping { kind, rid, at } => step.ping(monitor, kind, rid, at),
            Event::Timer { outages } => step.timer(outages, now),
            Event::Pause if step.lease.status != Status::Paused => step.pause(now),
            Event::Resume if step.lease.status == Status::Paused => step.resume(now),
            Event::Pause | Event::Resume => {}
            Event::Reconfigured => {
                step.lease.extension = None;
                step.lease.follow(monitor);
            }
        }
    }
    step.finish(monitor, before)
}

struct Step {
    lease: Lease,
    flip: Option<Flip>,
    duration_ms: Option<i64>,
    kind: Option<PingKind>,
}

impl Step {
    fn ping(&mut self, monitor: &Monitor, kind: PingKind, rid: Option<Uuid>, at: UnixMs) {
        let ignored = self.lease.status == Status::Paused && monitor.manual_resume;
        let kind = if ignored { PingKind::Ign } else { kind };
        self.kind = Some(kind);
        self.lease.pings += 1;
        match kind {
            PingKind::Success => {
                self.heard(monitor, rid, at, false);
                self.flip_to(Status::Up, at, Reason::Success);
            }
            PingKind::Fail => {
                self.heard(monitor, rid, at, true);
                self.flip_to(Status::Down, at, Reason::Fail);
            }
            PingKind::Start => {
                self.lease.run = Some(Run { at, rid });
                self.lease.extension = None;
            }
            PingKind::Log | PingKind::Ign => {}
        }
    }

    /// A success or a failure: the monitor was heard of, and a run may have ended.
    fn heard(&mut self, monitor: &Monitor, rid: Option<Uuid>, at: UnixMs, failed: bool) {
        let lease = &mut self.lease;
        lease.last_duration_ms = None;
        if let Some(run) = lease.run {
            if run.rid == rid {
                self.duration_ms = Some((at - run.at).max(0));
                lease.last_duration_ms = self.duration_ms;
                lease.run = None;
            } else if failed || rid.is_none() {
                lease.run = None;
            }
        }
        let seen = lease.seen.map_or(at, |seen| seen.max(at));
        lease.seen = Some(seen);
        lease.extension = None;
        if lease.period_s.is_none() {
            lease.expected_at = monitor.schedule.next_after(seen);
        }
    }

    fn timer(&mut self, outages: &[Outage], now: UnixMs) {
        let Some((deadline, outage)) = self.lease.deadline_after(outages) else {
            return;
        };
        if deadline <= now {
            self.flip_to(Status::Down, deadline, Reason::Timeout);
            if let Some(flip) = &mut self.flip {
                flip.deadline = Some(deadline);
                flip.outage = outage;
            }
        } else {
            self.lease.extension = outage.map(|outage| Extension {
                deadline,
                outage: outage.start,
            });
        }
    }

    fn pause(&mut self, now: UnixMs) {
        self.lease.run = None;
        self.lease.extension = None;
        self.flip_to(Status::Paused, now, Reason::Paused);
    }

    fn resume(&mut self, now: UnixMs) {
        self.lease.run = None;
        self.lease.seen = None;
        self.lease.expected_at = None;
        self.flip_to(Status::New, now, Reason::Resumed);
    }

    /// Records a change of status, if it is one. People hear of every way down, and of up only after down.
    fn flip_to(&mut self, to: Status, at: UnixMs, reason: Reason) {
        let from = self.lease.status;
        if from == to {
            return;
        }
        let at = self.lease.flip_at.map_or(at, |last| last.max(at));
        self.lease.status = to;
        self.lease.flips += 1;
        self.lease.flip_at = Some(at);
        if to == Status::Down {
            self.lease.extension = None;
        }
        self.flip = Some(Flip {
            n: self.lease.flips,
            at,
            from,
            to,
            reason,
            alert: to == Status::Down || (from, to) == (Status::Down, Status::Up),
            deadline: None,
            outage: None,
        });
    }

    fn finish(mut self, monitor: &Monitor, before: &Lease) -> Outcome {
        self.lease.derive(monitor);
        let mut arm = None;
        if self.lease != *before {
            self.lease.version += 1;
            let closer = match (before.deadline(), self.lease.deadline()) {
                (_, None) => false,
                (None, Some(_)) => true,
                (Some(old), Some(new)) => new < old,
            };
            if closer {
                self.lease.epoch = self.lease.epoch.wrapping_add(1);
                arm = self.lease.deadline();
            }
        }
        Outcome {
            lease: self.lease,
            flip: self.flip,
            arm,
            duration_ms: self.duration_ms,
            kind: self.kind,
        }
    }
}
