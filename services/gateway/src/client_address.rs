//! Where a call really comes from.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use gumshoe_runtime::ConfigError;
use http::{Extensions, HeaderMap};
use ipnet::IpNet;
use tonic::transport::server::{TcpConnectInfo, TlsConnectInfo};

/// The networks whose `x-forwarded-for` is believed.
#[derive(Debug, Clone)]
pub struct Proxies(Vec<IpNet>);

impl Proxies {
    /// Reads CIDR blocks.
    ///
    /// # Errors
    /// [`ConfigError::Key`].
    pub fn parse(blocks: &[String]) -> Result<Self, ConfigError> {
        let wrong = |_| ConfigError::key("trusted_proxies", "must hold networks such as `10.0.0.0/8`");
        blocks.iter().map(|block| block.parse()).collect::<Result<_, _>>().map(Self).map_err(wrong)
    }

    /// The client's address: the peer's, or, while that is a trusted proxy, the one it says it got the call from.
    /// `None` if the transport does not know its peer.
    #[must_use]
    pub fn client_address(&self, peer: Option<SocketAddr>, headers: &HeaderMap) -> Option<IpAddr> {
        let mut address = peer?.ip().to_canonical();
        // Each proxy appends, so the list is true only from its end and as long as proxies of ours wrote it.
        let forwarded = headers.get_all("x-forwarded-for").iter().rev().filter_map(|value| value.to_str().ok()).flat_map(|value| value.rsplit(','));
        for previous in forwarded {
            if !self.0.iter().any(|network| network.contains(&address)) {
                break;
            }
            let Ok(previous) = previous.trim().parse::<IpAddr>() else { break };
            address = previous.to_canonical();
        }
        Some(address)
    }
}

/// The other end of the connection, and whether it is encrypted.
#[must_use]
pub fn peer(extensions: &Extensions) -> (Option<SocketAddr>, bool) {
    match extensions.get::<TlsConnectInfo<TcpConnectInfo>>() {
        Some(info) => (info.get_ref().remote_addr(), true),
        None => (extensions.get::<TcpConnectInfo>().and_then(TcpConnectInfo::remote_addr), false),
    }
}

/// What addresses count as one client: an IPv4 address, or the /64 that an IPv6 client has for itself.
#[must_use]
pub fn client_network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(peer: &str, forwarded: &[&str]) -> String {
        let proxies = Proxies::parse(&["10.0.0.0/8".to_owned(), "fd00::/8".to_owned()]).unwrap();
        let mut headers = HeaderMap::new();
        for value in forwarded {
            headers.append("x-forwarded-for", value.parse().unwrap());
        }
        proxies.client_address(Some(SocketAddr::new(peer.parse().unwrap(), 1)), &headers).unwrap().to_string()
    }

    #[test]
    fn only_proxies_of_ours_are_believed() {
        assert_eq!(address("198.51.100.1", &["203.0.113.9"]), "198.51.100.1");
        assert_eq!(address("10.0.0.1", &["203.0.113.9"]), "203.0.113.9");
        assert_eq!(address("10.0.0.1", &[]), "10.0.0.1");
        // The client wrote the first entry; the first proxy the second.
        assert_eq!(address("10.0.0.1", &["1.1.1.1, 203.0.113.9, 10.0.0.2"]), "203.0.113.9");
        assert_eq!(address("10.0.0.1", &["1.1.1.1", "203.0.113.9"]), "203.0.113.9");
        assert_eq!(address("10.0.0.1", &["1.1.1.1, garbage"]), "10.0.0.1");
        assert_eq!(address("fd00::1", &["2001:db8::7"]), "2001:db8::7");
        assert_eq!(address("::ffff:10.0.0.1", &["203.0.113.9"]), "203.0.113.9");
        assert!(Proxies::parse(&["10.0.0.0".to_owned()]).is_err());
    }

    #[test]
    fn an_ipv6_client_is_its_network() {
        assert_eq!(client_network("2001:db8:1:2:3:4:5:6".parse().unwrap()).to_string(), "2001:db8:1:2::");
        assert_eq!(client_network("192.0.2.1".parse().unwrap()).to_string(), "192.0.2.1");
    }
}
