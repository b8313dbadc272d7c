//! Times and durations in messages.

use crate::time::UnixMs;
use crate::zone::Zone;

const UNITS: [(&str, i64); 5] = [
    ("d", 86_400),
    ("h", 3_600),
    ("min", 60),
    ("s", 1),
    ("", i64::MAX),
];

/// Shows times in a project's time zone, and in UTC.
#[derive(Debug, Clone)]
pub struct Clock {
    zone: Option<Zone>,
}

impl Clock {
    /// A clock of this zone; without one, only UTC is shown.
    pub fn new(zone: Option<Zone>) -> Self {
        Self {
            zone: zone.filter(|zone| zone.name() != "UTC"),
        }
    }

    /// `2026-11-28 10:56:39 CET (09:56:39 UTC)`; without a zone, `2026-11-28 09:56:39 UTC`.
    pub fn show(&self, at: UnixMs) -> String {
        let utc = at.utc();
        let Some(local) = self.zone.as_ref().and_then(|zone| zone.shown(at)) else {
            return utc.format("%Y-%m-%d %H:%M:%S UTC").to_string();
        };
        let is_same_day = local.starts_with(&utc.format("%Y-%m-%d").to_string());
        let form = if is_same_day {
            "%H:%M:%S UTC"
        } else {
            "%Y-%m-%d %H:%M:%S UTC"
        };
        format!("{local} ({})", utc.format(form))
    }

    /// A time in the same zone, without the date if `near` is on the same day, and without UTC.
    pub fn short(&self, at: UnixMs, near: UnixMs) -> String {
        let show = |at: UnixMs| match self.zone.as_ref().and_then(|zone| zone.shown(at)) {
            Some(local) => local,
            None => at.utc().format("%Y-%m-%d %H:%M:%S UTC").to_string(),
        };
        let (text, near) = (show(at), show(near));
        match (text.split_once(' '), near.split_once(' ')) {
            (Some((day, time)), Some((other, _))) if day == other => time.to_owned(),
            _ => text,
        }
    }
}

/// A duration by its two largest units: `2 h 5 min`. Less than a second is `0 s`.
pub fn about(ms: i64) -> String {
    let s = ms.max(0) / 1000;
    let first = UNITS.iter().position(|(_, size)| s >= *size).unwrap_or(3);
    let (unit, size) = UNITS[first];
    let (smaller, part) = UNITS[first + 1];
    let rest = s % size / part;
    if rest > 0 {
        format!("{} {unit} {rest} {smaller}", s / size)
    } else {
        format!("{} {unit}", s / size)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_two_units() {
        for (s, text) in [
            (0, "0 s"),
            (59, "59 s"),
            (60, "1 min"),
            (125, "2 min 5 s"),
            (7_500, "2 h 5 min"),
            (90_061, "1 d 1 h"),
            (86_400, "1 d"),
            (40 * 86_400, "40 d"),
        ] {
            assert_eq!(about(s * 1000), text);
        }
    }

    #[test]
    fn times_are_local_and_utc() {
        let at = UnixMs::parse("at", "2026-11-28T23:30:00Z").unwrap();
        assert_eq!(Clock::new(None).show(at), "2026-11-28 23:30:00 UTC");
        let berlin = Clock::new(Zone::named("Europe/Berlin"));
        assert_eq!(
            berlin.show(at),
            "2026-11-29 00:30:00 CET (2026-11-28 23:30:00 UTC)"
        );
        assert_eq!(
            berlin.show(at + -7_200_000),
            "2026-11-28 22:30:00 CET (21:30:00 UTC)"
        );
        assert_eq!(berlin.short(at + -60_000, at), "00:29:00 CET");
        assert_eq!(berlin.short(at + -3_600_000, at), "2026-11-28 23:30:00 CET");
        let plain = Clock::new(Zone::named("UTC"));
        assert_eq!(plain.show(at), "2026-11-28 23:30:00 UTC");
    }
}
