//! What a message says, in parts that each kind of channel lays out in its own way.

mod clock;
mod parts;
mod signal;
pub mod template;
mod words;

pub use clock::{Clock, about};
pub use parts::{Fact, MAX_OUTPUT, News, Notice, one_line, tail};
pub use words::{cause, down_for, headline, lasted, name, why};

use crate::alert::{Alert, AlertKind};
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
use template::Values;
use uuid::Uuid;
use words::{facts, sentences};

/// How many alerts the text of a group lists.
const MAX_LISTED: usize = 50;
/// How many names the title of a group has.
const MAX_NAMED: usize = 3;

/// A project's message settings, and the site's URL.
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
                Self::of_monitor(alert, alert.what, voice).with_cause(alert, channel)
            }
            AlertKind::Signal => Self::of_signal(alert, voice),
            AlertKind::Test => Self::of_test(alert, channel, voice),
            AlertKind::Limited => Self::of_limit(alert, channel),
        };
        template::applied(plain, alert, &voice.project.templates)
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

    /// Adds why this channel gets it, if not every channel does.
    fn with_cause(mut self, alert: &Alert, channel: &Channel) -> Self {
        let id = channel.id.to_string();
        if alert
            .added
            .as_ref()
            .is_some_and(|added| added.contains(&id))
        {
            self.text
                .push_str(" It comes here because another channel failed.");
        } else if channel.after_s.is_some() && alert.what != AlertKind::Up {
            self.text.push_str(" Nobody has acknowledged it yet.");
        }
        self
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
        let at = alert.happened().utc().format("%Y-%m-%d");
        let reached = match channel.daily_limit {
            Some(limit) => format!(
                "its daily limit of {limit} messages on {at} (UTC), or one monitor used its half of it"
            ),
            None => format!("the daily limit of its plan on {at} (UTC)"),
        };
        Self {
            key: format!("limit-{}", channel.id),
            at: alert.happened(),
            title: one_line(&format!("Daily limit reached: {}", channel.name)),
            text: format!(
                "The channel {} reached {reached}. For the rest of that day, Thrum records further \
                 alerts but does not send them. Below the plan's limit, it still sends the first \
                 alert of the day that a monitor is down.",
                channel.name,
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
}

/// The key that identifies a monitor in other systems. Not its ID: anyone who knows that can ping it.
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
        trace: "1-67891233-abcdef012345678912345678".parse().ok(),
    };
    let output = "pg_dump: error: connection to server at \"db\" failed";
    let id = AlertId(Uuid::from_u128(u128::from(now.0.unsigned_abs()) << 80));
    Alert {
        what,
        output: Some(output.to_owned()),
        ..Alert::of_flip(id, &monitor, &flip, Some(at), None, None)
    }
}

/// Sample values to check templates with: a monitor that went down, is still down, and is up again, and
/// a message about several.
pub fn samples(now: UnixMs) -> Vec<Values> {
    let project = Project::new(ProjectId::FIRST, "");
    let voice = Voice::new(&project, None);
    let kinds = [AlertKind::Down, AlertKind::Reminder, AlertKind::Up];
    let of_alert = |what: AlertKind| {
        let alert = sample(what, now);
        Values::new(&Notice::of_monitor(&alert, what, &voice), Some(&alert))
    };
    let mut samples: Vec<Values> = kinds.map(of_alert).into();
    samples.push(Values::new(&Notice::default(), None));
    samples
}

#[cfg(test)]
mod tests;
