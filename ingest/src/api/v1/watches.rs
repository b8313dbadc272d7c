//! `/v1/watches`: watches, which notify users when a signal changes.

use super::monitors::{ChannelsView, check_channels, some};
use super::signal_params::{series_of, timeframe_of, timestamp};
use crate::app::App;
use crate::http::{
    Edit, Json, Missing, Named, Overload, Page, Params, Problem, Problems, Read, Reader, Write,
    Writer,
};
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use thrum_schema::error::Invalid;
use thrum_schema::id::WatchId;
use thrum_schema::schedule::{MAX_PERIOD_S, Schedule};
use thrum_schema::signal::Verdict;
use thrum_schema::signal::track::Head;
use thrum_schema::signal::watch::{
    MAX_CONFIRM_BARS, MAX_WATCHES, MAX_WATCHES_OF_SERIES, On, Watch, WatchState,
};
use thrum_schema::{ProjectId, Targets, UnixMs};
use thrum_store::{Kind, StoreError};
use utoipa::ToSchema;

/// The longest name, in characters.
const MAX_NAME: usize = 100;
/// The shortest interval between two checks, in seconds.
const MIN_EVERY_S: u64 = 10;
/// The longest cooldown, in seconds: 30 days.
const MAX_COOLDOWN_S: u32 = 30 * 86_400;
/// How often to try again while other watches are created.
const COUNT_ATTEMPTS: u32 = 64;
/// How often to try a change while concurrent checks get in its way.
const MAX_ATTEMPTS: usize = 10;

/// A watch to create, or the fields of a watch to change. Absent fields keep their value, or get
/// their default.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct WatchRequest {
    /// 1 to 100 characters. The default is the series, timeframe and strategy.
    #[schema(min_length = 1, max_length = 100)]
    name: Option<String>,
    /// Can't be changed.
    series: Option<String>,
    /// The default is `tick` for series from heartbeats. Can't be changed.
    timeframe: Option<String>,
    /// Can't be changed.
    #[schema(example = "trend-rsi")]
    strategy: Option<String>,
    mode: Option<String>,
    /// Numbers that replace the strategy's own.
    params: Option<BTreeMap<String, f64>>,
    /// When to check: `"bar"` (the default) is at every closed bar; or `{"every_s": 3600}`, or
    /// `{"cron": "0 8 * * *", "tz": "Europe/Berlin"}`.
    #[schema(value_type = Option<Value>)]
    on: Option<Value>,
    /// `"all"` (the default), or channels by ID or by exact, unique name.
    #[schema(value_type = Option<Value>)]
    channels: Option<Value>,
    /// After an alert, send none for this many seconds; 0 if absent.
    #[schema(value_type = Option<i64>, minimum = 0, maximum = 2_592_000)]
    cooldown_s: Option<u32>,
    /// A signal counts once this many bars in a row have it; 1 if absent.
    #[schema(value_type = Option<i64>, minimum = 1, maximum = 100)]
    confirm_bars: Option<u32>,
    /// When the watch ends, RFC 3339; null for never.
    #[serde(default, deserialize_with = "some")]
    #[schema(value_type = Option<String>)]
    expires_at: Option<Option<String>>,
}

/// A watch.
#[derive(Debug, Serialize, ToSchema)]
pub struct WatchView {
    #[schema(value_type = String)]
    pub id: WatchId,
    pub name: String,
    pub series: String,
    pub timeframe: String,
    pub strategy: String,
    pub mode: Option<String>,
    pub params: BTreeMap<String, f64>,
    pub on: Value,
    #[schema(value_type = Value)]
    pub channels: ChannelsView,
    pub cooldown_s: u32,
    pub confirm_bars: u32,
    pub expires_at: Option<String>,
    pub created: String,
    /// `watching`, `waiting` (nothing received yet), `expired`, or `failing`.
    pub state: &'static str,
    /// What may be wrong with it, for example that nobody feeds its series.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub warning: Option<String>,
    /// Why it can't check.
    pub error: Option<String>,
    /// The signal of the last alert, or else the signal when the watch was created.
    pub signal: Option<Verdict>,
    /// How many alerts it has sent.
    pub alerts: u64,
    pub last_alert_at: Option<String>,
    /// When it checks next, if no bar comes first.
    pub next_look_at: Option<String>,
}

/// Watches.
#[derive(Debug, Serialize, ToSchema)]
pub struct Watches {
    pub watches: Vec<WatchView>,
    /// The cursor of the next part, if there is more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_cursor: Option<String>,
}

/// Lists the watches of the project.
#[utoipa::path(
    get, path = "/v1/watches", operation_id = "list_watches", tag = "watches",
    params(Page),
    responses((status = 200, body = Watches), Problems, Overload),
)]
pub async fn list(
    State(app): State<App>,
    reader: Reader,
    Params(page): Params<Page>,
) -> Result<axum::Json<Watches>, Problem> {
    reader.caller.charge(&app).await?;
    let mut watches = app.store.watches(reader.project).await?;
    watches.sort_by_key(|watch| (watch.created, watch.id));
    let key = |watch: &Watch| format!("{:020}{}", watch.created.0, watch.id);
    let (watches, next_cursor) = page.of(watches, key)?;
    let ids: Vec<WatchId> = watches.iter().map(|watch| watch.id).collect();
    let (watch_states, heads) = futures::try_join!(
        app.store.watch_states(&ids),
        app.store.heads(reader.project)
    )?;
    let now = app.store.world().now();
    let watches = watches.iter().zip(watch_states);
    let watches = watches.map(|(watch, state)| {
        let of_watch =
            |head: &&Head| head.series == watch.series && head.timeframe == watch.timeframe;
        let head = heads.iter().find(of_watch);
        view(watch, &state.unwrap_or_default(), head, now)
    });
    Ok(axum::Json(Watches {
        watches: watches.collect(),
        next_cursor,
    }))
}

/// Shows a watch.
#[utoipa::path(
    get, path = "/v1/watches/{id}", operation_id = "get_watch", tag = "watches",
    params(("id" = String, Path, description = "The watch's ID")),
    responses((status = 200, body = WatchView), Problems, Overload, Missing),
)]
pub async fn get(
    State(app): State<App>,
    Read { it: watch, .. }: Read<Watch>,
) -> Result<axum::Json<WatchView>, Problem> {
    let (state, head) = futures::try_join!(
        app.store.watch_state(watch.id),
        app.store
            .head(watch.project, &watch.series, watch.timeframe)
    )?;
    let (state, now) = (state.unwrap_or_default(), app.store.world().now());
    Ok(axum::Json(view(&watch, &state, head.as_ref(), now)))
}

/// Creates a watch. It takes the current signal as known, and alerts on changes from there.
#[utoipa::path(
    post, path = "/v1/watches", operation_id = "create_watch", tag = "watches",
    request_body = WatchRequest,
    responses((status = 201, body = WatchView), Problems, Overload, Missing),
)]
pub async fn create(
    State(app): State<App>,
    writer: Writer,
    Json(request): Json<WatchRequest>,
) -> Result<(StatusCode, axum::Json<WatchView>), Problem> {
    let project = writer.project;
    let now = app.store.world().now();
    let required = |name: &str, given: &Option<String>| {
        given
            .clone()
            .ok_or_else(|| Invalid::new(name, "is required"))
    };
    let series = series_of(&required("series", &request.series)?)?;
    let timeframe = timeframe_of(request.timeframe.as_ref(), Some(&series))?;
    let strategy = required("strategy", &request.strategy)?;
    let blank = Watch {
        id: WatchId(app.store.world().uuid_v4()),
        project,
        name: format!("{series} {timeframe} {strategy}"),
        series,
        timeframe,
        strategy,
        mode: None,
        params: BTreeMap::new(),
        on: On::Bar,
        targets: Targets::All,
        cooldown_s: 0,
        confirm_bars: 1,
        expires: None,
        from: None,
        created: now,
    };
    let mut watch = request.applied_to(&app, blank, now).await?;
    if watch.series.monitor().is_some() {
        app.series
            .feed(project, &watch.series, timeframe, false)
            .await?;
    }
    let mut charged = false;
    for attempt in 0..COUNT_ATTEMPTS {
        let counted = app.store.before_count(project, Kind::Watches).await?;
        if app.store.watches(project).await?.len() >= MAX_WATCHES {
            return Err(too_many(&format!(
                "a project has at most {MAX_WATCHES} watches"
            )));
        }
        let head = app.store.head(project, &watch.series, timeframe).await?;
        if let Some(head) = &head {
            if head.watches.len() >= MAX_WATCHES_OF_SERIES {
                return Err(too_many(&format!(
                    "a series has at most {MAX_WATCHES_OF_SERIES} watches"
                )));
            }
            watch.from = last_bar(&app, project, head).await?;
        }
        if !charged {
            writer.caller.charge(&app).await?;
            charged = true;
        }
        match app.store.create_watch(&watch, &counted).await {
            Ok(()) => {
                let body = view(&watch, &WatchState::default(), head.as_ref(), now);
                return Ok((StatusCode::CREATED, axum::Json(body)));
            }
            Err(StoreError::Conflict) => app.store.back_off(attempt).await,
            Err(error) => return Err(error.into()),
        }
    }
    Err(StoreError::Conflict.into())
}

/// Changes a watch: only the given fields.
///
/// After a change of the mode or the parameters, it takes the current signal as known, and alerts
/// on changes from there.
#[utoipa::path(
    patch, path = "/v1/watches/{id}", operation_id = "update_watch", tag = "watches",
    request_body = WatchRequest,
    params(("id" = String, Path, description = "The watch's ID")),
    responses((status = 200, body = WatchView), Problems, Overload, Missing),
)]
pub async fn update(
    State(app): State<App>,
    Edit { writer, it: found }: Edit<Watch>,
    Json(request): Json<WatchRequest>,
) -> Result<axum::Json<WatchView>, Problem> {
    let now = app.store.world().now();
    let mut charged = false;
    for _ in 0..MAX_ATTEMPTS {
        // Read the state first. Its version guards the watch, so that of two concurrent changes
        // neither undoes the other.
        let gone = || Problem::not_found("watch");
        let state = app.store.watch_state(found.id).await?;
        let mut state = state.ok_or_else(gone)?;
        let before = app.store.watch(found.project, found.id).await?;
        let before = before.ok_or_else(gone)?;
        let mut watch = request
            .clone()
            .applied_to(&app, before.clone(), now)
            .await?;
        if watch.mode != before.mode || watch.params != before.params {
            let (project, timeframe) = (watch.project, watch.timeframe);
            let head = app.store.head(project, &watch.series, timeframe).await?;
            if let Some(head) = head
                && let Some(last) = last_bar(&app, project, &head).await?
            {
                watch.from = Some(last);
            }
            state.signal = None;
            state.change = None;
        }
        if !std::mem::replace(&mut charged, true) {
            writer.caller.charge(&app).await?;
        }
        // The schedule may have changed. The check that this change causes arms a new timer.
        state.due = None;
        state.epoch = state.epoch.wrapping_add(1);
        match app.store.replace_watch(&watch, Some(&state)).await {
            Ok(()) => {
                let head = app
                    .store
                    .head(watch.project, &watch.series, watch.timeframe)
                    .await?;
                return Ok(axum::Json(view(&watch, &state, head.as_ref(), now)));
            }
            Err(StoreError::Conflict) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(StoreError::Conflict.into())
}

/// When the last bar of a series opened.
async fn last_bar(
    app: &App,
    project: ProjectId,
    head: &Head,
) -> Result<Option<UnixMs>, StoreError> {
    let bars = app.store.last_bars(project, head, UnixMs::LATEST, 1);
    let last = bars.await?;
    Ok(last.first().map(|bar| bar.t))
}

/// Deletes a watch. Its alerts remain.
#[utoipa::path(
    delete, path = "/v1/watches/{id}", operation_id = "delete_watch", tag = "watches",
    params(("id" = String, Path, description = "The watch's ID")),
    responses((status = 204, description = "Deleted"), Problems, Overload, Missing),
)]
pub async fn delete(
    State(app): State<App>,
    Write { it: watch, .. }: Write<Watch>,
) -> Result<StatusCode, Problem> {
    app.store.delete_watch(&watch).await?;
    Ok(StatusCode::NO_CONTENT)
}

impl WatchRequest {
    /// The watch with the request applied, checked.
    async fn applied_to(self, app: &App, mut watch: Watch, now: UnixMs) -> Result<Watch, Problem> {
        self.check_unchanged(&watch)?;
        self.check_bounds()?;
        watch.name = self.name.unwrap_or(watch.name);
        watch.cooldown_s = self.cooldown_s.unwrap_or(watch.cooldown_s);
        watch.confirm_bars = self.confirm_bars.unwrap_or(watch.confirm_bars);
        watch.mode = self.mode.or(watch.mode);
        watch.params = self.params.unwrap_or(watch.params);
        app.series
            .compile(
                watch.project,
                &watch.strategy,
                watch.mode.as_deref(),
                &watch.params,
                watch.timeframe,
            )
            .await?;
        if let Some(on) = &self.on {
            watch.on = check_on(on, now)?;
        }
        if self.channels.is_some() {
            let channels = app.store.channels(watch.project).await?;
            if let Some(targets) = check_channels(self.channels.as_ref(), &channels)? {
                watch.targets = targets;
            }
        }
        if let Some(expires_at) = self.expires_at {
            let expires = timestamp("expires_at", expires_at.as_ref())?;
            if expires.is_some_and(|expires| expires <= now) {
                return Err(Invalid::new("expires_at", "must be in the future").into());
            }
            watch.expires = expires;
        }
        Ok(watch)
    }

    /// Checks that the request leaves what can't be changed.
    fn check_unchanged(&self, watch: &Watch) -> Result<(), Invalid> {
        let fixed = [
            ("series", &self.series, watch.series.to_string()),
            ("timeframe", &self.timeframe, watch.timeframe.to_string()),
            ("strategy", &self.strategy, watch.strategy.clone()),
        ];
        for (name, given, is) in fixed {
            // A timeframe can be written in several ways, the other fields in only one.
            let same = |given: &String| {
                *given == is
                    || (name == "timeframe"
                        && timeframe_of(Some(given), None) == Ok(watch.timeframe))
            };
            if given.as_ref().is_some_and(|given| !same(given)) {
                return Err(Invalid::new(name, "can't be changed; create another watch"));
            }
        }
        Ok(())
    }

    fn check_bounds(&self) -> Result<(), Invalid> {
        if let Some(name) = &self.name
            && !(1..=MAX_NAME).contains(&name.chars().count())
        {
            return Err(Invalid::new(
                "name",
                format!("must be 1 to {MAX_NAME} characters"),
            ));
        }
        if let Some(cooldown_s) = self.cooldown_s
            && cooldown_s > MAX_COOLDOWN_S
        {
            return Err(Invalid::new(
                "cooldown_s",
                format!("must be at most {MAX_COOLDOWN_S} seconds (got {cooldown_s})"),
            ));
        }
        if let Some(confirm_bars) = self.confirm_bars
            && !(1..=MAX_CONFIRM_BARS).contains(&confirm_bars)
        {
            return Err(Invalid::new(
                "confirm_bars",
                format!("must be between 1 and {MAX_CONFIRM_BARS} (got {confirm_bars})"),
            ));
        }
        Ok(())
    }
}

/// When a watch checks.
fn check_on(on: &Value, now: UnixMs) -> Result<On, Invalid> {
    let wrong = || {
        Invalid::new(
            "on",
            "must be \"bar\", {\"every_s\": 3600} or {\"cron\": \"0 8 * * *\", \"tz\": \"Europe/Berlin\"}",
        )
    };
    if on == "bar" {
        return Ok(On::Bar);
    }
    let fields = on.as_object().ok_or_else(wrong)?;
    let known = |names: &[&str]| fields.keys().all(|name| names.contains(&name.as_str()));
    if let Some(every_s) = fields.get("every_s").filter(|_| known(&["every_s"])) {
        return match every_s.as_u64() {
            Some(every_s) if every_s >= MIN_EVERY_S => {
                Ok(On::Schedule(Schedule::simple("on.every_s", every_s)?))
            }
            _ => Err(Invalid::new(
                "on.every_s",
                format!("must be between {MIN_EVERY_S} and {MAX_PERIOD_S} seconds (got {every_s})"),
            )),
        };
    }
    let Some(cron) = fields
        .get("cron")
        .and_then(Value::as_str)
        .filter(|_| known(&["cron", "tz"]))
    else {
        return Err(wrong());
    };
    let tz = match fields.get("tz") {
        None => "UTC",
        Some(tz) => tz.as_str().ok_or_else(wrong)?,
    };
    let schedule = Schedule::parse(cron, tz).map_err(|error| {
        let field = if error.field == "tz" {
            "on.tz"
        } else {
            "on.cron"
        };
        Invalid::new(field, error.problem)
    })?;
    if schedule.next_after(now).is_none() {
        return Err(Invalid::new("on.cron", "must match a future time"));
    }
    Ok(On::Schedule(schedule))
}

fn too_many(what: &str) -> Problem {
    Problem::conflict(format!("{what}; delete one first"))
}

impl Named for Watch {
    async fn find(app: &App, project: ProjectId, id: &str) -> Result<Self, Problem> {
        let not_found = || Problem::not_found("watch");
        let id = id.parse().map_err(|_| not_found())?;
        app.store.watch(project, id).await?.ok_or_else(not_found)
    }
}

fn view(watch: &Watch, state: &WatchState, head: Option<&Head>, now: UnixMs) -> WatchView {
    let on = match &watch.on {
        On::Bar => "bar".into(),
        On::Schedule(Schedule::Simple { period_s }) => serde_json::json!({ "every_s": period_s }),
        On::Schedule(Schedule::Cron { expr, tz } | Schedule::OnCalendar { expr, tz }) => {
            serde_json::json!({ "cron": expr, "tz": tz })
        }
    };
    let expired = watch.expires.is_some_and(|expires| expires <= now);
    let is_empty = head.is_none_or(|head| head.months.is_empty());
    let warning = is_empty.then(|| {
        let (series, timeframe) = (&watch.series, watch.timeframe);
        match series.monitor() {
            Some((slug, figure)) => {
                format!("nothing received yet: no heartbeat of {slug} has had a {figure}")
            }
            None => format!(
                "nothing received yet for {series} in {timeframe}: POST /v1/series/{series}/values, or bars"
            ),
        }
    });
    WatchView {
        id: watch.id,
        name: watch.name.clone(),
        series: watch.series.to_string(),
        timeframe: watch.timeframe.to_string(),
        strategy: watch.strategy.clone(),
        mode: watch.mode.clone(),
        params: watch.params.clone(),
        on,
        channels: (&watch.targets).into(),
        cooldown_s: watch.cooldown_s,
        confirm_bars: watch.confirm_bars,
        expires_at: watch.expires.map(UnixMs::rfc3339),
        created: watch.created.rfc3339(),
        state: match (expired, &state.error) {
            (true, _) => "expired",
            (false, Some(_)) => "failing",
            (false, None) if is_empty => "waiting",
            (false, None) => "watching",
        },
        warning,
        error: state.error.clone(),
        signal: state.signal,
        alerts: state.alerts,
        last_alert_at: state.notified_at.map(UnixMs::rfc3339),
        next_look_at: state.due.map(UnixMs::rfc3339),
    }
}
