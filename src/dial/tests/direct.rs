use super::*;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// An origin on loopback, and which address each connection came from.
async fn origin() -> (u16, TcpListener) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    (listener.local_addr().unwrap().port(), listener)
}

#[tokio::test]
async fn each_kind_leaves_from_its_address() {
    let (port, origin) = origin().await;
    let prefix = Via::Prefix("127.7.0.0/16".parse().unwrap());
    for (via, variant, expected) in [
        (Via::Direct, Variant::None, "127.0.0.1"),
        (Via::Address(ip("127.0.0.7")), Variant::None, "127.0.0.7"),
        (prefix, Variant::Address(ip("127.7.8.9")), "127.7.8.9"),
    ] {
        let mut case = Case::new(via).private().target(format!("lo.test:{port}"));
        case.variant = variant;
        let dialed = case.dial().await.unwrap();
        let (_, from) = origin.accept().await.unwrap();
        assert_eq!(from.ip(), ip(expected));
        assert_eq!(dialed.wire.tcp().unwrap().local_addr().unwrap(), from);
        assert_eq!(dialed.form, Form::Origin);
    }
}

#[tokio::test]
async fn every_spelling_of_a_target_is_the_same_target() {
    let (port, origin) = origin().await;
    for host in ["127.0.0.1", "[::ffff:127.0.0.1]", "localhost", "LO.test."] {
        let case = Case::new(Via::Address(ip("127.0.0.7"))).private().target(format!("{host}:{port}"));
        case.dial().await.unwrap();
        assert_eq!(origin.accept().await.unwrap().1.ip(), ip("127.0.0.7"));
    }
}

#[tokio::test]
async fn the_targets_failures_are_the_targets() {
    let direct = |target: &str| Case::new(Via::Direct).target(target);
    let closed = format!("127.0.0.1:{}", closed_port().await);
    direct(&closed).private().check(Blame::Target, Code::TargetRefused, "refused").await;
    direct("nx.test:443").check(Blame::Target, Code::TargetUnresolvable, "does not exist").await;
    direct("empty.test:443").check(Blame::Target, Code::TargetUnresolvable, "no address").await;
    direct("fail.test:443").check(Blame::Target, Code::TargetUnresolvable, "name server").await;
    let mut mute = direct("mute.test:443");
    mute.timeouts.dns = BRIEF;
    mute.check(Blame::Target, Code::TargetTimeout, "resolved in time").await;
    direct("lo.test:443").check(Blame::Target, Code::TargetForbidden, "loopback").await;
    // A source on loopback has loopback to reach, and nothing else.
    let loopback = Case::new(Via::Address(ip("127.0.0.7"))).target("8.8.8.8:443");
    loopback.check(Blame::Target, Code::TargetUnreachable, "no route to the target").await;
}

/// A listener whose queue is full drops what comes.
#[tokio::test]
async fn a_target_that_swallows_packets_is_a_timeout() {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    socket.listen(0).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    let mut queued = Vec::new();
    while let Ok(Ok(tcp)) = tokio::time::timeout(BRIEF, TcpStream::connect(address)).await {
        queued.push(tcp);
    }
    for via in [Via::Direct, Via::Address(ip("127.0.0.7"))] {
        let mut case = Case::new(via).private().target(address.to_string());
        case.timeouts.connect = BRIEF;
        case.check(Blame::Target, Code::TargetTimeout, "did not accept in time").await;
    }
}

#[tokio::test]
async fn an_exit_of_one_family_is_not_asked_to_reach_the_other() {
    let v4 = |target: &str| Case::new(Via::Address(ip("127.0.0.7"))).private().target(target);
    let no_v4 = "no IPv4 address";
    v4("[::1]:443").check(Blame::Target, Code::TargetUnreachable, no_v4).await;
    v4("v6.test:443").check(Blame::Target, Code::TargetUnreachable, no_v4).await;
    v4("nx.test:443").check(Blame::Target, Code::TargetUnresolvable, "does not exist").await;
    let mut v6 = Case::new(Via::Prefix("2001:db8:7::/64".parse().unwrap())).private().target("lo.test:443");
    v6.variant = Variant::Address(ip("2001:db8:7::9"));
    v6.check(Blame::Target, Code::TargetUnreachable, "no IPv6 address").await;
    v6.target("127.0.0.1:443").check(Blame::Target, Code::TargetUnreachable, "no IPv6 address").await;
}

#[tokio::test]
async fn an_address_that_is_not_ours_is_the_exits_fault() {
    let (port, _origin) = origin().await;
    let target = format!("127.0.0.1:{port}");
    let foreign = Case::new(Via::Address(ip("192.0.2.77"))).private().target(&target);
    foreign.check(Blame::Exit, Code::ExitFailed, "cannot be bound").await;

    let prefix = |net: &str, variant: Variant, target: &str| {
        let mut case = Case::new(Via::Prefix(net.parse().unwrap())).private().target(target);
        case.variant = variant;
        case.timeouts.connect = BRIEF;
        case
    };
    let foreign = Variant::Address(ip("192.0.2.77"));
    prefix("192.0.2.0/24", foreign.clone(), &target)
        .check(Blame::Exit, Code::ExitFailed, "cannot be bound")
        .await;
    prefix("127.0.0.0/8", foreign, &target).check(Blame::Exit, Code::ExitFailed, "not of this prefix").await;
    prefix("127.0.0.0/8", Variant::None, &target).check(Blame::Exit, Code::ExitFailed, "prefix").await;

    let v6 = Variant::Address(ip("2001:db8:7::9"));
    prefix("2001:db8:7::/64", v6, &format!("[::1]:{port}"))
        .check(Blame::Exit, Code::ExitFailed, "not routed to this host")
        .await;
}
