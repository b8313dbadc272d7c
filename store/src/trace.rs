//! The trace of the current task: what it works for. Log lines, flips and signal changes get its ID, and a recorder
//! gets its parts, such as calls of the table.

use futures::future::Either;
use std::fmt::Debug;
use std::sync::Arc;
use thrum_schema::trace::TraceId;
use thrum_schema::{UnixMs, World};
use tracing::Instrument;

tokio::task_local! {
    static CURRENT: Trace;
}

/// A trace: its ID, and its recorder, if any.
#[derive(Debug, Clone)]
pub struct Trace {
    id: TraceId,
    recorder: Option<Arc<dyn Recorder>>,
}

/// Records the parts of a trace.
pub trait Recorder: Debug + Send + Sync {
    /// The current time.
    fn now(&self) -> UnixMs;

    /// Takes a part that has ended. It must not block, and nothing depends on it.
    fn record(&self, part: &Part<'_>);
}

/// A part of a trace.
#[derive(Debug)]
pub struct Part<'a> {
    /// The service that was called.
    pub service: Service<'a>,
    /// When it started.
    pub started: UnixMs,
    /// When it ended.
    pub ended: UnixMs,
    /// Why it failed.
    pub error: Option<String>,
    /// The trace that caused this part. It differs from the recorder's trace if an earlier request or run caused it.
    pub trace: TraceId,
}

/// A service that a part of a trace calls.
#[derive(Debug, Clone, Copy)]
pub enum Service<'a> {
    /// The table.
    Table {
        /// DynamoDB's name of the operation.
        operation: &'static str,
    },
    /// The receiver of an alert or a group of alerts.
    Channel {
        /// The kind of the channel.
        kind: &'a str,
        /// The idempotency key of the delivery: `<alert or group>.<channel>`.
        key: &'a str,
    },
}

impl Trace {
    /// The trace `id`, which nobody records.
    pub const fn new(id: TraceId) -> Self {
        Self { id, recorder: None }
    }

    /// A trace that starts now, which nobody records.
    pub fn start(world: &dyn World) -> Self {
        Self::new(TraceId::new(world))
    }

    /// The same trace, recorded.
    #[must_use]
    pub fn recorded(self, recorder: Arc<dyn Recorder>) -> Self {
        Self {
            recorder: Some(recorder),
            ..self
        }
    }

    /// Its ID.
    pub const fn id(&self) -> TraceId {
        self.id
    }
}

/// The ID of the current task's trace.
pub fn current() -> Option<TraceId> {
    CURRENT.try_with(|trace| trace.id).ok()
}

/// Does `work` as a part of `trace`.
pub async fn within<T>(trace: Trace, work: impl Future<Output = T>) -> T {
    // Work may be large, and each layer around it would copy it.
    let work = Box::pin(work);
    // Enabled at every level of the log, so that its warnings have it.
    let span = tracing::error_span!("work", trace = %trace.id);
    CURRENT.scope(trace, work.instrument(span)).await
}

/// Does `work` that the trace `cause` caused, which may have ended long ago. What the work consists of is
/// still recorded in the current trace.
pub async fn caused_by<T>(cause: Option<TraceId>, work: impl Future<Output = T>) -> T {
    let work = Box::pin(work);
    let Some(cause) = cause else {
        return work.await;
    };
    let recorder = CURRENT.try_with(|trace| trace.recorder.clone());
    let trace = Trace {
        id: cause,
        recorder: recorder.ok().flatten(),
    };
    within(trace, work).await
}

/// `work` as a part of the current trace, for a task of its own.
pub fn carried<F: Future>(work: F) -> impl Future<Output = F::Output> {
    let current = CURRENT.try_with(Trace::clone).ok();
    async move {
        match current {
            Some(trace) => within(trace, work).await,
            None => work.await,
        }
    }
}

/// Calls a service, and records that as a part of the current trace. `failure` says what is wrong, if an error is
/// a failure of the service.
pub fn call<'a, T, E>(
    service: Service<'a>,
    failure: impl Fn(&E) -> Option<String> + 'a,
    call: impl Future<Output = Result<T, E>> + 'a,
) -> impl Future<Output = Result<T, E>> + 'a {
    let current = CURRENT.try_with(Trace::clone).ok();
    let recorded = current.and_then(|trace| Some((trace.id, trace.recorder?)));
    let Some((trace, recorder)) = recorded else {
        return Either::Left(call);
    };
    Either::Right(async move {
        let started = recorder.now();
        let result = call.await;
        recorder.record(&Part {
            service,
            started,
            ended: recorder.now(),
            error: result.as_ref().err().and_then(failure),
            trace,
        });
        result
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;
    use thrum_schema::world::ManualWorld;

    #[derive(Debug, Default)]
    struct Parts(Mutex<Vec<(TraceId, String, Option<String>)>>);

    impl Recorder for Parts {
        fn now(&self) -> UnixMs {
            UnixMs(0)
        }

        fn record(&self, part: &Part<'_>) {
            let service = format!("{:?}", part.service);
            let part = (part.trace, service, part.error.clone());
            self.0.lock().unwrap().push(part);
        }
    }

    async fn get(outcome: Result<(), &'static str>) {
        let table = Service::Table {
            operation: "GetItem",
        };
        let failure = |error: &&str| Some((*error).to_owned());
        let _ = call(table, failure, async { outcome }).await;
    }

    #[tokio::test]
    async fn parts_name_their_cause() {
        let world = ManualWorld::new(UnixMs(1_763_700_000_123), 7);
        let [one, cause] = [(); 2].map(|()| TraceId::new(&*world));
        let parts = Arc::new(Parts::default());
        get(Ok(())).await;
        within(Trace::new(one), get(Ok(()))).await;
        assert_eq!(current(), None);
        let recorder = Arc::clone(&parts);
        within(Trace::new(one).recorded(recorder), async {
            assert_eq!(current(), Some(one));
            get(Ok(())).await;
            caused_by(Some(cause), get(Err("too slow"))).await;
            caused_by(None, get(Ok(()))).await;
        })
        .await;
        let seen = parts.0.lock().unwrap();
        let seen: Vec<_> = seen
            .iter()
            .map(|part| (part.0, part.2.as_deref()))
            .collect();
        assert_eq!(seen, [(one, None), (cause, Some("too slow")), (one, None)]);
    }
}
