use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;

/// Two ends of one TCP connection.
pub(crate) async fn tcp_pair() -> (Wire, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (near, far) = tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
    (near.unwrap().into(), far.unwrap().0)
}

/// What was sent over loopback may take a moment to arrive.
pub(crate) async fn becomes_stale(wire: &mut Wire) {
    let stale = async {
        while !wire.is_stale() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(10), stale).await.expect("it stays fresh");
}

#[tokio::test]
async fn what_is_given_back_is_read_first_and_in_order() {
    let (mut near, mut far) = Wire::pair(64);
    far.write_all(b"ghi").await.unwrap();
    drop(far);
    near.unread(Bytes::from_static(b"def"));
    near.unread(Bytes::from_static(b"abc"));
    near.unread(Bytes::new());
    let mut two = [0; 2];
    near.read_exact(&mut two).await.unwrap();
    assert_eq!(&two, b"ab");
    let mut rest = String::new();
    near.read_to_string(&mut rest).await.unwrap();
    assert_eq!(rest, "cdefghi");
}

#[tokio::test]
async fn shutdown_closes_the_write_half_alone() {
    let (mut near, mut far) = tcp_pair().await;
    near.shutdown().await.unwrap();
    assert_eq!(far.read(&mut [0; 8]).await.unwrap(), 0);
    far.write_all(b"late").await.unwrap();
    let mut late = [0; 4];
    near.read_exact(&mut late).await.unwrap();
    assert_eq!(&late, b"late");
}

#[tokio::test]
async fn a_reset_wire_is_dropped_with_rst() {
    let (mut near, mut far) = tcp_pair().await;
    near.reset();
    drop(near);
    assert_eq!(far.read(&mut [0; 8]).await.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    let (near, mut far) = tcp_pair().await;
    drop(near);
    assert_eq!(far.read(&mut [0; 8]).await.unwrap(), 0);
}

#[tokio::test]
async fn a_kept_wire_is_stale_once_anything_came() {
    let (mut near, far) = tcp_pair().await;
    assert!(!near.is_stale());
    drop(far);
    becomes_stale(&mut near).await;

    let (mut near, mut far) = tcp_pair().await;
    far.write_all(b"HTTP/1.1 408 ").await.unwrap();
    becomes_stale(&mut near).await;

    let (mut near, far) = tcp_pair().await;
    far.set_zero_linger().unwrap();
    drop(far);
    becomes_stale(&mut near).await;

    let (near, _far) = tcp_pair().await;
    assert!(near.with_unread(Bytes::from_static(b"x")).is_stale(), "unread");

    let (mut near, far) = Wire::pair(8);
    assert!(!near.is_stale());
    drop(far);
    assert!(near.is_stale());
}

#[tokio::test]
async fn nagle_is_off_before_it_could_hold_anything_back() {
    for (first, then) in [(ONE_SEGMENT, false), (ONE_SEGMENT + 1, true)] {
        let (near, _far) = tcp_pair().await;
        let Kind::Tcp(tcp) = near.kind else { unreachable!() };
        tcp.set_nodelay(false).unwrap();
        let mut wire = Wire::dialled(tcp);
        wire.write_all(&vec![b'x'; first]).await.unwrap();
        assert_eq!(wire.tcp().unwrap().nodelay().unwrap(), then, "after {first} bytes");
        wire.write_all(b"x").await.unwrap();
        assert!(wire.tcp().unwrap().nodelay().unwrap());
    }
}
