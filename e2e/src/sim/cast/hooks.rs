//! The webhook receivers.

use super::Cast;
use crate::sim::chance::sleep_ms;
use crate::sim::history::Delivered;
use crate::sim::net::die;
use crate::sim::scenario::FaultKind;
use axum::http::StatusCode;
use futures::future::BoxFuture;
use serde_json::Value;
use std::net::IpAddr;
use std::sync::Weak;
use std::{fmt, io};
use thrum_notify::send::{Answer, Call, Lookup, SendError, Transport};

/// The timeout of a webhook request, in milliseconds.
const HOOK_TIMEOUT_MS: i64 = 10_000;

/// How often handlers are killed, in a thousand.
const fn killed(what: FaultKind) -> Option<u16> {
    match what {
        FaultKind::Killed(n) => Some(n),
        _ => None,
    }
}

/// The webhook receivers.
pub struct Hooks(pub Weak<Cast>);

impl fmt::Debug for Hooks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hooks")
    }
}

/// The name server that knows the receivers.
pub struct NameServer(pub Weak<Cast>);

impl fmt::Debug for NameServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NameServer")
    }
}

impl Lookup for NameServer {
    fn lookup(&self, _: String) -> BoxFuture<'static, io::Result<Vec<IpAddr>>> {
        let cast = self.0.upgrade();
        Box::pin(async move {
            let cast = cast.ok_or_else(|| io::Error::other("the simulation has ended"))?;
            let slow = |what| matches!(what, FaultKind::NamesSlow).then_some(());
            let is_slow = cast.scenario.active_faults(cast.clock.ms(), slow).next();
            if is_slow.is_some() {
                sleep_ms(cast.chance.range(20_000, 60_000)).await;
            }
            Ok(vec![IpAddr::from([203, 0, 113, 7])])
        })
    }
}

impl Transport for Hooks {
    fn call<'a>(&'a self, call: &'a Call) -> BoxFuture<'a, Result<Answer, SendError>> {
        Box::pin(async move {
            let cast = self
                .0
                .upgrade()
                .ok_or_else(|| SendError::passing("the simulation has ended"))?;
            let id = call.header("webhook-id").unwrap_or_default();
            let hook = call.url.trim_start_matches("http://hook-");
            let hook = hook
                .split('.')
                .next()
                .and_then(|n| n.parse().ok())
                .unwrap_or(usize::MAX);
            let attempt = (hook, id.to_owned(), cast.clock.ms());
            cast.history().attempts.push(attempt);
            sleep_ms(cast.chance.range(1, 200)).await;
            if cast.is_hit_by(killed) && cast.chance.per_mille(500) {
                return die().await;
            }
            let ms = cast.clock.ms();
            let active_faults: Vec<FaultKind> = cast.scenario.active_faults(ms, Some).collect();
            let is = |of: fn(u8) -> FaultKind| {
                active_faults
                    .iter()
                    .any(|what| u8::try_from(hook).is_ok_and(|hook| *what == of(hook)))
            };
            let (takes, answers) = if is(FaultKind::HookHangs) {
                (cast.chance.per_mille(500), None)
            } else if is(FaultKind::HookGone) {
                (false, Some(StatusCode::GONE))
            } else if is(FaultKind::HookFails) {
                (false, Some(StatusCode::INTERNAL_SERVER_ERROR))
            } else if is(FaultKind::HookTakesAndFails) {
                (true, Some(StatusCode::INTERNAL_SERVER_ERROR))
            } else {
                (true, Some(StatusCode::OK))
            };
            if takes {
                let delivered = Delivered {
                    at_ms: ms,
                    hook,
                    id: id.to_owned(),
                    body: serde_json::from_str(&call.body).unwrap_or_default(),
                    accepted: answers == Some(StatusCode::OK),
                };
                cast.trace
                    .say(|| format!("hook {hook} gets {}", summary(&delivered.body)));
                cast.trace.note(id, u16::from(delivered.accepted), ms);
                cast.history().delivered.push(delivered);
            } else {
                cast.trace.say(|| format!("hook {hook} refuses {id}"));
            }
            match answers {
                Some(status) => {
                    sleep_ms(cast.chance.range(1, 100)).await;
                    if cast.is_hit_by(killed) {
                        return die().await;
                    }
                    Ok(Answer::of(status))
                }
                None => {
                    sleep_ms(HOOK_TIMEOUT_MS).await;
                    Err(SendError::passing(
                        "the receiver did not answer within 10 s",
                    ))
                }
            }
        })
    }
}

/// A message in one line.
pub fn summary(body: &Value) -> String {
    let data = &body["data"];
    let one = |change: &Value| {
        format!(
            "{} {} of {} ({}, alert {})",
            change["monitor"]["name"].as_str().unwrap_or("-"),
            change["status"].as_str().unwrap_or("-"),
            change["flip_at"].as_str().unwrap_or("-"),
            change["reason"].as_str().unwrap_or("-"),
            change["alert_id"].as_str().unwrap_or("-"),
        )
    };
    match data["changes"].as_array() {
        Some(changes) => changes.iter().map(one).collect::<Vec<_>>().join("; "),
        None => format!("{}: {}", body["type"].as_str().unwrap_or("-"), one(data)),
    }
}
