//! CloudWatch alarms through SNS, with signatures made by a key of the test.

use axum::http::{Method, StatusCode};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use e2e::{ADMIN_KEY, PING_KEY, Reply, Stage};
use futures::future::BoxFuture;
use ring::rand::SystemRandom;
use ring::signature::{RSA_PKCS1_SHA256, RsaKeyPair};
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};
use thrum_ingest::{AdminKey, Config, Fetch};

const TOPIC: &str = "arn:aws:sns:eu-central-1:123456789012:alarms";
const CERTIFICATE: &str = "https://sns.eu-central-1.amazonaws.com/SimpleNotificationService-1.pem";
const SUBSCRIBE: &str =
    "https://sns.eu-central-1.amazonaws.com/?Action=ConfirmSubscription&Token=t";

/// A stand-in for the SNS pages that Thrum fetches.
#[derive(Debug, Default)]
struct Amazon(Mutex<Vec<String>>);

impl Fetch for Amazon {
    fn get<'a>(&'a self, url: &'a str) -> BoxFuture<'a, Result<Vec<u8>, String>> {
        self.0.lock().unwrap().push(url.to_owned());
        let page = match url {
            CERTIFICATE => Ok(include_bytes!("sns/certificate.pem").to_vec()),
            SUBSCRIBE => Ok(b"<ConfirmSubscriptionResponse/>".to_vec()),
            _ => Err("not found".to_owned()),
        };
        Box::pin(std::future::ready(page))
    }
}

/// A message, signed as AWS documents.
fn signed(kind: &str, message: &str) -> Value {
    let mut body = json!({
        "Type": kind,
        "MessageId": "165545c9-2a5c-472c-8df2-7ff2be2b3b1b",
        "TopicArn": TOPIC,
        "Message": message,
        "Timestamp": "2026-11-28T10:00:00.000Z",
        "SignatureVersion": "2",
        "SigningCertURL": CERTIFICATE,
    });
    let names = if kind == "Notification" {
        body["Subject"] = json!("ALARM: high-cpu");
        &[
            "Message",
            "MessageId",
            "Subject",
            "Timestamp",
            "TopicArn",
            "Type",
        ][..]
    } else {
        body["Token"] = json!("t");
        body["SubscribeURL"] = json!(SUBSCRIBE);
        &[
            "Message",
            "MessageId",
            "SubscribeURL",
            "Timestamp",
            "Token",
            "TopicArn",
            "Type",
        ]
    };
    let lines = names
        .iter()
        .map(|name| format!("{name}\n{}\n", body[*name].as_str().unwrap()));
    let text: String = lines.collect();
    let key = RsaKeyPair::from_pkcs8(include_bytes!("sns/key.der")).unwrap();
    let mut signature = vec![0; key.public().modulus_len()];
    key.sign(
        &RSA_PKCS1_SHA256,
        &SystemRandom::new(),
        text.as_bytes(),
        &mut signature,
    )
    .unwrap();
    body["Signature"] = json!(BASE64_STANDARD.encode(signature));
    body
}

fn alarm(state: &str) -> String {
    let alarm = json!({
        "AlarmName": "High CPU: web-01",
        "AlarmDescription": "Restart it.",
        "AWSAccountId": "123456789012",
        "NewStateValue": state,
        "NewStateReason": "Threshold Crossed: 1 datapoint [99.0] was greater than 90.0.",
        "StateChangeTime": "2026-11-28T10:00:00.000+0000",
        "Region": "EU (Frankfurt)",
        "OldStateValue": "OK",
    });
    alarm.to_string()
}

async fn stage(topics: Option<Vec<String>>) -> (Stage, Arc<Amazon>) {
    let amazon = Arc::new(Amazon::default());
    let fetch: Arc<dyn Fetch> = amazon.clone();
    let config = Config {
        fetch: Some(fetch),
        sns_topics: topics,
        admin_key: AdminKey::Key(ADMIN_KEY.into()),
        ..Config::default()
    };
    (Stage::with(1, config).await, amazon)
}

async fn post(stage: &Stage, body: &Value) -> Reply {
    let path = format!("/hooks/sns/{PING_KEY}");
    // SNS sends text/plain.
    stage.send_as("POST", &path, "", &body.to_string()).await
}

#[tokio::test]
async fn alarms_of_cloudwatch_are_failures_and_their_ends_successes() {
    let (stage, amazon) = stage(None).await;
    let confirm = signed("SubscriptionConfirmation", "You have chosen to subscribe");
    let reply = post(&stage, &confirm).await;
    assert_eq!(
        reply.json(),
        json!({ "confirmed": TOPIC }),
        "{}",
        reply.text()
    );
    assert_eq!(*amazon.0.lock().unwrap(), [CERTIFICATE, SUBSCRIBE]);
    for (state, status) in [
        ("ALARM", "down"),
        ("INSUFFICIENT_DATA", "down"),
        ("OK", "up"),
    ] {
        stage.world.advance(60_000);
        let reply = post(&stage, &signed("Notification", &alarm(state))).await;
        assert_eq!(reply.json(), json!({ "recorded": 1 }), "{}", reply.text());
        let monitor = stage.monitor("high-cpu-web-01").await;
        assert_eq!(monitor["status"], status, "{state}");
    }
    let monitor = stage.monitor("high-cpu-web-01").await;
    let text = "High CPU: web-01 is ALARM (EU (Frankfurt))\n\
                Threshold Crossed: 1 datapoint [99.0] was greater than 90.0.\nRestart it.";
    assert_eq!(monitor["last_failures"][0]["body"], text);
    assert_eq!(amazon.0.lock().unwrap().len(), 2, "the certificate is kept");
    // SNS does not keep the order: this one is from before the alarm ended.
    let late = alarm("ALARM").replace(
        "2026-11-28T10:00:00.000+0000",
        "2025-11-21T04:42:59.000+0000",
    );
    let reply = post(&stage, &signed("Notification", &late)).await;
    assert_eq!(reply.json()["recorded"], 0, "{}", reply.text());
    assert_eq!(stage.monitor("high-cpu-web-01").await["status"], "up");
    let other = post(&stage, &signed("Notification", "hello")).await;
    assert_eq!(
        (other.status, other.json()["recorded"].as_i64()),
        (StatusCode::OK, Some(0))
    );
    // As SNS signs by default: `openssl dgst -sha1 -sign`.
    let mut old = signed("Notification", "hello");
    old["SignatureVersion"] = json!("1");
    old["Signature"] = json!(include_str!("sns/sha1.txt"));
    assert_eq!(post(&stage, &old).await.status, StatusCode::OK);
    let end = post(&stage, &signed("UnsubscribeConfirmation", "bye")).await;
    assert_eq!(end.status, StatusCode::OK);
    assert_eq!(
        amazon.0.lock().unwrap().len(),
        2,
        "nothing is subscribed again"
    );
}

#[tokio::test]
async fn e_mails_that_ses_received_are_pings_of_the_project() {
    let (stage, _) = stage(None).await;
    let made = json!({ "name": "backup", "slug": "backup" });
    let made = stage.call(Method::POST, "/v1/monitors", made).await.json();
    let uuid = made["uuid"].as_str().unwrap();
    let mail = |recipients: Value, encoding: &str, content: &str| {
        let received = json!({
            "notificationType": "Received",
            "mail": { "source": "cron@db-01.example.org" },
            "receipt": { "recipients": recipients, "action": { "type": "SNS", "encoding": encoding } },
            "content": content,
        });
        signed("Notification", &received.to_string())
    };
    let raw = "Subject: backup\r\n\r\ndone\r\n";
    let to = json!([
        format!("{uuid}@pings.example.org"),
        "nobody@pings.example.org"
    ]);
    let reply = post(&stage, &mail(to.clone(), "UTF8", raw)).await;
    let errors = json!(["there is no such monitor"]);
    assert_eq!(
        reply.json(),
        json!({ "recorded": 1, "errors": errors }),
        "{}",
        reply.text()
    );
    let slug = json!([format!("{PING_KEY}+backup@pings.example.org")]);
    post(&stage, &mail(slug, "BASE64", &BASE64_STANDARD.encode(raw))).await;
    let monitor = stage.monitor("backup").await;
    let last = &monitor["last_pings"][0];
    assert_eq!((&monitor["pings"], &last["body"]), (&json!(2), &json!(raw)));
    assert_eq!(
        (&last["scheme"], &last["method"]),
        (&json!("email"), &json!(""))
    );
    assert_eq!(last["ua"], "Email from cron@db-01.example.org");
    // A monitor of another project is not reached by this project's key.
    let other = stage
        .admin(Method::POST, "/v1/projects", json!({ "name": "other" }))
        .await
        .json();
    let key = other["api_key"].as_str().unwrap();
    let theirs = stage
        .send_as("POST", "/v1/monitors", key, r#"{"name": "theirs"}"#)
        .await
        .json();
    let to = json!([format!(
        "{}@pings.example.org",
        theirs["uuid"].as_str().unwrap()
    )]);
    let reply = post(&stage, &mail(to, "UTF8", raw)).await;
    assert_eq!(reply.json(), json!({ "recorded": 0, "errors": errors }));
}

#[tokio::test]
async fn messages_that_sns_did_not_sign_are_refused() {
    let (stage, amazon) = stage(None).await;
    let change = |name: &str, value: &str| {
        let mut body = signed("Notification", &alarm("ALARM"));
        body[name] = json!(value);
        body
    };
    for (body, status, problem) in [
        (change("Message", "{}"), 403, "its signature is wrong"),
        (change("Subject", "x"), 403, "its signature is wrong"),
        (
            change("SignatureVersion", "1"),
            403,
            "its signature is wrong",
        ),
        (
            change("SignatureVersion", "3"),
            403,
            "its SignatureVersion is not 1 or 2",
        ),
        (change("Signature", "%"), 403, "its signature is not base64"),
        (
            change("SigningCertURL", "https://evil.example.org/x.pem"),
            403,
            "SigningCertURL",
        ),
        (
            change(
                "SigningCertURL",
                "https://sns.eu-west-1.amazonaws.com/SimpleNotificationService-0.pem",
            ),
            503,
            "Thrum could not reach SNS",
        ),
        (
            change("Timestamp", "2025-11-20T04:39:00.000Z"),
            403,
            "its Timestamp is more than a day old",
        ),
        (
            change("Type", "Else"),
            400,
            "the body is not an SNS message",
        ),
        (json!([]), 400, "the body is not an SNS message"),
    ] {
        let reply = post(&stage, &body).await;
        assert_eq!(reply.status, status, "{}", reply.text());
        assert!(reply.text().contains(problem), "{}", reply.text());
    }
    let fetched = amazon.0.lock().unwrap().clone();
    assert!(
        fetched.iter().all(|url| url.starts_with("https://sns.")),
        "{fetched:?}"
    );
    let list = stage.call(Method::GET, "/v1/monitors", Value::Null).await;
    assert_eq!(list.json()["monitors"], json!([]));
    let nobody = stage.send_as("POST", "/hooks/sns/nobody", "", "{}").await;
    assert_eq!(nobody.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn an_operator_can_restrict_the_topics() {
    let confirm = signed("SubscriptionConfirmation", "You have chosen to subscribe");
    for (topic, status) in [
        (TOPIC, 200),
        ("arn:aws:sns:eu-central-1:123456789012:x", 403),
    ] {
        let (stage, amazon) = stage(Some(vec![topic.to_owned()])).await;
        assert_eq!(post(&stage, &confirm).await.status, status);
        let fetched = if status == 200 { 2 } else { 0 };
        assert_eq!(amazon.0.lock().unwrap().len(), fetched);
    }
}
