//! PagerDuty, by its Events API v2: a monitor that goes down triggers an incident, and resolves it
//! when it is up again. <https://developer.pagerduty.com/docs/events-api-v2/trigger-events/>,
//! EU: <https://developer.pagerduty.com/docs/ZG9jOjExMDI5NTgx-send-an-alert-event#service-region>

use crate::http::Call;
use crate::layout::chars;
use crate::letter::Letter;
use serde_json::{Map, Value, json};
use thrum_schema::notice::{Fact, News};

/// Longest summary, in characters.
const MAX_SUMMARY: usize = 1_024;

pub fn call(letter: &Letter<'_>) -> Call {
    let notice = letter.notice;
    let host = match letter.or("region", "us") {
        "eu" => "events.eu.pagerduty.com",
        _ => "events.pagerduty.com",
    };
    let action = if notice.news == News::Up {
        "resolve"
    } else {
        "trigger"
    };
    let mut body = json!({
        "routing_key": letter.get("routing_key"),
        "event_action": action,
        "dedup_key": notice.key,
    });
    if notice.news != News::Up {
        let severity = match notice.news {
            News::Info => "info",
            _ => letter.or("severity", "critical"),
        };
        let mut details: Map<String, Value> = notice
            .facts
            .iter()
            .map(|Fact { label, value }| ((*label).to_owned(), value.clone().into()))
            .collect();
        details.insert("What happened".to_owned(), notice.text.clone().into());
        let others = [
            ("Description", &notice.description),
            ("Last output", &notice.output),
        ];
        for (label, value) in others {
            if let Some(value) = value {
                details.insert(label.to_owned(), value.clone().into());
            }
        }
        body["payload"] = json!({
            "summary": chars(&notice.title, MAX_SUMMARY),
            "source": "Thrum",
            "severity": severity,
            "timestamp": notice.at.rfc3339(),
            "component": notice.tags.first(),
            "custom_details": details,
        });
        if let Some(link) = &notice.link {
            body["client"] = "Thrum".into();
            body["client_url"] = link.as_str().into();
            body["links"] = json!([{ "href": link, "text": notice.link_label }]);
        }
    }
    Call::json(format!("https://{host}/v2/enqueue"), &body)
}
