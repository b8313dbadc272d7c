//! Downtime by day, as a bar chart.

use super::words::took;
use thrum_schema::UnixMs;
use thrum_schema::uptime::Uptime;

pub const DAY_MS: i64 = 86_400_000;
/// Number of days shown, with one bar each.
pub const DAYS: i64 = 90;

/// Downtime by day: the longer the downtime, the taller the bar. Days without downtime have a mark
/// of fixed size.
#[derive(Debug, Default)]
pub struct Days {
    /// Days without downtime, as an SVG path.
    pub up: String,
    /// Days in which the monitor was not watched, as an SVG path.
    pub unwatched: String,
    /// Days with downtime.
    pub down: Vec<DownDay>,
}

/// The bar of a day with downtime.
#[derive(Debug)]
pub struct DownDay {
    pub x: i64,
    pub height: i64,
    pub text: String,
}

impl Days {
    /// Draws the days, oldest first, from their start and end times and their uptimes.
    pub fn of(spans: &[(UnixMs, UnixMs)], uptimes: &[Uptime]) -> Self {
        let mut drawn = Self::default();
        for (((from, _), uptime), i) in spans.iter().zip(uptimes).zip(0..) {
            let x = i * 8;
            match (uptime.watched_ms, uptime.down_ms) {
                (0, _) => drawn.unwatched.push_str(&format!("M{x} 31h6v3h-6z")),
                (_, 0) => drawn.up.push_str(&format!("M{x} 26h6v8h-6z")),
                (watched, down) => drawn.down.push(DownDay {
                    x,
                    height: 10 + (down * 22 / watched).min(22),
                    text: format!("{}: down {}", from.utc().format("%Y-%m-%d"), took(down)),
                }),
            }
        }
        drawn
    }
}

/// Start and end of each of the last [`DAYS`] UTC days, oldest first. Today ends now.
pub fn last_days(now: UnixMs) -> Vec<(UnixMs, UnixMs)> {
    let today = UnixMs(now.0 - now.0.rem_euclid(DAY_MS));
    let from = |back: i64| today - back * DAY_MS;
    (0..DAYS)
        .rev()
        .map(|back| (from(back), (from(back) + DAY_MS).min(now)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_days_end_with_today_so_far() {
        let now = UnixMs(10 * DAY_MS + 5_000);
        let days = last_days(now);
        assert_eq!(days.len(), 90);
        assert_eq!(days[88], (UnixMs(9 * DAY_MS), UnixMs(10 * DAY_MS)));
        assert_eq!(days[89], (UnixMs(10 * DAY_MS), now));
    }

    #[test]
    fn each_kind_of_day_has_its_own_shape() {
        let day = |watched_ms, down_ms| Uptime {
            watched_ms,
            down_ms,
            downs: 0,
        };
        let uptimes = [day(0, 0), day(DAY_MS, 0), day(DAY_MS, DAY_MS)];
        let days = Days::of(&[(UnixMs(0), UnixMs(DAY_MS)); 3], &uptimes);
        assert_eq!(
            (&*days.unwatched, &*days.up),
            ("M0 31h6v3h-6z", "M8 26h6v8h-6z")
        );
        assert_eq!(
            (days.down[0].height, &*days.down[0].text),
            (32, "1970-01-01: down 1 d")
        );
    }
}
