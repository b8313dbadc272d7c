//! `thrum series`: lists series, accepts new levels, sets calendars, and deletes bars.

use super::{Remote, segment};
use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::{Map, Value, json};
use std::fmt::Write;

const EXAMPLES: &str = "\
Examples:
  thrum series                                         list the series
  thrum series accept monitor:backup:rows              the last value is the new normal
  thrum series set goog --timeframe 1d --calendar weekdays --offset-s 18000
  thrum series delete demo --timeframe 1h              delete it with its bars
  thrum series delete demo --timeframe 1h --from 2026-11-01T00:00:00Z --to 2026-11-02T00:00:00Z";

/// Arguments of `thrum series`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Series {
    #[command(subcommand)]
    action: Option<SeriesAction>,

    /// Server, API key and output format.
    #[command(flatten)]
    pub remote: Remote,
}

/// A series and its timeframe.
#[derive(Debug, Args)]
struct Which {
    /// Name of the series, such as rows or monitor:backup:rows
    series: String,
    /// Its timeframe; not needed for a series from heartbeats
    #[arg(long, short, value_name = "TIMEFRAME")]
    timeframe: Option<String>,
}

#[derive(Debug, Subcommand)]
enum SeriesAction {
    /// List the series (the default)
    List,
    /// Say that the values from a time on are the new normal
    Accept {
        #[command(flatten)]
        which: Which,
        /// The first value of the new level, RFC 3339; default: the last value
        #[arg(long, value_name = "TIME")]
        at: Option<String>,
    },
    /// Set when bars are due
    Set {
        #[command(flatten)]
        which: Which,
        /// 24/7, weekdays, or the sessions of a market as JSON
        #[arg(long, value_name = "CALENDAR")]
        calendar: Option<String>,
        /// How many seconds after the timeframe's grid bars open
        #[arg(long, value_name = "SECONDS")]
        offset_s: Option<u32>,
    },
    /// Delete a series, or its bars in a range, with their signals
    Delete {
        #[command(flatten)]
        which: Which,
        /// First bar to delete, RFC 3339
        #[arg(long, value_name = "TIME")]
        from: Option<String>,
        /// Delete only bars before this time, RFC 3339
        #[arg(long, value_name = "TIME")]
        to: Option<String>,
    },
}

/// `thrum series`
///
/// # Errors
/// The server refused the request or can't be reached.
pub async fn series(args: Series) -> anyhow::Result<()> {
    let remote = args.remote;
    let body = |timeframe: Option<String>| {
        let timeframe = timeframe.map(|timeframe| ("timeframe".to_owned(), json!(timeframe)));
        timeframe.into_iter().collect::<Map<String, Value>>()
    };
    match args.action.unwrap_or(SeriesAction::List) {
        SeriesAction::List => {
            let reply = remote.call(Method::GET, "/v1/series", None).await?;
            let columns = [
                "series",
                "timeframe",
                "first_month",
                "last_month",
                "watches",
                "calendar",
            ];
            remote.print(&reply, "series", &columns)
        }
        SeriesAction::Accept { which, at } => {
            let path = format!("/v1/series/{}/accept", segment(&which.series)?);
            let mut body = body(which.timeframe);
            body.extend(at.map(|at| ("at".to_owned(), json!(at))));
            let reply = remote.call(Method::POST, &path, Some(body.into())).await?;
            remote.done(
                &reply,
                "Accepted: the next values are judged by the new level.",
            )
        }
        SeriesAction::Set {
            which,
            calendar,
            offset_s,
        } => {
            anyhow::ensure!(
                calendar.is_some() || offset_s.is_some(),
                "nothing to set: pass --calendar or --offset-s"
            );
            let path = format!("/v1/series/{}", segment(&which.series)?);
            let mut body = body(which.timeframe);
            let calendar =
                calendar.map(|text| serde_json::from_str(&text).unwrap_or(Value::String(text)));
            body.extend(calendar.map(|calendar| ("calendar".to_owned(), calendar)));
            body.extend(offset_s.map(|offset_s| ("offset_s".to_owned(), json!(offset_s))));
            let reply = remote.call(Method::PATCH, &path, Some(body.into())).await?;
            remote.done(&reply, "Set.")
        }
        SeriesAction::Delete { which, from, to } => {
            let mut path = format!("/v1/series/{}?", segment(&which.series)?);
            let pairs = [("timeframe", which.timeframe), ("from", from), ("to", to)];
            for (name, value) in pairs {
                if let Some(value) = value {
                    let _ = write!(path, "{name}={}&", segment(&value)?);
                }
            }
            let mut deleted = 0;
            loop {
                let reply = remote.call(Method::DELETE, &path, None).await?;
                deleted += reply["deleted"].as_u64().unwrap_or(0);
                if reply["complete"] != json!(false) {
                    return remote.done(&reply, &format!("Deleted. Bars: {deleted}."));
                }
                eprintln!("{deleted} bars deleted …");
            }
        }
    }
}
