//! Who sent a request. Only a configured proxy may speak for others.

use crate::app::App;
use crate::config::Proxies;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::{Extensions, HeaderMap, HeaderValue, header};
use axum::middleware::Next;
use axum::response::Response;
use std::net::{IpAddr, SocketAddr};
use std::sync::Once;
use thrum_schema::ping::MAX_USER_AGENT;

const FORWARDED_FOR: &str = "x-forwarded-for";
const FORWARDED_PROTO: &str = "x-forwarded-proto";

/// The address of the client that a request comes from.
#[derive(Debug, Clone, Copy)]
pub struct ClientIp(pub IpAddr);

/// The client, according to the proxy `peer`: the last address in `X-Forwarded-For` that is not a
/// proxy's, because clients can write what they like before it.
fn client_of(proxies: &Proxies, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
    let values = headers.get_all(FORWARDED_FOR).into_iter().rev();
    let texts = values.flat_map(|value| value.to_str().unwrap_or_default().rsplit(','));
    let mut client = peer;
    for text in texts {
        let text = text.trim();
        let address = text.parse::<IpAddr>().ok();
        let address = address.or_else(|| Some(text.parse::<SocketAddr>().ok()?.ip()));
        let Some(address) = address else {
            break;
        };
        client = address;
        if !proxies.trust(address) {
            break;
        }
    }
    client
}

/// Finds out who sent a request, and removes what others than the configured proxies say about it.
/// A function URL has already done so.
pub async fn identify(State(app): State<App>, mut request: Request, next: Next) -> Response {
    if request.extensions().get::<ClientIp>().is_none() {
        let peer = request.extensions().get::<ConnectInfo<SocketAddr>>();
        let peer = peer.map(|peer| peer.0.ip());
        let proxies = &app.config.proxies;
        let client = match peer {
            Some(peer) if proxies.trust(peer) => Some(client_of(proxies, peer, request.headers())),
            _ => {
                let headers = request.headers_mut();
                let removed = headers.remove(FORWARDED_PROTO);
                if let (Some(_), Some(peer)) = (headers.remove(FORWARDED_FOR).or(removed), peer) {
                    advise(peer);
                }
                peer
            }
        };
        if let Some(client) = client {
            request.extensions_mut().insert(ClientIp(client));
        }
    }
    next.run(request).await
}

/// Says once how to trust a proxy.
fn advise(peer: IpAddr) {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        tracing::warn!(
            %peer,
            "ignored X-Forwarded-For or X-Forwarded-Proto; if {peer} is your proxy, set --trusted-proxies {peer}"
        );
    });
}

/// `https` if a proxy says so, else `http`.
pub fn scheme(headers: &HeaderMap) -> &'static str {
    match headers.get(FORWARDED_PROTO).map(HeaderValue::as_bytes) {
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

/// The address that a request came from.
pub fn remote_addr(extensions: &Extensions) -> Option<String> {
    let client = extensions.get::<ClientIp>();
    client.map(|client| client.0.to_canonical().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_is_what_the_nearest_proxy_saw() {
        let proxies = Proxies::parse("127.0.0.1, 10.0.0.0/8,::1").unwrap();
        let peer: IpAddr = "127.0.0.1".parse().unwrap();
        for (headers, client) in [
            (vec![], "127.0.0.1"),
            (vec!["192.0.2.9"], "192.0.2.9"),
            (vec!["192.0.2.1, 192.0.2.9"], "192.0.2.9"),
            (vec!["192.0.2.1, 192.0.2.9, 10.1.2.3"], "192.0.2.9"),
            (vec!["192.0.2.1", "192.0.2.9, 10.1.2.3"], "192.0.2.9"),
            (vec!["192.0.2.9:1234"], "192.0.2.9"),
            (vec!["[2001:db8::1]:9"], "2001:db8::1"),
            (vec!["192.0.2.1, nonsense, 10.1.2.3"], "10.1.2.3"),
            (vec!["10.1.2.3"], "10.1.2.3"),
        ] {
            let mut map = HeaderMap::new();
            for value in &headers {
                map.append(FORWARDED_FOR, HeaderValue::from_static(value));
            }
            let found = client_of(&proxies, peer, &map);
            assert_eq!(found.to_string(), client, "{headers:?}");
        }
    }
}
