//! Slack, by an incoming webhook.
//! <https://docs.slack.dev/messaging/sending-messages-using-incoming-webhooks>,
//! limits of blocks: <https://docs.slack.dev/reference/block-kit/blocks/section-block>

use crate::error::SendError;
use crate::http::{Answer, Call};
use crate::layout::{MRKDWN, chars, in_chars, lay_out};
use crate::letter::{Letter, judged};
use serde_json::json;
use thrum_schema::UnixMs;

/// Longest text of a section.
const MAX_SECTION: usize = 3_000;
/// Longest text of a header.
const MAX_HEADER: usize = 150;

pub fn call(letter: &Letter<'_>) -> Call {
    let notice = letter.notice;
    let text = lay_out(notice, MRKDWN, false, (MAX_SECTION, in_chars));
    let header = json!({
        "type": "header",
        "text": { "type": "plain_text", "text": chars(&notice.title, MAX_HEADER), "emoji": false },
    });
    let section = json!({ "type": "section", "text": { "type": "mrkdwn", "text": text } });
    let body = json!({
        // What notifications show.
        "text": (MRKDWN.text)(&notice.title),
        "attachments": [{
            "color": format!("#{:06x}", letter.colour()),
            "blocks": [header, section],
        }],
        "unfurl_links": false,
    });
    Call::json(letter.get("url"), &body)
}

/// <https://docs.slack.dev/messaging/sending-messages-using-incoming-webhooks#handling_errors>
pub fn judge(answer: &Answer, now: UnixMs) -> Result<Option<String>, SendError> {
    let words = match answer.body.trim() {
        "action_prohibited" => "an administrator has restricted posting",
        "channel_is_archived" => "the channel is archived",
        "channel_not_found" => "the channel no longer exists",
        "invalid_payload" | "invalid_blocks" | "no_text" => "the message is malformed",
        "invalid_token" | "no_active_hooks" | "no_service" | "no_team" => {
            "the webhook was disabled or removed"
        }
        "posting_to_general_channel_denied" => "only administrators may post to this channel",
        "team_disabled" => "the workspace is disabled",
        "user_not_found" => "the user who added the webhook no longer exists",
        _ => return judged(answer, now, None, None),
    };
    judged(answer, now, None, Some(words))
}
