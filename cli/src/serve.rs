//! `thrum serve`: the pipeline on one machine.

use crate::http;
use crate::pipeline::{Options, Pipeline};
use anyhow::{Context, bail};
use clap::builder::FalseyValueParser;
use clap::{Args, ValueEnum};
use secrecy::SecretString;
use std::fs::OpenOptions;
use std::io::{ErrorKind, Write};
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use thrum_ingest::{AdminKey, PINGS_PER_MINUTE, check_admin_key, check_site_url};
use thrum_schema::id::ProjectId;
use thrum_schema::key::{self, API_KEY_LEN, ApiKey, PING_KEY_LEN, Scope};
use thrum_schema::world::SystemWorld;
use thrum_schema::{Plans, Project, World};
use thrum_store::Store;
use thrum_store::sqlite::{self, Durability, SqliteTable};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

/// How long connections may take to finish when the server stops.
const GRACE: Duration = Duration::from_secs(10);
/// The file of the secret that signs the dashboard's cookies.
const SESSION_SECRET: &str = "session-secret";

/// Everything that `thrum serve` can be told, by flag or variable.
#[derive(Debug, Args)]
pub struct Serve {
    /// Where to listen. Keep it on a private address, or put TLS in front
    #[arg(
        long,
        env = "THRUM_LISTEN",
        default_value = "127.0.0.1:8080",
        value_name = "HOST:PORT"
    )]
    listen: String,

    /// The data directory; it is made if need be
    #[arg(
        long,
        env = "THRUM_DATA",
        default_value = "./thrum-data",
        conflicts_with = "memory"
    )]
    data: PathBuf,

    /// Keep nothing: for trying it out
    #[arg(long, env = "THRUM_MEMORY", value_parser = FalseyValueParser::new())]
    memory: bool,

    /// The mail server: smtp://user:password@host:587?tls=required, smtps://host, or smtp://localhost:25. Without
    /// one, e-mails are printed and noted with their alerts
    #[arg(long, env = "THRUM_SMTP_URL", hide_env_values = true)]
    smtp_url: Option<SecretString>,

    /// The sender of e-mails
    #[arg(
        long,
        env = "THRUM_MAIL_FROM",
        default_value = "Thrum <thrum@localhost.localdomain>"
    )]
    mail_from: String,

    /// Let webhooks go to private addresses. They can reach whatever this machine can
    #[arg(
        long,
        env = "THRUM_ALLOW_PRIVATE_WEBHOOKS",
        value_parser = FalseyValueParser::new()
    )]
    allow_private_webhooks: bool,

    /// Whether to log every ping with its body: one more write each
    #[arg(long, env = "THRUM_PING_LOG", default_value = "on")]
    ping_log: OnOff,

    /// When a heartbeat is answered: when it is on the disk (full), or when the operating system has it (normal)
    #[arg(long, env = "THRUM_SYNC", default_value = "full")]
    sync: Sync,

    /// How many pings a minute a monitor may send in the long run, and at once; 0 is no bound
    #[arg(long, env = "THRUM_PINGS_PER_MINUTE", default_value_t = PINGS_PER_MINUTE)]
    pings_per_minute: u32,

    /// The URL by which people reach it, for the links that it tells; as each request says, without it
    #[arg(long, env = "THRUM_SITE_URL", value_parser = check_site_url)]
    site_url: Option<String>,

    /// The key of who may make projects, at least 24 characters. Without one, nobody may
    #[arg(long, env = "THRUM_ADMIN_KEY", hide_env_values = true, value_parser = check_admin_key)]
    admin_key: Option<SecretString>,

    /// The key of the operator's metrics, at /api/v3/metrics/
    #[arg(long, env = "THRUM_METRICS_KEY", hide_env_values = true)]
    metrics_key: Option<SecretString>,

    /// Changes to the plans, as JSON: {"free": {"requests_per_day": 500, "monitors": null}}
    #[arg(long, env = "THRUM_PLANS", value_parser = Plans::from_json)]
    plans: Option<Plans>,

    /// How long delivery of an alert is tried
    #[arg(long, env = "THRUM_DELIVERY_WINDOW", default_value = "24h", value_parser = window)]
    delivery_window: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum OnOff {
    On,
    Off,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Sync {
    Full,
    Normal,
}

fn window(text: &str) -> Result<Duration, String> {
    let window = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    if (Duration::from_secs(1)..=Duration::from_secs(30 * 86_400)).contains(&window) {
        Ok(window)
    } else {
        Err("must be 1s to 30days".into())
    }
}

/// Keys that the environment sets for the first project.
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
/// An option is wrong, the address or the data directory is taken, or the database fails.
pub async fn serve(args: Serve) -> anyhow::Result<()> {
    let preset = PresetKeys::from_lookup(|name| std::env::var(name).ok())?;
    let durability = match args.sync {
        Sync::Full => Durability::Full,
        Sync::Normal => Durability::Normal,
    };
    let table = if args.memory {
        SqliteTable::temporary(sqlite::Options::default())?
    } else {
        let options = sqlite::Options {
            durability,
            ..sqlite::Options::default()
        };
        SqliteTable::open(&args.data, options)?
    };
    let listener = TcpListener::bind(&args.listen).await.with_context(|| {
        let listen = &args.listen;
        format!("can't listen on {listen}; choose another --listen, such as 127.0.0.1:8080")
    })?;
    let address = listener.local_addr()?;
    let plans = args.plans.unwrap_or_default();
    let mut options = Options {
        ingest: thrum_ingest::Config {
            ping_log: args.ping_log == OnOff::On,
            allow_private_webhooks: args.allow_private_webhooks,
            pings_per_minute: (args.pings_per_minute > 0).then_some(args.pings_per_minute),
            site_url: args.site_url,
            plans: plans.clone(),
            admin_key: args.admin_key.map_or(AdminKey::None, AdminKey::Key),
            metrics_key: args.metrics_key,
            ..thrum_ingest::Config::default()
        },
        notify: thrum_notify::Config {
            delivery_window_ms: i64::try_from(args.delivery_window.as_millis())?,
            plans,
        },
        smtp_url: args.smtp_url,
        mail_from: args.mail_from,
    };
    if !args.memory {
        options.ingest.session_secret =
            Some(session_secret(&args.data, SystemWorld::arc().as_ref())?);
    }
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let pipeline = Pipeline::start(&table, options, SystemWorld::arc()).await?;
    let keys = bootstrap(&pipeline.store, preset).await?;
    pipeline.warm();
    greet(address, &args.data, args.memory, &keys);

    let (stop, stopped) = tokio::sync::watch::channel(false);
    let mut server = tokio::spawn(http::serve(listener, pipeline.router.clone(), stopped));
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
        ended = &mut server => ended?,
    }
    eprintln!("Stopping: finishing what is under way …");
    stop.send_replace(true);
    pipeline.store.end_touched();
    if !server.is_finished() && tokio::time::timeout(GRACE, &mut server).await.is_err() {
        server.abort();
    }
    pipeline.stop().await;
    eprintln!("Stopped.");
    Ok(())
}

/// What signs the dashboard's cookies: kept beside the database, so that a restart signs nobody out.
fn session_secret(data: &Path, world: &dyn World) -> anyhow::Result<SecretString> {
    let path = data.join(SESSION_SECRET);
    let unusable = || format!("can't keep the dashboard's secret in {}", path.display());
    match std::fs::read_to_string(&path) {
        Ok(secret) if secret.len() >= 32 => return Ok(secret.into()),
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(error).with_context(unusable),
    }
    let secret = key::new_api_key(world, Scope::Write);
    // In whole or not at all, and for nobody else to read.
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

/// Keys to show, once.
#[derive(Default)]
struct Shown {
    write: Option<String>,
    read: Option<String>,
    ping: Option<String>,
    /// The variables that set keys.
    from: Vec<&'static str>,
}

/// Makes the first project, and its keys unless it has some or the environment sets them.
async fn bootstrap(store: &Store, preset: PresetKeys) -> anyhow::Result<Shown> {
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
    for (scope, name, given, show) in [
        (Scope::Write, "first", &preset.write, &mut shown.write),
        (
            Scope::Read,
            "first, read-only",
            &preset.read,
            &mut shown.read,
        ),
    ] {
        let secret = match given {
            Some(secret) => secret.clone(),
            None if fresh => show.insert(key::new_api_key(world, scope)).clone(),
            None => continue,
        };
        let key = ApiKey::new(&secret, project, scope, name, world.now());
        store.put_api_key(&key).await?;
    }
    match preset.ping {
        Some(secret) => store.put_ping_key(project, &secret).await?,
        None if fresh => {
            let secret = shown.ping.insert(key::new_ping_key(world));
            store.put_ping_key(project, secret).await?;
        }
        None => {}
    }
    Ok(shown)
}

fn greet(address: SocketAddr, data: &Path, memory: bool, keys: &Shown) {
    let url = format!("http://{address}");
    println!("Thrum listens on {url}");
    if memory {
        println!("  data            in memory; gone when it stops");
    } else {
        println!("  data            {}", data.display());
    }
    for (what, key) in [
        ("API key", &keys.write),
        ("read-only key", &keys.read),
        ("ping key", &keys.ping),
    ] {
        if let Some(key) = key {
            println!("  {what:<15} {key}");
        }
    }
    if !keys.from.is_empty() {
        println!("  {:<15} {}", "keys from", keys.from.join(", "));
    }
    if keys.write.is_some() || keys.ping.is_some() {
        println!("Keys are shown this once: keep them.");
    }
    let key = keys.write.as_deref().unwrap_or("$THRUM_API_KEY");
    println!(
        "\nSend a heartbeat; if none follows within 15 s, the monitor goes down:\n\n  \
         curl {url}/v1/heartbeats -H \"X-Api-Key: {key}\" \\\n    \
         -d '{{\"monitor\": \"web-01\", \"period_s\": 10, \"grace_s\": 5}}'\n\n\
         See what is watched, and sign in with the API key: {url}/\n"
    );
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
    fn windows_are_bounded() {
        assert_eq!(window("24h").unwrap(), Duration::from_secs(86_400));
        for wrong in ["", "0s", "31days", "x"] {
            assert!(window(wrong).is_err(), "{wrong}");
        }
    }
}
