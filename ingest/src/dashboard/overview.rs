//! The overview: all monitors with their states, and the next deadlines.

mod row;

pub use row::{Row, path_of, word};

use super::fields::Fields;
use super::live::Live;
use super::page::{Page, failed};
use super::session::Viewer;
use super::words::Relative;
use crate::app::App;
use crate::http::Problem;
use crate::http::site::Site;
use askama::Template;
use axum::extract::State;
use axum::response::Response;
use std::collections::BTreeMap;
use thrum_schema::{Monitor, UnixMs, silence};

/// Monitors per page.
const PER_PAGE: usize = 100;
/// Number of upcoming deadlines shown.
const NEXT: usize = 5;
/// Maximum number of tags in the drop-down list; the search finds every tag.
const MAX_TAGS: usize = 200;
/// Maximum number of words in a search; the rest are ignored.
const MAX_WORDS: usize = 10;

/// The filters of the list: query value and name.
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

/// The sort orders of the list: query value and name.
const SORTS: [(&str, &str); 4] = [
    ("", "urgency"),
    ("name", "name"),
    ("seen", "last ping"),
    ("deadline", "next deadline"),
];

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
    /// The URL of this list with one query field changed, starting at the first page again.
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
    let filters = counted(&rows);
    let (down, late) = (filters[1].2, filters[2].2);
    let tags = tags(&rows);
    let next = upcoming(&rows, now);
    narrow(&mut rows, query);
    sort(&mut rows, query.text("sort"));
    let found = rows.len();
    let pages = found.div_ceil(PER_PAGE).max(1);
    let number = query.text("page").parse().unwrap_or(1).clamp(1, pages);
    let first = (number - 1) * PER_PAGE;
    let shown = &mut rows[first..found.min(first + PER_PAGE)];
    // Without a change feed, the counts may be a few seconds old. Read the displayed rows again.
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
        tags,
        next,
        rows: shown,
        found,
        page: number,
        pages,
        silenced_until: silent.map(|at| Relative { at, now }),
    };
    let page = Page {
        section: "/",
        title: &title(down, late),
        viewer: Some(viewer),
        said: query.text("done"),
        wrong: None,
        live: Live::of(app),
        invalid: false,
    };
    Ok(page.show(&body))
}

/// Title of the browser tab.
fn title(down: usize, late: usize) -> String {
    match (down, late) {
        (0, 0) => "All is well".to_owned(),
        (0, late) => format!("{late} late"),
        (down, _) => format!("{down} down"),
    }
}

/// The filters, with the number of monitors that match each.
fn counted(rows: &[Row<'_>]) -> [(&'static str, &'static str, usize); 8] {
    let count = |filter: &str| rows.iter().filter(|row| row.is(filter)).count();
    FILTERS.map(|(filter, name)| match filter {
        "" => (filter, name, rows.len()),
        filter => (filter, name, count(filter)),
    })
}

/// The tags, with the number of monitors that have each.
fn tags<'a>(rows: &[Row<'a>]) -> Vec<(&'a str, usize)> {
    let mut tags: BTreeMap<&str, usize> = BTreeMap::new();
    for tag in rows.iter().flat_map(|row| &row.monitor.tags) {
        *tags.entry(tag).or_default() += 1;
    }
    tags.into_iter().take(MAX_TAGS).collect()
}

/// The next deadlines: name, path and time.
fn upcoming<'a>(rows: &[Row<'a>], now: UnixMs) -> Vec<(&'a str, String, Relative)> {
    let mut upcoming: Vec<&Row<'a>> = rows
        .iter()
        .filter(|row| row.deadline.is_some_and(|at| at > now))
        .collect();
    let soonest = NEXT.min(upcoming.len());
    if soonest > 0 {
        upcoming.select_nth_unstable_by_key(soonest - 1, |row| row.deadline);
        upcoming.truncate(soonest);
        upcoming.sort_by_key(|row| row.deadline);
    }
    let shown = upcoming.into_iter().filter_map(|row| {
        let at = row.deadline?;
        Some((row.name(), row.path(), Relative { at, now }))
    });
    shown.collect()
}

/// Keeps the rows that match the query's status, tag and all search words.
fn narrow(rows: &mut Vec<Row<'_>>, query: &Fields) {
    let words = query.text("q").split_whitespace().take(MAX_WORDS);
    let words: Vec<String> = words.map(str::to_lowercase).collect();
    let (tag, status) = (query.text("tag"), query.text("status"));
    rows.retain(|row| {
        let monitor = row.monitor;
        let has_words = || {
            let (name, slug, desc) = (&monitor.name, &monitor.slug, &monitor.desc);
            let tags = monitor.tags.join("\n");
            let text = format!("{name}\n{slug}\n{tags}\n{desc}").to_lowercase();
            words.iter().all(|word| text.contains(word))
        };
        (status.is_empty() || row.is(status))
            && (tag.is_empty() || monitor.tags.iter().any(|t| t == tag))
            && (words.is_empty() || has_words())
    });
}

fn sort(rows: &mut [Row<'_>], by: &str) {
    rows.sort_by_cached_key(|row| {
        let first = match by {
            "name" => 0,
            "seen" => row.seen.map_or(i64::MAX, |at| -at.0),
            "deadline" => row.deadline.map_or(i64::MAX, |at| at.0),
            _ => row.urgency(),
        };
        (first, row.name().to_lowercase(), row.monitor.id)
    });
}
