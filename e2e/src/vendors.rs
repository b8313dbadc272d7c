//! The services that channels send to, in one process: each checks what it gets by its vendor's
//! documented rules. The files in `notify/src/channels` name the documentation.

mod markup;
mod rules;

use axum::http::StatusCode;
use futures::future::BoxFuture;
use serde_json::Value;
use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use thrum_notify::send::{Answer, Call, Lookup, SendError, Transport};

pub use rules::{SETTINGS, answer};

/// What a service does with a request, if not what its rules say.
#[derive(Debug, Clone)]
pub enum Mood {
    /// Answers so, and takes nothing.
    Answers(Answer),
    /// Takes it by its rules, and the answer is lost.
    LosesReply,
}

/// A request that a service answered.
#[derive(Debug, Clone)]
pub struct Taken {
    /// The request.
    pub call: Call,
    /// Its body as JSON.
    pub body: Value,
    /// The status of the answer.
    pub status: u16,
}

#[derive(Debug, Default)]
struct Inner {
    moods: VecDeque<Mood>,
    taken: Vec<Taken>,
}

/// One of the services.
#[derive(Debug, Clone)]
pub struct Vendor {
    kind: &'static str,
    inner: Arc<Mutex<Inner>>,
}

impl Vendor {
    /// The service that channels of `kind` send to.
    pub fn new(kind: &'static str) -> Self {
        Self {
            kind,
            inner: Arc::default(),
        }
    }

    /// What it does with its next request.
    pub fn next(&self, mood: Mood) {
        self.inner().moods.push_back(mood);
    }

    /// What it has answered so far.
    pub fn taken(&self) -> Vec<Taken> {
        self.inner().taken.clone()
    }

    fn inner(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().expect("not poisoned")
    }
}

impl Transport for Vendor {
    fn call<'a>(&'a self, call: &'a Call) -> BoxFuture<'a, Result<Answer, SendError>> {
        Box::pin(async move {
            let mut inner = self.inner();
            let mood = inner.moods.pop_front();
            let answer = match &mood {
                Some(Mood::Answers(answer)) => answer.clone(),
                Some(Mood::LosesReply) | None => answer(self.kind, call),
            };
            inner.taken.push(Taken {
                call: call.clone(),
                body: serde_json::from_str(&call.body).unwrap_or_default(),
                status: answer.status.as_u16(),
            });
            match mood {
                Some(Mood::LosesReply) => Err(SendError::passing("the connection was reset")),
                _ => Ok(answer),
            }
        })
    }
}

/// A name server that knows every name.
#[derive(Debug)]
pub struct Anywhere;

impl Lookup for Anywhere {
    fn lookup(&self, _: String) -> BoxFuture<'static, std::io::Result<Vec<IpAddr>>> {
        Box::pin(std::future::ready(Ok(vec![[203, 0, 113, 7].into()])))
    }
}

/// An answer with a body.
pub fn answering(status: u16, body: &str) -> Answer {
    Answer {
        body: body.to_owned(),
        ..Answer::of(StatusCode::from_u16(status).expect("a status"))
    }
}
