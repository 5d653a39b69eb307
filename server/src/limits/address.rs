//! Which address a request really comes from.
//!
//! Owns the reading of `X-Forwarded-For`. Knows nothing about requests: it is given the peer, the header's values and
//! the proxies that the operator trusts.

use crate::config::Network;
use std::net::{IpAddr, SocketAddr};

/// The rightmost address that is not a trusted proxy. Each proxy appends the peer it saw, so everything to the left of
/// the first stranger was written by that stranger. A peer that is not trusted is the answer itself.
pub fn real_address<'a>(peer: IpAddr, forwarded_for: impl IntoIterator<Item = &'a str>, trusted: &[Network]) -> IpAddr {
    let is_trusted = |address: IpAddr| trusted.iter().any(|network| network.contains(address));
    let mut nearest = peer.to_canonical();
    if !is_trusted(nearest) {
        return nearest;
    }
    let values: Vec<_> = forwarded_for.into_iter().collect();
    let hops = values.iter().rev().flat_map(|value| value.rsplit(','));
    for hop in hops {
        // Something unreadable was handed on by a proxy we trust: what lies left of it is nobody's word.
        let Some(address) = parse_hop(hop.trim()) else { break };
        nearest = address;
        if !is_trusted(nearest) {
            break;
        }
    }
    nearest
}

/// An address as proxies write it: bare, with a port, or IPv6 in brackets.
fn parse_hop(hop: &str) -> Option<IpAddr> {
    let bracketed = || hop.strip_prefix('[')?.strip_suffix(']')?.parse::<IpAddr>().ok();
    let with_port = || hop.parse::<SocketAddr>().ok().map(|address| address.ip());
    hop.parse().ok().or_else(with_port).or_else(bracketed).map(|address: IpAddr| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rightmost_address_that_is_not_a_proxy_of_ours() {
        let table: &[(&str, &[&str], &[&str], &str)] = &[
            // peer, header values, trusted proxies, answer
            ("203.0.113.9", &[], &[], "203.0.113.9"),
            ("203.0.113.9", &["1.1.1.1"], &[], "203.0.113.9"),
            ("203.0.113.9", &["1.1.1.1"], &["10.0.0.0/8"], "203.0.113.9"),
            ("10.0.0.1", &[], &["10.0.0.0/8"], "10.0.0.1"),
            ("10.0.0.1", &["198.51.100.7"], &["10.0.0.0/8"], "198.51.100.7"),
            ("10.0.0.1", &["6.6.6.6, 198.51.100.7"], &["10.0.0.0/8"], "198.51.100.7"),
            ("10.0.0.1", &["6.6.6.6, 198.51.100.7, 10.0.0.2"], &["10.0.0.0/8"], "198.51.100.7"),
            ("10.0.0.1", &["6.6.6.6", "198.51.100.7"], &["10.0.0.0/8"], "198.51.100.7"),
            ("10.0.0.1", &["6.6.6.6,198.51.100.7", "10.0.0.2"], &["10.0.0.0/8"], "198.51.100.7"),
            ("10.0.0.1", &["10.0.0.3, 10.0.0.2"], &["10.0.0.0/8"], "10.0.0.3"),
            ("10.0.0.1", &["6.6.6.6, nonsense"], &["10.0.0.0/8"], "10.0.0.1"),
            ("10.0.0.1", &["6.6.6.6, , 10.0.0.2"], &["10.0.0.0/8"], "10.0.0.2"),
            ("10.0.0.1", &[""], &["10.0.0.0/8"], "10.0.0.1"),
            ("10.0.0.1", &["198.51.100.7:4711"], &["10.0.0.1"], "198.51.100.7"),
            ("10.0.0.1", &["[2001:db8::7]:4711"], &["10.0.0.1"], "2001:db8::7"),
            ("10.0.0.1", &["[2001:db8::7]"], &["10.0.0.1"], "2001:db8::7"),
            ("10.0.0.1", &["2001:db8::7"], &["10.0.0.1"], "2001:db8::7"),
            ("::ffff:10.0.0.1", &["198.51.100.7"], &["10.0.0.0/8"], "198.51.100.7"),
            ("::ffff:203.0.113.9", &["1.1.1.1"], &[], "203.0.113.9"),
            ("fd00::1", &["2001:db8::7"], &["fd00::/8"], "2001:db8::7"),
        ];
        for (peer, values, trusted, expected) in table {
            let trusted: Vec<Network> = trusted.iter().map(|network| network.parse().unwrap()).collect();
            let found = real_address(peer.parse().unwrap(), values.iter().copied(), &trusted);
            assert_eq!(found, expected.parse::<IpAddr>().unwrap(), "{peer} {values:?} {trusted:?}");
        }
    }
}
