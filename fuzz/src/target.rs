//! A target: no spelling of an address passes for a name.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use moorgate::core::policy::{Own, TargetPolicy};
use moorgate::core::target::{Host, Target};

/// The bytes are the whole authority.
pub fn check(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let with_default = Target::parse_with_default(text, 80);
    let Ok(target) = Target::parse(text) else {
        if let Ok(target) = with_default {
            assert_eq!(target.port, 80, "only a port may be missing");
        }
        return;
    };
    assert_eq!(with_default.as_ref().ok(), Some(&target), "a port that is there counts");
    assert_ne!(target.port, 0);
    assert_eq!(Target::parse(&target.to_string()).ok().as_ref(), Some(&target), "written, it is the same");
    match &target.host {
        Host::Name(name) => name_is_none(name, text),
        Host::Ip(ip) => {
            let at = SocketAddr::new(*ip, target.port);
            let canonical = text.parse::<SocketAddr>();
            assert!(canonical.is_err() || canonical == Ok(at), "std reads the same address");
        }
    }
    judged(target);
}

/// A name is in lower case, and std and libc see no address in it.
fn name_is_none(name: &str, text: &str) {
    assert!(name.len() <= 253 && !name.is_empty() && !name.ends_with('.'));
    assert!(
        name.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.')),
        "{name:?}"
    );
    assert!(name.parse::<IpAddr>().is_err(), "{text:?} is an address");
    // What inet_aton takes: one to four numbers, in octal or hexadecimal, too.
    // getaddrinfo would take it without asking anybody.
    let last = name.rsplit('.').next().unwrap_or_default();
    let hex = last.strip_prefix("0x").is_some_and(|hex| hex.bytes().all(|byte| byte.is_ascii_hexdigit()));
    assert!(!hex && !last.bytes().all(|byte| byte.is_ascii_digit()), "{text:?} ends in a number");
}

/// Whatever passes as a literal address is no private one.
fn judged(target: Target) {
    let policy = Arc::new(TargetPolicy::default());
    let own = Arc::new(Own::new(Vec::new(), Vec::new()));
    let ip = match target.host {
        Host::Ip(ip) => ip,
        Host::Name(_) => return,
    };
    let Ok(judged) = policy.judge(target, &own) else { return };
    assert!(judged.vet(&[ip]).is_ok(), "judged and vetted alike");
    let v4 = match ip {
        IpAddr::V4(v4) => v4,
        IpAddr::V6(v6) => v6.to_ipv4().unwrap_or(Ipv4Addr::new(8, 8, 8, 8)),
    };
    let special = v4.is_loopback() || v4.is_private() || v4.is_link_local() || v4.is_broadcast();
    let special =
        special || v4.is_multicast() || v4.is_documentation() || v4.is_unspecified() || v4.octets()[0] >= 224;
    assert!(!special, "{ip} passes");
}
