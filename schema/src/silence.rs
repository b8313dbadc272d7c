//! Silences: snoozes and recurring maintenance windows, during which nothing alerts. A monitor that
//! is still down when its silence ends alerts then.

use crate::error::Invalid;
use crate::schedule::Schedule;
use crate::time::UnixMs;
use serde::{Deserialize, Serialize};

/// Maximum maintenance windows of a monitor or a project.
pub const MAX_WINDOWS: usize = 10;
/// Minimum and maximum duration of a window, in seconds: a minute and a week.
pub const WINDOW_S: std::ops::RangeInclusive<u32> = 60..=7 * 86_400;
/// Maximum length of a snooze, in milliseconds: a year.
pub const MAX_SNOOZE_MS: i64 = 366 * 86_400_000;
/// How many openings of a window are checked; overlapping ones count as one silence within this
/// range.
const MAX_INSTANTS: usize = 50;

/// A recurring maintenance window.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    /// When it opens: a five-field cron expression.
    pub cron: String,
    /// How long it lasts, in seconds.
    pub duration_s: u32,
    /// The time zone of the expression.
    pub tz: String,
}

impl Window {
    /// A maintenance window.
    ///
    /// # Errors
    /// The expression is not cron, the time zone is unknown, or the duration is too short or too
    /// long.
    pub fn new(field: &str, cron: &str, duration_s: u64, tz: &str) -> Result<Self, Invalid> {
        let at = |name: &str| format!("{field}.{name}");
        let schedule = Schedule::parse(cron, tz).map_err(|invalid| {
            let name = if invalid.field == "tz" { "tz" } else { "cron" };
            Invalid::new(at(name), invalid.problem)
        })?;
        let Schedule::Cron { expr, tz } = schedule else {
            return Err(Invalid::new(
                at("cron"),
                "must be a cron expression of five fields, such as 0 3 * * 0",
            ));
        };
        match u32::try_from(duration_s) {
            Ok(duration_s) if WINDOW_S.contains(&duration_s) => Ok(Self {
                cron: expr,
                duration_s,
                tz,
            }),
            _ => Err(Invalid::new(
                at("duration_s"),
                format!(
                    "must be between {} and {} seconds (got {duration_s})",
                    WINDOW_S.start(),
                    WINDOW_S.end()
                ),
            )),
        }
    }

    /// When it closes, if it is open at `at`.
    pub fn open_at(&self, at: UnixMs) -> Option<UnixMs> {
        let openings = self.openings(at - self.lasts_ms());
        let opened = openings
            .take(MAX_INSTANTS)
            .take_while(|opens| *opens <= at)
            .last()?;
        Some(opened + self.lasts_ms())
    }

    fn lasts_ms(&self) -> i64 {
        i64::from(self.duration_s) * 1000
    }

    /// Its openings after `from`.
    fn openings(&self, from: UnixMs) -> impl Iterator<Item = UnixMs> + use<> {
        let schedule = Schedule::Cron {
            expr: self.cron.clone(),
            tz: self.tz.clone(),
        };
        schedule.times(from)
    }
}

/// When the silence at `at` ends, from a snooze and windows; `None` if there is none.
pub fn until(snooze: Option<UnixMs>, windows: &[Window], at: UnixMs) -> Option<UnixMs> {
    let open = windows.iter().filter_map(|window| window.open_at(at));
    open.chain(snooze.filter(|until| *until > at)).max()
}

/// The maintenance between `from` and `to` as sorted spans that do not overlap, checking at most
/// `most` openings per window.
pub fn maintenance(
    windows: &[&Window],
    from: UnixMs,
    to: UnixMs,
    most: usize,
) -> Vec<(UnixMs, UnixMs)> {
    let mut spans: Vec<(UnixMs, UnixMs)> = Vec::new();
    for window in windows {
        let lasts_ms = window.lasts_ms();
        let openings = window.openings(from - lasts_ms).take(most);
        for opens in openings.take_while(|opens| *opens < to) {
            spans.push((opens.max(from), (opens + lasts_ms).min(to)));
        }
    }
    spans.sort_unstable();
    let mut merged: Vec<(UnixMs, UnixMs)> = Vec::new();
    for (start, end) in spans {
        match merged.last_mut() {
            Some((_, last)) if start <= *last => *last = end.max(*last),
            _ if start < end => merged.push((start, end)),
            _ => {}
        }
    }
    merged
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(rfc3339: &str) -> UnixMs {
        UnixMs::parse("at", rfc3339).unwrap()
    }

    #[test]
    fn a_window_opens_on_schedule_for_its_duration_in_its_zone() {
        let window = Window::new("windows[0]", "0 3 * * *", 3_600, "Europe/Berlin").unwrap();
        for (when, closes) in [
            ("2026-06-01T00:59:59.999Z", None),
            ("2026-06-01T01:00:00Z", Some("2026-06-01T02:00:00Z")),
            ("2026-06-01T01:59:59.999Z", Some("2026-06-01T02:00:00Z")),
            ("2026-06-01T02:00:00Z", None),
            // Winter time.
            ("2026-12-01T01:30:00Z", None),
            ("2026-12-01T02:30:00Z", Some("2026-12-01T03:00:00Z")),
        ] {
            assert_eq!(window.open_at(at(when)), closes.map(at), "{when}");
        }
    }

    #[test]
    fn maintenance_is_merged_and_clipped() {
        let one = Window::new("w", "0 1 * * *", 7_200, "UTC").unwrap();
        let other = Window::new("w", "0 2 * * *", 7_200, "UTC").unwrap();
        let spans = maintenance(
            &[&one, &other],
            at("2026-06-01T01:30:00Z"),
            at("2026-06-02T01:10:00Z"),
            100,
        );
        assert_eq!(
            spans,
            [
                (at("2026-06-01T01:30:00Z"), at("2026-06-01T04:00:00Z")),
                (at("2026-06-02T01:00:00Z"), at("2026-06-02T01:10:00Z")),
            ]
        );
    }

    #[test]
    fn invalid_windows_name_the_field() {
        for (cron, duration_s, tz, field) in [
            ("daily", 3_600, "UTC", "w.cron"),
            ("0 0 30 2 *", 3_600, "UTC", "w.cron"),
            ("0 3 * * *", 59, "UTC", "w.duration_s"),
            ("0 3 * * *", u64::MAX, "UTC", "w.duration_s"),
            ("0 3 * * *", 3_600, "Mars/Olympus", "w.tz"),
        ] {
            assert_eq!(
                Window::new("w", cron, duration_s, tz).unwrap_err().field,
                field
            );
        }
    }
}
