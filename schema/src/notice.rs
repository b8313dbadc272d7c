//! What a message says, in parts that each kind of channel lays out in its own way.

mod clock;
mod signal;
pub mod template;

pub use clock::{Clock, about};

use crate::alert::{Alert, AlertKind, Subject};
use crate::announce::STABLE_MS;
use crate::channel::Channel;
use crate::flip::{Flip, Reason};
use crate::id::{AlertId, MonitorId, ProjectId, WatchId};
use crate::link;
use crate::monitor::{Monitor, unique_key};
use crate::project::Project;
use crate::signal::Verdict;
use crate::state::Status;
use crate::time::UnixMs;
use crate::zone::Zone;
use std::fmt::Write;
use uuid::Uuid;

/// How many alerts the text of a group lists.
const MAX_LISTED: usize = 50;
/// How many names the title of a group has.
const MAX_NAMED: usize = 3;
/// Longest output of a job in a message, in bytes.
pub const MAX_OUTPUT: usize = 1_500;
/// Longest description in a message, in characters.
pub const MAX_DESC: usize = 1_000;

/// What happened, as far as a receiver that keeps incidents has to know.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum News {
    /// Something broke.
    Down,
    /// It is still broken.
    Reminder,
    /// It works again.
    Up,
    /// Something worth knowing.
    #[default]
    Info,
}

/// A named value in a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fact {
    /// Its name.
    pub label: &'static str,
    /// The value, in one line.
    pub value: String,
}

/// A message, in parts. All of them are plain text: what lays them out must escape them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Notice {
    /// What happened.
    pub news: News,
    /// What it is about: the same text for a monitor's every alert, so that a receiver can close an
    /// incident. Contains no secret.
    pub key: String,
    /// When it happened.
    pub at: UnixMs,
    /// What happened, in one line.
    pub title: String,
    /// What happened, since when, and why, in sentences; of a group, a line for each member.
    pub text: String,
    /// What else helps.
    pub facts: Vec<Fact>,
    /// What the user wrote about the monitor.
    pub description: Option<String>,
    /// The last lines of the job's output.
    pub output: Option<String>,
    /// Where to read more, acknowledge and snooze.
    pub link: Option<String>,
    /// What the link is good for.
    pub link_label: &'static str,
    /// The monitor's tags.
    pub tags: Vec<String>,
}

/// How a project wants its messages, and where its pages are.
#[derive(Debug, Clone, Copy)]
pub struct Voice<'a> {
    /// The project.
    pub project: &'a Project,
    /// The public URL of the pages, without a slash at its end; without it there are no links.
    pub site: Option<&'a str>,
}

impl<'a> Voice<'a> {
    /// The voice of a project.
    pub const fn new(project: &'a Project, site: Option<&'a str>) -> Self {
        Self { project, site }
    }

    fn clock(&self) -> Clock {
        let zone = self.project.zone.as_deref();
        Clock::new(zone.and_then(Zone::named))
    }

    /// The page of an alert, on which anyone who has the message can acknowledge it.
    fn link(&self, alert: &Alert) -> Option<String> {
        let secret = &self.project.badge_secret;
        let site = self.site.filter(|_| !secret.is_empty())?;
        Some(format!("{site}{}", link::path(secret, alert)))
    }
}

impl Notice {
    /// What the alert says to `channel`.
    pub fn of_alert(alert: &Alert, channel: &Channel, voice: &Voice<'_>) -> Self {
        let plain = match alert.what {
            AlertKind::Down | AlertKind::Up | AlertKind::Reminder => {
                Self::of_monitor(alert, alert.what, voice)
            }
            AlertKind::Signal => Self::of_signal(alert, voice),
            AlertKind::Test => Self::of_test(alert, channel, voice),
            AlertKind::Limited => Self::of_limit(alert, channel),
        };
        template::applied(plain, alert, voice)
    }

    fn of_monitor(alert: &Alert, what: AlertKind, voice: &Voice<'_>) -> Self {
        let clock = voice.clock();
        let subject = alert.monitor.as_ref();
        Self {
            news: match what {
                AlertKind::Up => News::Up,
                AlertKind::Reminder => News::Reminder,
                _ => News::Down,
            },
            key: subject.map_or_else(String::new, |subject| key_of(subject.uuid)),
            at: alert.happened(),
            title: one_line(&headline(alert, what, name(alert))),
            text: sentences(alert, what, &clock),
            facts: facts(alert, what, &clock),
            description: subject
                .map(|subject| subject.desc.clone())
                .filter(|desc| !desc.is_empty()),
            output: alert.output.clone().filter(|_| what != AlertKind::Up),
            link: voice.link(alert),
            link_label: if what == AlertKind::Up {
                "Open"
            } else {
                "Open, acknowledge or snooze"
            },
            tags: subject.map_or_else(Vec::new, |subject| subject.tags.clone()),
        }
    }

    fn of_signal(alert: &Alert, voice: &Voice<'_>) -> Self {
        let Some(change) = &alert.signal else {
            return Self {
                title: "Signal changed".to_owned(),
                ..Self::default()
            };
        };
        Self {
            news: match change.to {
                Verdict::Low | Verdict::High => News::Down,
                Verdict::Stale if change.is_of_a_detector() => News::Down,
                Verdict::Normal => News::Up,
                _ => News::Info,
            },
            key: key_of_watch(change.watch),
            at: change.bar,
            title: one_line(&signal::headline(change)),
            text: signal::text(change, &voice.clock()),
            link: voice
                .site
                .map(|site| format!("{site}/signals/{}", change.series)),
            link_label: "Open",
            ..Self::default()
        }
    }

    /// The message of a real alert, marked as a test.
    fn of_test(alert: &Alert, channel: &Channel, voice: &Voice<'_>) -> Self {
        let about = format!(
            "This is a test of the channel {}: nothing is wrong.",
            channel.name
        );
        let sample = Self::of_monitor(alert, AlertKind::Down, voice);
        let (title, text) = match &alert.monitor {
            Some(_) => (
                format!("TEST: {}", sample.title),
                format!("{about} An alert looks like this:\n\n{}", sample.text),
            ),
            None => (
                format!("TEST: {}", channel.name),
                format!("{about} Alerts will arrive the same way."),
            ),
        };
        Self {
            news: News::Info,
            key: format!("test-{}", channel.id),
            title: one_line(&title),
            text,
            link: None,
            ..sample
        }
    }

    fn of_limit(alert: &Alert, channel: &Channel) -> Self {
        let limit = match channel.daily_limit {
            Some(limit) => {
                format!("its daily limit of {limit} messages, or one monitor its half of it,")
            }
            None => "the daily limit of its plan".to_owned(),
        };
        Self {
            key: format!("limit-{}", channel.id),
            at: alert.happened(),
            title: one_line(&format!("Daily limit reached: {}", channel.name)),
            text: format!(
                "The channel {} reached {limit} on {} (UTC). For the rest of that day, Thrum records \
                 further alerts but does not send them, except that a monitor is down for the first \
                 time that day.",
                channel.name,
                alert.happened().utc().format("%Y-%m-%d"),
            ),
            ..Self::default()
        }
    }

    /// What a group of alerts says. They must be in the order in which they happened.
    pub fn of_group(group: AlertId, alerts: &[Alert], voice: &Voice<'_>) -> Self {
        let clock = voice.clock();
        let of = |what| alerts.iter().filter(|alert| alert.what == what).count();
        let (ups, signals) = (of(AlertKind::Up), of(AlertKind::Signal));
        let downs = alerts.len() - ups - signals;
        let mut sorted: Vec<&Alert> = alerts.iter().collect();
        sorted.sort_by_key(|alert| {
            (
                rank(alert.what),
                name(alert).to_lowercase(),
                alert.happened(),
            )
        });
        let mut text = String::new();
        for alert in sorted.iter().take(MAX_LISTED) {
            let line = match &alert.signal {
                Some(change) => signal::headline(change),
                None => one_line(&sentences(alert, alert.what, &clock)),
            };
            let _ = writeln!(text, "- {line}");
        }
        if alerts.len() > MAX_LISTED {
            let _ = writeln!(text, "- … and {} more", alerts.len() - MAX_LISTED);
        }
        let kinds = [
            (downs, "DOWN"),
            (ups, "UP"),
            (
                signals,
                if signals == 1 {
                    "signal changed"
                } else {
                    "signals changed"
                },
            ),
        ];
        let title = match (downs, ups, signals) {
            (_, 0, 0) => format!("DOWN: {}", named(&sorted)),
            (0, _, 0) => format!("UP: {}", named(&sorted)),
            (0, 0, _) => format!("{signals} signals changed"),
            _ => {
                let parts = kinds.iter().filter(|(n, _)| *n > 0);
                let parts: Vec<String> = parts.map(|(n, what)| format!("{n} {what}")).collect();
                format!("{}: {}", parts.join(", "), named(&sorted))
            }
        };
        Self {
            news: match (downs, ups, signals) {
                (1.., _, _) => News::Down,
                (0, _, 0) => News::Up,
                _ => News::Info,
            },
            key: format!("group-{group}"),
            at: UnixMs(group.created_ms()),
            title: one_line(&title),
            text: text.trim_end().to_owned(),
            link: voice.site.map(str::to_owned),
            link_label: "Open",
            ..Self::default()
        }
    }

    /// Everything but the title, as plain text.
    pub fn body(&self) -> String {
        let mut text = self.text.clone();
        if !self.facts.is_empty() {
            text.push('\n');
        }
        for Fact { label, value } in &self.facts {
            let _ = write!(text, "\n{label}: {value}");
        }
        if let Some(description) = &self.description {
            let _ = write!(text, "\n\n{}", description.trim());
        }
        if let Some(output) = &self.output {
            let _ = write!(text, "\n\nLast output:\n");
            for line in output.lines() {
                let _ = writeln!(text, "    {line}");
            }
            text.truncate(text.trim_end().len());
        }
        if let Some(link) = &self.link {
            let _ = write!(text, "\n\n{}: {link}", self.link_label);
        }
        text
    }
}

/// What stands for a monitor in other systems. Not its ID: anyone who knows that can ping it.
fn key_of(monitor: MonitorId) -> String {
    format!("thrum-{}", &unique_key(monitor)[..32])
}

fn key_of_watch(watch: WatchId) -> String {
    format!("thrum-watch-{watch}")
}

/// The order of alerts in a group.
const fn rank(what: AlertKind) -> u8 {
    match what {
        AlertKind::Down => 0,
        AlertKind::Reminder => 1,
        AlertKind::Signal => 2,
        _ => 3,
    }
}

/// The names of the first members, and how many more there are.
fn named(alerts: &[&Alert]) -> String {
    let mut names: Vec<&str> = alerts.iter().map(|alert| name(alert)).collect();
    names.dedup();
    let more = names.len().saturating_sub(MAX_NAMED);
    if more < 2 {
        return list(&names);
    }
    format!("{} and {more} more", names[..MAX_NAMED].join(", "))
}

fn list(names: &[&str]) -> String {
    match names {
        [] => String::new(),
        [one] => (*one).to_owned(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}

/// The name of what an alert is about.
pub fn name(alert: &Alert) -> &str {
    match &alert.monitor {
        Some(Subject { name, slug, .. }) if name.is_empty() && slug.is_empty() => {
            "a monitor without a name"
        }
        Some(Subject { name, slug, .. }) if name.is_empty() => slug,
        Some(Subject { name, .. }) => name,
        None => alert.signal.as_ref().map_or("", |change| &change.name),
    }
}

/// What happened, in a line, with `name` for the monitor.
pub fn headline(alert: &Alert, what: AlertKind, name: &str) -> String {
    match what {
        AlertKind::Up => match lasted(alert) {
            Some(ms) => format!("UP: {name} after {}", about(ms)),
            None => format!("UP: {name}"),
        },
        AlertKind::Reminder => match down_for(alert) {
            Some(ms) => format!("Still DOWN: {name} for {}", about(ms)),
            None => format!("Still DOWN: {name}"),
        },
        _ => match (why(alert), cause(alert)) {
            (Some(why), _) => format!("DOWN: {name}: {why}"),
            (None, Some(cause)) => format!("DOWN: {name} {cause}"),
            (None, None) => format!("DOWN: {name}"),
        },
    }
}

/// What was not as expected in the run that took a monitor down.
pub fn why(alert: &Alert) -> Option<&str> {
    alert.flip.as_ref()?.why.as_deref()
}

/// Why a monitor is down, as a verb phrase.
pub fn cause(alert: &Alert) -> Option<&'static str> {
    match alert.flip.as_ref()?.reason {
        Reason::Timeout => Some("missed its deadline"),
        Reason::Fail => Some("reported a failure"),
        Reason::Success | Reason::Paused | Reason::Resumed => None,
    }
}

/// How long a monitor that is up again was down, in milliseconds.
pub fn lasted(alert: &Alert) -> Option<i64> {
    alert.flip.as_ref()?.lasted_ms.filter(|ms| *ms > 0)
}

/// How long a monitor has been down when a reminder is sent, in milliseconds.
pub fn down_for(alert: &Alert) -> Option<i64> {
    let since = alert.flip.as_ref()?.at;
    let ms = UnixMs(alert.id.created_ms()) - since;
    (alert.what == AlertKind::Reminder && ms > 0).then_some(ms)
}

/// What happened, since when, and why: a few short sentences.
fn sentences(alert: &Alert, what: AlertKind, clock: &Clock) -> String {
    let name = name(alert);
    let at = clock.show(alert.happened());
    let mut text = match (what, lasted(alert), down_for(alert)) {
        (AlertKind::Down | AlertKind::Test, ..) => format!("{name} has been DOWN since {at}"),
        (AlertKind::Reminder, _, Some(ms)) => {
            format!(
                "{name} is still DOWN, for {} now. It went down at {at}",
                about(ms)
            )
        }
        (AlertKind::Reminder, ..) => format!("{name} is still DOWN. It went down at {at}"),
        (_, Some(ms), _) => format!(
            "{name} is UP again. It was down for {} and recovered at {at}",
            about(ms)
        ),
        _ => format!("{name} is UP again. It recovered at {at}"),
    };
    if what != AlertKind::Up {
        if let Some(reason) = reason(alert, clock) {
            let _ = write!(text, ": {reason}");
        }
        if alert.last_ping.is_none() {
            text.push_str(". It has never pinged");
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
            clock.show(outage.start),
            clock.show(outage.end)
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

/// Why a monitor is down, after a colon.
fn reason(alert: &Alert, clock: &Clock) -> Option<String> {
    if let Some(why) = why(alert) {
        return Some(why.to_owned());
    }
    let flip = alert.flip.as_ref()?;
    let grace_s = alert
        .monitor
        .as_ref()
        .and_then(|subject| subject.grace_s)
        .filter(|_| flip.outage.is_none());
    if let (Reason::Timeout, Some(deadline), Some(grace_s)) = (flip.reason, flip.deadline, grace_s)
    {
        let grace_ms = i64::from(grace_s) * 1000;
        return Some(format!(
            "a ping was due at {}, and none came within {} after that",
            clock.short(deadline + -grace_ms, deadline),
            about(grace_ms)
        ));
    }
    Some(format!("it {}", cause(alert)?))
}

/// What else helps.
fn facts(alert: &Alert, what: AlertKind, clock: &Clock) -> Vec<Fact> {
    let mut facts = Vec::new();
    let flip = alert.flip.as_ref();
    if what != AlertKind::Up {
        let success = flip.and_then(|flip| flip.last_success);
        let found = match (success, alert.last_ping) {
            (Some(success), _) => Some(("Last success", success)),
            (None, Some(last)) => Some(("Last ping", last)),
            (None, None) => None,
        };
        if let Some((label, at)) = found {
            let before = alert.happened() - at;
            let mut value = clock.show(at);
            if before > 0 {
                let _ = write!(value, ", {} before", about(before));
            }
            facts.push(Fact { label, value });
        }
    }
    if let Some(subject) = &alert.monitor {
        if !subject.schedule.is_empty() {
            facts.push(Fact {
                label: "Schedule",
                value: subject.schedule.clone(),
            });
        }
        if !subject.tags.is_empty() {
            facts.push(Fact {
                label: "Tags",
                value: subject.tags.join(", "),
            });
        }
        if !subject.children.is_empty() {
            facts.push(Fact {
                label: "Depend on it",
                value: format!(
                    "{}; while it is down, Thrum sends no alerts about them",
                    subject.children.join(", ")
                ),
            });
        }
    }
    facts
}

/// Replaces line breaks and control characters by spaces, so that the text is safe in a mail
/// header.
pub fn one_line(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}

/// The last lines of a job's output, as text for a message: valid, without control characters but for
/// line breaks and tabs, and at most [`MAX_OUTPUT`] bytes. `None` if nothing is left.
pub fn tail(output: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(output);
    let mut clean: String = text
        .chars()
        .filter(|c| !c.is_control() || matches!(c, '\n' | '\t'))
        .collect();
    clean.truncate(clean.trim_end().len());
    if clean.len() > MAX_OUTPUT {
        let mut from = clean.len() - MAX_OUTPUT + '…'.len_utf8() + 1;
        while !clean.is_char_boundary(from) {
            from += 1;
        }
        // Whole lines, unless the last one is very long.
        let cut = clean[from..].find('\n').filter(|at| *at < MAX_OUTPUT / 2);
        let from = cut.map_or(from, |at| from + at + 1);
        clean = format!("…\n{}", &clean[from..]);
    }
    let blank = clean.chars().all(char::is_whitespace);
    (!blank).then_some(clean)
}

/// An alert of a monitor that does not exist, for previews.
pub fn sample(what: AlertKind, now: UnixMs) -> Alert {
    let at = now + -60_000;
    let monitor = Monitor {
        name: "nightly backup".to_owned(),
        slug: "nightly-backup".to_owned(),
        tags: vec!["prod".to_owned(), "db".to_owned()],
        desc: "How to restore: https://wiki.example.org/backup".to_owned(),
        ..Monitor::new(MonitorId(Uuid::nil()), ProjectId::FIRST, now)
    };
    let up = what == AlertKind::Up;
    let (from, to) = if up {
        (Status::Down, Status::Up)
    } else {
        (Status::Up, Status::Down)
    };
    let flip = Flip {
        n: 2,
        at,
        from,
        to,
        reason: if up { Reason::Success } else { Reason::Fail },
        alert: true,
        silenced: false,
        deadline: None,
        outage: None,
        why: (!up).then(|| "exit status 4".to_owned()),
        missed: 0,
        lasted_ms: up.then_some(7_500_000),
        last_success: Some(at + -86_400_000),
    };
    let output = "pg_dump: error: connection to server at \"db\" failed";
    let id = AlertId(Uuid::from_u128(u128::from(now.0.unsigned_abs()) << 80));
    Alert {
        what,
        output: Some(output.to_owned()),
        ..Alert::of_flip(id, &monitor, &flip, Some(at), None, None)
    }
}

#[cfg(test)]
mod tests;
