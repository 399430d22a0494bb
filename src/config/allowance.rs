//! What a user may use up, as written.
//!
//! Owns: the keys of a user's `limits`, how a bandwidth is written, and what
//! they mean.
//! Must not know: whether a file or a token says so.

use std::borrow::Cow;
use std::fmt;
use std::num::{NonZeroU32, NonZeroU64};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, Deserialize, Deserializer, MapAccess, Unexpected, Visitor};

use super::values::{Size, Whole};
use crate::core::limits::{Bandwidth, Rate, UserLimits};

/// Bounds of what one user uses; 0 is none.
#[derive(Default, serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "an object")]
#[schemars(rename = "UserLimits")]
pub(super) struct UserLimitsEntry {
    /// Requests a second in the long run: CONNECTs and plain requests.
    #[schemars(extend("default" = 0))]
    requests_per_second: Option<Whole<0, 1_000_000>>,
    /// So many at once after a pause. Default: "requests_per_second".
    pub(super) burst: Option<Whole<1, 1_000_000>>,
    /// Tunnels and plain requests under way at once.
    #[schemars(extend("default" = 0))]
    connections: Option<Whole<0, 10_000_000>>,
    /// Live sessions.
    #[schemars(extend("default" = 0))]
    sessions: Option<Whole<0, 1_000_000_000>>,
    /// Bytes of a UTC day, both directions together, such as "200GB" (GB:
    /// powers of 1000, GiB: of 1024).
    #[schemars(extend("default" = 0))]
    bytes_per_day: Option<Size>,
    /// Bytes a second in each direction, shared by all that the user has
    /// open, such as "50MB/s", or each by itself: {"up": "5MB/s", "down":
    /// "50MB/s"}.
    #[schemars(extend("default" = 0))]
    bandwidth: Option<BandwidthEntry>,
}

impl UserLimitsEntry {
    /// Whether `burst` has a rate that it belongs to.
    pub(super) fn has_rate(&self) -> bool {
        self.requests_per_second.is_some_and(|rate| rate.0 > 0)
    }

    /// What it means.
    pub(super) fn meant(&self) -> UserLimits {
        let per_second = self.requests_per_second.and_then(|rate| NonZeroU32::new(rate.0));
        let burst = self.burst.and_then(|burst| NonZeroU32::new(burst.0));
        let bandwidth = self.bandwidth.unwrap_or_default();
        UserLimits {
            rate: per_second.map(|per_second| Rate { per_second, burst: burst.unwrap_or(per_second) }),
            connections: self.connections.and_then(|most| NonZeroU32::new(most.0)),
            sessions: self.sessions.and_then(|most| NonZeroU32::new(most.0)),
            bytes_per_day: self.bytes_per_day.and_then(|size| NonZeroU64::new(size.0)),
            bandwidth: Bandwidth {
                up: bandwidth.up.and_then(NonZeroU64::new),
                down: bandwidth.down.and_then(NonZeroU64::new),
            },
        }
    }
}

/// Bytes a second, for both directions or for each.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct BandwidthEntry {
    up: Option<u64>,
    down: Option<u64>,
}

impl<'de> Deserialize<'de> for BandwidthEntry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct BothVisitor;
        impl<'de> Visitor<'de> for BothVisitor {
            type Value = BandwidthEntry;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}, or an object with \"up\" and \"down\"", Speed::EXPECTED)
            }

            fn visit_u64<E: de::Error>(self, value: u64) -> Result<BandwidthEntry, E> {
                Ok(BandwidthEntry { up: Some(value), down: Some(value) })
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<BandwidthEntry, E> {
                let speed = Speed::of(text).ok_or_else(|| E::invalid_value(Unexpected::Str(text), &self))?;
                self.visit_u64(speed)
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<BandwidthEntry, A::Error> {
                let each = EachWay::deserialize(MapAccessDeserializer::new(map))?;
                Ok(BandwidthEntry { up: each.up.map(|speed| speed.0), down: each.down.map(|speed| speed.0) })
            }
        }
        deserializer.deserialize_any(BothVisitor)
    }
}

impl JsonSchema for BandwidthEntry {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Bandwidth".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let both = generator.subschema_for::<Speed>();
        json_schema!({ "anyOf": [both, generator.subschema_for::<EachWay>()] })
    }
}

/// Each direction's by itself.
#[derive(serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "an object with \"up\" and \"down\"")]
#[schemars(rename = "BandwidthEachWay", inline)]
struct EachWay {
    /// From the clients.
    up: Option<Speed>,
    /// To the clients.
    down: Option<Speed>,
}

/// Bytes a second: a whole number, or a string with a unit.
#[derive(Clone, Copy, Debug)]
struct Speed(u64);

impl Speed {
    const EXPECTED: &'static str = "a number of bytes a second, or a text such as \"50MB/s\"";

    fn of(text: &str) -> Option<u64> {
        let size = text.trim().strip_suffix("/s").unwrap_or(text);
        Some(size.parse::<bytesize::ByteSize>().ok()?.as_u64())
    }
}

impl<'de> Deserialize<'de> for Speed {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct SpeedVisitor;
        impl Visitor<'_> for SpeedVisitor {
            type Value = u64;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(Speed::EXPECTED)
            }

            fn visit_u64<E: de::Error>(self, value: u64) -> Result<u64, E> {
                Ok(value)
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<u64, E> {
                Speed::of(text).ok_or_else(|| E::invalid_value(Unexpected::Str(text), &self))
            }
        }
        deserializer.deserialize_any(SpeedVisitor).map(Self)
    }
}

impl JsonSchema for Speed {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Speed".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": ["integer", "string"], "minimum": 0 })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn check(written: serde_json::Value, expected: (u64, u64)) {
        let entry: BandwidthEntry = serde_json::from_value(written).unwrap();
        assert_eq!((entry.up.unwrap_or(0), entry.down.unwrap_or(0)), expected);
    }

    #[test]
    fn a_bandwidth_is_for_both_directions_or_for_each() {
        check(json!(1000), (1000, 1000));
        check(json!("50MB/s"), (50_000_000, 50_000_000));
        check(json!("50 MiB/s"), (50 << 20, 50 << 20));
        check(json!("1.5kB"), (1500, 1500));
        check(json!({ "up": "1MB/s", "down": 0 }), (1_000_000, 0));
        check(json!({ "down": "2GB/s" }), (0, 2_000_000_000));
        for wrong in
            [json!("fast"), json!(-1), json!("1MB/m"), json!({ "in": 1 }), json!(["1MB/s"]), json!(true)]
        {
            assert!(serde_json::from_value::<BandwidthEntry>(wrong.clone()).is_err(), "{wrong}");
        }
    }

    #[test]
    fn nothing_and_0_are_no_limit_and_a_burst_is_the_rate_by_itself() {
        let meant = |written| serde_json::from_value::<UserLimitsEntry>(written).unwrap().meant();
        assert!(meant(json!({})).are_none());
        let zero = json!({
            "requests_per_second": 0, "connections": 0, "sessions": 0, "bytes_per_day": 0, "bandwidth": 0
        });
        assert!(meant(zero).are_none());
        let rate = |written| meant(written).rate.map(|rate| (rate.per_second.get(), rate.burst.get()));
        assert_eq!(rate(json!({ "requests_per_second": 50 })), Some((50, 50)));
        assert_eq!(rate(json!({ "requests_per_second": 50, "burst": 100 })), Some((50, 100)));
        let day = meant(json!({ "bytes_per_day": "200GB" })).bytes_per_day;
        assert_eq!(day.map(NonZeroU64::get), Some(200_000_000_000));
    }
}
