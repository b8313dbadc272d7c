//! Every kind of service: what Thrum sends to it, and what its answers do. The receivers check what
//! they get by their vendors' rules.

use crate::support::schemas::{problems, strict};
use axum::http::{Method, StatusCode};
use e2e::vendors::{Mood, SETTINGS, Vendor, answer, answering};
use e2e::{SITE, Stage};
use serde_json::{Map, Value, json};
use thrum_notify::Letter;
use thrum_notify::Message;
use thrum_notify::channels::call;
use thrum_notify::send::{Answer, Call};
use thrum_schema::alert::{Alert, AlertKind};
use thrum_schema::channel::kind::{Kind, Settings};
use thrum_schema::channel::{Channel, ChannelKind};
use thrum_schema::id::{AlertId, ChannelId, ProjectId, WatchId};
use thrum_schema::notice::{Voice, sample};
use thrum_schema::signal::explanation::{Basis, Expected};
use thrum_schema::signal::watch::Change;
use thrum_schema::signal::{Explanation, SeriesName, Timeframe, Verdict};
use thrum_schema::{Outage, Project, UnixMs};
use uuid::Uuid;

const NOW: UnixMs = UnixMs(1_764_324_600_000);
const ID: &str = "0199f5b0-0000-7000-8000-000000000000.0f8fad5b-d9cb-469f-a165-70867728950e";

fn settings(pairs: &[(&str, &str)]) -> Settings {
    let pair = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    pairs.iter().map(pair).collect()
}

fn channel() -> Channel {
    let via = ChannelKind::Service {
        kind: "slack".to_owned(),
        settings: Settings::new(),
    };
    Channel {
        name: "on call".to_owned(),
        ..Channel::new(ChannelId(Uuid::from_u128(9)), ProjectId::FIRST, via, NOW)
    }
}

fn anomaly() -> Alert {
    let change = Change {
        watch: WatchId(Uuid::from_u128(1)),
        name: "backup rows".into(),
        series: SeriesName::of_monitor("backup", "rows"),
        timeframe: Timeframe::TICK,
        strategy: "auto".into(),
        mode: "default".into(),
        from: Verdict::Normal,
        to: Verdict::Low,
        bar: NOW + -4_000,
        close: 60_000.0,
        age_s: 4,
        undone: false,
        explanation: Explanation {
            conditions: Vec::new(),
            changed: Vec::new(),
            expected: Some(Expected {
                low: Some(118_000.0),
                high: Some(126_000.0),
                typical: Some(122_000.0),
                basis: Basis::Weekday,
            }),
            position: None,
            summary: String::new(),
        },
        trace: "1-67891233-abcdef012345678912345678".parse().ok(),
    };
    Alert {
        what: AlertKind::Signal,
        monitor: None,
        flip: None,
        output: None,
        signal: Some(Box::new(change)),
        ..sample(AlertKind::Down, NOW)
    }
}

/// Six incidents and a test, as an on-call engineer gets them.
fn messages() -> Vec<(&'static str, Message)> {
    let project = Project {
        badge_secret: "secret".to_owned(),
        zone: Some("Europe/Berlin".to_owned()),
        ..Project::new(ProjectId::FIRST, "")
    };
    let voice = Voice::new(&project, Some(SITE));
    let one = |alert: &Alert| Message::of_alert(alert, &channel(), &voice);
    let of = |what| sample(what, NOW);
    let named = |name: &str, what| {
        let mut alert = of(what);
        name.clone_into(&mut alert.monitor.as_mut().unwrap().name);
        alert
    };
    let group = [
        named("web-02", AlertKind::Down),
        named("web-01", AlertKind::Down),
        named("db", AlertKind::Up),
    ];
    vec![
        ("down", one(&of(AlertKind::Down))),
        ("up", one(&of(AlertKind::Up))),
        ("reminder", one(&of(AlertKind::Reminder))),
        ("anomaly", one(&anomaly())),
        ("test", one(&of(AlertKind::Test))),
        ("limit", one(&of(AlertKind::Limited))),
        (
            "group",
            Message::of_group(AlertId(Uuid::from_u128(7)), &group, &voice),
        ),
    ]
}

/// Readers of webhooks and of event buses rely on the published schema.
#[test]
fn the_published_schema_describes_every_message() {
    let schema = include_str!("../../docs/notification.schema.json");
    let schema: Value = serde_json::from_str(schema).unwrap();
    let project = Project::new(ProjectId::FIRST, "");
    let voice = Voice::new(&project, Some(SITE));
    // With every field that there can be.
    let mut late = sample(AlertKind::Up, NOW);
    late.flapping = true;
    let flip = late.flip.as_mut().unwrap();
    (flip.missed, flip.deadline) = (3, Some(NOW));
    flip.outage = Some(Outage::total(NOW + -9_000, NOW));
    let subject = late.monitor.as_mut().unwrap();
    (subject.children, subject.more_children) = (vec!["web".to_owned()], 4);
    let mut undone = anomaly();
    undone.signal.as_mut().unwrap().undone = true;
    let group = |alerts: &[Alert]| Message::of_group(AlertId(Uuid::from_u128(7)), alerts, &voice);
    let mut all: Vec<Message> = messages().into_iter().map(|(_, one)| one).collect();
    all.extend([extreme(), lines(), crowd()]);
    all.push(Message::of_alert(&late, &channel(), &voice));
    all.push(group(&[undone.clone(), anomaly()]));
    all.push(group(&[undone, late]));
    let mut bodies: Vec<Value> = all.into_iter().map(|message| message.json).collect();
    let valid = bodies.len();
    for (path, wrong) in [
        ("/type", json!("monitor.gone")),
        ("/data/status", json!("DOWN")),
        ("/data/monitor/uuid", json!("secret")),
        ("/timestamp", json!(5)),
    ] {
        let mut body = bodies[0].clone();
        let (parent, name) = path.rsplit_once('/').unwrap();
        body.pointer_mut(parent).unwrap()[name] = wrong;
        bodies.push(body);
    }
    let Some(problems) = problems(&strict(&schema), &bodies) else {
        return;
    };
    for (i, (body, problems)) in bodies.iter().zip(problems).enumerate() {
        assert_eq!(problems.is_empty(), i < valid, "{body}: {problems:?}");
    }
}

/// A message as long, and as hostile, as it can be.
fn extreme() -> Message {
    let mut alert = sample(AlertKind::Down, NOW);
    let junk = "<b>&amp;\"'`*_~|[x](y)<!channel> @everyone \u{202e}é😀 ";
    let subject = alert.monitor.as_mut().unwrap();
    subject.name = junk.chars().cycle().take(100).collect();
    subject.desc = junk.chars().cycle().take(1_000).collect();
    subject.tags = (0..60).map(|n| format!("tag<{n}>")).collect();
    alert.output = Some(junk.repeat(30).chars().take(1_300).collect());
    alert.flip.as_mut().unwrap().why = Some(junk.repeat(8));
    let project = Project {
        badge_secret: "secret".to_owned(),
        ..Project::new(ProjectId::FIRST, "")
    };
    Message::of_alert(&alert, &channel(), &Voice::new(&project, Some(SITE)))
}

/// A message with as many lines as there can be.
fn lines() -> Message {
    let mut alert = sample(AlertKind::Down, NOW);
    alert.output = Some("a\n".repeat(750));
    alert.monitor.as_mut().unwrap().desc = "b\n".repeat(500);
    let project = Project::new(ProjectId::FIRST, "");
    Message::of_alert(&alert, &channel(), &Voice::new(&project, Some(SITE)))
}

/// A group of ninety such monitors.
fn crowd() -> Message {
    let alerts: Vec<Alert> = (0..90)
        .map(|n| {
            let mut alert = sample(AlertKind::Down, NOW);
            alert.monitor.as_mut().unwrap().name = format!("<{n:02}> {}", "é&".repeat(48));
            alert
        })
        .collect();
    let project = Project::new(ProjectId::FIRST, "");
    Message::of_group(
        AlertId(Uuid::from_u128(7)),
        &alerts,
        &Voice::new(&project, Some(SITE)),
    )
}

fn called(kind: &str, pairs: &[(&str, &str)], message: &Message) -> Call {
    let letter = Letter {
        settings: &settings(pairs),
        notice: &message.notice,
        id: ID,
        now: NOW,
    };
    call(kind, &letter).unwrap()
}

#[test]
fn each_message_to_each_service_is_as_recorded_and_keeps_its_rules() {
    for (kind, pairs) in SETTINGS {
        let mut sent = Map::new();
        for (name, message) in messages() {
            let call = called(kind, pairs, &message);
            let said = answer(kind, &call);
            assert!(
                said.status.is_success(),
                "{kind} {name}: {} {}",
                said.body,
                call.body
            );
            let body: Value = serde_json::from_str(&call.body).unwrap();
            let shown = json!({
                "request": format!("{} {}", call.method, call.url),
                "headers": call.headers,
                "body": body,
            });
            sent.insert(name.to_owned(), shown);
        }
        insta::with_settings!({ snapshot_path => "channels", prepend_module_to_snapshot => false }, {
            insta::assert_json_snapshot!(kind, sent);
        });
    }
}

#[test]
fn the_longest_and_most_hostile_message_keeps_every_rule() {
    for (kind, pairs) in SETTINGS {
        for message in [extreme(), crowd(), lines()] {
            let call = called(kind, pairs, &message);
            let said = answer(kind, &call);
            assert!(said.status.is_success(), "{kind}: {}", said.body);
        }
    }
}

#[test]
fn every_service_has_a_receiver() {
    // Kinds that do not send to a URL have their own tests.
    let others = ["email", "webhook", "sms", "sns", "eventbridge"];
    for kind in thrum_schema::channel::kind::KINDS {
        let has = SETTINGS.iter().any(|(name, _)| *name == kind.name);
        assert_ne!(has, others.contains(&kind.name), "{}", kind.name);
        if has {
            // And a page that says where to find its settings.
            let page = format!(
                "{}/../docs/channels/{}.md",
                env!("CARGO_MANIFEST_DIR"),
                kind.name
            );
            let page = std::fs::read_to_string(page).unwrap();
            for setting in kind.settings.iter().filter(|setting| setting.required) {
                let example = format!("{}=", setting.name);
                assert!(page.contains(&example), "{}: {example}", kind.name);
            }
        }
    }
}

/// A stage with one channel of `kind`, and a monitor that pings every minute.
async fn stage(kind: &'static str, pairs: &[(&str, &str)]) -> (Stage, Vendor) {
    let vendor = Vendor::new(kind);
    let stage = Stage::new().await.calling(vendor.clone());
    let body = json!({ "kind": kind, "settings": settings(pairs) });
    let made = stage.call(Method::POST, "/v1/channels", body).await;
    assert_eq!(made.status, 201, "{kind}: {}", made.text());
    beat(&stage).await;
    (stage, vendor)
}

async fn beat(stage: &Stage) {
    let body = json!({ "monitor": "backup", "period_s": 60, "grace_s": 5 });
    stage.heartbeat(body).await;
}

async fn delivery(stage: &Stage) -> Value {
    stage.alerts().await[0]["deliveries"][0].clone()
}

#[tokio::test]
async fn each_service_gets_an_alert_and_its_recovery() {
    for (kind, pairs) in SETTINGS {
        let (stage, vendor) = stage(kind, pairs).await;
        stage.run(70_000, 5_000).await;
        beat(&stage).await;
        stage.run(5_000, 1_000).await;
        let taken = vendor.taken();
        assert_eq!(taken.len(), 2, "{kind}");
        assert!(
            taken.iter().all(|one| (200..300).contains(&one.status)),
            "{kind}: {taken:?}"
        );
        let text = |n: usize| taken[n].call.body.clone() + &taken[n].call.url;
        let (down, up) = (text(0), text(1));
        assert!(down.contains("backup"), "{kind}: {down}");
        // A receiver that keeps incidents knows which one ends.
        if Kind::named(kind).unwrap().incidents {
            let start = down.find("thrum-").unwrap();
            let key = &down[start..start + 38];
            assert!(up.contains(key), "{kind}: {key} in {up}");
        } else {
            assert!(up.contains("UP"), "{kind}: {up}");
        }
    }
}

#[tokio::test]
async fn each_service_that_is_busy_is_asked_again_when_it_says() {
    for (kind, pairs) in SETTINGS {
        let (stage, vendor) = stage(kind, pairs).await;
        vendor.next(Mood::Answers(Answer {
            retry_after: Some("40".to_owned()),
            ..answering(429, "{}")
        }));
        vendor.next(Mood::Answers(answering(503, "{}")));
        stage.run(70_000, 5_000).await;
        assert_eq!(vendor.taken().len(), 1, "{kind}");
        let waits = delivery(&stage).await;
        assert_eq!(waits["state"], "retry", "{kind}: {waits}");
        assert!(
            waits["error"].as_str().unwrap().contains("wait 40 s"),
            "{kind}: {waits}"
        );
        stage.run(30_000, 5_000).await;
        assert_eq!(vendor.taken().len(), 1, "{kind}: too early");
        stage.run(120_000, 5_000).await;
        let taken = vendor.taken();
        assert_eq!(taken.len(), 3, "{kind}");
        assert_eq!(delivery(&stage).await["state"], "sent", "{kind}");
    }
}

#[tokio::test]
async fn each_service_that_is_gone_ends_the_delivery_at_once_with_a_reason() {
    for (kind, pairs) in SETTINGS {
        let (stage, vendor) = stage(kind, pairs).await;
        vendor.next(Mood::Answers(answering(403, "{}")));
        stage.run(70_000, 5_000).await;
        let dead = delivery(&stage).await;
        assert_eq!(dead["state"], "dead", "{kind}: {dead}");
        let error = dead["error"].as_str().unwrap();
        assert!(
            error.contains("403") && error.contains("revoked"),
            "{kind}: {error}"
        );
        stage.run(3_600_000, 60_000).await;
        assert_eq!(vendor.taken().len(), 1, "{kind}");
        // And the channel shows it.
        let listed = stage.call(Method::GET, "/v1/channels", Value::Null).await;
        assert!(
            listed.json()["channels"][0]["failing"].is_object(),
            "{kind}"
        );
    }
}

#[tokio::test]
async fn a_lost_reply_repeats_the_same_message() {
    for (kind, pairs) in SETTINGS {
        let (stage, vendor) = stage(kind, pairs).await;
        vendor.next(Mood::LosesReply);
        stage.run(100_000, 5_000).await;
        let taken = vendor.taken();
        assert_eq!(taken.len(), 2, "{kind}");
        // The URL has the delivery's ID, if the service recognises repeated requests by it.
        assert_eq!(taken[0].call.url, taken[1].call.url, "{kind}");
        assert_eq!(delivery(&stage).await["state"], "sent", "{kind}");
        if kind != "alertmanager" {
            assert_eq!(taken[0].body, taken[1].body, "{kind}");
        }
    }
}

#[tokio::test]
async fn a_service_that_keeps_incidents_gets_each_alert_of_a_burst() {
    let (_, pairs) = SETTINGS[4];
    let vendor = Vendor::new("pagerduty");
    let stage = Stage::new().await.calling(vendor.clone());
    let body = json!({ "kind": "pagerduty", "settings": settings(pairs) });
    stage.call(Method::POST, "/v1/channels", body).await;
    for n in 0..20 {
        stage
            .heartbeat(json!({ "monitor": format!("web-{n:02}"), "period_s": 60, "grace_s": 5 }))
            .await;
    }
    stage.run(70_000, 5_000).await;
    let taken = vendor.taken();
    let mut keys: Vec<&str> = taken
        .iter()
        .map(|one| one.body["dedup_key"].as_str().unwrap())
        .collect();
    keys.sort_unstable();
    keys.dedup();
    assert_eq!(keys.len(), 20);
}

#[tokio::test]
async fn settings_are_checked_kept_and_hidden() {
    let (stage, _) = stage("ntfy", &[("topic", "backup_1"), ("token", "tk_1")]).await;
    let listed = stage
        .call(Method::GET, "/v1/channels", Value::Null)
        .await
        .json();
    let channel = &listed["channels"][0];
    assert_eq!(channel["settings"], json!({ "topic": "…", "token": "…" }));
    assert!(!listed.to_string().contains("tk_1"));
    let path = format!("/v1/channels/{}", channel["id"].as_str().unwrap());
    let change = json!({ "settings": { "server": "https://ntfy.example.org", "token": null } });
    let changed = stage.call(Method::PATCH, &path, change).await.json();
    let expected = json!({ "server": "https://ntfy.example.org", "topic": "…" });
    assert_eq!(changed["settings"], expected);
    let bad = json!({ "settings": { "server": "ftp://x", "colour": "red" }, "daily_limit": 0 });
    let refused = stage.call(Method::PATCH, &path, bad).await;
    assert_eq!(refused.status, StatusCode::BAD_REQUEST);
    let text = refused.text();
    for part in [
        "daily_limit",
        "server",
        "http or https",
        "colour",
        "its settings are topic",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let unknown = json!({ "kind": "fax", "settings": {} });
    let refused = stage.call(Method::POST, "/v1/channels", unknown).await;
    assert!(refused.text().contains("slack"), "{}", refused.text());
}

#[tokio::test]
async fn templates_make_the_body_of_a_webhook() {
    let vendor = Vendor::new("webhook");
    let stage = Stage::new().await.calling(vendor.clone());
    let body = json!({ "kind": "webhook", "settings": {
        "url": "https://example.org/hook",
        "method": "PUT",
        "headers": "Authorization: Bearer t\nX-Team: ops",
        "down_body": "{\"text\": {{ title }}, \"key\": {{ key }}}",
        "up_body": "{{ name }} is back after {{ down_s }} s",
    } });
    let made = stage.call(Method::POST, "/v1/channels", body).await;
    assert_eq!(made.status, 201, "{}", made.text());
    for _ in 0..4 {
        vendor.next(Mood::Answers(answering(200, "")));
    }
    beat(&stage).await;
    stage.run(70_000, 5_000).await;
    beat(&stage).await;
    stage.run(5_000, 1_000).await;
    let taken = vendor.taken();
    assert_eq!(taken[0].call.method, "PUT");
    assert_eq!(taken[0].call.header("x-team"), Some("ops"));
    assert_eq!(
        taken[0].call.header("content-type"),
        Some("application/json")
    );
    assert_eq!(taken[0].body["text"], "DOWN: backup missed its deadline");
    assert_eq!(taken[1].call.body, "backup is back after 5 s");
    // The signature is of what was sent.
    let signed = taken[1].call.header("webhook-signature").unwrap();
    assert!(signed.starts_with("v1,"));
    let bad = json!({ "kind": "webhook", "settings": {
        "url": "https://example.org/hook", "down_body": "{\"text\": \"{{ titel }}\"}",
    } });
    let refused = stage.call(Method::POST, "/v1/channels", bad).await;
    assert_eq!(refused.status, 400);
    assert!(refused.text().contains("down_body"), "{}", refused.text());
}

#[tokio::test]
async fn a_secret_is_given_again_if_the_url_leads_elsewhere() {
    let settings = [("server", "https://gotify.example.org"), ("token", "AxYz")];
    let (stage, _) = stage("gotify", &settings).await;
    let path = "/v1/channels/gotify";
    let elsewhere = json!({ "settings": { "server": "https://evil.example.org" } });
    let refused = stage.call(Method::PATCH, path, elsewhere).await;
    assert_eq!(refused.status, StatusCode::BAD_REQUEST);
    assert!(
        refused.text().contains("must be given again"),
        "{}",
        refused.text()
    );
    let same = json!({ "settings": { "server": "https://gotify.example.org/sub" } });
    assert_eq!(
        stage.call(Method::PATCH, path, same).await.status,
        StatusCode::OK
    );
    let both = json!({ "settings": { "server": "https://other.example.org", "token": "B" } });
    assert_eq!(
        stage.call(Method::PATCH, path, both).await.status,
        StatusCode::OK
    );
}

#[tokio::test]
async fn a_receiver_that_asks_for_hours_is_not_asked_before() {
    let (stage, vendor) = stage(SETTINGS[0].0, SETTINGS[0].1).await;
    vendor.next(Mood::Answers(Answer {
        retry_after: Some("7200".to_owned()),
        ..answering(429, "")
    }));
    stage.run(70_000, 5_000).await;
    // Audits look at the alert meanwhile.
    stage.run(7_000_000, 60_000).await;
    assert_eq!(vendor.taken().len(), 1);
    stage.run(400_000, 20_000).await;
    assert!(vendor.taken().len() >= 2);
}
