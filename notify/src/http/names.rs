//! Host names of receivers: looked up with a deadline, a few at a time for each project, and kept for
//! a while. So neither a slow name server nor a dead resolver holds up anything but the receivers that
//! need it.

use crate::error::SendError;
use crate::limiter::{Semaphores, acquire};
use futures::future::BoxFuture;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use std::collections::HashMap;
use std::fmt::Debug;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use thrum_schema::ProjectId;
use thrum_schema::mutant::{self, Mutant};
use thrum_schema::network::Networks;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};

/// How long a delivery waits for a lookup.
const TIMEOUT: Duration = Duration::from_secs(5);
/// How long an answer is used without a new lookup.
const FRESH: Duration = Duration::from_secs(30);
/// How long an answer is used if a new lookup fails.
const STALE: Duration = Duration::from_secs(3_600);
/// Most lookups at a time, of a project and of all. One may go on long after its delivery gave up.
const PER_PROJECT: usize = 4;
const AT_ONCE: usize = 64;
/// Most names to keep.
const MAX_KEPT: usize = 10_000;

/// Looks up host names.
pub trait Lookup: Send + Sync + Debug {
    /// The addresses of `host`. May take as long as it likes.
    fn lookup(&self, host: String) -> BoxFuture<'static, io::Result<Vec<IpAddr>>>;
}

/// The system's resolver.
#[derive(Debug)]
pub struct System;

impl Lookup for System {
    fn lookup(&self, host: String) -> BoxFuture<'static, io::Result<Vec<IpAddr>>> {
        Box::pin(async move {
            let found = tokio::net::lookup_host((host, 0)).await?;
            Ok(found.map(|address| address.ip()).collect())
        })
    }
}

/// The host names of receivers. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Names(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    lookup: Arc<dyn Lookup>,
    networks: Networks,
    kept: Mutex<HashMap<String, Kept>>,
    of_project: Semaphores<ProjectId>,
    of_all: Arc<Semaphore>,
}

#[derive(Debug, Clone)]
struct Kept {
    at: Instant,
    addresses: Vec<IpAddr>,
}

impl Names {
    /// Names that `lookup` resolves. One that leads only to private addresses outside
    /// `networks` is refused.
    pub fn new(lookup: Arc<dyn Lookup>, networks: Networks) -> Self {
        Self(Arc::new(Inner {
            lookup,
            networks,
            kept: Mutex::default(),
            of_project: Semaphores::new(PER_PROJECT),
            of_all: Arc::new(Semaphore::new(AT_ONCE)),
        }))
    }

    /// Makes sure that the addresses of `host` are known.
    ///
    /// # Errors
    /// They can't be found in time, or all are private.
    pub async fn find(&self, project: ProjectId, host: &str) -> Result<(), SendError> {
        let kept = self.kept().get(host).cloned();
        let is_within = |age| {
            kept.as_ref()
                .is_some_and(|kept: &Kept| kept.at.elapsed() < age)
        };
        if is_within(FRESH) {
            return Ok(());
        }
        let asked = self.ask(project, host);
        let limit = if mutant::is(Mutant::LookupForever) {
            Duration::from_secs(3_600)
        } else {
            TIMEOUT
        };
        match timeout(limit, asked).await {
            Ok(Ok(addresses)) => self.keep(host, addresses),
            Ok(Err(_)) | Err(_) if is_within(STALE) => Ok(()),
            Ok(Err(error)) => Err(SendError::passing(format!(
                "the receiver's host name could not be looked up: {error}"
            ))),
            Err(_) => Err(SendError::passing(format!(
                "the receiver's host name could not be looked up within {} s",
                TIMEOUT.as_secs()
            ))),
        }
    }

    /// Asks the resolver. The lookup keeps its place until it ends, even if nobody waits for it any
    /// more: the system's resolver holds a thread until then.
    async fn ask(&self, project: ProjectId, host: &str) -> io::Result<Vec<IpAddr>> {
        let of_project = acquire(self.0.of_project.of(project)).await;
        let of_all = acquire(Arc::clone(&self.0.of_all)).await;
        let lookup = self.0.lookup.lookup(host.to_owned());
        let asked = tokio::spawn(async move {
            let _places = (of_project, of_all);
            lookup.await
        });
        asked.await.map_err(io::Error::other)?
    }

    fn keep(&self, host: &str, mut addresses: Vec<IpAddr>) -> Result<(), SendError> {
        let found = addresses.len();
        addresses.retain(|address| self.0.networks.admit(*address));
        if addresses.is_empty() && found > 0 {
            // Retried, because a broken resolver may be the cause.
            return Err(SendError::passing(
                "the URL's host name resolves to a private address; the operator can allow its network with `thrum serve --allow-networks`",
            ));
        }
        let mut kept = self.kept();
        if kept.len() >= MAX_KEPT {
            kept.retain(|_, kept| kept.at.elapsed() < FRESH);
        }
        let at = Instant::now();
        kept.insert(host.to_owned(), Kept { at, addresses });
        Ok(())
    }

    fn kept(&self) -> MutexGuard<'_, HashMap<String, Kept>> {
        self.0.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// For the HTTP client: only what [`Names::find`] has found, so that no name leads elsewhere.
impl Resolve for Names {
    fn resolve(&self, name: Name) -> Resolving {
        let kept = self.kept().get(name.as_str()).cloned();
        Box::pin(async move {
            let kept = kept.ok_or("the host name was not looked up")?;
            let addresses = kept.addresses.into_iter().map(|ip| SocketAddr::new(ip, 0));
            Ok(Box::new(addresses) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    /// A resolver that never answers for names that begin with `slow`, and fails for all others
    /// once `dead`.
    #[derive(Debug, Default)]
    struct Resolver {
        dead: std::sync::atomic::AtomicBool,
        address: Option<IpAddr>,
    }

    impl Lookup for Resolver {
        fn lookup(&self, host: String) -> BoxFuture<'static, io::Result<Vec<IpAddr>>> {
            let dead = self.dead.load(std::sync::atomic::Ordering::Relaxed);
            let address = self.address.unwrap_or([1, 1, 1, 1].into());
            Box::pin(async move {
                if host.starts_with("slow") {
                    std::future::pending::<()>().await;
                }
                if dead {
                    Err(io::Error::other("no answer"))
                } else {
                    Ok(vec![address])
                }
            })
        }
    }

    fn project(n: u128) -> ProjectId {
        ProjectId(Uuid::from_u128(n))
    }

    #[tokio::test(start_paused = true)]
    async fn slow_names_of_one_project_delay_no_other() {
        let names = Names::new(Arc::new(Resolver::default()), Networks::default());
        let slow = (0..40).map(|n| {
            let names = names.clone();
            tokio::spawn(async move { names.find(project(1), &format!("slow-{n}")).await })
        });
        let slow: Vec<_> = slow.collect();
        tokio::task::yield_now().await;
        let started = Instant::now();
        names.find(project(2), "example.org").await.unwrap();
        assert!(started.elapsed() < Duration::from_millis(10));
        for one in slow {
            let error = one.await.unwrap().unwrap_err();
            assert!(
                !error.permanent && error.reason.contains("within 5 s"),
                "{error}"
            );
        }
        assert_eq!(started.elapsed().as_secs(), 5);
    }

    #[tokio::test(start_paused = true)]
    async fn a_dead_resolver_does_not_stop_deliveries_to_known_hosts() {
        let resolver = Arc::new(Resolver::default());
        let names = Names::new(resolver.clone(), Networks::default());
        names.find(project(1), "example.org").await.unwrap();
        resolver
            .dead
            .store(true, std::sync::atomic::Ordering::Relaxed);
        tokio::time::advance(FRESH * 2).await;
        names.find(project(1), "example.org").await.unwrap();
        assert!(names.find(project(1), "example.com").await.is_err());
        tokio::time::advance(STALE).await;
        assert!(names.find(project(1), "example.org").await.is_err());
    }

    #[tokio::test]
    async fn a_name_that_resolves_to_a_private_address_is_refused() {
        let private = || Resolver {
            address: Some([10, 0, 0, 1].into()),
            ..Resolver::default()
        };
        let names = Names::new(Arc::new(private()), Networks::default());
        let error = names.find(project(1), "example.org").await.unwrap_err();
        assert!(error.reason.contains("private"), "{error}");
        assert!(names.resolve("example.org".parse().unwrap()).await.is_err());
        let names = Names::new(Arc::new(private()), Networks::all());
        names.find(project(1), "example.org").await.unwrap();
        assert!(names.resolve("example.org".parse().unwrap()).await.is_ok());
    }
}
