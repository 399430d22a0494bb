//! HTTP/2 frame by frame: interim answers, floods, what is broken.

use std::io::{Read, Write};

use h2::Reason;
use serde_json::json;

use crate::harness::gateway::is_access;
use crate::harness::http2::{Connection, get, start};
use crate::harness::tls::{self, Made};
use crate::harness::{Gateway, Origin, Setup, Target, basic};

/// A client that writes its frames itself.
struct Raw(tls::Stream);

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const PRIORITY: u8 = 2;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const CONTINUATION: u8 = 9;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let [_, a, b, c] = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&[a, b, c, kind, flags][..], &stream.to_be_bytes(), payload].concat()
}

/// Fields without compression, names known to no table.
fn fields(pairs: &[(&str, &str)]) -> Vec<u8> {
    let text = |text: &str| {
        // A length of seven bits, or one more byte (RFC 7541 §5.1).
        let length = match text.len() {
            short @ ..127 => vec![u8::try_from(short).unwrap()],
            long => vec![127, u8::try_from(long - 127).unwrap()],
        };
        [length, text.as_bytes().to_vec()].concat()
    };
    pairs.iter().flat_map(|(name, value)| [vec![0], text(name), text(value)].concat()).collect()
}

impl Raw {
    fn open(gateway: &Gateway, made: &Made) -> Self {
        let mut raw = Self(tls::open(gateway.listener(0), made, &["h2"]));
        let begin = [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), frame(SETTINGS, 0, 0, &[])].concat();
        raw.0.write_all(&begin).unwrap();
        raw
    }

    fn head(&self, origin: &Origin, path: &str) -> Vec<u8> {
        let credential = basic("acme");
        let credential = credential.trim_end().split_once(": ").unwrap().1;
        let authority = origin.address.to_string();
        fields(&[
            (":method", "GET"),
            (":scheme", "http"),
            (":authority", &authority),
            (":path", path),
            ("proxy-authorization", credential),
        ])
    }

    fn get(&mut self, stream: u32, origin: &Origin, path: &str) {
        let head = self.head(origin, path);
        self.0.write_all(&frame(HEADERS, 5, stream, &head)).unwrap();
    }

    /// The next frame of this kind: its stream and payload.
    #[track_caller]
    fn frame(&mut self, wanted: u8) -> (u32, Vec<u8>) {
        loop {
            let mut header = [0; 9];
            self.0.read_exact(&mut header).expect("another frame");
            let [high, middle, low, kind, _, stream @ ..] = header;
            let mut payload = vec![0; u32::from_be_bytes([0, high, middle, low]) as usize];
            self.0.read_exact(&mut payload).expect("its payload");
            if kind == wanted {
                return (u32::from_be_bytes(stream), payload);
            }
        }
    }

    /// Sends this again and again until the connection is ended, and says
    /// with which error.
    #[track_caller]
    fn flood(mut self, mut piece: impl FnMut(u32) -> Vec<u8>) -> u32 {
        for n in 0..200_000 {
            if self.0.write_all(&piece(n)).is_err() {
                break;
            }
            assert!(n < 199_999, "it takes a flood");
        }
        // What was told before the end may still be there.
        let mut told = Vec::new();
        let _ = self.0.read_to_end(&mut told);
        let mut rest = &told[..];
        while let [high, middle, low, kind, _, _, _, _, _, after @ ..] = rest {
            let length = u32::from_be_bytes([0, *high, *middle, *low]) as usize;
            if *kind == GOAWAY {
                return u32::from_be_bytes(after[4..8].try_into().unwrap());
            }
            rest = after.get(length..).unwrap_or_default();
        }
        // A reset may have thrown it away.
        u32::from(Reason::ENHANCE_YOUR_CALM)
    }
}

#[test]
fn a_client_that_answers_no_ping_is_gone() {
    let timeouts = json!({ "keep_alive": "300ms", "head": "600ms" });
    let (gateway, made) = start(Setup::addresses(1).config("timeouts", timeouts));
    let target = Target::open();
    let tunnel = |raw: &mut Raw| {
        let credential = basic("acme");
        let credential = credential.trim_end().split_once(": ").unwrap().1;
        let authority = target.address.to_string();
        let head = fields(&[
            (":method", "CONNECT"),
            (":authority", &authority),
            ("proxy-authorization", credential),
        ]);
        raw.0.write_all(&frame(HEADERS, 4, 1, &head)).unwrap();
        target.accept()
    };
    let (mut dead, mut alive) = (Raw::open(&gateway, &made), Raw::open(&gateway, &made));
    let (mut dead_far, mut alive_far) = (tunnel(&mut dead), tunnel(&mut alive));
    // Its questions come again and again, and the tunnel stands.
    for _ in 0..5 {
        let (_, question) = alive.frame(PING);
        alive.0.write_all(&frame(PING, 1, 0, &question)).unwrap();
    }
    assert_eq!(dead_far.end().unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
    let mut ended = Vec::new();
    let _ = dead.0.read_to_end(&mut ended);
    alive.0.write_all(&frame(DATA, 0, 1, b"still")).unwrap();
    assert_eq!(alive_far.exactly(5), b"still");
}

#[test]
fn floods_end_their_connection_and_nothing_else() {
    let (gateway, made) = start(Setup::addresses(1));
    let origin = Origin::start();
    let bystander = Connection::open(&gateway, &made);
    let head = Raw::open(&gateway, &made).head(&origin, "/held");
    let stream = |n: u32| 2 * n + 1;
    type Piece<'a> = Box<dyn FnMut(u32) -> Vec<u8> + 'a>;
    let floods: Vec<(&str, Piece<'_>)> = vec![
        ("settings", Box::new(|_| frame(SETTINGS, 0, 0, &[]).repeat(100))),
        ("ping", Box::new(|_| frame(PING, 0, 0, &[7; 8]).repeat(100))),
        ("priority", Box::new(|n| frame(PRIORITY, 0, stream(n), &[0, 0, 0, 0, 1]).repeat(100))),
        (
            "rapid reset",
            Box::new(|n| {
                let reset = frame(RST_STREAM, 0, stream(n), &[0, 0, 0, 8]);
                [frame(HEADERS, 5, stream(n), &head), reset].concat()
            }),
        ),
        (
            "continuation",
            Box::new(|n| match n {
                0 => frame(HEADERS, 1, 1, &head),
                _ => frame(CONTINUATION, 0, 1, &fields(&[("x-more", "y")])),
            }),
        ),
        (
            "empty data",
            Box::new(|n| match n {
                0 => frame(HEADERS, 4, 1, &head),
                _ => frame(DATA, 0, 1, &[]).repeat(100),
            }),
        ),
    ];
    for (name, piece) in floods {
        let mark = gateway.log.mark();
        let reason = Raw::open(&gateway, &made).flood(piece);
        assert!(
            [u32::from(Reason::ENHANCE_YOUR_CALM), u32::from(Reason::PROTOCOL_ERROR)].contains(&reason),
            "{name}: {reason}"
        );
        gateway.log.wait_after(mark, name, |line| {
            is_access(line) && line.field("kind").as_deref() == Some("refused")
        });
        assert_eq!(bystander.ask(get("acme", &origin.url("/ip"))).0.status(), 200, "beside {name}");
    }
}

#[test]
fn broken_frames_are_refused() {
    let (gateway, made) = start(Setup::addresses(1));
    let cases: [(&str, Vec<u8>); 5] = [
        ("no preface", b"GET / HTTP/1.1\r\n\r\n".to_vec()),
        ("too large", [0xff, 0xff, 0xff, DATA, 0, 0, 0, 0, 1].to_vec()),
        ("data without a stream", frame(DATA, 0, 1, b"x")),
        ("an even stream", frame(HEADERS, 5, 2, &fields(&[(":method", "GET")]))),
        ("broken compression", frame(HEADERS, 5, 1, &[0xff; 20])),
    ];
    for (name, bytes) in cases {
        let mark = gateway.log.mark();
        let mut raw = match name {
            "no preface" => Raw(tls::open(gateway.listener(0), &made, &["h2"])),
            _ => Raw::open(&gateway, &made),
        };
        raw.0.write_all(&bytes).unwrap();
        let _ = raw.0.read_to_end(&mut Vec::new());
        let line = gateway.log.wait_after(mark, name, is_access);
        assert_eq!(line.field("code").as_deref(), Some("bad_request"), "{name}: {}", line.0);
    }
}

#[test]
fn interim_answers_pass() {
    let (gateway, made) = start(Setup::addresses(1));
    let origin = Origin::start();
    // A client that shows them: frames as they come.
    let mut raw = Raw::open(&gateway, &made);
    raw.get(1, &origin, "/early");
    let statuses: Vec<_> = (0..3).map(|_| raw.frame(1).1[0]).collect();
    // The first byte of each head: a literal :status (103, 103), then indexed 200.
    assert_eq!(statuses[2], 0x88);
    assert!(statuses[0] != 0x88 && statuses[1] != 0x88, "{statuses:?}");
}
