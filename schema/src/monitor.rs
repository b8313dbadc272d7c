//! Monitors: what is watched, and by which rules. Configuration only; what changes with every
//! heartbeat is in the [state](crate::state).

use crate::error::Invalid;
use crate::expect::Expectation;
use crate::hex::hex;
use crate::id::{BadgeId, MonitorId, ProjectId};
use crate::ping::PingKind;
use crate::schedule::{MAX_PERIOD_S, Schedule};
use crate::silence::Window;
use crate::targets::Targets;
use crate::time::{UnixMs, span};
use serde::{Deserialize, Serialize};
use sha1::{Digest, Sha1};
use std::collections::BTreeMap;
use unicode_normalization::UnicodeNormalization;

/// Maximum length of names and slugs, in characters.
pub const MAX_NAME: usize = 100;
/// Maximum length of all tags joined by spaces, in characters.
pub const MAX_TAGS: usize = 500;
/// Maximum length of a description, in characters.
pub const MAX_DESC: usize = 50_000;
/// Maximum length of a list of keywords, in characters.
pub const MAX_KEYWORDS: usize = 200;
/// Maximum for [`Options::failures`].
pub const MAX_FAILURES: u32 = 100;
/// Minimum time between two reminders, in seconds.
pub const MIN_REMIND_S: u32 = 60;
/// Period of a monitor that a ping creates (`create=1`), in seconds: the default of
/// docs/compatibility.md.
pub const DEFAULT_PERIOD_S: u32 = 86_400;
/// Grace of a monitor that a ping creates, in seconds: the default of docs/compatibility.md.
pub const DEFAULT_GRACE_S: u32 = 3_600;

/// A monitor's configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Monitor {
    /// Its id, which is the secret in its ping URL.
    pub id: MonitorId,
    /// The project that owns it.
    pub project: ProjectId,
    /// The display name.
    pub name: String,
    /// Its name in ping-key URLs.
    pub slug: String,
    /// Labels to filter by.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// A description for users.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub desc: String,
    /// When pings are expected.
    pub schedule: Schedule,
    /// For simple schedules: the default time zone if the schedule later changes to an expression
    /// without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    /// How long it waits after a missed ping before it goes down, in seconds.
    pub grace_s: u32,
    /// Where its alerts go.
    pub targets: Targets,
    /// Whether, while paused, it ignores pings until it is resumed manually.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub manual_resume: bool,
    /// Whether only POST pings count.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub post_only: bool,
    /// Keywords that classify pings by their body.
    #[serde(default, skip_serializing_if = "KeywordFilter::is_default")]
    pub filter: KeywordFilter,
    /// Options beyond docs/compatibility.md.
    #[serde(default, skip_serializing_if = "Options::is_default")]
    pub options: Options,
    /// When it was created.
    pub created: UnixMs,
}

/// How early a success on a cron or OnCalendar schedule counts for the coming time, in milliseconds.
pub const EARLY_MS: i64 = 10_000;

/// Options beyond docs/compatibility.md; all off by default.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Options {
    /// How long a run may take, in seconds, if not the grace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start_grace_s: Option<u32>,
    /// How many failures in a row take it down, if not one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failures: Option<u32>,
    /// A run is marked as early if it comes more than this many seconds before it is expected. On a cron or OnCalendar
    /// schedule, a later one counts for the coming time; see [`Monitor::counts_from`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub early_s: Option<u32>,
    /// Whether to watch every run by its id, not only the latest.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub all_runs: bool,
    /// Seconds between reminders while it is down.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remind_s: Option<u32>,
    /// No alerts before this timestamp.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub snoozed_until: Option<UnixMs>,
    /// Recurring maintenance windows: no alerts, and no downtime is counted.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub windows: Vec<Window>,
    /// The monitors that it depends on; see [`dependency`](crate::dependency).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub parents: Vec<MonitorId>,
    /// What it expects of the numbers that its runs report, by their names.
    #[serde(
        with = "crate::signal::track::json_text",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    pub expect: BTreeMap<String, Expectation>,
}

impl Options {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// Classifies pings by keywords. Keyword lists are comma-separated, trimmed, case-sensitive
/// substrings; an empty list never matches. docs/compatibility.md §1.4.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct KeywordFilter {
    /// A body that contains one of these reports a failure.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub failure: String,
    /// A body that contains one of these reports a success.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub success: String,
    /// A body that contains one of these reports a start.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub start: String,
    /// Whether to check the bodies of HTTP requests.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub http_body: bool,
    /// Whether to check the subjects of e-mails.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub subject: bool,
    /// Whether to check the bodies of e-mails.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub body: bool,
    /// Whether a body without any keyword reports a failure instead of being ignored.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub default_fail: bool,
}

impl KeywordFilter {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// What a ping with `body` means. Bytes that are not UTF-8 match no keyword; the rest still
    /// can.
    pub fn classify(&self, body: &[u8]) -> PingKind {
        let text = String::from_utf8_lossy(body);
        let matches = |keywords: &str| {
            keywords
                .split(',')
                .map(str::trim)
                .any(|keyword| !keyword.is_empty() && text.contains(keyword))
        };
        if matches(&self.failure) {
            PingKind::Fail
        } else if matches(&self.success) {
            PingKind::Success
        } else if matches(&self.start) {
            PingKind::Start
        } else if self.default_fail {
            PingKind::Fail
        } else {
            PingKind::Ign
        }
    }
}

impl Monitor {
    /// Its schedule and grace, for people: `every 5 min, grace 1 min`.
    pub fn schedule_in_words(&self) -> String {
        let schedule = match &self.schedule {
            Schedule::Simple { period_s } => format!("every {}", span(i64::from(*period_s))),
            Schedule::Cron { expr, tz } | Schedule::OnCalendar { expr, tz } => {
                format!("{} ({tz})", expr.lines().collect::<Vec<_>>().join("; "))
            }
        };
        format!("{schedule}, grace {}", span(i64::from(self.grace_s)))
    }

    /// A monitor with the defaults of docs/compatibility.md: no name, tags or channels, a period of
    /// one day and a grace of one hour.
    pub fn new(id: MonitorId, project: ProjectId, created: UnixMs) -> Self {
        Self {
            id,
            project,
            name: String::new(),
            slug: String::new(),
            tags: Vec::new(),
            desc: String::new(),
            schedule: Schedule::Simple {
                period_s: DEFAULT_PERIOD_S,
            },
            zone: None,
            grace_s: DEFAULT_GRACE_S,
            targets: Targets::These(Vec::new()),
            manual_resume: false,
            post_only: false,
            filter: KeywordFilter::default(),
            options: Options::default(),
            created,
        }
    }

    /// What a ping of `kind` means for this monitor, given its method and body.
    pub fn classify(&self, kind: PingKind, method: &str, body: &[u8]) -> PingKind {
        if self.post_only && method != "POST" {
            PingKind::Ign
        } else if self.filter.http_body {
            self.filter.classify(body)
        } else {
            kind
        }
    }

    /// Whether a success depends only on the period: the precondition of the one-write heartbeat.
    pub fn is_plain(&self) -> bool {
        self.schedule.period_s().is_some()
            && !self.post_only
            && !self.filter.http_body
            && self.options.early_s.is_none()
            && self.options.expect.is_empty()
    }

    /// The time up to which a success at `seen` satisfies the schedule. On a cron or OnCalendar schedule, one shortly
    /// before a scheduled time counts for it, because clocks differ: up to `early_s` before, but at most half of the
    /// time until the next one; without `early_s`, up to [`EARLY_MS`], but at most a tenth.
    pub fn counts_from(&self, seen: UnixMs) -> UnixMs {
        self.counted(seen).0
    }

    /// When the next success is expected after one at `seen`.
    pub fn expected_after(&self, seen: UnixMs) -> Option<UnixMs> {
        self.counted(seen).1
    }

    /// What a success at `seen` counts up to, and the next expected time.
    fn counted(&self, seen: UnixMs) -> (UnixMs, Option<UnixMs>) {
        if self.schedule.period_s().is_some() {
            return (seen, self.schedule.next_after(seen));
        }
        let (early_ms, parts) = match self.options.early_s {
            Some(early_s) => (i64::from(early_s) * 1000, 2),
            None => (EARLY_MS, 10),
        };
        let mut times = self.schedule.times(seen);
        let Some(next) = times.next() else {
            return (seen, None);
        };
        let ahead_ms = next - seen;
        if ahead_ms > early_ms {
            return (seen, Some(next));
        }
        let following = times.next();
        let gap_ms = following.map_or(i64::MAX, |following| following - next);
        match ahead_ms <= gap_ms / parts {
            true => (next, following),
            false => (seen, Some(next)),
        }
    }

    /// How many runs were missed since the last one at `seen`, if it is `now`.
    pub fn missed_since(&self, seen: UnixMs, now: UnixMs) -> u32 {
        let from = self.counts_from(seen);
        self.schedule.missed(from, self.grace_s, now)
    }

    /// Its id for read-only clients: the SHA-1 of the first 16 hex digits of its id, which stays
    /// secret. docs/compatibility.md §3.3.
    pub fn unique_key(&self) -> String {
        unique_key(self.id)
    }

    /// What messages call it: its name, or else its slug.
    pub fn label(&self) -> &str {
        let names = [&self.name, &self.slug];
        let given = names.into_iter().find(|name| !name.is_empty());
        given.map_or("monitor", String::as_str)
    }

    /// The id of its public badge, derived from the monitor's id without revealing it.
    pub fn badge(&self) -> BadgeId {
        let hash = sha2::Sha256::digest(format!("badge {}", self.id));
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&hash[..16]);
        BadgeId(uuid::Builder::from_custom_bytes(bytes).into_uuid())
    }

    /// How many failures in a row take it down.
    pub fn failures_to_alert(&self) -> u32 {
        self.options.failures.unwrap_or(1).max(1)
    }

    /// Whether heartbeats can address it by name.
    pub fn has_heartbeat_name(&self) -> bool {
        check_heartbeat_name("name", &self.name).is_ok()
    }
}

/// The unique key of a monitor, from its id.
pub fn unique_key(id: MonitorId) -> String {
    let digits = id.0.simple().to_string();
    hex(&Sha1::digest(&digits.as_bytes()[..16]))
}

/// Checks the name in a heartbeat: 1–100 letters, digits, `.`, `_`, `-`.
pub fn check_heartbeat_name(field: &str, name: &str) -> Result<(), Invalid> {
    // In a URL path, a segment of dots means another folder.
    let fits = (1..=MAX_NAME).contains(&name.len())
        && !matches!(name, "." | "..")
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b".-_".contains(&b));
    if fits {
        Ok(())
    } else {
        Err(Invalid::new(
            field,
            format!("must be 1 to {MAX_NAME} letters, digits, '.', '_' or '-'"),
        ))
    }
}

/// Checks a grace: 0 s to 365 d.
pub fn check_grace_s(field: &str, grace_s: u64) -> Result<u32, Invalid> {
    match u32::try_from(grace_s) {
        Ok(grace_s) if grace_s <= MAX_PERIOD_S => Ok(grace_s),
        _ => Err(Invalid::new(
            field,
            format!("must be between 0 and {MAX_PERIOD_S} seconds (got {grace_s})"),
        )),
    }
}

/// A name as a slug: letters without their accents, digits, `-` and `_`.
pub fn slugify(name: &str) -> String {
    let mut slug = String::new();
    for c in name.nfkd().filter(char::is_ascii) {
        match c.to_ascii_lowercase() {
            c @ ('a'..='z' | '0'..='9' | '_') => slug.push(c),
            '-' | ' ' | '\t' | '\n' | '\r' if !slug.ends_with('-') => slug.push('-'),
            _ => {}
        }
    }
    slug.trim_matches(['-', '_']).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keywords_apply_in_the_documented_order() {
        let filter = KeywordFilter {
            failure: "ERROR, Fatal".into(),
            success: "done,".into(),
            start: " begin ".into(),
            http_body: true,
            ..KeywordFilter::default()
        };
        for (body, expected) in [
            ("done, but with an ERROR", PingKind::Fail),
            ("begin … done", PingKind::Success),
            ("begin", PingKind::Start),
            ("error in lower case", PingKind::Ign),
            ("", PingKind::Ign),
        ] {
            assert_eq!(filter.classify(body.as_bytes()), expected, "{body}");
        }
        assert_eq!(filter.classify(b"\xff\xfe done"), PingKind::Success);
        assert_eq!(
            KeywordFilter {
                default_fail: true,
                ..filter
            }
            .classify(b"\xff"),
            PingKind::Fail
        );
    }

    #[test]
    fn public_ids_derive_from_the_id_without_revealing_it() {
        let id: MonitorId = "803f680d-e89b-492b-82ef-2be7b774a92d".parse().unwrap();
        let monitor = Monitor::new(id, ProjectId::FIRST, UnixMs(0));
        // printf 803f680de89b492b | sha1sum
        assert_eq!(
            monitor.unique_key(),
            "124f983e0e3dcaeba921cfcef46efd084576e783"
        );
        assert_ne!(monitor.badge().0, id.0);
        assert_eq!(monitor.badge(), monitor.clone().badge());
    }

    /// A client whose clock is two seconds ahead pings before the scheduled time.
    #[test]
    fn a_success_shortly_before_the_scheduled_time_counts_for_it() {
        let at = |rfc3339: &str| UnixMs::parse("at", rfc3339).unwrap();
        let mut monitor = Monitor::new(MonitorId(uuid::Uuid::nil()), ProjectId::FIRST, UnixMs(0));
        for (expr, early_s, seen, expected) in [
            (
                "0 3 * * *",
                None,
                "2026-11-28T02:59:58Z",
                "2026-11-29T03:00:00Z",
            ),
            (
                "0 3 * * *",
                None,
                "2026-11-28T02:59:50Z",
                "2026-11-29T03:00:00Z",
            ),
            (
                "0 3 * * *",
                None,
                "2026-11-28T02:59:49Z",
                "2026-11-28T03:00:00Z",
            ),
            (
                "0 3 * * *",
                None,
                "2026-11-28T03:00:00Z",
                "2026-11-29T03:00:00Z",
            ),
            (
                "0 3 * * *",
                Some(0),
                "2026-11-28T02:59:58Z",
                "2026-11-28T03:00:00Z",
            ),
            (
                "0 3 * * *",
                Some(3_600),
                "2026-11-28T02:10:00Z",
                "2026-11-29T03:00:00Z",
            ),
            // At most a tenth of a minute, or half of it.
            (
                "* * * * *",
                None,
                "2026-11-28T02:59:55Z",
                "2026-11-28T03:01:00Z",
            ),
            (
                "* * * * *",
                None,
                "2026-11-28T02:59:53Z",
                "2026-11-28T03:00:00Z",
            ),
            (
                "* * * * *",
                Some(600),
                "2026-11-28T02:59:35Z",
                "2026-11-28T03:01:00Z",
            ),
            (
                "* * * * *",
                Some(600),
                "2026-11-28T02:59:25Z",
                "2026-11-28T03:00:00Z",
            ),
            (
                "03:00",
                None,
                "2026-11-28T02:59:58Z",
                "2026-11-29T03:00:00Z",
            ),
        ] {
            monitor.schedule = Schedule::parse(expr, "UTC").unwrap();
            monitor.options.early_s = early_s;
            let got = monitor.expected_after(at(seen)).unwrap();
            assert_eq!(got, at(expected), "{expr} {early_s:?} {seen}: {got}");
        }
        monitor.options.early_s = None;
        monitor.schedule = Schedule::parse("0 3 * * *", "UTC").unwrap();
        let missed = |now| monitor.missed_since(at("2026-11-28T02:59:58Z"), at(now));
        assert_eq!(missed("2026-11-29T02:00:00Z"), 0, "the first run was made");
        assert_eq!(missed("2026-11-29T05:00:00Z"), 1);
        monitor.schedule = Schedule::simple("period_s", 60).unwrap();
        assert_eq!(monitor.counts_from(UnixMs(5)), UnixMs(5));
    }

    #[test]
    fn heartbeat_names_are_checked() {
        for good in ["web-01", "a", "A.b_c-9", &"x".repeat(100)] {
            assert!(check_heartbeat_name("monitor", good).is_ok(), "{good}");
        }
        for bad in ["", ".", "..", "a b", "ä", "a/b", "a\n", &"x".repeat(101)] {
            assert!(check_heartbeat_name("monitor", bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn names_become_slugs() {
        for (name, slug) in [
            ("DB Backup", "db-backup"),
            ("  Été à la  plage!  ", "ete-a-la-plage"),
            ("__x__", "x"),
            ("a - b", "a-b"),
            ("日本", ""),
        ] {
            assert_eq!(slugify(name), slug, "{name}");
        }
    }
}
