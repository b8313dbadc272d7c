//! Microsoft Teams, by a workflow that takes an adaptive card.
//! <https://learn.microsoft.com/en-us/microsoftteams/platform/webhooks-and-connectors/how-to/add-incoming-webhook>,
//! cards: <https://adaptivecards.microsoft.com>. A message may have 28 KB.

use crate::http::Call;
use crate::layout::{bytes, chars};
use crate::letter::Letter;
use serde_json::{Value, json};
use thrum_schema::notice::{Fact, News, Notice};

/// Longest text, in bytes.
const MAX_TEXT: usize = 8_000;
/// Most lines of the text, and of the output: each is an element.
const MAX_LINES: usize = 50;
const MAX_OUTPUT_LINES: usize = 15;
/// Longest request, in bytes.
const MAX_SIZE: usize = 26_000;

pub fn call(letter: &Letter<'_>) -> Call {
    let mut notice = letter.notice.clone();
    loop {
        let call = card(letter, &notice);
        if call.body.len() <= MAX_SIZE {
            return call;
        }
        let half = notice.text.chars().count() / 2;
        if notice.output.take().is_none() && notice.description.take().is_none() {
            notice.text = chars(&notice.text, half);
        }
    }
}

fn card(letter: &Letter<'_>, notice: &Notice) -> Call {
    let colour = match notice.news {
        News::Down => "attention",
        News::Reminder => "warning",
        News::Up => "good",
        News::Info => "default",
    };
    let block = |text: &str, more: Value| {
        let mut block = json!({ "type": "TextBlock", "text": text, "wrap": true });
        if let (Some(block), Value::Object(more)) = (block.as_object_mut(), more) {
            block.extend(more);
        }
        block
    };
    // A text run shows its text unchanged; a text block would read it as Markdown.
    let plain = |text: &str, more: Value| {
        let mut run = json!({ "type": "TextRun", "text": text });
        if let (Some(run), Value::Object(more)) = (run.as_object_mut(), more) {
            run.extend(more);
        }
        json!({ "type": "RichTextBlock", "inlines": [run] })
    };
    let mut parts = vec![plain(
        &chars(&notice.title, 300),
        json!({ "size": "large", "weight": "bolder", "color": colour }),
    )];
    let text = bytes(&notice.text, MAX_TEXT);
    parts.extend(
        text.lines()
            .take(MAX_LINES)
            .map(|line| plain(line, json!({}))),
    );
    if !notice.facts.is_empty() {
        let fact = |Fact { label, value }: &Fact| json!({ "title": label, "value": escape(&bytes(value, 1_000)) });
        let facts: Vec<Value> = notice.facts.iter().map(fact).collect();
        parts.push(json!({ "type": "FactSet", "facts": facts }));
    }
    if let Some(description) = &notice.description {
        parts.push(block(&escape(&bytes(description, 4_000)), json!({})));
    }
    if let Some(output) = &notice.output {
        let output = bytes(output, 4_000);
        let all = output.lines().count();
        let lines = output
            .lines()
            .skip(all.saturating_sub(MAX_OUTPUT_LINES))
            .map(|line| plain(line, json!({ "fontType": "monospace" })));
        parts.extend(lines);
    }
    let mut card = json!({
        "type": "AdaptiveCard",
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
        "version": "1.4",
        "body": parts,
    });
    if let Some(link) = &notice.link {
        card["actions"] =
            json!([{ "type": "Action.OpenUrl", "title": notice.link_label, "url": link }]);
    }
    let body = json!({
        "type": "message",
        "attachments": [{
            "contentType": "application/vnd.microsoft.card.adaptive",
            "contentUrl": null,
            "content": card,
        }],
    });
    Call::json(letter.get("url"), &body)
}

/// Escapes the Markdown that a text block reads; links stay links.
fn escape(text: &str) -> String {
    text.chars()
        .fold(String::with_capacity(text.len()), |mut escaped, c| {
            if "\\*[]`".contains(c) {
                escaped.push('\\');
            }
            escaped.push(c);
            escaped
        })
}
