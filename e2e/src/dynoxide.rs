//! Dynoxide: a third-party DynamoDB emulator, run in its own process.
//!
//! It is not part of the workspace because it pins an older SQLite, and a program can't link two
//! versions. `THRUM_TEST_DYNOXIDE` is the path of its binary.

use anyhow::{Context, ensure};
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::config::timeout::TimeoutConfig;
use aws_sdk_dynamodb::config::{BehaviorVersion, Builder, Credentials, Region};
use aws_smithy_runtime_api::client::http::{
    HttpConnector, HttpConnectorFuture, SharedHttpConnector, http_client_fn,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_types::body::SdkBody;
use serde_json::{Value, json};
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use thrum_store::dynamodb::{DynamoTable, retrying};

/// The timeout of a call, including retries.
const OPERATION_TIMEOUT: Duration = Duration::from_secs(10);
/// Maximum number of stream records per read.
const PAGE: usize = 1_000;

/// A running emulator. Cheap to clone; ends when the last clone is dropped.
#[derive(Debug, Clone)]
pub struct Dynoxide {
    url: String,
    http: reqwest::Client,
    _process: Arc<Process>,
}

#[derive(Debug)]
struct Process(Mutex<Child>);

impl Drop for Process {
    fn drop(&mut self) {
        if let Ok(mut child) = self.0.lock() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Dynoxide {
    /// Starts an emulator; prints a warning and returns `None` if `THRUM_TEST_DYNOXIDE` is not set.
    ///
    /// # Panics
    /// If it does not start.
    pub async fn start() -> Option<Self> {
        let Some(binary) = std::env::var_os("THRUM_TEST_DYNOXIDE") else {
            eprintln!("SKIPPED: THRUM_TEST_DYNOXIDE is not set; see CONTRIBUTING.md");
            return None;
        };
        thrum_store::tls::install();
        // The port was free a moment ago, and nothing else asks for ports here.
        let port = TcpListener::bind("127.0.0.1:0").and_then(|taken| taken.local_addr());
        let port = port.expect("a port").port();
        let child = Command::new(binary)
            .args(["serve", "--host", "127.0.0.1", "--port", &port.to_string()])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("dynoxide starts");
        let emulator = Self {
            url: format!("http://127.0.0.1:{port}/"),
            http: reqwest::Client::new(),
            _process: Arc::new(Process(Mutex::new(child))),
        };
        for _ in 0..200 {
            let tables = emulator.answer("DynamoDB_20120810.ListTables", b"{}".to_vec());
            if tables.await.is_ok() {
                return Some(emulator);
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        panic!("dynoxide did not answer within 5 s");
    }

    /// Its URL.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Sends a request with the header `x-amz-target: target`; returns the HTTP status and the
    /// body.
    ///
    /// # Errors
    /// The emulator can't be reached.
    pub async fn answer(&self, target: &str, body: Vec<u8>) -> reqwest::Result<(u16, Vec<u8>)> {
        let signed = "AWS4-HMAC-SHA256 Credential=id/20250101/local/dynamodb/aws4_request, \
                      SignedHeaders=host, Signature=0";
        let sent = self
            .http
            .post(&self.url)
            .header("x-amz-target", target)
            .header("x-amz-date", "20250101T000000Z")
            .header("content-type", "application/x-amz-json-1.0")
            .header("authorization", signed)
            .body(body);
        let reply = sent.send().await?;
        let status = reply.status().as_u16();
        Ok((status, reply.bytes().await?.to_vec()))
    }

    /// An SDK client for this emulator.
    pub fn client(&self) -> Client {
        Client::from_conf(config(self.clone()).build())
    }

    /// Creates a table with this name.
    ///
    /// # Panics
    /// If it can't be created.
    pub async fn table(&self, name: &str) -> DynamoTable {
        let table = DynamoTable::new(self.client(), name);
        table.create().await.expect("a table");
        table
    }

    /// Creates a table without a stream, for many items: to number a record, the emulator reads all others.
    ///
    /// # Panics
    /// If it can't be created.
    pub async fn quiet_table(&self, name: &str) -> DynamoTable {
        let attribute = |name| json!({"AttributeName": name, "AttributeType": "S"});
        let key = |name, kind| json!({"AttributeName": name, "KeyType": kind});
        let asked = json!({
            "TableName": name,
            "BillingMode": "PAY_PER_REQUEST",
            "AttributeDefinitions": [attribute("pk"), attribute("sk")],
            "KeySchema": [key("pk", "HASH"), key("sk", "RANGE")],
        });
        let created = self.answer("DynamoDB_20120810.CreateTable", asked.to_string().into());
        let (status, reply) = created.await.expect("an answer");
        assert_eq!(status, 200, "{}", String::from_utf8_lossy(&reply));
        DynamoTable::new(self.client(), name)
    }

    /// The records of a table's stream, as Lambda delivers them.
    ///
    /// # Errors
    /// The emulator answers differently from DynamoDB.
    pub async fn records(&self, table: &str) -> anyhow::Result<Vec<Value>> {
        let streams = self
            .stream("ListStreams", json!({ "TableName": table }))
            .await?;
        let arn = &streams["Streams"][0]["StreamArn"];
        let described = self
            .stream("DescribeStream", json!({ "StreamArn": arn }))
            .await?;
        let asked = json!({
            "StreamArn": arn,
            "ShardId": described["StreamDescription"]["Shards"][0]["ShardId"],
            "ShardIteratorType": "TRIM_HORIZON",
        });
        let mut iterator = self.stream("GetShardIterator", asked).await?["ShardIterator"].clone();
        let mut records = Vec::new();
        loop {
            let asked = json!({ "ShardIterator": iterator, "Limit": PAGE });
            let page = self.stream("GetRecords", asked).await?;
            let found = page["Records"].as_array().context("records")?;
            if found.is_empty() {
                return Ok(records);
            }
            records.extend(found.iter().cloned());
            iterator = page["NextShardIterator"].clone();
        }
    }

    async fn stream(&self, operation: &str, body: Value) -> anyhow::Result<Value> {
        let target = format!("DynamoDBStreams_20120810.{operation}");
        let (status, reply) = self.answer(&target, body.to_string().into_bytes()).await?;
        ensure!(
            status == 200,
            "{operation}: {}",
            String::from_utf8_lossy(&reply)
        );
        Ok(serde_json::from_slice(&reply)?)
    }
}

/// The configuration of an SDK client that sends its calls through `connector`.
pub fn config(connector: impl HttpConnector + 'static) -> Builder {
    let connector = SharedHttpConnector::new(connector);
    let timeouts = TimeoutConfig::builder()
        .operation_timeout(OPERATION_TIMEOUT)
        .build();
    let config = aws_sdk_dynamodb::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::from_static("local"))
        .endpoint_url("http://emulator.invalid")
        .credentials_provider(Credentials::new("id", "secret", None, None, "emulator"))
        .timeout_config(timeouts)
        .http_client(http_client_fn(move |_, _| connector.clone()));
    retrying(config)
}

impl HttpConnector for Dynoxide {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let target = request.headers().get("x-amz-target").unwrap_or_default();
        let target = target.to_owned();
        let body = request.body().bytes().unwrap_or_default().to_vec();
        let emulator = self.clone();
        HttpConnectorFuture::new(async move {
            let answer = emulator.answer(&target, body).await;
            let (status, reply) = answer.map_err(|error| ConnectorError::io(error.into()))?;
            let status = status
                .try_into()
                .map_err(|_| ConnectorError::user("invalid HTTP status".into()))?;
            Ok(HttpResponse::new(status, SdkBody::from(reply)))
        })
    }
}
