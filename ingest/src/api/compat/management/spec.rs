//! Requests to create or change a check. Parsing is strict, and reports the first problem in the
//! order of the names of the fields.

use serde_json::{Map, Value};
use std::collections::BTreeSet;
use thrum_schema::Monitor;
use thrum_schema::Targets;
use thrum_schema::channel::{Channel, identify};
use thrum_schema::id::ChannelId;
use thrum_schema::monitor::slugify;
use thrum_schema::monitor::{MAX_DESC, MAX_KEYWORDS, MAX_NAME, MAX_TAGS};
use thrum_schema::schedule::{MAX_EXPRESSION, MAX_PERIOD_S, Schedule};
use thrum_schema::zone::Zone;

/// The shortest period and grace in this API, in seconds.
const MIN_S: i64 = 60;

/// The fields of a request. Others are ignored.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Spec {
    pub channels: Option<String>,
    pub desc: Option<String>,
    pub failure_kw: Option<String>,
    pub filter_body: Option<bool>,
    pub filter_default_fail: Option<bool>,
    pub filter_http_body: Option<bool>,
    pub filter_subject: Option<bool>,
    pub grace: Option<u32>,
    pub manual_resume: Option<bool>,
    pub methods: Option<String>,
    pub name: Option<String>,
    pub schedule: Option<String>,
    pub slug: Option<String>,
    pub start_kw: Option<String>,
    pub subject: Option<String>,
    pub subject_fail: Option<String>,
    pub success_kw: Option<String>,
    pub tags: Option<String>,
    pub timeout: Option<u32>,
    pub tz: Option<String>,
    pub unique: Vec<Unique>,
}

/// A check to create, or the fields of a check to change. All fields are optional.
#[derive(Debug, serde::Serialize, utoipa::ToSchema)]
pub struct CheckRequest {
    /// At most 100 characters.
    name: Option<String>,
    /// At most 100 lowercase letters, digits, `-` and `_`.
    #[schema(pattern = "^[a-z0-9_-]*$", max_length = 100)]
    slug: Option<String>,
    /// Separated by spaces; at most 500 characters.
    tags: Option<String>,
    /// At most 4000 characters.
    desc: Option<String>,
    /// Seconds between two successes.
    #[schema(minimum = 60, maximum = 31_536_000)]
    timeout: Option<i64>,
    /// Seconds of grace.
    #[schema(minimum = 60, maximum = 31_536_000)]
    grace: Option<i64>,
    /// A cron or OnCalendar expression; takes precedence over `timeout`.
    schedule: Option<String>,
    /// The time zone of the expression, an IANA name.
    tz: Option<String>,
    /// Whether pings leave it paused.
    manual_resume: Option<bool>,
    /// `POST` if only POSTs count, else empty.
    methods: Option<String>,
    start_kw: Option<String>,
    success_kw: Option<String>,
    failure_kw: Option<String>,
    filter_subject: Option<bool>,
    filter_body: Option<bool>,
    filter_http_body: Option<bool>,
    filter_default_fail: Option<bool>,
    /// The older name of `success_kw` with `filter_subject`.
    subject: Option<String>,
    /// The older name of `failure_kw` with `filter_subject`.
    subject_fail: Option<String>,
    /// Channels by ID or name, separated by commas; `*` for all of them.
    channels: Option<String>,
    /// Update the existing check that has the same value in all of these fields, if there is one.
    unique: Option<Vec<String>>,
    /// The API key, if it is not in a header.
    api_key: Option<String>,
}

/// A field that identifies the check to update.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unique {
    Name,
    Slug,
    Tags,
    Timeout,
    Grace,
}

impl Spec {
    /// Parses the fields of a request.
    ///
    /// # Errors
    /// The first problem, as `<field> <problem>`.
    pub fn parse(fields: &Map<String, Value>) -> Result<Self, String> {
        let fields = Fields(fields);
        Ok(Self {
            channels: fields.text("channels", usize::MAX)?,
            desc: fields.text("desc", MAX_DESC)?,
            failure_kw: fields.text("failure_kw", MAX_KEYWORDS)?,
            filter_body: fields.flag("filter_body")?,
            filter_default_fail: fields.flag("filter_default_fail")?,
            filter_http_body: fields.flag("filter_http_body")?,
            filter_subject: fields.flag("filter_subject")?,
            grace: fields.seconds("grace")?,
            manual_resume: fields.flag("manual_resume")?,
            methods: fields.methods()?,
            name: fields.text("name", MAX_NAME)?,
            schedule: fields.schedule()?,
            slug: fields.slug()?,
            start_kw: fields.text("start_kw", MAX_KEYWORDS)?,
            subject: fields.text("subject", MAX_KEYWORDS)?,
            subject_fail: fields.text("subject_fail", MAX_KEYWORDS)?,
            success_kw: fields.text("success_kw", MAX_KEYWORDS)?,
            tags: fields.text("tags", MAX_TAGS)?,
            timeout: fields.seconds("timeout")?,
            tz: fields.tz()?,
            unique: fields.unique()?,
        })
    }

    /// Where the check's alerts go, if the request says so: channels by ID or by exact, unique
    /// name.
    ///
    /// # Errors
    /// An identifier is empty, or does not name exactly one channel.
    pub fn targets(&self, channels: &[Channel]) -> Result<Option<Targets>, String> {
        let ids = match self.channels.as_deref() {
            None => return Ok(None),
            Some("") => BTreeSet::new(),
            Some("*") => channels.iter().map(|channel| channel.id).collect(),
            Some(list) => list
                .split(',')
                .map(|identifier| identify(identifier, channels))
                .collect::<Result<BTreeSet<ChannelId>, String>>()?,
        };
        Ok(Some(Targets::These(ids.into_iter().collect())))
    }

    /// The monitor with the request applied. Versions 1 and 2 derive the slug from the name.
    pub fn applied_to(&self, monitor: &Monitor, targets: Option<&Targets>, version: u8) -> Monitor {
        let mut new = monitor.clone();
        if let Some(name) = &self.name {
            if version < 3 && *name != monitor.name {
                new.slug = slugify(name);
            }
            new.name.clone_from(name);
        }
        set(&mut new.slug, self.slug.as_ref());
        set(&mut new.desc, self.desc.as_ref());
        if let Some(tags) = &self.tags {
            new.tags = tags.split_whitespace().map(str::to_owned).collect();
        }
        set(&mut new.grace_s, self.grace.as_ref());
        set(&mut new.manual_resume, self.manual_resume.as_ref());
        if let Some(methods) = &self.methods {
            new.post_only = methods == "POST";
        }
        set(&mut new.targets, targets);
        self.filter(&mut new);
        self.reschedule(&mut new);
        new
    }

    fn filter(&self, monitor: &mut Monitor) {
        let filter = &mut monitor.filter;
        // Older clients' names for the keywords of e-mails.
        for (given, keywords) in [
            (&self.subject, &mut filter.success),
            (&self.subject_fail, &mut filter.failure),
        ] {
            set(keywords, given.as_ref());
        }
        if self.subject.is_some() || self.subject_fail.is_some() {
            filter.subject = !(filter.success.is_empty() && filter.failure.is_empty());
        }
        set(&mut filter.start, self.start_kw.as_ref());
        set(&mut filter.success, self.success_kw.as_ref());
        set(&mut filter.failure, self.failure_kw.as_ref());
        set(&mut filter.subject, self.filter_subject.as_ref());
        set(&mut filter.body, self.filter_body.as_ref());
        set(&mut filter.http_body, self.filter_http_body.as_ref());
        set(&mut filter.default_fail, self.filter_default_fail.as_ref());
    }

    /// A schedule takes precedence over a timeout. A time zone alone changes only the zone of the
    /// existing schedule.
    fn reschedule(&self, monitor: &mut Monitor) {
        let (expr, zone_before) = match &monitor.schedule {
            Schedule::Simple { .. } => (None, monitor.zone.clone()),
            Schedule::Cron { expr, tz } | Schedule::OnCalendar { expr, tz } => {
                (Some(expr.clone()), Some(tz.clone()))
            }
        };
        let tz = self.tz.clone().or(zone_before);
        let expr = match (&self.schedule, self.timeout) {
            (Some(expr), _) => Some(expr.clone()),
            (None, Some(period_s)) => {
                monitor.schedule = Schedule::Simple { period_s };
                None
            }
            (None, None) => expr,
        };
        let parsed = expr.and_then(|expr| {
            let tz = tz.as_deref().unwrap_or("UTC");
            Schedule::parse(&expr, tz).ok()
        });
        match parsed {
            Some(schedule) => {
                monitor.schedule = schedule;
                monitor.zone = None;
            }
            None => monitor.zone = tz.filter(|tz| tz != "UTC"),
        }
    }

    /// Whether the slug is among the fields that identify the check of an upsert.
    pub fn knows_by_slug(&self) -> bool {
        self.unique.contains(&Unique::Slug)
    }

    /// Whether `monitor` is the one that an upsert should update. If the request lacks a field that
    /// `unique` lists, there is none.
    pub fn means(&self, monitor: &Monitor) -> bool {
        self.unique.iter().all(|unique| match unique {
            Unique::Name => self.name.as_ref() == Some(&monitor.name),
            Unique::Slug => self.slug.as_ref() == Some(&monitor.slug),
            Unique::Tags => self.tags.as_deref().is_some_and(|tags| {
                tags.split_whitespace()
                    .eq(monitor.tags.iter().map(String::as_str))
            }),
            Unique::Timeout => {
                self.timeout.is_some() && self.timeout == monitor.schedule.period_s()
            }
            Unique::Grace => self.grace == Some(monitor.grace_s),
        })
    }
}

fn set<T: Clone>(field: &mut T, given: Option<&T>) {
    if let Some(given) = given {
        field.clone_from(given);
    }
}

/// The fields of a request, with a strict reader for each type.
struct Fields<'a>(&'a Map<String, Value>);

impl Fields<'_> {
    fn text(&self, name: &str, max: usize) -> Result<Option<String>, String> {
        match self.0.get(name) {
            None => Ok(None),
            Some(Value::String(text)) if text.chars().count() > max => {
                Err(format!("{name} is too long"))
            }
            Some(Value::String(text)) if text.contains('\0') => {
                Err(format!("{name} does not match pattern"))
            }
            Some(Value::String(text)) => Ok(Some(text.clone())),
            Some(_) => Err(format!("{name} is not a string")),
        }
    }

    fn flag(&self, name: &str) -> Result<Option<bool>, String> {
        match self.0.get(name) {
            None => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(*flag)),
            Some(_) => Err(format!("{name} is not a boolean")),
        }
    }

    fn seconds(&self, name: &str) -> Result<Option<u32>, String> {
        let number = match self.0.get(name) {
            None => return Ok(None),
            // In the original's language, a boolean is a number.
            Some(Value::Bool(flag)) => i64::from(*flag),
            Some(Value::Number(number)) => match (number.as_i64(), number.as_u64()) {
                (Some(number), _) => number,
                (None, Some(_)) => i64::MAX,
                (None, None) => return Err(format!("{name} is not a number")),
            },
            Some(_) => return Err(format!("{name} is not a number")),
        };
        if number < MIN_S {
            return Err(format!("{name} is too small"));
        }
        match u32::try_from(number) {
            Ok(seconds) if seconds <= MAX_PERIOD_S => Ok(Some(seconds)),
            _ => Err(format!("{name} is too large")),
        }
    }

    fn methods(&self) -> Result<Option<String>, String> {
        let methods = self.text("methods", usize::MAX)?;
        match methods.as_deref() {
            None | Some("" | "POST") => Ok(methods),
            Some(_) => Err("methods has unexpected value".to_owned()),
        }
    }

    fn slug(&self) -> Result<Option<String>, String> {
        let slug = self.text("slug", MAX_NAME)?;
        let plain =
            |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_');
        match &slug {
            Some(text) if !text.bytes().all(plain) => Err("slug does not match pattern".to_owned()),
            _ => Ok(slug),
        }
    }

    fn schedule(&self) -> Result<Option<String>, String> {
        let schedule = self.text("schedule", MAX_EXPRESSION)?;
        match &schedule {
            Some(expr) if Schedule::parse(expr, "UTC").is_err() => {
                Err("schedule is not a valid cron or OnCalendar expression".to_owned())
            }
            _ => Ok(schedule),
        }
    }

    fn tz(&self) -> Result<Option<String>, String> {
        match self.text("tz", MAX_NAME)? {
            None => Ok(None),
            Some(tz) => match Zone::named(&tz) {
                Some(zone) => Ok(Some(zone.name().to_owned())),
                None => Err("tz is not a valid timezone".to_owned()),
            },
        }
    }

    fn unique(&self) -> Result<Vec<Unique>, String> {
        let items = match self.0.get("unique") {
            None => return Ok(Vec::new()),
            Some(Value::Array(items)) => items,
            Some(_) => return Err("unique is not an array".to_owned()),
        };
        items
            .iter()
            .map(|item| match item.as_str() {
                Some("name") => Ok(Unique::Name),
                Some("slug") => Ok(Unique::Slug),
                Some("tags") => Ok(Unique::Tags),
                Some("timeout") => Ok(Unique::Timeout),
                Some("grace") => Ok(Unique::Grace),
                Some(_) => Err("an item in 'unique' has unexpected value".to_owned()),
                None => Err("an item in 'unique' is not a string".to_owned()),
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use thrum_schema::{MonitorId, ProjectId, UnixMs};

    fn parse(value: Value) -> Result<Spec, String> {
        Spec::parse(value.as_object().unwrap())
    }

    #[test]
    fn the_first_problem_is_named_in_the_order_of_the_fields() {
        let long = |n: usize| "x".repeat(n);
        for (body, expected) in [
            (json!({"name": null}), "name is not a string"),
            (json!({"name": long(101)}), "name is too long"),
            (json!({"name": "a\u{0}b"}), "name does not match pattern"),
            (json!({"desc": 1}), "desc is not a string"),
            (json!({"desc": long(50_001)}), "desc is too long"),
            (json!({"tags": long(501)}), "tags is too long"),
            (json!({"timeout": "60"}), "timeout is not a number"),
            (json!({"timeout": 60.5}), "timeout is not a number"),
            (json!({"timeout": 60.0}), "timeout is not a number"),
            (json!({"timeout": null}), "timeout is not a number"),
            (json!({"timeout": true}), "timeout is too small"),
            (json!({"timeout": 59}), "timeout is too small"),
            (json!({"timeout": 31_536_001}), "timeout is too large"),
            (
                json!({"timeout": 1_000_000_000_000_000_u64}),
                "timeout is too large",
            ),
            (json!({"timeout": u64::MAX}), "timeout is too large"),
            (json!({"grace": 59}), "grace is too small"),
            (json!({"grace": []}), "grace is not a number"),
            (
                json!({"manual_resume": 1}),
                "manual_resume is not a boolean",
            ),
            (
                json!({"filter_subject": "x"}),
                "filter_subject is not a boolean",
            ),
            (json!({"methods": "GET"}), "methods has unexpected value"),
            (json!({"methods": 1}), "methods is not a string"),
            (json!({"slug": "Web"}), "slug does not match pattern"),
            (json!({"slug": "web\n"}), "slug does not match pattern"),
            (json!({"success_kw": long(201)}), "success_kw is too long"),
            (json!({"subject": long(201)}), "subject is too long"),
            (
                json!({"schedule": "* * *"}),
                "schedule is not a valid cron or OnCalendar expression",
            ),
            (
                json!({"schedule": "0 0 30 2 *"}),
                "schedule is not a valid cron or OnCalendar expression",
            ),
            (json!({"schedule": long(101)}), "schedule is too long"),
            (json!({"tz": "Mars/Olympus"}), "tz is not a valid timezone"),
            (json!({"tz": 1}), "tz is not a string"),
            (json!({"unique": "name"}), "unique is not an array"),
            (
                json!({"unique": ["status"]}),
                "an item in 'unique' has unexpected value",
            ),
            (
                json!({"unique": [1]}),
                "an item in 'unique' is not a string",
            ),
            (json!({"channels": ["x"]}), "channels is not a string"),
            (
                json!({"timeout": 1, "grace": 1, "name": 1}),
                "grace is too small",
            ),
            (json!({"tz": 1, "channels": 1}), "channels is not a string"),
        ] {
            assert_eq!(parse(body.clone()).unwrap_err(), expected, "{body}");
        }
        assert_eq!(parse(json!({"whatever": null})).unwrap(), Spec::default());
    }

    #[test]
    fn schedules_timeouts_and_zones_go_together() {
        let monitor = Monitor::new(
            MonitorId(uuid::Uuid::from_u128(1)),
            ProjectId::FIRST,
            UnixMs(0),
        );
        let apply =
            |monitor: &Monitor, body: Value| parse(body).unwrap().applied_to(monitor, None, 3);
        let zoned = apply(&monitor, json!({"timeout": 60, "tz": "Europe/Kiev"}));
        assert_eq!(zoned.schedule.period_s(), Some(60));
        let cron = apply(&zoned, json!({"schedule": "0 3 * * *"}));
        let expected = Schedule::parse("0 3 * * *", "Europe/Kyiv").unwrap();
        assert_eq!(cron.schedule, expected);
        let moved = apply(&cron, json!({"tz": "UTC", "grace": 120}));
        assert_eq!(moved.schedule, Schedule::parse("0 3 * * *", "UTC").unwrap());
        let both = apply(&moved, json!({"timeout": 60, "schedule": "daily"}));
        assert_eq!(both.schedule, Schedule::parse("daily", "UTC").unwrap());
        assert_eq!(apply(&both, json!({"name": "x"})).schedule, both.schedule);
        assert_eq!(
            apply(&both, json!({"timeout": 90})).schedule.period_s(),
            Some(90)
        );
    }
}
