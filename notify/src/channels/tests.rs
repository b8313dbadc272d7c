//! What answers mean. What is sent is tested with fake receivers, in `e2e/tests/channels`.

use super::*;
use reqwest::StatusCode;
use thrum_schema::channel::kind::KINDS;
use thrum_schema::channel::kind::Settings;
use thrum_schema::notice::Notice;

/// Kinds that are not reached through a service over HTTP.
const OTHERS: [&str; 5] = ["email", "webhook", "sms", "sns", "eventbridge"];

fn answer(status: u16, body: &str) -> Answer {
    Answer {
        status: StatusCode::from_u16(status).unwrap(),
        retry_after: None,
        body: body.to_owned(),
    }
}

fn error(kind: &str, status: u16, body: &str) -> SendError {
    judge(kind, &answer(status, body), UnixMs(0)).unwrap_err()
}

#[test]
fn every_kind_is_known() {
    let (settings, notice) = (Settings::new(), Notice::default());
    let letter = Letter {
        settings: &settings,
        notice: &notice,
        id: "id",
        now: UnixMs(0),
    };
    for kind in KINDS.iter().filter(|kind| !OTHERS.contains(&kind.name)) {
        assert!(call(kind.name, &letter).is_ok(), "{}", kind.name);
        assert!(judge(kind.name, &answer(200, "ok"), UnixMs(0)).is_ok());
    }
    assert!(call("fax", &letter).unwrap_err().permanent);
}

#[test]
fn failures_pass_or_are_permanent() {
    for kind in KINDS.iter().filter(|kind| !OTHERS.contains(&kind.name)) {
        for (status, is_permanent) in [
            (302, true),
            (400, true),
            (401, true),
            (403, true),
            (404, true),
            (408, false),
            (410, true),
            (429, false),
            (500, false),
            (502, false),
            (503, false),
        ] {
            let error = error(kind.name, status, "{}");
            let passes = kind.name == "signal" && status == 400;
            let is_permanent = is_permanent && !passes;
            assert_eq!(error.permanent, is_permanent, "{} {status}", kind.name);
        }
        let mut busy = answer(429, "{}");
        busy.retry_after = Some("7".to_owned());
        let error = judge(kind.name, &busy, UnixMs(0)).unwrap_err();
        assert_eq!(error.wait_ms, 7_000, "{}", kind.name);
    }
}

#[test]
fn waits_in_json_count() {
    for (kind, body, ms) in [
        ("discord", r#"{"retry_after": 0.75, "global": false}"#, 750),
        (
            "telegram",
            r#"{"ok": false, "parameters": {"retry_after": 12}}"#,
            12_000,
        ),
        (
            "matrix",
            r#"{"errcode": "M_LIMIT_EXCEEDED", "retry_after_ms": 2000}"#,
            2_000,
        ),
    ] {
        assert_eq!(error(kind, 429, body).wait_ms, ms, "{kind}");
    }
}

#[test]
fn permanent_errors_are_explained() {
    for (kind, status, body, words) in [
        ("apprise", 204, "", "no configuration under this key"),
        (
            "slack",
            404,
            "no_service",
            "the webhook was disabled or removed",
        ),
        (
            "slack",
            410,
            "channel_is_archived",
            "the channel is archived",
        ),
        (
            "discord",
            404,
            r#"{"message": "Unknown Webhook", "code": 10015}"#,
            "was deleted",
        ),
        (
            "telegram",
            403,
            r#"{"description": "Forbidden: bot was kicked"}"#,
            "bot was kicked",
        ),
        (
            "telegram",
            400,
            r#"{"description": "x", "parameters": {"migrate_to_chat_id": -100123}}"#,
            "change the channel's chat to -100123",
        ),
        (
            "matrix",
            403,
            r#"{"errcode": "M_FORBIDDEN"}"#,
            "not in the room",
        ),
        (
            "pushover",
            400,
            r#"{"errors": ["user key is invalid"], "status": 0}"#,
            "user key is invalid",
        ),
        (
            "opsgenie",
            422,
            r#"{"message": "Key is not valid"}"#,
            "Key is not valid",
        ),
        (
            "rocketchat",
            200,
            r#"{"success": false, "error": "invalid-channel"}"#,
            "invalid-channel",
        ),
    ] {
        let error = error(kind, status, body);
        assert!(
            error.permanent && error.reason.contains(words),
            "{kind}: {error}"
        );
    }
    let long = format!(r#"{{"message": "{}\n"}}"#, "x".repeat(5_000));
    assert!(error("gotify", 400, &long).reason.len() < 400);
}
