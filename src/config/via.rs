//! How an exit's `via` is written.
//!
//! Owns: [`Written`], read from `direct`, an address, a prefix or an upstream's
//! URL; no error quotes the text, for it may hold a credential.
//! Must not know: ids, pools, files.

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use super::values::{FromText, canonical};
use crate::core::exit::{Credential, Scheme, Trust, Upstream, Via};
use crate::core::session::LABEL_KEYS;
use crate::core::target::{Host, Target};
use crate::core::template::{Filling, Template, TemplateError};
use crate::core::time::Ttl;
use crate::core::typo::nearest;

/// A `via` as read.
#[derive(Clone, Debug)]
pub(super) struct Written {
    pub(super) via: Via,
    /// Of `via` and its credential as written; see
    /// [`Exit::digest`](crate::core::exit::Exit::digest).
    pub(super) digest: u32,
    /// Of the credential's user alone: tells a vendor's many users on one
    /// gateway apart without naming them.
    pub(super) user_digest: Option<String>,
}

impl FromText for Written {
    const EXPECTED: &'static str = "\"direct\", an IP address, a CIDR prefix, or the URL of an upstream: \
        http://, https://, socks5:// or socks5h:// with host and port";

    fn from_text(text: &str) -> Result<Self, String> {
        if text == "direct" {
            return Ok(Self::new(Via::Direct, None));
        }
        if let Some((scheme, rest)) = text.split_once("://") {
            return from_url(scheme, rest);
        }
        if let Ok(address) = text.parse::<IpAddr>() {
            return source_address(address).map(|address| Self::new(Via::Address(address), None));
        }
        if let Ok(net) = text.parse::<IpNet>() {
            return source_prefix(net).map(|via| Self::new(via, None));
        }
        if Target::parse(text).is_ok() {
            return Err("an upstream needs its scheme, as in http://host:port".to_owned());
        }
        Err(format!("expected {}", Self::EXPECTED))
    }
}

impl Written {
    /// An upstream with a credential that is taken as it is.
    pub(super) fn upstream(scheme: Scheme, host: Host, port: u16, literal: Option<(&str, &str)>) -> Self {
        let credential = literal.map(|(user, password)| Credential {
            user: Template::literal(user),
            password: Template::literal(password),
        });
        let upstream = Upstream { scheme, host, port, credential, trust: Trust::System };
        Self::new(Via::Upstream(Arc::new(upstream)), literal)
    }

    fn new(via: Via, credential: Option<(&str, &str)>) -> Self {
        let mut hash = blake3::Hasher::new();
        let mut part = |text: &str| {
            hash.update(&(text.len() as u64).to_le_bytes());
            hash.update(text.as_bytes());
        };
        part(&via.to_string());
        if let Some((user, password)) = credential {
            part(user);
            part(password);
        }
        let [a, b, c, d, ..] = *hash.finalize().as_bytes();
        let user_digest =
            credential.map(|(user, _)| blake3::hash(user.as_bytes()).to_hex()[..USER_DIGEST_LEN].to_owned());
        Self { via, digest: u32::from_le_bytes([a, b, c, d]), user_digest }
    }
}

/// 40 bits in hexadecimal: two of 10,000 users share one once in 20,000 lists.
const USER_DIGEST_LEN: usize = 10;

fn source_address(address: IpAddr) -> Result<IpAddr, String> {
    let address = address.to_canonical();
    let broadcast = matches!(address, IpAddr::V4(v4) if v4.is_broadcast());
    match address.is_unspecified() || address.is_multicast() || broadcast {
        true => {
            Err("nothing can be sent from this address: write one of the host's own, or \"direct\""
                .to_owned())
        }
        false => Ok(address),
    }
}

/// A prefix of one address is that address.
fn source_prefix(net: IpNet) -> Result<Via, String> {
    let net = canonical(net)?;
    let address = source_address(net.addr())?;
    match net.prefix_len() == net.max_prefix_len() {
        true => Ok(Via::Address(address)),
        false => Ok(Via::Prefix(net)),
    }
}

fn from_url(scheme: &str, rest: &str) -> Result<Written, String> {
    let schemes = [Scheme::Http, Scheme::Https, Scheme::Socks5, Scheme::Socks5h];
    let known = schemes.into_iter().find(|known| known.name().eq_ignore_ascii_case(scheme));
    let scheme = known.ok_or("the scheme of an upstream is http, https, socks5 or socks5h")?;
    // A password may hold anything, also an unencoded @ or slash.
    let (userinfo, authority) = match rest.rsplit_once('@') {
        Some((userinfo, authority)) => (Some(userinfo), authority),
        None => (None, rest),
    };
    let at = Target::parse(authority.strip_suffix('/').unwrap_or(authority));
    let Target { host, port } = at.map_err(|fault| fault.detail().to_owned())?;
    let written = userinfo.map(|userinfo| split_user(userinfo).unwrap_or((userinfo, "")));
    let credential = written.map(|(user, password)| credential(scheme, user, password)).transpose()?;
    let upstream = Upstream { scheme, host, port, credential, trust: Trust::System };
    Ok(Written::new(Via::Upstream(Arc::new(upstream)), written))
}

/// At the first colon that is no part of a placeholder such as `{session:12}`.
fn split_user(userinfo: &str) -> Option<(&str, &str)> {
    let mut depth = 0_u32;
    for (at, byte) in userinfo.bytes().enumerate() {
        match byte {
            b'{' => depth += 1,
            b'}' => depth = depth.saturating_sub(1),
            b':' if depth == 0 => return Some((&userinfo[..at], &userinfo[at + 1..])),
            _ => {}
        }
    }
    None
}

fn credential(scheme: Scheme, user: &str, password: &str) -> Result<Credential, String> {
    if user.is_empty() {
        return Err("the user before the @ is empty".to_owned());
    }
    let encoded_colon = user.to_ascii_lowercase().contains("%3a");
    if encoded_colon && matches!(scheme, Scheme::Http | Scheme::Https) {
        return Err("a user with a colon in it cannot be sent to an HTTP upstream (RFC 7617)".to_owned());
    }
    let template = |text| Template::parse_encoded(text).map_err(|error| without_quotes(&error, text));
    let made = Credential { user: template(user)?, password: template(password)? };
    let socks = matches!(scheme, Scheme::Socks5 | Scheme::Socks5h);
    if socks && [&made.user, &made.password].into_iter().any(is_too_long_for_socks) {
        return Err(
            "a SOCKS5 upstream takes a user and a password of at most 255 bytes (RFC 1929)".to_owned()
        );
    }
    match (made.user.token_shape(), made.password.token_shape()) {
        (Some(a), Some(b)) if a != b => Err(TemplateError::TwoShapes.to_string()),
        _ => Ok(made),
    }
}

/// What placeholders become is known only when they are filled.
fn is_too_long_for_socks(text: &Template) -> bool {
    let nothing = Filling { token: "", ttl: Ttl::MIN, label: &|_| None };
    text.fill(&nothing).expose().len() > 255
}

/// What is wrong with a template, without any part of it: a brace in a
/// password makes a placeholder of what was none.
fn without_quotes(error: &TemplateError, text: &str) -> String {
    const USE: &str = "use {session}, {ttl_minutes}, {ttl_seconds}, {ttl_hours} or a label such as {country}, \
                       and write %7B for a brace that stands for itself";
    match error {
        TemplateError::Unknown(_) => match meant_placeholder(text) {
            Some(name) => format!("unknown placeholder: did you mean {{{name}}}?"),
            None => format!("unknown placeholder: {USE}"),
        },
        TemplateError::Unclosed => format!("a {{ has no matching }}: {USE}"),
        TemplateError::Shape(_) => {
            "{session:…} takes a length of 1 to 64, with a d behind it for digits alone".to_owned()
        }
        TemplateError::TwoShapes | TemplateError::Encoding => error.to_string(),
    }
}

fn meant_placeholder(text: &str) -> Option<&'static str> {
    let known = ["session", "ttl_minutes", "ttl_seconds", "ttl_hours"].into_iter().chain(LABEL_KEYS);
    let written = text.split('{').skip(1).filter_map(|rest| rest.split(['}', ':']).next());
    // A name that is known is no typo; what is wrong is another one.
    written
        .filter(|name| !known.clone().any(|known| known == *name))
        .find_map(|name| nearest(name, known.clone()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Option<&str>) {
        let shown = Written::from_text(text).ok().map(|written| {
            let filling = Filling { token: "TOKEN", ttl: Ttl::MIN, label: &|_| None };
            let upstream = written.via.upstream().and_then(|upstream| upstream.credential.as_ref());
            let credential = upstream.map(|credential| {
                let (user, password) = (credential.user.fill(&filling), credential.password.fill(&filling));
                format!(" {}:{}", user.expose(), password.expose())
            });
            format!("{}{}", written.via, credential.unwrap_or_default())
        });
        assert_eq!(shown.as_deref(), expected, "{text}");
    }

    #[test]
    fn every_kind_is_read() {
        check("direct", Some("direct"));
        check("203.0.113.10", Some("203.0.113.10"));
        check("2001:DB8::1", Some("2001:db8::1"));
        check("::ffff:192.0.2.1", Some("192.0.2.1"));
        check("2001:db8:7::/64", Some("2001:db8:7::/64"));
        check("192.0.2.0/24", Some("192.0.2.0/24"));
        check("::ffff:192.0.2.0/120", Some("192.0.2.0/24"));
        check("192.0.2.7/32", Some("192.0.2.7"));
        check("2001:db8::7/128", Some("2001:db8::7"));
        check("http://proxy.example:3128", Some("http://proxy.example:3128"));
        check("HTTPS://Proxy.Example.:443/", Some("https://proxy.example:443"));
        check("socks5://[2001:db8::1]:1080", Some("socks5://[2001:db8::1]:1080"));
        check("socks5h://198.51.100.9:1080", Some("socks5h://198.51.100.9:1080"));
    }

    #[test]
    fn credentials_are_decoded_and_templates_kept() {
        check("http://u:p@h:1", Some("http://h:1 u:p"));
        check("http://u@h:1", Some("http://h:1 u:"));
        check("http://u:@h:1", Some("http://h:1 u:"));
        check("http://u:a:b@h:1", Some("http://h:1 u:a:b"));
        check("http://u:p@ss/w?#@h:1", Some("http://h:1 u:p@ss/w?#"));
        check("http://u%40x:%7B%25%7D@h:1", Some("http://h:1 u@x:{%}"));
        check("http://me-{session}-{country}:{session}@h:1", Some("http://h:1 me-TOKEN-:TOKEN"));
        check("socks5://u%3Av:p@h:1", Some("socks5://h:1 u:v:p"));
        check("socks5://u:%2@h:1", None);
        check("http://{session:4}:{session:5}@h:1", None);
        check("http://{session:4:x@h:1", None);
        check("http://u%3av:p@h:1", None);
        check("http://:p@h:1", None);
        check(
            &format!("socks5://u:{}@h:1", "p".repeat(255)),
            Some(&format!("socks5://h:1 u:{}", "p".repeat(255))),
        );
        check(&format!("socks5://u:{}@h:1", "p".repeat(256)), None);
    }

    #[test]
    fn what_is_no_way_out_is_refused() {
        for text in [
            "",
            "Direct",
            "directly",
            "203.0.113",
            "203.0.113.10/24",
            "203.0.113.0/33",
            "0.0.0.0",
            "::",
            "0.0.0.0/0",
            "255.255.255.255",
            "224.0.0.1",
            "ff02::1",
            "host",
            "host:1",
            "http://",
            "http://h",
            "http://h:0",
            "http://h:65536",
            "http://h:1/x",
            "http://h:1?x",
            "http://h:x",
            "http://:1",
            "http://2001:db8::1:1",
            "ftp://h:1",
            "http//h:1",
            "fe80::1%eth0",
            "http://0x7f.1:80",
            "http://a b:1",
        ] {
            check(text, None);
        }
    }

    proptest! {
        #[test]
        fn no_text_panics_or_is_quoted(user in "[a-z0-9{}:@/%\\[\\]]{0,12}", scheme in "(http|socks5h|x)?(://)?") {
            let text = format!("{scheme}{user}S3CRET{user}@h{user}");
            if let Err(message) = Written::from_text(&text) {
                prop_assert!(!message.contains("S3CRET"));
            }
        }
    }
}
