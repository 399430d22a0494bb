use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use super::*;
use crate::net::wire::tests::tcp_pair;
use crate::relay::lull::Lull;
use crate::relay::meter::Meter;
use crate::relay::tests::{HOUR, pattern, read_all, read_until_reset, reset};
use crate::relay::{End, run};
use crate::state::pacer::Pacer;
use crate::state::{Allowance, Usage};

thread_local! {
    /// How many pipes there may be, where a test says so.
    pub(super) static MOST_PIPES: Cell<Option<usize>> = const { Cell::new(None) };
}

const SECOND: Duration = Duration::from_secs(1);

/// Pipes that are lent. Of tests that share a process, others' as well.
fn lent() -> usize {
    let spare = SPARE.lock().unwrap().len();
    OPEN.load(Relaxed).saturating_sub(spare)
}

async fn until_none_is_lent() {
    let none = async {
        while lent() > 0 {
            tokio::time::sleep(SECOND / 100).await;
        }
    };
    timeout(10 * SECOND, none).await.expect("a pipe is kept");
}

/// A tunnel between two sockets.
struct Bench {
    client: TcpStream,
    origin: TcpStream,
    usage: Arc<Usage>,
    /// How often the relay was polled.
    polls: Arc<AtomicU64>,
    end: tokio::task::JoinHandle<(End, u64, u64)>,
}

async fn bench(idle: Duration, allowance: Allowance) -> Bench {
    let ((mut near, client), (mut far, origin)) = (tcp_pair().await, tcp_pair().await);
    let (usage, polls) = (Arc::new(Usage::default()), Arc::new(AtomicU64::new(0)));
    let mut meter = Meter::new(&Allowance { usage: Some(usage.clone()), ..allowance });
    let counted = polls.clone();
    let end = tokio::spawn(async move {
        let end = {
            let mut lull = Lull::new(idle);
            let mut relay = pin!(run(&mut near, &mut far, &mut lull, &mut meter));
            poll_fn(|cx| {
                counted.fetch_add(1, Relaxed);
                relay.as_mut().poll(cx)
            })
            .await
        };
        (end, meter.up.bytes(), meter.down.bytes())
    });
    Bench { client, origin, usage, polls, end }
}

async fn usual() -> Bench {
    bench(HOUR, Allowance::default()).await
}

#[tokio::test]
async fn what_arrives_is_what_was_sent_whatever_the_size_and_the_pipes() {
    let sizes = [1, 16_384, 65_535, 65_536, 131_073, PIPE_BYTES - 1, PIPE_BYTES, PIPE_BYTES + 1];
    for most in [None, Some(0), Some(1)] {
        MOST_PIPES.set(most);
        for bytes in sizes.into_iter().chain([3 * PIPE_BYTES + 7, 20 * PIPE_BYTES + 1]) {
            let Bench { mut client, mut origin, usage, end, .. } = usual().await;
            let sent = pattern(bytes);
            // Up first, then back, so that one direction alone is busy.
            let up = async {
                client.write_all(&sent).await.unwrap();
                client.shutdown().await.unwrap();
            };
            let ((), at_origin) = tokio::join!(up, read_all(&mut origin));
            assert!(at_origin == sent, "{bytes} up with {most:?} pipes");
            let down = async {
                origin.write_all(&sent).await.unwrap();
                origin.shutdown().await.unwrap();
            };
            let ((), at_client) = tokio::join!(down, read_all(&mut client));
            assert!(at_client == sent, "{bytes} down with {most:?} pipes");
            let bytes = bytes as u64;
            assert_eq!(end.await.unwrap(), (End::Done, bytes, bytes));
            assert_eq!(usage.total(), 2 * bytes);
        }
    }
    until_none_is_lent().await;
}

#[tokio::test]
async fn two_directions_share_one_pipe_and_both_get_on() {
    for most in [Some(1), None] {
        MOST_PIPES.set(most);
        let Bench { client, origin, end, .. } = usual().await;
        let (up, down) = (pattern(9 << 20), pattern((11 << 20) + 5));
        let side = async |socket: TcpStream, send: &[u8]| {
            let (mut reading, mut writing) = socket.into_split();
            let write = async {
                writing.write_all(send).await.unwrap();
                writing.shutdown().await.unwrap();
            };
            tokio::join!(write, read_all(&mut reading)).1
        };
        let (at_client, at_origin) = tokio::join!(side(client, &up), side(origin, &down));
        assert!(at_client == down && at_origin == up);
        assert_eq!(end.await.unwrap(), (End::Done, 9 << 20, (11 << 20) + 5));
    }
}

/// Writes until nothing more is taken; what was.
async fn fill(origin: &mut TcpStream) -> Vec<u8> {
    let (piece, mut taken) = (pattern(1 << 20), Vec::new());
    loop {
        let rest = &piece[taken.len() % 997..];
        match timeout(SECOND / 2, origin.write(rest)).await {
            Ok(written) => taken.extend_from_slice(&rest[..written.unwrap()]),
            Err(_) => return taken,
        }
    }
}

#[tokio::test]
async fn a_sink_that_does_not_read_stops_the_source_and_costs_nothing() {
    let Bench { mut client, mut origin, usage, polls, end } = usual().await;
    let accepted = fill(&mut origin).await;
    assert!(lent() > 0, "a pipe waits with what the client does not take");
    assert!(usage.down() < accepted.len() as u64);
    let before = polls.load(Relaxed);
    tokio::time::sleep(SECOND / 4).await;
    assert_eq!(polls.load(Relaxed), before, "it spins");

    // The end of the stream comes behind what waits.
    drop(origin);
    assert!(read_all(&mut client).await == accepted);
    drop(client);
    assert_eq!(end.await.unwrap(), (End::Done, 0, accepted.len() as u64));
    until_none_is_lent().await;
}

#[tokio::test]
async fn an_idle_tunnel_holds_no_pipe_and_talks_again() {
    let Bench { mut client, mut origin, end, .. } = usual().await;
    for _ in 0..3 {
        let (sent, mut got) = (pattern(4 << 20), vec![0; 4 << 20]);
        let (wrote, read) = tokio::join!(origin.write_all(&sent), client.read_exact(&mut got));
        wrote.unwrap();
        read.unwrap();
        assert!(got == sent);
        until_none_is_lent().await;
        for _ in 0..20 {
            let mut one = [0];
            client.write_all(b"?").await.unwrap();
            origin.read_exact(&mut one).await.unwrap();
            origin.write_all(b"!").await.unwrap();
            client.read_exact(&mut one).await.unwrap();
            assert_eq!(&one, b"!");
        }
    }
    drop((client, origin));
    assert_eq!(end.await.unwrap(), (End::Done, 60, (12 << 20) + 60));
}

#[tokio::test]
async fn a_half_close_within_bulk_leaves_the_other_way_as_it_is() {
    let Bench { mut client, mut origin, end, .. } = usual().await;
    let (mut reading, mut writing) = origin.split();
    let sent = pattern(6 << 20);
    let answer = async {
        writing.write_all(&sent[..3 << 20]).await.unwrap();
        assert_eq!(read_all(&mut reading).await, b"enough");
        writing.write_all(&sent[3 << 20..]).await.unwrap();
        writing.shutdown().await.unwrap();
    };
    let take = async {
        let mut got = vec![0; 1 << 20];
        client.read_exact(&mut got).await.unwrap();
        client.write_all(b"enough").await.unwrap();
        client.shutdown().await.unwrap();
        got.append(&mut read_all(&mut client).await);
        got
    };
    let ((), got) = tokio::join!(answer, take);
    assert!(got == sent);
    assert_eq!(end.await.unwrap(), (End::Done, 6, 6 << 20));
}

#[tokio::test]
async fn a_reset_within_bulk_is_a_reset_on_the_other_side() {
    // Of the source: what it had sent comes first, and no end of file after.
    let Bench { mut client, mut origin, end, .. } = usual().await;
    let sent = pattern(2 << 20);
    let (wrote, mut got) = tokio::join!(origin.write_all(&sent), async {
        let mut some = vec![0; 100_000];
        client.read_exact(&mut some).await.unwrap();
        some
    });
    wrote.unwrap();
    reset(origin);
    let error = client.read_to_end(&mut got).await.expect_err("an end of file, not a reset");
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    assert!(sent.starts_with(&got));
    let (how, up, down) = end.await.unwrap();
    assert_eq!((how, up), (End::UpstreamReset, 0));
    assert!(down >= got.len() as u64 && down <= sent.len() as u64);

    // Of the sink, while a pipe holds what it did not take.
    let Bench { client, mut origin, end, .. } = usual().await;
    fill(&mut origin).await;
    assert!(lent() > 0);
    reset(client);
    let error = origin.read(&mut [0]).await.expect_err("an end of file, not a reset");
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    assert_eq!(end.await.unwrap().0, End::ClientReset);
    until_none_is_lent().await;
}

#[tokio::test]
async fn idle_with_bytes_in_the_pipe_is_idle() {
    let Bench { mut client, mut origin, end, .. } = bench(SECOND, Allowance::default()).await;
    let sent = fill(&mut origin).await;
    assert!(lent() > 0);
    assert_eq!(end.await.unwrap().0, End::Idle);
    assert!(sent.starts_with(&read_until_reset(&mut client).await), "a cut stream looked whole");
    until_none_is_lent().await;
}

#[tokio::test]
async fn a_quota_ends_bulk_where_it_is_used_up() {
    let Bench { mut client, mut origin, usage, end, .. } = usual().await;
    usage.end_at(5_000_000);
    let sent = pattern(8 << 20);
    let (_, got) = tokio::join!(origin.write_all(&sent), read_until_reset(&mut client));
    assert!(sent.starts_with(&got));
    assert_eq!(end.await.unwrap(), (End::Quota, 0, 5_000_000));
}

#[tokio::test]
async fn bulk_keeps_to_a_bandwidth() {
    const RATE: u64 = 8_000_000;
    let allowance = Allowance { down: [Some(Pacer::new(RATE)), None], ..Allowance::default() };
    let Bench { mut client, mut origin, end, .. } = bench(HOUR, allowance).await;
    let sent = pattern(6_000_000);
    let begun = Instant::now();
    let (wrote, got) = tokio::join!(
        async {
            origin.write_all(&sent).await.unwrap();
            origin.shutdown().await
        },
        read_all(&mut client)
    );
    wrote.unwrap();
    assert!(got == sent);
    // Less is the machine's doing, more would be ours: a burst of 100 ms at the
    // start, and the last turn, of 20 ms, whose bytes go out as it begins.
    let least = (sent.len() as f64 - 0.12 * RATE as f64) / RATE as f64;
    assert!(begun.elapsed().as_secs_f64() >= least);
    drop(client);
    assert_eq!(end.await.unwrap(), (End::Done, 0, 6_000_000));
}

/// What a bandwidth comes to on real sockets, and who gets how much of it.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "prints figures"]
async fn figures_of_a_bandwidth() {
    for (rate, tunnels) in [(50_000_000, 1), (50_000_000, 64), (1_000_000, 64)] {
        let pacer = Pacer::new(rate);
        let mut ends = Vec::new();
        for _ in 0..tunnels {
            let allowance = Allowance { down: [Some(pacer.clone()), None], ..Allowance::default() };
            let Bench { mut client, mut origin, usage, end, .. } = bench(HOUR, allowance).await;
            tokio::spawn(async move { while origin.write_all(&[7; 1 << 16]).await.is_ok() {} });
            tokio::spawn(async move {
                let mut buffer = vec![0; 1 << 16];
                while matches!(client.read(&mut buffer).await, Ok(1..)) {}
            });
            ends.push((usage, end));
        }
        // The burst at the start, and what fills the sockets, is over.
        tokio::time::sleep(2 * SECOND).await;
        let moved = || ends.iter().map(|(usage, _)| usage.down()).collect::<Vec<_>>();
        let (before, begun) = (moved(), Instant::now());
        tokio::time::sleep(5 * SECOND).await;
        let took = begun.elapsed().as_secs_f64();
        let each: Vec<_> = moved().iter().zip(before).map(|(now, before)| now - before).collect();
        let all = each.iter().sum::<u64>() as f64 / took / rate as f64;
        let (least, most) = (each.iter().min().unwrap(), each.iter().max().unwrap());
        println!("{rate} B/s, {tunnels} tunnels: {all:.3} of the limit; {least} to {most} bytes each");
        ends.iter().for_each(|(_, end)| end.abort());
    }
}

#[test]
fn there_are_only_so_many_pipes() {
    MOST_PIPES.set(Some(OPEN.load(Relaxed) + 2));
    SPARE.lock().unwrap().clear();
    MOST_PIPES.set(Some(OPEN.load(Relaxed) + 2));
    let (first, second) = (Pipe::lend().unwrap(), Pipe::lend().unwrap());
    assert!(Pipe::lend().is_none());
    first.give_back();
    let again = Pipe::lend().expect("the one that was given back");
    assert!(Pipe::lend().is_none());
    drop((second, again));
}
