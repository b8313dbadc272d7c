//! AWS X-Ray: which trace an invocation belongs to, and its subsegments. They go to the daemon that Lambda runs
//! beside a function, as datagrams.
//! <https://docs.aws.amazon.com/xray/latest/devguide/xray-api-segmentdocuments.html>

use crate::key::Key;
use crate::table::{Batch, Call, Item, Operation, Page, Query, Read, Table, TableError, Write};
use crate::trace::{self, Part, Recorder, Service, Trace};
use serde_json::json;
use std::net::UdpSocket;
use std::sync::Arc;
use thrum_schema::trace::{TraceId, header_field};
use thrum_schema::{UnixMs, World};
use uuid::Uuid;

/// Precedes each document.
const HEADER: &str = "{\"format\":\"json\",\"version\":1}\n";
/// Longest text of an error, in characters.
const MAX_ERROR: usize = 500;

/// Names the trace of each invocation.
#[derive(Debug, Clone)]
pub struct Traces {
    world: Arc<dyn World>,
    daemon: Option<Arc<UdpSocket>>,
}

impl Traces {
    /// Sends to the daemon whose address is in the environment.
    pub fn new(lookup: impl Fn(&str) -> Option<String>, world: Arc<dyn World>) -> Self {
        let daemon = lookup("AWS_XRAY_DAEMON_ADDRESS").and_then(|address| {
            let socket = UdpSocket::bind(("0.0.0.0", 0)).ok()?;
            socket.set_nonblocking(true).ok()?;
            socket.connect(address).ok()?;
            Some(Arc::new(socket))
        });
        Self { world, daemon }
    }

    /// The trace of an invocation with this header (`Root=…;Parent=…;Sampled=1`); a new one if there is none.
    pub fn of(&self, header: Option<&str>) -> Trace {
        let field = |name: &str| header_field(header?, name);
        let now = self.world.now();
        let root = header.and_then(|header| TraceId::of_header(header, "Root", now));
        let Some(root) = root else {
            return Trace::start(&*self.world);
        };
        let trace = Trace::new(root);
        match (field("Sampled"), field("Parent"), &self.daemon) {
            (Some("1"), Some(parent), Some(daemon)) => trace.recorded(Arc::new(Invocation {
                trace: root,
                parent: parent.to_owned(),
                daemon: Arc::clone(daemon),
                world: Arc::clone(&self.world),
            })),
            _ => trace,
        }
    }
}

/// Records the subsegments of an invocation.
#[derive(Debug)]
struct Invocation {
    trace: TraceId,
    /// The ID of the function's segment.
    parent: String,
    daemon: Arc<UdpSocket>,
    world: Arc<dyn World>,
}

impl Recorder for Invocation {
    fn now(&self) -> UnixMs {
        self.world.now()
    }

    fn record(&self, part: &Part<'_>) {
        #[expect(
            clippy::cast_precision_loss,
            reason = "the milliseconds of many years fit"
        )]
        let seconds = |at: UnixMs| at.0 as f64 / 1000.0;
        let mut document = json!({
            "type": "subsegment",
            "trace_id": self.trace,
            "parent_id": self.parent,
            "id": format!("{:016x}", self.world.random() >> 64),
            "start_time": seconds(part.started),
            "end_time": seconds(part.ended),
        });
        match part.service {
            Service::Table { operation } => {
                document["name"] = "DynamoDB".into();
                document["namespace"] = "aws".into();
                document["aws"] = json!({ "operation": operation });
            }
            Service::Channel { kind, key } => {
                document["name"] = kind.into();
                document["namespace"] = "remote".into();
                // Annotations can be searched for; their names have only letters, digits and `_`.
                document["annotations"] = json!({ "delivery": key });
                if part.trace != self.trace {
                    document["annotations"]["cause"] = json!(part.trace);
                }
            }
        }
        if let Some(error) = &part.error {
            let error: String = error.chars().take(MAX_ERROR).collect();
            document["fault"] = true.into();
            document["metadata"] = json!({ "thrum": { "error": error } });
        }
        // A lost datagram is only a gap in a trace.
        let _ = self.daemon.send(format!("{HEADER}{document}").as_bytes());
    }
}

/// A table whose calls are recorded in the current trace.
#[derive(Debug)]
pub struct Traced<T>(pub T);

impl<W: Table> Traced<W> {
    fn call<'a, T: 'a>(&self, operation: Operation, call: Call<'a, T>) -> Call<'a, T> {
        let operation = operation.name();
        // A condition that does not hold, and a race that is lost, are answers, too.
        let failure = |error: &TableError| match error {
            TableError::Condition { .. } | TableError::Conflict => None,
            error => Some(error.to_string()),
        };
        Box::pin(trace::call(Service::Table { operation }, failure, call))
    }
}

impl<W: Table> Table for Traced<W> {
    fn get(&self, key: Key, read: Read) -> Call<'_, Option<Item>> {
        self.call(Operation::GetItem, self.0.get(key, read))
    }

    fn get_many(&self, keys: Vec<Key>, read: Read) -> Call<'_, Batch> {
        self.call(Operation::BatchGetItem, self.0.get_many(keys, read))
    }

    fn query(&self, query: Query) -> Call<'_, Page> {
        self.call(Operation::Query, self.0.query(query))
    }

    fn write(&self, write: Write) -> Call<'_, Option<Item>> {
        self.call(write.operation(), self.0.write(write))
    }

    fn write_many(&self, writes: Vec<Write>) -> Call<'_, Vec<Write>> {
        self.call(Operation::BatchWriteItem, self.0.write_many(writes))
    }

    fn transact(&self, writes: Vec<Write>, token: Uuid) -> Call<'_, ()> {
        self.call(
            Operation::TransactWriteItems,
            self.0.transact(writes, token),
        )
    }
}
