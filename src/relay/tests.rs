use std::sync::Arc;

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::*;
use crate::core::exit::Trust;
use crate::net::tls::TlsClient;
use crate::net::tls::tests::Server;
use crate::net::wire::tests::tcp_pair;
use crate::state::pacer::Pacer;
use crate::state::{Allowance, Usage};

pub(super) const HOUR: Duration = Duration::from_secs(3600);

/// A running relay between two wires, which it drops when it ends.
struct Relay {
    end: JoinHandle<(End, u64, u64)>,
}

impl Relay {
    fn start(client: Wire, upstream: Wire, idle: Duration) -> Self {
        Self::bound(client, upstream, idle, &Allowance::default())
    }

    fn bound(mut client: Wire, mut upstream: Wire, idle: Duration, allowance: &Allowance) -> Self {
        let mut meter = Meter::new(allowance);
        let end = tokio::spawn(async move {
            let end = run(&mut client, &mut upstream, &mut Lull::new(idle), &mut meter).await;
            (end, meter.up.bytes(), meter.down.bytes())
        });
        Self { end }
    }

    /// The same, with what it moves to be seen meanwhile.
    fn counted(client: Wire, upstream: Wire, idle: Duration) -> (Self, Arc<Usage>) {
        let usage = Arc::new(Usage::default());
        let allowance = Allowance { usage: Some(usage.clone()), ..Allowance::default() };
        (Self::bound(client, upstream, idle, &allowance), usage)
    }

    /// How it ended, and the bytes up and down.
    async fn end(self) -> (End, u64, u64) {
        self.end.await.unwrap()
    }
}

/// A client and an origin on real sockets, with a relay in between.
async fn sockets(idle: Duration) -> (TcpStream, TcpStream, Relay) {
    let ((client, client_end), (upstream, origin_end)) = (tcp_pair().await, tcp_pair().await);
    (client_end, origin_end, Relay::start(client, upstream, idle))
}

pub(super) async fn read_all(from: &mut (impl tokio::io::AsyncRead + Unpin)) -> Vec<u8> {
    let mut all = Vec::new();
    from.read_to_end(&mut all).await.unwrap();
    all
}

/// Reads until the connection breaks.
pub(super) async fn read_until_reset(from: &mut TcpStream) -> Vec<u8> {
    let mut all = Vec::new();
    let error = from.read_to_end(&mut all).await.expect_err("an end of file, not a reset");
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    all
}

pub(super) fn reset(socket: TcpStream) {
    socket.set_zero_linger().unwrap();
    drop(socket);
}

pub(super) fn pattern(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|n| (n / 251 + n % 251) as u8).collect()
}

#[tokio::test]
async fn a_client_that_is_done_sending_still_gets_its_answer() {
    let (mut client, mut origin, relay) = sockets(HOUR).await;
    client.write_all(b"question").await.unwrap();
    client.shutdown().await.unwrap();
    assert_eq!(read_all(&mut origin).await, b"question");
    origin.write_all(b"long answer").await.unwrap();
    drop(origin);
    assert_eq!(read_all(&mut client).await, b"long answer");
    assert_eq!(relay.end().await, (End::Done, 8, 11));
}

#[tokio::test]
async fn an_origin_that_is_done_sending_still_gets_the_rest() {
    let (mut client, mut origin, relay) = sockets(HOUR).await;
    origin.write_all(b"go on").await.unwrap();
    origin.shutdown().await.unwrap();
    assert_eq!(read_all(&mut client).await, b"go on");
    client.write_all(b"upload").await.unwrap();
    drop(client);
    assert_eq!(read_all(&mut origin).await, b"upload");
    assert_eq!(relay.end().await, (End::Done, 6, 5));
}

#[tokio::test]
async fn a_clients_reset_reaches_the_origin() {
    let (mut client, mut origin, relay) = sockets(HOUR).await;
    client.write_all(b"half a quest").await.unwrap();
    let mut got = [0; 12];
    origin.read_exact(&mut got).await.unwrap();
    reset(client);
    assert!(read_until_reset(&mut origin).await.is_empty());
    assert_eq!(relay.end().await, (End::ClientReset, 12, 0));
}

#[tokio::test]
async fn an_origins_reset_reaches_the_client_behind_its_data() {
    let (mut client, mut origin, relay) = sockets(HOUR).await;
    origin.write_all(&pattern(30_000)).await.unwrap();
    reset(origin);
    assert_eq!(read_until_reset(&mut client).await, pattern(30_000));
    assert_eq!(relay.end().await, (End::UpstreamReset, 0, 30_000));
}

#[tokio::test]
async fn an_answer_survives_the_upload_that_it_broke_off() {
    let (mut client, mut origin, relay) = sockets(HOUR).await;
    let (mut reading, mut writing) = client.split();
    let upload = async {
        let piece = pattern(10_000);
        while writing.write_all(&piece).await.is_ok() {}
    };
    let refuse = async {
        let mut some = [0; 10_000];
        origin.read_exact(&mut some).await.unwrap();
        origin.write_all(b"413").await.unwrap();
        // With bytes unread, a close is a reset.
        drop(origin);
    };
    let answer = async {
        let mut answer = [0; 3];
        reading.read_exact(&mut answer).await.unwrap();
        answer
    };
    let ((), (), answer) = tokio::join!(upload, refuse, answer);
    assert_eq!(&answer, b"413");
    let (end, _, down) = relay.end().await;
    assert_eq!((end, down), (End::UpstreamReset, 3));
}

#[tokio::test]
async fn the_last_words_of_a_dead_side_are_delivered_but_are_no_end() {
    let ((mut client, mut near), (mut upstream, mut far)) = (Wire::pair(64), Wire::pair(64));
    near.write_all(b"upload").await.unwrap();
    far.write_all(b"413").await.unwrap();
    drop(far);
    let (mut tunnel, mut meter) =
        (Tunnel { up: Flow::new(), down: Flow::new() }, Meter::new(&Allowance::default()));
    let mut cx = Context::from_waker(std::task::Waker::noop());
    let end = tunnel.poll(&mut cx, &mut client, &mut upstream, &mut meter);
    assert_eq!(end, Some(End::UpstreamReset));
    assert!(tunnel.down.is_cut_short(End::UpstreamReset));
    let mut words = [0; 3];
    near.read_exact(&mut words).await.unwrap();
    assert_eq!(&words, b"413");
}

#[tokio::test]
async fn a_late_reset_takes_nothing_from_what_was_complete() {
    let ((near, mut client), (far, mut origin)) = (tcp_pair().await, tcp_pair().await);
    let (relay, usage) = Relay::counted(near, far, HOUR);
    let answer = pattern(200_000);
    origin.write_all(&answer).await.unwrap();
    drop(origin);
    // The client has its whole answer coming, and speaks to an origin that is
    // no longer there.
    while usage.down() < answer.len() as u64 {
        tokio::task::yield_now().await;
    }
    for sent in 1.. {
        client.write_all(b"?").await.unwrap();
        while usage.up() < sent && !relay.end.is_finished() {
            tokio::task::yield_now().await;
        }
        if relay.end.is_finished() {
            break;
        }
    }
    let (end, _, _) = relay.end().await;
    assert_eq!(end, End::UpstreamReset);
    let mut got = vec![0; answer.len()];
    client.read_exact(&mut got).await.unwrap();
    assert_eq!(got, answer);
}

#[tokio::test]
async fn much_moves_both_ways_at_once() {
    let (client, origin, relay) = sockets(HOUR).await;
    let (up, down) = (pattern(8 << 20), pattern(5 << 20));
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
    assert_eq!(relay.end().await, (End::Done, 8 << 20, 5 << 20));
}

#[tokio::test(start_paused = true)]
async fn a_slow_reader_stops_the_writer() {
    const ROOM: usize = 1000;
    let ((client, mut reader), (upstream, mut writer)) = (Wire::pair(ROOM), Wire::pair(ROOM));
    let (relay, usage) = Relay::counted(client, upstream, HOUR);
    let mut accepted = 0;
    // Time moves only when nothing else can: the writer is stuck for good.
    let stuck = tokio::time::timeout(Duration::from_secs(60), async {
        loop {
            accepted += writer.write(&[9; 777]).await.unwrap();
        }
    });
    stuck.await.expect_err("the writer went on");
    assert!(accepted <= 2 * ROOM + buffer::BUFFER_BYTES, "{accepted}");
    assert_eq!(usage.down(), ROOM as u64);
    drop(writer);
    assert_eq!(read_all(&mut reader).await.len(), accepted);
    drop(reader);
    assert_eq!(relay.end().await, (End::Done, 0, accepted as u64));
}

#[tokio::test(start_paused = true)]
async fn a_byte_either_way_keeps_a_tunnel_from_being_idle() {
    let minute = Duration::from_secs(60);
    let ((client, mut near), (upstream, mut far)) = (Wire::pair(64), Wire::pair(64));
    let relay = Relay::start(client, upstream, minute);
    let start = Instant::now();
    for turn in 0..6 {
        tokio::time::sleep(minute - Duration::from_secs(1)).await;
        let (from, to) = if turn % 2 == 0 { (&mut near, &mut far) } else { (&mut far, &mut near) };
        from.write_all(b"x").await.unwrap();
        to.read_exact(&mut [0]).await.unwrap();
    }
    assert_eq!(relay.end().await, (End::Idle, 3, 3));
    let took = start.elapsed();
    assert!(took >= 6 * 59 * minute / 60 + minute && took <= 7 * minute, "{took:?}");
    assert!(read_all(&mut near).await.is_empty() && read_all(&mut far).await.is_empty(), "both are closed");
}

#[tokio::test(start_paused = true)]
async fn a_half_closed_tunnel_is_idle_like_any_other() {
    let ((client, near), (upstream, mut far)) = (Wire::pair(64), Wire::pair(64));
    let relay = Relay::start(client, upstream, HOUR);
    far.shutdown().await.unwrap();
    let start = Instant::now();
    assert_eq!(relay.end().await.0, End::Idle);
    assert!(start.elapsed() >= HOUR);
    drop(near);
}

#[tokio::test]
async fn an_idle_end_is_a_reset_for_who_is_owed_bytes() {
    let (mut client, mut origin, relay) = sockets(HOUR).await;
    // Nobody reads at the client, so that at last the origin is stuck. Only
    // then may the clock run ahead.
    let (piece, patience) = (pattern(100_000), Duration::from_millis(500));
    while tokio::time::timeout(patience, origin.write_all(&piece)).await.is_ok() {}
    tokio::time::pause();
    assert_eq!(relay.end().await.0, End::Idle);
    let mut taken = vec![0; 1 << 20];
    let end = loop {
        match client.read(&mut taken).await {
            Ok(0) => break None,
            Ok(_) => {}
            Err(e) => break Some(e.kind()),
        }
    };
    assert_eq!(end, Some(io::ErrorKind::ConnectionReset), "a cut stream looked whole");
}

#[tokio::test]
async fn bytes_behind_both_heads_go_first_and_count() {
    let ((client, mut near), (upstream, mut far)) = (Wire::pair(64), Wire::pair(64));
    let client = client.with_unread(Bytes::from_static(b"early, "));
    let upstream = upstream.with_unread(Bytes::from_static(b"banner, "));
    let relay = Relay::start(client, upstream, HOUR);
    near.write_all(b"then").await.unwrap();
    near.shutdown().await.unwrap();
    far.write_all(b"more").await.unwrap();
    far.shutdown().await.unwrap();
    assert_eq!(read_all(&mut far).await, b"early, then");
    assert_eq!(read_all(&mut near).await, b"banner, more");
    assert_eq!(relay.end().await, (End::Done, 11, 12));
}

#[test]
fn a_relay_is_small() {
    let ((mut client, _near), (mut upstream, _far)) = (Wire::pair(1), Wire::pair(1));
    let mut meter = Meter::new(&Allowance::default());
    let bytes = size_of_val(&run(&mut client, &mut upstream, &mut Lull::new(HOUR), &mut meter));
    assert!(bytes <= 512, "{bytes} bytes for each tunnel");
}

#[tokio::test]
async fn a_quota_ends_a_tunnel_with_a_reset_where_it_is_used_up() {
    let ((near, mut client), (far, mut origin)) = (tcp_pair().await, tcp_pair().await);
    let (relay, usage) = Relay::counted(near, far, HOUR);
    usage.end_at(300_000);
    client.write_all(&pattern(100_000)).await.unwrap();
    origin.read_exact(&mut vec![0; 100_000]).await.unwrap();
    let answer = pattern(1_000_000);
    // How far that gets is the kernel's to say.
    let (_, got) = tokio::join!(origin.write_all(&answer), read_until_reset(&mut client));
    assert!(got.len() <= 200_000 && answer.starts_with(&got));
    assert_eq!(relay.end().await, (End::Quota, 100_000, 200_000));
    assert_eq!(usage.left(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_bandwidth_is_kept_to_each_way() {
    let ((client, mut near), (upstream, mut far)) = (Wire::pair(1 << 20), Wire::pair(1 << 20));
    let pacer = |rate| Some(Pacer::new(rate));
    let allowance =
        Allowance { usage: None, up: [pacer(100_000), None], down: [pacer(5_000_000), pacer(1_000_000)] };
    let relay = Relay::bound(client, upstream, HOUR, &allowance);
    let start = Instant::now();
    let send = async |wire: &mut Wire, bytes| {
        wire.write_all(&pattern(bytes)).await.unwrap();
        wire.shutdown().await.unwrap();
    };
    send(&mut near, 500_000).await;
    send(&mut far, 1_000_000).await;
    let took = async |wire: &mut Wire| (read_all(wire).await, start.elapsed().as_secs_f64());
    let (down, up) = tokio::join!(took(&mut near), took(&mut far));
    assert!(down.0 == pattern(1_000_000) && up.0 == pattern(500_000));
    assert!((0.9..1.05).contains(&down.1) && (4.8..5.1).contains(&up.1), "{} s, {} s", down.1, up.1);
    assert_eq!(relay.end().await, (End::Done, 500_000, 1_000_000));
}

/// A client on a socket, a relay, and an origin behind TLS.
async fn behind_tls() -> (TcpStream, tokio_rustls::server::TlsStream<TcpStream>, Relay) {
    let server = Server::new(&["proxy.test"]).await;
    let (upstream, origin) = server.pair(&TlsClient::new(), "proxy.test", &Trust::Anything).await;
    let (client, client_end) = tcp_pair().await;
    (client_end, origin.unwrap(), Relay::start(client, upstream.unwrap(), HOUR))
}

#[tokio::test]
async fn tls_is_relayed_and_half_closed_like_tcp() {
    let (mut client, mut origin, relay) = behind_tls().await;
    // Small first: it must not wait in a buffer for more.
    client.write_all(b"hello").await.unwrap();
    let mut hello = [0; 5];
    origin.read_exact(&mut hello).await.unwrap();
    let (up, down) = (pattern(3 << 20), pattern(2 << 20));
    let write = async {
        client.write_all(&up).await.unwrap();
        client.shutdown().await.unwrap();
    };
    let ((), at_origin) = tokio::join!(write, read_all(&mut origin));
    assert!(at_origin == up);
    let answer = async {
        origin.write_all(&down).await.unwrap();
        origin.shutdown().await.unwrap();
    };
    let ((), at_client) = tokio::join!(answer, read_all(&mut client));
    assert!(at_client == down);
    assert_eq!(relay.end().await, (End::Done, 5 + (3 << 20), 2 << 20));
}

#[tokio::test]
async fn resets_are_carried_through_tls() {
    let (client, mut origin, relay) = behind_tls().await;
    reset(client);
    assert_eq!(origin.read(&mut [0; 8]).await.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    assert_eq!(relay.end().await.0, End::ClientReset);

    let (mut client, origin, relay) = behind_tls().await;
    reset(origin.into_inner().0);
    read_until_reset(&mut client).await;
    assert_eq!(relay.end().await.0, End::UpstreamReset);
}

#[tokio::test]
async fn an_unannounced_end_of_tls_is_an_end_for_a_tunnel_and_none_for_a_body() {
    let (mut client, origin, relay) = behind_tls().await;
    drop(origin);
    assert!(read_all(&mut client).await.is_empty());
    drop(client);
    assert_eq!(relay.end().await.0, End::Done);

    let server = Server::new(&["proxy.test"]).await;
    let (upstream, origin) = server.pair(&TlsClient::new(), "proxy.test", &Trust::Anything).await;
    drop(origin);
    let ((mut to, _near), mut from) = (Wire::pair(8), upstream.unwrap());
    let (mut pump, mut meter) = (Pump::new(guide::UntilEnd), Meter::new(&Allowance::default()));
    let end = poll_fn(|cx| pump.poll(cx, &mut from, &mut to, &mut meter.down)).await;
    assert!(matches!(end, Err(Broken::Short)), "{end:?}");
}

#[tokio::test]
async fn broken_tls_is_an_error_of_that_side_and_resets_the_other() {
    let (mut client, origin, relay) = behind_tls().await;
    let (mut tcp, _session) = origin.into_inner();
    tcp.write_all(b"this is no record of TLS").await.unwrap();
    read_until_reset(&mut client).await;
    let io = End::Io { side: Side::Upstream, kind: io::ErrorKind::InvalidData };
    assert_eq!(relay.end().await.0, io);
}
