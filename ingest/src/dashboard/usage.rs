//! The project's usage by day, and the limits of its plan.

use super::chart::{self, Svg};
use super::page::{Page, failed};
use super::session::Viewer;
use crate::api::v1::usage::{self, Days};
use crate::app::App;
use crate::http::Params;
use askama::Template;
use axum::extract::State;
use axum::response::Response;

const DAYS: i64 = 30;

#[derive(Template)]
#[template(path = "usage.html")]
struct Usage {
    usage: usage::Usage,
    limits: [(&'static str, Option<u32>); 8],
    kinds: Vec<String>,
    chart: Option<Svg>,
}

/// `GET /usage`
pub async fn get(State(app): State<App>, viewer: Viewer) -> Response {
    let days = Params(Days { days: Some(DAYS) });
    let usage = match usage::get(State(app.clone()), viewer.reader(), days).await {
        Ok(usage) => usage.0,
        Err(problem) => return failed(Some(&viewer), &problem),
    };
    let limits = &usage.limits;
    let limits = [
        ("Requests per key per day", limits.requests_per_day),
        ("Requests per key per minute", limits.requests_per_minute),
        ("Monitors", limits.monitors),
        ("Text messages per day", limits.sms_per_day),
        ("E-mails per day", limits.emails_per_day),
        ("Webhook messages per day", limits.webhooks_per_day),
        ("SNS messages per day", limits.sns_per_day),
        ("Keys", limits.keys),
    ];
    let kinds = usage
        .days
        .iter()
        .flat_map(|day| day.deliveries.keys().cloned());
    let mut kinds: Vec<String> = kinds.collect();
    kinds.sort_unstable();
    kinds.dedup();
    let body = Usage {
        chart: chart(&usage),
        limits,
        kinds,
        usage,
    };
    let page = Page {
        section: "/usage",
        title: "Usage",
        viewer: Some(&viewer),
        ..Page::default()
    };
    page.show(&body)
}

fn chart(usage: &usage::Usage) -> Option<Svg> {
    let days = usage.days.iter().rev();
    #[expect(
        clippy::cast_precision_loss,
        reason = "daily counts are far below 2^52"
    )]
    let points = days.map(|day| {
        let at = super::words::at(&format!("{}T00:00:00Z", day.day)).0;
        (at, Some(day.requests as f64))
    });
    let points: Vec<_> = points.collect();
    if points.iter().all(|(_, n)| *n == Some(0.0)) {
        return None;
    }
    chart::line(points, true)
}
