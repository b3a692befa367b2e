//! Which addresses are the public internet's. A server that downloads for strangers must not reach what they cannot
//! reach themselves: itself, its network, a cloud's metadata.

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::sync::Arc;

/// Whether an address may be connected to.
pub type May = fn(IpAddr) -> bool;
/// What finds the addresses of a name.
pub type Find = Arc<dyn Fn(&str) -> io::Result<Vec<SocketAddr>> + Send + Sync>;

/// That a name or address is none of the public internet's.
#[derive(Debug, thiserror::Error)]
#[error(
    "its address is not a public one: this server downloads from the public internet only (--fetch-private)"
)]
pub struct Private;

/// Addresses of names, all of which may be connected to. The client connects to what this returns and asks nobody again,
/// so that a name that means something else a moment later gains nothing.
#[derive(Clone)]
pub struct Names {
    pub may: May,
    pub find: Find,
}

/// As the system knows them.
pub fn system() -> Find {
    // The port is set by whoever connects.
    Arc::new(|name: &str| Ok((name, 0).to_socket_addrs()?.collect()))
}

impl Resolve for Names {
    fn resolve(&self, name: Name) -> Resolving {
        let Self { may, find } = self.clone();
        Box::pin(async move {
            let found = tokio::task::spawn_blocking(move || find(name.as_str())).await??;
            // One bad address among good ones is no accident.
            if !found.iter().all(|address| may(address.ip())) {
                return Err(Private.into());
            }
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

/// Whether the address belongs to the public internet (the registries of special-purpose addresses, RFC 6890).
pub fn is_public(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(v4) => is_public_v4(v4),
        IpAddr::V6(v6) => is_public_v6(v6),
    }
}

fn is_public_v4(v4: Ipv4Addr) -> bool {
    let [a, b, c, _] = v4.octets();
    let is_special = v4.is_private()
        || v4.is_loopback()
        || v4.is_link_local()
        || v4.is_multicast()
        || v4.is_documentation()
        || a == 0
        || a >= 240
        // Between a provider and its customers.
        || (a == 100 && (64..128).contains(&b))
        // Of protocols: assignments, the 6to4 relay, measurements between networks.
        || (a, b, c) == (192, 0, 0)
        || (a, b, c) == (192, 88, 99)
        || (a == 198 && (b == 18 || b == 19));
    !is_special
}

fn is_public_v6(v6: Ipv6Addr) -> bool {
    match v6.segments() {
        // 6to4 carries an IPv4 address, as do Teredo and others in 2001::/23; 2001:db8::/32 and 3fff::/20 are for books.
        [0x2002, ..] => false,
        [0x2001, b, ..] => b >= 0x200 && b != 0xdb8,
        [0x3fff, b, ..] => b >= 0x1000,
        [a, ..] => (0x2000..0x4000).contains(&a),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_the_internet_is_known() {
        for address in [
            "0.0.0.0",
            "0.1.2.3",
            "10.0.0.1",
            "100.64.0.1",
            "100.127.255.255",
            "127.0.0.1",
            "127.255.0.9",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.8",
            "192.0.2.1",
            "192.88.99.1",
            "192.168.1.1",
            "198.18.0.1",
            "198.19.255.255",
            "198.51.100.1",
            "203.0.113.1",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "::127.0.0.1",
            "64:ff9b::7f00:1",
            "64:ff9b:1::1",
            "100::1",
            "2001::1",
            "2001:1ff::1",
            "2001:db8::1",
            "2002:7f00:1::1",
            "3fff::1",
            "5f00::1",
            "fc00::1",
            "fd00:ec2::254",
            "fe80::1",
            "fec0::1",
            "ff02::1",
        ] {
            assert!(!is_public(address.parse().unwrap()), "{address}");
        }
        for address in [
            "1.1.1.1",
            "9.9.9.9",
            "100.63.0.1",
            "100.128.0.1",
            "172.32.0.1",
            "192.0.1.1",
            "198.20.0.1",
            "223.1.1.1",
            "::ffff:1.1.1.1",
            "2001:4860:4860::8888",
            "2606:4700::1111",
            "2a00:1450::1",
            "3ffe::1",
            "3fff:1000::1",
        ] {
            assert!(is_public(address.parse().unwrap()), "{address}");
        }
    }
}
