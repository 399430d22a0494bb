//! Lists of upstreams as vendors export them.
//!
//! Owns: what a line may look like, and what it means; no error quotes a line,
//! for it may hold a credential.
//! Must not know: files, pools.

use super::values::FromText;
use super::via::Written;
use crate::core::exit::Scheme;
use crate::core::target::Target;

/// The upstreams of a list with the numbers of their lines, from 1; or, for a
/// bad line, what is wrong with it.
pub(super) fn lines(text: &str) -> impl Iterator<Item = (u32, Result<Written, String>)> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let numbered = text.lines().zip(1u32..).map(|(line, number)| (number, without_comment(line)));
    numbered.filter(|(_, line)| !line.is_empty()).map(|(number, line)| (number, upstream(line)))
}

/// A comment is a line that begins with `#`, or what follows ` #`: a `#` within
/// a word may be part of a password.
fn without_comment(line: &str) -> &str {
    let line = line.trim();
    let end = line
        .match_indices('#')
        .map(|(at, _)| at)
        .find(|at| line[..*at].chars().next_back().is_none_or(char::is_whitespace));
    line[..end.unwrap_or(line.len())].trim_end()
}

fn upstream(line: &str) -> Result<Written, String> {
    const EXPECTED: &str =
        "expected host:port, host:port:user:pass, user:pass@host:port, user:pass:host:port, or a URL";
    if line.contains("://") {
        return Written::from_text(line);
    }
    if let Ok(target) = Target::parse(line) {
        return Ok(http(target, None));
    }
    if let Some((credential, target)) = line.rsplit_once('@')
        && let (Some(credential), Ok(target)) = (credential.split_once(':'), Target::parse(target))
    {
        return whole(http(target, Some(credential)), credential);
    }
    match (host_first(line), host_last(line)) {
        (Some((a, _)), Some((b, _))) if is_plainly_host(&a) == is_plainly_host(&b) => {
            Err("it cannot be told which is the host: write http://user:pass@host:port".to_owned())
        }
        (Some((target, credential)), None) => whole(http(target, Some(credential)), credential),
        (None, Some((target, credential))) => whole(http(target, Some(credential)), credential),
        (Some((target, credential)), Some(_)) if is_plainly_host(&target) => {
            whole(http(target, Some(credential)), credential)
        }
        (Some(_), Some((target, credential))) => whole(http(target, Some(credential)), credential),
        (None, None) => Err(EXPECTED.to_owned()),
    }
}

fn http(target: Target, credential: Option<(&str, &str)>) -> Written {
    Written::upstream(Scheme::Http, target.host, target.port, credential)
}

fn whole(written: Written, (user, _): (&str, &str)) -> Result<Written, String> {
    match user.is_empty() {
        true => Err("the user is empty".to_owned()),
        false => Ok(written),
    }
}

/// `host:port:user:pass`; the password may have colons in it.
fn host_first(line: &str) -> Option<(Target, (&str, &str))> {
    // The colons of an IPv6 address are within its brackets.
    let port = line.find(']').unwrap_or_default();
    let port = port + line[port..].find(':')? + 1;
    let end = port + line[port..].find(':')?;
    Some((Target::parse(&line[..end]).ok()?, line[end + 1..].split_once(':')?))
}

/// `user:pass:host:port`; the password may have colons in it.
fn host_last(line: &str) -> Option<(Target, (&str, &str))> {
    let (front, _) = line.rsplit_once(':')?;
    let host = match front.ends_with(']') {
        true => front.rfind('[')?,
        false => front.rfind(':')? + 1,
    };
    let credential = line.get(..host.checked_sub(1)?)?.split_once(':')?;
    Some((Target::parse(&line[host..]).ok()?, credential))
}

/// An address, or a name with a dot: what a user is not called.
fn is_plainly_host(target: &Target) -> bool {
    match &target.host {
        crate::core::target::Host::Ip(_) => true,
        crate::core::target::Host::Name(name) => name.contains('.'),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::exit::Via;
    use crate::core::template::Filling;
    use crate::core::time::Ttl;

    /// As `scheme://host:port user:password`.
    fn shown(written: &Written) -> String {
        let Via::Upstream(upstream) = &written.via else { return written.via.to_string() };
        let filling = Filling { token: "TOKEN", ttl: Ttl::MIN, label: &|_| None };
        let credential = upstream.credential.as_ref().map(|credential| {
            let (user, password) = (credential.user.fill(&filling), credential.password.fill(&filling));
            format!(" {}:{}", user.expose(), password.expose())
        });
        format!("{}{}", written.via, credential.unwrap_or_default())
    }

    #[track_caller]
    fn check(line: &str, expected: Option<&str>) {
        assert_eq!(upstream(line).ok().map(|written| shown(&written)).as_deref(), expected, "{line}");
    }

    #[test]
    fn the_ways_of_vendors_are_read() {
        check("gate.example:7777", Some("http://gate.example:7777"));
        check("203.0.113.9:80:bob:s3cret", Some("http://203.0.113.9:80 bob:s3cret"));
        check("gate.example:80:bob:a:b", Some("http://gate.example:80 bob:a:b"));
        check("bob:s3cret@gate.example:80", Some("http://gate.example:80 bob:s3cret"));
        check("bob:p@ss@gate.example:80", Some("http://gate.example:80 bob:p@ss"));
        check("gate.example:80:bob:p@ss", Some("http://gate.example:80 bob:p@ss"));
        check("bob:s3cret:gate.example:80", Some("http://gate.example:80 bob:s3cret"));
        check("bob:a:b:gate.example:80", Some("http://gate.example:80 bob:a:b"));
        check("bob:1234:203.0.113.9:80", Some("http://203.0.113.9:80 bob:1234"));
        check("gate.example:80:bob:1234", Some("http://gate.example:80 bob:1234"));
        check("[2001:db8::1]:80", Some("http://[2001:db8::1]:80"));
        check("[2001:db8::1]:80:bob:x", Some("http://[2001:db8::1]:80 bob:x"));
        check("bob:x:[2001:db8::1]:80", Some("http://[2001:db8::1]:80 bob:x"));
        check("bob:x@[2001:db8::1]:80", Some("http://[2001:db8::1]:80 bob:x"));
        check("socks5://bob:x@h.example:1080", Some("socks5://h.example:1080 bob:x"));
        check("http://a-{session}:x@h.example:80", Some("http://h.example:80 a-TOKEN:x"));
        check("bob:{x}:h.example:80", Some("http://h.example:80 bob:{x}"));
        check("bob:50%:h.example:80", Some("http://h.example:80 bob:50%"));
    }

    #[test]
    fn what_means_nothing_or_two_things_is_refused() {
        check("gate.example", None);
        check("gate.example:0", None);
        check("gate.example:99999", None);
        check("1.2.3.4:80:5.6.7.8:81", None);
        check("a:80:b:81", None);
        check(":x@h.example:80", None);
        check("user@h.example:80", None);
        check("ftp://h.example:21", None);
        check("a b c", None);
    }

    #[test]
    fn comments_and_blank_lines_are_passed_over() {
        let list = "\u{feff}# a list\n\nh.example:80 # first\r\n  i.example:81:u:p#w  \nbad\n";
        let read: Vec<_> = lines(list).map(|(at, line)| (at, line.ok().map(|w| shown(&w)))).collect();
        let expected = [
            (3, Some("http://h.example:80".to_owned())),
            (4, Some("http://i.example:81 u:p#w".to_owned())),
            (5, None),
        ];
        assert_eq!(read, expected);
    }

    #[test]
    fn no_error_quotes_the_line() {
        for line in
            ["hunter2", "hunter2:x:y", "http://hunter2:hunter2@:1", "http://u:{hunter2}@h:1", "a:1:hunter2:2"]
        {
            let message = upstream(line).err().unwrap_or_default();
            assert!(!message.is_empty() && !message.contains("hunter2"), "{line}: {message}");
        }
    }
}
