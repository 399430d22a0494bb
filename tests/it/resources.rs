//! Scarce resources: descriptors, connections, memory; bytes that are no HTTP
//! (SPEC §7, `limits`).

use std::io::{ErrorKind, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::harness::measure::{anonymous_kib, descriptors};
use crate::harness::request::{Ask, connect, get};
use crate::harness::{Client, Gateway, Origin, PATIENCE, Setup, Target, basic, eventually};

/// A gateway that may hold so many descriptors from now on. It began with
/// more, or it would take no more connections than these suffice for.
fn with_descriptors(count: u64) -> Gateway {
    use rustix::process::{Pid, Resource, Rlimit, prlimit};
    let log = json!({ "format": "json", "access": false });
    let gateway = Setup::addresses(1).on_disk().config("log", log).start();
    let pid = Pid::from_raw(gateway.pid().cast_signed()).expect("a process id");
    let limit = Rlimit { current: Some(count), maximum: Some(count) };
    prlimit(Some(pid), Resource::Nofile, limit).expect("a lower limit");
    gateway
}

#[test]
fn without_descriptors_tunnels_go_on_and_service_comes_back_by_itself() {
    let gateway = with_descriptors(96);
    let origin = Origin::start();
    let target = Target::open();
    gateway.get("acme-session-before-ttl-1h", &origin.url("/ip")).ok();
    let (mut client, _) = gateway.tunnel("acme", &target);
    let mut far = target.accept();
    client.echo_through(&mut far);

    // The kernel takes connections that the gateway has no descriptor for.
    let crowd: Vec<_> =
        (0..200).map(|_| TcpStream::connect(gateway.listens()).expect("room in the backlog")).collect();
    gateway.log.wait_for("that it cannot accept", |line| line.has("cannot accept connections"));
    for _ in 0..50 {
        client.echo_through(&mut far);
    }
    // It rests instead of spinning, and says so now and then.
    let (before, start) = (processor_time(gateway.pid()), Instant::now());
    std::thread::sleep(Duration::from_secs(1));
    let used = processor_time(gateway.pid()) - before;
    assert!(used < start.elapsed() / 4, "{used:?} of the processor in {:?}", start.elapsed());
    let lines = gateway.log.lines().iter().filter(|line| line.has("cannot accept")).count();
    assert!(lines < 100, "{lines} lines");

    // Those that it holds are waiting for their heads: their descriptors come
    // back when they go, and with them the service.
    drop(crowd);
    let start = Instant::now();
    eventually("a session from before, and a new one", PATIENCE, || {
        let held = ask(&gateway, "acme-session-before-ttl-1h", &origin)?;
        let made = ask(&gateway, "acme-session-after-ttl-1h", &origin)?;
        (held == 200 && made == 200).then_some(())
    });
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    client.echo_through(&mut far);
}

#[test]
fn a_client_is_refused_before_a_connection_of_another_fails() {
    // 160 descriptors suffice for 28 clients and their targets.
    let mut setup = Setup::addresses(1).config("log", json!({ "format": "json", "access": false }));
    setup.wrap = ["sh", "-c", "ulimit -n 160 && exec \"$@\"", "sh"].map(str::to_owned).to_vec();
    let gateway = setup.start();
    gateway.log.wait_for("the limit that is in force", |line| line.has("limits.connections is more than"));
    let target = Target::open();
    let mut tunnels: Vec<_> = (0..28).map(|_| (gateway.tunnel("acme", &target).0, target.accept())).collect();
    for _ in 0..50 {
        let mut client = Client::open(gateway.listens());
        client
            .send(connect(target.address, &basic("acme")))
            .answer("CONNECT")
            .fails(429, "too_many_connections");
    }
    for (client, far) in &mut tunnels {
        client.echo_through(far);
    }
}

/// The status of one answer, if there is one.
fn ask(gateway: &Gateway, username: &str, origin: &Origin) -> Option<u16> {
    let mut client = Client::try_open(gateway.listens()).ok()?;
    client.try_send(get(&origin.url("/ip"), &basic(username))).ok()?;
    client.try_answer("GET").ok().map(|answer| answer.status)
}

/// How long the process has been on a processor.
fn processor_time(pid: u32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("its status");
    let fields: Vec<_> = stat.rsplit_once(')').expect("a name").1.split_whitespace().collect();
    let ticks: u64 = fields[11..13].iter().map(|ticks| ticks.parse::<u64>().expect("ticks")).sum();
    Duration::from_millis(ticks * 10)
}

#[test]
fn sessions_made_while_descriptors_run_out_are_kept_or_refused_never_lost() {
    let gateway = with_descriptors(72);
    let origin = Origin::start();
    let mut made = Vec::new();
    let mut held = Vec::new();
    for n in 0..200 {
        if n % 3 == 0 {
            held.extend(TcpStream::connect(gateway.listens()));
        }
        let session = format!("acme-session-s{n}-ttl-1h");
        let Ok(mut client) = Client::try_open(gateway.listens()) else { continue };
        if held.len() > 40 {
            held.clear();
        }
        let sent = client.try_send(get(&origin.url("/ip"), &basic(&session)));
        match sent.and_then(|()| client.try_answer("GET")) {
            Ok(answer) if answer.status == 200 => made.push((session, answer.exit())),
            Ok(answer) => assert!([502, 503].contains(&answer.status), "{answer:?}"),
            Err(error) => panic!("no answer: {error}"),
        }
    }
    drop(held);
    assert!(made.len() > 50, "{}", made.len());
    gateway.crash();
    for (session, exit) in made {
        let answer = gateway.get(&session, &origin.url("/ip")).ok();
        assert_eq!((answer.news(), answer.exit()), ("held", exit), "{session}");
    }
}

#[test]
fn bytes_that_are_no_http_are_refused_or_closed_at_once() {
    let setup = Setup::addresses(1).config("timeouts", json!({ "head": "1m" }));
    let gateway = setup.config("listeners.0.protocol", "http").start();
    let hello = b"\x16\x03\x01\x00\xc0\x01\x00\x00\xbc\x03\x03\xaa\xbb\xcc\xdd\xee\xff\x11\x22\x33";
    // Nothing in it that no head could hold, but for its first byte.
    let mut clean_hello = vec![0x16, 3, 1, 2, 5, 1, 9, 9, 9, 3, 3];
    clean_hello.extend([0x41; 500]);
    let random: Vec<u8> = (0..4096_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 23) as u8).collect();
    for bytes in [
        &hello[..],
        &clean_hello,
        b"\x05\x01\x00",
        b"\x05\x01\x02",
        b"\x04\x01\x00\x50\x7f\x00\x00\x01\x00",
        b"\x00",
        b"\xff",
        b"\x80\x2e\x01\x03\x01",
        b"SSH-2.0-OpenSSH_9.2p1\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\n\n\n\n",
        b" GET http://127.0.0.1/ HTTP/1.1\r\n",
        b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\nGET http://127.0.0.1/ HTTP/1.1\r\n\r\n",
        b"\r\n\r\n\x0d\x0a\x51\x55\x49\x54\x0a",
        b"{\"id\":1,\"jsonrpc\":\"2.0\"}\n",
        &random,
    ] {
        let mut client = gateway.client();
        let start = Instant::now();
        let _ = client.try_send(bytes);
        let answer = match client.try_answer("GET") {
            Ok(answer) => {
                let _ = client.end();
                Some((answer.status, answer.code().to_owned()))
            }
            Err(error) => {
                assert!(
                    [ErrorKind::UnexpectedEof, ErrorKind::ConnectionReset].contains(&error.kind()),
                    "{bytes:?}: {error}"
                );
                None
            }
        };
        assert!(answer.is_none_or(|answer| answer == (400, "bad_request".to_owned())), "{bytes:?}");
        assert!(start.elapsed() < Duration::from_secs(5), "{bytes:?} hangs");
    }
}

#[test]
fn limits_of_connections_hold_under_a_storm_and_are_given_back() {
    let limits = json!({ "connections": 40, "connections_per_client": 10 });
    let gateway = Setup::addresses(1).config("limits", limits).config("log.access", false).start();
    let origin = Origin::start();
    let from = |n: u8| {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        socket.bind(&std::net::SocketAddr::from(([127, 0, 3, n], 0)).into()).unwrap();
        socket.connect(&gateway.listens().into()).unwrap();
        Client::over(socket.into()).unwrap()
    };
    let status = |client: &mut Client| {
        let sent = client.try_send(connect(origin.address, &basic("acme")));
        sent.and_then(|()| client.try_answer("CONNECT")).map_or(0, |answer| answer.status)
    };
    let idle = descriptors(gateway.pid());
    for round in 0..3 {
        // Of each client ten get in; of five such clients the first four.
        let mut open = Vec::new();
        for n in 1..=5 {
            let mut clients: Vec<_> = (0..15).map(|_| from(n)).collect();
            let statuses: Vec<_> = clients.iter_mut().map(status).collect();
            let expected = if n <= 4 { 10 } else { 0 };
            assert_eq!(
                statuses.iter().filter(|status| **status == 200).count(),
                expected,
                "{round}, {n}: {statuses:?}"
            );
            assert!(statuses.iter().all(|status| [200, 429, 0].contains(status)), "{statuses:?}");
            open.extend(clients);
        }
        drop(open);
        eventually("all is given back", PATIENCE, || {
            let mut clients: Vec<_> = (0..10).map(|_| from(9)).collect();
            clients.iter_mut().all(|client| status(client) == 200).then_some(())
        });
        eventually("again", PATIENCE, || (descriptors(gateway.pid()) <= idle).then_some(()));
    }
}

/// More than this are refused at a time without a word.
#[test]
fn refused_connections_do_not_pile_up() {
    let gateway = Setup::addresses(1).config("limits.connections", 1).config("log.access", false).start();
    let origin = Origin::start();
    let _tunnel = gateway.tunnel("acme", origin.address);
    let idle = descriptors(gateway.pid());
    let crowd: Vec<_> = (0..1500).map(|_| TcpStream::connect(gateway.listens()).expect("accepted")).collect();
    let most = (0..20).map(|_| {
        std::thread::sleep(Duration::from_millis(10));
        descriptors(gateway.pid())
    });
    let most = most.max().unwrap() - idle;
    assert!(most <= 300, "{most} of {} refused ones are held", crowd.len());
}

/// How many connections are broken off in every way there is.
const ABORTED: usize = 20_000;

#[test]
fn after_many_aborted_connections_memory_is_back_where_it_was() {
    let gateway = Setup::addresses(4).config("log.access", false).start();
    let origin = Origin::start();
    let address = gateway.listens();
    let abort = |count: usize| {
        let threads: Vec<_> = (0..4)
            .map(|thread| {
                let url = origin.url("/stream/100000");
                let target = origin.address;
                std::thread::spawn(move || {
                    for n in 0..count / 4 {
                        let Ok(mut client) = Client::try_open(address) else { continue };
                        let _ = match (n + thread) % 6 {
                            0 => Ok(()),
                            1 => client.try_send("GET http://127.0.0.1/ HTTP/1.1\r\nX: "),
                            2 => client.try_send(get(&url, &basic("acme"))),
                            3 => client.try_send(get(&url, &basic("acme"))).map(|()| drop(client.head())),
                            4 => client.try_send(connect(target, &basic("acme"))),
                            _ => client.try_send(connect(target, "")),
                        };
                        match n % 2 {
                            0 => client.reset(),
                            _ => drop(client),
                        }
                    }
                })
            })
            .collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        eventually("every connection is gone", PATIENCE, || (descriptors(gateway.pid()) < 40).then_some(()));
    };
    // What the allocator keeps for the next crowd counts as in use before.
    abort(ABORTED / 4);
    let before = anonymous_kib(gateway.pid());
    abort(ABORTED);
    let after = anonymous_kib(gateway.pid());
    eprintln!("{ABORTED} aborted connections: {before} KiB before, {after} KiB after");
    assert!(after < before + before / 10 + 2048, "{before} KiB before, {after} KiB after");
    gateway.get("acme", &origin.url("/ip")).ok();
}

#[test]
fn the_admin_listener_bears_slow_and_many_clients() {
    let gateway = Setup::addresses(1).start();
    let mut slow: Vec<_> = (0..300)
        .map(|_| {
            let mut slow = TcpStream::connect(gateway.admin()).expect("accepted");
            let _ = slow.write_all(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nX: ");
            slow
        })
        .collect();
    let mut client = gateway.admin().client();
    let answer = client.send("GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n").answer("GET");
    assert_eq!(answer.status, 200);
    let mut one = Client::over(slow.pop().unwrap()).unwrap();
    let start = Instant::now();
    let _ = one.end();
    assert!(start.elapsed() < Duration::from_secs(15), "a head that never comes is waited for");
}
