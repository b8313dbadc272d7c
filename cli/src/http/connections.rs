//! The open connections: how many there may be, how long each may wait for its client, and which
//! to close when there are too many.
//!
//! A connection that waits for its client costs the client nothing, so it is what an attack holds.
//! When there are too many, those that have waited longest are closed, of the client that has the
//! most. A new connection is refused only if none waits. So however many connections are open, a
//! heartbeat over a new one is answered.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// Most requests in progress, of all connections. One HTTP/2 connection can have many.
pub const MAX_REQUESTS: usize = 2_048;
/// How long a connection may wait for the rest of a request's head, or for its first request.
const HEAD: Duration = Duration::from_secs(10);
/// How long a connection may be idle between two requests. Long enough that a client that pings
/// every minute or two keeps its connection.
const IDLE: Duration = Duration::from_secs(300);
/// How long a client may take to accept a part of a response.
const WRITE: Duration = Duration::from_secs(30);
/// A client may have this share of all connections. Clients behind a trusted proxy may have all.
const PEER_SHARE: usize = 4;
/// The share of the connections, or of the requests, that is freed at once when there are too many,
/// so that a flood does not search them for each new one.
const FREED_AT_ONCE: usize = 64;

/// The open connections.
#[derive(Debug)]
pub struct Connections {
    most: usize,
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    next: u64,
    connections: HashMap<u64, Arc<Connection>>,
    by_client: HashMap<IpAddr, BTreeSet<u64>>,
    /// The requests in progress on `connections`.
    requests: usize,
}

/// What there are too many of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum TooMany {
    Connections,
    Requests,
}

/// An open connection.
#[derive(Debug)]
pub struct Connection {
    number: u64,
    client: IpAddr,
    progress: Mutex<Progress>,
    closing: Notify,
}

/// What a connection is doing.
#[derive(Debug)]
struct Progress {
    /// The requests that are not answered completely.
    requests: BTreeMap<u64, Stage>,
    /// The number of the next request.
    next: u64,
    /// Whether a part of a request's head has arrived.
    in_head: bool,
    /// Whether requests share the connection. What arrives between them need not be a head then.
    is_shared: bool,
    /// Since when there has been no request.
    since: Instant,
    /// Since when the client has accepted nothing.
    blocked: Option<Instant>,
    closing: bool,
}

/// What a request waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// The client, since then: for the rest of the body.
    Sending(Instant),
    /// Thrum.
    Working,
    /// The client, since then: it must accept the response.
    Accepting(Instant),
    /// An event: the response is a stream of events.
    Streaming,
}

impl Progress {
    /// Since when the connection has waited for its client, if it does and no request on it is
    /// being worked on.
    fn waiting(&self) -> Option<Instant> {
        if self.requests.is_empty() {
            return Some(self.since);
        }
        let mut oldest = self.blocked;
        for stage in self.requests.values() {
            match stage {
                Stage::Working => return None,
                Stage::Sending(since) | Stage::Accepting(since) => {
                    oldest = Some(oldest.map_or(*since, |oldest| oldest.min(*since)));
                }
                Stage::Streaming => {}
            }
        }
        oldest
    }

    /// Whether the connection has waited too long. How long a body may take is the router's
    /// decision.
    fn is_overdue(&self, now: Instant) -> bool {
        let longer = |since: Instant, most| now.saturating_duration_since(since) > most;
        let most = if self.in_head { HEAD } else { IDLE };
        (self.requests.is_empty() && longer(self.since, most))
            || self.blocked.is_some_and(|since| longer(since, WRITE))
            || self
                .requests
                .values()
                .any(|stage| matches!(stage, Stage::Accepting(since) if longer(*since, WRITE)))
    }
}

impl Connections {
    /// At most `most` connections.
    pub fn new(most: usize) -> Arc<Self> {
        Arc::new(Self {
            most,
            open: Mutex::default(),
        })
    }

    /// Adds a connection of `peer`. If there are too many, others are closed for it; `None` if
    /// there are none to close.
    pub fn open(self: &Arc<Self>, peer: IpAddr, is_proxy: bool) -> Option<Guard> {
        let client = network_of(peer);
        let mut open = self.lock();
        let held = open.by_client.get(&client).map_or(0, BTreeSet::len);
        let most_of_client = if is_proxy {
            self.most
        } else {
            (self.most / PEER_SHARE).max(1)
        };
        if held >= most_of_client
            && !open.close_waiting_of(client, most_of_client, TooMany::Connections)
        {
            return None;
        }
        if open.connections.len() >= self.most && !open.close_some(self.most, TooMany::Connections)
        {
            return None;
        }
        let number = open.next;
        open.next += 1;
        let connection = Arc::new(Connection {
            number,
            client,
            progress: Mutex::new(Progress {
                requests: BTreeMap::new(),
                next: 0,
                in_head: true,
                is_shared: false,
                since: Instant::now(),
                blocked: None,
                closing: false,
            }),
            closing: Notify::new(),
        });
        open.connections.insert(number, Arc::clone(&connection));
        open.by_client.entry(client).or_default().insert(number);
        Some(Guard {
            connections: Arc::clone(self),
            connection,
        })
    }

    /// Closes the connections that have waited too long for their clients.
    pub fn close_overdue(&self, now: Instant) {
        let overdue: Vec<Arc<Connection>> = {
            let open = self.lock();
            let all = open.connections.values();
            all.filter(|connection| connection.lock().is_overdue(now))
                .cloned()
                .collect()
        };
        for connection in overdue {
            connection.close();
        }
    }

    /// How many there are.
    #[cfg(test)]
    pub fn count(&self) -> usize {
        self.lock().connections.len()
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Open {
    /// Closes connections that wait, of the client that has the most connections, until a share of
    /// `most` is free again. False if none waits.
    fn close_some(&mut self, most: usize, too_many: TooMany) -> bool {
        let mut clients: Vec<(usize, IpAddr)> = self
            .by_client
            .iter()
            .map(|(client, numbers)| (numbers.len(), *client))
            .collect();
        clients.sort_unstable_by(|a, b| b.cmp(a));
        clients
            .into_iter()
            .any(|(_, client)| self.close_waiting_of(client, most, too_many))
    }

    /// Closes those connections of `client` that have waited longest for it, and no more than it
    /// takes to free a share of `most`: one that came just now must not go with them. False if none
    /// waits.
    fn close_waiting_of(&mut self, client: IpAddr, most: usize, too_many: TooMany) -> bool {
        let numbers = self.by_client.get(&client).into_iter().flatten();
        let mut waiting: Vec<(Instant, u64, usize)> = numbers
            .filter_map(|number| {
                let progress = self.connections.get(number)?.lock();
                let frees = match too_many {
                    TooMany::Connections => 1,
                    TooMany::Requests => progress.requests.len(),
                };
                (frees > 0).then_some((progress.waiting()?, *number, frees))
            })
            .collect();
        waiting.sort_unstable();
        let wanted = (most / FREED_AT_ONCE).max(1);
        let mut freed = 0;
        for (_, number, frees) in waiting {
            if freed >= wanted {
                break;
            }
            freed += frees;
            self.remove(number);
        }
        freed > 0
    }

    /// Closes a connection. It and its requests no longer count, although its socket may be open a
    /// moment longer.
    fn remove(&mut self, number: u64) {
        let Some(connection) = self.connections.remove(&number) else {
            return;
        };
        if let Some(numbers) = self.by_client.get_mut(&connection.client) {
            numbers.remove(&number);
            if numbers.is_empty() {
                self.by_client.remove(&connection.client);
            }
        }
        self.requests -= std::mem::take(&mut connection.lock().requests).len();
        connection.close();
    }
}

impl Connection {
    fn lock(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn close(&self) {
        self.lock().closing = true;
        self.closing.notify_one();
    }

    /// Waits until the connection must be closed.
    pub async fn must_close(&self) {
        loop {
            if self.lock().closing {
                return;
            }
            self.closing.notified().await;
        }
    }

    /// Bytes have arrived.
    pub fn read_some(&self) {
        let mut progress = self.lock();
        if progress.requests.is_empty() && !progress.in_head && !progress.is_shared {
            progress.in_head = true;
            progress.since = Instant::now();
        }
    }

    /// Whether the client accepts what is written.
    pub fn accepts(&self, accepted: bool) {
        let mut progress = self.lock();
        match (accepted, progress.blocked) {
            (true, _) => progress.blocked = None,
            (false, None) => progress.blocked = Some(Instant::now()),
            (false, Some(_)) => {}
        }
    }
}

/// An open connection. It no longer counts once this is dropped.
#[derive(Debug)]
pub struct Guard {
    connections: Arc<Connections>,
    /// The connection.
    pub connection: Arc<Connection>,
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.connections.lock().remove(self.connection.number);
    }
}

/// A request in progress, until this is dropped.
#[derive(Debug)]
pub struct Request {
    connections: Arc<Connections>,
    connection: Arc<Connection>,
    number: u64,
}

impl Request {
    /// A request on `connection`; `is_shared` if others may share it. If there are too many, other
    /// connections are closed; `None` if there are none to close.
    pub fn new(
        connections: &Arc<Connections>,
        connection: &Arc<Connection>,
        is_shared: bool,
    ) -> Option<Self> {
        let mut open = connections.lock();
        if !open.connections.contains_key(&connection.number) {
            return None;
        }
        open.requests += 1;
        let number = {
            let mut progress = connection.lock();
            let number = progress.next;
            progress.next += 1;
            progress.requests.insert(number, Stage::Working);
            progress.in_head = false;
            progress.is_shared = is_shared;
            number
        };
        let has_room =
            open.requests <= MAX_REQUESTS || open.close_some(MAX_REQUESTS, TooMany::Requests);
        drop(open);
        let request = Self {
            connections: Arc::clone(connections),
            connection: Arc::clone(connection),
            number,
        };
        has_room.then_some(request)
    }

    /// Notes what the request waits for now.
    pub fn now(&self, stage: Stage) {
        let mut progress = self.connection.lock();
        if let Some(noted) = progress.requests.get_mut(&self.number) {
            *noted = stage;
        }
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        let mut open = self.connections.lock();
        let mut progress = self.connection.lock();
        progress.since = Instant::now();
        // Those of a connection that was closed no longer count.
        if progress.requests.remove(&self.number).is_some() {
            open.requests -= 1;
        }
    }
}

/// What counts as one client: an IPv4 address, or an IPv6 network of 64 bits, which is the least
/// that a network operator assigns.
fn network_of(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V6(address) => {
            let network = address.to_bits() & !u128::from(u64::MAX);
            Ipv6Addr::from_bits(network).into()
        }
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(last: u8) -> IpAddr {
        [192, 0, 2, last].into()
    }

    fn is_closing(guard: &Guard) -> bool {
        guard.connection.lock().closing
    }

    #[test]
    fn the_client_with_the_most_connections_loses_the_one_that_waited_longest() {
        let connections = Connections::new(8);
        let quiet = connections.open(peer(1), false).unwrap();
        let loud: Vec<Guard> = (0..7)
            .map(|_| connections.open(peer(2), true).unwrap())
            .collect();
        let new = connections.open(peer(3), false).unwrap();
        assert!(is_closing(&loud[0]));
        assert!(loud[1..].iter().all(|guard| !is_closing(guard)));
        assert!(!is_closing(&quiet) && !is_closing(&new));
    }

    #[test]
    fn one_client_has_at_most_its_share() {
        let connections = Connections::new(40);
        let held: Vec<Guard> = (0..100)
            .map(|_| connections.open(peer(1), false).unwrap())
            .collect();
        assert_eq!(connections.count(), 10);
        assert_eq!(held.iter().filter(|guard| is_closing(guard)).count(), 90);
    }

    #[test]
    fn what_is_being_answered_is_never_closed_for_another() {
        let connections = Connections::new(4);
        let held: Vec<Guard> = (0..4)
            .map(|_| connections.open(peer(1), true).unwrap())
            .collect();
        let requests: Vec<Request> = held
            .iter()
            .map(|guard| Request::new(&connections, &guard.connection, false).unwrap())
            .collect();
        assert!(connections.open(peer(2), false).is_none());
        // One that waits for the rest of a body is closed.
        requests[2].now(Stage::Sending(Instant::now()));
        let new = connections.open(peer(2), false);
        assert!(new.is_some() && is_closing(&held[2]));
    }

    #[test]
    fn a_request_that_came_just_now_is_not_closed_for_others() {
        let connections = Connections::new(1_000);
        let mut held = Vec::new();
        let mut flood = || {
            let shared = connections.open(peer(1), true).unwrap();
            for _ in 0..100 {
                let request = Request::new(&connections, &shared.connection, true).unwrap();
                request.now(Stage::Sending(Instant::now()));
                held.push(request);
            }
            shared
        };
        let first: Vec<Guard> = (0..20).map(|_| flood()).collect();
        let heartbeat = connections.open(peer(1), true).unwrap();
        let request = Request::new(&connections, &heartbeat.connection, false).unwrap();
        request.now(Stage::Sending(Instant::now()));
        let later: Vec<Guard> = (0..10).map(|_| flood()).collect();
        assert!(!is_closing(&heartbeat));
        assert!(is_closing(&first[0]) && !is_closing(&later[9]));
        drop((held, request, first, later, heartbeat));
        assert_eq!(connections.lock().requests, 0);
    }

    #[test]
    fn a_connection_is_overdue_by_what_it_waits_for() {
        let connections = Connections::new(4);
        let fresh = connections.open(peer(1), true).unwrap();
        let used = connections.open(peer(1), true).unwrap();
        drop(Request::new(&connections, &used.connection, false));
        let halfway = connections.open(peer(1), true).unwrap();
        drop(Request::new(&connections, &halfway.connection, false));
        halfway.connection.read_some();
        let busy = connections.open(peer(1), true).unwrap();
        let request = Request::new(&connections, &busy.connection, false).unwrap();
        let closed = |after: Duration| {
            connections.close_overdue(Instant::now() + after);
            [&fresh, &used, &halfway, &busy].map(is_closing)
        };
        assert_eq!(closed(HEAD / 2), [false; 4]);
        assert_eq!(closed(HEAD * 2), [true, false, true, false]);
        assert_eq!(closed(IDLE * 2), [true, true, true, false]);
        request.now(Stage::Streaming);
        assert_eq!(closed(IDLE * 2), [true, true, true, false]);
        request.now(Stage::Accepting(Instant::now()));
        assert_eq!(closed(WRITE * 2), [true; 4]);
        drop(request);
    }

    #[test]
    fn an_ipv6_network_is_one_client() {
        let address = |text: &str| text.parse::<IpAddr>().unwrap();
        assert_eq!(
            network_of(address("2001:db8:1:2::1")),
            network_of(address("2001:db8:1:2:ffff::9"))
        );
        assert_ne!(
            network_of(address("2001:db8:1:2::1")),
            network_of(address("2001:db8:1:3::1"))
        );
        assert_eq!(network_of(address("::ffff:192.0.2.1")), peer(1));
    }
}
