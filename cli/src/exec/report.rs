//! The reports of a run, over HTTP.

use crate::remote::PING_URL;
use reqwest::{StatusCode, Url};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use thrum_schema::monitor::slugify;
use thrum_schema::ping::parse_metric;
use tokio::time::{Instant, sleep, timeout_at};
use uuid::Uuid;

/// The variable of the ping URL.
pub const URL_VARIABLE: &str = "THRUM_PING_URL";

/// Time limit of an attempt while the command runs.
const TIMEOUT: Duration = Duration::from_secs(5);
/// How long to try to report the start.
const START: Duration = Duration::from_secs(30);
/// The waits between attempts.
const FIRST_WAIT: Duration = Duration::from_millis(200);
const LONGEST_WAIT: Duration = Duration::from_secs(2);

/// What is wrong with a server that is silent.
pub const NO_ANSWER: &str = "the server did not answer";

/// Reports one run.
pub struct Reporter {
    client: reqwest::Client,
    url: Url,
    /// Parameters of the final report.
    metrics: Vec<(String, String)>,
    /// What was ignored, and why.
    pub ignored: Vec<String>,
    /// What is wrong with the report in progress.
    problem: Mutex<String>,
}

impl Reporter {
    /// A reporter for a ping URL, or what is wrong with it.
    pub fn new(url: Option<&str>, create: bool, metrics: &[String]) -> Result<Self, String> {
        let form = PING_URL;
        let Some(text) = url else {
            return Err(format!(
                "no ping URL is given: pass it as an argument or in {URL_VARIABLE}; {form}"
            ));
        };
        // What a variable holds is secret.
        let got = match std::env::var(URL_VARIABLE) {
            Ok(hidden) if hidden == text => format!("check {URL_VARIABLE}"),
            _ => format!("got {text:?}"),
        };
        let wrong = || format!("the ping URL is wrong: {form} ({got})");
        let mut url = Url::parse(text).map_err(|_| wrong())?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(wrong());
        }
        let path = url.path().trim_end_matches('/').to_owned();
        check_slug(&path)?;
        url.set_path(&path);
        #[expect(clippy::disallowed_methods, reason = "this is the edge")]
        let rid = Uuid::new_v4().to_string();
        let others: Vec<(String, String)> = url
            .query_pairs()
            .filter(|(name, _)| name != "rid" && !(create && name == "create"))
            .map(|(name, value)| (name.into_owned(), value.into_owned()))
            .collect();
        url.query_pairs_mut()
            .clear()
            .extend_pairs(others)
            .append_pair("rid", &rid);
        if create {
            url.query_pairs_mut().append_pair("create", "1");
        }
        let client = crate::remote::client(TIMEOUT).map_err(|error| format!("{error:#}"))?;
        let (mut valid, mut ignored) = (Vec::new(), Vec::new());
        for metric in metrics {
            let (name, value) = metric.split_once('=').unwrap_or((metric, ""));
            match parse_metric(name, value) {
                Ok(value) => valid.push((format!("metric.{name}"), value.to_string())),
                Err(problem) => {
                    ignored.push(format!("--metric {metric} was ignored: it {problem}"));
                }
            }
        }
        Ok(Self {
            client,
            url,
            metrics: valid,
            ignored,
            problem: Mutex::new(NO_ANSWER.to_owned()),
        })
    }

    /// What is wrong with the report in progress.
    pub fn problem(&self) -> String {
        let problem = self.problem.lock();
        problem.unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn note(&self, problem: &str) {
        let mut last = self.problem.lock().unwrap_or_else(PoisonError::into_inner);
        problem.clone_into(&mut last);
    }

    /// Reports the start.
    pub async fn start(&self) -> Result<(), String> {
        let sent = self.send("start", Vec::new(), Instant::now() + START);
        sent.await.map(drop)
    }

    /// Reports the exit status, with the end of the output. Returns what the server left out.
    pub async fn end(
        &self,
        code: u8,
        output: Vec<u8>,
        give_up: Instant,
    ) -> Result<Option<String>, String> {
        self.send(&code.to_string(), output, give_up).await
    }

    /// Sends a report until the server accepts or refuses it.
    async fn send(
        &self,
        action: &str,
        body: Vec<u8>,
        give_up: Instant,
    ) -> Result<Option<String>, String> {
        let mut url = self.url.clone();
        url.set_path(&format!("{}/{action}", self.url.path()));
        if action != "start" && !self.metrics.is_empty() {
            url.query_pairs_mut().extend_pairs(&self.metrics);
        }
        let mut wait = FIRST_WAIT;
        let mut problem = NO_ANSWER.to_owned();
        self.note(&problem);
        loop {
            let request = self.client.post(url.clone()).body(body.clone());
            match timeout_at(give_up, request.send()).await {
                Ok(Ok(answer)) if answer.status().is_success() => {
                    let text = timeout_at(give_up, answer.text()).await;
                    let text = text.ok().and_then(Result::ok).unwrap_or_default();
                    // `OK; metrics.x must …`
                    return Ok(text
                        .split_once("; ")
                        .map(|(_, warnings)| warnings.to_owned()));
                }
                Ok(Ok(answer)) => {
                    let status = answer.status();
                    let text = timeout_at(give_up, answer.text()).await;
                    let text = text.ok().and_then(Result::ok).unwrap_or_default();
                    let text = crate::remote::clean(&text).into_owned();
                    let refused = status.is_client_error()
                        && status != StatusCode::TOO_MANY_REQUESTS
                        && status != StatusCode::REQUEST_TIMEOUT;
                    problem = format!("the server answered {status}: {text}");
                    if refused {
                        if status == StatusCode::NOT_FOUND {
                            problem += " (check the URL; to create the monitor, add --create)";
                        }
                        return Err(problem);
                    }
                }
                Ok(Err(error)) => problem = cause(&error.without_url()),
                Err(_) => return Err(problem),
            }
            self.note(&problem);
            if Instant::now() + wait >= give_up {
                return Err(problem);
            }
            sleep(wait).await;
            wait = (wait * 2).min(LONGEST_WAIT);
        }
    }
}

/// The innermost cause of an error, such as "Connection refused".
fn cause(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return NO_ANSWER.to_owned();
    }
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    format!("the server can't be reached: {cause}")
}

/// Explains what is wrong with the part of a ping URL after `/ping/`: it is a uuid, or a ping key and a slug.
fn check_slug(path: &str) -> Result<(), String> {
    let Some((_, rest)) = path.rsplit_once("/ping/") else {
        return Ok(());
    };
    let (first, slug) = match rest.split_once('/') {
        Some((first, slug)) => (first, Some(slug)),
        None => (rest, None),
    };
    let slug = match (Uuid::try_parse(first).is_ok(), slug) {
        (true, None) => return Ok(()),
        (true, Some(action)) => return Err(format!("the ping URL is wrong: leave out /{action}")),
        (false, None) => {
            return Err(format!(
                "the ping URL is wrong: the slug is missing after the ping key; {PING_URL}"
            ));
        }
        (false, Some(slug)) => slug,
    };
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_".contains(&b);
    if slug.bytes().all(plain) {
        return Ok(());
    }
    Err(format!(
        "the slug in the ping URL is wrong: slugs have only lowercase letters, digits, - and _ (got {slug:?}; \
         try {:?})",
        slugify(slug)
    ))
}
