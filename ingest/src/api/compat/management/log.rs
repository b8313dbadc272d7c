//! The log of a check: its pings and flips.

use super::check::{iso, iso_us};
use crate::http::site::Site;
use serde::Serialize;
use thrum_schema::flip::Flip;
use thrum_schema::{MonitorId, Ping, PingKind, Status, UnixMs};
use utoipa::ToSchema;
use uuid::Uuid;

/// Runs longer than this have no duration, in milliseconds: 72 hours.
const MAX_DURATION_MS: i64 = 72 * 3_600_000;
/// If more pings than this have no predecessor in the log, Thrum shows no durations, as the original does.
const MAX_LONE: usize = 10;
/// The largest value of `seconds`: a year.
const MAX_SPAN_S: i64 = 31_536_000;
/// The largest value of `start` and `end`, in epoch seconds.
const MAX_TIMESTAMP_S: i64 = 10_000_000_000;

/// A logged ping.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct PingEntry {
    /// `success`, `start`, `fail`, `log` or `ign`.
    #[serde(rename = "type")]
    #[schema(value_type = String)]
    kind: PingKind,
    /// When it was received.
    date: String,
    /// Its number, counted from 1 for each check.
    n: u64,
    /// `http` or `https`.
    scheme: String,
    /// The address that it came from.
    remote_addr: Option<String>,
    method: String,
    /// The user agent.
    ua: String,
    /// The run ID.
    #[schema(value_type = Option<String>)]
    rid: Option<Uuid>,
    /// How long the run took, in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    duration: Option<f64>,
    /// The URL of its body, if it has one.
    body_url: Option<String>,
}

/// A change of status.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct FlipEntry {
    /// When it happened.
    timestamp: String,
    /// 1 if the check went up, else 0.
    up: u8,
}

impl From<&Flip> for FlipEntry {
    fn from(flip: &Flip) -> Self {
        Self {
            timestamp: iso(flip.at),
            up: u8::from(flip.to == Status::Up),
        }
    }
}

/// The log of a check, newest first.
pub fn entries(id: MonitorId, pings: &[Ping], site: &Site, version: u8) -> Vec<PingEntry> {
    let base = format!("{}/api/v{version}/checks/{id}/pings", site.root);
    let lone = (0..pings.len()).filter(|i| is_lone(&pings[*i], &pings[i + 1..]));
    let with_durations = lone.count() <= MAX_LONE;
    pings
        .iter()
        .enumerate()
        .map(|(i, ping)| PingEntry {
            kind: ping.kind,
            date: iso_us(ping.at),
            n: ping.n,
            scheme: ping.scheme.clone(),
            remote_addr: ping.remote_addr.clone(),
            method: ping.method.clone(),
            ua: ping.ua.clone(),
            rid: ping.rid,
            duration: duration_ms(ping, &pings[i + 1..])
                .filter(|_| with_durations)
                .map(|ms| {
                    #[expect(
                        clippy::cast_precision_loss,
                        reason = "three days of milliseconds fit"
                    )]
                    let hundredths = (ms as f64 / 10.0).round();
                    hundredths / 100.0
                }),
            body_url: (!ping.body.is_empty()).then(|| format!("{base}/{}/body", ping.n)),
        })
        .collect()
}

/// Whether a success or a failure has no start, success or failure with its run ID before it in the log.
fn is_lone(ping: &Ping, earlier: &[Ping]) -> bool {
    matches!(ping.kind, PingKind::Success | PingKind::Fail) && before(ping, earlier).is_none()
}

fn before<'a>(ping: &Ping, earlier: &'a [Ping]) -> Option<&'a Ping> {
    let kinds = [PingKind::Success, PingKind::Fail, PingKind::Start];
    earlier
        .iter()
        .find(|before| before.rid == ping.rid && kinds.contains(&before.kind))
}

/// How long the run that a ping ended took: the time since the start with the same run ID, if there
/// was no other success or failure with that ID in between.
fn duration_ms(ping: &Ping, earlier: &[Ping]) -> Option<i64> {
    if !matches!(ping.kind, PingKind::Success | PingKind::Fail) {
        return None;
    }
    let before = before(ping, earlier);
    let ms = match before {
        Some(start) if start.kind == PingKind::Start => Some((ping.at - start.at).max(0)),
        Some(_) => None,
        // The start is no longer in the log; the duration was recorded when the run ended.
        None => ping.duration_ms,
    };
    ms.filter(|ms| *ms < MAX_DURATION_MS)
}

/// The span in a query: from, to.
///
/// # Errors
/// A parameter is not a number, or out of range.
pub fn span(query: &str, now: UnixMs) -> Result<(UnixMs, UnixMs), ()> {
    let mut from = UnixMs(0);
    let mut to = UnixMs::from_secs(MAX_TIMESTAMP_S + 1);
    for pair in query.split('&') {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let most = match name {
            "seconds" => MAX_SPAN_S,
            "start" | "end" => MAX_TIMESTAMP_S,
            _ => continue,
        };
        let digits = !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit());
        let number = value.parse::<i64>().ok();
        let number = number.filter(|n| digits && *n <= most).ok_or(())?;
        match name {
            // Zero means no filter.
            "seconds" if number == 0 => {}
            "seconds" => from = from.max(now - number * 1000),
            "start" => from = from.max(UnixMs::from_secs(number)),
            _ => to = to.min(UnixMs::from_secs(number)),
        }
    }
    Ok((from, to))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_checked() {
        let now = UnixMs::from_secs(1_000_000);
        let s = UnixMs::from_secs;
        let all = (s(0), s(MAX_TIMESTAMP_S + 1));
        for (query, expected) in [
            ("", Ok(all)),
            ("other=x", Ok(all)),
            ("seconds=0", Ok(all)),
            ("seconds=100", Ok((s(999_900), all.1))),
            ("start=5&end=9", Ok((s(5), s(9)))),
            ("start=", Err(())),
            ("seconds=x", Err(())),
            ("seconds=-1", Err(())),
            ("seconds=31536001", Err(())),
            ("end=10000000001", Err(())),
            ("end=1e3", Err(())),
        ] {
            assert_eq!(span(query, now), expected, "{query}");
        }
    }
}
