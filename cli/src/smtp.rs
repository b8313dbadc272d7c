//! Receives pings by e-mail: an SMTP server that accepts mail for monitors and for nothing else.
//! RFC 5321, with PIPELINING, 8BITMIME, SMTPUTF8, SIZE and ENHANCEDSTATUSCODES.

use smtp_proto::request::receiver::{DataReceiver, RequestReceiver};
use smtp_proto::{Error, Request};
use std::borrow::Cow;
use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use thrum_ingest::{App, Mail, RecordError};
use thrum_schema::MonitorId;
use thrum_schema::world::SystemWorld;
use thrum_store::trace::{self, Trace};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;

/// Most connections at a time, and from one address; more are asked to come back.
const CONNECTIONS: usize = 50;
const FROM_ONE_ADDRESS: usize = 10;
/// How long a client may be silent. RFC 5321 asks for five minutes, for people; only programs send
/// here.
const SILENCE: Duration = Duration::from_secs(30);
/// How long a connection may last.
const SESSION: Duration = Duration::from_secs(180);
/// Longest message, in bytes.
const MAX_MESSAGE: usize = 1_000_000;
/// Most recipients of a message.
const MAX_RECIPIENTS: usize = 20;
/// After so many refused commands, the connection is closed.
const MAX_ERRORS: u32 = 10;

/// Accepts mail until `stopped`. With a `domain`, only for addresses in it.
pub async fn serve(
    listener: TcpListener,
    app: App,
    domain: Option<String>,
    mut stopped: watch::Receiver<bool>,
) {
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    let peers = Peers::default();
    let domain: Option<Arc<str>> = domain.map(Into::into);
    loop {
        let accepted = tokio::select! {
            () = is_stopped(&mut stopped) => return,
            accepted = listener.accept() => accepted,
        };
        let (mut stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "can't accept an SMTP connection");
                tokio::time::sleep(Duration::from_secs(1)).await;
                continue;
            }
        };
        let peer = peer.ip().to_canonical();
        let permit = Arc::clone(&room).try_acquire_owned().ok();
        let Some(permit) = permit.zip(peers.enter(peer)) else {
            let _ = stream.try_write(b"421 4.3.2 too many connections; try again later\r\n");
            let _ = stream.shutdown().await;
            continue;
        };
        let (app, domain) = (app.clone(), domain.clone());
        let mut stopped = stopped.clone();
        tokio::spawn(async move {
            let session = Session {
                app,
                domain,
                peer,
                from: None,
                to: Vec::new(),
                errors: 0,
            };
            let talk = timeout(SESSION, session.talk(stream, &mut stopped));
            if let Ok(Err(error)) = talk.await {
                tracing::debug!(%error, "an SMTP connection failed");
            }
            drop(permit);
        });
    }
}

/// How many connections each address has.
#[derive(Clone, Default)]
struct Peers(Arc<Mutex<HashMap<IpAddr, usize>>>);

/// A connection that counts.
struct Entered(Peers, IpAddr);

impl Peers {
    /// Counts a connection; `None` if the address has too many.
    fn enter(&self, peer: IpAddr) -> Option<Entered> {
        let mut peers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = peers.entry(peer).or_default();
        if *count >= FROM_ONE_ADDRESS {
            return None;
        }
        *count += 1;
        drop(peers);
        Some(Entered(self.clone(), peer))
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        let mut peers = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = peers.get_mut(&self.1) {
            *count -= 1;
            if *count == 0 {
                peers.remove(&self.1);
            }
        }
    }
}

/// Waits until Thrum stops.
async fn is_stopped(stopped: &mut watch::Receiver<bool>) {
    let _ = stopped.wait_for(|stopped| *stopped).await;
}

/// A connection.
struct Session {
    app: App,
    domain: Option<Arc<str>>,
    peer: IpAddr,
    /// The sender of the current message.
    from: Option<String>,
    /// Its recipients.
    to: Vec<MonitorId>,
    errors: u32,
}

/// A message that is arriving.
struct Data {
    receiver: DataReceiver,
    message: Vec<u8>,
    /// Only the rest is waited for: a client reads the reply only after it has sent all.
    is_too_long: bool,
}

impl Data {
    fn new() -> Self {
        let mut receiver = DataReceiver::new();
        let mut message = Vec::new();
        // A dot may be on the first line, too.
        receiver.ingest(&mut b"\r\n".iter(), &mut message);
        Self {
            receiver,
            message: Vec::new(),
            is_too_long: false,
        }
    }

    /// Takes what has arrived. Whether the message is complete.
    fn ingest(&mut self, bytes: &mut std::slice::Iter<'_, u8>) -> bool {
        let is_whole = self.receiver.ingest(bytes, &mut self.message);
        self.is_too_long |= self.message.len() > MAX_MESSAGE;
        if self.is_too_long {
            self.message.clear();
        }
        is_whole
    }
}

/// What to do after a reply.
enum Then {
    Go,
    /// The message follows.
    Data,
    Close,
}

type Reply = (Cow<'static, str>, Then);

fn say(text: impl Into<Cow<'static, str>>) -> Reply {
    (text.into(), Then::Go)
}

impl Session {
    async fn talk(
        mut self,
        mut stream: TcpStream,
        stopped: &mut watch::Receiver<bool>,
    ) -> io::Result<()> {
        stream.write_all(b"220 Thrum ESMTP\r\n").await?;
        let mut commands = RequestReceiver::default();
        let mut data: Option<Data> = None;
        let mut buffer = vec![0; 8_192];
        loop {
            let read = tokio::select! {
                // A message in transit may still arrive.
                () = is_stopped(stopped), if data.is_none() => {
                    return stream.write_all(b"421 4.3.2 Thrum is stopping\r\n").await;
                }
                read = timeout(SILENCE, stream.read(&mut buffer)) => read,
            };
            let Ok(read) = read else {
                return stream.write_all(b"421 4.4.2 too slow\r\n").await;
            };
            let read = read?;
            if read == 0 {
                return Ok(());
            }
            let mut bytes = buffer[..read].iter();
            while !bytes.as_slice().is_empty() {
                if let Some(arriving) = &mut data {
                    if arriving.ingest(&mut bytes) {
                        let reply = match arriving.is_too_long {
                            true => "552 5.3.4 the message is too long".to_owned(),
                            false => self.receive(&arriving.message).await,
                        };
                        self.reset();
                        data = None;
                        stream.write_all(format!("{reply}\r\n").as_bytes()).await?;
                    }
                    continue;
                }
                let (reply, then) = match commands.ingest(&mut bytes) {
                    Ok(request) => self.obey(request).await,
                    Err(Error::NeedsMoreData { .. }) => continue,
                    Err(error) => self.refuse(&error),
                };
                stream.write_all(format!("{reply}\r\n").as_bytes()).await?;
                match then {
                    Then::Go => {}
                    Then::Data => data = Some(Data::new()),
                    Then::Close => return stream.shutdown().await,
                }
            }
        }
    }

    async fn obey(&mut self, request: Request<Cow<'_, str>>) -> Reply {
        match request {
            Request::Ehlo { .. } => {
                self.reset();
                say(format!(
                    "250-Thrum\r\n250-PIPELINING\r\n250-SIZE {MAX_MESSAGE}\r\n250-8BITMIME\r\n\
                     250-SMTPUTF8\r\n250 ENHANCEDSTATUSCODES"
                ))
            }
            Request::Helo { .. } => {
                self.reset();
                say("250 Thrum")
            }
            Request::Mail { from } if from.size > MAX_MESSAGE => {
                self.fails("552 5.3.4 the message is too long")
            }
            Request::Mail { from } => {
                self.reset();
                self.from = Some(from.address.into_owned());
                say("250 2.1.0 OK")
            }
            Request::Rcpt { to } => self.add(&to.address).await,
            Request::Data if self.to.is_empty() => self.fails("503 5.5.1 MAIL and RCPT come first"),
            Request::Data => ("354 end with a line that has only a dot".into(), Then::Data),
            Request::Rset => {
                self.reset();
                say("250 2.0.0 OK")
            }
            Request::Noop { .. } => say("250 2.0.0 OK"),
            Request::Vrfy { .. } => {
                say("252 2.1.5 can't verify the address; send the message to find out")
            }
            Request::Quit => ("221 2.0.0 bye".into(), Then::Close),
            _ => self.fails("502 5.5.1 not implemented"),
        }
    }

    /// Adds a recipient: only monitors have mailboxes here.
    async fn add(&mut self, address: &str) -> Reply {
        if self.from.is_none() {
            return self.fails("503 5.5.1 MAIL comes first");
        }
        if self.to.len() >= MAX_RECIPIENTS {
            return say("452 4.5.3 too many recipients");
        }
        let is_here = self.domain.as_deref().is_none_or(|domain| {
            let own = address.rsplit_once('@');
            own.is_some_and(|(_, own)| own.eq_ignore_ascii_case(domain))
        });
        let found = match is_here {
            true => self.app.mailbox(address).await,
            false => Ok(None),
        };
        match found {
            Ok(Some(monitor)) => {
                if !self.to.contains(&monitor) {
                    self.to.push(monitor);
                }
                say("250 2.1.5 OK")
            }
            Ok(None) => self.fails("550 5.1.1 no monitor has this address"),
            Err(RecordError::Store(_)) => say("451 4.3.0 Thrum is unavailable; try again"),
            Err(error) => self.fails(format!("550 5.1.1 {error}")),
        }
    }

    /// Records the message, within a trace of its own.
    async fn receive(&mut self, raw: &[u8]) -> String {
        trace::within(Trace::start(&SystemWorld), self.record(raw)).await
    }

    /// Records the message for each recipient. If that fails for one, the client sends it again for
    /// all: a repeated ping does no harm.
    async fn record(&mut self, raw: &[u8]) -> String {
        let from = self.from.take().unwrap_or_default();
        let to = std::mem::take(&mut self.to);
        let mail = Mail {
            from: &from,
            peer: Some(self.peer),
            raw,
        };
        let mut refused = None;
        for monitor in to {
            match self.app.receive(monitor, mail).await {
                Ok(()) => {}
                Err(RecordError::Store(error)) => {
                    tracing::error!(%error, "an e-mail was not recorded");
                    return "451 4.3.0 Thrum is unavailable; try again".to_owned();
                }
                Err(error @ RecordError::TooMany(_)) => {
                    refused = Some(format!("451 4.7.1 {error}; try again later"));
                }
                // The monitor was deleted after RCPT.
                Err(error) => refused = Some(format!("550 5.1.1 {error}")),
            }
        }
        refused.unwrap_or_else(|| "250 2.0.0 recorded".to_owned())
    }

    fn reset(&mut self) {
        self.from = None;
        self.to.clear();
    }

    fn refuse(&mut self, error: &Error) -> Reply {
        match error {
            Error::InvalidSenderAddress => self.fails("501 5.1.7 the sender's address is invalid"),
            Error::InvalidRecipientAddress => {
                self.fails("501 5.1.3 the recipient's address is invalid")
            }
            Error::ResponseTooLong => self.fails("500 5.5.2 the line is too long"),
            Error::UnknownCommand => self.fails("500 5.5.1 unknown command"),
            Error::UnsupportedParameter { .. } => self.fails("555 5.5.4 unsupported parameter"),
            _ => self.fails("501 5.5.4 invalid syntax"),
        }
    }

    /// Refuses a command; after too many, the connection.
    fn fails(&mut self, reply: impl Into<Cow<'static, str>>) -> Reply {
        self.errors += 1;
        match self.errors {
            MAX_ERRORS.. => ("421 4.7.0 too many errors".into(), Then::Close),
            _ => say(reply),
        }
    }
}
