use std::future::poll_fn;
use std::task::Waker;

use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::relay::buffer::BUFFER_BYTES;
use crate::relay::guide::{Exactly, UntilEnd};
use crate::relay::meter::Meter;
use crate::state::Allowance;

fn gauge() -> Gauge {
    Meter::new(&Allowance::default()).up
}

/// Polls the pump once.
fn step<G: Guide>(
    pump: &mut Pump<G>,
    from: &mut Wire,
    to: &mut Wire,
    gauge: &mut Gauge,
) -> Poll<Result<(), Broken<G::Fault>>> {
    pump.poll(&mut Context::from_waker(Waker::noop()), from, to, gauge)
}

/// Pumps `sent`, which then ends, and tells what arrived, what is left to
/// read, and how it went.
async fn check<G: Guide>(guide: G, sent: &[u8]) -> (Vec<u8>, Vec<u8>, Result<(), Broken<G::Fault>>) {
    let (mut from, mut far) = Wire::pair(sent.len().max(1));
    let (mut to, mut near) = Wire::pair(1 << 20);
    far.write_all(sent).await.unwrap();
    drop(far);
    let (mut pump, mut gauge) = (Pump::new(guide), gauge());
    let end = poll_fn(|cx| pump.poll(cx, &mut from, &mut to, &mut gauge)).await;
    drop(to);
    let (mut arrived, mut rest) = (Vec::new(), Vec::new());
    near.read_to_end(&mut arrived).await.unwrap();
    from.read_to_end(&mut rest).await.unwrap();
    assert_eq!(gauge.bytes(), arrived.len() as u64);
    assert!(!pump.is_holding() && pump.held.capacity() == 0);
    (arrived, rest, end)
}

#[tokio::test]
async fn a_length_is_kept_to() {
    for (n, sent, arrives, rest) in [(0, "abc", "", "abc"), (2, "abc", "ab", "c"), (3, "abc", "abc", "")] {
        let (arrived, left, end) = check(Exactly(n), sent.as_bytes()).await;
        assert!(end.is_ok(), "{n}");
        assert_eq!((arrived.as_slice(), left.as_slice()), (arrives.as_bytes(), rest.as_bytes()), "{n}");
    }
}

/// What was given back goes behind the head; the rest comes as it comes.
#[test]
fn what_is_there_already_goes_out_with_the_head() {
    let check = |n, unread: &'static str, out: &str, left: &str, sated| {
        let (wire, _far) = Wire::pair(1);
        let mut from = wire.with_unread(Bytes::from_static(unread.as_bytes()));
        let (mut pump, mut head) = (Pump::new(Exactly(n)), b"head ".to_vec());
        let body = pump.begin(&mut from, &mut head);
        assert_eq!((head.as_slice(), body), (out.as_bytes(), out.len() - 5), "{n} of {unread}");
        assert_eq!(
            (from.take_unread().as_ref(), pump.is_sated()),
            (left.as_bytes(), sated),
            "{n} of {unread}"
        );
    };
    check(3, "", "head ", "", false);
    check(3, "ab", "head ab", "", false);
    check(3, "abc", "head abc", "", true);
    check(3, "abcd", "head abc", "d", true);
    check(0, "abcd", "head ", "abcd", true);
}

#[test]
fn a_guide_sees_what_is_there_already() {
    let (wire, _far) = Wire::pair(1);
    let mut from = wire.with_unread(Bytes::from_static(b"a~b+.next"));
    let (mut pump, mut head) = (Pump::new(Sentence { over: false }), Vec::new());
    assert_eq!(pump.begin(&mut from, &mut head), 5);
    assert_eq!((head.as_slice(), from.take_unread().as_ref()), (&b"ab++."[..], &b"next"[..]));
    assert!(pump.is_sated());

    let mut from = from.with_unread(Bytes::from_static(b"a!"));
    let (mut to, _near) = Wire::pair(1);
    let mut pump = Pump::new(Sentence { over: false });
    assert_eq!(pump.begin(&mut from, &mut head), 0);
    let end = step(&mut pump, &mut from, &mut to, &mut gauge());
    assert!(matches!(end, Poll::Ready(Err(Broken::Fault(_)))), "{end:?}");
}

#[tokio::test]
async fn a_body_that_breaks_off_is_delivered_as_far_as_it_came() {
    let (arrived, _, end) = check(Exactly(4), b"abc").await;
    assert_eq!(arrived, b"abc");
    assert!(matches!(end, Err(Broken::Short)));
}

#[tokio::test]
async fn until_the_end_is_until_the_end() {
    let long = vec![7; 200_000];
    let (arrived, _, end) = check(UntilEnd, &long).await;
    assert!(end.is_ok() && arrived == long);
    assert!(check(UntilEnd, b"").await.2.is_ok());
}

/// Up to and with a full stop; `~` is dropped, `+` becomes `++`, `!` is a fault.
struct Sentence {
    over: bool,
}

impl Guide for Sentence {
    type Fault = usize;

    fn want(&self) -> usize {
        if self.over { 0 } else { usize::MAX }
    }

    fn look(&mut self, bytes: &[u8], extra: &mut Vec<u8>) -> Result<Step, usize> {
        if let Some(at) = bytes.iter().position(|b| *b == b'!') {
            return Err(at);
        }
        let used = bytes.iter().position(|b| *b == b'.').map_or(bytes.len(), |at| at + 1);
        self.over = bytes[..used].ends_with(b".");
        let pass = bytes[..used].iter().position(|b| b"~+".contains(b)).unwrap_or(used);
        for byte in &bytes[pass..used] {
            match byte {
                b'~' => {}
                b'+' => extra.extend_from_slice(b"++"),
                other => extra.push(*other),
            }
        }
        Ok(Step { pass, used })
    }

    fn may_end(&self, _clean: bool) -> bool {
        false
    }
}

#[tokio::test]
async fn a_guide_passes_changes_and_gives_back() {
    for (sent, arrives, rest) in
        [("one. two", "one.", " two"), ("a+b~c.d", "a++bc.", "d"), ("+.", "++.", ""), ("~.x", ".", "x")]
    {
        let (arrived, left, end) = check(Sentence { over: false }, sent.as_bytes()).await;
        assert!(end.is_ok(), "{sent}");
        assert_eq!((arrived.as_slice(), left.as_slice()), (arrives.as_bytes(), rest.as_bytes()), "{sent}");
    }
    assert!(matches!(check(Sentence { over: false }, b"no end").await.2, Err(Broken::Short)));
    assert!(matches!(check(Sentence { over: false }, b"no!").await.2, Err(Broken::Fault(2))));
}

#[tokio::test]
async fn a_dead_sink_is_the_sinks_fault() {
    let (mut from, _far) = Wire::pair(64);
    let (mut to, near) = Wire::pair(64);
    drop(near);
    from.unread(Bytes::from_static(b"abc"));
    let (mut pump, mut gauge) = (Pump::new(UntilEnd), gauge());
    assert!(matches!(step(&mut pump, &mut from, &mut to, &mut gauge), Poll::Ready(Err(Broken::Sink(_)))));
    assert_eq!(gauge.bytes(), 0);
    assert!(matches!(step(&mut pump, &mut from, &mut to, &mut gauge), Poll::Ready(Ok(()))), "polled again");
}

#[tokio::test]
async fn a_slow_sink_slows_the_source() {
    let (mut from, mut far) = Wire::pair(1 << 20);
    let (mut to, mut near) = Wire::pair(1000);
    let sent: Vec<u8> = (0..1_000_000_u32).map(|n| n as u8).collect();
    far.write_all(&sent).await.unwrap();
    let (mut pump, mut gauge) = (Pump::new(UntilEnd), gauge());
    for _ in 0..10 {
        assert!(step(&mut pump, &mut from, &mut to, &mut gauge).is_pending());
    }
    assert_eq!(gauge.bytes(), 1000);
    assert!(pump.held.capacity() <= BUFFER_BYTES);
    let mut left = Vec::new();
    poll_fn(|cx| {
        // Not one byte more was read than fits one buffer.
        let mut all = vec![0; 1 << 20];
        let mut read = ReadBuf::new(&mut all);
        assert!(Pin::new(&mut from).poll_read(cx, &mut read).is_ready());
        left.extend_from_slice(read.filled());
        Poll::Ready(())
    })
    .await;
    assert_eq!(left.len(), 1_000_000 - BUFFER_BYTES);
    from.unread(Bytes::from(left));
    drop(far);
    let mut arrived = Vec::new();
    let (end, read) = tokio::join!(
        async {
            let end = poll_fn(|cx| pump.poll(cx, &mut from, &mut to, &mut gauge)).await;
            drop(to);
            end
        },
        near.read_to_end(&mut arrived),
    );
    assert!(end.is_ok() && read.is_ok() && arrived == sent);
}

#[tokio::test]
async fn a_pump_that_waits_holds_no_memory() {
    let (mut from, mut far) = Wire::pair(1 << 20);
    let (mut to, _near) = Wire::pair(1 << 20);
    let (mut pump, mut gauge) = (Pump::new(UntilEnd), gauge());
    assert!(step(&mut pump, &mut from, &mut to, &mut gauge).is_pending());
    far.write_all(&[1; 300_000]).await.unwrap();
    assert!(step(&mut pump, &mut from, &mut to, &mut gauge).is_pending());
    assert_eq!((gauge.bytes(), pump.held.capacity()), (300_000, 0));
}

#[tokio::test]
async fn one_poll_is_bounded() {
    let all = 2 * ROUNDS * BUFFER_BYTES;
    let (mut from, mut far) = Wire::pair(all);
    let (mut to, _near) = Wire::pair(all);
    far.write_all(&vec![1; all]).await.unwrap();
    let (mut pump, mut gauge) = (Pump::new(UntilEnd), gauge());
    assert!(step(&mut pump, &mut from, &mut to, &mut gauge).is_pending());
    assert_eq!(gauge.bytes(), (ROUNDS * BUFFER_BYTES) as u64);
}

#[test]
fn a_buffer_in_use_is_not_lent_twice() {
    with_buffer(|outer| {
        outer[0] = 1;
        with_buffer(|inner| inner[0] = 2);
        assert_eq!((outer[0], outer.len()), (1, BUFFER_BYTES));
    });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// However small the rooms and however the source dribbles, what arrives
    /// is the first `n` bytes, and what follows them can still be read.
    #[test]
    fn nothing_is_lost_or_turned_around(
        pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..300), 1..20),
        given_back in 0_usize..300,
        rooms in (1_usize..200, 1_usize..200),
        share in 0.0..1.0_f64,
    ) {
        let all = pieces.concat();
        let n = (all.len() as f64 * share) as usize;
        let (first, rest) = all.split_at(given_back.min(all.len()));
        let run = async {
            let (from, mut far) = Wire::pair(rooms.0);
            let (mut to, mut near) = Wire::pair(rooms.1);
            let mut from = from.with_unread(Bytes::copy_from_slice(first));
            let (mut pump, mut gauge) = (Pump::new(Exactly(n as u64)), gauge());
            let (mut arrived, mut left) = (Vec::new(), Vec::new());
            let feed = async {
                for piece in rest.chunks(97) {
                    far.write_all(piece).await.unwrap();
                }
                drop(far);
            };
            let drive = async {
                poll_fn(|cx| pump.poll(cx, &mut from, &mut to, &mut gauge)).await.unwrap();
                drop(to);
                from.read_to_end(&mut left).await.unwrap();
            };
            let drain = async { near.read_to_end(&mut arrived).await.unwrap() };
            tokio::join!(feed, drive, drain);
            (arrived, left)
        };
        let (arrived, left) =
            tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(run);
        prop_assert_eq!(&arrived[..], &all[..n]);
        prop_assert_eq!(&left[..], &all[n..]);
    }
}
