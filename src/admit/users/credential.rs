//! A credential as a request carries it.
//!
//! Owns: the reading of Basic and Bearer (RFC 7617, RFC 6750).
//! Must not know: whose it is, whether it is right.

use base64::Engine as _;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};

use crate::core::secret::Secret;

/// What the credential of a request says.
pub(super) enum Credential {
    Basic { username: String, secret: Secret },
    Bearer(Secret),
}

/// Clients pad or do not, and some encoders leave bits behind.
pub(super) const BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

impl Credential {
    /// RFC 7617: the secret is all that follows the first colon. RFC 6750: the
    /// token is all.
    pub(super) fn read(field: &[u8]) -> Option<Self> {
        let (scheme, rest) = field.split_at(field.iter().position(|b| *b == b' ')?);
        let rest = rest.trim_ascii();
        if scheme.eq_ignore_ascii_case(b"basic") {
            let decoded = String::from_utf8(BASE64.decode(rest).ok()?).ok()?;
            let (username, secret) = decoded.split_once(':')?;
            return Some(Self::Basic { username: username.to_owned(), secret: Secret::new(secret) });
        }
        let token = std::str::from_utf8(rest).ok().filter(|_| scheme.eq_ignore_ascii_case(b"bearer"))?;
        Some(Self::Bearer(Secret::new(token)))
    }
}
