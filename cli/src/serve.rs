//! `thrum serve`: runs the pipeline on one machine.

use crate::container;
use crate::fetch::Fetcher;
use crate::http::{self, Descriptors};
use crate::pipeline::{Options, Pipeline};
use crate::smtp;
use anyhow::{Context, bail};
use axum::Router;
use clap::builder::FalseyValueParser;
use clap::{Args, ValueEnum};
use secrecy::SecretString;
use std::fs::OpenOptions;
use std::io::{ErrorKind, IsTerminal, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use thrum_evaluate::HttpSelfPing;
use thrum_ingest::{
    AdminKey, App, ConfirmMail, PINGS_PER_MINUTE, Proxies, check_admin_key, check_metrics_key,
    check_site_url,
};
use thrum_notify::Confirm;
use thrum_schema::channel::check_topic_arn;
use thrum_schema::id::ProjectId;
use thrum_schema::key::{self, API_KEY_LEN, ApiKey, PING_KEY_LEN, Scope};
use thrum_schema::network::Networks;
use thrum_schema::world::SystemWorld;
use thrum_schema::zone::Data;
use thrum_schema::{Plans, Project, World};
use thrum_store::Store;
use thrum_store::sqlite::{self, Durability, SqliteTable};
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// How long a shutdown waits for open connections.
const GRACE: Duration = Duration::from_secs(10);
/// Name of the file with the keys of the first project.
const FIRST_KEYS: &str = "first-keys";
/// Name of the file with the secret that signs the dashboard's cookies.
const SESSION_SECRET: &str = "session-secret";

const EXAMPLES: &str = "\
Examples:
  thrum serve                        listen on 127.0.0.1:8080, keep data in ./thrum-data
  thrum serve --memory               try it out; all data is lost when it stops
  thrum serve --smtp-url smtp://localhost:25 --mail-from 'Thrum <thrum@example.org>'
  thrum serve --table thrum-production-Table-1X2Y --listen 0.0.0.0:8080
  thrum serve --listen 10.0.0.5:8080 --data /var/lib/thrum --site-url https://thrum.example.org
  THRUM_SYNC=normal thrum serve      every option is also a variable

Keys of the first project:
  The first start prints a read-write key, a read-only key and a ping key, once. If stdout is not
  a terminal, it writes them to the file first-keys in the data directory (with --memory, in the
  temporary directory), to keep them out of logs. To choose the keys yourself, set these variables;
  letters, digits, - and _ are allowed:
  THRUM_API_KEY   read-write key, 32 characters
  THRUM_READ_KEY  read-only key, 32 characters
  THRUM_PING_KEY  ping key, 22 characters";

/// Options of `thrum serve`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Serve {
    /// Address to listen on, without TLS: keep it private, or put a TLS proxy in front
    #[arg(
        long,
        env = "THRUM_LISTEN",
        default_value = "127.0.0.1:8080",
        value_name = "HOST:PORT"
    )]
    listen: String,

    /// Serve a deployment on AWS: its table, such as thrum-production-Table-1X2Y
    ///
    /// This process then answers requests as the function ingest does, and keeps no data; the functions
    /// evaluate and notify do the rest. Set --admin-key to the deployment's. AWS is configured as for the
    /// AWS CLI.
    #[arg(
        long,
        value_name = "TABLE",
        conflicts_with_all = ["memory", "data", "smtp_url", "proxy", "sync", "delivery_window"]
    )]
    table: Option<String>,

    /// With --table: ARNs of the SNS topics that channels may publish to, separated by commas
    #[arg(
        long,
        env = "THRUM_TOPICS",
        value_parser = topics,
        default_value = "",
        hide_default_value = true,
        value_name = "LIST"
    )]
    topics: List,

    /// With --table: ARNs of the event buses that channels may put events on, separated by commas
    #[arg(
        long,
        env = "THRUM_BUSES",
        value_parser = list,
        default_value = "",
        hide_default_value = true,
        value_name = "LIST"
    )]
    buses: List,

    /// Data directory; created if it does not exist
    #[arg(
        long,
        env = "THRUM_DATA",
        default_value = "./thrum-data",
        value_name = "DIR",
        conflicts_with = "memory"
    )]
    data: PathBuf,

    /// Keep all data in memory, for a trial; it is lost when the server stops
    #[arg(long, env = "THRUM_MEMORY", value_parser = FalseyValueParser::new())]
    memory: bool,

    /// Mail server, such as smtp://USER:PASSWORD@HOST:587?tls=required, smtps://HOST or
    /// smtp://localhost:25
    ///
    /// Without one, e-mails are printed to stdout instead of sent.
    #[arg(
        long,
        env = "THRUM_SMTP_URL",
        hide_env_values = true,
        value_name = "URL"
    )]
    smtp_url: Option<SecretString>,

    /// Address of the SMTP server that receives pings by e-mail, such as 0.0.0.0:25
    ///
    /// Mail to UUID@DOMAIN, and to PING_KEY+SLUG@DOMAIN, is a ping of that monitor. All other mail is refused.
    #[arg(long, env = "THRUM_SMTP_LISTEN", value_name = "HOST:PORT")]
    smtp_listen: Option<String>,

    /// Accept pings by e-mail only for this domain; any domain if not set
    #[arg(
        long,
        env = "THRUM_SMTP_DOMAIN",
        value_name = "DOMAIN",
        value_parser = domain,
        requires = "smtp_listen"
    )]
    smtp_domain: Option<String>,

    /// Sender of e-mails
    #[arg(
        long,
        env = "THRUM_MAIL_FROM",
        value_name = "ADDRESS",
        default_value = "Thrum <thrum@localhost.localdomain>"
    )]
    mail_from: String,

    /// Whether an e-mail address must confirm before it gets alerts
    ///
    /// An address that has not confirmed gets one mail, with a link.
    #[arg(long, env = "THRUM_CONFIRM_MAIL", default_value = "auto")]
    confirm_mail: AskMail,

    /// Private addresses and networks that messages may be sent to, separated by commas; `all` for any
    ///
    /// Anyone who can add a channel can then reach what this machine reaches there.
    #[arg(
        long,
        env = "THRUM_ALLOW_NETWORKS",
        value_parser = Networks::parse,
        default_value = "",
        hide_default_value = true,
        value_name = "LIST"
    )]
    allow_networks: Networks,

    /// ARNs of the SNS topics whose messages Thrum accepts, separated by commas; empty for all
    ///
    /// SNS posts messages to /hooks/sns/PING_KEY. Thrum refuses a message without a valid SNS signature.
    #[arg(
        long,
        env = "THRUM_SNS_TOPICS",
        value_parser = topics,
        default_value = "",
        hide_default_value = true,
        value_name = "LIST"
    )]
    sns_topics: List,

    /// Proxy for messages over HTTP
    ///
    /// The proxy looks up the names of receivers, so it must keep messages from private addresses.
    #[arg(long, env = "THRUM_PROXY", value_parser = check_proxy, value_name = "http://HOST:PORT")]
    proxy: Option<String>,

    /// Keep a log of every ping with its body; costs one more write per ping
    #[arg(long, env = "THRUM_PING_LOG", default_value = "on")]
    ping_log: OnOff,

    /// When a write counts as done and its request is answered
    #[arg(long, env = "THRUM_SYNC", default_value = "full")]
    sync: Sync,

    /// Rate limit of each monitor, in pings per minute; also the largest burst. 0 means no limit
    #[arg(
        long,
        env = "THRUM_PINGS_PER_MINUTE",
        default_value_t = PINGS_PER_MINUTE,
        value_name = "N"
    )]
    pings_per_minute: u32,

    /// Most connections from clients at a time; less if the limit of open files is lower
    #[arg(
        long,
        env = "THRUM_MAX_CONNECTIONS",
        default_value_t = 10_000,
        value_name = "N",
        value_parser = clap::value_parser!(u32).range(16..)
    )]
    max_connections: u32,

    /// Proxies whose X-Forwarded-For and X-Forwarded-Proto to believe, such as 127.0.0.1,10.0.0.0/8
    ///
    /// Without this option, the headers are ignored. The connections of a proxy are not limited to
    /// a quarter of all, as those of other clients are.
    #[arg(
        long,
        env = "THRUM_TRUSTED_PROXIES",
        default_value = "",
        hide_default_value = true,
        value_parser = Proxies::parse,
        value_name = "ADDRESSES"
    )]
    trusted_proxies: Proxies,

    /// Public URL of the server, such as `https://thrum.example.org`, for links in responses
    ///
    /// Without it, links use the Host header of each request, and X-Forwarded-Proto from a trusted
    /// proxy.
    #[arg(long, env = "THRUM_SITE_URL", value_parser = check_site_url, value_name = "URL")]
    site_url: Option<String>,

    /// Admin key, at least 24 characters: required to manage projects
    ///
    /// Without one, projects can't be listed, created, changed or deleted.
    #[arg(
        long,
        env = "THRUM_ADMIN_KEY",
        hide_env_values = true,
        value_parser = check_admin_key,
        value_name = "KEY"
    )]
    admin_key: Option<SecretString>,

    /// Key for the server's own metrics, at /api/v3/metrics/
    ///
    /// Without one, the metrics are off.
    #[arg(
        long,
        env = "THRUM_METRICS_KEY",
        hide_env_values = true,
        value_parser = check_metrics_key,
        value_name = "KEY"
    )]
    metrics_key: Option<SecretString>,

    /// Changes to the plans' limits, as JSON
    ///
    /// Such as {"free": {"requests_per_day": 500, "monitors": null}}; null means no limit. Limits:
    /// requests_per_day, requests_per_minute, monitors, sms_per_day, emails_per_day,
    /// webhooks_per_day, sns_per_day, keys. A new name adds a plan.
    #[arg(long, env = "THRUM_PLANS", value_parser = plans, value_name = "JSON")]
    plans: Option<Plans>,

    /// How long to retry the delivery of an alert before giving up, 1s to 30days
    #[arg(
        long,
        env = "THRUM_DELIVERY_WINDOW",
        default_value = "24h",
        value_parser = window,
        value_name = "DURATION"
    )]
    delivery_window: Duration,

    /// How to write the log to stderr; THRUM_LOG sets its level
    #[arg(long, env = "THRUM_LOG_FORMAT", default_value = "text")]
    pub log_format: LogFormat,
}

/// How to write the log.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// Lines for people
    #[default]
    Text,
    /// A JSON object per line
    Json,
}

impl LogFormat {
    /// Writes a line for people to stderr.
    fn tell(self, text: &str) {
        if self == Self::Text {
            let _ = writeln!(std::io::stderr(), "{text}");
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum OnOff {
    On,
    Off,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum AskMail {
    /// Yes, if there are several projects
    Auto,
    /// Yes
    On,
    /// No
    Off,
}

impl From<AskMail> for ConfirmMail {
    fn from(ask: AskMail) -> Self {
        match ask {
            AskMail::Auto => Self::Auto,
            AskMail::On => Self::On,
            AskMail::Off => Self::Off,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Sync {
    /// When it is on the disk: survives a power cut
    Full,
    /// When the operating system has it: faster, survives a crash of Thrum but not of the machine
    Normal,
}

fn window(text: &str) -> Result<Duration, String> {
    let window = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    if (Duration::from_secs(1)..=Duration::from_secs(30 * 86_400)).contains(&window) {
        Ok(window)
    } else {
        Err("must be between 1s and 30days".into())
    }
}

/// Keys for the first project, from the environment.
#[derive(Debug, Default)]
struct PresetKeys {
    write: Option<String>,
    read: Option<String>,
    ping: Option<String>,
}

impl PresetKeys {
    fn from_lookup(lookup: impl Fn(&str) -> Option<String>) -> anyhow::Result<Self> {
        let key = |name: &str, len: usize, form: &str| {
            let Some(key) = lookup(name).filter(|key| !key.is_empty()) else {
                return Ok(None);
            };
            let fits = key.len() == len
                && key
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b));
            if fits {
                Ok(Some(key))
            } else {
                bail!("{name} must be exactly {len} {form}");
            }
        };
        Ok(Self {
            write: key("THRUM_API_KEY", API_KEY_LEN, "letters, digits, - or _")?,
            read: key("THRUM_READ_KEY", API_KEY_LEN, "letters, digits, - or _")?,
            ping: key("THRUM_PING_KEY", PING_KEY_LEN, "letters, digits, - or _")?,
        })
    }
}

/// Runs the pipeline until SIGTERM or SIGINT.
///
/// # Errors
/// An option is invalid, the address or the data directory is in use, or the database fails.
pub async fn serve(args: Serve) -> anyhow::Result<()> {
    let preset = PresetKeys::from_lookup(|name| std::env::var(name).ok())?;
    let durability = match args.sync {
        Sync::Full => Durability::Full,
        Sync::Normal => Durability::Normal,
    };
    let descriptors = Descriptors::divide(args.max_connections as usize);
    let table = match &args.table {
        Some(_) => None,
        None if args.memory => Some(SqliteTable::temporary(sqlite::Options::default())?),
        None => {
            let options = sqlite::Options {
                durability,
                ..sqlite::Options::default()
            };
            Some(SqliteTable::open(&args.data, options)?)
        }
    };
    let listener = TcpListener::bind(&args.listen).await.with_context(|| {
        let listen = &args.listen;
        format!("can't listen on {listen}; set --listen to another address, such as 127.0.0.1:8081")
    })?;
    let address = listener.local_addr()?;
    let mail = match &args.smtp_listen {
        None => None,
        Some(listen) => {
            let bound = TcpListener::bind(listen).await;
            let help = || {
                format!(
                    "can't listen on {listen} (--smtp-listen); use another port, or grant CAP_NET_BIND_SERVICE if the port is below 1024"
                )
            };
            Some(bound.with_context(help)?)
        }
    };
    let plans = args.plans.unwrap_or_default();
    let ingest = thrum_ingest::Config {
        ping_log: args.ping_log == OnOff::On,
        networks: args.allow_networks,
        pings_per_minute: (args.pings_per_minute > 0).then_some(args.pings_per_minute),
        site_url: args.site_url.clone(),
        plans: plans.clone(),
        admin_key: args.admin_key.map_or(AdminKey::None, AdminKey::Key),
        metrics_key: args.metrics_key,
        proxies: args.trusted_proxies.clone(),
        mail_domain: args.smtp_domain.clone(),
        sns_topics: Some(args.sns_topics.0).filter(|topics| !topics.is_empty()),
        fetch: Some(Arc::new(Fetcher::default())),
        ..thrum_ingest::Config::default()
    };
    let listening = Listening {
        listener,
        address,
        mail,
        limits: http::Limits {
            connections: descriptors.connections,
            proxies: args.trusted_proxies,
        },
        smtp_domain: args.smtp_domain,
        log_format: args.log_format,
        terminate: signal(SignalKind::terminate())?,
        interrupt: signal(SignalKind::interrupt())?,
    };
    let Some(table) = table else {
        let ingest = thrum_ingest::Config {
            topics: Some(args.topics.0),
            buses: Some(args.buses.0),
            mail_by_topics: true,
            ..ingest
        };
        return container::serve(&args.table.unwrap_or_default(), ingest, listening).await;
    };
    let mut options = Options {
        ingest,
        notify: thrum_notify::Config {
            delivery_window_ms: i64::try_from(args.delivery_window.as_millis())?,
            plans,
            max_at_once: descriptors.deliveries,
            site_url: args.site_url.clone(),
            confirm: None,
        },
        proxy: args.proxy,
        smtp_url: args.smtp_url,
        mail_from: args.mail_from,
        door: Arc::new(HttpSelfPing::new(&own_url(address))),
    };
    let world = SystemWorld::arc();
    if let Some(warning) = Data::in_use().warning(world.now()) {
        tracing::warn!("{warning}");
    }
    let secret = if args.memory {
        key::new_api_key(world.as_ref(), Scope::Write).into()
    } else {
        session_secret(&args.data, world.as_ref())?
    };
    let site = options.ingest.site_url.clone();
    if site.is_none() && args.confirm_mail == AskMail::On {
        bail!("--confirm-mail on needs --site-url, for the link in the mail");
    }
    if args.confirm_mail != AskMail::Off {
        options.notify.confirm = Some(Confirm {
            site: site.unwrap_or_else(|| own_url(address)),
            secret: secret.clone(),
        });
    }
    options.ingest.confirm_mail = args.confirm_mail.into();
    options.ingest.confirm_secret = Some(secret.clone());
    options.ingest.session_secret = Some(secret);
    let pipeline = Pipeline::start(&table, options, SystemWorld::arc()).await?;
    let place = if args.memory {
        std::env::temp_dir()
    } else {
        args.data.clone()
    };
    let keys = bootstrap(&pipeline.store, preset, &place).await?;
    pipeline.warm();
    greet(address, &args.data, args.memory, &keys);

    let (app, router) = (pipeline.app.clone(), pipeline.router.clone());
    let say = listening.log_format;
    let stopping = || {
        // The pulse first: it could not get through any more.
        pipeline.stop_ticking();
        pipeline.store.end_touched();
    };
    listening.open(app, router, stopping).await?;
    pipeline.stop().await;
    if let Some(file) = keys.file.filter(|_| args.memory) {
        // Its keys are gone.
        let _ = std::fs::remove_file(file);
    }
    say.tell("Stopped.");
    Ok(())
}

/// Where clients arrive.
#[derive(Debug)]
pub struct Listening {
    listener: TcpListener,
    address: SocketAddr,
    /// For pings by e-mail.
    mail: Option<TcpListener>,
    limits: http::Limits,
    smtp_domain: Option<String>,
    log_format: LogFormat,
    terminate: Signal,
    interrupt: Signal,
}

impl Listening {
    /// Whether metrics may be written to stdout: a program reads it.
    pub fn writes_metrics(&self) -> bool {
        self.log_format == LogFormat::Json
    }

    /// Says where clients are served, and from what.
    pub fn greet(&self, from: &str) {
        let address = self.address;
        let _ = writeln!(
            std::io::stdout(),
            "Thrum listens on http://{address}\n  data            {from}"
        );
    }

    /// Serves clients until SIGTERM or SIGINT. Then calls `stopping`, and finishes the requests in
    /// progress.
    ///
    /// # Errors
    /// The server failed.
    pub async fn open(
        mut self,
        app: App,
        router: Router,
        stopping: impl FnOnce(),
    ) -> anyhow::Result<()> {
        let (stop, stopped) = tokio::sync::watch::channel(false);
        if let Some(listener) = self.mail {
            tracing::info!(address = %listener.local_addr()?, "receiving pings by e-mail");
            let mail = smtp::serve(listener, app, self.smtp_domain, stopped.clone());
            tokio::spawn(mail);
        }
        let served = http::serve(self.listener, router, self.limits, stopped);
        let mut server = tokio::spawn(served);
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
            ended = &mut server => ended?,
        }
        self.log_format
            .tell("Stopping: finishing requests and deliveries in progress …");
        stopping();
        stop.send_replace(true);
        if !server.is_finished() && tokio::time::timeout(GRACE, &mut server).await.is_err() {
            server.abort();
        }
        Ok(())
    }
}

/// Parses a domain.
fn domain(text: &str) -> Result<String, String> {
    let is_label = |label: &str| {
        !label.is_empty()
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    match text.len() <= 253 && text.split('.').all(is_label) {
        true => Ok(text.to_ascii_lowercase()),
        false => Err("must be a domain such as pings.example.org".to_owned()),
    }
}

/// A list in one text: deployments set the variables of options that are not used to nothing.
#[derive(Debug, Clone, Default)]
struct List(Vec<String>);

/// Parses a list, separated by commas.
fn list(text: &str) -> Result<List, String> {
    let items = text.split(',').map(str::trim);
    let items = items.filter(|item| !item.is_empty());
    Ok(List(items.map(str::to_owned).collect()))
}

/// Parses a list of ARNs of SNS topics.
fn topics(text: &str) -> Result<List, String> {
    let topics = list(text)?;
    for topic in &topics.0 {
        check_topic_arn("it", topic).map_err(|error| error.to_string())?;
    }
    Ok(topics)
}

/// Parses changes to the plans; nothing changes nothing.
fn plans(text: &str) -> Result<Plans, String> {
    match text.trim().is_empty() {
        true => Ok(Plans::default()),
        false => Plans::from_json(text).map_err(|error| error.to_string()),
    }
}

/// The URL at which this machine reaches a server that listens on `address`.
fn own_url(mut address: SocketAddr) -> String {
    if address.ip().is_unspecified() {
        address.set_ip(match address {
            SocketAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            SocketAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        });
    }
    format!("http://{address}")
}

/// The secret that signs the dashboard's cookies. It is stored beside the database, so that users
/// stay signed in after a restart.
fn session_secret(data: &Path, world: &dyn World) -> anyhow::Result<SecretString> {
    let path = data.join(SESSION_SECRET);
    let unusable = || {
        format!(
            "can't read or write the dashboard's secret in {}",
            path.display()
        )
    };
    match std::fs::read_to_string(&path) {
        Ok(secret) if secret.len() >= 32 => return Ok(secret.into()),
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(error).with_context(unusable),
    }
    let secret = key::new_api_key(world, Scope::Write);
    // Written under another name and renamed, so that it is never incomplete; readable only by the
    // owner.
    let partial = data.join(format!("{SESSION_SECRET}.new"));
    let written = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&partial)
        .and_then(|mut file| file.write_all(secret.as_bytes()))
        .and_then(|()| std::fs::rename(&partial, &path));
    written.with_context(unusable)?;
    Ok(secret.into())
}

/// New keys to print.
#[derive(Default)]
struct Shown {
    write: Option<String>,
    read: Option<String>,
    ping: Option<String>,
    /// Names of the environment variables that set keys.
    from: Vec<&'static str>,
    /// The file with the new keys, if they are not printed.
    file: Option<PathBuf>,
}

impl Shown {
    /// Keeps the new keys from a log: unless stdout is a terminal, writes them to a new file in `place` that only the
    /// owner can read.
    fn keep(&mut self, place: &Path) -> anyhow::Result<()> {
        let keys = [
            ("THRUM_API_KEY", &self.write),
            ("THRUM_READ_KEY", &self.read),
            ("THRUM_PING_KEY", &self.ping),
        ];
        let lines: Vec<String> = keys
            .iter()
            .filter_map(|(name, key)| Some(format!("{name}={}\n", key.as_ref()?)))
            .collect();
        if lines.is_empty() || std::io::stdout().is_terminal() {
            return Ok(());
        }
        // Older files may still be there, and the process IDs of containers are all the same.
        let names = (1..100).map(|n| match n {
            1 => FIRST_KEYS.to_owned(),
            n => format!("{FIRST_KEYS}-{n}"),
        });
        let mut path = place.join(FIRST_KEYS);
        let mut file = Err(ErrorKind::AlreadyExists.into());
        for name in names {
            path = place.join(name);
            let mut create = OpenOptions::new();
            file = create.write(true).create_new(true).mode(0o600).open(&path);
            match &file {
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                _ => break,
            }
        }
        file.and_then(|mut file| {
            file.write_all(lines.concat().as_bytes())?;
            file.sync_all()
        })
        .with_context(|| format!("can't write the first keys to {}", path.display()))?;
        self.file = Some(path);
        Ok(())
    }
}

/// Creates the first project. Sets its keys from the environment, and generates the others if the
/// project has none yet.
async fn bootstrap(store: &Store, preset: PresetKeys, place: &Path) -> anyhow::Result<Shown> {
    let world = store.world();
    let project = ProjectId::FIRST;
    store
        .create_project(&Project::with_badges(project, "default", world))
        .await?;
    let fresh = store.api_keys(project).await?.is_empty();
    let mut shown = Shown::default();
    for (name, given) in [
        ("THRUM_API_KEY", &preset.write),
        ("THRUM_READ_KEY", &preset.read),
        ("THRUM_PING_KEY", &preset.ping),
    ] {
        if given.is_some() {
            shown.from.push(name);
        }
    }
    if fresh {
        let new = |scope| Some(key::new_api_key(world, scope));
        shown.write = preset.write.is_none().then(|| new(Scope::Write)).flatten();
        shown.read = preset.read.is_none().then(|| new(Scope::Read)).flatten();
        shown.ping = preset.ping.is_none().then(|| key::new_ping_key(world));
    }
    // Write the file first: Thrum stores only hashes, so a later failure would lose the keys.
    shown.keep(place)?;
    for (scope, name, given, new) in [
        (Scope::Write, "first", &preset.write, &shown.write),
        (Scope::Read, "first, read-only", &preset.read, &shown.read),
    ] {
        let Some(secret) = given.as_ref().or(new.as_ref()) else {
            continue;
        };
        let key = ApiKey::new(secret, project, scope, name, world.now());
        if given.is_some() {
            store.preset_api_key(&key).await?;
        } else {
            store.put_api_key(&key).await?;
        }
    }
    if let Some(secret) = &preset.ping {
        store.preset_ping_key(project, secret).await?;
    } else if let Some(secret) = &shown.ping {
        store.put_ping_key(project, secret).await?;
    }
    Ok(shown)
}

fn greet(address: SocketAddr, data: &Path, memory: bool, keys: &Shown) {
    let url = format!("http://{address}");
    let mut lines = vec![format!("Thrum listens on {url}")];
    if memory {
        lines.push("  data            in memory, lost when the server stops".to_owned());
    } else {
        lines.push(format!("  data            {}", data.display()));
    }
    let mut key = "$THRUM_API_KEY";
    if let Some(file) = &keys.file {
        lines.push(format!(
            "  new keys        {}: store them, and delete the file",
            file.display()
        ));
    } else {
        for (what, key) in [
            ("API key", &keys.write),
            ("read-only key", &keys.read),
            ("ping key", &keys.ping),
        ] {
            lines.extend(key.as_ref().map(|key| format!("  {what:<15} {key}")));
        }
        if keys.write.is_some() || keys.ping.is_some() {
            lines.push("These keys are shown only once: store them now.".to_owned());
        }
        key = keys.write.as_deref().unwrap_or(key);
    }
    if !keys.from.is_empty() {
        lines.push(format!("  {:<15} {}", "keys from", keys.from.join(", ")));
    }
    lines.push(format!(
        "\nSend a heartbeat. If the next one does not arrive within 15 s, the monitor goes down:\n\n  \
         curl {url}/v1/heartbeats -H \"X-Api-Key: {key}\" \\\n    \
         -d '{{\"monitor\": \"web-01\", \"period_s\": 10, \"grace_s\": 5}}'\n\n\
         Open the dashboard, and sign in with the API key: {url}/\n"
    ));
    // The server runs whether anybody reads this or not.
    let _ = writeln!(std::io::stdout(), "{}", lines.join("\n"));
}

/// Checks the URL of a proxy.
fn check_proxy(text: &str) -> Result<String, String> {
    match reqwest::Url::parse(text) {
        Ok(url) if matches!(url.scheme(), "http" | "https") && url.has_host() => {
            Ok(text.to_owned())
        }
        _ => Err("must be an http or https URL, such as http://proxy.example.org:3128".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn preset_keys_have_exact_lengths() {
        let set = |name: &'static str, value: &'static str| {
            PresetKeys::from_lookup(move |asked| (asked == name).then(|| value.to_owned()))
        };
        let key = "0123456789abcdef0123456789abcdef";
        assert_eq!(set("THRUM_API_KEY", key).unwrap().write.unwrap(), key);
        assert!(set("THRUM_API_KEY", "short").is_err());
        assert!(set("THRUM_PING_KEY", key).is_err());
        assert!(set("THRUM_PING_KEY", "").unwrap().ping.is_none());
    }

    #[test]
    fn delivery_windows_are_bounded() {
        assert_eq!(window("24h").unwrap(), Duration::from_secs(86_400));
        for wrong in ["", "0s", "31days", "x"] {
            assert!(window(wrong).is_err(), "{wrong}");
        }
    }
}
