//! How long a monitor was down, computed from its flips and excluding maintenance.

use crate::flip::Flip;
use crate::state::Status;
use crate::time::UnixMs;

/// Uptime over a span of time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Uptime {
    /// Milliseconds in which the monitor was watched: not new, not paused, not in maintenance.
    pub watched_ms: i64,
    /// Milliseconds of those in which it was down.
    pub down_ms: i64,
    /// How often it went down outside maintenance.
    pub downs: u32,
}

impl Uptime {
    /// The fraction of the time in which it was up, 0 to 1; `None` if it was not watched.
    #[expect(clippy::cast_precision_loss, reason = "years of milliseconds fit")]
    pub fn part(&self) -> Option<f64> {
        (self.watched_ms > 0).then(|| 1.0 - self.down_ms as f64 / self.watched_ms as f64)
    }
}

/// Computes the uptime from `from` to `to`. `flips` are oldest first and can start before the span;
/// `maintenance` is sorted and does not overlap; `first` is the status before the earliest flip.
pub fn uptime(
    first: Status,
    flips: &[Flip],
    maintenance: &[(UnixMs, UnixMs)],
    from: UnixMs,
    to: UnixMs,
) -> Uptime {
    let mut uptime = Uptime::default();
    // Skip what is outside the span: histories are long, and spans many.
    let begun = flips.partition_point(|flip| flip.at < from);
    let mut status = flips[..begun].last().map_or(first, |flip| flip.to);
    let mut since = from;
    let mut account = |status: Status, start: UnixMs, end: UnixMs| {
        if !matches!(status, Status::Up | Status::Down) {
            return;
        }
        let counted = (end - start).max(0) - overlap(maintenance, start, end);
        uptime.watched_ms += counted;
        if status == Status::Down {
            uptime.down_ms += counted;
        }
    };
    let mut downs = 0;
    for flip in flips[begun..].iter().take_while(|flip| flip.at < to) {
        account(status, since, flip.at);
        let excused = overlap(maintenance, flip.at, flip.at + 1) > 0;
        if flip.to == Status::Down && !excused {
            downs += 1;
        }
        (status, since) = (flip.to, flip.at);
    }
    account(status, since, to);
    Uptime { downs, ..uptime }
}

/// How many milliseconds from `from` to `to` the spans cover.
fn overlap(spans: &[(UnixMs, UnixMs)], from: UnixMs, to: UnixMs) -> i64 {
    let first = spans.partition_point(|(_, end)| *end <= from);
    spans[first..]
        .iter()
        .take_while(|(start, _)| *start < to)
        .map(|(start, end)| ((*end).min(to) - (*start).max(from)).max(0))
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flip::Reason;

    #[test]
    fn maintenance_is_not_downtime() {
        let flip = |n, s, from, to| Flip {
            n,
            at: UnixMs::from_secs(s),
            from,
            to,
            reason: Reason::Timeout,
            alert: true,
            silenced: false,
            deadline: None,
            outage: None,
            why: None,
            missed: 0,
            lasted_ms: None,
            last_success: None,
            trace: None,
        };
        use Status::{Down, New, Up};
        let flips = [
            flip(1, 50, New, Up),
            flip(2, 200, Up, Down),
            flip(3, 300, Down, Up),
            flip(4, 410, Up, Down),
            flip(5, 450, Down, Up),
        ];
        let s = UnixMs::from_secs;
        let judge =
            |maintenance: &[(UnixMs, UnixMs)]| uptime(New, &flips, maintenance, s(100), s(1_000));
        let all = judge(&[]);
        assert_eq!(
            (all.watched_ms, all.down_ms, all.downs),
            (900_000, 140_000, 2)
        );
        let some = judge(&[(s(250), s(260)), (s(400), s(500))]);
        assert_eq!(
            (some.watched_ms, some.down_ms, some.downs),
            (790_000, 90_000, 1)
        );
        let never = uptime(New, &[], &[], s(0), s(10));
        assert_eq!(never, Uptime::default());
    }

    /// The definition, millisecond by millisecond.
    fn by_definition(
        first: Status,
        flips: &[Flip],
        closed: &[(UnixMs, UnixMs)],
        from: i64,
        to: i64,
    ) -> Uptime {
        let is_closed = |at| {
            closed
                .iter()
                .any(|(start, end)| (*start..*end).contains(&UnixMs(at)))
        };
        let mut judged = Uptime::default();
        for at in from..to {
            let status = flips.iter().rfind(|flip| flip.at.0 <= at);
            let status = status.map_or(first, |flip| flip.to);
            if matches!(status, Status::Up | Status::Down) && !is_closed(at) {
                judged.watched_ms += 1;
                judged.down_ms += i64::from(status == Status::Down);
            }
            let fell = flips
                .iter()
                .filter(|flip| flip.at.0 == at && flip.to == Status::Down);
            judged.downs += if is_closed(at) {
                0
            } else {
                u32::try_from(fell.count()).unwrap()
            };
        }
        judged
    }

    proptest::proptest! {
        #[test]
        fn uptime_matches_its_definition(
            steps in proptest::collection::vec((0_i64..30, 0_usize..4), 0..12),
            gaps in proptest::collection::vec((1_i64..40, 1_i64..20), 0..6),
            from in 0_i64..200,
            length in 0_i64..200,
        ) {
            let statuses = [Status::New, Status::Up, Status::Down, Status::Paused];
            let (mut at, mut status) = (0, Status::New);
            let mut flips = Vec::new();
            for (after, to) in steps {
                at += after;
                let to = statuses[to];
                flips.push(Flip {
                    n: 0, at: UnixMs(at), from: status, to, reason: Reason::Timeout, alert: false,
                    silenced: false, deadline: None, outage: None, why: None, missed: 0, lasted_ms: None, last_success: None, trace: None,
                });
                status = to;
            }
            let mut end = 0;
            let closed: Vec<(UnixMs, UnixMs)> = gaps.into_iter().map(|(after, lasts)| {
                let start = end + after;
                end = start + lasts;
                (UnixMs(start), UnixMs(end))
            }).collect();
            let judged = uptime(Status::New, &flips, &closed, UnixMs(from), UnixMs(from + length));
            let expected = by_definition(Status::New, &flips, &closed, from, from + length);
            proptest::prop_assert_eq!(judged, expected);
        }
    }
}
