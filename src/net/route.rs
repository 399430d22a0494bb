//! Whether a source address is of any use.
//!
//! Owns: the look at the kernel's routes that tells a source address without
//! any way out from a target that is out of reach.
//! Must not know: exits. It is asked only once a connection has failed.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use socket2::{Domain, Socket, Type};

use super::race::Source;
use crate::core::exit::Family;

/// Routing tables are read no further: a host with more routes than this has
/// one that can be used.
const MOST_ROUTES: usize = 20_000;

/// `RTF_UP`, `RTF_REJECT` of linux/route.h and `RTF_LOCAL` of
/// linux/ipv6_route.h.
const UP: u32 = 0x1;
const REJECT: u32 = 0x200;
const LOCAL: u32 = 0x8000_0000;

/// Whether any target of its family can be reached from this source, as far
/// as routes tell. Loopback has loopback to reach.
pub(crate) async fn leads_anywhere(source: Source) -> bool {
    let Some(ip) = source.address() else { return true };
    if ip.is_loopback() || far_away(ip).into_iter().any(|far| has_route(source, far)) {
        return true;
    }
    let look = move || match Family::of(ip) {
        Family::V4 => routes("/proc/net/route").any(|line| usable_v4(&line)),
        Family::V6 => routes("/proc/net/ipv6_route").any(|line| usable_v6(&line)),
    };
    tokio::task::spawn_blocking(look).await.unwrap_or(true)
}

/// Whether answers to this source come back to this host: the address is an
/// interface's, or a local route covers it. (IPv4 is told so at `connect`.)
pub(crate) async fn comes_back(source: Source) -> bool {
    let Some(IpAddr::V6(ip)) = source.address() else { return true };
    let look = move || routes("/proc/net/ipv6_route").any(|line| is_local_v6(&line, ip));
    tokio::task::spawn_blocking(look).await.unwrap_or(true)
}

/// Public addresses, spread over the space.
fn far_away(ip: IpAddr) -> [IpAddr; 4] {
    match ip {
        IpAddr::V4(_) => [[1, 1, 1, 1], [80, 0, 0, 1], [150, 0, 0, 1], [208, 0, 0, 1]]
            .map(|octets| Ipv4Addr::from(octets).into()),
        IpAddr::V6(_) => [0x2001_4860, 0x2400_cb00, 0x2606_4700, 0x2a00_1450]
            .map(|high: u128| Ipv6Addr::from(high << 96 | 1).into()),
    }
}

/// A datagram socket that connects asks for a route and sends nothing.
fn has_route(source: Source, far: IpAddr) -> bool {
    let Some(ip) = source.address() else { return true };
    let connect = || {
        let socket = Socket::new(Domain::for_address(SocketAddr::new(ip, 0)), Type::DGRAM, None)?;
        if ip.is_ipv6() && matches!(source, Source::Routed(_)) {
            socket.set_freebind_v6(true)?;
        }
        socket.bind(&SocketAddr::new(ip, 0).into())?;
        socket.connect(&SocketAddr::new(far, 9).into())
    };
    connect().is_ok()
}

fn routes(path: &str) -> impl Iterator<Item = String> {
    // Where the table cannot be read, nothing is held against the source.
    File::open(path)
        .into_iter()
        .flat_map(|file| BufReader::new(file).lines())
        .map_while(Result::ok)
        .take(MOST_ROUTES)
}

/// `Iface Destination Gateway Flags …`
fn usable_v4(line: &str) -> bool {
    let columns: Vec<_> = line.split_ascii_whitespace().collect();
    let [interface, _, _, flags, ..] = columns[..] else { return false };
    interface != "lo" && u32::from_str_radix(flags, 16).is_ok_and(|flags| flags & (UP | REJECT) == UP)
}

/// `destination length source length next-hop metric references use flags
/// interface`, all but the last in hexadecimal.
fn usable_v6(line: &str) -> bool {
    let Some((destination, _, flags, interface)) = v6_route(line) else { return false };
    let near = destination.is_unicast_link_local() || destination.is_multicast();
    interface != "lo" && !near && flags & (UP | REJECT | LOCAL) == UP
}

fn is_local_v6(line: &str, ip: Ipv6Addr) -> bool {
    let Some((destination, length, flags, _)) = v6_route(line) else { return false };
    let shift = 128 - length;
    let same =
        |a: Ipv6Addr, b: Ipv6Addr| u128::from(a).checked_shr(shift) == u128::from(b).checked_shr(shift);
    flags & (UP | REJECT) == UP && flags & LOCAL != 0 && same(destination, ip)
}

fn v6_route(line: &str) -> Option<(Ipv6Addr, u32, u32, &str)> {
    let columns: Vec<_> = line.split_ascii_whitespace().collect();
    let [destination, length, _, _, _, _, _, _, flags, interface] = columns[..] else { return None };
    let destination = u128::from_str_radix(destination, 16).ok()?.into();
    let length = u32::from_str_radix(length, 16).ok().filter(|length| *length <= 128)?;
    Some((destination, length, u32::from_str_radix(flags, 16).ok()?, interface))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ipv4_routes_that_can_be_used() {
        assert!(usable_v4("eth0\t00000000\t010200C0\t0003\t0\t0\t0\t00000000\t0\t0\t0"));
        assert!(!usable_v4("lo\t0000007F\t00000000\t0001\t0\t0\t0\t000000FF\t0\t0\t0"));
        assert!(!usable_v4("*\t00000000\t00000000\t0200\t0\t0\t0\t00000000\t0\t0\t0"));
        assert!(!usable_v4("Iface\tDestination\tGateway \tFlags\tRefCnt\tUse"));
        assert!(!usable_v4(""));
    }

    const ZERO: &str = "00000000000000000000000000000000";

    fn v6(destination: &str, length: &str, flags: &str, interface: &str) -> String {
        format!("{destination} {length} {ZERO} 00 {ZERO} 00000100 00000001 00000000 {flags} {interface}")
    }

    #[test]
    fn ipv6_routes_that_can_be_used() {
        assert!(usable_v6(&v6(ZERO, "00", "00000003", "eth0")));
        assert!(usable_v6(&v6("fd000000000000000000000000000000", "40", "00000001", "eth0")));
        assert!(!usable_v6(&v6("fe800000000000000000000000000000", "40", "00000001", "eth0")));
        assert!(!usable_v6(&v6("ff000000000000000000000000000000", "08", "00000001", "eth0")));
        assert!(!usable_v6(&v6("fd000000000000000000000000000002", "80", "80200001", "eth0")));
        assert!(!usable_v6(&v6(ZERO, "00", "00200200", "lo")));
        assert!(!usable_v6("short line"));
    }

    #[test]
    fn a_local_route_covers_its_addresses() {
        let covers = |length: &str, flags: &str, ip: &str| {
            is_local_v6(&v6("20010db8000700000000000000000000", length, flags, "lo"), ip.parse().unwrap())
        };
        assert!(covers("40", "80000001", "2001:db8:7::1"));
        assert!(covers("00", "80000001", "::1"));
        assert!(covers("80", "80000001", "2001:db8:7::"));
        assert!(!covers("80", "80000001", "2001:db8:7::1"));
        assert!(!covers("40", "80000001", "2001:db8:8::1"));
        assert!(!covers("40", "00000001", "2001:db8:7::1"));
    }

    #[tokio::test]
    async fn loopback_leads_somewhere_and_comes_back() {
        let ip = Ipv6Addr::LOCALHOST.into();
        assert!(leads_anywhere(Source::Any).await);
        assert!(leads_anywhere(Source::Address(Ipv4Addr::new(127, 0, 0, 9).into())).await);
        assert!(leads_anywhere(Source::Address(ip)).await);
        assert!(comes_back(Source::Routed(ip)).await);
        assert!(!comes_back(Source::Routed("2001:db8:77::1".parse().unwrap())).await);
    }
}
