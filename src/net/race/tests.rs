use std::cell::RefCell;
use std::net::Ipv4Addr;

use super::*;

fn ips(texts: &[&str]) -> Vec<IpAddr> {
    texts.iter().map(|ip| ip.parse().unwrap()).collect()
}

#[test]
fn families_take_turns() {
    #[track_caller]
    fn check(given: &[&str], expected: &[&str]) {
        assert_eq!(interleave(&ips(given)), ips(expected));
    }
    check(&["1.0.0.1", "1.0.0.2", "2::1", "2::2", "2::3"], &["2::1", "1.0.0.1", "2::2", "1.0.0.2", "2::3"]);
    check(&["1.0.0.1"], &["1.0.0.1"]);
    check(&[], &[]);
    let many: Vec<_> = (0..200).map(|last| IpAddr::V4(Ipv4Addr::new(1, 0, 0, last))).collect();
    assert_eq!(interleave(&many).len(), MOST_ADDRESSES);
}

/// Runs a race in which each address answers after so many ms; tells what won
/// and when each attempt began.
async fn run(peers: &[(u64, Result<u8, u8>)]) -> (Result<u8, Vec<u8>>, Vec<u64>) {
    let start = Instant::now();
    let begun = RefCell::new(Vec::new());
    let addresses = (0..peers.len()).map(|at| IpAddr::V4(Ipv4Addr::new(1, 0, 0, at as u8))).collect();
    let result = race(addresses, |ip| {
        let IpAddr::V4(ip) = ip else { unreachable!() };
        begun.borrow_mut().push(start.elapsed().as_millis() as u64);
        let (after, result) = peers[usize::from(ip.octets()[3])];
        async move {
            tokio::time::sleep(Duration::from_millis(after)).await;
            result
        }
    });
    (result.await, begun.into_inner())
}

#[tokio::test(start_paused = true)]
async fn attempts_are_staggered_and_the_first_success_wins() {
    assert_eq!(run(&[(10, Ok(1)), (1, Ok(2))]).await, (Ok(1), vec![0]));
    assert_eq!(run(&[(9000, Ok(1)), (9000, Ok(2)), (10, Ok(3))]).await, (Ok(3), vec![0, 250, 500]));
    assert_eq!(run(&[(300, Ok(1)), (100, Ok(2))]).await, (Ok(1), vec![0, 250]));
    assert_eq!(run(&[(5, Err(1)), (5, Ok(2))]).await, (Ok(2), vec![0, 5]));
    assert_eq!(run(&[(5, Err(1)), (7, Err(2))]).await, (Err(vec![1, 2]), vec![0, 5]));
    assert_eq!(run(&[(400, Err(1)), (9000, Ok(2)), (1, Ok(3))]).await, (Ok(3), vec![0, 250, 400]));
    assert_eq!(run(&[]).await, (Err(vec![]), vec![]));
}

#[test]
fn failures_are_summed_up() {
    #[track_caller]
    fn check(codes: &[i32], expected: ConnectError) {
        let fail =
            |code: &i32| Failure::Connect { error: io::Error::from_raw_os_error(*code), tells_ports: false };
        assert_eq!(sum_up(&codes.iter().map(fail).collect::<Vec<_>>()), expected, "{codes:?}");
    }
    check(&[libc::ECONNREFUSED, libc::ECONNREFUSED], ConnectError::Refused);
    check(&[libc::ENETUNREACH, libc::ECONNREFUSED], ConnectError::Refused);
    check(&[libc::ECONNREFUSED, libc::ETIMEDOUT, libc::ENETUNREACH], ConnectError::TimedOut);
    check(&[libc::ENETUNREACH, libc::EHOSTUNREACH], ConnectError::Unreachable);
    check(&[libc::EADDRNOTAVAIL], ConnectError::Unreachable);
    check(&[libc::EACCES], ConnectError::Unreachable);
    check(&[libc::ECONNRESET], ConnectError::Refused);
    check(&[libc::EMFILE, libc::ECONNREFUSED], ConnectError::OutOfSockets);
    check(&[], ConnectError::Unreachable);
}

async fn listener() -> (tokio::net::TcpListener, u16) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}

const LIMIT: Duration = Duration::from_secs(5);

#[tokio::test]
async fn a_refused_address_gives_way_to_the_next() {
    let (_listener, port) = listener().await;
    let stream = connect(&ips(&["::1", "127.0.0.9", "127.0.0.1"]), port, Source::Any, LIMIT).await.unwrap();
    assert_eq!(stream.peer_addr().unwrap().ip(), Ipv4Addr::LOCALHOST);
}

#[tokio::test]
async fn a_source_is_what_the_peer_sees() {
    let (listener, port) = listener().await;
    for source in [Source::Address, Source::Routed] {
        let source = source("127.0.0.7".parse().unwrap());
        let _stream = connect(&ips(&["127.0.0.1"]), port, source, LIMIT).await.unwrap();
        assert_eq!(listener.accept().await.unwrap().1.ip(), Ipv4Addr::new(127, 0, 0, 7));
    }
}

#[tokio::test]
async fn a_source_that_is_not_ours_is_told_from_a_target_that_refuses() {
    let (listener, port) = listener().await;
    for source in [Source::Address, Source::Routed] {
        let foreign = source("192.0.2.77".parse().unwrap());
        let failed = connect(&ips(&["127.0.0.1"]), port, foreign, LIMIT).await;
        assert_eq!(failed.map(drop), Err(ConnectError::Source));
    }
    drop(listener);
    let own = Source::Address("127.0.0.7".parse().unwrap());
    assert_eq!(connect(&ips(&["127.0.0.1"]), port, own, LIMIT).await.map(drop), Err(ConnectError::Refused));
}
