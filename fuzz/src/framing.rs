//! Where messages end: the same for us and for hyper, wherever both take them.

use hyper::HeaderMap;
use moorgate::core::target::Target;
use moorgate::http1::head::Destination;

use super::{peer, reader};

/// The first byte says what the others are: requests, an answer to a GET, an
/// answer to a HEAD.
pub fn check(data: &[u8]) {
    match data.split_first() {
        Some((0..=127, bytes)) => drop(requests(bytes)),
        Some((128..=191, bytes)) => drop(response(bytes, false)),
        Some((192.., bytes)) => drop(response(bytes, true)),
        None => {}
    }
}

/// Compares all requests up to the first that is refused or not whole; how
/// many both have read.
pub fn requests(bytes: &[u8]) -> usize {
    let mut read = 0;
    let theirs = peer::requests(bytes);
    let mut rest = bytes;
    for their in theirs {
        let Some((ours, asked, next)) = reader::request(rest) else { return read };
        assert_eq!(ours.head.method(), their.method);
        assert_eq!(names(ours.head.fields()), count(&their.fields), "fields of the same request");
        match ours.head.destination() {
            Ok(Destination::Connect { authority }) => {
                if Target::parse(authority).is_err() {
                    return read;
                }
                assert_eq!(Some(authority), their.uri.authority().map(|authority| authority.as_str()));
                return read + 1;
            }
            Ok(Destination::Plain { authority, path }) => {
                assert_eq!(Some(authority), their.uri.authority().map(|authority| authority.as_str()));
                let theirs = their.uri.path_and_query().map_or("", |path| path.as_str());
                assert_eq!(rooted(path), rooted(theirs));
            }
            Err(_) => {}
        }
        let Some(body) = their.body else { return read };
        assert_eq!(ours.body, body, "the same body");
        read += 1;
        if asked.upgrade {
            return read;
        }
        rest = next;
    }
    read
}

/// An empty path is `/` (RFC 9112 §3.2.1).
fn rooted(path: &str) -> String {
    if path.starts_with('/') { path.to_owned() } else { format!("/{path}") }
}

/// Compares the answer to a GET or HEAD; whether both have read it whole.
pub fn response(bytes: &[u8], head: bool) -> bool {
    let method = if head { "HEAD" } else { "GET" };
    let request = format!("{method} http://a/ HTTP/1.1\r\n\r\n");
    let Some((_, asked, _)) = reader::request(request.as_bytes()) else { unreachable!("a request") };
    let Some(ours) = reader::response(bytes, &asked) else { return false };
    let Some(theirs) = peer::response(bytes, head) else { return false };
    assert_eq!(ours.head.status(), theirs.status);
    assert_eq!(names(ours.head.fields()), count(&theirs.fields), "fields of the same response");
    let Some(body) = theirs.body else { return false };
    assert_eq!(ours.body, body, "the same body; until close: {}", ours.until_close);
    true
}

/// Names and values, sorted by name: hyper keeps no order between names, and
/// of lengths that are the same number one.
fn names(fields: &moorgate::http1::fields::Fields) -> Vec<(String, Vec<u8>)> {
    let mut fields = reader::fields(fields);
    fields.sort_by(|a, b| a.0.cmp(&b.0));
    fields.dedup_by(|a, b| a.0 == "content-length" && a.0 == b.0);
    fields
}

fn count(fields: &HeaderMap) -> Vec<(String, Vec<u8>)> {
    let mut all: Vec<_> =
        fields.iter().map(|(name, value)| (name.as_str().to_owned(), value.as_bytes().to_vec())).collect();
    all.sort_by(|a, b| a.0.cmp(&b.0));
    all.dedup_by(|a, b| a.0 == "content-length" && a.0 == b.0);
    all
}
