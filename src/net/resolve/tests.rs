use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use hickory_resolver::proto::op::{Message, MessageType};
use hickory_resolver::proto::rr::{RData, Record};
use tokio::net::UdpSocket;

use super::*;

/// A name server whose answers are told by the first label of a name: a set
/// of `v4`, `v6`, `lo`, `lo6` (has a public address, a loopback address),
/// `nx`, `fail`, `mute`, `mute6`, `brief` (a ttl of 0).
pub(crate) struct NameServer {
    address: std::net::SocketAddr,
    queries: Arc<AtomicUsize>,
}

impl NameServer {
    pub(crate) async fn start() -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let queries = Arc::new(AtomicUsize::new(0));
        let count = queries.clone();
        tokio::spawn(async move {
            let mut buffer = [0; 1500];
            loop {
                let (size, from) = socket.recv_from(&mut buffer).await.unwrap();
                count.fetch_add(1, Ordering::SeqCst);
                if let Some(answer) = answer(&buffer[..size]) {
                    socket.send_to(&answer, from).await.unwrap();
                }
            }
        });
        Self { address, queries }
    }

    pub(crate) fn resolver(&self) -> Resolver {
        Resolver::with_server(self.address).unwrap()
    }

    pub(crate) fn queries(&self) -> usize {
        self.queries.load(Ordering::SeqCst)
    }
}

fn answer(query: &[u8]) -> Option<Vec<u8>> {
    let mut message = Message::from_vec(query).unwrap();
    let question = message.queries[0].clone();
    let name = question.name().to_ascii();
    let has = |trait_: &str| name.split('.').next().unwrap().split('-').any(|word| word == trait_);
    let six = question.query_type() == RecordType::AAAA;
    if has("mute") || (has("mute6") && six) {
        return None;
    }
    message.metadata.message_type = MessageType::Response;
    message.metadata.response_code = match () {
        () if has("nx") => ResponseCode::NXDomain,
        () if has("fail") => ResponseCode::ServFail,
        () => ResponseCode::NoError,
    };
    let address = match six {
        true if has("v6") => Some(RData::AAAA("2606:4700::1".parse().unwrap())),
        true if has("lo6") => Some(RData::AAAA(Ipv6Addr::LOCALHOST.into())),
        false if has("lo") => Some(RData::A(Ipv4Addr::LOCALHOST.into())),
        false if has("v4") => Some(RData::A("9.9.9.9".parse().unwrap())),
        _ => None,
    };
    let ttl = if has("brief") { 0 } else { 60 };
    message.answers.extend(address.map(|rdata| Record::from_rdata(question.name().clone(), ttl, rdata)));
    Some(message.to_vec().unwrap())
}

const LIMIT: Duration = Duration::from_millis(1500);

#[track_caller]
fn check(found: Result<Vec<IpAddr>, ResolveError>, expected: Result<&[&str], ResolveError>) {
    assert_eq!(found, expected.map(|ips| ips.iter().map(|ip| ip.parse().unwrap()).collect()));
}

#[tokio::test]
async fn both_families_or_the_one_asked_for() {
    let server = NameServer::start().await;
    let dns = server.resolver();
    check(dns.look_up("v4-v6.test", None, false, LIMIT).await, Ok(&["2606:4700::1", "9.9.9.9"]));
    check(dns.look_up("v4.test", None, false, LIMIT).await, Ok(&["9.9.9.9"]));
    check(dns.look_up("v6.test", None, true, LIMIT).await, Ok(&["2606:4700::1"]));
    check(dns.look_up("v4-v6.test", Some(Family::V4), false, LIMIT).await, Ok(&["9.9.9.9"]));
    check(dns.look_up("v4.test", Some(Family::V6), false, LIMIT).await, Err(ResolveError::NoAddress));
}

#[tokio::test]
async fn failures_are_told_apart() {
    let server = NameServer::start().await;
    let dns = server.resolver();
    check(dns.look_up("nx.test", None, false, LIMIT).await, Err(ResolveError::NoSuchName));
    check(dns.look_up("nx.test", Some(Family::V4), false, LIMIT).await, Err(ResolveError::NoSuchName));
    check(dns.look_up("empty.test", None, false, LIMIT).await, Err(ResolveError::NoAddress));
    let failed = dns.look_up("fail.test", None, false, LIMIT).await;
    assert!(matches!(failed, Err(ResolveError::Failed(_))), "{failed:?}");
    check(
        dns.look_up("mute.test", None, false, Duration::from_millis(100)).await,
        Err(ResolveError::TimedOut),
    );
}

#[tokio::test]
async fn a_slow_family_does_not_hold_the_other_up_unless_all_are_wanted() {
    let server = NameServer::start().await;
    let dns = server.resolver();
    check(dns.look_up("v4-mute6.test", None, false, LIMIT).await, Ok(&["9.9.9.9"]));
    check(
        dns.look_up("v4-mute6.test", None, true, Duration::from_millis(200)).await,
        Err(ResolveError::TimedOut),
    );
}

#[tokio::test]
async fn answers_are_kept_for_their_ttl() {
    let server = NameServer::start().await;
    let dns = server.resolver();
    for _ in 0..3 {
        dns.look_up("v4-v6.test", None, true, LIMIT).await.unwrap();
    }
    assert_eq!(server.queries(), 2);
    for _ in 0..2 {
        dns.look_up("v4-v6-brief.test", None, true, LIMIT).await.unwrap();
    }
    assert_eq!(server.queries(), 6);
}

#[tokio::test]
async fn look_ups_that_come_together_share_a_query() {
    let server = NameServer::start().await;
    let dns = Arc::new(server.resolver());
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let dns = dns.clone();
        tasks.spawn(async move { dns.look_up("v4-v6-brief.test", None, true, LIMIT).await });
    }
    assert!(tasks.join_all().await.iter().all(Result::is_ok));
    assert_eq!(server.queries(), 2);
}

#[tokio::test]
async fn more_look_ups_than_slots_wait_within_their_limit() {
    let server = NameServer::start().await;
    let dns = server.resolver();
    let _all = dns.slots.acquire_many(u32::try_from(IN_FLIGHT).unwrap()).await.unwrap();
    check(dns.look_up("v4.test", None, false, Duration::from_millis(50)).await, Err(ResolveError::TimedOut));
    assert_eq!(server.queries(), 0);
}

#[tokio::test]
async fn localhost_and_the_hosts_file_need_no_name_server() {
    let server = NameServer::start().await;
    let mut dns = server.resolver();
    dns.hosts.read_hosts_conf(&b"10.9.9.9 v6.hosts.test other\n10.9.9.8 v6.hosts.test"[..]).unwrap();
    check(dns.look_up("localhost", None, false, LIMIT).await, Ok(&["127.0.0.1", "::1"]));
    check(dns.look_up("a.localhost", Some(Family::V6), false, LIMIT).await, Ok(&["::1"]));
    check(dns.look_up("v6.hosts.test", None, false, LIMIT).await, Ok(&["10.9.9.9", "10.9.9.8"]));
    check(dns.look_up("v6.hosts.test", Some(Family::V6), false, LIMIT).await, Err(ResolveError::NoAddress));
    assert_eq!(server.queries(), 0);
}
