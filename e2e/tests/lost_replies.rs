//! A reply that is lost, so that the SDK sends again what is done already: it must know its own write.

use aws_sdk_dynamodb::Client;
use aws_smithy_runtime_api::client::http::{HttpConnector, HttpConnectorFuture};
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_runtime_api::client::result::ConnectorError;
use axum::Router;
use axum::body::Body;
use axum::http::Request;
use e2e::{API_KEY, START, prepare};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use thrum::engine::{MemoryEngine, TABLE, config};
use thrum_ingest::App;
use thrum_schema::world::ManualWorld;
use thrum_schema::{Store, World};
use tower::ServiceExt;

/// A way to the table that loses the next replies to `PutItem`.
#[derive(Debug, Clone)]
struct Lossy {
    engine: MemoryEngine,
    losses: Arc<AtomicU32>,
}

impl HttpConnector for Lossy {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let target = request.headers().get("x-amz-target").unwrap_or_default();
        let puts = target.ends_with("PutItem");
        let done = self.engine.call(request);
        let left = self.losses.load(Ordering::SeqCst);
        if puts && left > 0 {
            self.losses.store(left - 1, Ordering::SeqCst);
            return HttpConnectorFuture::new(async move {
                let _ = done.await;
                Err(ConnectorError::io("connection reset".into()))
            });
        }
        done
    }
}

async fn send(router: &Router, method: &str, path: &str, body: Value) -> Value {
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("x-api-key", API_KEY)
        .body(Body::from(body.to_string()))
        .unwrap();
    let reply = router.clone().oneshot(request).await.unwrap();
    assert!(reply.status().is_success(), "{path}: {}", reply.status());
    let body = reply.into_body().collect().await.unwrap().to_bytes();
    serde_json::from_slice(&body).unwrap_or_default()
}

#[tokio::test(start_paused = true)]
async fn a_failure_whose_reply_is_lost_counts_once() {
    let world = ManualWorld::new(START, 1);
    let shared: Arc<dyn World> = world.clone();
    let way = Lossy {
        engine: MemoryEngine::new(Arc::clone(&shared)).unwrap(),
        losses: Arc::default(),
    };
    let losses = Arc::clone(&way.losses);
    let client = Client::from_conf(config(way).build());
    let store = Store::new(client, TABLE, 1, shared);
    prepare(&store).await;
    let config = thrum_ingest::Config {
        ping_log: false,
        ..thrum_ingest::Config::default()
    };
    let router = thrum_ingest::router(App::new(store, config));
    let made = json!({"name": "job", "period_s": 60, "grace_s": 60, "failures": 2});
    let made = send(&router, "POST", "/v1/monitors", made).await;
    let uuid = made["uuid"].as_str().unwrap().to_owned();
    send(&router, "GET", &format!("/ping/{uuid}"), Value::Null).await;
    for (lost, failures, status) in [(1, 1, "up"), (2, 2, "down")] {
        losses.store(lost, Ordering::SeqCst);
        world.advance(1_000);
        send(&router, "GET", &format!("/ping/{uuid}/fail"), Value::Null).await;
        let shown = send(&router, "GET", &format!("/v1/monitors/{uuid}"), Value::Null).await;
        assert_eq!(shown["failures_in_a_row"], failures, "{shown}");
        assert_eq!(shown["status"], status, "{shown}");
        assert_eq!(shown["pings"], 1 + failures, "{shown}");
    }
}
