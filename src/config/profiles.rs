//! A profile as written.
//!
//! Owns: one field for each documented key of a profile.
//! Must not know: what a profile does with a credential.

use schemars::JsonSchema;

use super::read::Later;
use super::values::{Label, Lifetime, Whole};
use super::words::{FailoverWord, Labels};

pub(crate) mod shipped;
mod words;

use words::{CharsText, KeyName, Keyed, Meaning, Prefix, UnitText, Words};
pub(super) use words::{ProfileItem, ProfileName, Separator};

/// Another grammar of the username, for clients that were written for it.
#[derive(serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a profile: an object with \"name\" and \"keys\"")]
#[schemars(title = "Moorgate profile", rename = "Profile")]
pub(super) struct ProfileEntry {
    /// For editors; the gateway takes no notice of it.
    #[serde(rename = "$schema")]
    _schema: Option<String>,
    /// By which users and listeners name it.
    pub(super) name: ProfileName,
    /// Whose grammar it is, for people.
    #[serde(rename = "title")]
    _title: Option<String>,
    /// Where it is said to be so: addresses of public pages.
    #[serde(rename = "source")]
    _source: Option<Vec<String>>,
    /// What is uncertain, or different here.
    #[serde(rename = "note")]
    _note: Option<String>,
    /// Where the parameters are.
    #[schemars(extend("default" = "username"))]
    pub(super) place: Option<PlaceWord>,
    /// What a username begins with, one of them; "" where it may begin with
    /// the name itself. Default: [""].
    pub(super) prefixes: Option<Vec<Prefix>>,
    /// Whether the username begins with the user's name, or the user is found
    /// by its secret.
    #[schemars(extend("default" = "first"))]
    pub(super) user: Option<UserWord>,
    /// The key whose value is the user's name, where that does not come first.
    pub(super) user_key: Option<KeyName>,
    /// What stands between parameters.
    pub(super) separators: Option<SeparatorsEntry>,
    /// Values without a key, in their order, before the first key.
    pub(super) positions: Option<Vec<Later<PositionEntry>>>,
    /// The keys, in any letter case, and what each tells of.
    pub(super) keys: Keyed<KeyEntry>,
    /// What becomes of a ttl or idle time that is out of range.
    #[schemars(extend("default" = "reject"))]
    pub(super) out_of_range: Option<RangeWord>,
    /// The ttl of a session that names none. Default: as without a profile.
    pub(super) ttl: Option<Lifetime>,
    /// The idle time of a session that names none. Default: as without a
    /// profile.
    pub(super) idle: Option<Lifetime>,
    /// Credentials and what they mean, or what is wrong with them. One that
    /// does not mean what is written is an error.
    pub(super) examples: Option<Vec<Later<ExampleEntry>>>,
}

/// Where the parameters are.
#[derive(Clone, Copy, PartialEq, Eq, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase", expecting = "\"username\" or \"password\"")]
#[schemars(rename = "ProfilePlace", inline)]
pub(super) enum PlaceWord {
    Username,
    Password,
}

/// How the user is found.
#[derive(Clone, Copy, PartialEq, Eq, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase", expecting = "\"first\" or \"secret\"")]
#[schemars(rename = "ProfileUser", inline)]
pub(super) enum UserWord {
    First,
    Secret,
}

/// What becomes of a duration out of range.
#[derive(Clone, Copy, PartialEq, Eq, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase", expecting = "\"reject\" or \"clamp\"")]
#[schemars(rename = "OutOfRange", inline)]
pub(super) enum RangeWord {
    Reject,
    Clamp,
}

/// What stands between parameters.
#[derive(Default, serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "an object")]
#[schemars(rename = "Separators")]
pub(super) struct SeparatorsEntry {
    /// Between user (or secret) and the first parameter. Default: as "pair".
    pub(super) first: Option<Separator>,
    /// Between parameters.
    #[schemars(extend("default" = "-"))]
    pub(super) pair: Option<Separator>,
    /// Between a key and its value.
    #[schemars(extend("default" = "-"))]
    pub(super) value: Option<Separator>,
}

/// A value without a key.
#[derive(serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "an object with \"shape\" and \"means\"")]
#[schemars(rename = "Position")]
pub(super) struct PositionEntry {
    /// What it looks like: one of the words in its "values" or "rotate", or
    /// also letters, digits or anything that is no key.
    pub(super) shape: ShapeWord,
    /// How many letters.
    pub(super) length: Option<Whole<1, 64>>,
    /// Whether it must be there where any parameter is.
    #[schemars(extend("default" = false))]
    pub(super) required: Option<bool>,
    /// What it tells of.
    pub(super) means: KeyEntry,
}

/// What a value looks like.
#[derive(Clone, Copy, PartialEq, Eq, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase", expecting = "\"words\", \"letters\", \"digits\" or \"any\"")]
#[schemars(rename = "Shape", inline)]
pub(super) enum ShapeWord {
    Words,
    Letters,
    Digits,
    Any,
}

/// What a key tells of, alone or with more to say of it.
pub(super) struct KeyEntry(pub(super) KeyObject);

/// What a key tells of.
#[derive(Default, serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "an object with \"to\"")]
#[schemars(rename = "Key")]
pub(super) struct KeyObject {
    /// "session", "ttl", "idle", "pool", "exit", "failover", a label, or
    /// "ignore".
    pub(super) to: Meaning,
    /// Of a ttl or idle time: "s", "m", "h" or "d" for a whole number of
    /// them, "written" for a duration that says it ("90s", "1h30m").
    pub(super) unit: Option<UnitText>,
    /// The shortest ttl or idle time that is taken.
    pub(super) min: Option<Lifetime>,
    /// The longest.
    pub(super) max: Option<Lifetime>,
    /// The key stands alone, without a value, and means this one; "" where it
    /// means nothing.
    pub(super) flag: Option<String>,
    /// Whether it may stand more than once (a label, or one to ignore).
    #[schemars(extend("default" = false))]
    pub(super) repeats: Option<bool>,
    /// How far its value goes: to the next "pair", to it but over the hyphens
    /// of a "uuid", or to the next "key".
    #[schemars(extend("default" = "pair"))]
    pub(super) reach: Option<ReachWord>,
    /// Values that ask for another exit with each request.
    pub(super) rotate: Option<Vec<String>>,
    /// What a value may begin with, and is left away ("AS" of "AS64500").
    pub(super) strip: Option<Prefix>,
    /// Values that mean another one; null: as if the key were not there.
    pub(super) values: Option<Words>,
    /// What the key says of failover by being there.
    pub(super) failover: Option<FailoverWord>,
    /// What a session id is made of, such as "A-Za-z0-9_". Default: every
    /// visible character but the separators.
    pub(super) chars: Option<CharsText>,
    /// The most characters of a session id.
    #[schemars(extend("default" = 128))]
    pub(super) longest: Option<Whole<1, 128>>,
    /// What stands between the values of a list; lists are refused.
    #[schemars(extend("default" = ","))]
    pub(super) list: Option<Separator>,
}

/// How far a value goes.
#[derive(Clone, Copy, PartialEq, Eq, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase", expecting = "\"pair\", \"uuid\" or \"key\"")]
#[schemars(rename = "Reach", inline)]
pub(super) enum ReachWord {
    Pair,
    Uuid,
    Key,
}

/// A credential, and what it means or what is wrong with it.
#[derive(serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "an object with \"credential\"")]
#[schemars(rename = "Example")]
pub(super) struct ExampleEntry {
    /// As in a proxy's URL: username:password. No real one.
    pub(super) credential: String,
    /// Its user's name.
    pub(super) user: String,
    /// Its secret. Default: the whole password.
    pub(super) secret: Option<String>,
    /// What it means.
    pub(super) means: Option<MeansEntry>,
    /// What is wrong with it.
    pub(super) wrong: Option<WrongEntry>,
}

/// What a credential means; what is left out it does not say.
#[derive(serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "an object")]
#[schemars(rename = "Means")]
pub(super) struct MeansEntry {
    /// The session's id.
    pub(super) session: Option<String>,
    /// Its ttl, in seconds.
    pub(super) ttl_seconds: Option<Whole<1, 604_800>>,
    /// Its idle time, in seconds.
    pub(super) idle_seconds: Option<Whole<1, 604_800>>,
    /// The pool.
    pub(super) pool: Option<String>,
    /// The exit.
    pub(super) exit: Option<String>,
    /// What happens when the pinned exit is down.
    pub(super) failover: Option<FailoverWord>,
    /// The labels, as the credential writes them.
    pub(super) labels: Option<Labels<Label>>,
}

/// What is wrong with a credential.
#[derive(serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "an object with \"code\" and \"at\"")]
#[schemars(rename = "Wrong")]
pub(super) struct WrongEntry {
    /// The code of the answer.
    pub(super) code: String,
    /// Where in username:password, in bytes from 0.
    pub(super) at: Whole<0, 1024>,
}
