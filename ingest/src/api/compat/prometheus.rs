//! A project's monitors as Prometheus metrics. docs/compatibility.md §5.

use crate::api::compat::badges::NEVER_CACHED;
use crate::app::App;
use crate::http::Problem;
use crate::services::monitors::{Glance, Summary, Tally};
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use std::fmt::Write;
use thrum_schema::key::{API_KEY_LEN, Scope};
use thrum_schema::state::Shown;

/// Shows a project's monitors as Prometheus metrics, with a read-only key in the URL.
#[utoipa::path(
    get, path = "/projects/{project}/metrics/{key}", operation_id = "get_prometheus_by_url", tag = "metrics",
    params(
        ("project" = String, Path, description = "The project's ID"),
        ("key" = String, Path, description = "A read-only key of the project"),
    ),
    responses(
        (status = 200, body = String, content_type = "text/plain"),
        (status = 400, description = "The key does not have 32 characters"),
        (status = 403, description = "Not a read-only key of this installation"),
        (status = 404, description = "The key belongs to another project", body = Problem, content_type = "application/problem+json"),
        crate::http::Overload,
    ),
)]
pub async fn by_url(
    State(app): State<App>,
    Path((project, key)): Path<(String, String)>,
) -> Response {
    answer(&app, &project, &key).await
}

/// Shows a project's monitors as Prometheus metrics, with a read-only key as a bearer token.
#[utoipa::path(
    get, path = "/projects/{project}/metrics/", operation_id = "get_prometheus", tag = "metrics",
    security(("bearer" = [])),
    params(("project" = String, Path, description = "The project's ID")),
    responses(
        (status = 200, body = String, content_type = "text/plain"),
        (status = 400, description = "The key does not have 32 characters"),
        (status = 401, description = "No bearer token"),
        (status = 403, description = "Not a read-only key of this installation"),
        (status = 404, description = "The key belongs to another project", body = Problem, content_type = "application/problem+json"),
        crate::http::Overload,
    ),
)]
pub async fn by_header(
    State(app): State<App>,
    Path(project): Path<String>,
    headers: HeaderMap,
) -> Response {
    let given = headers.get(header::AUTHORIZATION);
    let key = given
        .and_then(|value| value.to_str().ok())
        .and_then(|text| text.strip_prefix("Bearer "));
    match key {
        Some(key) => answer(&app, &project, key.trim()).await,
        None => {
            let challenge = [(header::WWW_AUTHENTICATE, "Bearer")];
            (StatusCode::UNAUTHORIZED, challenge).into_response()
        }
    }
}

async fn answer(app: &App, project: &str, key: &str) -> Response {
    if key.chars().count() != API_KEY_LEN {
        return StatusCode::BAD_REQUEST.into_response();
    }
    let found = match app.accounts.api_key(key).await {
        Ok(found) => found,
        Err(error) => return Problem::from(error).into_response(),
    };
    let Some(found) = found.filter(|key| key.scope == Scope::Read) else {
        return StatusCode::FORBIDDEN.into_response();
    };
    if found.project.to_string() != project {
        return Problem::not_found("project").into_response();
    }
    match app.monitors.summary(found.project).await {
        Ok(summary) => {
            let headers = [
                (
                    header::CONTENT_TYPE,
                    "text/plain; version=0.0.4; charset=utf-8",
                ),
                (header::CACHE_CONTROL, NEVER_CACHED),
            ];
            (headers, exposition(&summary)).into_response()
        }
        Err(error) => Problem::from(error).into_response(),
    }
}

/// The text exposition format: <https://prometheus.io/docs/instrumenting/exposition_formats/>.
fn exposition(summary: &Summary) -> String {
    let monitors = &summary.0;
    let mut text = String::with_capacity(monitors.len() * 600 + 1_000);
    let labels: Vec<String> = monitors
        .iter()
        .map(|monitor| {
            format!(
                "{{name=\"{}\",tags=\"{}\",unique_key=\"{}\"}}",
                escape(&monitor.name),
                escape(&monitor.tags.join(" ")),
                monitor.unique_key
            )
        })
        .collect();
    let mut gauge = |name: &str, help: &str, values: &dyn Fn(usize) -> bool| {
        let _ = writeln!(text, "# HELP {name} {help} (1 for yes, 0 for no).");
        let _ = writeln!(text, "# TYPE {name} gauge");
        for (i, labels) in labels.iter().enumerate() {
            let _ = writeln!(text, "{name}{labels} {}", u8::from(values(i)));
        }
    };
    let shown = |i: usize| monitors[i].shown;
    gauge("hc_check_up", "Whether the check is currently up", &|i| {
        shown(i) != Shown::Down
    });
    gauge(
        "hc_check_started",
        "Whether the check is currently started",
        &|i| monitors[i].started,
    );
    gauge(
        "hc_check_grace",
        "Whether the check is currently late, within its grace",
        &|i| shown(i) == Shown::Grace,
    );
    gauge(
        "hc_check_paused",
        "Whether the check is currently paused",
        &|i| shown(i) == Shown::Paused,
    );
    expose_tags(&mut text, monitors);
    expose_totals(&mut text, monitors);
    text
}

fn expose_tags(text: &mut String, monitors: &[Glance]) {
    let _ = writeln!(
        text,
        "# HELP hc_tag_up Whether all checks with this tag are up (1 for yes, 0 for no).\n\
         # TYPE hc_tag_up gauge"
    );
    let mut down_tags = std::collections::BTreeMap::new();
    for monitor in monitors {
        for tag in &monitor.tags {
            *down_tags.entry(tag).or_insert(false) |= monitor.shown == Shown::Down;
        }
    }
    for (tag, down) in down_tags {
        let _ = writeln!(
            text,
            "hc_tag_up{{tag=\"{}\"}} {}",
            escape(tag),
            u8::from(!down)
        );
    }
}

fn expose_totals(text: &mut String, monitors: &[Glance]) {
    let tally = Tally::of(monitors.iter());
    for (name, help, value) in [
        (
            "hc_checks_total",
            "The total number of checks.",
            tally.total,
        ),
        (
            "hc_checks_down_total",
            "The number of checks currently down.",
            tally.down,
        ),
    ] {
        let _ = writeln!(
            text,
            "# HELP {name} {help}\n# TYPE {name} gauge\n{name} {value}"
        );
    }
}

fn escape(label: &str) -> String {
    label
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_escaped_and_only_down_is_not_up() {
        let glance = |name: &str, shown| Glance {
            name: name.into(),
            tags: vec!["a\\b".into()],
            unique_key: "k".into(),
            shown,
            started: shown == Shown::New,
        };
        let summary = Summary(vec![
            glance("x\"y\nz", Shown::Down),
            glance("new", Shown::New),
            glance("late", Shown::Grace),
            glance("idle", Shown::Paused),
        ]);
        let text = exposition(&summary);
        for line in [
            r#"hc_check_up{name="x\"y\nz",tags="a\\b",unique_key="k"} 0"#,
            r#"hc_check_up{name="late",tags="a\\b",unique_key="k"} 1"#,
            r#"hc_check_started{name="new",tags="a\\b",unique_key="k"} 1"#,
            r#"hc_check_grace{name="late",tags="a\\b",unique_key="k"} 1"#,
            r#"hc_check_paused{name="idle",tags="a\\b",unique_key="k"} 1"#,
            r#"hc_tag_up{tag="a\\b"} 0"#,
            "hc_checks_total 4",
            "hc_checks_down_total 1",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} in\n{text}");
        }
    }
}
