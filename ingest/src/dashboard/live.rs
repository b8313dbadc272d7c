//! How pages stay up to date. A long-running process pushes an event when a page must reload its
//! data; on Lambda, pages poll.

use super::session::Viewer;
use crate::app::App;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use std::convert::Infallible;
use std::time::Duration;
use thrum_store::Touched;
use tokio::sync::broadcast::error::{RecvError, TryRecvError};

/// Lifetime of a stream. The browser then reconnects, and its session is checked again.
const LASTS: Duration = Duration::from_secs(600);
/// Changes within this time are combined into one event.
const GATHER: Duration = Duration::from_millis(250);

/// How a page stays up to date.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Live {
    /// It does not.
    #[default]
    Not,
    /// By server-sent events.
    Events,
    /// By polling every 15 s.
    Poll,
    /// By polling every 2 s.
    Soon,
}

impl Live {
    /// How the pages of this process stay up to date.
    pub fn of(app: &App) -> Self {
        if app.store.has_change_feed() {
            Self::Events
        } else {
            Self::Poll
        }
    }

    /// The value of the page's `data-live` attribute.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Not => "",
            Self::Events => "events",
            Self::Poll => "poll",
            Self::Soon => "soon",
        }
    }
}

/// `GET /events`: an event whenever a monitor of the project changes. Heartbeats that change
/// nothing send no event; pages poll for them. Without a change feed, the answer is 204, which
/// stops browsers from reconnecting.
pub async fn events(State(app): State<App>, viewer: Viewer) -> Response {
    let Some(changes) = app.store.touched() else {
        return StatusCode::NO_CONTENT.into_response();
    };
    let project = viewer.key.project;
    let events = futures::stream::unfold(Some(changes), move |changes| async move {
        let mut changes = changes?;
        loop {
            match changes.recv().await {
                Ok(Touched::Changed(of, _)) if of == project => break,
                Ok(Touched::Changed(..) | Touched::Seen(..)) => {}
                Err(RecvError::Lagged(_)) => break,
                Ok(Touched::End) | Err(RecvError::Closed) => return None,
            }
        }
        tokio::time::sleep(GATHER).await;
        loop {
            match changes.try_recv() {
                Ok(Touched::End) => return None,
                Ok(_) | Err(TryRecvError::Lagged(_)) => {}
                Err(_) => break,
            }
        }
        let event = Event::default().data("changed");
        Some((Ok::<_, Infallible>(event), Some(changes)))
    });
    let ended = Box::pin(tokio::time::sleep(LASTS));
    let events = futures::StreamExt::take_until(events, ended);
    Sse::new(events)
        .keep_alive(KeepAlive::new().interval(Duration::from_secs(15)))
        .into_response()
}
