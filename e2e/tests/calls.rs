//! The table through the AWS SDK and its own retries: calls that lose their reply, so that it sends again what is done
//! already, or that take long. `THRUM_TEST_DYNOXIDE` names the emulator's binary.

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
use std::sync::{Arc, Mutex};
use std::time::Duration;
use thrum_ingest::App;
use thrum_notify::send::{Email, Mail, Post, Posted, SendError, Sns, Webhook};
use thrum_notify::{Config, Notify, Sender};
use thrum_schema::id::ProjectId;
use thrum_schema::work::Work;
use thrum_schema::world::ManualWorld;
use thrum_schema::{Plans, World};
use thrum_store::Store;
use thrum_store::dynamodb::DynamoTable;
use thrum_store::queue::{Later, LaterError};
use tower::ServiceExt;

/// What goes wrong with the next calls of an operation that mention something.
#[derive(Debug, Clone, Copy)]
struct Trouble {
    operation: &'static str,
    mentions: &'static str,
    /// How often.
    times: u32,
    what: What,
}

#[derive(Debug, Clone, Copy)]
enum What {
    /// It is done, and nobody hears of it.
    ReplyLost,
    /// It is done after so many milliseconds.
    Takes(i64),
    /// It is not done.
    Refused,
}

/// A way to the table on which calls meet trouble.
#[derive(Debug, Clone)]
struct Way {
    emulator: Dynoxide,
    world: Arc<ManualWorld>,
    trouble: Arc<Mutex<Option<Trouble>>>,
}

impl Way {
    /// What this call meets.
    fn meets(&self, request: &HttpRequest) -> Option<What> {
        let mut trouble = self.trouble.lock().unwrap();
        let met = trouble.as_mut().filter(|trouble| trouble.times > 0)?;
        let target = request.headers().get("x-amz-target").unwrap_or_default();
        let body = String::from_utf8_lossy(request.body().bytes().unwrap_or_default());
        if !target.ends_with(met.operation) || !body.contains(met.mentions) {
            return None;
        }
        met.times -= 1;
        Some(met.what)
    }
}

impl HttpConnector for Way {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let met = self.meets(&request);
        match met {
            Some(What::Takes(ms)) => {
                self.world.advance(ms);
            }
            Some(What::Refused) => {
                let refused = ConnectorError::io("connection reset".into());
                return HttpConnectorFuture::ready(Err(refused));
            }
            _ => {}
        }
        let done = self.emulator.call(request);
        if let Some(What::ReplyLost) = met {
            return HttpConnectorFuture::new(async move {
                let _ = done.await;
                Err(ConnectorError::io("connection reset".into()))
            });
        }
        done
    }
}

/// A receiver that counts.
#[derive(Debug, Clone, Default)]
struct Inbox(Arc<Mutex<Vec<String>>>);

impl Post for Inbox {
    fn post<'a>(&'a self, posted: Posted<'a>) -> BoxFuture<'a, Result<StatusCode, SendError>> {
        self.0.lock().unwrap().push(posted.id.to_owned());
        Box::pin(ready(Ok(StatusCode::OK)))
    }
}

/// What is put off waits for the timers in the table.
#[derive(Debug)]
struct Never;

impl Later for Never {
    fn send(&self, _: Work, _: Duration) -> BoxFuture<'_, Result<(), LaterError>> {
        Box::pin(ready(Ok(())))
    }
}

/// The handlers, on such a way.
struct Handlers {
    world: Arc<ManualWorld>,
    trouble: Arc<Mutex<Option<Trouble>>>,
    router: Router,
    notify: Notify,
    inbox: Inbox,
}

impl Handlers {
    /// `None` where there is no emulator.
    async fn new() -> Option<Self> {
        let emulator = Dynoxide::start().await?;
        emulator.table(TABLE).await;
        let world = ManualWorld::new(START, 1);
        let shared: Arc<dyn World> = world.clone();
        let way = Way {
            emulator,
            world: Arc::clone(&world),
            trouble: Arc::default(),
        };
        let trouble = Arc::clone(&way.trouble);
        let client = Client::from_conf(config(way).build());
        let table = Arc::new(DynamoTable::new(client, TABLE));
        let store = Store::new(table, TABLE, 1, Arc::clone(&shared));
        prepare(&store).await;
        let inbox = Inbox::default();
        let sender = Sender {
            webhook: Webhook::by(inbox.clone(), shared),
            mail: Mail::Smtp(Email::new("thrum@example.org", None).unwrap()),
            sns: Sns::lazy(|| unreachable!("nobody is told by SNS")),
        };
        let config = Config {
            delivery_window_ms: 86_400_000,
            plans: Plans::default(),
        };
        let notify = Notify::new(store.clone(), sender, Arc::new(Never), config);
        let config = thrum_ingest::Config {
            ping_log: false,
            allow_private_webhooks: true,
            ..thrum_ingest::Config::default()
        };
        Some(Self {
            world,
            trouble,
            router: thrum_ingest::router(App::new(store, config)),
            notify,
            inbox,
        })
    }

    fn meet(&self, operation: &'static str, mentions: &'static str, times: u32, what: What) {
        *self.trouble.lock().unwrap() = Some(Trouble {
            operation,
            mentions,
            times,
            what,
        });
    }

    /// How many calls of those that were to meet trouble did not.
    fn spared(&self) -> u32 {
        self.trouble
            .lock()
            .unwrap()
            .map_or(0, |trouble| trouble.times)
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

    /// Makes a receiver that takes one message a day, and a monitor that has just failed. Returns the work that tells of it.
    async fn failed(&self) -> Work {
        let hook = json!({"kind": "webhook", "url": "http://hook.example.org/", "daily_limit": 1});
        self.send("POST", "/v1/channels", hook).await;
        let made = json!({"name": "job", "period_s": 60, "grace_s": 60, "channels": "all"});
        let made = self.send("POST", "/v1/monitors", made).await;
        let uuid = made["uuid"].as_str().unwrap();
        self.get(&format!("/ping/{uuid}/fail")).await;
        let alert = self.alert().await;
        Work::Alert {
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
    let made = json!({"name": "job", "period_s": 60, "grace_s": 60, "failures": 2});
    let made = stage.send("POST", "/v1/monitors", made).await;
    let uuid = made["uuid"].as_str().unwrap().to_owned();
    stage.get(&format!("/ping/{uuid}")).await;
    for (lost, failures, status) in [(1, 1, "up"), (2, 2, "down")] {
        stage.meet("PutItem", "", lost, What::ReplyLost);
        stage.world.advance(1_000);
        stage.get(&format!("/ping/{uuid}/fail")).await;
        let shown = stage.get(&format!("/v1/monitors/{uuid}")).await;
        assert_eq!(shown["failures_in_a_row"], failures, "{shown}");
        assert_eq!(shown["status"], status, "{shown}");
        assert_eq!(shown["pings"], 1 + failures, "{shown}");
    }
}

#[tokio::test]
async fn a_settled_delivery_whose_reply_is_lost_is_known_again() {
    let Some(stage) = Handlers::new().await else {
        return;
    };
    let work = stage.failed().await;
    stage.meet("UpdateItem", "settled_by", 1, What::ReplyLost);
    stage.notify.handle(&work).await.unwrap();
    assert_eq!(stage.spared(), 0, "the reply was lost");
    assert_eq!(stage.received(), 1);
    let alert = stage.alert().await;
    assert_eq!(
        alert["state"], "delivered",
        "it waits for no audit: {alert}"
    );
    assert_eq!(alert["deliveries"][0]["state"], "sent", "{alert}");
}

#[tokio::test]
async fn a_message_is_not_begun_when_its_claim_is_about_to_end() {
    let Some(stage) = Handlers::new().await else {
        return;
    };
    let work = stage.failed().await;
    // Of the claim's half minute too little is left for a receiver that takes its time.
    stage.meet("UpdateItem", "channel#", 1, What::Takes(10_000));
    stage.notify.handle(&work).await.unwrap();
    assert_eq!(stage.spared(), 0, "the limit took long");
    assert_eq!(stage.received(), 0);
    let alert = stage.alert().await;
    assert_eq!(alert["deliveries"][0]["state"], "retry", "{alert}");
    // Whoever comes next has all of the time, and need not pay again.
    stage.world.advance(1);
    stage.notify.handle(&work).await.unwrap();
    assert_eq!(stage.received(), 1);
    let alert = stage.alert().await;
    assert_eq!(alert["deliveries"][0]["state"], "sent", "{alert}");
}

#[tokio::test]
async fn a_suppressed_message_says_if_an_earlier_attempt_may_have_come() {
    let Some(stage) = Handlers::new().await else {
        return;
    };
    let work = stage.failed().await;
    // As often as the SDK tries: what was sent can't be noted.
    stage.meet("UpdateItem", "settled_by", 3, What::Refused);
    stage.notify.handle(&work).await.unwrap_err();
    assert_eq!(stage.spared(), 0);
    assert_eq!(stage.received(), 1);
    stage.world.advance(31_000);
    stage.notify.handle(&work).await.unwrap();
    // The newest alert says that the limit is reached.
    let alerts = stage.get("/v1/alerts?limit=2").await;
    let alert = &alerts["alerts"][1];
    let delivery = &alert["deliveries"][0];
    assert_eq!(delivery["state"], "suppressed", "{alert}");
    let error = delivery["error"].as_str().unwrap();
    assert!(error.contains("an earlier attempt"), "{error}");
}
