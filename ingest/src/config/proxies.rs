//! The proxies in front of Thrum.

use ipnet::IpNet;
use std::net::IpAddr;

/// Most proxies to configure.
const MAX_PROXIES: usize = 64;

/// The proxies in front of Thrum. Their `X-Forwarded-For` and `X-Forwarded-Proto` are believed;
/// those of all others are removed.
#[derive(Debug, Clone, Default)]
pub struct Proxies(Vec<IpNet>);

impl Proxies {
    /// Parses addresses and networks, separated by commas, such as `127.0.0.1, 10.0.0.0/8`.
    ///
    /// # Errors
    /// Something in the list is neither.
    pub fn parse(list: &str) -> Result<Self, String> {
        let texts = list.split(',').map(str::trim);
        let networks = texts.filter(|text| !text.is_empty()).map(|text| {
            let address = text.parse::<IpAddr>().map(IpNet::from);
            address.or_else(|_| text.parse::<IpNet>()).map_err(|_| {
                format!("`{text}` must be an address or a network, such as 127.0.0.1 or 10.0.0.0/8")
            })
        });
        let networks: Vec<IpNet> = networks.collect::<Result<_, _>>()?;
        if networks.len() > MAX_PROXIES {
            return Err(format!(
                "must be at most {MAX_PROXIES} addresses or networks"
            ));
        }
        Ok(Self(networks))
    }

    /// Whether `peer` is one of them.
    pub fn trust(&self, peer: IpAddr) -> bool {
        let peer = peer.to_canonical();
        self.0.iter().any(|network| network.contains(&peer))
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
