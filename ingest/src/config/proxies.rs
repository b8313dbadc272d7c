//! The proxies in front of Thrum.

use std::net::IpAddr;
use thrum_schema::network::Networks;

/// The proxies in front of Thrum. Their `X-Forwarded-For` and `X-Forwarded-Proto` are believed;
/// those of all others are removed.
#[derive(Debug, Clone, Default)]
pub struct Proxies(Networks);

impl Proxies {
    /// Parses addresses and networks, separated by commas, such as `127.0.0.1, 10.0.0.0/8`.
    ///
    /// # Errors
    /// Something in the list is neither.
    pub fn parse(list: &str) -> Result<Self, String> {
        Networks::parse(list).map(Self)
    }

    /// Whether `peer` is one of them.
    pub fn trust(&self, peer: IpAddr) -> bool {
        self.0.contain(peer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_configured_proxies_are_trusted() {
        let proxies = Proxies::parse("192.0.2.0/24,2001:db8::/32").unwrap();
        for (peer, trusted) in [
            ("192.0.2.7", true),
            ("::ffff:192.0.2.7", true),
            ("192.0.3.7", false),
            ("2001:db8::7", true),
            ("::1", false),
        ] {
            assert_eq!(proxies.trust(peer.parse().unwrap()), trusted, "{peer}");
        }
        assert!(
            Proxies::parse("proxy.example")
                .unwrap_err()
                .contains("proxy.example")
        );
        assert!(!Proxies::default().trust("127.0.0.1".parse().unwrap()));
    }
}
