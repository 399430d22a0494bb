use super::Act::*;
use super::*;

fn socks5h(port: u16) -> Case {
    Case::upstream(Scheme::Socks5h, port, None)
}

async fn answering(script: &'static [Act]) -> u16 {
    Peer::start(&[script]).await.port
}

/// `05 01 00`, then a request for `origin.test:443`.
const ASKED: usize = 3 + 7 + 11;
const GRANTED: &[u8] = b"\x05\x00\x00\x01\0\0\0\0\0\0";

#[tokio::test]
async fn socks5h_sends_the_name() {
    let peer =
        Peer::start(&[&[Hear(3), Say(b"\x05\x00"), Hear(ASKED - 3), Say(GRANTED), Say(b"hello"), Hang]])
            .await;
    let mut dialed = socks5h(peer.port).dial().await.unwrap();
    assert_eq!(dialed.form, Form::Origin);
    assert_eq!(peer.heard(0), b"\x05\x01\x00\x05\x01\x00\x03\x0borigin.test\x01\xbb");
    let mut hello = [0; 5];
    dialed.wire.read_exact(&mut hello).await.unwrap();
    assert_eq!(&hello, b"hello");
}

#[tokio::test]
async fn socks5_sends_an_address_that_was_judged() {
    const SCRIPT: &[Act] = &[Hear(3), Say(b"\x05\x00"), Hear(10), Say(GRANTED), Hang];
    let peer = Peer::start(&[SCRIPT]).await;
    let case = |target: &str| Case::upstream(Scheme::Socks5, peer.port, None).target(target);
    case("v4-v6.test:443").dial().await.unwrap();
    assert_eq!(peer.heard(0), b"\x05\x01\x00\x05\x01\x00\x01\x09\x09\x09\x09\x01\xbb");
    case("9.9.9.9:80").dial().await.unwrap();
    assert_eq!(peer.heard(1), b"\x05\x01\x00\x05\x01\x00\x01\x09\x09\x09\x09\x00\x50");
    case("lo.test:443").check(Blame::Target, Code::TargetForbidden, "loopback").await;
    case("nx.test:443").check(Blame::Target, Code::TargetUnresolvable, "does not exist").await;
    case("empty.test:443").check(Blame::Target, Code::TargetUnresolvable, "no address").await;
    assert_eq!(peer.connections(), 2);
}

#[tokio::test]
async fn another_address_is_asked_for_when_one_fails() {
    let peer = Peer::start(&[
        &[Hear(3), Say(b"\x05\x00"), Hear(10), Say(b"\x05\x04\x00\x01\0\0\0\0\0\0")],
        &[
            Hear(3),
            Say(b"\x05\x00"),
            Hear(22),
            Say(b"\x05\x00\x00\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"),
            Hang,
        ],
    ])
    .await;
    Case::upstream(Scheme::Socks5, peer.port, None).target("v4-v6.test:443").dial().await.unwrap();
    assert!(peer.heard(1).starts_with(b"\x05\x01\x00\x05\x01\x00\x04\x26\x06\x47\x00"));

    let peer = Peer::start(&[
        &[Hear(3), Say(b"\x05\x00"), Hear(10), Say(b"\x05\x05\x00\x01\0\0\0\0\0\0")],
        &[Hear(3), Say(b"\x05\x00"), Hear(22), Say(b"\x05\x08\x00\x01\0\0\0\0\0\0")],
    ])
    .await;
    let case = Case::upstream(Scheme::Socks5, peer.port, None).target("v4-v6.test:443");
    case.check(Blame::Target, Code::TargetRefused, "reply 5").await;
}

#[tokio::test]
async fn the_credential_is_given_and_a_template_insists() {
    const SCRIPT: &[Act] =
        &[Hear(4), Say(b"\x05\x02"), Hear(13), Say(b"\x01\x00"), Hear(ASKED - 3), Say(GRANTED), Hang];
    let peer = Peer::start(&[SCRIPT]).await;
    Case::upstream(Scheme::Socks5h, peer.port, LOGIN).dial().await.unwrap();
    assert!(peer.heard(0).starts_with(b"\x05\x02\x00\x02\x01\x03bob\x07hunter2\x05\x01\x00\x03"));

    const INSISTS: &[Act] =
        &[Hear(3), Say(b"\x05\x02"), Hear(23), Say(b"\x01\x00"), Hear(ASKED - 3), Say(GRANTED), Hang];
    let peer = Peer::start(&[INSISTS]).await;
    let mut case = Case::upstream(Scheme::Socks5h, peer.port, TEMPLATE);
    case.variant = Variant::Token("t0ken".into());
    case.dial().await.unwrap();
    assert!(peer.heard(0).starts_with(b"\x05\x01\x02\x01\x0dbob--t0ken-10"));
}

#[tokio::test]
async fn a_refused_credential_is_the_exits_or_the_tokens() {
    const NONE_WILL_DO: &[Act] = &[Hear(3), Say(b"\x05\xff")];
    const WRONG: &[Act] = &[Hear(3), Say(b"\x05\x02"), Hear(3), Say(b"\x01\x01")];
    let (exit, token) = (Blame::Exit, Blame::Token);
    socks5h(answering(NONE_WILL_DO).await).check(exit, Code::ExitAuthFailed, "log in").await;
    for script in [NONE_WILL_DO, WRONG] {
        let plain = Case::upstream(Scheme::Socks5h, answering(script).await, LOGIN);
        plain.check(exit, Code::ExitAuthFailed, "upstream").await;
        let template = Case::upstream(Scheme::Socks5h, answering(script).await, TEMPLATE);
        template.check(token, Code::ExitAuthFailed, "upstream").await;
    }
    // A login that was not offered, a way without one that was not.
    socks5h(answering(&[Hear(3), Say(b"\x05\x02")]).await).check(exit, Code::ExitAuthFailed, "log in").await;
    let template = Case::upstream(Scheme::Socks5h, answering(&[Hear(3), Say(b"\x05\x00")]).await, TEMPLATE);
    template.check(token, Code::ExitAuthFailed, "log in").await;
    let long = "x".repeat(256);
    let port = answering(&[Hear(3), Say(b"\x05\x02"), Hang]).await;
    Case::upstream(Scheme::Socks5h, port, Some(("bob", &long)))
        .check(exit, Code::ExitAuthFailed, "255 bytes")
        .await;
}

#[tokio::test]
async fn each_reply_has_its_meaning() {
    use {Blame as B, Code as C};
    macro_rules! reply {
        ($reply:literal, $blame:expr, $code:expr) => {{
            const SCRIPT: &[Act] =
                &[Hear(3), Say(b"\x05\x00"), Hear(ASKED - 3), Say(&[5, $reply, 0, 1, 0, 0, 0, 0, 0, 0])];
            socks5h(answering(SCRIPT).await).check($blame, $code, concat!("SOCKS5 reply ", $reply)).await;
        }};
    }
    reply!(1, B::Target, C::ExitRefusedTarget);
    reply!(2, B::Target, C::ExitRefusedTarget);
    reply!(3, B::Target, C::TargetUnreachable);
    reply!(4, B::Target, C::TargetUnreachable);
    reply!(5, B::Target, C::TargetRefused);
    reply!(6, B::Target, C::TargetTimeout);
    reply!(7, B::Exit, C::ExitFailed);
    reply!(8, B::Exit, C::ExitFailed);
    reply!(9, B::Target, C::ExitRefusedTarget);
    reply!(255, B::Target, C::ExitRefusedTarget);
}

#[tokio::test]
async fn what_is_no_answer_is_the_exits_and_silence_is_neither() {
    for script in [
        &[Hear(3), Say(b"HTTP/1.1 400 Bad Request\r\n\r\n")][..],
        &[Hear(3), Say(b"\x04\x00")],
        &[Hear(3), Say(b"\x05\x00"), Hear(ASKED - 3), Say(b"\x00\x5a\0\0\0\0\0\0")],
        &[Hear(3), Say(b"\x05\x00"), Hear(ASKED - 3), Say(b"\x05\x00\x00\x07\0\0\0\0\0\0")],
        &[Hear(3), Say(b"\x05\x00"), Hear(ASKED - 3), Say(b"\x05")],
        &[Hear(3), Say(b"\x05\x00"), Hear(ASKED - 3)],
        &[Hear(3)],
        &[Reset],
        &[],
    ] {
        socks5h(answering(script).await).check(Blame::Exit, Code::ExitFailed, "upstream").await;
    }
    socks5h(closed_port().await).check(Blame::Exit, Code::ExitFailed, "cannot be reached").await;
    for script in [&[Hang][..], &[Hear(3), Say(b"\x05"), Hang], &[Hear(3), Say(b"\x05\x00"), Hang]] {
        let case = socks5h(answering(script).await).handshake(BRIEF);
        case.check(Blame::Silence, Code::TargetTimeout, "in time").await;
    }
}

#[tokio::test]
async fn a_bound_name_is_read_past() {
    let peer = Peer::start(&[&[
        Hear(3),
        Say(b"\x05\x00"),
        Hear(ASKED - 3),
        Say(b"\x05\x00\x00\x03\x04host\x00\x50after"),
        Hang,
    ]])
    .await;
    let mut dialed = socks5h(peer.port).dial().await.unwrap();
    let mut after = [0; 5];
    dialed.wire.read_exact(&mut after).await.unwrap();
    assert_eq!(&after, b"after");
}
