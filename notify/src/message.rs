//! The text and the JSON of a notification, in the form each kind of channel needs.

mod sms;

use crate::layout::html as escape;
use serde_json::{Value, json};
use thrum_schema::UnixMs;
use thrum_schema::alert::{Alert, AlertKind, Subject};
use thrum_schema::channel::Channel;
use thrum_schema::flip::Flip;
use thrum_schema::id::AlertId;
use thrum_schema::monitor::unique_key;
use thrum_schema::notice::template::Values;
use thrum_schema::notice::{Notice, Voice, cause, headline, lasted, name, one_line, why};
use thrum_schema::signal::view::ExplanationView;

/// Longest SNS subject, in ASCII characters.
const MAX_SUBJECT: usize = 100;

/// A notification, rendered for every kind of channel.
#[derive(Debug, Clone)]
pub struct Message {
    /// What it says, in parts.
    pub notice: Notice,
    /// What the templates of webhooks can use.
    pub values: Values,
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
    pub fn of_alert(alert: &Alert, channel: &Channel, voice: &Voice<'_>) -> Self {
        let notice = Notice::of_alert(alert, channel, voice);
        let json = json!({
            "type": alert.what,
            "timestamp": alert.happened().rfc3339(),
            "data": match alert.what {
                AlertKind::Down | AlertKind::Up | AlertKind::Reminder => change(alert, notice.link.as_deref()),
                AlertKind::Signal => signal(alert),
                AlertKind::Test | AlertKind::Limited => json!({
                    "alert_id": alert.id,
                    "channel": { "id": channel.id, "name": channel.name },
                    "daily_limit": channel.daily_limit,
                }),
            },
        });
        let (sms, sns_subject) = match (alert.what, &alert.monitor) {
            (AlertKind::Down | AlertKind::Up | AlertKind::Reminder, Some(of)) => (
                sms::about(name(alert), &of.slug, moved(alert), |name| sms(alert, name)),
                ascii(&notice.title, &headline(alert, alert.what, &ascii_name(of))),
            ),
            (what, _) => {
                let other = if what == AlertKind::Test {
                    "Test notification"
                } else {
                    "Thrum"
                };
                (
                    sms::cut(&format!("Thrum: {}", notice.title)),
                    ascii(&notice.title, other),
                )
            }
        };
        Self {
            json,
            sms,
            sns_subject,
            values: Values::new(&notice, Some(alert)),
            ..Self::of_notice(notice)
        }
    }

    /// The message for a group of alerts, which must be in the order in which they happened.
    pub fn of_group(group: AlertId, alerts: &[Alert], voice: &Voice<'_>) -> Self {
        let is_signal = |alert: &Alert| alert.what == AlertKind::Signal;
        let kind = if alerts.iter().all(is_signal) {
            "signals.changed"
        } else {
            "monitors.changed"
        };
        let notice = Notice::of_group(group, alerts, voice);
        Self {
            json: json!({
                "type": kind,
                "timestamp": UnixMs(group.created_ms()).rfc3339(),
                "data": {
                    "group_id": group,
                    "changes": alerts.iter().map(any_change).collect::<Vec<_>>(),
                },
            }),
            ..Self::of_notice(notice)
        }
    }

    /// A message without JSON.
    pub fn of_notice(notice: Notice) -> Self {
        Self {
            values: Values::new(&notice, None),
            json: Value::Null,
            subject: notice.title.clone(),
            text: notice.body(),
            sms: sms::cut(&format!("Thrum: {}", notice.title)),
            sns_subject: ascii(&notice.title, "Thrum: several changes"),
            notice,
        }
    }

    /// The text as an HTML page, with links.
    pub fn html(&self) -> String {
        let lines: Vec<String> = self.text.lines().map(linked).collect();
        format!(
            "<!doctype html><html lang=\"en\"><body style=\"font-family:sans-serif;line-height:1.5\">\
             <h2 style=\"font-size:1.1em\">{}</h2><p>{}</p></body></html>",
            escape(&self.subject),
            lines.join("<br>\n"),
        )
    }
}

/// A line as HTML, in which URLs are links and the spaces at its start stay.
fn linked(line: &str) -> String {
    let text = line.trim_start_matches(' ');
    let mut html = "&nbsp;".repeat(line.len() - text.len());
    for word in text.split_inclusive(' ') {
        let url = word.trim_end();
        if url.starts_with("https://") || url.starts_with("http://") {
            let url = escape(url.trim_end_matches(['.', ',', ';', ')']));
            let rest = escape(word).replacen(&url, "", 1);
            html.push_str(&format!("<a href=\"{url}\">{url}</a>{rest}"));
        } else {
            html.push_str(&escape(word));
        }
    }
    html
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
    if let Some(trace) = change.trace {
        data["trace"] = trace.to_string().into();
    }
    data
}

fn any_change(alert: &Alert) -> Value {
    match alert.what {
        AlertKind::Signal => signal(alert),
        _ => change(alert, None),
    }
}

/// The JSON of a monitor that went down or up, or is still down. Not with its uuid: anyone who knows that
/// can ping it.
fn change(alert: &Alert, link: Option<&str>) -> Value {
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
            "description": subject.desc,
            "schedule": subject.schedule,
        })),
    });
    let flip_time = |at: fn(&Flip) -> Option<UnixMs>| flip.and_then(at).map(UnixMs::rfc3339);
    if let Some(success) = flip_time(|flip| flip.last_success) {
        change["last_success"] = success.into();
    }
    if let Some(ms) = lasted(alert) {
        change["down_s"] = (ms / 1000).into();
    }
    if let Some(output) = &alert.output {
        change["output"] = output.as_str().into();
    }
    if let Some(link) = link {
        change["link"] = link.into();
    }
    if let Some(why) = why(alert) {
        change["why"] = why.into();
    }
    if let Some(subject) = alert
        .monitor
        .as_ref()
        .filter(|subject| !subject.children.is_empty())
    {
        change["dependents"] = json!({
            "names": subject.children,
            "count": subject.children.len() + subject.more_children,
        });
    }
    if alert.flapping {
        change["flapping"] = true.into();
    }
    if let Some(trace) = alert.trace() {
        change["trace"] = trace.to_string().into();
    }
    if let Some(missed) = flip.map(|flip| flip.missed).filter(|missed| *missed > 0) {
        change["missed"] = missed.into();
    }
    if let Some(outage) = alert.outage() {
        change["outage"] = json!({ "start": outage.start.rfc3339(), "end": outage.end.rfc3339() });
        if outage.takeover {
            change["outage"]["takeover"] = true.into();
        }
    }
    change
}

/// That an alert follows a takeover.
fn moved(alert: &Alert) -> &'static str {
    match alert.outage() {
        Some(outage) if outage.takeover => " (Thrum moved to another region)",
        _ => "",
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use thrum_schema::channel::ChannelKind;
    use thrum_schema::id::{ChannelId, ProjectId};
    use thrum_schema::notice::sample;
    use thrum_schema::{Outage, Project};

    fn alert(name: &str, what: AlertKind) -> Alert {
        let mut alert = sample(what, UnixMs(1_763_700_069_000));
        let subject = alert.monitor.as_mut().unwrap();
        (subject.name, subject.slug) = (name.to_owned(), "web-01".to_owned());
        alert
    }

    fn channel() -> Channel {
        let to = "ops@example.org".to_owned();
        let id = ChannelId(uuid::Uuid::from_u128(9));
        Channel::new(id, ProjectId::FIRST, ChannelKind::Email { to }, UnixMs(0))
    }

    fn render(alert: &Alert) -> Message {
        let project = Project {
            badge_secret: "secret".to_owned(),
            ..Project::new(ProjectId::FIRST, "")
        };
        let voice = Voice::new(&project, Some("https://thrum.example.org"));
        Message::of_alert(alert, &channel(), &voice)
    }

    #[test]
    fn the_json_of_an_alert_has_what_its_text_says() {
        let mut down = alert("web-01", AlertKind::Down);
        let message = render(&down);
        assert_eq!(message.subject, "DOWN: web-01: exit status 4");
        assert_eq!(
            message.sms,
            "Thrum: web-01 is DOWN since 04:40:09 UTC: exit status 4"
        );
        assert_eq!(message.json["type"], "monitor.down");
        let data = &message.json["data"];
        assert_eq!(data["status"], "down");
        assert_eq!(data["reason"], "fail");
        assert_eq!(data["why"], "exit status 4");
        assert_eq!(data["flip_at"], "2025-11-21T04:40:09.000Z");
        assert_eq!(data["last_success"], "2025-11-20T04:40:09.000Z");
        assert_eq!(data["monitor"]["slug"], "web-01");
        assert_eq!(data["monitor"]["schedule"], "every 1 d, grace 1 h");
        assert!(data["output"].as_str().unwrap().starts_with("pg_dump"));
        assert!(data["link"].as_str().unwrap().contains("/a/"));
        down.flip.as_mut().unwrap().outage = Some(Outage::total(
            UnixMs(1_763_690_000_000),
            UnixMs(1_763_700_000_000),
        ));
        let message = render(&down);
        assert!(
            message
                .text
                .contains("Thrum itself was unavailable from 2025-11-21 01:53:20 UTC")
        );
        assert!(message.json["data"]["outage"]["start"].is_string());
    }

    #[test]
    fn a_recovery_counts_missed_runs_and_tells_how_long_it_lasted() {
        let mut up = alert("web-01", AlertKind::Up);
        up.flip.as_mut().unwrap().missed = 3;
        let message = render(&up);
        assert_eq!(message.json["data"]["missed"], 3);
        assert_eq!(message.json["data"]["down_s"], 7_500);
        let reminder = render(&alert("web-01", AlertKind::Reminder));
        assert_eq!(reminder.json["type"], "monitor.reminder");
        assert_eq!(reminder.json["data"]["status"], "down");
    }

    #[test]
    fn a_hostile_monitor_name_cannot_break_a_message() {
        let name = format!("<b>\r\nBcc: x@y.z{}{}", "é😀", "x".repeat(300));
        let message = render(&alert(&name, AlertKind::Up));
        assert!(!message.subject.contains(['\r', '\n']));
        assert_eq!(message.sns_subject, "UP: web-01 (was down for 2 h 5 min)");
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
        let message = render(&alert(name, AlertKind::Down));
        assert_eq!(message.subject, format!("DOWN: {name}: exit status 4"));
        assert_eq!(message.sns_subject, "DOWN: web-01: exit status 4");
        let mut alert = alert("Größe", AlertKind::Up);
        alert.monitor.as_mut().unwrap().slug = String::new();
        let message = render(&alert);
        assert_eq!(
            message.sns_subject,
            "UP: a monitor (its name is in the message) (was down for 2 h 5 min)"
        );
        assert!(message.sms.starts_with("Thrum: Größe is UP"));
    }

    #[test]
    fn links_in_a_mail_can_be_clicked() {
        let html = render(&alert("web-01", AlertKind::Down)).html();
        let url = "https://wiki.example.org/backup";
        assert!(
            html.contains(&format!("<a href=\"{url}\">{url}</a>")),
            "{html}"
        );
        assert_eq!(
            linked("see (x) https://e.org/?a=1&b=\"2\", now"),
            "see (x) <a href=\"https://e.org/?a=1&amp;b=&quot;2&quot;\">\
             https://e.org/?a=1&amp;b=&quot;2&quot;</a>, now"
        );
    }

    #[test]
    fn a_group_is_one_message() {
        let alerts: Vec<Alert> = (0..60)
            .map(|i| alert(&format!("web-{i:02}"), AlertKind::Down))
            .chain([alert("db-01", AlertKind::Up)])
            .collect();
        let project = Project::new(ProjectId::FIRST, "");
        let message = Message::of_group(alerts[0].id, &alerts, &Voice::new(&project, None));
        assert_eq!(
            message.subject,
            "60 DOWN, 1 UP: web-00, web-01, web-02 and 58 more"
        );
        assert_eq!(message.json["type"], "monitors.changed");
        assert_eq!(
            message.json["data"]["changes"].as_array().unwrap().len(),
            61
        );
        assert!(message.text.ends_with("- … and 11 more"));
        assert!(message.sms.len() <= 160);
    }
}
