//! Network addresses and times as records write them, made canonical.

use std::{
    borrow::Cow,
    net::{IpAddr, Ipv6Addr},
};

use gumshoe_model::Timestamp;

/// An IP address and its canonical text; an IPv4 address mapped into IPv6 is the IPv4 address.
pub(crate) fn ip<'a>(text: impl Into<Cow<'a, str>>) -> Option<(IpAddr, Cow<'a, str>)> {
    let text = text.into();
    // The parser takes dotted decimals in their canonical form only.
    let parsed = text.parse::<IpAddr>().ok()?;
    let address = parsed.to_canonical();
    if address.is_ipv4() && parsed.is_ipv4() {
        return Some((address, text));
    }
    let canonical = address.to_string();
    Some((address, if canonical == *text { text } else { Cow::Owned(canonical) }))
}

/// Where a call came from: an IP address made canonical, anything else as it is.
pub(crate) fn origin(text: Cow<'_, str>) -> Cow<'_, str> {
    let may_be_ip = text.as_bytes().first().is_some_and(|byte| byte.is_ascii_hexdigit() || *byte == b':');
    if may_be_ip && let Some((_, canonical)) = ip(text.clone()) { canonical } else { text }
}

/// Whether the address belongs to a private network: RFC 1918, carrier-grade NAT, link-local, loopback, unique local.
pub(crate) fn is_private(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            let [first, second, ..] = v4.octets();
            v4.is_private() || v4.is_link_local() || v4.is_loopback() || (first == 100 && (64..128).contains(&second))
        }
        IpAddr::V6(v6) => v6.is_unique_local() || v6.is_unicast_link_local() || v6 == Ipv6Addr::LOCALHOST,
    }
}

/// Reads RFC 3339, or the `2024-01-31 12:00:00.000` of CloudTrail Lake, which is UTC.
pub(crate) fn time(text: &str) -> Option<Timestamp> {
    if let Ok(time) = Timestamp::parse(text) {
        return Some(time);
    }
    let (day, clock) = text.split_once(' ')?;
    let zoned = clock.contains(['Z', '+', '-']);
    Timestamp::parse(&format!("{day}T{clock}{}", if zoned { "" } else { "Z" })).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_canonical() {
        assert_eq!(origin("2001:DB8:0:0::1".into()), "2001:db8::1");
        assert_eq!(origin("::ffff:192.0.2.1".into()), "192.0.2.1");
        assert_eq!(origin("ec2.amazonaws.com".into()), "ec2.amazonaws.com");
        assert_eq!(origin("AWS Internal".into()), "AWS Internal");
        assert!(matches!(ip("192.0.2.1"), Some((_, Cow::Borrowed("192.0.2.1")))));
        for private in ["10.1.2.3", "172.31.0.1", "192.168.0.1", "100.64.0.1", "169.254.169.254", "fd00::1", "fe80::1", "::1"] {
            assert!(is_private(private.parse().unwrap()), "{private}");
        }
        for public in ["8.8.8.8", "100.128.0.1", "172.32.0.1", "2001:db8::1"] {
            assert!(!is_private(public.parse().unwrap()), "{public}");
        }
    }

    #[test]
    fn reads_times_of_the_lake() {
        assert_eq!(time("2024-01-31 12:00:00.250").unwrap().to_string(), "2024-01-31T12:00:00.250Z");
        assert_eq!(time("2022-02-08 09:23:37+11:00").unwrap().to_string(), "2022-02-07T22:23:37Z");
        assert_eq!(time("yesterday"), None);
    }
}
