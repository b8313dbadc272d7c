//! How pages stay up to date. A long-running process pushes an event when a page must reload its
//! data; on Lambda, pages poll.

use super::session::Viewer;
use crate::app::App;
use crate::http::Problem;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use thrum_store::Touched;
use tokio::sync::broadcast::error::{RecvError, TryRecvError};

/// Lifetime of a stream. The browser then reconnects, and its session is checked again.
const LASTS: Duration = Duration::from_secs(600);
/// How often a stream checks whether its key is still valid.
const CHECK_EVERY: Duration = Duration::from_secs(5);
/// Maximum number of streams of a key, and of all keys.
const MAX_OF_KEY: usize = 16;
const MAX_STREAMS: usize = 500;
/// When to try again if there are too many, in milliseconds.
const BUSY_MS: i64 = 10_000;
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
pub async fn events(
    State(app): State<App>,
    State(streams): State<Streams>,
    viewer: Viewer,
) -> Response {
    let Some(changes) = app.store.touched() else {
        return StatusCode::NO_CONTENT.into_response();
    };
    let Some(place) = streams.open(&viewer.key.hash) else {
        return Problem::too_many("too many pages are open with this key", BUSY_MS).into_response();
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
    let ended = Box::pin(end(app, viewer.key.hash, place));
    let events = futures::StreamExt::take_until(events, ended);
    Sse::new(events)
        .keep_alive(KeepAlive::new().interval(Duration::from_secs(15)))
        .into_response()
}

/// Waits until the stream must end: when the key is revoked, or after a while, so that the browser
/// reconnects and its session is checked.
async fn end(app: App, hash: String, _place: Place) {
    let ends = tokio::time::Instant::now() + LASTS;
    while tokio::time::Instant::now() < ends {
        tokio::time::sleep(CHECK_EVERY).await;
        if let Ok(None) = app.accounts.key_of_hash(&hash).await {
            return;
        }
    }
}

/// The open streams, by the hash of their key. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Streams(Arc<Mutex<HashMap<String, usize>>>);

/// An open stream, until this is dropped.
#[derive(Debug)]
struct Place {
    streams: Streams,
    hash: String,
}

impl Streams {
    /// A place for one more stream; `None` if there are too many.
    fn open(&self, hash: &str) -> Option<Place> {
        let mut open = self.lock();
        if open.values().sum::<usize>() >= MAX_STREAMS {
            return None;
        }
        let of_key = open.entry(hash.to_owned()).or_default();
        if *of_key >= MAX_OF_KEY {
            return None;
        }
        *of_key += 1;
        Some(Place {
            streams: self.clone(),
            hash: hash.to_owned(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.streams.lock();
        if let Some(of_key) = open.get_mut(&self.hash) {
            *of_key -= 1;
            if *of_key == 0 {
                open.remove(&self.hash);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_streams_of_a_key_and_of_all_are_limited() {
        let streams = Streams::default();
        let mut places: Vec<Place> = (0..MAX_OF_KEY)
            .map(|_| streams.open("a").unwrap())
            .collect();
        assert!(streams.open("a").is_none());
        places.pop();
        assert!(streams.open("a").is_some());
        let others: Vec<Place> = (0..MAX_STREAMS)
            .filter_map(|n| streams.open(&n.to_string()))
            .collect();
        assert_eq!(places.len() + others.len(), MAX_STREAMS);
        drop((places, others));
        assert!(streams.lock().is_empty());
    }
}
