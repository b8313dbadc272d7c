//! What is down, late, running and silenced, and what is due next.

use super::fields::Fields;
use super::live::Live;
use super::page::{Page, failed};
use super::session::Viewer;
use super::words::{Relative, span};
use crate::app::App;
use crate::http::Problem;
use crate::http::site::Site;
use askama::Template;
use axum::extract::State;
use axum::response::Response;
use std::collections::BTreeMap;
use thrum_schema::silence;
use thrum_schema::state::Shown;
use thrum_schema::{Monitor, MonitorState, Outage, Schedule, UnixMs};

/// Monitors on a page.
const PER_PAGE: usize = 100;
/// How many of the next deadlines are shown.
const NEXT: usize = 5;
/// Most tags that can be chosen from a list; any can be searched for.
const MAX_TAGS: usize = 200;

/// Words that are searched for; more are left out.
const MAX_WORDS: usize = 10;

/// What the list can be narrowed to.
const FILTERS: [(&str, &str); 8] = [
    ("", "all"),
    ("down", "down"),
    ("late", "late"),
    ("up", "up"),
    ("new", "new"),
    ("paused", "paused"),
    ("running", "running"),
    ("silenced", "silenced"),
];

/// How the list can be sorted.
const SORTS: [(&str, &str); 4] = [
    ("", "urgency"),
    ("name", "name"),
    ("seen", "last heard"),
    ("deadline", "next deadline"),
];

/// A monitor in the list.
#[derive(Debug)]
pub struct Row<'a> {
    pub monitor: &'a Monitor,
    pub shown: Shown,
    pub running: bool,
    pub silenced: Option<UnixMs>,
    pub seen: Option<UnixMs>,
    pub expected: Option<UnixMs>,
    pub deadline: Option<UnixMs>,
    /// When its status last changed.
    pub changed: Option<UnixMs>,
    now: UnixMs,
}

impl<'a> Row<'a> {
    pub fn of(
        monitor: &'a Monitor,
        state: &MonitorState,
        project_silent: Option<UnixMs>,
        outages: &[Outage],
        now: UnixMs,
    ) -> Self {
        let options = &monitor.options;
        let own = silence::until(options.snoozed_until, &options.windows, now);
        Self {
            monitor,
            shown: state.shown(now, outages),
            running: state.runs().next().is_some(),
            silenced: own.max(project_silent),
            seen: state.seen,
            expected: state.expected(),
            deadline: state.deadline_after(outages).map(|(at, _)| at),
            changed: state.flip_at,
            now,
        }
    }

    /// Its status, as a word and a class.
    pub fn state(&self) -> &'static str {
        word(self.shown)
    }

    /// What people call it.
    pub fn name(&self) -> &'a str {
        self.monitor.label()
    }

    /// Its page.
    pub fn path(&self) -> String {
        path_of(self.monitor)
    }

    /// How often it is expected.
    pub fn schedule(&self) -> String {
        schedule(&self.monitor.schedule)
    }

    /// When it was last heard of.
    pub fn heard(&self) -> Option<Relative> {
        self.seen.map(|at| Relative { at, now: self.now })
    }

    /// What comes next for it, and when; or when it went down.
    pub fn next(&self) -> Option<(&'static str, Relative)> {
        let relative = |at| Relative { at, now: self.now };
        match (self.shown, self.expected, self.deadline) {
            (Shown::Up, Some(at), _) if !self.running => Some(("due", relative(at))),
            (Shown::Down, ..) => self.changed.map(|at| ("went down", relative(at))),
            (Shown::Up | Shown::Grace | Shown::New | Shown::Paused, _, Some(at)) => {
                Some(("alerts", relative(at)))
            }
            _ => None,
        }
    }

    fn is(&self, filter: &str) -> bool {
        match filter {
            "running" => self.running,
            "silenced" => self.silenced.is_some(),
            filter => self.state() == filter,
        }
    }

    fn urgency(&self) -> i64 {
        match self.shown {
            Shown::Down if self.silenced.is_none() => 0,
            Shown::Down => 1,
            Shown::Grace => 2,
            Shown::New => 3,
            Shown::Up => 4,
            Shown::Paused => 5,
        }
    }
}

/// A status, as a word and a class.
pub const fn word(shown: Shown) -> &'static str {
    match shown {
        Shown::New => "new",
        Shown::Up => "up",
        Shown::Grace => "late",
        Shown::Down => "down",
        Shown::Paused => "paused",
    }
}

/// A monitor's page. Its address holds no secret.
pub fn path_of(monitor: &Monitor) -> String {
    format!("/monitors/{}", monitor.unique_key())
}

/// How often a monitor is expected.
pub fn schedule(schedule: &Schedule) -> String {
    match schedule {
        Schedule::Simple { period_s } => format!("every {}", span(i64::from(*period_s))),
        Schedule::Cron { expr, tz } | Schedule::OnCalendar { expr, tz } => format!("{expr} ({tz})"),
    }
}

#[derive(Template)]
#[template(path = "overview.html")]
struct Overview<'a> {
    viewer: &'a Viewer,
    site: Site,
    query: &'a Fields,
    total: usize,
    down: usize,
    late: usize,
    filters: Vec<(&'static str, &'static str, usize)>,
    sorts: &'static [(&'static str, &'static str)],
    tags: Vec<(&'a str, usize)>,
    next: Vec<(&'a str, String, Relative)>,
    rows: &'a [Row<'a>],
    found: usize,
    page: usize,
    pages: usize,
    silenced_until: Option<Relative>,
}

impl Overview<'_> {
    /// The address of this list with one thing changed; from the first page on.
    fn link(&self, name: &str, value: &str) -> String {
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        for field in ["q", "tag", "status", "sort", "page"] {
            let value = match field == name {
                true => value,
                false if field == "page" => "",
                false => self.query.text(field),
            };
            if !value.is_empty() {
                query.append_pair(field, value);
            }
        }
        let query = query.finish();
        if query.is_empty() {
            "/".to_owned()
        } else {
            format!("/?{query}")
        }
    }
}

/// `GET /`
pub async fn get(State(app): State<App>, viewer: Viewer, site: Site, query: Fields) -> Response {
    match show(&app, &viewer, site, &query).await {
        Ok(response) => response,
        Err(problem) => failed(Some(&viewer), &problem),
    }
}

async fn show(app: &App, viewer: &Viewer, site: Site, query: &Fields) -> Result<Response, Problem> {
    let id = viewer.key.project;
    let (monitors, outages) = futures::try_join!(app.monitors.list(id), app.store.outages())?;
    let states = app.monitors.known_states(id, &monitors).await?;
    let now = app.store.world().now();
    let project = &viewer.project;
    let silent = silence::until(project.snoozed_until, &project.windows, now);
    let mut rows: Vec<Row<'_>> = monitors
        .iter()
        .zip(states.iter())
        .map(|(monitor, state)| Row::of(monitor, state, silent, &outages, now))
        .collect();
    let total = rows.len();
    let count = |filter: &str| rows.iter().filter(|row| row.is(filter)).count();
    let filters = FILTERS.map(|(filter, name)| match filter {
        "" => (filter, name, total),
        filter => (filter, name, count(filter)),
    });
    let (down, late) = (filters[1].2, filters[2].2);
    let mut tags: BTreeMap<&str, usize> = BTreeMap::new();
    for monitor in monitors.iter() {
        for tag in &monitor.tags {
            *tags.entry(tag).or_default() += 1;
        }
    }
    let mut upcoming: Vec<&Row<'_>> = rows
        .iter()
        .filter(|row| row.deadline.is_some_and(|at| at > now))
        .collect();
    let soonest = NEXT.min(upcoming.len());
    if soonest > 0 {
        upcoming.select_nth_unstable_by_key(soonest - 1, |row| row.deadline);
        upcoming.truncate(soonest);
        upcoming.sort_by_key(|row| row.deadline);
    }
    let next = upcoming
        .iter()
        .filter_map(|row| {
            Some((
                row.name(),
                row.path(),
                Relative {
                    at: row.deadline?,
                    now,
                },
            ))
        })
        .collect();

    let words: Vec<String> = query
        .text("q")
        .split_whitespace()
        .take(MAX_WORDS)
        .map(str::to_lowercase)
        .collect();
    let (tag, status) = (query.text("tag"), query.text("status"));
    rows.retain(|row| {
        let monitor = row.monitor;
        let text = || {
            let (name, slug, desc) = (&monitor.name, &monitor.slug, &monitor.desc);
            format!("{name}\n{slug}\n{}\n{desc}", monitor.tags.join("\n")).to_lowercase()
        };
        (status.is_empty() || row.is(status))
            && (tag.is_empty() || monitor.tags.iter().any(|t| t == tag))
            && (words.is_empty() || {
                let text = text();
                words.iter().all(|word| text.contains(word))
            })
    });
    let sort = query.text("sort");
    rows.sort_by_cached_key(|row| {
        let first = match sort {
            "name" => 0,
            "seen" => row.seen.map_or(i64::MAX, |at| -at.0),
            "deadline" => row.deadline.map_or(i64::MAX, |at| at.0),
            _ => row.urgency(),
        };
        (first, row.name().to_lowercase(), row.monitor.id)
    });
    let found = rows.len();
    let pages = found.div_ceil(PER_PAGE).max(1);
    let number = query.text("page").parse().unwrap_or(1).clamp(1, pages);
    let first = (number - 1) * PER_PAGE;
    let shown = &mut rows[first..found.min(first + PER_PAGE)];
    // What is counted may be some seconds old where nothing tells of changes; what is shown is not.
    if app.monitors.knows_late(total) {
        let monitors: Vec<&Monitor> = shown.iter().map(|row| row.monitor).collect();
        for (row, state) in shown.iter_mut().zip(app.monitors.states(&monitors).await?) {
            *row = Row::of(row.monitor, &state, silent, &outages, now);
        }
    }
    let body = Overview {
        viewer,
        site,
        query,
        total,
        down,
        late,
        filters: filters.into(),
        sorts: &SORTS,
        tags: tags.into_iter().take(MAX_TAGS).collect(),
        next,
        rows: shown,
        found,
        page: number,
        pages,
        silenced_until: silent.map(|at| Relative { at, now }),
    };
    let title = match (down, late) {
        (0, 0) => "All is well".to_owned(),
        (0, late) => format!("{late} late"),
        (down, _) => format!("{down} down"),
    };
    let page = Page {
        section: "/",
        title: &title,
        viewer: Some(viewer),
        said: query.text("done"),
        wrong: None,
        live: Live::of(app),
    };
    Ok(page.show(&body))
}
