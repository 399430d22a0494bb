//! Looking whether an exit works before somebody needs it.
//!
//! Owns: [`Probe`] and its URL, when an exit's turn comes, what an answer says
//! of the exit's address, and when silence is the exit's fault.
//! Must not know: clocks (`now` is an argument), how a probe is made.

use std::net::IpAddr;
use std::time::Duration;

use rand::{Rng, RngExt};

use super::target::Target;
use super::time::Timestamp;

/// How a pool's exits are probed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// What is asked for.
    pub url: ProbeUrl,
    /// How often, of each exit.
    pub every: Duration,
    /// How long it may take in all.
    pub timeout: Duration,
}

/// An `http:` or `https:` URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProbeUrl {
    /// Whether the answer comes over TLS.
    pub tls: bool,
    /// Where it is.
    pub target: Target,
    /// As written: the `Host` field.
    pub authority: Box<str>,
    /// With its query; never empty.
    pub path: Box<str>,
}

impl ProbeUrl {
    /// Reads a URL; the error says what is expected.
    pub fn parse(text: &str) -> Result<Self, String> {
        let expected = || "expected a URL such as \"http://probe.example/ip\"".to_owned();
        let (scheme, rest) = text.split_once("://").ok_or_else(expected)?;
        let (tls, port) = match scheme {
            "http" => (false, 80),
            "https" => (true, 443),
            _ => return Err(expected()),
        };
        let printable = rest.bytes().all(|b| b.is_ascii_graphic());
        if !printable || rest.contains(['#', '@']) {
            return Err("expected a URL without user, fragment and blanks".to_owned());
        }
        let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        let target = Target::parse_with_default(authority, port).map_err(|_| expected())?;
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        Ok(Self { tls, target, authority: authority.into(), path: path.into() })
    }
}

/// A turn is late by chance, by up to one part of so many of its period.
const JITTER: u64 = 10;

/// When the turn of an exit comes next. Each has its own place in every
/// period, by a hash of its name, so that neither a start nor a reload probes
/// all of them at once. Each turn comes a little later than that, by chance,
/// so that nothing else that happens in step with the clock meets an exit's
/// probes every time, or never. The period stays what it is: no turn makes the
/// next one late.
pub fn next_turn(hash: u64, every: Duration, now: Timestamp, rng: &mut impl Rng) -> Timestamp {
    let every_ms = u64::try_from(every.as_millis()).unwrap_or(u64::MAX).max(1);
    let into = (now.as_ms() % every_ms + every_ms - hash % every_ms) % every_ms;
    let late = rng.random_range(0..=every_ms / JITTER);
    Timestamp::from_ms(now.as_ms().saturating_add(every_ms - into).saturating_add(late))
}

/// The address that an answer tells: its text, or the member `ip` (or
/// `address`, `origin`, `query`) of a JSON object.
pub fn address_in(body: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(body).ok()?.trim();
    let address = if text.starts_with('{') {
        let object: serde_json::Map<String, serde_json::Value> = serde_json::from_str(text).ok()?;
        let told = ["ip", "address", "origin", "query"].into_iter().find_map(|key| object.get(key)?.as_str());
        told?.trim().parse::<IpAddr>().ok()?
    } else {
        text.parse().ok()?
    };
    Some(address.to_canonical())
}

/// Which exits of a pool have had an answer from the probe's target lately.
/// Silence is held against an exit only if another one was answered: else it
/// is the target that is down, and no exit is ejected for that.
#[derive(Clone, Debug, Default)]
pub struct Witness {
    /// Of two exits (hashes), the latest first.
    answered: [Option<(u64, Timestamp)>; 2],
}

impl Witness {
    /// An exit was answered.
    pub fn answered(&mut self, exit: u64, now: Timestamp) {
        if self.answered[0].is_some_and(|(last, _)| last != exit) {
            self.answered[1] = self.answered[0];
        }
        self.answered[0] = Some((exit, now));
    }

    /// Whether another exit was answered within the last two periods.
    pub fn speaks_against(&self, exit: u64, every: Duration, now: Timestamp) -> bool {
        let lately = |at: Timestamp| now.since(at) <= every.saturating_mul(2);
        self.answered.iter().flatten().any(|(other, at)| *other != exit && lately(*at))
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;

    #[track_caller]
    fn check_url(text: &str, expected: Result<(bool, &str, &str), &str>) {
        match (ProbeUrl::parse(text), expected) {
            (Ok(url), Ok((tls, target, path))) => {
                assert_eq!((url.tls, &*url.target.to_string(), &*url.path), (tls, target, path));
            }
            (Err(why), Err(part)) => assert!(why.contains(part), "{text}: {why}"),
            (got, _) => panic!("{text}: {got:?}"),
        }
    }

    #[test]
    fn urls_are_read() {
        check_url("http://probe.example", Ok((false, "probe.example:80", "/")));
        check_url("http://probe.example/ip?x=1", Ok((false, "probe.example:80", "/ip?x=1")));
        check_url("https://[2001:db8::1]:8443?json", Ok((true, "[2001:db8::1]:8443", "/?json")));
        check_url("ftp://probe.example/", Err("http://probe.example/ip"));
        check_url("probe.example/ip", Err("expected a URL"));
        check_url("http:///ip", Err("expected a URL"));
        check_url("http://u:p@probe.example/", Err("without user"));
        check_url("http://probe.example/#x", Err("without user"));
        check_url("http://probe.example/a b", Err("blanks"));
        check_url("http://probe.example/\r\nX: y", Err("blanks"));
    }

    #[test]
    fn addresses_are_found() {
        let check = |body: &str, expected: Option<&str>| {
            let expected = expected.map(|text| text.parse().unwrap());
            assert_eq!(address_in(body.as_bytes()), expected, "{body}");
        };
        check("203.0.113.7\n", Some("203.0.113.7"));
        check(" 2001:db8::1 ", Some("2001:db8::1"));
        check("::ffff:203.0.113.7", Some("203.0.113.7"));
        check(r#"{"ip":"203.0.113.7","country":"NL"}"#, Some("203.0.113.7"));
        check(r#"{"origin": "203.0.113.7"}"#, Some("203.0.113.7"));
        check(r#"{"ip": 7}"#, None);
        check(r#"{"ip":"203.0.113.7""#, None);
        check("<html>203.0.113.7</html>", None);
        check("", None);
        assert_eq!(address_in(&[0xff, 0xfe]), None);
    }

    #[test]
    fn every_exit_has_its_own_place_in_each_period_and_is_late_by_chance() {
        let (every, mut rng) = (Duration::from_secs(30), StdRng::seed_from_u64(1));
        for hash in [0, 1, 29_999, 30_000, u64::MAX] {
            let mut now = Timestamp::from_ms(1_800_000_000_123);
            let start = now.as_ms() / 30_000;
            let mut lateness = std::collections::BTreeSet::new();
            for period in 0..100 {
                let turn = next_turn(hash, every, now, &mut rng);
                assert!(turn > now, "{turn:?}");
                let since = turn.as_ms() - hash % 30_000;
                if period > 0 {
                    assert_eq!(since / 30_000 - now.as_ms().saturating_sub(hash % 30_000) / 30_000, 1);
                }
                assert!(since / 30_000 <= start + period + 1, "none is left out");
                assert!(since % 30_000 <= 3000, "{since}");
                lateness.insert(since % 30_000);
                now = turn;
            }
            assert!(lateness.len() > 50, "{lateness:?}");
        }
        assert!(next_turn(3, Duration::ZERO, Timestamp::from_ms(7), &mut rng) > Timestamp::from_ms(7));
    }

    #[test]
    fn silence_counts_only_where_another_exit_was_answered() {
        let every = Duration::from_secs(30);
        let at = |s: u64| Timestamp::from_ms(1_000_000 + s * 1000);
        let mut witness = Witness::default();
        assert!(!witness.speaks_against(1, every, at(0)), "nobody was answered");
        witness.answered(1, at(0));
        assert!(!witness.speaks_against(1, every, at(1)), "only itself was");
        assert!(witness.speaks_against(2, every, at(1)));
        witness.answered(2, at(10));
        witness.answered(2, at(20));
        assert!(witness.speaks_against(1, every, at(80)) && witness.speaks_against(2, every, at(60)));
        assert!(!witness.speaks_against(2, every, at(61)), "too long ago");
        assert!(!witness.speaks_against(1, every, at(81)));
    }
}
