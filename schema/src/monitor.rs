//! Monitors: what is watched, and by which rules. Configuration only; what changes with every heartbeat is
//! the [lease](crate::lease).

use crate::channel::Targets;
use crate::error::Invalid;
use crate::id::{MonitorId, ProjectId};
use crate::ping::PingKind;
use crate::schedule::{MAX_PERIOD_S, Schedule};
use crate::time::UnixMs;
use serde::{Deserialize, Serialize};

/// Longest name and slug, in characters.
pub const MAX_NAME: usize = 100;
/// Period of a monitor that a ping provisions (`create=1`), in seconds: the contract's default.
pub const DEFAULT_PERIOD_S: u32 = 86_400;
/// Grace of a monitor that a ping provisions, in seconds: the contract's default.
pub const DEFAULT_GRACE_S: u32 = 3_600;

/// A monitor's configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Monitor {
    /// Its id, and the secret of its ping URL.
    pub id: MonitorId,
    /// The project that owns it.
    pub project: ProjectId,
    /// What people call it.
    pub name: String,
    /// What ping-key URLs call it.
    pub slug: String,
    /// Words to filter by.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// When it expects to hear.
    pub schedule: Schedule,
    /// How long it waits beyond that, in seconds.
    pub grace_s: u32,
    /// Where its alerts go.
    pub targets: Targets,
    /// A paused monitor ignores pings until it is resumed by hand.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub manual_resume: bool,
    /// Pings count only if they are POSTs.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub post_only: bool,
    /// Keywords that decide what a body means.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filter: Option<KeywordFilter>,
    /// When it was made.
    pub created: UnixMs,
}

/// Decides by keywords what a ping means. Keyword lists are comma-separated, trimmed, case-sensitive
/// substrings; an empty list never matches. Contract §1.4.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct KeywordFilter {
    /// A body that has one of these reports a failure.
    pub failure: String,
    /// A body that has one of these reports a success.
    pub success: String,
    /// A body that has one of these reports a start.
    pub start: String,
    /// A body that has none of them reports a failure, rather than being ignored.
    pub default_fail: bool,
}

impl KeywordFilter {
    /// What a ping with `body` means. Bytes that are not UTF-8 match no keyword and do no harm.
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
    /// What a ping that asks for `kind` means to this monitor: its method and body may change that.
    pub fn classify(&self, kind: PingKind, method: &str, body: &[u8]) -> PingKind {
        if self.post_only && method != "POST" {
            return PingKind::Ign;
        }
        match &self.filter {
            Some(filter) => filter.classify(body),
            None => kind,
        }
    }

    /// Whether a success needs no rule but the period: the precondition of the one-write heartbeat.
    pub fn is_plain(&self) -> bool {
        self.schedule.period_s().is_some() && !self.post_only && self.filter.is_none()
    }
}

/// Checks a name that a heartbeat registers: 1–100 letters, digits, `.`, `_`, `-`.
pub fn check_heartbeat_name(field: &str, name: &str) -> Result<(), Invalid> {
    // A path of dots alone leads elsewhere.
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

/// Checks a grace time: 0 s … 365 d.
pub fn check_grace_s(field: &str, grace_s: u64) -> Result<u32, Invalid> {
    match u32::try_from(grace_s) {
        Ok(grace_s) if grace_s <= MAX_PERIOD_S => Ok(grace_s),
        _ => Err(Invalid::new(
            field,
            format!("must be 0 to {MAX_PERIOD_S} seconds"),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keywords_decide_in_the_contracts_order() {
        let filter = KeywordFilter {
            failure: "ERROR, Fatal".into(),
            success: "done,".into(),
            start: " begin ".into(),
            default_fail: false,
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
    fn names_are_bounded() {
        for good in ["web-01", "a", "A.b_c-9", &"x".repeat(100)] {
            assert!(check_heartbeat_name("monitor", good).is_ok(), "{good}");
        }
        for bad in ["", ".", "..", "a b", "ä", "a/b", "a\n", &"x".repeat(101)] {
            assert!(check_heartbeat_name("monitor", bad).is_err(), "{bad}");
        }
    }
}
