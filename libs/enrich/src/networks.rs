//! What kind of network an autonomous system is: of people, of clouds and hosting, of VPNs and proxies.
//!
//! By number for the largest, as their operators publish them and as they are registered with the regional registries, else by
//! words in the organisation's name. Both are rough: a provider of access that also hosts counts as access.

/// What kind of network it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// People's: homes, offices, phones; or not known.
    Access,
    /// A cloud or hosting provider.
    Hosting,
    /// Exits of VPNs, private relays, security proxies.
    Vpn,
}

/// Clouds and hosting. Sorted.
const HOSTING: &[u32] = &[
    3842, 6724, 7684, 8068, 8069, 8070, 8075, 8100, 8560, 8972, 9370, 10439, 12876, 13213, 14061, 14618, 15083, 15169, 15395, 16125, 16276, 16397, 16509,
    17378, 18779, 19318, 19437, 19527, 19871, 20454, 20473, 20738, 21499, 21844, 22363, 22576, 22612, 23033, 23352, 24940, 25369, 25513, 25820, 26347, 26496,
    27357, 28753, 29066, 29073, 29802, 29838, 30083, 30633, 31898, 32244, 32475, 32613, 33070, 33182, 33387, 34119, 34788, 35540, 35916, 36351, 36352, 37153,
    37963, 39351, 39572, 40676, 42442, 42708, 43362, 44066, 45090, 45102, 46475, 46606, 46844, 47583, 48282, 49367, 49505, 49544, 49981, 50304, 50673, 51167,
    51430, 51765, 52048, 53667, 53755, 54290, 54825, 55286, 55967, 58073, 59253, 59642, 59729, 60068, 60117, 60404, 60558, 60567, 60781, 61157, 61317, 62217,
    62240, 62567, 62904, 63018, 63473, 63949, 64286, 132203, 132817, 133752, 135340, 136907, 138915, 197540, 198651, 199883, 200019, 201814, 202053, 202425,
    203020, 204957, 206898, 207990, 210644, 211252, 213230, 213373, 216071, 262287, 394380, 396356, 396982, 397423, 398101,
];
/// VPNs, private relays and security proxies, whose exits say nothing about where somebody is. Sorted.
const VPN: &[u32] = &[
    9009, 13335, 20940, 22616, 31173, 36183, 36692, 39651, 53813, 54113, 55256, 60729, 62044, 62371, 62597, 136787, 137409, 141039, 147049, 204187, 206092,
    207137, 208172, 209854, 210743, 212238, 214961, 394536, 396507, 398271,
];
/// Words in names of organisations, in lower case.
const VPN_WORDS: &[&str] = &["vpn", "proxy", "private relay", "zscaler", "netskope", "tor exit", "mullvad", "anonym"];
const HOSTING_WORDS: &[&str] =
    &["hosting", "datacenter", "data center", "cloud", "colocation", "dedicated server", "virtual server", "vps", "amazon", "azure", "digitalocean", "hetzner"];

/// The kind of a network by its number, 0 for none, and the name of its organisation, which may be empty.
#[must_use]
pub fn kind(asn: u32, organization: &str) -> Kind {
    if VPN.binary_search(&asn).is_ok() {
        return Kind::Vpn;
    }
    if HOSTING.binary_search(&asn).is_ok() {
        return Kind::Hosting;
    }
    let name = organization.to_lowercase();
    let says = |words: &[&str]| words.iter().any(|word| name.contains(word));
    if says(VPN_WORDS) {
        Kind::Vpn
    } else if says(HOSTING_WORDS) {
        Kind::Hosting
    } else {
        Kind::Access
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_are_told_by_number_and_then_by_name() {
        assert!(HOSTING.is_sorted() && VPN.is_sorted(), "looked up by halves");
        assert!(VPN.iter().all(|asn| HOSTING.binary_search(asn).is_err()));
        for (asn, name, expected) in [
            (16509, "", Kind::Hosting),
            (396982, "GOOGLE-CLOUD-PLATFORM", Kind::Hosting),
            (9009, "M247 Europe SRL", Kind::Vpn),
            (22616, "ZSCALER-SJC", Kind::Vpn),
            (64500, "Example VPN Ltd", Kind::Vpn),
            (64500, "Example Hosting GmbH", Kind::Hosting),
            (3320, "Deutsche Telekom AG", Kind::Access),
            (0, "", Kind::Access),
        ] {
            assert_eq!(kind(asn, name), expected, "{asn} {name}");
        }
    }
}
