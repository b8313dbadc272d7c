//! Requests to create or change a monitor. Absent fields keep their value, or get their default.

use super::view::{Keywords, WindowSpec};
use serde::de::{DeserializeOwned, Error};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use thrum_schema::Targets;
use thrum_schema::channel::{Channel, identify};
use thrum_schema::dependency::MAX_PARENTS;
use thrum_schema::error::Invalid;
use thrum_schema::expect::{Expectation, parse_all};
use thrum_schema::id::MonitorId;
use thrum_schema::monitor::{
    KeywordFilter, MAX_DESC, MAX_FAILURES, MAX_KEYWORDS, MAX_NAME, MAX_TAGS, MIN_REMIND_S,
    check_grace_s,
};
use thrum_schema::schedule::{MAX_PERIOD_S, Schedule};
use thrum_schema::silence::{MAX_SNOOZE_MS, MAX_WINDOWS, Window};
use thrum_schema::{Monitor, UnixMs};
use utoipa::ToSchema;

/// A monitor to create, or the fields of a monitor to change. Absent fields keep their value, or
/// get their default.
#[derive(Debug, Clone, Default, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct MonitorRequest {
    /// Only when creating: the uuid to give it, which no monitor may have.
    uuid: Option<String>,
    /// At most 100 characters.
    #[schema(max_length = 100)]
    name: Option<String>,
    /// At most 100 lowercase letters, digits, `-` and `_`.
    #[schema(pattern = "^[a-z0-9_-]{0,100}$")]
    slug: Option<String>,
    /// Words without spaces; at most 500 characters in total.
    tags: Option<Vec<String>>,
    /// At most 50000 characters.
    desc: Option<String>,
    /// Seconds between two pings.
    #[schema(minimum = 1, maximum = 31_536_000)]
    period_s: Option<u64>,
    /// A cron expression with five fields, or systemd calendar events; replaces `period_s`.
    schedule: Option<String>,
    /// The time zone of the expression, an IANA name.
    tz: Option<String>,
    /// How many seconds late a ping may be.
    #[schema(minimum = 0, maximum = 31_536_000)]
    grace_s: Option<u64>,
    /// `"all"`, or channels by ID or by exact, unique name.
    #[schema(value_type = Option<Value>)]
    channels: Option<Value>,
    /// Whether pings leave it paused.
    manual_resume: Option<bool>,
    /// `POST` if only POSTs count, else empty.
    methods: Option<String>,
    #[serde(deserialize_with = "object")]
    keywords: Option<Keywords>,
    /// How many seconds a run may take; null for the grace.
    #[serde(deserialize_with = "some")]
    #[schema(value_type = Option<u64>)]
    start_grace_s: Option<Option<u64>>,
    /// How many failures in a row take it down.
    #[schema(minimum = 1, maximum = 100)]
    failures: Option<u64>,
    /// Mark a run as early if it comes more than this many seconds before it is due; null for
    /// never.
    #[serde(deserialize_with = "some")]
    #[schema(value_type = Option<u64>)]
    early_s: Option<Option<u64>>,
    /// Watch every run by its run ID.
    all_runs: Option<bool>,
    /// Seconds between two reminders while it is down; null for none.
    #[serde(deserialize_with = "some")]
    #[schema(value_type = Option<u64>)]
    remind_s: Option<Option<u64>>,
    /// Send no alerts before this time, RFC 3339; null ends a snooze.
    #[serde(deserialize_with = "some")]
    #[schema(value_type = Option<String>)]
    snoozed_until: Option<Option<String>>,
    /// Recurring maintenance windows.
    windows: Option<Vec<WindowSpec>>,
    /// The monitors that it depends on, by uuid, slug or unique name; at most 10. While one of them is
    /// down, Thrum holds the alert that this monitor is down, and the parent's alert names this monitor.
    #[schema(max_items = 10)]
    parents: Option<Vec<String>>,
    /// What is expected of the metrics, and of `duration`, of a run: by its name, an object with
    /// `detector` (such as `auto`), `params`, `min`, `max` and `effect` (`down` or `warn`), or a text
    /// such as `"auto"` or `"min 1000 warn"`. Replaces all that was expected before.
    #[serde(deserialize_with = "some")]
    #[schema(value_type = Option<Object>)]
    expect: Option<Option<Map<String, Value>>>,
    /// When creating: update the existing monitor that has the same value in all of these fields,
    /// if there is one.
    unique: Option<Vec<UniqueMember>>,
}

/// A field that identifies the monitor to update.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum UniqueMember {
    Name,
    Slug,
}

/// Distinguishes an explicit null from a missing field.
pub fn some<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    from: D,
) -> Result<Option<Option<T>>, D::Error> {
    Option::deserialize(from).map(Some)
}

/// Distinguishes an explicit null from a missing field that is an object.
pub fn some_object<'de, T: DeserializeOwned, D: Deserializer<'de>>(
    from: D,
) -> Result<Option<Option<T>>, D::Error> {
    object(from).map(Some)
}

/// Reads an object. serde would also accept a list, and take its items as the fields in order.
fn object<'de, T: DeserializeOwned, D: Deserializer<'de>>(from: D) -> Result<Option<T>, D::Error> {
    let value = Option::<Map<String, Value>>::deserialize(from)?;
    let read = value.map(|fields| serde_json::from_value(Value::Object(fields)));
    read.transpose().map_err(D::Error::custom)
}

/// A valid request.
#[derive(Debug, Clone)]
pub struct ValidRequest {
    request: MonitorRequest,
    targets: Option<Targets>,
    windows: Option<Vec<Window>>,
    snoozed_until: Option<Option<UnixMs>>,
    expect: Option<BTreeMap<String, Expectation>>,
    parents: Option<Vec<MonitorId>>,
}

impl MonitorRequest {
    /// Its tags.
    #[cfg(test)]
    pub fn tags(&self) -> &[String] {
        self.tags.as_deref().unwrap_or_default()
    }

    /// Checks the request, as far as that is possible without the monitor.
    ///
    /// # Errors
    /// Every invalid field.
    pub fn check(self, channels: &[Channel], now: UnixMs) -> Result<ValidRequest, Vec<Invalid>> {
        let mut invalid = Vec::new();
        let uuid = self.uuid.as_deref().map(MonitorId::parse_canonical);
        if uuid == Some(None) {
            let problem =
                "must be a UUID in lower case, such as 5d2f0b1e-1c3a-4a4e-9a52-3f0c6a1b2d3e";
            invalid.push(Invalid::new("uuid", problem));
        }
        self.check_texts(&mut invalid);
        self.check_times(now, &mut invalid);
        let mut note = |checked: Result<(), Invalid>| invalid.extend(checked.err());
        if !matches!(self.methods.as_deref(), None | Some("" | "POST")) {
            note(Err(Invalid::new("methods", "must be POST or empty")));
        }
        if let Some(n) = self.failures
            && !(1..=u64::from(MAX_FAILURES)).contains(&n)
        {
            let problem = format!("must be between 1 and {MAX_FAILURES} (got {n})");
            note(Err(Invalid::new("failures", problem)));
        }
        if let Some(parents) = &self.parents
            && parents.len() > MAX_PARENTS
        {
            let problem = format!(
                "must have at most {MAX_PARENTS} items (got {})",
                parents.len()
            );
            note(Err(Invalid::new("parents", problem)));
        }
        let snoozed_until = match &self.snoozed_until {
            None => None,
            Some(None) => Some(None),
            Some(Some(text)) => match check_until("snoozed_until", text, now) {
                Ok(until) => Some(Some(until)),
                Err(error) => {
                    note(Err(error));
                    None
                }
            },
        };
        let targets = check_channels(self.channels.as_ref(), channels).unwrap_or_else(|error| {
            note(Err(error));
            None
        });
        let windows = match self.windows.as_deref().map(check_windows).transpose() {
            Ok(windows) => windows,
            Err(error) => {
                note(Err(error));
                None
            }
        };
        let expect = match self
            .expect
            .as_ref()
            .map(|given| {
                given
                    .as_ref()
                    .map_or_else(|| Ok(BTreeMap::new()), parse_all)
            })
            .transpose()
        {
            Ok(expect) => expect,
            Err(errors) => {
                invalid.extend(errors);
                None
            }
        };
        if !invalid.is_empty() {
            return Err(invalid);
        }
        Ok(ValidRequest {
            expect,
            parents: None,
            targets,
            windows,
            snoozed_until,
            request: self,
        })
    }

    fn check_texts(&self, invalid: &mut Vec<Invalid>) {
        let mut length = |field: &str, text: Option<&String>, max: usize| match text {
            Some(text) if text.chars().count() > max => {
                invalid.push(Invalid::new(
                    field,
                    format!("must be at most {max} characters"),
                ));
            }
            Some(text) if text.contains('\0') => {
                invalid.push(Invalid::new(field, "must not contain a NUL character"));
            }
            _ => {}
        };
        length("name", self.name.as_ref(), MAX_NAME);
        length("slug", self.slug.as_ref(), MAX_NAME);
        length("desc", self.desc.as_ref(), MAX_DESC);
        if let Some(keywords) = &self.keywords {
            length("keywords.failure", Some(&keywords.failure), MAX_KEYWORDS);
            length("keywords.success", Some(&keywords.success), MAX_KEYWORDS);
            length("keywords.start", Some(&keywords.start), MAX_KEYWORDS);
        }
        if let Some(slug) = &self.slug {
            invalid.extend(check_slug(slug).err());
        }
        if let Some(tags) = &self.tags {
            invalid.extend(check_tags(tags).err());
        }
    }

    fn check_times(&self, now: UnixMs, invalid: &mut Vec<Invalid>) {
        if let Some(period_s) = self.period_s {
            invalid.extend(Schedule::simple("period_s", period_s).err());
            if self.schedule.is_some() {
                let problem = "must not be combined with period_s";
                invalid.push(Invalid::new("schedule", problem));
            }
        }
        if self.schedule.is_some() || self.tz.is_some() {
            let expr = self.schedule.as_deref().unwrap_or("* * * * *");
            match Schedule::parse(expr, self.tz.as_deref().unwrap_or("UTC")) {
                Ok(schedule) if schedule.next_after(now).is_none() => {
                    invalid.push(Invalid::new("schedule", "has no time after now"));
                }
                Ok(_) => {}
                Err(error) => invalid.push(error),
            }
        }
        if let Some(grace_s) = self.grace_s {
            invalid.extend(check_grace_s("grace_s", grace_s).err());
        }
        let mut seconds = |field: &str, given: Option<Option<u64>>, least: u32| {
            if let Some(s) = given.flatten()
                && !(u64::from(least)..=u64::from(MAX_PERIOD_S)).contains(&s)
            {
                let problem = format!(
                    "must be between {least} and {MAX_PERIOD_S} seconds, or null (got {s})"
                );
                invalid.push(Invalid::new(field, problem));
            }
        };
        seconds("start_grace_s", self.start_grace_s, 1);
        seconds("early_s", self.early_s, 0);
        seconds("remind_s", self.remind_s, MIN_REMIND_S);
    }
}

impl ValidRequest {
    /// What the request calls the monitors that it depends on, if it changes them.
    pub fn named_parents(&self) -> Option<&[String]> {
        self.request.parents.as_deref()
    }

    /// The request with the monitors that it depends on.
    pub fn with_parents(self, parents: Vec<MonitorId>) -> Self {
        Self {
            parents: Some(parents),
            ..self
        }
    }

    /// The fields that identify the monitor of an upsert; `None` if this is not an upsert.
    pub fn unique(&self) -> Option<&[UniqueMember]> {
        self.request
            .unique
            .as_deref()
            .filter(|list| !list.is_empty())
    }

    /// The slug, if it identifies the monitor of an upsert.
    pub fn unique_slug(&self) -> Option<&str> {
        self.unique()
            .filter(|list| list.contains(&UniqueMember::Slug))
            .and(self.request.slug.as_deref())
    }

    /// Whether `monitor` is the one that an upsert should update.
    pub fn means(&self, monitor: &Monitor) -> bool {
        let request = &self.request;
        self.unique()
            .unwrap_or_default()
            .iter()
            .all(|field| match field {
                UniqueMember::Name => request.name.as_ref() == Some(&monitor.name),
                UniqueMember::Slug => request.slug.as_ref() == Some(&monitor.slug),
            })
    }

    /// The monitor with the request applied. The default grace of a new one is its period, at most
    /// one hour.
    pub fn applied_to(&self, before: &Monitor, is_new: bool) -> Result<Monitor, Invalid> {
        let request = &self.request;
        let mut monitor = before.clone();
        let uuid = request.uuid.as_deref().and_then(MonitorId::parse_canonical);
        if is_new {
            monitor.targets = Targets::All;
            monitor.id = uuid.unwrap_or(monitor.id);
        } else if uuid.is_some_and(|uuid| uuid != monitor.id) {
            return Err(Invalid::new("uuid", "can't be changed"));
        }
        let put = |field: &mut String, given: &Option<String>| {
            if let Some(text) = given {
                field.clone_from(text);
            }
        };
        put(&mut monitor.name, &request.name);
        put(&mut monitor.slug, &request.slug);
        put(&mut monitor.desc, &request.desc);
        if let Some(tags) = &request.tags {
            monitor.tags.clone_from(tags);
        }
        if let Some(period_s) = request.period_s {
            monitor.schedule = Schedule::simple("period_s", period_s)?;
        }
        self.reschedule(&mut monitor)?;
        match request.grace_s {
            Some(grace_s) => monitor.grace_s = check_grace_s("grace_s", grace_s)?,
            None if is_new => {
                let period_s = monitor.schedule.period_s().unwrap_or(monitor.grace_s);
                monitor.grace_s = monitor.grace_s.min(period_s);
            }
            None => {}
        }
        if let Some(targets) = &self.targets {
            monitor.targets.clone_from(targets);
        }
        monitor.manual_resume = request.manual_resume.unwrap_or(monitor.manual_resume);
        if let Some(methods) = &request.methods {
            monitor.post_only = methods == "POST";
        }
        if let Some(keywords) = &request.keywords {
            let keywords = keywords.clone();
            let any = [&keywords.failure, &keywords.success, &keywords.start]
                .iter()
                .any(|list| !list.is_empty());
            monitor.filter = KeywordFilter {
                failure: keywords.failure,
                success: keywords.success,
                start: keywords.start,
                http_body: keywords.http_body.unwrap_or(any),
                subject: keywords.subject,
                body: keywords.body,
                default_fail: keywords.default_fail,
            };
        }
        self.apply_options(&mut monitor);
        let mut expect = monitor.options.expect.iter();
        if monitor.slug.is_empty()
            && let Some((name, _)) = expect.find(|(_, expectation)| expectation.detector.is_some())
        {
            return Err(Invalid::new(
                format!("expect.{name}"),
                "needs a monitor with a slug; send slug, too",
            ));
        }
        Ok(monitor)
    }

    fn apply_options(&self, monitor: &mut Monitor) {
        let request = &self.request;
        let options = &mut monitor.options;
        let short = |s: Option<u64>| s.and_then(|s| u32::try_from(s).ok());
        if let Some(start_grace_s) = request.start_grace_s {
            options.start_grace_s = short(start_grace_s);
        }
        if let Some(early_s) = request.early_s {
            options.early_s = short(early_s);
        }
        if let Some(remind_s) = request.remind_s {
            options.remind_s = short(remind_s);
        }
        if let Some(failures) = request.failures {
            options.failures = short(Some(failures)).filter(|n| *n > 1);
        }
        options.all_runs = request.all_runs.unwrap_or(options.all_runs);
        if let Some(windows) = &self.windows {
            options.windows.clone_from(windows);
        }
        if let Some(until) = self.snoozed_until {
            options.snoozed_until = until;
        }
        if let Some(parents) = &self.parents {
            options.parents.clone_from(parents);
        }
        if let Some(expect) = &self.expect {
            options.expect.clone_from(expect);
        }
    }

    /// An expression or a time zone alone changes only that part of the existing schedule.
    fn reschedule(&self, monitor: &mut Monitor) -> Result<(), Invalid> {
        let request = &self.request;
        let (expr, tz) = match &monitor.schedule {
            Schedule::Simple { .. } => (None, None),
            Schedule::Cron { expr, tz } | Schedule::OnCalendar { expr, tz } => {
                (Some(expr.clone()), Some(tz.clone()))
            }
        };
        if request.schedule.is_none() && request.tz.is_none() {
            return Ok(());
        }
        match request.schedule.clone().or(expr) {
            Some(expr) => {
                let tz = request.tz.clone().or(tz);
                monitor.schedule = Schedule::parse(&expr, tz.as_deref().unwrap_or("UTC"))?;
                Ok(())
            }
            None => Err(Invalid::new(
                "tz",
                "needs a schedule, which this monitor does not have; send schedule, too",
            )),
        }
    }
}

/// Parses the end of a snooze, at most a year from now.
pub fn check_until(field: &str, text: &str, now: UnixMs) -> Result<UnixMs, Invalid> {
    let at = UnixMs::parse(field, text)?;
    if at - now > MAX_SNOOZE_MS {
        return Err(Invalid::new(field, "must be at most a year from now"));
    }
    Ok(at)
}

/// Checks maintenance windows.
pub fn check_windows(windows: &[WindowSpec]) -> Result<Vec<Window>, Invalid> {
    if windows.len() > MAX_WINDOWS {
        return Err(Invalid::new(
            "windows",
            format!(
                "must have at most {MAX_WINDOWS} items (got {})",
                windows.len()
            ),
        ));
    }
    windows
        .iter()
        .enumerate()
        .map(|(i, window)| {
            let field = format!("windows[{i}]");
            Window::new(&field, &window.cron, window.duration_s, &window.tz)
        })
        .collect()
}

fn check_slug(slug: &str) -> Result<(), Invalid> {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_');
    if slug.bytes().all(plain) {
        Ok(())
    } else {
        Err(Invalid::new(
            "slug",
            "must contain only lowercase letters, digits, '-' and '_'",
        ))
    }
}

fn check_tags(tags: &[String]) -> Result<(), Invalid> {
    for (i, tag) in tags.iter().enumerate() {
        if tag.is_empty() || tag.contains(|c: char| c.is_whitespace() || c == '\0') {
            return Err(Invalid::new(
                format!("tags[{i}]"),
                "must be a word without spaces",
            ));
        }
    }
    let joined: usize = tags.iter().map(|tag| tag.chars().count() + 1).sum();
    if joined > MAX_TAGS + 1 {
        return Err(Invalid::new(
            "tags",
            format!("must have at most {MAX_TAGS} characters together"),
        ));
    }
    Ok(())
}

pub fn check_channels(
    given: Option<&Value>,
    channels: &[Channel],
) -> Result<Option<Targets>, Invalid> {
    let invalid = || {
        Invalid::new(
            "channels",
            "must be \"all\", or a list of channel IDs or names",
        )
    };
    match given {
        None => Ok(None),
        Some(Value::String(all)) if all == "all" => Ok(Some(Targets::All)),
        Some(Value::Array(list)) => {
            let mut ids = Vec::new();
            for (i, item) in list.iter().enumerate() {
                let text = item.as_str().ok_or_else(invalid)?;
                let id = identify(text, channels).map_err(|problem| {
                    Invalid::new(
                        format!("channels[{i}]"),
                        format!("can't be used: {problem}"),
                    )
                })?;
                if !ids.contains(&id) {
                    ids.push(id);
                }
            }
            Ok(Some(Targets::These(ids)))
        }
        Some(_) => Err(invalid()),
    }
}
