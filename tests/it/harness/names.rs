//! A name server that says what a test wants of a name.
//!
//! Owns: the few lines of RFC 1035 that takes.
//! Must not know: who asks, and why.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::sync::{Arc, Mutex};

use super::setup::Setup;

/// Names and their addresses, in turn: the first set is the first answer, the
/// last one every further answer. An empty set is silence.
type Zone = HashMap<String, Vec<Vec<IpAddr>>>;

/// A name server at port 53 of an address of its own, which takes root: see
/// [`super::namespace`]. Names that it does not know do not exist.
pub struct Names {
    zone: Arc<Mutex<Zone>>,
}

const ADDRESS: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 53);

impl Names {
    /// Knows nothing yet.
    pub fn start() -> Self {
        let socket = UdpSocket::bind((ADDRESS, 53)).expect("port 53, inside a namespace");
        let zone = Arc::new(Mutex::new(Zone::new()));
        let names = Self { zone: zone.clone() };
        std::thread::spawn(move || {
            let mut query = [0; 1500];
            while let Ok((length, from)) = socket.recv_from(&mut query) {
                if let Some(answer) = answer(&query[..length], &zone) {
                    let _ = socket.send_to(&answer, from);
                }
            }
        });
        names
    }

    /// From now on the name has these addresses, one set after the other.
    pub fn set(&self, name: &str, answers: &[&[&str]]) {
        let parsed = |set: &&[&str]| set.iter().map(|ip| ip.parse().expect("an address")).collect();
        self.zone.lock().unwrap().insert(name.to_owned(), answers.iter().map(parsed).collect());
    }

    /// Has the gateway ask it: in a mount namespace of its own.
    pub fn used_by(&self, mut setup: Setup) -> Setup {
        let bind = "mount --bind {dir}/resolv.conf /etc/resolv.conf && exec \"$@\"";
        setup.wrap = ["unshare", "--mount", "--", "sh", "-c", bind, "sh"].map(str::to_owned).to_vec();
        setup.file("resolv.conf", format!("nameserver {ADDRESS}\noptions timeout:1 attempts:1\n"))
    }
}

/// Each query of a pair (A and AAAA) gets the same set: which one it is
/// depends on how often A was asked for.
fn answer(query: &[u8], zone: &Mutex<Zone>) -> Option<Vec<u8>> {
    let mut at = 12;
    let mut labels = Vec::new();
    while query[at] > 0 {
        let length = usize::from(query[at]);
        labels.push(String::from_utf8_lossy(&query[at + 1..=at + length]).to_lowercase());
        at += length + 1;
    }
    let (question, kind) = (&query[12..at + 5], query[at + 2]);
    let mut zone = zone.lock().unwrap();
    let (code, addresses) = match zone.get_mut(&labels.join(".")) {
        None => (3, Vec::new()),
        Some(sets) => {
            let current = sets[0].clone();
            if kind == 1 && sets.len() > 1 {
                sets.remove(0);
            }
            if current.is_empty() {
                return None;
            }
            (0, current)
        }
    };
    let records: Vec<_> = addresses.into_iter().filter(|ip| ip.is_ipv6() == (kind == 28)).collect();
    let mut answer = query[..2].to_vec();
    answer.extend([0x81, 0x80 + code, 0, 1, 0, records.len() as u8, 0, 0, 0, 0]);
    answer.extend_from_slice(question);
    for ip in records {
        let octets = match ip {
            IpAddr::V4(ip) => ip.octets().to_vec(),
            IpAddr::V6(ip) => ip.octets().to_vec(),
        };
        // The name as in the question, its kind, class IN, a ttl of 0.
        answer.extend([0xc0, 12, 0, kind, 0, 1, 0, 0, 0, 0, 0, octets.len() as u8]);
        answer.extend(octets);
    }
    Some(answer)
}
