use std::net::IpAddr;

use proptest::prelude::*;

use super::*;
use crate::core::session::Filter;

fn variant() -> impl Strategy<Value = Variant> {
    prop_oneof![
        Just(Variant::None),
        any::<IpAddr>().prop_map(Variant::Address),
        "[a-z0-9]{1,40}".prop_map(|token| Variant::Token(token.as_str().into())),
    ]
}

prop_compose! {
    fn pin()(
        user in "[a-zA-Z0-9._-]{1,64}",
        session in "[!-~]{1,128}",
        labels in prop::collection::vec((0..10_usize, "[a-z0-9]{1,20}"), 0..4),
        (pool, id) in ("[a-z0-9-]{1,20}", "[ -~]{1,80}"),
        variant in variant(),
        (made, life, used) in (0..4_000_000_000_000_u64, 0..604_800_001_u64, 0..604_800_001_u64),
        idle in 0..604_801_u64,
        (via, rest_s, moves, version) in (any::<u32>(), any::<u32>(), 0..1_u32 << 31, any::<u64>()),
        same_address in any::<bool>(),
    ) -> Pin {
        Pin {
            user: user.as_str().into(),
            session: SessionId::new(&session).unwrap(),
            filter: Filter::new(
                labels.iter().map(|(n, value)| (crate::core::session::LABEL_KEYS[*n], value.as_str())),
            ),
            exit: ExitName { pool: pool.as_str().into(), id: id.as_str().into() },
            variant,
            via,
            made: Timestamp::from_ms(made),
            expires: Timestamp::from_ms(made + life),
            idle: Ttl::from_secs(idle),
            used: Timestamp::from_ms(made + used),
            rest_s,
            moves,
            same_address,
            version,
        }
    }
}

fn record() -> impl Strategy<Value = Record> {
    let key = any::<[u8; 16]>().prop_map(SessionKey::from_bytes);
    let until = any::<u64>().prop_map(Timestamp::from_ms);
    let fact = prop_oneof![
        4 => (key.clone(), pin()).prop_map(|(key, pin)| Fact::Pin(key, Box::new(pin))),
        1 => (key.clone(), until.clone()).prop_map(|(key, until)| Fact::Ended { key, until }),
        1 => (key, any::<u64>(), pin(), until).prop_map(|(key, version, pin, until)| Fact::Rest {
            key,
            version,
            exit: pin.exit,
            variant: pin.variant,
            until,
        }),
        1 => any::<i64>().prop_map(Fact::Clock),
        1 => Just(Fact::Last),
    ];
    (any::<u64>(), fact).prop_map(|(number, fact)| Record { number, fact })
}

proptest! {
    #[test]
    fn what_is_written_is_read(record in record()) {
        let bytes = record.encode();
        prop_assert_eq!(Record::number_of(&bytes), Some(record.number));
        prop_assert_eq!(Record::decode(&bytes), Ok(record));
    }

    #[test]
    fn what_is_not_as_written_is_not_read(record in record(), at in any::<usize>(), by in 1..=255_u8) {
        let mut bytes = record.encode();
        let at = at % bytes.len();
        prop_assert_eq!(Record::decode(&bytes[..at]), Err(Unreadable::Garbled));
        bytes[at] ^= by;
        prop_assert_eq!(Record::decode(&bytes), Err(Unreadable::Garbled));
    }

    #[test]
    fn records_are_found_between_anything(
        parts in prop::collection::vec((prop::collection::vec(any::<u8>(), 0..30), record()), 0..5),
        cut in 1..20_usize,
    ) {
        let mut bytes = Vec::new();
        for (noise, record) in &parts {
            bytes.extend_from_slice(noise);
            bytes.extend_from_slice(&MAGIC[..cut % 4]);
            bytes.extend_from_slice(&record.encode());
        }
        let found: Vec<_> = Record::scan(&bytes).map(Result::unwrap).collect();
        let all: Vec<_> = parts.into_iter().map(|(_, record)| record).collect();
        prop_assert_eq!(&found, &all);
        // The last one is cut short: all others are found.
        bytes.truncate(bytes.len().saturating_sub(cut));
        let found = Record::scan(&bytes).count();
        prop_assert_eq!(found, all.len().saturating_sub(1));
    }

    #[test]
    fn noise_is_no_record_and_no_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(Record::decode(&bytes).is_err());
        prop_assert_eq!(Record::scan(&bytes).count(), 0);
    }
}

#[test]
fn a_later_version_is_told_from_damage() {
    let mut bytes = Record { number: 7, fact: Fact::Last }.encode();
    let end = bytes.len() - CHECKSUM;
    for (at, value) in [(4, VERSION + 1), (5, 99)] {
        let mut bytes = bytes.clone();
        bytes[at] = value;
        let checksum = xxh3_64(&bytes[..end]).to_le_bytes();
        bytes[end..].copy_from_slice(&checksum);
        assert_eq!(Record::decode(&bytes), Err(Unreadable::Newer));
    }
    bytes[4] = VERSION + 1;
    assert_eq!(Record::decode(&bytes), Err(Unreadable::Garbled));
}

/// Pins that were written by version 0.1 are read for ever.
#[test]
fn the_first_version_is_still_read() {
    let bytes = include_bytes!("../testdata/pin-v1.bin");
    let pin = Pin {
        user: "acme".into(),
        session: SessionId::new("checkout-1").unwrap(),
        filter: Filter::new([("country", "US"), ("city", "New York")]),
        exit: ExitName { pool: "us".into(), id: "2001:db8:7::/64".into() },
        variant: Variant::Address("2001:db8:7::1".parse().unwrap()),
        via: 0xdead_beef,
        made: Timestamp::from_ms(1_700_000_000_000),
        expires: Timestamp::from_ms(1_700_000_600_000),
        idle: Ttl::from_secs(60),
        used: Timestamp::from_ms(1_700_000_030_000),
        rest_s: 3600,
        moves: 2,
        same_address: true,
        version: 0x0123_4567_89ab_cdef,
    };
    let record = Record { number: 42, fact: Fact::Pin(pin.key(), Box::new(pin)) };
    assert_eq!(Record::decode(bytes), Ok(record));
}
