//! What kind of address this is, in every spelling.
//!
//! Owns: the ranges that are no public unicast address (IANA's special-purpose
//! registries, and what clouds put there), and the IPv6 forms that carry an
//! IPv4 address.
//! Must not know: what a policy makes of it.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Why an address is no public unicast address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Special {
    /// `0.0.0.0/8`, `::`.
    Unspecified,
    /// `127.0.0.0/8`, `::1`.
    Loopback,
    /// RFC 1918, `fc00::/7`.
    Private,
    /// `100.64.0.0/10` (RFC 6598).
    Shared,
    /// `169.254.0.0/16`, `fe80::/10`.
    LinkLocal,
    /// `fec0::/10`.
    SiteLocal,
    /// Where clouds answer questions about the machine.
    Metadata,
    /// `192.0.2.0/24`, `198.51.100.0/24`, `203.0.113.0/24`, `2001:db8::/32`, `3fff::/20`.
    Documentation,
    /// `198.18.0.0/15`, `2001:2::/48`.
    Benchmarking,
    /// `224.0.0.0/4`, `ff00::/8`.
    Multicast,
    /// `255.255.255.255`.
    Broadcast,
    /// `100::/64` (RFC 6666), and the dummy prefix behind it.
    Discard,
    /// All else that is not given out to be reached.
    Reserved,
}

impl fmt::Display for Special {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unspecified => "an unspecified address",
            Self::Loopback => "a loopback address",
            Self::Private => "a private address",
            Self::Shared => "a shared address",
            Self::LinkLocal => "a link-local address",
            Self::SiteLocal => "a site-local address",
            Self::Metadata => "a metadata address",
            Self::Documentation => "a documentation address",
            Self::Benchmarking => "a benchmarking address",
            Self::Multicast => "a multicast address",
            Self::Broadcast => "the broadcast address",
            Self::Discard => "a discard address",
            Self::Reserved => "a reserved address",
        })
    }
}

/// Why this is no public unicast address, whatever it is spelled as. What
/// `excused` says yes to is taken for public: an address itself, or each IPv4
/// address that it carries.
pub fn special(ip: IpAddr, excused: &dyn Fn(IpAddr) -> bool) -> Option<Special> {
    let ip = ip.to_canonical();
    if excused(ip) {
        return None;
    }
    let own = match ip {
        IpAddr::V4(ip) => v4(ip),
        IpAddr::V6(ip) => v6(ip),
    };
    own.or_else(|| embedded(ip).into_iter().filter(|ip| !excused((*ip).into())).find_map(v4))
}

/// The IPv4 addresses that an IPv6 address carries; none for IPv4 itself.
/// Where a form leaves several readings open, all of them.
pub fn embedded(ip: IpAddr) -> Vec<Ipv4Addr> {
    let IpAddr::V6(ip) = ip else { return Vec::new() };
    let b = ip.octets();
    let at = |places: [usize; 4]| Ipv4Addr::from(places.map(|place| b[place]));
    let last = at([12, 13, 14, 15]);
    match Form::of(ip) {
        Form::Last => vec![last],
        Form::LocalNat64 => local_nat64(at),
        Form::SixToFour => vec![at([2, 3, 4, 5])],
        // RFC 4380 §4: the server, and the client with all bits turned.
        Form::Teredo => vec![at([4, 5, 6, 7]), Ipv4Addr::from(!u32::from(last))],
        Form::Isatap => vec![last],
        Form::Plain => Vec::new(),
    }
}

/// How an IPv6 address carries IPv4.
enum Form {
    /// IPv4-mapped `::ffff:0:0/96`, IPv4-compatible `::/96`, IPv4-translated
    /// `::ffff:0:0:0/96`, NAT64 `64:ff9b::/96`: in the last 32 bits.
    Last,
    /// `64:ff9b:1::/48` (RFC 8215): wherever RFC 6052 §2.2 may put it.
    LocalNat64,
    /// `2002::/16` (RFC 3056).
    SixToFour,
    /// `2001::/32` (RFC 4380).
    Teredo,
    /// An interface identifier `[02]00:5efe:a.b.c.d` (RFC 5214) under any
    /// prefix, whose own kind counts as well.
    Isatap,
    Plain,
}

impl Form {
    fn of(ip: Ipv6Addr) -> Self {
        match ip.segments() {
            [0, 0, 0, 0, 0, 0xffff, ..] | [0, 0, 0, 0, 0xffff, 0, ..] | [0x64, 0xff9b, 0, 0, 0, 0, ..] => {
                Self::Last
            }
            // `::` and `::1` are addresses of their own, not IPv4-compatible.
            [0, 0, 0, 0, 0, 0, high, low] if high != 0 || low > 1 => Self::Last,
            [0x64, 0xff9b, 1, ..] => Self::LocalNat64,
            [0x2002, ..] => Self::SixToFour,
            [0x2001, 0, ..] => Self::Teredo,
            [_, _, _, _, 0 | 0x200, 0x5efe, ..] => Self::Isatap,
            _ => Self::Plain,
        }
    }
}

/// The operator's prefix within the /48 may have 48, 56, 64 or 96 bits. A
/// reading within `0.0.0.0/8` comes from the zeros of another layout and is
/// left out, unless there is no other.
fn local_nat64(at: impl Fn([usize; 4]) -> Ipv4Addr) -> Vec<Ipv4Addr> {
    let layouts = [[12, 13, 14, 15], [6, 7, 9, 10], [7, 9, 10, 11], [9, 10, 11, 12]];
    let readings: Vec<_> = layouts.map(&at).into_iter().filter(|ip| ip.octets()[0] != 0).collect();
    if readings.is_empty() { vec![at(layouts[0])] } else { readings }
}

/// RFC 6890 and its registry; the exceptions that the registry makes within
/// 192.0.0.0/24 are not made here.
fn v4(ip: Ipv4Addr) -> Option<Special> {
    Some(match ip.octets() {
        [0, ..] => Special::Unspecified,
        [127, ..] => Special::Loopback,
        [169, 254, 169, 254] | [100, 100, 100, 200] | [168, 63, 129, 16] | [192, 0, 0, 192] => {
            Special::Metadata
        }
        [10, ..] | [172, 16..=31, ..] | [192, 168, ..] => Special::Private,
        [100, 64..=127, ..] => Special::Shared,
        [169, 254, ..] => Special::LinkLocal,
        [192, 0, 2, _] | [198, 51, 100, _] | [203, 0, 113, _] => Special::Documentation,
        [198, 18..=19, ..] => Special::Benchmarking,
        [255, 255, 255, 255] => Special::Broadcast,
        [224..=239, ..] => Special::Multicast,
        // Protocol assignments, and the 6to4 relays that RFC 7526 took back.
        [192, 0, 0, _] | [192, 88, 99, _] | [240..=255, ..] => Special::Reserved,
        _ => return None,
    })
}

/// Only 2000::/3 is given out to be reached; forms that carry IPv4 are judged
/// by what they carry.
fn v6(ip: Ipv6Addr) -> Option<Special> {
    let s = ip.segments();
    match Form::of(ip) {
        Form::Plain | Form::Isatap => {}
        Form::Last | Form::LocalNat64 | Form::SixToFour | Form::Teredo => return None,
    }
    Some(match s {
        [0, 0, 0, 0, 0, 0, 0, 0] => Special::Unspecified,
        [0, 0, 0, 0, 0, 0, 0, 1] => Special::Loopback,
        [0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254] | [0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254] => Special::Metadata,
        [0xfc00..=0xfdff, ..] => Special::Private,
        [0xfe80..=0xfebf, ..] => Special::LinkLocal,
        [0xfec0..=0xfeff, ..] => Special::SiteLocal,
        [0xff00..=0xffff, ..] => Special::Multicast,
        [0x100, 0, 0, 0 | 1, ..] => Special::Discard,
        [0x2001, 0xdb8, ..] | [0x3fff, 0..=0xfff, ..] => Special::Documentation,
        [0x2001, 2, 0, ..] => Special::Benchmarking,
        // AMT and AS112 are the parts of 2001::/23 that are served in public.
        [0x2001, 3, ..] | [0x2001, 4, 0x112, ..] => return None,
        [0x2001, 0..=0x1ff, ..] => Special::Reserved,
        [0x2000..=0x3fff, ..] => return None,
        _ => Special::Reserved,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(ip: &str, expected: Option<Special>) {
        assert_eq!(special(ip.parse().unwrap(), &|_| false), expected, "{ip}");
    }

    /// Every spelling of an IPv4 address.
    pub(in crate::core) fn spellings(ip: Ipv4Addr) -> Vec<IpAddr> {
        let [a, b, c, d] = ip.octets();
        let hex = format!("{a:02x}{b:02x}:{c:02x}{d:02x}");
        let turned = Ipv4Addr::from(!u32::from(ip));
        let mut all = vec![IpAddr::V4(ip)];
        for text in [
            format!("::ffff:{ip}"),
            format!("::ffff:0:{ip}"),
            format!("64:ff9b::{ip}"),
            format!("64:ff9b:1::{ip}"),
            format!("64:ff9b:1:ff00:1:2:{hex}"),
            format!("64:ff9b:1:{a:02x}{b:02x}:{c:02x}:{d:02x}00::"),
            format!("64:ff9b:1:ff{a:02x}:{b:02x}:{c:02x}{d:02x}::"),
            format!("64:ff9b:1:ffff:{a:02x}:{b:02x}{c:02x}:{d:02x}00:0"),
            format!("2002:{hex}::1"),
            format!("2001:0:{hex}::f7f7:f7f7"),
            format!("2001:0:808:808::{turned}"),
            format!("2a00::5efe:{ip}"),
            format!("2a00::200:5efe:{ip}"),
        ] {
            all.push(text.parse().unwrap_or_else(|_| panic!("{text}")));
        }
        if u32::from(ip) > 1 {
            all.push(format!("::{ip}").parse().unwrap());
        }
        all
    }

    #[test]
    fn public_addresses_are_public_in_every_spelling() {
        for ip in [
            "8.8.8.8",
            "1.1.1.1",
            "192.31.196.1",
            "100.63.255.255",
            "100.128.0.0",
            "172.32.0.1",
            "223.255.255.255",
        ] {
            // In the /48 for local translation every layout counts, so that
            // only the plainest is sure to be public.
            let local = |ip: &IpAddr| {
                ip.to_string().starts_with("64:ff9b:1:") && !ip.to_string().starts_with("64:ff9b:1::")
            };
            for spelling in spellings(ip.parse().unwrap()).into_iter().filter(|ip| !local(ip)) {
                check(&spelling.to_string(), None);
            }
        }
        for ip in
            ["2606:4700::1111", "2a00::1", "2001:200::1", "2001:4860:4860::8888", "2001:4:112::1", "3ffe::1"]
        {
            check(ip, None);
        }
    }

    #[test]
    fn each_kind_is_known_by_its_edges() {
        use Special as S;
        for (special, ips) in [
            (S::Unspecified, &["0.0.0.0", "0.255.255.255", "::"][..]),
            (S::Loopback, &["127.0.0.1", "127.255.255.255", "::1"]),
            (
                S::Private,
                &[
                    "10.0.0.0",
                    "10.255.255.255",
                    "172.16.0.0",
                    "172.31.255.255",
                    "192.168.0.1",
                    "fc00::",
                    "fdff::1",
                ],
            ),
            (S::Shared, &["100.64.0.0", "100.127.255.255"]),
            (S::LinkLocal, &["169.254.0.1", "fe80::1", "febf::1"]),
            (S::SiteLocal, &["fec0::1", "feff::1"]),
            (S::Metadata, &["169.254.169.254", "fd00:ec2::254", "100.100.100.200", "168.63.129.16"]),
            (
                S::Documentation,
                &["192.0.2.1", "198.51.100.1", "203.0.113.1", "2001:db8::1", "3fff::1", "3fff:fff::1"],
            ),
            (S::Benchmarking, &["198.18.0.0", "198.19.255.255", "2001:2::1"]),
            (S::Multicast, &["224.0.0.1", "239.255.255.255", "ff00::", "ff02::1"]),
            (S::Broadcast, &["255.255.255.255"]),
            (S::Discard, &["100::", "100::1", "100:0:0:1::1"]),
            (
                S::Reserved,
                &[
                    "192.0.0.1",
                    "192.88.99.1",
                    "240.0.0.1",
                    "255.255.255.254",
                    "5f00::1",
                    "2001:10::1",
                    "2001:1ff::1",
                ],
            ),
            (
                S::Reserved,
                &["64:ff9b:2::1", "100:0:0:2::1", "200::1", "4000::1", "1fff::", "fe00::1", "fbff::1"],
            ),
        ] {
            for ip in ips {
                check(ip, Some(special));
            }
        }
    }

    #[test]
    fn the_carried_address_counts() {
        check("::127.0.0.1", Some(Special::Loopback));
        check("::ffff:169.254.169.254", Some(Special::Metadata));
        check("64:ff9b::a00:1", Some(Special::Private));
        check("64:ff9b:1::", Some(Special::Unspecified));
        check("2002:7f00:1::", Some(Special::Loopback));
        check("2002:808:808::5efe:7f00:1", None);
        check("fe80::5efe:808:808", Some(Special::LinkLocal));
    }

    proptest! {
        #[test]
        fn every_spelling_of_an_address_is_as_special_as_it(bits in 0x0100_0000_u32..) {
            let ip = Ipv4Addr::from(bits);
            let own = v4(ip);
            for spelling in spellings(ip) {
                let judged = special(spelling, &|_| false);
                prop_assert!(own.is_none() || judged.is_some(), "{spelling}");
            }
        }
    }
}
