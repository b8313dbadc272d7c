//! The paths of the management API in one table: the endpoint of each, and its methods. Every path
//! works with and without a trailing slash.

use axum::http::Method;
use thrum_schema::MonitorId;

/// How a path identifies a check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ref {
    /// By its uuid.
    Id(MonitorId),
    /// By its unique key: 40 hex digits.
    UniqueKey(String),
}

/// The endpoint of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Endpoint {
    Checks,
    Check(Ref),
    Pause(MonitorId),
    Resume(MonitorId),
    Pings(MonitorId),
    PingBody(MonitorId, u64),
    Flips(Ref),
    Channels,
    Badges,
    Status,
    Metrics,
    NotificationStatus,
    Bounces,
}

/// The version of the API and the endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Routed {
    /// 1, 2 or 3.
    pub version: u8,
    /// The endpoint.
    pub endpoint: Endpoint,
}

/// Parses the part of a path after `/api/`, without decoding escapes; `None` if there is no such
/// endpoint.
pub fn parse(path: &str) -> Option<Routed> {
    let path = path.strip_suffix('/').unwrap_or(path);
    let mut parts = path.split('/');
    let version = match parts.next()? {
        "v1" => 1,
        "v2" => 2,
        "v3" => 3,
        _ => return None,
    };
    let parts: Vec<&str> = parts.collect();
    let id = |text: &str| MonitorId::parse_canonical(text);
    let endpoint = match *parts {
        ["checks"] => Endpoint::Checks,
        ["checks", check] => Endpoint::Check(parse_ref(check)?),
        ["checks", check, "pause"] => Endpoint::Pause(id(check)?),
        ["checks", check, "resume"] => Endpoint::Resume(id(check)?),
        ["checks", check, "pings"] => Endpoint::Pings(id(check)?),
        ["checks", check, "pings", n, "body"] => Endpoint::PingBody(id(check)?, parse_n(n)?),
        ["checks", check, "flips"] => Endpoint::Flips(parse_ref(check)?),
        ["channels"] => Endpoint::Channels,
        ["badges"] => Endpoint::Badges,
        ["status"] => Endpoint::Status,
        ["metrics"] => Endpoint::Metrics,
        ["notifications", id, "status"] => {
            uuid::Uuid::try_parse(id).ok()?;
            Endpoint::NotificationStatus
        }
        ["bounces"] => Endpoint::Bounces,
        _ => return None,
    };
    Some(Routed { version, endpoint })
}

impl Endpoint {
    /// The supported methods, besides OPTIONS.
    pub const fn methods(&self) -> &'static [Method] {
        match self {
            Self::Checks => &[Method::GET, Method::POST],
            Self::Check(Ref::Id(_)) => &[Method::GET, Method::POST, Method::DELETE],
            Self::Pause(_) | Self::Resume(_) | Self::NotificationStatus | Self::Bounces => {
                &[Method::POST]
            }
            Self::Check(Ref::UniqueKey(_))
            | Self::Pings(_)
            | Self::PingBody(..)
            | Self::Flips(_)
            | Self::Channels
            | Self::Badges
            | Self::Status
            | Self::Metrics => &[Method::GET],
        }
    }
}

fn parse_ref(text: &str) -> Option<Ref> {
    if let Some(id) = MonitorId::parse_canonical(text) {
        return Some(Ref::Id(id));
    }
    let hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    (text.len() == 40 && text.bytes().all(hex)).then(|| Ref::UniqueKey(text.to_owned()))
}

fn parse_n(text: &str) -> Option<u64> {
    text.bytes()
        .all(|b| b.is_ascii_digit())
        .then(|| text.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_route_as_documented_with_or_without_a_slash() {
        let uuid = "0a1b2c3d-4e5f-4a0b-8c1d-2e3f40516273";
        let id: MonitorId = uuid.parse().unwrap();
        let key = "0123456789abcdef0123456789abcdef01234567";
        for (path, endpoint) in [
            ("checks".to_owned(), Endpoint::Checks),
            (format!("checks/{uuid}"), Endpoint::Check(Ref::Id(id))),
            (
                format!("checks/{key}"),
                Endpoint::Check(Ref::UniqueKey(key.into())),
            ),
            (format!("checks/{uuid}/pause"), Endpoint::Pause(id)),
            (format!("checks/{uuid}/resume"), Endpoint::Resume(id)),
            (format!("checks/{uuid}/pings"), Endpoint::Pings(id)),
            (
                format!("checks/{uuid}/pings/7/body"),
                Endpoint::PingBody(id, 7),
            ),
            (format!("checks/{uuid}/flips"), Endpoint::Flips(Ref::Id(id))),
            (
                format!("checks/{key}/flips"),
                Endpoint::Flips(Ref::UniqueKey(key.into())),
            ),
            ("channels".to_owned(), Endpoint::Channels),
            ("badges".to_owned(), Endpoint::Badges),
            ("status".to_owned(), Endpoint::Status),
            ("metrics".to_owned(), Endpoint::Metrics),
            (
                format!("notifications/{uuid}/status"),
                Endpoint::NotificationStatus,
            ),
            ("bounces".to_owned(), Endpoint::Bounces),
        ] {
            for version in 1..=3 {
                for slash in ["", "/"] {
                    let routed = parse(&format!("v{version}/{path}{slash}"));
                    let endpoint = endpoint.clone();
                    assert_eq!(routed, Some(Routed { version, endpoint }), "{path}");
                }
            }
        }
        for unknown in [
            "",
            "v3",
            "v4/checks",
            "v3/checks//",
            "v3/checks/x",
            &format!("v3/checks/{}", uuid.to_uppercase()),
            &format!("v3/checks/{uuid}/pings/-1/body"),
            &format!("v3/checks/{uuid}/pings/x/body"),
            &format!("v3/checks/{uuid}/pings/99999999999999999999/body"),
            &format!("v3/checks/{key}/pause"),
        ] {
            assert_eq!(parse(unknown), None, "{unknown}");
        }
    }
}
