//! The table through the AWS SDK and the SDK's own retries, with calls that are slow, are refused,
//! or lose their reply, so that the SDK repeats a call that already took effect.
//! `THRUM_TEST_DYNOXIDE` is the path of the emulator's binary.

use aws_sdk_dynamodb::Client;
use aws_smithy_runtime_api::client::http::{HttpConnector, HttpConnectorFuture};
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_runtime_api::client::result::ConnectorError;
use axum::Router;
use axum::body::Body;
use axum::http::{Request, StatusCode};
use e2e::dynoxide::{Dynoxide, config};
use e2e::{API_KEY, START, TABLE, prepare};
use futures::future::{BoxFuture, ready};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use thrum_ingest::App;
use thrum_notify::send::{
    Answer, Call, Email, EventBridge, Http, Lookup, Mail, SendError, Sns, Transport,
};
use thrum_notify::{Config, Notify, Sender};
use thrum_schema::id::ProjectId;
use thrum_schema::network::Networks;
use thrum_schema::work::{NotifyWork, Work};
use thrum_schema::world::ManualWorld;
use thrum_schema::{Plans, World};
use thrum_store::Store;
use thrum_store::dynamodb::DynamoTable;
use thrum_store::queue::{Later, LaterError};
use tower::ServiceExt;

/// A fault for the next calls of an operation whose body contains `mentions`.
#[derive(Debug, Clone, Copy)]
struct Fault {
    operation: &'static str,
    mentions: &'static str,
    /// How many calls are still to fail.
    times: u32,
    kind: FaultKind,
}

#[derive(Debug, Clone, Copy)]
enum FaultKind {
    /// The call takes effect, but its reply is lost.
    ReplyLost,
    /// The call takes effect after this many milliseconds.
    Delayed(i64),
    /// The call has no effect.
    Refused,
}

/// A connection to the table that injects faults.
#[derive(Debug, Clone)]
struct Connector {
    emulator: Dynoxide,
    world: Arc<ManualWorld>,
    fault: Arc<Mutex<Option<Fault>>>,
}

impl Connector {
    /// The fault of this call, if any.
    fn fault_of(&self, request: &HttpRequest) -> Option<FaultKind> {
        let mut next = self.fault.lock().unwrap();
        let fault = next.as_mut().filter(|fault| fault.times > 0)?;
        let target = request.headers().get("x-amz-target").unwrap_or_default();
        let body = String::from_utf8_lossy(request.body().bytes().unwrap_or_default());
        if !target.ends_with(fault.operation) || !body.contains(fault.mentions) {
            return None;
        }
        fault.times -= 1;
        Some(fault.kind)
    }
}

impl HttpConnector for Connector {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let fault = self.fault_of(&request);
        match fault {
            Some(FaultKind::Delayed(ms)) => {
                self.world.advance(ms);
            }
            Some(FaultKind::Refused) => {
                let refused = ConnectorError::io("connection reset".into());
                return HttpConnectorFuture::ready(Err(refused));
            }
            _ => {}
        }
        let done = self.emulator.call(request);
        if let Some(FaultKind::ReplyLost) = fault {
            return HttpConnectorFuture::new(async move {
                let _ = done.await;
                Err(ConnectorError::io("connection reset".into()))
            });
        }
        done
    }
}

/// A receiver that records the id of each message.
#[derive(Debug, Clone, Default)]
struct Inbox(Arc<Mutex<Vec<String>>>);

impl Transport for Inbox {
    fn call<'a>(&'a self, call: &'a Call) -> BoxFuture<'a, Result<Answer, SendError>> {
        let id = call.header("webhook-id").unwrap_or_default();
        self.0.lock().unwrap().push(id.to_owned());
        Box::pin(ready(Ok(Answer::of(StatusCode::OK))))
    }
}

/// A name server that knows every name.
#[derive(Debug)]
struct Anywhere;

impl Lookup for Anywhere {
    fn lookup(&self, _: String) -> BoxFuture<'static, std::io::Result<Vec<IpAddr>>> {
        Box::pin(ready(Ok(vec![[203, 0, 113, 7].into()])))
    }
}

/// A queue that drops its messages, so that only the timers in the table trigger delayed work.
#[derive(Debug)]
struct NoQueue;

impl Later for NoQueue {
    fn send(&self, _: Work, _: Duration) -> BoxFuture<'_, Result<(), LaterError>> {
        Box::pin(ready(Ok(())))
    }
}

/// The handlers, on a table that is reached through a [`Connector`].
struct Handlers {
    world: Arc<ManualWorld>,
    fault: Arc<Mutex<Option<Fault>>>,
    router: Router,
    notify: Notify,
    inbox: Inbox,
}

impl Handlers {
    /// `None` without an emulator.
    async fn new() -> Option<Self> {
        let emulator = Dynoxide::start().await?;
        emulator.table(TABLE).await;
        let world = ManualWorld::new(START, 1);
        let shared: Arc<dyn World> = world.clone();
        let connector = Connector {
            emulator,
            world: Arc::clone(&world),
            fault: Arc::default(),
        };
        let fault = Arc::clone(&connector.fault);
        let client = Client::from_conf(config(connector).build());
        let table = Arc::new(DynamoTable::new(client, TABLE));
        let store = Store::new(table, TABLE, 1, Arc::clone(&shared));
        prepare(&store).await;
        let inbox = Inbox::default();
        let sender = Sender {
            http: Http::by(inbox.clone(), Arc::new(Anywhere), shared),
            mail: Mail::Smtp(Email::new("thrum@example.org", None).unwrap()),
            sns: Sns::lazy(|| unreachable!("no channel uses SNS")),
            eventbridge: EventBridge::lazy(|| unreachable!("no channel uses EventBridge")),
        };
        let config = Config {
            delivery_window_ms: 86_400_000,
            max_at_once: thrum_notify::MAX_AT_ONCE,
            site_url: None,
            confirm: None,
            plans: Plans::default(),
        };
        let notify = Notify::new(store.clone(), sender, Arc::new(NoQueue), config);
        let config = thrum_ingest::Config {
            ping_log: false,
            networks: Networks::all(),
            ..thrum_ingest::Config::default()
        };
        Some(Self {
            world,
            fault,
            router: thrum_ingest::router(App::new(store, config)),
            notify,
            inbox,
        })
    }

    fn inject(&self, operation: &'static str, mentions: &'static str, times: u32, kind: FaultKind) {
        *self.fault.lock().unwrap() = Some(Fault {
            operation,
            mentions,
            times,
            kind,
        });
    }

    /// How many of the injected faults have not happened.
    fn faults_left(&self) -> u32 {
        self.fault.lock().unwrap().map_or(0, |fault| fault.times)
    }

    async fn send(&self, method: &str, path: &str, body: Value) -> Value {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("x-api-key", API_KEY)
            .body(Body::from(body.to_string()))
            .unwrap();
        let reply = self.router.clone().oneshot(request).await.unwrap();
        assert!(reply.status().is_success(), "{path}: {}", reply.status());
        let body = reply.into_body().collect().await.unwrap().to_bytes();
        serde_json::from_slice(&body).unwrap_or_default()
    }

    async fn get(&self, path: &str) -> Value {
        self.send("GET", path, Value::Null).await
    }

    /// Creates a channel limited to one message a day and a monitor that has just failed. Returns
    /// the work that delivers its alert.
    async fn failed(&self) -> NotifyWork {
        let hook = json!({"kind": "webhook", "url": "http://hook.example.org/", "daily_limit": 1});
        self.send("POST", "/v1/channels", hook).await;
        let monitor = json!({"name": "job", "period_s": 60, "grace_s": 60, "channels": "all"});
        let created = self.send("POST", "/v1/monitors", monitor).await;
        let uuid = created["uuid"].as_str().unwrap();
        self.get(&format!("/ping/{uuid}/fail")).await;
        self.work().await
    }

    /// The work that delivers the newest alert.
    async fn work(&self) -> NotifyWork {
        let alert = self.alert().await;
        NotifyWork::Alert {
            project: ProjectId::FIRST,
            alert: alert["id"].as_str().unwrap().parse().unwrap(),
        }
    }

    /// The newest alert.
    async fn alert(&self) -> Value {
        self.get("/v1/alerts?limit=1").await["alerts"][0].take()
    }

    fn received(&self) -> usize {
        self.inbox.0.lock().unwrap().len()
    }
}

#[tokio::test]
async fn a_failure_whose_reply_is_lost_counts_once() {
    let Some(stage) = Handlers::new().await else {
        return;
    };
    let monitor = json!({"name": "job", "period_s": 60, "grace_s": 60, "failures": 2});
    let created = stage.send("POST", "/v1/monitors", monitor).await;
    let uuid = created["uuid"].as_str().unwrap().to_owned();
    stage.get(&format!("/ping/{uuid}")).await;
    for (lost, failures, status) in [(1, 1, "up"), (2, 2, "down")] {
        stage.inject("PutItem", "", lost, FaultKind::ReplyLost);
        stage.world.advance(1_000);
        stage.get(&format!("/ping/{uuid}/fail")).await;
        let shown = stage.get(&format!("/v1/monitors/{uuid}")).await;
        assert_eq!(shown["failures_in_a_row"], failures, "{shown}");
        assert_eq!(shown["status"], status, "{shown}");
        assert_eq!(shown["pings"], 1 + failures, "{shown}");
    }
}

#[tokio::test]
async fn a_settled_delivery_is_recognized_after_a_lost_reply() {
    let Some(stage) = Handlers::new().await else {
        return;
    };
    let work = stage.failed().await;
    stage.inject("UpdateItem", "settled_by", 1, FaultKind::ReplyLost);
    stage.notify.handle(&work).await.unwrap();
    assert_eq!(stage.faults_left(), 0, "the reply was lost");
    assert_eq!(stage.received(), 1);
    let alert = stage.alert().await;
    assert_eq!(alert["state"], "delivered", "no audit is needed: {alert}");
    assert_eq!(alert["deliveries"][0]["state"], "sent", "{alert}");
}

#[tokio::test]
async fn no_message_is_sent_when_its_claim_is_about_to_expire() {
    let Some(stage) = Handlers::new().await else {
        return;
    };
    let work = stage.failed().await;
    // Too little of the 30 s claim is left for a slow receiver.
    stage.inject("UpdateItem", "channel#", 1, FaultKind::Delayed(10_000));
    stage.notify.handle(&work).await.unwrap();
    assert_eq!(
        stage.faults_left(),
        0,
        "the delayed call was the one that checks the limit"
    );
    assert_eq!(stage.received(), 0);
    let alert = stage.alert().await;
    assert_eq!(alert["deliveries"][0]["state"], "retry", "{alert}");
    // The next attempt has a full claim, and is not charged again.
    stage.world.advance(1);
    stage.notify.handle(&work).await.unwrap();
    assert_eq!(stage.received(), 1);
    let alert = stage.alert().await;
    assert_eq!(alert["deliveries"][0]["state"], "sent", "{alert}");
}

#[tokio::test]
async fn a_suppressed_delivery_mentions_an_earlier_attempt_that_may_have_arrived() {
    let Some(stage) = Handlers::new().await else {
        return;
    };
    let down = stage.failed().await;
    stage.notify.handle(&down).await.unwrap();
    // One more message is left, for the recovery.
    let channels = stage.get("/v1/channels").await;
    let path = format!(
        "/v1/channels/{}",
        channels["channels"][0]["id"].as_str().unwrap()
    );
    stage.send("PATCH", &path, json!({"daily_limit": 2})).await;
    let monitors = stage.get("/v1/monitors").await;
    let uuid = monitors["monitors"][0]["uuid"].as_str().unwrap();
    stage.world.advance(1_000);
    stage.get(&format!("/ping/{uuid}")).await;
    let work = stage.work().await;
    // All the SDK's attempts to record the sent message are refused.
    stage.inject("UpdateItem", "settled_by", 3, FaultKind::Refused);
    stage.notify.handle(&work).await.unwrap_err();
    assert_eq!(stage.faults_left(), 0);
    assert_eq!(stage.received(), 2);
    stage.world.advance(31_000);
    stage.notify.handle(&work).await.unwrap();
    // The newest alert is the notice that the limit is reached.
    let alerts = stage.get("/v1/alerts?limit=2").await;
    let alert = &alerts["alerts"][1];
    let delivery = &alert["deliveries"][0];
    assert_eq!(delivery["state"], "suppressed", "{alert}");
    let error = delivery["error"].as_str().unwrap();
    assert!(error.contains("an earlier attempt"), "{error}");
}
