//! The text and the JSON of a notification, in the form each kind of channel needs.

mod sms;

use serde_json::{Value, json};
use std::fmt::Write;
use thrum_schema::UnixMs;
use thrum_schema::alert::{Alert, AlertKind, Subject};
use thrum_schema::announce::STABLE_MS;
use thrum_schema::channel::Channel;
use thrum_schema::flip::Reason;
use thrum_schema::id::AlertId;
use thrum_schema::monitor::unique_key;
use thrum_schema::signal::Verdict;
use thrum_schema::signal::number::{quantity, show};
use thrum_schema::signal::view::{ExplanationView, ago};
use thrum_schema::signal::watch::Change;

/// Longest SNS subject, in ASCII characters.
const MAX_SUBJECT: usize = 100;
/// How many alerts the text of a group lists.
const MAX_LISTED: usize = 50;

/// A notification, rendered for every kind of channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// The body of a webhook, the same at every attempt. Its `type` is also an SNS attribute.
    pub json: Value,
    /// The subject of an e-mail, on one line.
    pub subject: String,
    /// The body of an e-mail or of an SNS message, in plain text.
    pub text: String,
    /// A text message of one segment.
    pub sms: String,
    /// The subject in the form that SNS accepts: at most 100 printable ASCII characters.
    pub sns_subject: String,
}

impl Message {
    /// The message for one alert and one channel.
    pub fn of_alert(alert: &Alert, channel: &Channel) -> Self {
        let happened = alert.happened();
        let json = json!({
            "type": alert.what,
            "timestamp": happened.rfc3339(),
            "data": match alert.what {
                AlertKind::Down | AlertKind::Up | AlertKind::Reminder => change(alert),
                AlertKind::Signal => signal(alert),
                AlertKind::Test | AlertKind::Limited => json!({
                    "alert_id": alert.id,
                    "channel": { "id": channel.id, "name": channel.name },
                    "daily_limit": channel.daily_limit,
                }),
            },
        });
        let (subject, text) = match alert.what {
            AlertKind::Down | AlertKind::Up | AlertKind::Reminder => {
                (headline(alert, name(alert)), sentence(alert))
            }
            AlertKind::Signal => match &alert.signal {
                Some(change) => (signal_headline(change), signal_text(change)),
                None => ("Signal changed".to_owned(), String::new()),
            },
            AlertKind::Test => (
                format!("Test: {}", channel.name),
                format!(
                    "This is a test notification for the channel {}. Alerts will arrive the same way.",
                    channel.name
                ),
            ),
            AlertKind::Limited => (
                format!("Daily limit reached: {}", channel.name),
                format!(
                    "The channel {} reached {} on {} (UTC). For the rest of that day, Thrum records \
                     further alerts but does not send them, except that a monitor is down for the \
                     first time that day.",
                    channel.name,
                    match channel.daily_limit {
                        Some(limit) => format!(
                            "its daily limit of {limit} messages, or one monitor its half of it,"
                        ),
                        None => "the daily limit of its plan".to_owned(),
                    },
                    happened.utc().format("%Y-%m-%d"),
                ),
            ),
        };
        let (sms, sns_subject) = match (alert.what, &alert.monitor) {
            (AlertKind::Down | AlertKind::Up | AlertKind::Reminder, Some(of)) => (
                sms::about(name(alert), &of.slug, |name| sms(alert, name)),
                ascii(&headline(alert, &ascii_name(of)), ""),
            ),
            (what, _) => {
                let other = if what == AlertKind::Test {
                    "Test notification"
                } else {
                    "Thrum"
                };
                (
                    sms::cut(&format!("Thrum: {subject}")),
                    ascii(&subject, other),
                )
            }
        };
        Self {
            json,
            sms,
            subject: one_line(&subject),
            sns_subject,
            text,
        }
    }

    /// The message for a group of alerts, which must be in the order in which they happened.
    pub fn of_group(group: AlertId, alerts: &[Alert]) -> Self {
        let timestamp = UnixMs(group.created_ms());
        let of = |what| alerts.iter().filter(|alert| alert.what == what).count();
        let (ups, signals) = (of(AlertKind::Up), of(AlertKind::Signal));
        let downs = alerts.len() - ups - signals;
        let count = match (downs, ups, signals) {
            (downs, 0, 0) => format!("{downs} monitors are DOWN"),
            (0, ups, 0) => format!("{ups} monitors are UP"),
            (downs, ups, 0) => format!("{downs} DOWN, {ups} UP"),
            (0, 0, signals) => format!("{signals} signals changed"),
            (downs, ups, 1) => format!("{downs} DOWN, {ups} UP, 1 signal changed"),
            (downs, ups, signals) => format!("{downs} DOWN, {ups} UP, {signals} signals changed"),
        };
        let mut text = format!("{count}:\n");
        for alert in alerts.iter().take(MAX_LISTED) {
            let line = match &alert.signal {
                Some(change) => signal_headline(change),
                None => sentence(alert),
            };
            let _ = write!(text, "\n- {line}");
        }
        if alerts.len() > MAX_LISTED {
            let _ = write!(text, "\n- … and {} more", alerts.len() - MAX_LISTED);
        }
        let names: Vec<&str> = alerts.iter().map(name).collect();
        Self {
            json: json!({
                "type": if signals == alerts.len() { "signals.changed" } else { "monitors.changed" },
                "timestamp": timestamp.rfc3339(),
                "data": {
                    "group_id": group,
                    "changes": alerts.iter().map(any_change).collect::<Vec<_>>(),
                },
            }),
            sms: sms::cut(&format!("Thrum: {count}: {}", names.join(", "))),
            subject: one_line(&count),
            sns_subject: count.clone(),
            text,
        }
    }

    /// The text as an HTML page.
    pub fn html(&self) -> String {
        let lines: Vec<String> = self.text.lines().map(escape).collect();
        format!(
            "<!doctype html><html lang=\"en\"><body style=\"font-family:sans-serif;line-height:1.5\">\
             <h2 style=\"font-size:1.1em\">{}</h2><p>{}</p></body></html>",
            escape(&self.subject),
            lines.join("<br>\n"),
        )
    }
}

/// The JSON of a changed signal.
fn signal(alert: &Alert) -> Value {
    let Some(change) = &alert.signal else {
        return json!({ "alert_id": alert.id });
    };
    let explanation = ExplanationView::new(change.explanation.clone(), change.age_s);
    let mut data = json!({
        "alert_id": alert.id,
        "watch": { "id": change.watch, "name": change.name },
        "series": change.series,
        "timeframe": change.timeframe,
        "strategy": change.strategy,
        "mode": change.mode,
        "from": change.from,
        "to": change.to,
        "bar": change.bar.rfc3339(),
        "close": change.close,
        "explanation": explanation,
    });
    if change.undone {
        data["undone"] = true.into();
    }
    data
}

/// `eth-usd 1h trend-rsi: HOLD -> BUY`, or, for a detector, `LOW: rows of backup is 60,000, usually
/// 118,000 to 126,000`
fn signal_headline(change: &Change) -> String {
    if !change.is_of_a_detector() {
        let what = match change.series.monitor() {
            Some((slug, figure)) => format!("{slug}: {figure} is {}", show(change.close)),
            None => format!("{} {}", change.series, change.timeframe),
        };
        return format!(
            "{what} {}: {} -> {}",
            change.strategy, change.from, change.to
        );
    }
    let (of, x) = (series_words(change), quantity(change.close));
    match change.to {
        Verdict::Low | Verdict::High => {
            let usual = usual(change).map(|range| format!(", usually {range}"));
            format!("{}: {of} is {x}{}", change.to, usual.unwrap_or_default())
        }
        Verdict::Stale => format!("No data: {of}, last {x}"),
        _ => format!("Back to normal: {of} is {x}"),
    }
}

/// A series in words: `rows of backup`, or its name.
fn series_words(change: &Change) -> String {
    match change.series.monitor() {
        Some((slug, figure)) => format!("{figure} of {slug}"),
        None => change.series.to_string(),
    }
}

/// The range that a detector expected.
fn usual(change: &Change) -> Option<String> {
    change.explanation.expected.as_ref()?.range()
}

fn signal_text(change: &Change) -> String {
    if change.is_of_a_detector() {
        return anomaly_text(change);
    }
    let changed = &change.explanation.changed;
    let mut text = format!(
        "{} changed from {} to {} at the {} bar of {} (closed {} before this alert).\n{}",
        change.name,
        change.from,
        change.to,
        change.timeframe,
        clock(change.bar),
        ago(change.age_s),
        change.explanation.summary
    );
    if !changed.is_empty() && change.to != Verdict::Stale {
        let _ = write!(
            text,
            "\nConditions that changed at that bar: {}.",
            changed.join("; ")
        );
    }
    text
}

/// What a detector found, without its vocabulary.
fn anomaly_text(change: &Change) -> String {
    let (of, x) = (series_words(change), quantity(change.close));
    let at = format!(
        "{} ({} before this alert)",
        clock(change.bar),
        ago(change.age_s)
    );
    let usual = usual(change);
    let mut text = match change.to {
        Verdict::Low | Verdict::High => {
            let expected = change.explanation.expected.as_ref();
            let is_far = expected.is_some_and(|expected| expected.is_far(change.close));
            let far = if is_far { "far " } else { "" };
            let side = if change.to == Verdict::Low {
                "below"
            } else {
                "above"
            };
            match usual {
                Some(range) => format!("{of} is {x}, {far}{side} its usual {range}."),
                None => format!("{of} is {x}."),
            }
        }
        Verdict::Stale => {
            format!("{of} has stopped: no new value since {at}. The last one was {x}.")
        }
        _ => match usual {
            Some(range) => format!("{of} is back to normal: it is {x}, and {range} is usual."),
            None => format!("{of} is {x}, and this is the new normal."),
        },
    };
    if change.to != Verdict::Stale {
        let _ = write!(text, " The value is of {at}");
        if let Some(expected) = &change.explanation.expected {
            let _ = write!(text, ", {}", expected.basis.words());
        }
        text.push('.');
    }
    if change.undone {
        text.push_str(
            " The earlier alert no longer holds: its values were corrected, or accepted as normal.",
        );
    }
    let _ = write!(text, "\nWatch: {}.", change.name);
    text
}

fn any_change(alert: &Alert) -> Value {
    match alert.what {
        AlertKind::Signal => signal(alert),
        _ => change(alert),
    }
}

/// The JSON of a monitor that went down or up, or is still down. Not with its uuid: anyone who knows that
/// can ping it.
fn change(alert: &Alert) -> Value {
    let flip = alert.flip.as_ref();
    let mut change = json!({
        "alert_id": alert.id,
        "status": if alert.what == AlertKind::Up { "up" } else { "down" },
        "reminder": alert.what == AlertKind::Reminder,
        "reason": flip.map(|flip| flip.reason),
        "flip_at": alert.happened().rfc3339(),
        "deadline": flip.and_then(|flip| flip.deadline).map(UnixMs::rfc3339),
        "last_ping": alert.last_ping.map(UnixMs::rfc3339),
        "monitor": alert.monitor.as_ref().map(|subject| json!({
            "unique_key": unique_key(subject.uuid),
            "name": subject.name,
            "slug": subject.slug,
            "tags": subject.tags,
        })),
    });
    if let Some(why) = why(alert) {
        change["why"] = why.into();
    }
    if alert.flapping {
        change["flapping"] = true.into();
    }
    if let Some(missed) = flip.map(|flip| flip.missed).filter(|missed| *missed > 0) {
        change["missed"] = missed.into();
    }
    if let Some(outage) = alert.outage() {
        change["outage"] = json!({ "start": outage.start.rfc3339(), "end": outage.end.rfc3339() });
    }
    change
}

fn name(alert: &Alert) -> &str {
    match &alert.monitor {
        Some(Subject { name, slug, .. }) if name.is_empty() => slug,
        Some(Subject { name, .. }) => name,
        None => alert.signal.as_ref().map_or("", |change| &change.name),
    }
}

fn headline(alert: &Alert, name: &str) -> String {
    match alert.what {
        AlertKind::Up => format!("UP: {name}"),
        AlertKind::Reminder => format!("Still DOWN: {name}"),
        _ => match (why(alert), cause(alert)) {
            (Some(why), _) => format!("DOWN: {name}: {why}"),
            (None, Some(cause)) => format!("DOWN: {name} {cause}"),
            (None, None) => format!("DOWN: {name}"),
        },
    }
}

/// What was not as expected in the run that took a monitor down.
fn why(alert: &Alert) -> Option<&str> {
    alert.flip.as_ref()?.why.as_deref()
}

/// Why a monitor is down, as a verb phrase.
fn cause(alert: &Alert) -> Option<&'static str> {
    match alert.flip.as_ref()?.reason {
        Reason::Timeout => Some("missed its deadline"),
        Reason::Fail => Some("reported a failure"),
        Reason::Success | Reason::Paused | Reason::Resumed => None,
    }
}

/// What happened, since when, and why: a few short sentences.
fn sentence(alert: &Alert) -> String {
    let name = name(alert);
    let at = clock(alert.happened());
    let mut text = match alert.what {
        AlertKind::Down => format!("{name} went DOWN at {at}"),
        AlertKind::Reminder => format!("{name} is still DOWN. It went down at {at}"),
        _ => format!("{name} is UP again. It recovered at {at}"),
    };
    if alert.what != AlertKind::Up {
        if let Some(why) = why(alert) {
            let _ = write!(text, ": {why}");
        } else if let Some(cause) = cause(alert) {
            let _ = write!(text, ": it {cause}");
        }
        match alert.last_ping {
            Some(last) => {
                let _ = write!(text, ". Last ping: {}", clock(last));
            }
            None => text.push_str(". It has never pinged"),
        }
    }
    text.push('.');
    let missed = alert.flip.as_ref().map_or(0, |flip| flip.missed);
    if missed > 0 {
        let runs = if missed == 1 { "run" } else { "runs" };
        let _ = write!(text, " It missed {missed} {runs}.");
    }
    if let Some(outage) = alert.outage() {
        let _ = write!(
            text,
            " Thrum itself was unavailable from {} to {}, so it had extended the deadline.",
            clock(outage.start),
            clock(outage.end)
        );
    }
    if alert.flapping {
        let _ = write!(
            text,
            " It is flapping: Thrum sends no more alerts about it until it has been stable for {} minutes.",
            STABLE_MS / 60_000
        );
    }
    text
}

fn sms(alert: &Alert, name: &str) -> String {
    let time = alert.happened().utc().format("%H:%M:%S");
    match alert.what {
        AlertKind::Down => match (why(alert), cause(alert)) {
            (Some(why), _) => format!("Thrum: {name} is DOWN since {time} UTC: {why}"),
            (None, Some(cause)) => format!("Thrum: {name} is DOWN, {cause} at {time} UTC"),
            (None, None) => format!("Thrum: {name} is DOWN since {time} UTC"),
        },
        AlertKind::Reminder => {
            let since = alert.happened().utc().format("%Y-%m-%d %H:%M:%S");
            format!("Thrum: {name} is still DOWN, since {since} UTC")
        }
        _ => format!("Thrum: {name} is UP, recovered at {time} UTC"),
    }
}

/// `2026-11-21 05:00:00 UTC`
fn clock(at: UnixMs) -> String {
    at.utc().format("%Y-%m-%d %H:%M:%S UTC").to_string()
}

/// Replaces line breaks and control characters by spaces, so that the text is safe in a mail
/// header.
fn one_line(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}

/// The name of a monitor in ASCII: its slug stands for a name with other characters.
fn ascii_name(of: &Subject) -> String {
    let plain = |text: &str| !text.is_empty() && text.bytes().all(|b| matches!(b, b' '..=b'~'));
    match [&of.name, &of.slug].into_iter().find(|text| plain(text)) {
        Some(name) => name.clone(),
        None => "a monitor (its name is in the message)".to_owned(),
    }
}

/// A text of at most [`MAX_SUBJECT`] characters; `other` if it has characters beyond ASCII.
fn ascii(text: &str, other: &str) -> String {
    let mut text = one_line(text);
    if !text.is_ascii() {
        other.clone_into(&mut text);
    }
    if text.len() > MAX_SUBJECT {
        text.truncate(MAX_SUBJECT - 3);
        text.push_str("...");
    }
    text
}

fn escape(text: &str) -> String {
    text.chars()
        .fold(String::with_capacity(text.len()), |mut html, c| {
            match c {
                '&' => html.push_str("&amp;"),
                '<' => html.push_str("&lt;"),
                '>' => html.push_str("&gt;"),
                '"' => html.push_str("&quot;"),
                '\'' => html.push_str("&#39;"),
                c => html.push(c),
            }
            html
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use thrum_schema::Targets;
    use thrum_schema::channel::ChannelKind;
    use thrum_schema::flip::Flip;
    use thrum_schema::id::{ChannelId, MonitorId, ProjectId, WatchId};
    use thrum_schema::signal::explanation::{Basis, Expected};
    use thrum_schema::signal::{Explanation, SeriesName, Timeframe};
    use thrum_schema::world::{ManualWorld, World};
    use thrum_schema::{Outage, Status};

    fn alert(name: &str, what: AlertKind) -> Alert {
        let world = ManualWorld::new(UnixMs(1_763_700_010_000), 1);
        let down = what == AlertKind::Down;
        Alert {
            id: AlertId(world.uuid_v7(world.now())),
            project: ProjectId::FIRST,
            what,
            flapping: false,
            dead: false,
            open: None,
            planned: false,
            targets: Targets::All,
            monitor: Some(Subject {
                uuid: MonitorId(world.uuid_v4()),
                name: name.into(),
                slug: "web-01".into(),
                tags: vec!["prod".into()],
            }),
            signal: None,
            flip: Some(Flip {
                n: 2,
                at: UnixMs(1_763_700_009_000),
                from: if down { Status::Up } else { Status::Down },
                to: if down { Status::Down } else { Status::Up },
                reason: if down {
                    Reason::Timeout
                } else {
                    Reason::Success
                },
                alert: true,
                silenced: false,
                deadline: down.then_some(UnixMs(1_763_700_009_000)),
                outage: None,
                why: None,
                missed: 0,
            }),
            last_ping: Some(UnixMs(1_763_700_006_000)),
            prev: None,
            burst: None,
        }
    }

    fn channel() -> Channel {
        Channel {
            id: ChannelId(uuid::Uuid::from_u128(9)),
            project: ProjectId::FIRST,
            name: "ops".into(),
            via: ChannelKind::Email {
                to: "ops@example.org".into(),
            },
            notify_down: true,
            notify_up: true,
            group_threshold: 5,
            daily_limit: Some(3),
            created: UnixMs(0),
        }
    }

    #[test]
    fn a_message_says_what_happened_since_when_and_why() {
        let mut down = alert("web-01", AlertKind::Down);
        let message = Message::of_alert(&down, &channel());
        assert_eq!(message.subject, "DOWN: web-01 missed its deadline");
        assert_eq!(
            message.text,
            "web-01 went DOWN at 2025-11-21 04:40:09 UTC: it missed its deadline. Last ping: \
             2025-11-21 04:40:06 UTC."
        );
        assert_eq!(
            message.sms,
            "Thrum: web-01 is DOWN, missed its deadline at 04:40:09 UTC"
        );
        assert_eq!(message.json["type"], "monitor.down");
        assert_eq!(message.json["data"]["status"], "down");
        assert_eq!(message.json["data"]["reason"], "timeout");
        assert_eq!(message.json["data"]["flip_at"], "2025-11-21T04:40:09.000Z");
        assert_eq!(message.json["data"]["monitor"]["slug"], "web-01");
        down.flip.as_mut().unwrap().outage = Some(Outage::total(
            UnixMs(1_763_690_000_000),
            UnixMs(1_763_700_000_000),
        ));
        let message = Message::of_alert(&down, &channel());
        assert!(
            message
                .text
                .contains("Thrum itself was unavailable from 2025-11-21 01:53:20 UTC")
        );
        assert!(message.json["data"]["outage"]["start"].is_string());
    }

    #[test]
    fn an_anomaly_is_told_in_words() {
        let expected = |low, high| Expected {
            low: Some(low),
            high: Some(high),
            typical: Some(f64::midpoint(low, high)),
            basis: Basis::Weekday,
        };
        let change = |from, to, close| {
            let change = Change {
                watch: WatchId(uuid::Uuid::from_u128(1)),
                name: "backup rows".into(),
                series: SeriesName::of_monitor("backup", "rows"),
                timeframe: Timeframe::TICK,
                strategy: "auto".into(),
                mode: "default".into(),
                from,
                to,
                bar: UnixMs(1_763_700_006_000),
                close,
                age_s: 4,
                undone: false,
                explanation: Explanation {
                    conditions: Vec::new(),
                    changed: Vec::new(),
                    expected: Some(expected(118_000.0, 126_000.0)),
                    position: None,
                    summary: String::new(),
                },
            };
            let mut alert = alert("", AlertKind::Signal);
            (alert.monitor, alert.signal) = (None, Some(Box::new(change)));
            let message = Message::of_alert(&alert, &channel());
            (message.subject, message.text)
        };
        let (subject, text) = change(Verdict::Normal, Verdict::Low, 60_000.0);
        assert_eq!(
            subject,
            "LOW: rows of backup is 60,000, usually 118,000 to 126,000"
        );
        assert_eq!(
            text,
            "rows of backup is 60,000, far below its usual 118,000 to 126,000. The value is of \
             2025-11-21 04:40:06 UTC (4 s before this alert), compared with the same weekday of past weeks.\n\
             Watch: backup rows."
        );
        let (subject, text) = change(Verdict::Low, Verdict::Normal, 121_408.0);
        assert_eq!(subject, "Back to normal: rows of backup is 121,408");
        assert!(
            text.starts_with(
                "rows of backup is back to normal: it is 121,408, and 118,000 to 126,000 is usual."
            ),
            "{text}"
        );
        let (subject, text) = change(Verdict::Normal, Verdict::Stale, 121_408.0);
        assert_eq!(subject, "No data: rows of backup, last 121,408");
        assert!(text.starts_with("rows of backup has stopped"), "{text}");
    }

    #[test]
    fn a_hostile_monitor_name_cannot_break_a_message() {
        let name = format!("<b>\r\nBcc: x@y.z{}{}", "é😀", "x".repeat(300));
        let message = Message::of_alert(&alert(&name, AlertKind::Up), &channel());
        assert!(!message.subject.contains(['\r', '\n']));
        let subject = &message.sns_subject;
        assert_eq!(subject, "UP: web-01");
        assert!(
            message.sms.len() <= 160 && message.sms.contains("UP"),
            "{}",
            message.sms
        );
        assert!(message.html().contains("&lt;b&gt;") && !message.html().contains("<b>"));
    }

    #[test]
    fn names_beyond_ascii_arrive() {
        let name = "日本語バックアップ";
        let message = Message::of_alert(&alert(name, AlertKind::Down), &channel());
        assert_eq!(message.subject, format!("DOWN: {name} missed its deadline"));
        assert_eq!(message.sns_subject, "DOWN: web-01 missed its deadline");
        assert!(message.sms.starts_with(&format!("Thrum: {name} is DOWN")));
        let mut alert = alert("Größe", AlertKind::Up);
        alert.monitor.as_mut().unwrap().slug = String::new();
        let message = Message::of_alert(&alert, &channel());
        assert_eq!(
            message.sns_subject,
            "UP: a monitor (its name is in the message)"
        );
        assert!(message.sms.starts_with("Thrum: Größe is UP"));
    }

    #[test]
    fn a_reminder_says_still_down_and_a_recovery_counts_missed_runs() {
        let message = Message::of_alert(&alert("web-01", AlertKind::Reminder), &channel());
        assert_eq!(message.subject, "Still DOWN: web-01");
        assert!(
            message
                .text
                .starts_with("web-01 is still DOWN. It went down at 2025-11-21")
        );
        assert_eq!(message.json["type"], "monitor.reminder");
        assert_eq!(message.json["data"]["status"], "down");
        let mut up = alert("web-01", AlertKind::Up);
        up.flip.as_mut().unwrap().missed = 3;
        let message = Message::of_alert(&up, &channel());
        assert!(message.text.contains("It missed 3 runs."));
        assert_eq!(message.json["data"]["missed"], 3);
    }

    #[test]
    fn a_group_is_one_message() {
        let alerts: Vec<Alert> = (0..60)
            .map(|i| alert(&format!("web-{i:02}"), AlertKind::Down))
            .chain([alert("db-01", AlertKind::Up)])
            .collect();
        let message = Message::of_group(alerts[0].id, &alerts);
        assert_eq!(message.subject, "60 DOWN, 1 UP");
        assert_eq!(message.json["type"], "monitors.changed");
        assert_eq!(
            message.json["data"]["changes"].as_array().unwrap().len(),
            61
        );
        assert!(message.text.ends_with("- … and 11 more"));
        assert_eq!(message.sms.len(), 160);
    }
}
