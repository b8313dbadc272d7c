//! The operations of the API, listed once for both the routes and `/openapi.json`.

use crate::api::{compat, v1};
use crate::app::App;
use crate::http::Problem;
use axum::Router;
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodFilter, on};
use utoipa::openapi::security::{
    ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme,
};
use utoipa::openapi::{HttpMethod, PathItem};
use utoipa::{Modify, OpenApi, Path};

/// Takes handlers by module, and functions that only describe an operation, where one handler
/// serves several paths. Generates the routes of the former, and the OpenAPI document of both.
macro_rules! operations {
    (
        routes { $($api:ident::$module:ident: $($handler:ident),+;)+ }
        described { $($outside:ident::$file:ident: $($description:ident),+;)+ }
    ) => {
        pastey::paste! {
            /// The routes of the operations.
            pub fn operations() -> Router<App> {
                Router::new()
                $($(
                    .route(
                        &<$api::$module::[<__path_ $handler>]>::path(),
                        on(
                            method::<$api::$module::[<__path_ $handler>]>(),
                            $api::$module::$handler,
                        ),
                    )
                )+)+
            }

            #[derive(OpenApi)]
            #[openapi(
                info(
                    title = "Thrum",
                    description = "A self-hosted dead man's switch and signal engine. Send heartbeats to \
                                   `/v1/heartbeats` or to ping URLs. Manage monitors, channels, alerts and keys with \
                                   `/v1`, or with the management API that existing clients use: `/api/v1`, `/api/v2` \
                                   and `/api/v3` (version 3 is shown here; its paths work with or without the \
                                   trailing slash).",
                    license(name = "MIT"),
                ),
                paths(
                    $($($outside::$file::$description,)+)+
                    $($($api::$module::$handler,)+)+
                ),
                components(schemas(Problem)),
                modifiers(&Finish),
            )]
            struct Api;
        }
    };
}

operations! {
    routes {
        compat::prometheus: by_url, by_header;
        v1::heartbeats: post, legacy;
        v1::monitors: list, get, create, update, delete, pause, resume, acknowledge, snooze, end_snooze, get_uptime;
        v1::channels: list, get, create, update, delete, test;
        v1::alerts: list, get, redeliver;
        v1::keys: list, create, rotate, revoke;
        v1::ping_key: rotate, delete;
        v1::project: get_own, update_own, preview, snooze, end_snooze, rotate_badge_key;
        v1::usage: get;
        v1::series: list, get_bars, post_bars, post_values, post_sentiment, update, accept, delete;
        v1::history: latest, history;
        v1::signals: post, get;
        v1::backtests: post, get;
        v1::strategies: list, get, put, delete;
        v1::watches: list, get, create, update, delete;
        v1::projects: list, create, get, update, delete, create_key;
        v1::regions: get, switch;
        v1::status: health, status;
    }
    described {
        compat::ping: by_uuid, by_slug;
        compat::management: list_checks, create_check, get_check, update_check, delete_check, pause_check,
            resume_check, list_pings, get_ping_body, list_flips, list_channels, list_badges, status, metrics,
            notification_status, bounce;
        compat::badges: of_tag, of_monitor;
    }
}

/// The method of an operation.
fn method<P: Path>() -> MethodFilter {
    match P::methods().first() {
        Some(HttpMethod::Post) => MethodFilter::POST,
        Some(HttpMethod::Put) => MethodFilter::PUT,
        Some(HttpMethod::Patch) => MethodFilter::PATCH,
        Some(HttpMethod::Delete) => MethodFilter::DELETE,
        _ => MethodFilter::GET,
    }
}

struct Finish;

impl Modify for Finish {
    fn modify(&self, openapi: &mut utoipa::openapi::OpenApi) {
        let header = |name: &str| SecurityScheme::ApiKey(ApiKey::Header(ApiKeyValue::new(name)));
        let components = openapi.components.get_or_insert_default();
        components.add_security_scheme("api_key", header("X-Api-Key"));
        components.add_security_scheme("admin_key", header("X-Admin-Key"));
        let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build();
        components.add_security_scheme("bearer", SecurityScheme::Http(bearer));
        for (path, item) in &mut openapi.paths.paths {
            let schemes: &[&str] = match path.as_str() {
                "/v1/status" => continue,
                path if path.starts_with("/v1/projects") || path.starts_with("/v1/regions") => {
                    &["admin_key"]
                }
                path if path.starts_with("/v1/") => &["api_key", "bearer"],
                _ => continue,
            };
            let required = schemes
                .iter()
                .map(|name| SecurityRequirement::new(*name, [""; 0]));
            let required: Vec<_> = required.collect();
            let PathItem {
                get,
                put,
                post,
                patch,
                delete,
                ..
            } = item;
            for operation in [get, put, post, patch, delete].into_iter().flatten() {
                operation.security = Some(required.clone());
            }
        }
    }
}

/// The OpenAPI document, stored as a file: the code that generates it would make up a tenth of the
/// Lambda function.
const DOCUMENT: &str = include_str!("../openapi.json");

/// The OpenAPI 3.1 document, generated from the handlers. A test compares `openapi.json` with it.
pub fn document() -> serde_json::Value {
    serde_json::to_value(Api::openapi()).expect("the document serializes to JSON")
}

/// The JSON Schema of strategies, stored as a file for the same reason.
const STRATEGY: &str = include_str!("../strategy.schema.json");

/// Returns the JSON Schema of strategies.
pub async fn strategy_schema() -> Response {
    let headers = [("content-type", "application/schema+json")];
    (headers, STRATEGY).into_response()
}

/// Returns the OpenAPI document.
pub async fn get() -> Response {
    let headers = [("content-type", "application/json")];
    (headers, DOCUMENT).into_response()
}
