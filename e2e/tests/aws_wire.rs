//! SNS, SQS, EventBridge and Secrets Manager over the wire, against moto from PyPI.
//!
//! `THRUM_TEST_PYTHON` is a Python with `moto[server]`; without it these tests report that they are
//! skipped.

use crate::support::Moto;
use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region};
use aws_lambda_events::event::sqs::{SqsEvent, SqsMessage};
use aws_sdk_eventbridge::config::Credentials;
use axum::http::{Method, StatusCode};
use e2e::Stage;
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use thrum_evaluate::{Bus, EventBridge};
use thrum_notify::Sender;
use thrum_notify::send::{EventBridge as UsersBus, Mail, Sns};
use thrum_schema::UnixMs;
use thrum_schema::id::{AlertId, ProjectId};
use thrum_schema::work::{Envelope, NotifyWork, Work};
use thrum_store::lambda::Sqs;
use thrum_store::queue::Later;

/// Creates a queue and returns its URL and ARN.
async fn queue(moto: &Moto, name: &str) -> (String, String) {
    let sqs = aws_sdk_sqs::Client::new(&moto.config);
    let created = sqs.create_queue().queue_name(name).send().await.unwrap();
    let arn = format!("arn:aws:sqs:eu-central-1:123456789012:{name}");
    (created.queue_url.unwrap(), arn)
}

/// Receives the messages now in a queue, as the event that Lambda would pass on.
async fn receive(moto: &Moto, url: &str) -> SqsEvent {
    let sqs = aws_sdk_sqs::Client::new(&moto.config);
    let received = sqs
        .receive_message()
        .queue_url(url)
        .max_number_of_messages(10)
        .send()
        .await
        .unwrap();
    let mut event = SqsEvent::default();
    for message in received.messages.unwrap_or_default() {
        let mut record = SqsMessage::default();
        record.message_id = message.message_id;
        record.body = message.body;
        event.records.push(record);
    }
    event
}

#[tokio::test]
async fn work_reaches_notify_through_the_bus_rule_and_queue() {
    let Some(moto) = Moto::start() else { return };
    let (url, arn) = queue(&moto, "notify").await;
    let bridge = aws_sdk_eventbridge::Client::new(&moto.config);
    bridge
        .create_event_bus()
        .name("thrum")
        .send()
        .await
        .unwrap();
    bridge
        .put_rule()
        .name("notify")
        .event_bus_name("thrum")
        .event_pattern(json!({"source": ["thrum"]}).to_string())
        .send()
        .await
        .unwrap();
    let target = aws_sdk_eventbridge::types::Target::builder()
        .id("1")
        .arn(arn);
    bridge
        .put_targets()
        .rule("notify")
        .event_bus_name("thrum")
        .targets(target.build().unwrap())
        .send()
        .await
        .unwrap();

    let stage = Stage::new().await;
    let bus = EventBridge::new(bridge, "thrum");
    // More than fit into one `PutEvents` call.
    let works: Vec<NotifyWork> = (1..=23).map(|at| NotifyWork::probe(UnixMs(at))).collect();
    let sent: Vec<Work> = works.iter().cloned().map(Into::into).collect();
    let results = bus.publish(&sent).await;
    assert_eq!(results.len(), 23);
    assert!(results.iter().all(Result::is_ok), "{results:?}");
    let mut seen = Vec::new();
    loop {
        let event = receive(&moto, &url).await;
        if event.records.is_empty() {
            break;
        }
        for record in &event.records {
            let envelope: Envelope<NotifyWork> =
                serde_json::from_str(record.body.as_deref().unwrap()).unwrap();
            seen.push(envelope.detail);
        }
        let response = stage.notify.on_queue(&event).await;
        assert!(response.batch_item_failures.is_empty());
    }
    seen.sort_by_key(|work| format!("{work:?}"));
    let mut expected = works;
    expected.sort_by_key(|work| format!("{work:?}"));
    assert_eq!(seen, expected, "each event arrives once");
    assert!(stage.store.arrived_probe().await.unwrap().is_some());
}

#[tokio::test]
async fn an_unreachable_bus_fails_every_event() {
    let Some(moto) = Moto::start() else { return };
    let bridge = aws_sdk_eventbridge::Client::new(&moto.config);
    drop(moto);
    let bus = EventBridge::new(bridge, "thrum");
    let works = [
        NotifyWork::probe(UnixMs(1)).into(),
        NotifyWork::probe(UnixMs(2)).into(),
    ];
    let results = bus.publish(&works).await;
    assert_eq!(results.len(), 2);
    assert!(results.iter().all(Result::is_err));
}

#[tokio::test]
async fn delayed_work_arrives_after_its_delay() {
    let Some(moto) = Moto::start() else { return };
    let (url, _) = queue(&moto, "later").await;
    let later = Sqs::new(aws_sdk_sqs::Client::new(&moto.config), &url);
    let work = NotifyWork::Deliver {
        project: ProjectId::FIRST,
        alert: AlertId(uuid::Uuid::from_u128(7)),
        channel: thrum_schema::ChannelId(uuid::Uuid::from_u128(8)),
    };
    later
        .send(work.clone().into(), Duration::from_millis(1_500))
        .await
        .unwrap();
    assert!(receive(&moto, &url).await.records.is_empty(), "not yet");
    let mut records = Vec::new();
    for _ in 0..50 {
        records = receive(&moto, &url).await.records;
        if !records.is_empty() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let envelope: Envelope<NotifyWork> =
        serde_json::from_str(records[0].body.as_deref().unwrap()).unwrap();
    assert_eq!(envelope.detail, work);
    let nowhere = Sqs::new(
        aws_sdk_sqs::Client::new(&moto.config),
        &format!("{url}-not"),
    );
    assert!(nowhere.send(work.into(), Duration::ZERO).await.is_err());
}

#[tokio::test]
async fn alerts_are_sent_to_topics_and_phones() {
    let Some(moto) = Moto::start() else { return };
    let (url, queue_arn) = queue(&moto, "subscriber").await;
    let sns = aws_sdk_sns::Client::new(&moto.config);
    let topic = sns.create_topic().name("alerts").send().await.unwrap();
    let topic = topic.topic_arn.unwrap();
    sns.subscribe()
        .topic_arn(&topic)
        .protocol("sqs")
        .endpoint(queue_arn)
        .send()
        .await
        .unwrap();
    let stage = Stage::new().await;
    let missing = topic.replace(":alerts", ":missing");
    for body in [
        json!({"kind": "sns", "topic_arn": topic}),
        json!({"kind": "sms", "to": "+491701234567"}),
        json!({"kind": "sns", "topic_arn": missing}),
    ] {
        let reply = stage.call(Method::POST, "/v1/channels", body).await;
        assert_eq!(reply.status, 201, "{}", reply.text());
    }
    let name = "x".repeat(100);
    stage
        .heartbeat(json!({"monitor": name, "status": "fail"}))
        .await;
    let alert = stage.alerts().await[0]["id"]
        .as_str()
        .unwrap()
        .parse()
        .unwrap();
    let notify = stage.notify_by(|sender| Sender {
        sns: Sns::new(sns),
        ..sender
    });
    let work = NotifyWork::Alert {
        project: ProjectId::FIRST,
        alert,
    };
    notify.handle(&work).await.unwrap();

    let received = receive(&moto, &url).await;
    let body: Value = serde_json::from_str(received.records[0].body.as_deref().unwrap()).unwrap();
    let subject = body["Subject"].as_str().unwrap();
    assert!(
        subject.starts_with("DOWN: xxx") && subject.len() <= 100,
        "{subject}"
    );
    assert!(
        body["Message"]
            .as_str()
            .unwrap()
            .contains("it reported a failure")
    );
    assert_eq!(body["MessageAttributes"]["type"]["Value"], "monitor.down");
    let deliveries = stage.alerts().await[0]["deliveries"]
        .as_array()
        .unwrap()
        .clone();
    let mut states: Vec<(String, String)> = deliveries
        .iter()
        .map(|d| {
            (
                d["state"].as_str().unwrap().into(),
                format!("{}{}", d["note"], d["error"]),
            )
        })
        .collect();
    states.sort();
    let [(dead, why), (sent, first), (also_sent, second)] = &states[..] else {
        panic!("{states:?}");
    };
    assert_eq!((&**dead, &**sent, &**also_sent), ("dead", "sent", "sent"));
    assert!(why.contains("NotFound"), "{why}");
    assert!(first.contains("SNS message") && second.contains("SNS message"));
}

#[tokio::test]
async fn alerts_reach_the_rules_of_a_users_bus() {
    let Some(moto) = Moto::start() else { return };
    let (url, queue_arn) = queue(&moto, "rule-target").await;
    let bridge = aws_sdk_eventbridge::Client::new(&moto.config);
    bridge
        .create_event_bus()
        .name("alerts")
        .send()
        .await
        .unwrap();
    bridge
        .put_rule()
        .name("down")
        .event_bus_name("alerts")
        .event_pattern(json!({"source": ["thrum"], "detail-type": ["monitor.down"]}).to_string())
        .send()
        .await
        .unwrap();
    let target = aws_sdk_eventbridge::types::Target::builder()
        .id("queue")
        .arn(queue_arn);
    bridge
        .put_targets()
        .rule("down")
        .event_bus_name("alerts")
        .targets(target.build().unwrap())
        .send()
        .await
        .unwrap();
    let stage = Stage::new().await;
    let channel = json!({"kind": "eventbridge", "settings": {"bus": "alerts"}});
    stage.call(Method::POST, "/v1/channels", channel).await;
    let fails = json!({"monitor": "backup", "status": "fail"});
    let beat = stage.heartbeat(fails).await;
    assert_eq!(beat["status"], "down");
    let alert = &stage.alerts().await[0]["id"];
    let work = NotifyWork::Alert {
        project: ProjectId::FIRST,
        alert: alert.as_str().unwrap().parse().unwrap(),
    };
    let notify = stage.notify_by(|sender| Sender {
        eventbridge: UsersBus::new(bridge),
        ..sender
    });
    notify.handle(&work).await.unwrap();
    let received = receive(&moto, &url).await;
    let event: Value = serde_json::from_str(received.records[0].body.as_deref().unwrap()).unwrap();
    assert_eq!(
        (&event["source"], &event["detail-type"]),
        (&json!("thrum"), &json!("monitor.down"))
    );
    let detail = &event["detail"];
    assert_eq!(detail["monitor"]["name"], "backup");
    assert_eq!(detail["title"], "DOWN: backup reported a failure");
    assert!(
        detail["id"]
            .as_str()
            .unwrap()
            .starts_with(alert.as_str().unwrap())
    );
}

/// What EventBridge answers: a status and a body, or nothing.
type BusAnswer = Option<(u16, Value)>;

/// A stand-in for EventBridge that gives one answer, and keeps the details that it got.
async fn fake_bus(answer: BusAnswer) -> (UsersBus, Arc<Mutex<Vec<Value>>>) {
    let got = Arc::new(Mutex::new(Vec::new()));
    let taken = Arc::clone(&got);
    let route = axum::routing::post(move |body: String| {
        let (taken, answer) = (Arc::clone(&taken), answer.clone());
        async move {
            let body: Value = serde_json::from_str(&body).unwrap();
            let detail = body["Entries"][0]["Detail"].as_str().unwrap();
            taken
                .lock()
                .unwrap()
                .push(serde_json::from_str(detail).unwrap());
            let Some((status, body)) = answer else {
                // The client gives up.
                std::future::pending::<()>().await;
                unreachable!()
            };
            (StatusCode::from_u16(status).unwrap(), axum::Json(body))
        }
    });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, axum::Router::new().fallback(route)).await });
    let timeouts = TimeoutConfig::builder().operation_attempt_timeout(Duration::from_millis(300));
    let config = aws_sdk_eventbridge::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::from_static("eu-central-1"))
        .credentials_provider(Credentials::new("id", "secret", None, None, "test"))
        .http_client(thrum_store::tls::http_client())
        .retry_config(RetryConfig::disabled())
        .timeout_config(timeouts.build())
        .endpoint_url(url);
    let client = aws_sdk_eventbridge::Client::from_conf(config.build());
    (UsersBus::new(client), got)
}

#[tokio::test]
async fn what_eventbridge_answers_decides_about_a_retry() {
    let entry = |entry: Value| Some((200, json!({"FailedEntryCount": 1, "Entries": [entry]})));
    let error = |status, code: &str| Some((status, json!({"__type": code, "message": "no"})));
    for (answer, state) in [
        (entry(json!({"EventId": "e-1"})), "sent"),
        (entry(json!({"ErrorCode": "InternalFailure"})), "retry"),
        (entry(json!({"ErrorCode": "ThrottlingException"})), "retry"),
        (entry(json!({"ErrorCode": "NotFoundException"})), "dead"),
        (error(400, "ResourceNotFoundException"), "dead"),
        (error(400, "ThrottlingException"), "retry"),
        (error(500, "InternalException"), "retry"),
        (Some((200, json!({}))), "retry"),
        (None, "retry"),
    ] {
        let what = format!("{answer:?}");
        let stage = Stage::new().await;
        let channel = json!({"kind": "eventbridge", "settings": {"bus": "alerts"}});
        stage.call(Method::POST, "/v1/channels", channel).await;
        let fails = json!({"monitor": "backup", "status": "fail"});
        stage.heartbeat(fails).await;
        let alert = stage.alerts().await[0]["id"].as_str().unwrap().to_owned();
        let work = NotifyWork::Alert {
            project: ProjectId::FIRST,
            alert: alert.parse().unwrap(),
        };
        let (eventbridge, got) = fake_bus(answer).await;
        let notify = stage.notify_by(|sender| Sender {
            eventbridge,
            ..sender
        });
        let _ = notify.handle(&work).await;
        let delivery = &stage.alerts().await[0]["deliveries"][0];
        assert_eq!(delivery["state"], state, "{what}: {delivery}");
        stage.world.advance(3_000);
        let _ = notify.handle(&work).await;
        let got = got.lock().unwrap();
        assert!(got.iter().all(|detail| *detail == got[0]), "{what}");
    }
}

#[tokio::test]
async fn a_bus_must_be_allowed_and_exist_in_form() {
    let buses = Some(vec!["alerts".to_owned()]);
    let config = thrum_ingest::Config {
        buses,
        ..thrum_ingest::Config::default()
    };
    let stage = Stage::with(1, config).await;
    for (bus, problem) in [
        ("alerts", ""),
        ("others", "bus is not allowed on this installation"),
        ("a bus", "bus must be the name of an event bus"),
        (
            "arn:aws:sns:eu-central-1:123456789012:alerts",
            "bus must be the name of an event bus",
        ),
    ] {
        let channel = json!({"kind": "eventbridge", "settings": {"bus": bus}});
        let reply = stage.call(Method::POST, "/v1/channels", channel).await;
        let detail = reply.json()["detail"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        assert!(
            detail.starts_with(problem) && detail.is_empty() == problem.is_empty(),
            "{bus}: {detail}"
        );
    }
}

#[tokio::test]
async fn an_invalid_message_is_reported_and_affects_no_other() {
    let stage = Stage::new().await;
    let mut event = SqsEvent::default();
    for (id, body) in [
        (
            "good",
            r#"{"detail": {"do": "probe", "at": 5}, "detail-type": "probe", "version": "0"}"#,
        ),
        ("garbage", "\u{0}not json"),
        ("foreign", r#"{"detail": {"do": "dance"}}"#),
        ("empty", ""),
    ] {
        let mut record = SqsMessage::default();
        record.message_id = Some(id.into());
        record.body = Some(body.into());
        event.records.push(record);
    }
    let response = stage.notify.on_queue(&event).await;
    let failed: Vec<&str> = response
        .batch_item_failures
        .iter()
        .map(|failure| failure.item_identifier.as_str())
        .collect();
    assert_eq!(failed, ["garbage", "foreign", "empty"]);
    assert_eq!(stage.store.arrived_probe().await.unwrap(), Some(UnixMs(5)));
}

#[tokio::test]
async fn the_admin_key_is_read_from_secrets_manager() {
    let Some(moto) = Moto::start() else { return };
    let client = aws_sdk_secretsmanager::Client::new(&moto.config);
    let created = client
        .create_secret()
        .name("admin")
        .secret_string(e2e::ADMIN_KEY)
        .send()
        .await
        .unwrap();
    let arn = created.arn.unwrap();
    let stage = async |arn: &str| {
        let source = thrum_ingest::SecretsManager::new(client.clone(), arn);
        let admin_key = thrum_ingest::AdminKey::Kept(Arc::new(source));
        let config = thrum_ingest::Config {
            admin_key,
            ..Default::default()
        };
        Stage::with(1, config).await
    };
    let kept = stage(&arn).await;
    let list = kept.admin(Method::GET, "/v1/projects", Value::Null).await;
    assert_eq!(list.status, 200, "{}", list.text());
    // After a rotation, the new key is valid within five minutes.
    let rotated = "another-0123456789abcdefghijk";
    client
        .put_secret_value()
        .secret_id(&arn)
        .secret_string(rotated)
        .send()
        .await
        .unwrap();
    kept.world.advance(300_000);
    let list = kept.admin(Method::GET, "/v1/projects", Value::Null).await;
    assert_eq!(list.status, 401);
    // If the secret can't be fetched, access is refused.
    let gone = stage("arn:aws:secretsmanager:eu-central-1:123456789012:secret:none").await;
    let list = gone.admin(Method::GET, "/v1/projects", Value::Null).await;
    assert_eq!(list.status, 503, "{}", list.text());
}

#[tokio::test]
async fn an_email_address_must_confirm_and_can_be_asked_again() {
    let Some(moto) = Moto::start() else { return };
    let sns = aws_sdk_sns::Client::new(&moto.config);
    let config = thrum_ingest::Config {
        mail_by_topics: true,
        ..Default::default()
    };
    let stage = Stage::with(1, config).await;
    let prefix = "arn:aws:sns:eu-central-1:123456789012:thrum-mail-";
    let topics = || thrum_notify::send::Topics::new(sns.clone(), prefix);
    let by_topics = || {
        stage.notify_by(|sender| Sender {
            mail: Mail::Topics(topics()),
            sns: Sns::new(sns.clone()),
            ..sender
        })
    };
    let notify = by_topics();
    let body = json!({"kind": "email", "to": "on-call@example.org"});
    let created = stage.call(Method::POST, "/v1/channels", body).await.json();
    let id: thrum_schema::ChannelId = created["id"].as_str().unwrap().parse().unwrap();
    let path = format!("/v1/channels/{id}");
    let state = async || {
        let shown = stage.call(Method::GET, &path, Value::Null).await.json();
        shown["subscription"]["state"].as_str().unwrap().to_owned()
    };
    assert_eq!(state().await, "asking");
    let check = NotifyWork::Subscribe {
        project: ProjectId::FIRST,
        channel: id,
    };
    let subscriptions = async || {
        let listed = sns.list_subscriptions().send().await.unwrap();
        listed.subscriptions.unwrap_or_default()
    };

    // An unconfirmed address gets no mail: the delivery waits, with the reason.
    stage
        .heartbeat(json!({"monitor": "job", "status": "fail"}))
        .await;
    let alert = stage.alerts().await[0]["id"].as_str().unwrap().parse();
    let work = NotifyWork::Alert {
        project: ProjectId::FIRST,
        alert: alert.unwrap(),
    };
    notify.handle(&work).await.unwrap();
    let delivery = stage.alerts().await[0]["deliveries"][0].clone();
    assert_eq!(delivery["state"], "retry", "{delivery}");
    let error = delivery["error"].as_str().unwrap();
    assert!(error.contains("not subscribed"), "{delivery}");

    // Thrum asks for confirmation once, however often it checks. (moto confirms by itself.)
    notify.handle(&check).await.unwrap();
    assert_eq!(state().await, "pending");
    for _ in 0..2 {
        notify.handle(&check).await.unwrap();
        assert_eq!(state().await, "confirmed");
    }
    let [subscription] = &subscriptions().await[..] else {
        panic!("expected one subscription");
    };
    let topic = subscription.topic_arn().unwrap();
    assert!(topic.starts_with(&format!("{prefix}{id}-")), "{topic}");
    stage.world.advance(10_000);
    notify.handle(&work).await.unwrap();
    assert_eq!(stage.alerts().await[0]["state"], "delivered");

    // Thrum notices that the address unsubscribes, and asks again only when the channel is edited.
    let arn = subscriptions().await[0].subscription_arn.clone().unwrap();
    sns.unsubscribe()
        .subscription_arn(arn)
        .send()
        .await
        .unwrap();
    for _ in 0..2 {
        notify.handle(&check).await.unwrap();
        assert_eq!(state().await, "lost");
    }
    assert!(subscriptions().await.is_empty());
    stage.world.advance(1_000);
    let again = json!({"to": "on-call@example.org"});
    assert_eq!(stage.call(Method::PATCH, &path, again).await.status, 200);
    assert_eq!(state().await, "asking");
    notify.handle(&check).await.unwrap();
    assert_eq!(subscriptions().await.len(), 1);

    // Each address has its own topic; deleting the channel deletes its topic.
    let other = json!({"to": "others@example.org"});
    assert_eq!(stage.call(Method::PATCH, &path, other).await.status, 200);
    notify.handle(&check).await.unwrap();
    let listed = subscriptions().await;
    assert_eq!(
        (listed.len(), listed[0].endpoint.as_deref()),
        (1, Some("others@example.org"))
    );
    assert_eq!(
        stage.call(Method::DELETE, &path, Value::Null).await.status,
        204
    );
    notify.handle(&check).await.unwrap();
    let left = sns.list_topics().send().await.unwrap();
    assert!(left.topics().is_empty(), "{left:?}");
    // And no timer keeps checking it.
    stage.run(3 * 86_400_000, 3_600_000).await;
    assert_eq!(stage.tick().await.fired, 0);
}
