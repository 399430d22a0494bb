use proptest::prelude::*;

use super::*;
use crate::core::pin::{ExitName, Variant};
use crate::core::session::{Filter, SessionId};
use crate::core::time::Ttl;

fn at(s: u64) -> Timestamp {
    Timestamp::from_ms(s * 1000)
}

fn pin(session: u8, ttl_s: u64, idle_s: u64) -> Pin {
    Pin {
        user: "u".into(),
        session: SessionId::new(&session.to_string()).unwrap(),
        filter: Filter::default(),
        exit: ExitName { pool: "p".into(), id: "e".into() },
        variant: Variant::None,
        via: 0,
        made: at(0),
        expires: at(ttl_s),
        idle: Ttl::from_secs(idle_s),
        used: at(0),
        rest_s: 0,
        moves: 0,
        same_address: false,
        version: 0,
    }
}

fn key(session: u8) -> SessionKey {
    SessionKey::from_bytes([session; 16])
}

const TWO: Option<NonZeroU32> = NonZeroU32::new(2);

#[test]
fn a_limit_counts_pins_and_claims_and_says_when_one_ends() {
    let seats = Arc::new(Seats::default());
    seats.loaded(&pin(1, 600, 0));
    let claim = seats.take(key(2), TWO, at(0)).unwrap();
    assert_eq!(seats.take(key(3), TWO, at(0)).err(), Some(Full { wait: Duration::from_secs(600) }));
    assert_eq!(seats.check(key(3), TWO, at(100)), Err(Full { wait: Duration::from_secs(500) }));
    claim.commit(&pin(2, 700, 30));
    assert_eq!(seats.check(key(3), TWO, at(100)), Err(Full { wait: Duration::from_secs(30) }));
    assert!(seats.check(key(3), None, at(100)).is_ok());
    seats.ended(&pin(2, 700, 30));
    assert_eq!(seats.taken(), 1);
    drop(seats.take(key(3), TWO, at(100)).unwrap());
    assert_eq!(seats.taken(), 1, "given back");
    let _claim = seats.take(key(3), TWO, at(100)).unwrap();
    assert_eq!(seats.check(key(4), TWO, at(601)), Err(Full { wait: Duration::ZERO }), "one is to be swept");
}

#[test]
fn first_requests_of_one_session_take_one_seat() {
    let seats = Arc::new(Seats::default());
    let one = NonZeroU32::new(1);
    let claims: Vec<_> = (0..3).map(|_| seats.take(key(1), one, at(0)).unwrap()).collect();
    assert!(seats.take(key(2), one, at(0)).is_err());
    let mut claims = claims.into_iter();
    drop(claims.next());
    claims.next().unwrap().commit(&pin(1, 60, 0));
    assert_eq!(seats.taken(), 1);
    drop(claims);
    assert_eq!(seats.taken(), 1, "the pin's");
    seats.ended(&pin(1, 60, 0));
    assert_eq!((seats.taken(), seats.book().expiries.len()), (0, 0));
}

#[test]
fn an_end_before_its_commit_counts_as_one() {
    let seats = Arc::new(Seats::default());
    let claim = seats.take(key(1), TWO, at(0)).unwrap();
    seats.ended(&pin(1, 60, 0));
    claim.commit(&pin(1, 60, 0));
    assert_eq!(seats.taken(), 0);
    seats.loaded(&pin(2, 600, 0));
    seats.loaded(&pin(3, 600, 0));
    assert_eq!(seats.check(key(4), TWO, at(100)), Err(Full { wait: Duration::from_secs(500) }));
}

proptest! {
    /// Against a plain list of pins and claims.
    #[test]
    fn seats_are_counted_exactly(steps in prop::collection::vec((0_u8..4, 0_u8..4), 1..60)) {
        let seats = Arc::new(Seats::default());
        let (mut claims, mut pins): (Vec<(u8, Seat)>, Vec<u8>) = Default::default();
        for (what, session) in steps {
            match what {
                0 => if let Ok(claim) = seats.take(key(session), NonZeroU32::new(3), at(0)) {
                    // The store has one pin for a key.
                    if pins.contains(&session) { drop(claim) } else { claims.push((session, claim)) }
                },
                1 => if let Some(place) = claims.iter().position(|(key, _)| *key == session) {
                    let (_, claim) = claims.remove(place);
                    if !pins.contains(&session) {
                        claim.commit(&pin(session, 60, 0));
                        pins.push(session);
                    }
                },
                2 => if let Some(place) = pins.iter().position(|key| *key == session) {
                    // Not while its claims' losers are on their way out.
                    if !claims.iter().any(|(key, _)| *key == session) {
                        pins.remove(place);
                        seats.ended(&pin(session, 60, 0));
                    }
                },
                _ => if let Some(place) = claims.iter().position(|(key, _)| *key == session) {
                    drop(claims.remove(place));
                },
            }
            let mut held: Vec<u8> = claims.iter().map(|(key, _)| *key).chain(pins.iter().copied()).collect();
            held.sort_unstable();
            held.dedup();
            prop_assert_eq!(seats.taken() as usize, held.len());
            prop_assert!(held.len() <= 3);
        }
        drop(claims);
        prop_assert_eq!(seats.taken() as usize, pins.len());
        prop_assert!(seats.book().coming.is_empty());
    }
}
