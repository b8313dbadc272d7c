//! Ping paths: `<uuid>[/action]` and `<ping key>/<slug>[/action]`.

use thiserror::Error;
use thrum_schema::MonitorId;
use thrum_schema::monitor::MAX_NAME;

/// The monitor and the action of a ping.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target<'a> {
    /// By the monitor's id.
    Monitor {
        /// The id.
        id: MonitorId,
        /// The action.
        action: Action,
    },
    /// By a ping key and a slug.
    Slug {
        /// The ping key.
        key: &'a str,
        /// The slug.
        slug: &'a str,
        /// The action.
        action: Action,
    },
}

/// What the last part of the path means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Nothing: a success.
    Success,
    /// `/start`
    Start,
    /// `/fail`
    Fail,
    /// `/log`
    Log,
    /// `/<exit status>`; `None` if it is above 255.
    ExitStatus(Option<u8>),
}

/// Why a ping is refused. The text is the body of the response.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Refused {
    /// No such path, key, slug or monitor.
    #[error("not found")]
    NotFound,
    /// A slug with an uppercase letter or too many characters, or an exit status above 255.
    #[error("invalid url format")]
    Url,
    /// A run ID that is not a UUID.
    #[error("invalid uuid format")]
    Rid,
    /// Several monitors have the slug.
    #[error("ambiguous slug")]
    Ambiguous,
    /// Over the monitor's rate limit; with the seconds until the next ping is accepted.
    #[error("too many pings; try again in {0} s")]
    TooMany(i64),
    /// The request ended before its body was complete.
    #[error("incomplete body")]
    BrokenBody,
    /// The table is unavailable; with the seconds after which to try again.
    #[error("try again")]
    Unavailable(i64),
}

impl Target<'_> {
    /// The action of the ping.
    pub const fn action(&self) -> Action {
        match *self {
            Self::Monitor { action, .. } | Self::Slug { action, .. } => action,
        }
    }
}

/// Parses the part of a path after `/ping/`. It does not decode escapes, because no valid path
/// needs any.
///
/// # Errors
/// [`Refused::NotFound`] if no route matches, [`Refused::Url`] for a slug with an uppercase letter
/// or too many characters.
pub fn parse(path: &str) -> Result<Target<'_>, Refused> {
    let parts: Vec<&str> = path.splitn(4, '/').collect();
    if let Some(id) = MonitorId::parse_canonical(parts[0]) {
        match parts[1..] {
            [] | [""] => {
                return Ok(Target::Monitor {
                    id,
                    action: Action::Success,
                });
            }
            [action] => {
                if let Some(action) = parse_action(action) {
                    return Ok(Target::Monitor { id, action });
                }
            }
            _ => {}
        }
    }
    let (key, slug, action) = match *parts {
        [key, slug] => (key, slug, Some(Action::Success)),
        [key, slug, action] => (key, slug, parse_action(action)),
        _ => return Err(Refused::NotFound),
    };
    let action = action.ok_or(Refused::NotFound)?;
    if !is_word(key) || !is_word(slug) {
        return Err(Refused::NotFound);
    }
    if slug.bytes().any(|b| b.is_ascii_uppercase()) || slug.len() > MAX_NAME {
        return Err(Refused::Url);
    }
    Ok(Target::Slug { key, slug, action })
}

fn parse_action(text: &str) -> Option<Action> {
    match text {
        "start" => Some(Action::Start),
        "fail" => Some(Action::Fail),
        "log" => Some(Action::Log),
        number if !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()) => {
            let significant = number.trim_start_matches('0');
            Some(Action::ExitStatus(if significant.is_empty() {
                Some(0)
            } else {
                significant.parse().ok()
            }))
        }
        _ => None,
    }
}

fn is_word(text: &str) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    const UUID: &str = "0a1b2c3d-4e5f-4a0b-8c1d-2e3f40516273";

    #[test]
    fn paths_route_as_documented() {
        let id: MonitorId = UUID.parse().unwrap();
        let monitor = |action| Ok(Target::Monitor { id, action });
        let slug = |slug, action| {
            Ok(Target::Slug {
                key: "k3y_-",
                slug,
                action,
            })
        };
        let upper = UUID.to_uppercase();
        for (path, expected) in [
            (UUID.to_owned(), monitor(Action::Success)),
            (format!("{UUID}/"), monitor(Action::Success)),
            (format!("{UUID}/start"), monitor(Action::Start)),
            (format!("{UUID}/fail"), monitor(Action::Fail)),
            (format!("{UUID}/log"), monitor(Action::Log)),
            (format!("{UUID}/0"), monitor(Action::ExitStatus(Some(0)))),
            (format!("{UUID}/000"), monitor(Action::ExitStatus(Some(0)))),
            (format!("{UUID}/007"), monitor(Action::ExitStatus(Some(7)))),
            (
                format!("{UUID}/255"),
                monitor(Action::ExitStatus(Some(255))),
            ),
            (format!("{UUID}/256"), monitor(Action::ExitStatus(None))),
            (
                format!("{UUID}/{}", "9".repeat(99)),
                monitor(Action::ExitStatus(None)),
            ),
            (format!("{UUID}/fail/"), Err(Refused::NotFound)),
            (format!("{UUID}/fail/x"), Err(Refused::NotFound)),
            (upper, Err(Refused::NotFound)),
            (UUID.replace('-', ""), Err(Refused::NotFound)),
            ("k3y_-/web-01".into(), slug("web-01", Action::Success)),
            ("k3y_-/start".into(), slug("start", Action::Success)),
            ("k3y_-/web-01/start".into(), slug("web-01", Action::Start)),
            (
                "k3y_-/web-01/3".into(),
                slug("web-01", Action::ExitStatus(Some(3))),
            ),
            ("k3y_-/web-01/".into(), Err(Refused::NotFound)),
            ("k3y_-/web-01/x".into(), Err(Refused::NotFound)),
            ("k3y_-/Web-01".into(), Err(Refused::Url)),
            (format!("k3y_-/{}", "x".repeat(101)), Err(Refused::Url)),
            ("k3y_-/web.01".into(), Err(Refused::NotFound)),
            ("k3y.-/web".into(), Err(Refused::NotFound)),
            ("k3y_-".into(), Err(Refused::NotFound)),
            (String::new(), Err(Refused::NotFound)),
            ("/".into(), Err(Refused::NotFound)),
            ("a/b/start/d".into(), Err(Refused::NotFound)),
            ("a%2Fb/c".into(), Err(Refused::NotFound)),
        ] {
            assert_eq!(parse(&path), expected, "{path}");
        }
        // Not an action, so this is a ping key that looks like a uuid, and a slug.
        for tail in ["foo", "-1"] {
            let path = format!("{UUID}/{tail}");
            assert!(matches!(parse(&path), Ok(Target::Slug { .. })), "{path}");
        }
    }
}
