//! The sender of a request, for the ping log.

use axum::extract::ConnectInfo;
use axum::http::{Extensions, HeaderMap, HeaderValue, header};
use std::net::{IpAddr, SocketAddr};
use thrum_schema::ping::MAX_USER_AGENT;

/// The client's address, as reported by Lambda.
#[derive(Debug, Clone, Copy)]
pub struct SourceIp(pub IpAddr);

/// `https` if a proxy says so, else `http`.
pub fn scheme(headers: &HeaderMap) -> &'static str {
    match headers.get("x-forwarded-proto").map(HeaderValue::as_bytes) {
        Some(b"https") => "https",
        _ => "http",
    }
}

/// The user agent, truncated to the stored length.
pub fn user_agent(headers: &HeaderMap) -> String {
    let ua = headers.get(header::USER_AGENT).map(HeaderValue::as_bytes);
    String::from_utf8_lossy(ua.unwrap_or_default())
        .chars()
        .take(MAX_USER_AGENT)
        .collect()
}

/// The address that a ping came from, used only in its log: the first one in `X-Forwarded-For`, or
/// else the peer's. A value that is not an address is ignored.
pub fn remote_addr(headers: &HeaderMap, extensions: &Extensions) -> Option<String> {
    let forwarded = headers
        .get("x-forwarded-for")
        .and_then(|value| value.to_str().ok())
        .and_then(|list| list.split(',').next())
        .and_then(|first| {
            let first = first.trim();
            let address = first.parse::<IpAddr>().ok();
            address.or_else(|| first.parse::<SocketAddr>().ok().map(|peer| peer.ip()))
        });
    let peer = || match extensions.get::<SourceIp>() {
        Some(SourceIp(ip)) => Some(*ip),
        None => extensions
            .get::<ConnectInfo<SocketAddr>>()
            .map(|info| info.0.ip()),
    };
    forwarded.or_else(peer).map(|address| address.to_string())
}
