//! The HTTP server: HTTP/1 and HTTP/2 on the same port, with bounds on what clients can hold, and
//! graceful shutdown.

mod connections;
mod watched;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::{StatusCode, Version, header};
use axum::response::{IntoResponse, Response};
use connections::{Connections, Request as InProgress};
use hyper::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::GracefulShutdown;
use std::convert::Infallible;
use std::io::ErrorKind;
use std::sync::Arc;
use std::time::{Duration, Instant};
use thrum_ingest::traced;
use thrum_notify::MAX_AT_ONCE;
use thrum_schema::world::SystemWorld;
use thrum_schema::{TraceId, World};
use thrum_store::trace::Trace;
use tokio::net::TcpListener;
use tokio::sync::watch;
use watched::{Answer, Sent, Watched};

/// Most bytes of a request's head, and of what is read ahead.
const HEAD_BYTES: usize = 16 * 1024;
/// Most bytes of a body that an HTTP/2 client may send ahead, for a request and for a connection.
const AHEAD_BYTES: u32 = 64 * 1024;
/// Most requests at a time on an HTTP/2 connection.
const STREAMS: u32 = 100;
/// How often an HTTP/2 client is asked whether it is still there, and how long it may take.
const ALIVE_EVERY: Duration = Duration::from_secs(60);
const ALIVE_WITHIN: Duration = Duration::from_secs(20);
/// Pause before the next accept after one failed, for example because file descriptors ran out.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);
/// How often connections are checked for having waited too long.
const CHECK_EVERY: Duration = Duration::from_secs(1);

/// What clients may hold.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Most connections.
    pub connections: usize,
    /// The proxies in front of this server. Their connections are those of many clients.
    pub proxies: thrum_ingest::Proxies,
}

/// Serves `router` on `listener` until `stopped` is true, then finishes the requests in progress.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    limits: Limits,
    mut stopped: watch::Receiver<bool>,
) {
    let builder = builder();
    let world = SystemWorld::arc();
    let graceful = GracefulShutdown::new();
    let connections = Connections::new(limits.connections);
    let mut check = tokio::time::interval(CHECK_EVERY);
    check.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = check.tick() => {
                connections.close_overdue(Instant::now());
                continue;
            }
            _ = stopped.wait_for(|stopped| *stopped) => break,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            // The client has already disconnected.
            Err(error) if error.kind() == ErrorKind::ConnectionAborted => continue,
            Err(error) => {
                tracing::error!(%error, "failed to accept a connection");
                tokio::time::sleep(ACCEPT_AGAIN).await;
                continue;
            }
        };
        let is_proxy = limits.proxies.trust(peer.ip());
        let Some(guard) = connections.open(peer.ip(), is_proxy) else {
            tracing::warn!(%peer, "refused a connection: there are too many, and all are in use");
            continue;
        };
        // Each reply is small and written at once, so Nagle's algorithm would only delay it.
        let _ = stream.set_nodelay(true);
        let (router, world) = (router.clone(), Arc::clone(&world));
        let (all, this) = (Arc::clone(&connections), Arc::clone(&guard.connection));
        let service = service_fn(move |request: Request<Incoming>| {
            let is_shared = request.version() == Version::HTTP_2;
            let answered = InProgress::new(&all, &this, is_shared).map(|in_progress| {
                let in_progress = Arc::new(in_progress);
                let mut request = request.map(|body| Body::new(Sent::new(body, &in_progress)));
                request.extensions_mut().insert(ConnectInfo(peer));
                let trace = trace_of(&request, is_proxy, &*world);
                (traced(router.clone(), request, trace), in_progress)
            });
            async move {
                let Some((answered, in_progress)) = answered else {
                    return Ok(overloaded());
                };
                let answer = answered.await;
                Ok::<_, Infallible>(answer.map(|body| Body::new(Answer::new(body, in_progress))))
            }
        });
        let watched = Watched::new(stream, Arc::clone(&guard.connection));
        let connection = builder.serve_connection(TokioIo::new(watched), service);
        let connection = graceful.watch(connection.into_owned());
        tokio::spawn(async move {
            tokio::select! {
                ended = connection => if let Err(error) = ended {
                    tracing::debug!(%peer, error, "a connection ended early");
                },
                () = guard.connection.must_close() => {
                    tracing::debug!(%peer, "closed a connection that waited for its client");
                }
            }
        });
    }
    drop(listener);
    graceful.shutdown().await;
}

/// The trace of a request: the one that a load balancer of AWS has begun, or a new one. If the client has named a
/// root, the load balancer keeps that, and adds an ID of its own as `Self`.
/// <https://docs.aws.amazon.com/elasticloadbalancing/latest/application/load-balancer-request-tracing.html>
fn trace_of(request: &Request<Body>, is_proxy: bool, world: &dyn World) -> Trace {
    let header = request.headers().get("x-amzn-trace-id");
    let header = header.filter(|_| is_proxy);
    let begun = header.and_then(|header| {
        let (header, now) = (header.to_str().ok()?, world.now());
        let own = TraceId::of_header(header, "Self", now);
        own.or_else(|| TraceId::of_header(header, "Root", now))
    });
    begun.map_or_else(|| Trace::start(world), Trace::new)
}

fn builder() -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    // How long a head may take is up to `Connections`, which also knows HTTP/2.
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(None)
        .max_buf_size(HEAD_BYTES);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_header_list_size(HEAD_BYTES as u32)
        .max_concurrent_streams(STREAMS)
        .initial_stream_window_size(AHEAD_BYTES)
        .initial_connection_window_size(AHEAD_BYTES)
        .max_send_buf_size(HEAD_BYTES)
        .keep_alive_interval(ALIVE_EVERY)
        .keep_alive_timeout(ALIVE_WITHIN);
    builder
}

/// The file descriptors of this process.
#[derive(Debug, Clone, Copy)]
pub struct Descriptors {
    /// For clients.
    pub connections: usize,
    /// For deliveries.
    pub deliveries: usize,
}

impl Descriptors {
    /// Descriptors for the database, the log and others.
    const OTHERS: usize = 64;

    /// Raises this process's limit as far as allowed, and divides it, with at most
    /// `connections` for clients.
    pub fn divide(connections: usize) -> Self {
        use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
        let limit = getrlimit(Resource::Nofile);
        let raised = Rlimit {
            current: limit.maximum,
            ..limit
        };
        let current = match setrlimit(Resource::Nofile, raised) {
            Ok(()) => limit.maximum,
            Err(error) => {
                tracing::warn!(%error, "could not raise the limit of open files");
                limit.current
            }
        };
        let all = current.map_or(usize::MAX, |all| usize::try_from(all).unwrap_or(usize::MAX));
        let divided = Self::of(all, connections);
        if divided.connections < connections {
            tracing::warn!(
                connections = divided.connections,
                "the limit of open files is {all}, so fewer connections than configured are possible"
            );
        }
        divided
    }

    fn of(all: usize, connections: usize) -> Self {
        let deliveries = (all / 4).clamp(16, MAX_AT_ONCE);
        let rest = all.saturating_sub(deliveries + Self::OTHERS);
        Self {
            connections: rest.clamp(16, connections),
            deliveries,
        }
    }
}

/// The answer when there are too many requests, and none waits for its client.
fn overloaded() -> Response {
    let status = StatusCode::SERVICE_UNAVAILABLE;
    (
        status,
        [(header::RETRY_AFTER, "1")],
        "too many requests are in progress; try again",
    )
        .into_response()
}

#[cfg(test)]
mod tests {
    use super::*;
    use thrum_schema::UnixMs;
    use thrum_schema::world::ManualWorld;

    #[test]
    fn descriptors_for_deliveries_and_the_database_are_kept_free() {
        for all in [256, 1_024, 4_096, 1_048_576] {
            let divided = Descriptors::of(all, 10_000);
            let used = divided.connections + divided.deliveries + Descriptors::OTHERS;
            assert!(used <= all, "{all}: {divided:?}");
            assert!(divided.connections >= all / 2 || divided.connections == 10_000);
        }
    }

    #[test]
    fn only_a_proxy_names_the_trace_and_its_own_id_goes_first() {
        let world = ManualWorld::new(UnixMs(0x6789_1233 * 1000), 7);
        let own = "1-67891233-00000000000000000000000a";
        let root = "1-67891233-00000000000000000000000b";
        let traced = |header: &str, is_proxy| {
            let request = Request::builder().header("x-amzn-trace-id", header);
            let request = request.body(Body::empty()).unwrap();
            trace_of(&request, is_proxy, &*world).id().to_string()
        };
        let both = format!("Self={own};Root={root}");
        assert_eq!(traced(&both, true), own);
        assert_eq!(traced(&format!("Root={root}"), true), root);
        assert_ne!(traced(&format!("Root={root}"), false), root);
        let old = "Root=1-00000001-00000000000000000000000b";
        assert!(traced(old, true).starts_with("1-67891233-"));
    }
}
