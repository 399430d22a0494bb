//! Much of it: what arrives is what was sent, to the byte, and nothing is
//! left behind.

use std::io::Write as _;
use std::net::{TcpListener, TcpStream};

use crate::harness::measure::descriptors;
use crate::harness::request::{Ask, request};
use crate::harness::{Client, Setup, basic};

const MANY: usize = 256 << 20;

/// Blocks that are all different, and of no round size.
struct Blocks {
    block: Vec<u8>,
    left: usize,
    count: u64,
}

impl Blocks {
    fn new(bytes: usize) -> Self {
        let block = (0..700_001_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        Self { block, left: bytes, count: 0 }
    }

    fn next(&mut self) -> Option<&[u8]> {
        self.count += 1;
        self.block[..8].copy_from_slice(&self.count.to_le_bytes());
        let length = self.block.len().min(self.left);
        self.left -= length;
        (length > 0).then(|| &self.block[..length])
    }
}

fn digest(bytes: usize) -> blake3::Hash {
    let (mut blocks, mut hasher) = (Blocks::new(bytes), blake3::Hasher::new());
    while let Some(block) = blocks.next() {
        hasher.update(block);
    }
    hasher.finalize()
}

fn give(to: &mut TcpStream, bytes: usize) {
    let mut blocks = Blocks::new(bytes);
    while let Some(block) = blocks.next() {
        to.write_all(block).expect("it is taken");
    }
}

#[track_caller]
fn take(from: &mut Client, bytes: usize) -> blake3::Hash {
    let (mut left, mut hasher) = (bytes, blake3::Hasher::new());
    while left > 0 {
        let part = from.exactly(left.min(1 << 20));
        hasher.update(&part);
        left -= part.len();
    }
    hasher.finalize()
}

fn target() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    (listener, address)
}

fn far_end(listener: &TcpListener) -> Client {
    Client::over(listener.accept().expect("the gateway connects").0).expect("options")
}

/// A request's head, whatever it says.
fn read_head(far: &mut Client) {
    while far.line().expect("a line") != "" {}
}

#[test]
fn a_tunnel_carries_it_both_ways_at_once() {
    let gateway = Setup::addresses(1).start();
    let before = descriptors(gateway.pid());
    let (listener, target) = target();
    let (mut client, _) = gateway.tunnel("acme-session-a", &target);
    let mut far = far_end(&listener);
    let side = |mut end: Client, gives: usize, takes: usize| {
        std::thread::spawn(move || {
            let mut writer = end.writer();
            let writing = std::thread::spawn(move || {
                give(&mut writer, gives);
                writer.shutdown(std::net::Shutdown::Write).expect("half-close");
            });
            let taken = take(&mut end, takes);
            writing.join().expect("all is given");
            end.end().expect("an end of file");
            taken
        })
    };
    client.echo_through(&mut far);
    let (up, down) = (MANY, MANY / 2 + 1);
    let (near, far) = (side(client, up, down), side(far, down, up));
    assert_eq!(near.join().unwrap(), digest(down));
    assert_eq!(far.join().unwrap(), digest(up));
    let record = gateway.access(0);
    assert_eq!(record.number("bytes_up"), (up + 1) as f64);
    assert_eq!(record.number("bytes_down"), (down + 1) as f64);
    assert_eq!(record.field("end").as_deref(), Some("done"));
    // Each direction may have left a pipe for the next to use.
    assert!(descriptors(gateway.pid()) <= before + 4);
}

#[test]
fn bodies_carry_it_and_leave_the_connection_in_order() {
    let gateway = Setup::addresses(1).start();
    let (listener, target) = target();
    let (url, user) = (format!("http://{target}/"), basic("acme-session-a"));
    let origin = std::thread::spawn(move || {
        let mut far = far_end(&listener);
        for bytes in [MANY, 65_536, 100_000] {
            read_head(&mut far);
            assert_eq!(take(&mut far, bytes), digest(bytes), "{bytes} up");
            far.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {bytes}\r\n\r\n"));
            give(&mut far.writer(), bytes);
        }
        // One chunk that is large, one that is not, and a trailer.
        read_head(&mut far);
        far.send(format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n", MANY / 4));
        give(&mut far.writer(), MANY / 4);
        far.send("\r\n3\r\nend\r\n0\r\nX-Trailer: t\r\n\r\n");
        // To the end of the connection.
        read_head(&mut far);
        far.send("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n");
        give(&mut far.writer(), MANY / 4);
    });
    let mut client = gateway.client();
    for bytes in [MANY, 65_536, 100_000] {
        client.send(request("POST", &url, &format!("{user}Content-Length: {bytes}\r\n")));
        give(&mut client.writer(), bytes);
        assert_eq!(client.head().status, 200);
        assert_eq!(take(&mut client, bytes), digest(bytes), "{bytes} down");
    }
    client.send(request("GET", &url, &user));
    assert!(client.head().has("transfer-encoding", "chunked"));
    assert_eq!(client.line().as_deref(), Some(&*format!("{:x}", MANY / 4)));
    assert_eq!(take(&mut client, MANY / 4), digest(MANY / 4), "a chunk");
    let rest = b"\r\n3\r\nend\r\n0\r\nX-Trailer: t\r\n\r\n";
    assert_eq!(client.exactly(rest.len()), rest);
    client.send(request("GET", &url, &user));
    assert!(client.head().has("connection", "close"));
    assert_eq!(take(&mut client, MANY / 4), digest(MANY / 4), "to the end");
    client.end().expect("an end of file");
    origin.join().unwrap();
}
