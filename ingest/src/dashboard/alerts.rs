//! Alerts and their deliveries.

use super::fields::Fields;
use super::live::Live;
use super::page::{Page, failed, see_other};
use super::session::{Post, Viewer};
use super::words::{At, Relative, at};
use crate::api::v1::alerts::{self, AlertParams, AlertView, DeliveryView};
use crate::app::App;
use crate::http::Problem;
use crate::http::{Edit, Params, PathId};
use askama::Template;
use axum::extract::State;
use axum::response::Response;
use std::collections::HashMap;
use thrum_schema::UnixMs;
use thrum_schema::alert::AlertState;
use thrum_schema::delivery::DeliveryState;
use thrum_schema::flip::Reason;
use thrum_schema::id::ChannelId;

/// Number of alerts shown.
const SHOWN: usize = 100;

/// The filters of the list: query value, name and state.
const STATES: [(&str, &str, Option<AlertState>); 4] = [
    ("", "all", None),
    ("pending", "pending", Some(AlertState::Pending)),
    ("delivered", "delivered", Some(AlertState::Delivered)),
    ("dead", "dead", Some(AlertState::Dead)),
];

#[derive(Template)]
#[template(path = "alerts.html")]
struct Alerts<'a> {
    viewer: &'a Viewer,
    alerts: Vec<AlertView>,
    channels: HashMap<ChannelId, String>,
    states: &'static [(&'static str, &'static str, Option<AlertState>)],
    state: &'a str,
    channel: &'a str,
    now: UnixMs,
}

impl Alerts<'_> {
    fn channel_name(&self, delivery: &DeliveryView) -> &str {
        let name = delivery.channel.and_then(|id| self.channels.get(&id));
        name.map_or("a deleted channel", String::as_str)
    }

    fn headline(&self, alert: &AlertView) -> String {
        let name = alert.monitor.as_ref().map_or("", |monitor| {
            let names = [&monitor.name, &monitor.slug];
            names
                .into_iter()
                .find(|name| !name.is_empty())
                .map_or("a monitor", String::as_str)
        });
        match (alert.what, &alert.signal) {
            (_, Some(change)) => format!(
                "{}: {} → {}",
                change.watch,
                change.from.as_str(),
                change.to.as_str()
            ),
            ("monitor.down", _) => format!("{name} is down"),
            ("monitor.up", _) => format!("{name} is up"),
            ("monitor.reminder", _) => format!("{name} is still down"),
            ("channel.test", _) => "Test alert".to_owned(),
            ("channel.limited", _) => "A channel reached its daily limit".to_owned(),
            (what, _) => what.to_owned(),
        }
    }

    /// The path of the page of the alert's monitor or signal.
    fn about(&self, alert: &AlertView) -> Option<String> {
        if let Some(change) = &alert.signal {
            return Some(super::signals::path_of(&change.series, &change.timeframe));
        }
        let monitor = alert.monitor.as_ref()?;
        Some(format!("/monitors/{}", monitor.unique_key))
    }

    fn state_of(&self, alert: &AlertView) -> &'static str {
        match alert.state {
            AlertState::Pending => "pending",
            AlertState::Delivered => "delivered",
            AlertState::Dead => "dead",
        }
    }

    fn delivery_state(&self, delivery: &DeliveryView) -> &'static str {
        match delivery.state {
            Some(DeliveryState::Sent) => "sent",
            Some(DeliveryState::Dead) => "dead",
            Some(DeliveryState::Suppressed) => "suppressed",
            Some(DeliveryState::Retry) => "retrying",
            Some(DeliveryState::Claimed) => "sending",
            Some(_) => "waiting",
            None => "planned",
        }
    }

    fn is_dead(&self, alert: &AlertView) -> bool {
        let mut deliveries = alert.deliveries.iter();
        deliveries.any(|delivery| delivery.state == Some(DeliveryState::Dead))
    }

    fn when(&self, text: &str) -> At {
        at(text)
    }

    fn ago(&self, text: &str) -> Relative {
        Relative {
            at: at(text).0,
            now: self.now,
        }
    }
}

/// `GET /alerts`
pub async fn get(State(app): State<App>, viewer: Viewer, query: Fields) -> Response {
    match show(&app, &viewer, &query).await {
        Ok(response) => response,
        Err(problem) => failed(Some(&viewer), &problem),
    }
}

async fn show(app: &App, viewer: &Viewer, query: &Fields) -> Result<Response, Problem> {
    let state = query.text("state");
    let chosen = STATES.iter().find(|(word, ..)| *word == state);
    let params = AlertParams {
        limit: Some(SHOWN),
        channel: query.given("channel").map(str::to_owned),
        state: chosen.and_then(|(_, _, state)| *state),
        cursor: None,
    };
    let reader = viewer.reader();
    let listed = alerts::list(State(app.clone()), reader, Params(params)).await?;
    let channels = app.store.channels(viewer.key.project).await?;
    let body = Alerts {
        viewer,
        alerts: listed.0.alerts,
        channels: channels
            .into_iter()
            .map(|channel| (channel.id, channel.name))
            .collect(),
        states: &STATES,
        state,
        channel: query.text("channel"),
        now: app.store.world().now(),
    };
    let page = Page {
        section: "/alerts",
        title: "Alerts",
        viewer: Some(viewer),
        said: query.text("done"),
        live: Live::of(app),
        ..Page::default()
    };
    Ok(page.show(&body))
}

/// `POST /alerts/{id}/redeliver`
pub async fn redeliver(State(app): State<App>, PathId(id): PathId, post: Post) -> Response {
    let redelivered = async {
        let alert = Edit::of(&app, post.writer(), &id).await?;
        alerts::redeliver(State(app.clone()), alert).await
    };
    match redelivered.await {
        Ok(_) => see_other("/alerts?done=redelivered"),
        Err(problem) => failed(Some(&post.viewer), &problem),
    }
}
