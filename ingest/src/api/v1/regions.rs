//! `/v1/regions`: the regions of a deployment in two, for its operator.

use crate::app::App;
use crate::http::{Admin, Json, Missing, Overload, Problem, Problems};
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use thrum_schema::UnixMs;
use thrum_schema::error::Invalid;
use thrum_schema::fence::Region;
use thrum_store::StoreError;
use thrum_store::regions::{ChangeError, Overview, Regions};
use utoipa::ToSchema;

/// The regions of a deployment in two.
#[derive(Debug, Serialize, ToSchema)]
pub struct RegionsView {
    /// The region that answered.
    here: String,
    /// The region that evaluates and sends, and whose table is written.
    active: String,
    /// How often another region became active, plus one.
    epoch: u64,
    /// When the active region became active.
    since: String,
    /// Until when its lease lasts, unless it is renewed.
    lease_until: String,
    /// The region that an operator wants to be active next.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
    /// Whether the active region has repaired what replication lost, so that it evaluates and sends.
    ready: bool,
    /// The passive region, once it has reported.
    #[serde(skip_serializing_if = "Option::is_none")]
    passive: Option<PassiveView>,
    /// The last takeover, and the repair after it.
    #[serde(skip_serializing_if = "Option::is_none")]
    takeover: Option<TakeoverView>,
}

/// The passive region.
#[derive(Debug, Serialize, ToSchema)]
pub struct PassiveView {
    region: String,
    /// Its last report; it reports every 15 seconds.
    reported_at: String,
    /// How far behind its table was at most, in seconds; null if it has no table yet.
    lag_s: Option<i64>,
}

/// A takeover, and the repair of what replication lost.
#[derive(Debug, Serialize, ToSchema)]
pub struct TakeoverView {
    /// The epoch that began with it.
    epoch: u64,
    /// From when on heartbeats may be missing. They count as an outage of Thrum.
    lost_since: String,
    /// When the region began to evaluate and send; null if it does not yet.
    ready_at: Option<String>,
    /// When the last check for what arrived late began.
    checked_at: String,
    /// How many monitors that check has seen.
    monitors: u64,
    /// How many timers were missing since the takeover.
    timers: u64,
    /// How many alerts were missing, or contradicted their monitor, since the takeover.
    alerts: u64,
}

impl RegionsView {
    /// As the API shows it.
    pub fn of(overview: &Overview) -> Self {
        let fence = &overview.fence;
        let name = |region: &Region| region.0.clone();
        Self {
            here: name(&overview.me),
            active: name(&fence.active),
            epoch: fence.epoch,
            since: fence.since.rfc3339(),
            lease_until: fence.until.rfc3339(),
            next: fence.next.as_ref().map(name),
            ready: fence.ready,
            passive: overview.passive().map(|report| PassiveView {
                region: name(&report.region),
                reported_at: report.at.rfc3339(),
                lag_s: report.lag_ms().map(|ms| ms / 1_000),
            }),
            takeover: overview.repair.as_ref().map(|repair| TakeoverView {
                epoch: repair.epoch,
                lost_since: repair.lost.rfc3339(),
                ready_at: repair.ready.map(UnixMs::rfc3339),
                checked_at: repair.begun.rfc3339(),
                monitors: repair.monitors,
                timers: repair.timers,
                alerts: repair.alerts,
            }),
        }
    }
}

/// A switch to another region.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SwitchRequest {
    /// The region that is to become active. The active one withdraws a switch that has not happened yet.
    to: String,
    /// Whether to switch even if that region has not reported lately, or its table is behind. What was not replicated is
    /// then lost.
    #[serde(default)]
    force: bool,
}

fn regions(app: &App) -> Result<&Regions, Problem> {
    let regions = app.config.regions.as_ref();
    regions.ok_or_else(|| Problem::new(StatusCode::NOT_FOUND, "this deployment has one region"))
}

/// Shows both regions.
#[utoipa::path(
    get, path = "/v1/regions", operation_id = "get_regions", tag = "admin",
    responses((status = 200, body = RegionsView), Missing, Problems, Overload),
)]
pub async fn get(State(app): State<App>, _: Admin) -> Result<axum::Json<RegionsView>, Problem> {
    let overview = regions(&app)?.overview().await.map_err(StoreError::from)?;
    Ok(axum::Json(RegionsView::of(&overview)))
}

/// Makes the other region active.
///
/// The active one stops when its lease ends, within a minute. The other one takes over about 13 seconds later. Until then,
/// heartbeats are refused with 503; no monitor goes down for that.
#[utoipa::path(
    post, path = "/v1/regions/switch", operation_id = "switch_region", tag = "admin",
    request_body = SwitchRequest,
    responses((status = 200, body = RegionsView), Missing, Problems, Overload),
)]
pub async fn switch(
    State(app): State<App>,
    _: Admin,
    Json(request): Json<SwitchRequest>,
) -> Result<axum::Json<RegionsView>, Problem> {
    let regions = regions(&app)?;
    let to = Region(request.to);
    if !regions.both().contains(&&to) {
        let both = regions.both().map(|region| region.0.clone()).join(" or ");
        return Err(Invalid::new("to", format!("must be {both}, not {to}")).into());
    }
    let overview = regions.overview().await.map_err(StoreError::from)?;
    let now = app.store.world().now();
    let withdraws = overview.fence.active == to;
    if !withdraws
        && !request.force
        && let Some(why) = overview.unready(&to, now)
    {
        let advice = "Wait until it has caught up, or switch with force; what was not replicated is then lost";
        return Err(Problem::conflict(format!("{why}. {advice}")));
    }
    match regions.change(|read, _| read.handed_over(&to)).await {
        Ok(Some(_)) => {}
        Ok(None) => {
            return Err(Problem::conflict(
                "the fence was changed at the same time; try again",
            ));
        }
        Err(ChangeError::Refused(refused)) => {
            return Err(Problem::conflict(refused.to_string()));
        }
        Err(ChangeError::Table(error)) => return Err(StoreError::from(error).into()),
    }
    tracing::warn!(%to, force = request.force, until = %overview.fence.until, "an operator switches the active region");
    let overview = regions.overview().await.map_err(StoreError::from)?;
    Ok(axum::Json(RegionsView::of(&overview)))
}
