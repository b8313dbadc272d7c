//! IP addresses: which are on the public internet, and networks that an operator names.

use ipnet::IpNet;
use std::net::{IpAddr, Ipv4Addr};

/// Most networks to configure.
const MAX_NETWORKS: usize = 64;

/// A list of networks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Networks(Vec<IpNet>);

impl Networks {
    /// Every address.
    pub fn all() -> Self {
        let any = [IpAddr::from([0; 4]), IpAddr::from([0_u16; 8])];
        Self(any.map(|zero| IpNet::new_assert(zero, 0)).to_vec())
    }

    /// Parses addresses and networks, separated by commas, such as `127.0.0.1, 10.0.0.0/8`; `all` is
    /// every address.
    ///
    /// # Errors
    /// Something in the list is neither.
    pub fn parse(list: &str) -> Result<Self, String> {
        if list.trim() == "all" {
            return Ok(Self::all());
        }
        let texts = list.split(',').map(str::trim);
        let networks = texts.filter(|text| !text.is_empty()).map(|text| {
            let address = text.parse::<IpAddr>().map(IpNet::from);
            address.or_else(|_| text.parse::<IpNet>()).map_err(|_| {
                format!("`{text}` must be an address or a network, such as 127.0.0.1 or 10.0.0.0/8")
            })
        });
        let networks: Vec<IpNet> = networks.collect::<Result<_, _>>()?;
        if networks.len() > MAX_NETWORKS {
            return Err(format!(
                "must be at most {MAX_NETWORKS} addresses or networks"
            ));
        }
        Ok(Self(networks))
    }

    /// Whether `address` is in one of them.
    pub fn contain(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|network| network.contains(&address))
    }

    /// Whether messages may go to `address`: it is public, or in one of these networks.
    pub fn admit(&self, address: IpAddr) -> bool {
        is_public(address) || self.contain(address)
    }
}

/// Whether an address is reachable on the public internet: not loopback, private, link-local,
/// shared, multicast, documentation, benchmarking or reserved, and not an IPv6 address that embeds
/// such an IPv4 address. Follows IANA's special-purpose registries (RFC 6890).
pub fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => is_public_v4(v4),
        IpAddr::V6(v6) => {
            if let Some(v4) = v6.to_ipv4_mapped() {
                return is_public_v4(v4);
            }
            let s = v6.segments();
            let embedded = match s {
                // 6to4, and NAT64's well-known prefix.
                [0x2002, a, b, ..] | [0x64, 0xff9b, 0, 0, 0, 0, a, b] => {
                    Some(Ipv4Addr::from(u32::from(a) << 16 | u32::from(b)))
                }
                _ => None,
            };
            if let Some(v4) = embedded {
                return is_public_v4(v4);
            }
            // Only 2000::/3 is assigned to the public internet, except for Teredo and
            // documentation.
            s[0] & 0xe000 == 0x2000
                && !(s[0] == 0x2001 && s[1] < 0x200)
                && !(s[0] == 0x2001 && s[1] == 0xdb8)
                && !(s[0] == 0x3fff && s[1] < 0x1000)
        }
    }
}

fn is_public_v4(v4: Ipv4Addr) -> bool {
    let [a, b, c, _] = v4.octets();
    !(a == 0
        || v4.is_private()
        || v4.is_loopback()
        || v4.is_link_local()
        || v4.is_documentation()
        || (a == 100 && b & 0xc0 == 64)
        || (a == 192 && b == 0 && c == 0)
        || (a == 192 && b == 88 && c == 99)
        || (a == 198 && b & 0xfe == 18)
        || a >= 224)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn named_networks_are_admitted() {
        let networks = Networks::parse("10.1.0.0/16, 192.168.7.9, fd00::/8").unwrap();
        for (address, is_admitted) in [
            ("1.1.1.1", true),
            ("10.1.2.3", true),
            ("::ffff:10.1.2.3", true),
            ("10.2.0.1", false),
            ("192.168.7.9", true),
            ("192.168.7.8", false),
            ("fd00::1", true),
            ("::1", false),
        ] {
            assert_eq!(
                networks.admit(address.parse().unwrap()),
                is_admitted,
                "{address}"
            );
        }
        let all = Networks::parse("all").unwrap();
        assert!(
            ["127.0.0.1", "::1"]
                .iter()
                .all(|a| all.admit(a.parse().unwrap()))
        );
        assert!(Networks::parse("intranet").is_err());
    }

    #[test]
    fn only_public_addresses_are_public() {
        for private in [
            "0.0.0.0",
            "10.1.2.3",
            "100.64.0.1",
            "127.0.0.1",
            "169.254.169.254",
            "172.16.0.1",
            "192.168.1.1",
            "192.0.0.8",
            "198.18.0.1",
            "203.0.113.9",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "fe80::1",
            "fc00::1",
            "fd00:ec2::254",
            "ff02::1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "2002:7f00:1::",
            "64:ff9b::a00:1",
            "2001::1",
            "2001:db8::1",
            "::7f00:1",
        ] {
            assert!(!is_public(private.parse().unwrap()), "{private}");
        }
        for public in [
            "1.1.1.1",
            "93.184.216.34",
            "100.128.0.1",
            "2606:4700::1111",
            "64:ff9b::101:101",
        ] {
            assert!(is_public(public.parse().unwrap()), "{public}");
        }
    }
}
