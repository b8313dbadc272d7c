//! Texts that users write: the title and the text of a project's messages, and the bodies of webhooks.
//!
//! The templates are Jinja's (<https://docs.rs/minijinja>), with bounded work. A body that is JSON is
//! escaped as JSON, and everything else is plain text that a channel escapes, so that no value can
//! break out of its place.

use super::parts::{News, Notice, one_line};
use super::words::{cause, down_for, lasted, name, why};
use crate::alert::{Alert, Subject};
use crate::channel::kind::MAX_TEMPLATE;
use crate::error::Invalid;
use crate::project::Templates;
use minijinja::{AutoEscape, Environment, UndefinedBehavior};
use serde::Serialize;

/// How much work a template may do, in instructions.
const FUEL: u64 = 50_000;
/// Longest result, in bytes.
const MAX_RESULT: usize = 64_000;
/// Longest title that a template makes, in characters.
const MAX_TITLE: usize = 250;

/// What a template can use. Every value is there; an unknown one is empty.
#[derive(Debug, Clone, Serialize)]
pub struct Values {
    /// `down`, `up`, `reminder` or `info`.
    event: &'static str,
    /// Thrum's title.
    title: String,
    /// Thrum's sentences.
    text: String,
    /// Title and everything else, as in an e-mail.
    body: String,
    name: String,
    slug: String,
    tags: Vec<String>,
    description: String,
    schedule: String,
    /// Why it is down.
    reason: String,
    /// When it happened, RFC 3339.
    at: String,
    /// When it last succeeded, RFC 3339.
    last_success: String,
    /// How long it was down, or has been, in seconds.
    down_s: i64,
    /// How many runs were missed.
    missed: u32,
    output: String,
    link: String,
    /// What identifies the incident.
    key: String,
}

impl Values {
    /// The values of a message. `alert` is `None` for a group.
    pub fn new(notice: &Notice, alert: Option<&Alert>) -> Self {
        let subject = alert.and_then(|alert| alert.monitor.as_ref());
        let flip = alert.and_then(|alert| alert.flip.as_ref());
        let of_subject = |text: fn(&Subject) -> &str| {
            subject.map_or_else(String::new, |subject| text(subject).to_owned())
        };
        let reason = alert.and_then(|alert| {
            why(alert)
                .map(str::to_owned)
                .or_else(|| cause(alert).map(str::to_owned))
        });
        Self {
            event: match notice.news {
                News::Down => "down",
                News::Reminder => "reminder",
                News::Up => "up",
                News::Info => "info",
            },
            title: notice.title.clone(),
            text: notice.text.clone(),
            body: format!("{}\n\n{}", notice.title, notice.body()),
            name: alert.map_or_else(String::new, |alert| name(alert).to_owned()),
            slug: of_subject(|subject| &subject.slug),
            tags: subject.map_or_else(Vec::new, |subject| subject.tags.clone()),
            description: of_subject(|subject| &subject.desc),
            schedule: of_subject(|subject| &subject.schedule),
            reason: reason.unwrap_or_default(),
            at: notice.at.rfc3339(),
            last_success: flip
                .and_then(|flip| flip.last_success)
                .map_or_else(String::new, |at| at.rfc3339()),
            down_s: alert
                .and_then(|alert| lasted(alert).or_else(|| down_for(alert)))
                .map_or(0, |ms| ms / 1000),
            missed: flip.map_or(0, |flip| flip.missed),
            output: notice.output.clone().unwrap_or_default(),
            link: notice.link.clone().unwrap_or_default(),
            key: notice.key.clone(),
        }
    }
}

/// A message with the project's own texts. One that fails is left out, and the message says so; a
/// blank one is left out, too.
pub fn applied(mut notice: Notice, alert: &Alert, templates: &Templates) -> Notice {
    if templates.is_empty() || notice.news == News::Info {
        return notice;
    }
    let values = Values::new(&notice, Some(alert));
    let mut failed = None;
    let mut made = |template: &str| match template {
        "" => None,
        template => render(template, AutoEscape::None, &values)
            .map_err(|error| failed = Some(error))
            .ok()
            .filter(|made| !made.trim().is_empty()),
    };
    let (title, text) = (made(&templates.title), made(&templates.text));
    if let Some(title) = title {
        notice.title = one_line(title.trim()).chars().take(MAX_TITLE).collect();
    }
    if let Some(text) = text {
        text.trim().clone_into(&mut notice.text);
    }
    if let Some(error) = failed {
        notice.text = format!(
            "{}\n\n(The project's template failed: {error})",
            notice.text
        );
    }
    notice
}

/// The body that a webhook's template makes. If the template is JSON, values are written as JSON,
/// with their quotes.
///
/// # Errors
/// Why the template has no result.
pub fn body(template: &str, values: &Values) -> Result<String, String> {
    let is_json = is_json(template);
    let escape = if is_json {
        AutoEscape::Json
    } else {
        AutoEscape::None
    };
    let made = render(template, escape, values)?;
    if is_json && let Err(error) = serde_json::from_str::<serde::de::IgnoredAny>(&made) {
        return Err(format!(
            "the result is not JSON ({error}); values bring their own quotes, as in {{\"text\": {{{{ title }}}}}}"
        ));
    }
    Ok(made)
}

/// Whether a template makes JSON: it starts with a bracket that does not start a tag.
pub fn is_json(template: &str) -> bool {
    let start = template.trim_start();
    start.starts_with('[')
        || (start.starts_with('{') && !["{{", "{%", "{#"].iter().any(|tag| start.starts_with(tag)))
}

fn render(template: &str, escape: AutoEscape, values: &Values) -> Result<String, String> {
    let mut jinja = Environment::new();
    jinja.set_fuel(Some(FUEL));
    jinja.set_undefined_behavior(UndefinedBehavior::Strict);
    jinja.set_auto_escape_callback(move |_| escape.clone());
    let made = jinja
        .render_str(template, minijinja::value::Serde(values))
        .map_err(|error| explained(&error))?;
    if made.len() > MAX_RESULT {
        return Err(format!("the result is longer than {MAX_RESULT} bytes"));
    }
    Ok(made)
}

/// An error in one line: what, and where.
fn explained(error: &minijinja::Error) -> String {
    let what = match error.detail() {
        Some(detail) => format!("{}: {detail}", error.kind()),
        None => error.kind().to_string(),
    };
    match error.line() {
        Some(line) => format!("line {line}: {what}"),
        None => what,
    }
}

/// Checks a template by making a text of each of `samples` with it.
///
/// # Errors
/// It is too long, or has no result.
pub fn check(
    field: &str,
    template: &str,
    is_body: bool,
    samples: &[Values],
) -> Result<(), Invalid> {
    if template.len() > MAX_TEMPLATE {
        return Err(Invalid::new(
            field,
            format!(
                "must be at most {MAX_TEMPLATE} bytes (got {})",
                template.len()
            ),
        ));
    }
    for values in samples {
        let made = if is_body {
            body(template, values)
        } else {
            render(template, AutoEscape::None, values)
        };
        made.map_err(|error| Invalid::new(field, format!("is not a valid template: {error}")))?;
    }
    Ok(())
}
