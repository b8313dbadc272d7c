//! Alertmanager: an alert for each monitor that is down, which ends when it is up again.
//! <https://github.com/prometheus/alertmanager/blob/main/api/v2/openapi.yaml>,
//! <https://prometheus.io/docs/alerting/latest/alerts_api/>

use crate::http::Call;
use crate::layout::{PLAIN, in_chars, lay_out};
use crate::letter::Letter;
use serde_json::json;
use thrum_schema::notice::News;

/// How long an alert lasts that nobody ends, in milliseconds. Without an end, Alertmanager takes it for
/// resolved after five minutes, unless it is sent again and again.
const LASTS_MS: i64 = 30 * 86_400_000;
/// How long news without an end lasts, in milliseconds.
const NEWS_MS: i64 = 300_000;

pub fn call(letter: &Letter<'_>) -> Call {
    let notice = letter.notice;
    let ends = match notice.news {
        News::Up => notice.at,
        News::Down | News::Reminder => letter.now + LASTS_MS,
        News::Info => letter.now + NEWS_MS,
    };
    // The labels identify the alert, so they are the same when it ends.
    let severity = match notice.news {
        News::Info => "info",
        News::Down | News::Reminder | News::Up => "critical",
    };
    let starts = match notice.news {
        // It began earlier; Alertmanager keeps the start that it knows.
        News::Up => notice.at + -1,
        _ => notice.at.min(letter.now),
    };
    let mut alert = json!({
        "labels": {
            "alertname": "Thrum",
            "monitor": notice.key,
            "severity": severity,
        },
        "annotations": {
            "summary": notice.title,
            "description": lay_out(notice, PLAIN, false, (8_000, in_chars)),
        },
        "startsAt": starts.rfc3339(),
        "endsAt": ends.rfc3339(),
    });
    if let Some(link) = &notice.link {
        alert["generatorURL"] = link.as_str().into();
    }
    let call = Call::json(
        format!("{}/api/v2/alerts", letter.server("")),
        &json!([alert]),
    );
    match letter.get("token") {
        "" => call,
        token => call.with("authorization", format!("Bearer {token}")),
    }
}
