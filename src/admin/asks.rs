//! What a request says: its query, its body, its cursor.
//!
//! Owns: how each is read, and the problem with one that cannot be.
//! Must not know: what is done with it.

use axum::body::to_bytes;
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::header::CONTENT_TYPE;
use axum::http::request::Parts;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer};

use super::problem::{Kind, Problem};
use crate::core::session::SessionKey;

/// The largest body.
const MOST_BODY: usize = 16 * 1024;

/// A query whose every key is known.
pub(super) struct Asked<T>(pub(super) T);

impl<S: Sync, T: DeserializeOwned> FromRequestParts<S> for Asked<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let read = Query::<T>::try_from_uri(&parts.uri);
        read.map(|Query(query)| Self(query)).map_err(|rejection| {
            let why = std::error::Error::source(&rejection).map_or_else(String::new, ToString::to_string);
            Problem::new(Kind::QueryInvalid, format!("correct the query: {why}"))
        })
    }
}

/// A query without a key.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Nothing {}

/// Parts of the path.
pub(super) struct Named<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for Named<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let read = Path::<T>::from_request_parts(parts, state).await;
        read.map(|Path(named)| Self(named))
            .map_err(|_| Problem::new(Kind::NotFound, "percent-encode the names in the path as UTF-8"))
    }
}

/// A body of JSON; none is as good as an empty object.
pub(super) struct Told<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Told<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        let (parts, body) = request.into_parts();
        let bytes = to_bytes(body, MOST_BODY).await.map_err(|_| {
            Problem::new(Kind::BodyTooLarge, format!("send at most {MOST_BODY} bytes, and all of them"))
        })?;
        if bytes.is_empty() {
            return read(b"{}");
        }
        let kind = parts.headers.get(CONTENT_TYPE).map_or(&b""[..], |kind| kind.as_bytes());
        let media = kind.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
        if !media.eq_ignore_ascii_case(b"application/json") {
            return Err(Problem::new(Kind::BodyNotJson, "send JSON, with Content-Type: application/json"));
        }
        read(&bytes)
    }
}

fn read<T: DeserializeOwned>(bytes: &[u8]) -> Result<Told<T>, Problem> {
    // Serde takes a list for an object, too.
    if bytes.trim_ascii_start().first() != Some(&b'{') {
        return Err(Problem::new(Kind::BodyInvalid, "send a JSON object"));
    }
    serde_json::from_slice(bytes)
        .map(Told)
        .map_err(|error| Problem::new(Kind::BodyInvalid, format!("correct the body: {error}")))
}

/// A flag of a query: there (`?dry_run`), or with a word.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Flag(pub(super) bool);

impl<'de> Deserialize<'de> for Flag {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match &*String::deserialize(deserializer)? {
            "" | "true" | "1" => Ok(Self(true)),
            "false" | "0" => Ok(Self(false)),
            other => Err(D::Error::custom(format!("expected true or false, not {other:?}"))),
        }
    }
}

/// Reads a session's key, as lists give it.
pub(super) fn key(text: &str) -> Result<SessionKey, Problem> {
    let wrong =
        || Problem::new(Kind::KeyInvalid, "a key is 32 hexadecimal digits, as the list of sessions has it");
    if text.len() != 32 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(wrong());
    }
    let number = u128::from_str_radix(text, 16).map_err(|_| wrong())?;
    Ok(SessionKey::from_bytes(number.to_be_bytes()))
}

/// How many entries a page has.
pub(super) fn limit(asked: Option<u32>, most: u32, default: u32) -> Result<usize, Problem> {
    match asked.unwrap_or(default) {
        limit @ 1.. if limit <= most => Ok(limit as usize),
        _ => Err(Problem::new(Kind::QueryInvalid, format!("ask for a limit of 1 to {most}"))),
    }
}

/// Where a page begins: behind something that the page before ended with. It
/// is bound to what was asked for, so that no list goes on as another.
pub(super) fn cursor(behind: &[u8], query: &[Option<&str>]) -> String {
    let mut bytes = seal(behind, query).to_vec();
    bytes.extend_from_slice(behind);
    URL_SAFE_NO_PAD.encode(bytes)
}

/// What a cursor stands behind.
pub(super) fn behind(cursor: &str, query: &[Option<&str>]) -> Result<Vec<u8>, Problem> {
    let wrong = || {
        let detail =
            "give \"next\" of the page before, with the same filters; or leave cursor out to begin anew";
        Problem::new(Kind::CursorInvalid, detail)
    };
    let bytes = URL_SAFE_NO_PAD.decode(cursor).map_err(|_| wrong())?;
    let (sealed, behind) = bytes.split_at_checked(SEAL).ok_or_else(wrong)?;
    if sealed != seal(behind, query) {
        return Err(wrong());
    }
    Ok(behind.to_vec())
}

const SEAL: usize = 4;

/// Not a secret: it keeps apart what belongs to different questions.
fn seal(behind: &[u8], query: &[Option<&str>]) -> [u8; SEAL] {
    let mut hash = blake3::Hasher::new();
    for part in query.iter().map(|part| part.map_or(&b""[..], str::as_bytes)).chain([behind]) {
        hash.update(&(part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    let mut seal = [0; SEAL];
    hash.finalize_xof().fill(&mut seal);
    seal
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_what_lists_show() {
        let shown = SessionKey::from_bytes([0xab; 16]).to_string();
        assert_eq!(key(&shown).unwrap().to_string(), shown);
        for wrong in ["", "ab", &format!("{shown}0"), &shown.replace('a', "g"), &format!("+{}", &shown[1..])]
        {
            assert!(key(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_cursor_goes_on_with_its_own_list_alone() {
        let query = [Some("acme"), None];
        let cursor = cursor(b"there", &query);
        assert_eq!(behind(&cursor, &query).unwrap(), b"there");
        assert!(behind(&cursor, &[None, Some("acme")]).is_err());
        assert!(behind(&cursor, &[Some("acme2"), None]).is_err());
        for wrong in ["", "x", "AAAAAAAA", &cursor[1..], &format!("{cursor}A"), "é"] {
            assert!(behind(wrong, &query).is_err(), "{wrong}");
        }
    }
}
