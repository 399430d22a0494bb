//! Source ports: each exit address has as many for each target as the kernel
//! gives, and is full, not down, when they are used up (SPEC §6).

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};

use crate::harness::client::Answer;
use crate::harness::request::{Ask, connect};
use crate::harness::{Client, Gateway, PATIENCE, Setup, Target, basic, eventually, namespace};

/// Ports that the kernel may take of each address for each destination.
const PORTS: usize = 40;

/// Two exits with so few ports; their target, and another.
struct Scene {
    gateway: Gateway,
    targets: [Target; 2],
    clients: u16,
}

impl Scene {
    fn open() -> Self {
        let gateway = Setup::addresses(2).start();
        let targets = [Target::open(), Target::open()];
        // From now on, so that those that listen have ports from elsewhere.
        let range = format!("{} {}", 50_000, 50_000 + PORTS - 1);
        fs::write("/proc/sys/net/ipv4/ip_local_port_range", range).expect("the namespace's own setting");
        Self { gateway, targets, clients: 0 }
    }

    /// A CONNECT from a port outside of the range: the kernel gives none that
    /// another socket was bound to itself.
    fn connect(&mut self, username: &str, target: usize) -> (Client, Answer) {
        self.clients += 1;
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        let own = SocketAddr::from((Ipv4Addr::new(127, 9, 9, 9), 20_000 + self.clients));
        socket.bind(&own.into()).expect("an address of loopback");
        socket.connect(&self.gateway.listens().into()).expect("it listens");
        let mut client = Client::over(socket.into()).expect("options");
        let answer = client.send(connect(self.targets[target].address, &basic(username))).answer("CONNECT");
        (client, answer)
    }

    /// Uses up the ports of both exits for the first target.
    fn fill(&mut self) -> Vec<Client> {
        let tunnels = (0..2 * PORTS).map(|_| self.connect("acme", 0)).collect::<Vec<_>>();
        tunnels.into_iter().map(|(client, answer)| (answer.ok(), client).1).collect()
    }
}

#[test]
fn ports_are_used_to_the_last_and_an_exit_without_any_is_full_and_not_down() {
    namespace::within(|| {
        let mut scene = Scene::open();
        let tunnels = scene.fill();
        for _ in 0..10 {
            let answer = scene.connect("acme", 0).1.fails(503, "no_exit");
            assert!(answer.retry_after().is_some() && answer.detail().contains("source port"));
        }
        // For another target each address has all of its ports.
        scene.connect("acme", 1).1.ok();
        scene.connect("acme", 1).1.ok();
        // A port that comes back is used again.
        scene.targets[0].accept().reset();
        eventually("a port comes back", PATIENCE, || {
            (scene.connect("acme", 0).1.status == 200).then_some(())
        });
        drop(tunnels);
    });
}

#[test]
fn a_session_whose_exit_has_no_port_left_keeps_it_and_a_new_one_gets_another() {
    namespace::within(|| {
        let mut scene = Scene::open();
        let first = scene.connect("acme-session-a", 1).1.ok().exit();
        let id = first.strip_prefix("p/").expect("pool and exit").to_owned();
        let named = format!("acme-exit-{id}");
        let _tunnels: Vec<_> = (0..PORTS).map(|_| scene.connect(&named, 0)).collect();
        scene.connect(&named, 0).1.fails(503, "no_exit");
        let answer = scene.connect("acme-session-a", 0).1.fails(503, "no_exit");
        assert!(answer.retry_after().is_some());
        let answer = scene.connect("acme-session-a", 1).1.ok();
        assert_eq!((answer.exit(), answer.news()), (first.clone(), "held"));
        for n in 0..10 {
            let answer = scene.connect(&format!("acme-session-new{n}"), 0).1.ok();
            assert_eq!(answer.news(), "new");
            assert_ne!(answer.exit(), first);
        }
    });
}
