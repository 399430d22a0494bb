use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

fn at(text: &str) -> Bind {
    text.parse().unwrap()
}

fn bind(address: &Bind, all: &[Bind]) -> Result<Listener, ListenError> {
    super::bind(address, all, 0o600)
}

fn tcp(listener: &Listener) -> SocketAddr {
    listener.local().unwrap().tcp().unwrap()
}

#[tokio::test]
async fn accepted_sockets_do_not_delay_small_writes() {
    let listener = bind(&at("127.0.0.1:0"), &[]).unwrap();
    let (_near, (far, _)) = tokio::join!(TcpStream::connect(tcp(&listener)), accept(&listener));
    assert!(far.tcp().unwrap().nodelay().unwrap());
}

#[tokio::test]
async fn both_families_may_have_the_same_port() {
    let port = tcp(&bind(&at("0.0.0.0:0"), &[]).unwrap()).port();
    let all = [at(&format!("0.0.0.0:{port}")), at(&format!("[::]:{port}"))];
    let _four = bind(&all[0], &all).unwrap();
    let _six = bind(&all[1], &all).unwrap();
}

#[tokio::test]
async fn a_lone_wildcard_takes_both_families() {
    let listener = bind(&at("[::]:0"), &[at("127.0.0.1:0")]).unwrap();
    let port = tcp(&listener).port();
    TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    TcpStream::connect(("::1", port)).await.unwrap();
}

#[tokio::test]
async fn an_error_names_the_address() {
    let taken = bind(&at("127.0.0.1:0"), &[]).unwrap();
    let address = taken.local().unwrap();
    let error = bind(&address, &[]).unwrap_err().to_string();
    assert!(error.starts_with(&format!("cannot listen on {address}: ")), "{error}");
}

#[test]
fn only_errors_of_the_whole_system_make_the_loop_rest() {
    for errno in [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM] {
        assert!(!is_of_one_connection(&errno.into()), "{errno:?}");
    }
    for errno in [Errno::CONNABORTED, Errno::PROTO, Errno::NETUNREACH] {
        assert!(is_of_one_connection(&errno.into()), "{errno:?}");
    }
    assert!(!is_of_one_connection(&io::Error::other("unknown")));
}

#[tokio::test]
async fn a_drain_stops_the_loop_and_waits_for_its_connections() {
    let drain = Drain::new();
    let listener = bind(&at("127.0.0.1:0"), &[]).unwrap();
    let address = tcp(&listener);
    let peers = Arc::new(Mutex::new(Vec::new()));
    let echo = {
        let peers = Arc::clone(&peers);
        move |mut wire: Wire, peer| {
            peers.lock().unwrap().push(peer);
            async move {
                let mut byte = [0];
                while wire.read_exact(&mut byte).await.is_ok() {
                    wire.write_all(&byte).await.unwrap();
                }
            }
        }
    };
    let accepting = tokio::spawn(run(listener, drain.clone(), echo));

    let mut first = TcpStream::connect(address).await.unwrap();
    let mut second = TcpStream::connect(address).await.unwrap();
    let mut byte = [0];
    for client in [&mut first, &mut second] {
        client.write_all(b"x").await.unwrap();
        client.read_exact(&mut byte).await.unwrap();
    }
    assert_eq!(peers.lock().unwrap()[0], first.local_addr().unwrap());
    drain.begin();
    accepting.await.unwrap();
    TcpStream::connect(address).await.expect_err("the listener is closed");
    // What was accepted goes on.
    first.write_all(b"y").await.unwrap();
    first.read_exact(&mut byte).await.unwrap();
    assert_eq!(&byte, b"y");
    drain.force();
    drain.all_gone().await;
    assert_eq!(second.read(&mut byte).await.unwrap(), 0, "dropped where it stood");
}
