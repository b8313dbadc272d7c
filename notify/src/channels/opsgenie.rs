//! Opsgenie and Jira Service Management, which took over its API: a monitor that goes down creates an
//! alert, and closes it by its alias when it is up again.
//! <https://docs.opsgenie.com/docs/alert-api>,
//! <https://developer.atlassian.com/cloud/jira/service-desk-ops/rest/v2/api-group-integration-events/>

use crate::http::Call;
use crate::layout::{chars, in_chars};
use crate::letter::Letter;
use serde_json::{Map, Value, json};
use thrum_schema::notice::{Fact, News, Notice};

/// The server of Jira Service Management.
pub const JIRA: &str = "https://api.atlassian.com/jsm/ops/integration";

const MAX_MESSAGE: usize = 130;
const MAX_TEXT: usize = 15_000;
const MAX_TAGS: usize = 20;
const MAX_TAG: usize = 50;
/// Of the names and values of all details together.
const MAX_DETAILS: usize = 8_000;

/// The server of the account's region.
pub fn server(letter: &Letter<'_>) -> &'static str {
    match letter.or("region", "us") {
        "eu" => "https://api.eu.opsgenie.com",
        _ => "https://api.opsgenie.com",
    }
}

pub fn call(letter: &Letter<'_>, server: &str) -> Call {
    let notice = letter.notice;
    let call = if notice.news == News::Up {
        let body = json!({ "source": "Thrum", "note": chars(&notice.text, MAX_TEXT) });
        let path = format!("/v2/alerts/{}/close?identifierType=alias", notice.key);
        Call::json(format!("{server}{path}"), &body)
    } else {
        Call::json(format!("{server}/v2/alerts"), &created(letter, notice))
    };
    call.with(
        "authorization",
        format!("GenieKey {}", letter.get("api_key")),
    )
}

fn created(letter: &Letter<'_>, notice: &Notice) -> Value {
    let mut details: Map<String, Value> = Map::new();
    let mut left = MAX_DETAILS;
    for Fact { label, value } in &notice.facts {
        let size = in_chars(label) + in_chars(value);
        if size <= left {
            left -= size;
            details.insert((*label).to_owned(), value.clone().into());
        }
    }
    let tags = notice.tags.iter().take(MAX_TAGS);
    let tags: Vec<String> = tags.map(|tag| chars(tag, MAX_TAG)).collect();
    let priority = match notice.news {
        News::Info => "P5",
        _ => letter.or("priority", "P2"),
    };
    json!({
        "message": chars(&notice.title, MAX_MESSAGE),
        "alias": notice.key,
        "description": chars(&format!("{}\n\n{}", notice.title, notice.body()), MAX_TEXT),
        "source": "Thrum",
        "priority": priority,
        "tags": tags,
        "details": details,
    })
}
