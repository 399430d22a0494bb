//! The kinds of value that files are made of.
//!
//! Owns: how a duration, a size, an address, a name, a secret is written, what
//! is expected where it is not, and its JSON Schema.
//! Must not know: which field it stands in.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use ipnet::IpNet;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Deserialize, Deserializer, SeqAccess, Unexpected, Visitor};

use crate::core::bind::{Bind, NoBind};
use crate::core::secret::Secret;
use crate::core::session::fold;
use crate::core::time::{Ttl, parse_duration};

/// A value that is written as a string and means a `Self`.
pub(super) trait FromText: Sized {
    /// What is expected, as in "expected …".
    const EXPECTED: &'static str;

    /// What the text means; the error is a sentence without the text.
    fn from_text(text: &str) -> Result<Self, String>;
}

/// Reads a string.
pub(super) fn deserialize_text<'de, T: FromText, D: Deserializer<'de>>(from: D) -> Result<T, D::Error> {
    struct TextVisitor<T>(PhantomData<T>);
    impl<T: FromText> Visitor<'_> for TextVisitor<T> {
        type Value = T;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(T::EXPECTED)
        }

        fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
            T::from_text(text).map_err(E::custom)
        }
    }
    from.deserialize_str(TextVisitor(PhantomData))
}

/// `Deserialize` and an inline JSON Schema of a string for [`FromText`] types.
macro_rules! text {
    ($($type:ty { $($schema:tt)* })+) => {$(
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserialize_text(deserializer)
            }
        }

        impl JsonSchema for $type {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> Cow<'static, str> {
                stringify!($type).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": "string", $($schema)* })
            }
        }
    )+};
}
pub(super) use text;

const DURATION: &str = "^([0-9]+[a-zA-Z]+)+$";

text! {
    Span { "pattern": DURATION }
    Lifetime { "pattern": DURATION }
    SecretText {}
    Label { "minLength": 1, "maxLength": 128 }
    Net {}
    Address {}
    Sockets {}
    Binds {}
    FileMode { "pattern": "^0?[0-7]{3}$" }
}

/// A length of time from 0 to 30 days.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span(pub(super) Duration);

impl Span {
    const MAX: Duration = Duration::from_secs(30 * 24 * 3600);
}

impl FromText for Span {
    const EXPECTED: &'static str = "a duration such as \"90s\", \"10m\" or \"1h30m\"";

    fn from_text(text: &str) -> Result<Self, String> {
        match parse_duration(text) {
            Ok(span) if span <= Self::MAX => Ok(Self(span)),
            Ok(_) => Err("expected a duration of at most 30 days".to_owned()),
            Err(error) => Err(error.to_string()),
        }
    }
}

/// A session's length.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lifetime(pub(super) Ttl);

impl FromText for Lifetime {
    const EXPECTED: &'static str = "a duration from \"1s\" to \"168h\"";

    fn from_text(text: &str) -> Result<Self, String> {
        let length = parse_duration(text).map_err(|error| error.to_string())?;
        Ttl::from_duration(length).map(Self).ok_or_else(|| format!("expected {}", Self::EXPECTED))
    }
}

/// A string that may be a secret.
#[derive(Clone, Debug)]
pub(super) struct SecretText(pub(super) Secret);

impl FromText for SecretText {
    const EXPECTED: &'static str = "a string";

    fn from_text(text: &str) -> Result<Self, String> {
        Ok(Self(Secret::new(text)))
    }
}

/// A label's value as written.
#[derive(Clone, Debug)]
pub(super) struct Label(pub(super) String);

impl FromText for Label {
    const EXPECTED: &'static str = "a string";

    fn from_text(text: &str) -> Result<Self, String> {
        match text.len() <= 128 && !fold(text).is_empty() {
            true => Ok(Self(text.to_owned())),
            false => Err("expected a label of at most 128 bytes with a letter or a digit in it".to_owned()),
        }
    }
}

/// An address or a prefix.
#[derive(Clone, Copy, Debug)]
pub(super) struct Net(pub(super) IpNet);

impl FromText for Net {
    const EXPECTED: &'static str = "an address or a CIDR such as \"10.0.0.0/8\"";

    fn from_text(text: &str) -> Result<Self, String> {
        if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(Self(address.to_canonical().into()));
        }
        let net: IpNet = text.parse().map_err(|_| format!("expected {}", Self::EXPECTED))?;
        canonical(net).map(Self)
    }
}

/// The prefix, an IPv4-mapped one as IPv4. One with bits set behind its length
/// means two things; which one, only who wrote it can say.
pub(super) fn canonical(net: IpNet) -> Result<IpNet, String> {
    let net = match net {
        IpNet::V6(v6) if v6.prefix_len() >= 96 && v6.addr().to_ipv4_mapped().is_some() => {
            IpNet::new(v6.addr().to_canonical(), v6.prefix_len() - 96).unwrap_or(net)
        }
        net => net,
    };
    match net == net.trunc() {
        true => Ok(net),
        false => Err(format!(
            "{net} has bits set behind its length: write {} for the prefix, or {} for the address",
            net.trunc(),
            net.addr()
        )),
    }
}

/// An address.
#[derive(Clone, Copy, Debug)]
pub(super) struct Address(pub(super) IpAddr);

impl FromText for Address {
    const EXPECTED: &'static str = "an IPv4 or IPv6 address";

    fn from_text(text: &str) -> Result<Self, String> {
        let address: IpAddr = text.parse().map_err(|_| format!("expected {}", Self::EXPECTED))?;
        Ok(Self(address.to_canonical()))
    }
}

/// Where to listen: more than one socket for a range of ports.
#[derive(Clone, Debug)]
pub(super) struct Sockets(pub(super) Vec<SocketAddr>);

impl FromText for Sockets {
    const EXPECTED: &'static str = "an address and a port, or a range of ports: \"127.0.0.1:8080\", \"[::1]:8080\", \"10.0.0.1:20001-20100\"";

    fn from_text(text: &str) -> Result<Self, String> {
        let expected = || format!("expected {}", Self::EXPECTED);
        if let Ok(socket) = text.parse() {
            return Ok(Self(vec![socket]));
        }
        let (host, ports) = text.rsplit_once(':').ok_or_else(expected)?;
        let (first, last) = ports.split_once('-').ok_or_else(expected)?;
        // The address is read with a port of its own, so that brackets are
        // judged as they are for a single port.
        let socket: SocketAddr = format!("{host}:{first}").parse().map_err(|_| expected())?;
        let last: u16 = last.parse().map_err(|_| expected())?;
        if socket.port() == 0 || last < socket.port() {
            return Err("expected a range of ports from a lower to a higher one".to_owned());
        }
        Ok(Self((socket.port()..=last).map(|port| SocketAddr::new(socket.ip(), port)).collect()))
    }
}

/// Where clients are accepted: sockets, or a Unix socket.
#[derive(Clone, Debug)]
pub(super) struct Binds(pub(super) Vec<Bind>);

impl FromText for Binds {
    const EXPECTED: &'static str = "an address and a port, a range of ports, or a Unix socket: \"127.0.0.1:8080\", \"[::1]:8080\", \"10.0.0.1:20001-20100\", \"unix:/run/moorgate.sock\"";

    fn from_text(text: &str) -> Result<Self, String> {
        if text.starts_with("unix:") {
            return text.parse().map(|bind| Self(vec![bind])).map_err(|error: NoBind| error.to_string());
        }
        match Sockets::from_text(text) {
            Ok(sockets) => Ok(Self(sockets.0.into_iter().map(Bind::Tcp).collect())),
            Err(message) if message.ends_with(Sockets::EXPECTED) => {
                Err(format!("expected {}", Self::EXPECTED))
            }
            Err(message) => Err(message),
        }
    }
}

/// Who may open a file, in octal.
#[derive(Clone, Copy, Debug)]
pub(super) struct FileMode(pub(super) u32);

impl FromText for FileMode {
    const EXPECTED: &'static str = "a file's mode in octal, such as \"0660\"";

    fn from_text(text: &str) -> Result<Self, String> {
        let digits = text.strip_prefix('0').filter(|rest| rest.len() == 3).unwrap_or(text);
        let plain = digits.len() == 3 && digits.bytes().all(|digit| (b'0'..=b'7').contains(&digit));
        let mode = u32::from_str_radix(digits, 8).ok().filter(|_| plain);
        mode.map(Self).ok_or_else(|| format!("expected {}", Self::EXPECTED))
    }
}

/// A whole number from `MIN` to `MAX`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Whole<const MIN: u32, const MAX: u32>(pub(super) u32);

impl<'de, const MIN: u32, const MAX: u32> Deserialize<'de> for Whole<MIN, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct WholeVisitor<const MIN: u32, const MAX: u32>;
        impl<const MIN: u32, const MAX: u32> Visitor<'_> for WholeVisitor<MIN, MAX> {
            type Value = u32;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "a whole number from {MIN} to {MAX}")
            }

            fn visit_u64<E: de::Error>(self, value: u64) -> Result<u32, E> {
                let fitting = u32::try_from(value).ok().filter(|value| (MIN..=MAX).contains(value));
                fitting.ok_or_else(|| E::invalid_value(Unexpected::Unsigned(value), &self))
            }

            fn visit_i64<E: de::Error>(self, value: i64) -> Result<u32, E> {
                Err(E::invalid_value(Unexpected::Signed(value), &self))
            }

            fn visit_f64<E: de::Error>(self, value: f64) -> Result<u32, E> {
                Err(E::invalid_value(Unexpected::Float(value), &self))
            }
        }
        deserializer.deserialize_u32(WholeVisitor::<MIN, MAX>).map(Self)
    }
}

impl<const MIN: u32, const MAX: u32> JsonSchema for Whole<MIN, MAX> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        format!("Whole{MIN}To{MAX}").into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "integer", "minimum": MIN, "maximum": MAX })
    }
}

/// Bytes: a whole number, or a string with a unit.
#[derive(Clone, Copy, Debug)]
pub(super) struct Size(pub(super) u64);

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct SizeVisitor;
        impl Visitor<'_> for SizeVisitor {
            type Value = u64;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number of bytes, or a size such as \"64KiB\"")
            }

            fn visit_u64<E: de::Error>(self, value: u64) -> Result<u64, E> {
                Ok(value)
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<u64, E> {
                let size = text.parse::<bytesize::ByteSize>().map(|size| size.as_u64());
                size.map_err(|_| E::invalid_value(Unexpected::Str(text), &self))
            }
        }
        deserializer.deserialize_any(SizeVisitor).map(Self)
    }
}

impl JsonSchema for Size {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Size".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": ["integer", "string"], "minimum": 0 })
    }
}

/// One value, or a list of them.
#[derive(Clone, Debug)]
pub(super) struct OneOrMany<T>(pub(super) Vec<T>);

impl<'de, T: FromText + Deserialize<'de>> Deserialize<'de> for OneOrMany<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ManyVisitor<T>(PhantomData<T>);
        impl<'de, T: FromText + Deserialize<'de>> Visitor<'de> for ManyVisitor<T> {
            type Value = Vec<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{} or a list of such", T::EXPECTED)
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Vec<T>, E> {
                T::from_text(text).map(|one| vec![one]).map_err(E::custom)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Vec<T>, A::Error> {
                let mut many = Vec::new();
                while let Some(one) = seq.next_element()? {
                    many.push(one);
                }
                Ok(many)
            }
        }
        deserializer.deserialize_any(ManyVisitor(PhantomData)).map(Self)
    }
}

impl<T: JsonSchema> JsonSchema for OneOrMany<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        format!("OneOrMany{}", T::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let one = generator.subschema_for::<T>();
        json_schema!({ "anyOf": [one, { "type": "array", "items": one }] })
    }
}
