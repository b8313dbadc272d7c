//! `/v1/strategies`: strategies as data, versioned on every change.

use crate::app::App;
use crate::http::{
    Edit, Json, Missing, Named, Overload, Params, PathId, Problem, Problems, Reader, Writer,
};
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use thrum_schema::error::Invalids;
use thrum_schema::signal::Strategy;
use thrum_schema::signal::strategy::{
    BUILTIN_VERSION, MAX_STRATEGIES, Stored, builtin, builtins, check_name,
};
use thrum_schema::{ProjectId, UnixMs};
use thrum_store::{Kind, StoreError};
use utoipa::ToSchema;

/// How often to try a change while concurrent changes get in its way.
const MAX_ATTEMPTS: usize = 10;

/// Strategies.
#[derive(Debug, Serialize, ToSchema)]
pub struct Strategies {
    pub strategies: Vec<StrategyView>,
}

/// A strategy: its name, version and definition.
#[derive(Debug, Serialize, ToSchema)]
pub struct StrategyView {
    pub name: String,
    /// Incremented by each change.
    pub version: u32,
    pub built_in: bool,
    pub updated: Option<String>,
    /// The names of its modes; the definition names the default one.
    pub modes: Vec<String>,
    /// The definition, as in a PUT: `description`, `params`, `warmup`, `gaps`, and `buy` and
    /// `sell`, or `modes`.
    #[schema(value_type = Object)]
    pub definition: Value,
}

impl StrategyView {
    fn new(name: &str, version: u32, strategy: &Strategy, updated: Option<UnixMs>) -> Self {
        Self {
            name: name.to_owned(),
            version,
            built_in: updated.is_none(),
            updated: updated.map(UnixMs::rfc3339),
            modes: strategy.modes.keys().cloned().collect(),
            definition: strategy.to_json(),
        }
    }

    fn of(stored: &Stored) -> Self {
        Self::new(
            &stored.name,
            stored.version,
            &stored.strategy,
            Some(stored.updated),
        )
    }
}

/// Lists the built-in strategies and the project's own.
#[utoipa::path(
    get, path = "/v1/strategies", operation_id = "list_strategies", tag = "strategies",
    responses((status = 200, body = Strategies), Problems, Overload),
)]
pub async fn list(
    State(app): State<App>,
    reader: Reader,
) -> Result<axum::Json<Strategies>, Problem> {
    reader.caller.charge(&app).await?;
    let own = app.store.strategies(reader.project).await?;
    let own = own
        .iter()
        .filter(|stored| !stored.deleted)
        .map(StrategyView::of);
    let known =
        builtins().map(|(name, strategy)| StrategyView::new(name, BUILTIN_VERSION, strategy, None));
    let strategies = known.chain(own).collect();
    Ok(axum::Json(Strategies { strategies }))
}

/// Which version to show.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct VersionParams {
    /// The latest if absent.
    #[param(value_type = Option<i32>, minimum = 1)]
    version: Option<u32>,
}

/// Shows a strategy, in its latest or an earlier version.
#[utoipa::path(
    get, path = "/v1/strategies/{name}", operation_id = "get_strategy", tag = "strategies",
    params(("name" = String, Path, description = "The name of the strategy"), VersionParams),
    responses((status = 200, body = StrategyView), Problems, Overload, Missing),
)]
pub async fn get(
    State(app): State<App>,
    reader: Reader,
    PathId(name): PathId,
    Params(params): Params<VersionParams>,
) -> Result<axum::Json<StrategyView>, Problem> {
    let view = match (builtin(&name), params.version) {
        (Some(strategy), None | Some(BUILTIN_VERSION)) => {
            StrategyView::new(&name, BUILTIN_VERSION, strategy, None)
        }
        (None, None) => StrategyView::of(&Stored::find(&app, reader.project, &name).await?),
        (Some(_), Some(_)) => return Err(Problem::not_found("version")),
        (None, Some(version)) => {
            check_name("name", &name)?;
            let found = app.store.strategy_version(reader.project, &name, version);
            let found = found.await?.filter(|stored| !stored.deleted);
            StrategyView::of(&found.ok_or_else(|| Problem::not_found("version"))?)
        }
    };
    reader.caller.charge(&app).await?;
    Ok(axum::Json(view))
}

/// Creates or changes a strategy.
///
/// A change creates a new version; the same definition again does not. Watches use the new version
/// from the next bar on.
#[utoipa::path(
    put, path = "/v1/strategies/{name}", operation_id = "put_strategy", tag = "strategies",
    request_body(content = Object, description = "`description`, `params`, `warmup`, `gaps`, and `buy` and `sell`, or `modes`"),
    params(("name" = String, Path, description = "The name of the strategy")),
    responses(
        (status = 200, body = StrategyView, description = "Changed, or the same as before"),
        (status = 201, body = StrategyView, description = "Created"),
        Problems, Overload, Missing,
    ),
)]
pub async fn put(
    State(app): State<App>,
    writer: Writer,
    PathId(name): PathId,
    Json(definition): Json<Map<String, Value>>,
) -> Result<(StatusCode, axum::Json<StrategyView>), Problem> {
    check_name("name", &name)?;
    if builtin(&name).is_some() {
        return Err(Problem::conflict(format!(
            "{name} is built in; PUT its definition under another name to change it"
        )));
    }
    let strategy = Strategy::parse(&Value::Object(definition))
        .map_err(|Invalids(problems)| Problem::from(problems))?;
    let mut charged = false;
    for _ in 0..MAX_ATTEMPTS {
        let counted = app.store.before_count(writer.project, Kind::Strategies);
        let counted = counted.await?;
        let known = app.store.strategies(writer.project).await?;
        let others = known
            .iter()
            .filter(|stored| !stored.deleted && stored.name != name);
        if others.count() >= MAX_STRATEGIES {
            return Err(Problem::conflict(format!(
                "a project has at most {MAX_STRATEGIES} strategies; delete one first"
            )));
        }
        if !charged {
            writer.caller.charge(&app).await?;
            charged = true;
        }
        let before = app.store.strategy(writer.project, &name).await?;
        let is_new = before.as_ref().is_none_or(|before| before.deleted);
        if let Some(before) = before
            .as_ref()
            .filter(|before| !before.deleted && before.strategy == strategy)
        {
            return Ok((StatusCode::OK, axum::Json(StrategyView::of(before))));
        }
        let version = before.map(|before| before.version);
        let stored = Stored {
            name: name.clone(),
            version: version.unwrap_or(0) + 1,
            strategy: strategy.clone(),
            updated: app.store.world().now(),
            deleted: false,
        };
        match app
            .store
            .put_strategy(writer.project, &stored, version, is_new.then_some(&counted))
            .await
        {
            Ok(()) => {
                let status = if is_new {
                    StatusCode::CREATED
                } else {
                    StatusCode::OK
                };
                return Ok((status, axum::Json(StrategyView::of(&stored))));
            }
            Err(StoreError::Conflict) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(StoreError::Conflict.into())
}

/// Deletes a strategy that no watch uses. Its signals remain.
#[utoipa::path(
    delete, path = "/v1/strategies/{name}", operation_id = "delete_strategy", tag = "strategies",
    params(("name" = String, Path, description = "The name of the strategy")),
    responses((status = 204, description = "Deleted"), Problems, Overload, Missing),
)]
pub async fn delete(
    State(app): State<App>,
    Edit { writer, it: stored }: Edit<Stored>,
) -> Result<StatusCode, Problem> {
    let watches = app.store.watches(writer.project).await?;
    if let Some(watch) = watches.iter().find(|watch| watch.strategy == stored.name) {
        return Err(Problem::conflict(format!(
            "the watch {:?} uses this strategy; delete the watch first",
            watch.name
        )));
    }
    writer.caller.charge(&app).await?;
    let gone = Stored {
        version: stored.version + 1,
        deleted: true,
        updated: app.store.world().now(),
        ..stored.clone()
    };
    match app
        .store
        .put_strategy(writer.project, &gone, Some(stored.version), None)
        .await
    {
        Ok(()) => Ok(StatusCode::NO_CONTENT),
        Err(StoreError::Conflict) => Err(Problem::conflict(
            "the strategy was changed at the same time; check it and try again",
        )),
        Err(error) => Err(error.into()),
    }
}

impl Named for Stored {
    async fn find(app: &App, project: ProjectId, id: &str) -> Result<Self, Problem> {
        let not_found = || Problem::not_found("strategy");
        if builtin(id).is_some() {
            return Err(Problem::conflict(format!("{id} is built in")));
        }
        check_name("name", id).map_err(|_| not_found())?;
        let found = app.store.strategy(project, id).await?;
        found.filter(|stored| !stored.deleted).ok_or_else(not_found)
    }
}
