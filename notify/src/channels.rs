//! The services that messages go to over HTTP, one file each: what Thrum sends, and what an answer
//! means. Each file names the vendor's documentation.

mod alertmanager;
mod apprise;
mod discord;
mod googlechat;
mod gotify;
mod matrix;
mod mattermost;
mod ntfy;
mod opsgenie;
mod pagerduty;
mod pushover;
mod rocketchat;
mod signal;
mod slack;
mod teams;
mod telegram;

use crate::error::SendError;
use crate::http::{Answer, Call};
use crate::letter::{Letter, judged};
use thrum_schema::UnixMs;

/// The request that brings a message to a service of the kind `kind`.
///
/// # Errors
/// There is no such kind.
pub fn call(kind: &str, letter: &Letter<'_>) -> Result<Call, SendError> {
    Ok(match kind {
        "alertmanager" => alertmanager::call(letter),
        "apprise" => apprise::call(letter),
        "discord" => discord::call(letter),
        "googlechat" => googlechat::call(letter),
        "gotify" => gotify::call(letter),
        "jira-ops" => opsgenie::call(letter, opsgenie::JIRA),
        "matrix" => matrix::call(letter),
        "mattermost" => mattermost::call(letter),
        "ntfy" => ntfy::call(letter),
        "opsgenie" => opsgenie::call(letter, opsgenie::server(letter)),
        "pagerduty" => pagerduty::call(letter),
        "pushover" => pushover::call(letter),
        "rocketchat" => rocketchat::call(letter),
        "signal" => signal::call(letter),
        "slack" => slack::call(letter),
        "teams" => teams::call(letter),
        "telegram" => telegram::call(letter),
        _ => {
            return Err(SendError::permanent(format!(
                "this version of Thrum does not know channels of kind {kind}"
            )));
        }
    })
}

/// What the answer of a service of the kind `kind` means: a note to keep, such as the status.
///
/// # Errors
/// The service did not accept the message: for now, or for ever.
pub fn judge(kind: &str, answer: &Answer, now: UnixMs) -> Result<Option<String>, SendError> {
    match kind {
        "apprise" => apprise::judge(answer, now),
        "discord" => discord::judge(answer, now),
        "matrix" => matrix::judge(answer, now),
        "rocketchat" => rocketchat::judge(answer, now),
        "signal" => signal::judge(answer, now),
        "slack" => slack::judge(answer, now),
        "telegram" => telegram::judge(answer, now),
        _ => judged(answer, now, None, None),
    }
}

#[cfg(test)]
mod tests;
