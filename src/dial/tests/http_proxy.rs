use super::Act::*;
use super::*;

fn http(port: u16) -> Case {
    Case::upstream(Scheme::Http, port, LOGIN)
}

fn template(port: u16) -> Case {
    let mut case = Case::upstream(Scheme::Http, port, TEMPLATE);
    case.variant = Variant::Token("t0ken".into());
    case
}

async fn answering(script: &'static [Act]) -> u16 {
    Peer::start(&[script]).await.port
}

#[tokio::test]
async fn a_tunnel_is_asked_for_with_nothing_of_the_clients() {
    let peer =
        Peer::start(&[&[HearHead, Say(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nbehind "), Say(b"it")]])
            .await;
    let mut dialed = http(peer.port).dial().await.unwrap();
    assert_eq!(dialed.form, Form::Origin);
    let mut behind = String::new();
    dialed.wire.read_to_string(&mut behind).await.unwrap();
    assert_eq!(behind, "behind it");
    assert_eq!(
        String::from_utf8(peer.heard(0)).unwrap(),
        "CONNECT origin.test:443 HTTP/1.1\r\nHost: origin.test:443\r\n\
         Proxy-Authorization: Basic Ym9iOmh1bnRlcjI=\r\n\r\n"
    );

    let peer = Peer::start(&[&[HearHead, Say(b"HTTP/1.0 200 OK\r\n\r\n"), Hang]]).await;
    let case = Case::upstream(Scheme::Http, peer.port, None).target("[2606:4700::1]:443");
    case.dial().await.unwrap();
    assert_eq!(
        String::from_utf8(peer.heard(0)).unwrap(),
        "CONNECT [2606:4700::1]:443 HTTP/1.1\r\nHost: [2606:4700::1]:443\r\n\r\n"
    );
}

#[tokio::test]
async fn a_template_is_filled() {
    let peer = Peer::start(&[&[HearHead, Say(b"HTTP/1.1 200 OK\r\n\r\n"), Hang]]).await;
    let mut case = template(peer.port);
    case.asked = vec![("country", "us".into())];
    case.dial().await.unwrap();
    let heard = String::from_utf8(peer.heard(0)).unwrap();
    // bob-us-t0ken-10:hunter2
    assert!(heard.contains("Basic Ym9iLXVzLXQwa2VuLTEwOmh1bnRlcjI=\r\n"), "{heard}");
}

#[tokio::test]
async fn plain_requests_need_no_tunnel() {
    let peer = Peer::start(&[&[Hear(4), Say(b"pong")]]).await;
    let mut case = http(peer.port);
    case.purpose = Purpose::Plain;
    let mut dialed = case.dial().await.unwrap();
    let authorization = Some(Secret::new("Basic Ym9iOmh1bnRlcjI="));
    assert_eq!(dialed.form, Form::Absolute { authorization });
    dialed.wire.write_all(b"ping").await.unwrap();
    dialed.wire.read_exact(&mut [0; 4]).await.unwrap();
    assert_eq!(peer.heard(0), b"ping");
}

#[tokio::test]
async fn interim_answers_are_passed_over_up_to_a_bound() {
    let port = answering(&[
        HearHead,
        Say(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 x\r\n\r\nHTTP/1.1 200 OK\r\n\r\n"),
    ]);
    assert!(http(port.await).dial().await.is_ok());
    const ENDLESS: [Act; 18] = {
        let mut acts = [Say(b"HTTP/1.1 100 Continue\r\n\r\n"); 18];
        acts[17] = Hang;
        acts
    };
    http(answering(&ENDLESS).await).check(Blame::Exit, Code::ExitFailed, "without end").await;
}

#[tokio::test]
async fn a_refused_credential_is_the_exits_or_the_tokens() {
    const SCRIPT: &[Act] = &[HearHead, Say(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n")];
    http(answering(SCRIPT).await).check(Blame::Exit, Code::ExitAuthFailed, "407 Proxy").await;
    template(answering(SCRIPT).await).check(Blame::Token, Code::ExitAuthFailed, "407 Proxy").await;
}

#[tokio::test]
async fn other_answers_are_the_targets_unless_the_exit_says_otherwise() {
    const SCRIPT: &[Act] = &[HearHead, Say(b"HTTP/1.1 502 Bad Gateway\r\n\r\n")];
    http(answering(SCRIPT).await).check(Blame::Target, Code::ExitRefusedTarget, "502 Bad Gateway").await;
    template(answering(SCRIPT).await).check(Blame::Target, Code::ExitRefusedTarget, "502").await;
    let faulty = |mut case: Case| {
        case.exit.fault_status = [502].into();
        case
    };
    faulty(http(answering(SCRIPT).await)).check(Blame::Exit, Code::ExitFailed, "502 Bad Gateway").await;
    faulty(template(answering(SCRIPT).await)).check(Blame::Token, Code::ExitFailed, "502").await;
    for script in [
        &[HearHead, Say(b"HTTP/1.1 403 Forbidden\r\n\r\n")][..],
        &[HearHead, Say(b"HTTP/1.1 301 Moved\r\nLocation: http://x/\r\n\r\n")],
        &[HearHead, Say(b"HTTP/1.1 101 Switching Protocols\r\n\r\n")],
        &[Say(b"HTTP/1.1 503 \r\n\r\n")],
    ] {
        http(answering(script).await)
            .check(Blame::Target, Code::ExitRefusedTarget, "the upstream answered")
            .await;
    }
}

#[tokio::test]
async fn what_is_no_answer_is_the_exits() {
    for script in [
        &[HearHead, Say(b"SSH-2.0-OpenSSH_9.9\r\n\r\n")][..],
        &[HearHead, Say(b"HTTP/2.0 200 OK\r\n\r\n")],
        &[HearHead, Say(b"HTTP/1.1 200 OK\n\n"), Hang],
        &[HearHead, Say(b"HTTP/1.1 200 OK\r\n")],
        &[HearHead, Say(&[b'x'; 70_000]), Hang],
        &[HearHead],
        &[HearHead, Reset],
        &[Reset],
        &[],
    ] {
        template(answering(script).await).check(Blame::Exit, Code::ExitFailed, "upstream").await;
    }
}

#[tokio::test]
async fn silence_is_neither() {
    for script in [&[HearHead, Hang][..], &[Hang], &[HearHead, Say(b"HTTP/1.1 2"), Hang]] {
        http(answering(script).await)
            .handshake(BRIEF)
            .check(Blame::Silence, Code::TargetTimeout, "did not answer in time")
            .await;
    }
}

#[tokio::test]
async fn an_upstream_that_cannot_be_reached_is_the_exits() {
    http(closed_port().await).check(Blame::Exit, Code::ExitFailed, "cannot be reached").await;
    template(closed_port().await).check(Blame::Exit, Code::ExitFailed, "cannot be reached").await;

    let named = |name: &str| {
        let host = Host::Name(name.into());
        let upstream =
            Upstream { scheme: Scheme::Http, host, port: 1, credential: None, trust: Trust::System };
        Case::new(Via::Upstream(Arc::new(upstream)))
    };
    named("nx.test").check(Blame::Exit, Code::ExitFailed, "does not resolve").await;
    let mut mute = named("mute.test");
    mute.timeouts.dns = BRIEF;
    mute.check(Blame::Exit, Code::ExitTimeout, "in time").await;
}

#[tokio::test]
async fn an_upstream_is_found_by_name_whatever_its_address() {
    let peer = Peer::start(&[&[HearHead, Say(b"HTTP/1.1 200 OK\r\n\r\n"), Hang]]).await;
    let host = Host::Name("lo.test".into());
    let upstream =
        Upstream { scheme: Scheme::Http, host, port: peer.port, credential: None, trust: Trust::System };
    Case::new(Via::Upstream(Arc::new(upstream))).dial().await.unwrap();
}

#[tokio::test]
async fn an_answer_that_repeats_the_credential_is_not_passed_on() {
    let port = answering(&[HearHead, Say(b"HTTP/1.1 403 hunter2 is no password\r\n\r\n")]).await;
    http(port).check(Blame::Target, Code::ExitRefusedTarget, "answered 403").await;
    let port = answering(&[HearHead, Say(b"HTTP/1.1 407 Ym9iOmh1bnRlcjI= is wrong\r\n\r\n")]).await;
    let fault = http(port).dial().await.map(drop).unwrap_err().fault;
    assert!(fault.detail().ends_with("407"), "{fault}");
    for (reason, shown) in
        [("for a user b", "403"), ("Forbidden by Basic rules", "403 Forbidden by Basic rules")]
    {
        let text = format!("HTTP/1.1 403 {reason}\r\n\r\n").leak();
        let script: &'static [Act] = vec![HearHead, Say(text.as_bytes())].leak();
        let case = Case::upstream(Scheme::Http, answering(script).await, Some(("b", "")));
        let fault = case.dial().await.map(drop).unwrap_err().fault;
        assert!(fault.detail().ends_with(&format!("answered {shown}")), "{fault}");
    }
}

/// An upstream at a private address stands in our own network: what it would
/// resolve is resolved here as well.
#[tokio::test]
async fn private_answers_are_refused_for_an_upstream_of_our_own() {
    let peer = Peer::start(&[&[HearHead, Say(b"HTTP/1.1 200 OK\r\n\r\n"), Hang]]).await;
    let auto = |target: &str| {
        let mut case = http(peer.port).target(target);
        case.policy.resolve = Resolve::Auto;
        case
    };
    auto("v4-lo6.test:443").check(Blame::Target, Code::TargetForbidden, "loopback").await;
    auto("lo.test:443").check(Blame::Target, Code::TargetForbidden, "loopback").await;
    assert_eq!(peer.connections(), 0);
    auto("v4.test:443").dial().await.unwrap();
    auto("nx.test:443").dial().await.unwrap();
    auto("lo.test:443").private().dial().await.unwrap();
    http(peer.port).target("lo.test:443").dial().await.unwrap();

    let mut always = http(peer.port).target("nx.test:443");
    always.policy.resolve = Resolve::Always;
    always.check(Blame::Target, Code::TargetUnresolvable, "does not exist").await;
}

mod tls {
    use rustls_pki_types::pem::PemObject;
    use rustls_pki_types::{CertificateDer, PrivateKeyDer};
    use tokio_rustls::TlsAcceptor;
    use tokio_rustls::rustls::ServerConfig;

    use super::*;

    /// A TLS upstream that plays the script; its port, and the root that
    /// vouches for it.
    async fn start(script: &'static [Act]) -> (u16, Trust) {
        let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
        let certificate = CertificateDer::from_pem_slice(made.cert.pem().as_bytes()).unwrap();
        let key = PrivateKeyDer::from_pem_slice(made.signing_key.serialize_pem().as_bytes()).unwrap();
        let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            let (tcp, _) = listener.accept().await.unwrap();
            if let Ok(mut tls) = acceptor.accept(tcp).await {
                let log = Mutex::new(vec![Vec::new()]);
                for act in script {
                    perform(&mut tls, *act, &log, 0).await;
                }
            }
        });
        (port, Trust::Roots(made.cert.pem().into_bytes().into()))
    }

    fn https(port: u16, trust: Trust) -> Case {
        let host = Host::Ip(Ipv4Addr::LOCALHOST.into());
        let upstream = Upstream { scheme: Scheme::Https, host, port, credential: None, trust };
        Case::new(Via::Upstream(Arc::new(upstream)))
    }

    #[tokio::test]
    async fn a_trusted_upstream_is_used() {
        let (port, trust) = start(&[HearHead, Say(b"HTTP/1.1 200 OK\r\n\r\nhello"), Hang]).await;
        let mut dialed = https(port, trust).dial().await.unwrap();
        let mut hello = [0; 5];
        dialed.wire.read_exact(&mut hello).await.unwrap();
        assert_eq!(&hello, b"hello");
        let (port, _) = start(&[HearHead, Say(b"HTTP/1.1 200 OK\r\n\r\n"), Hang]).await;
        https(port, Trust::Anything).dial().await.unwrap();
    }

    #[tokio::test]
    async fn tls_that_fails_is_the_exits() {
        let (port, _) = start(&[HearHead, Hang]).await;
        let (_, other) = start(&[Hang]).await;
        https(port, other.clone()).check(Blame::Exit, Code::ExitFailed, "no TLS with the upstream").await;
        let plain = answering(&[Say(b"HTTP/1.1 400 Bad Request\r\n\r\n")]).await;
        https(plain, other.clone()).check(Blame::Exit, Code::ExitFailed, "no TLS with the upstream").await;
        https(answering(&[]).await, other.clone()).check(Blame::Exit, Code::ExitFailed, "no TLS").await;
        let mute = https(answering(&[Hear(1), Hear(100_000)]).await, other).handshake(BRIEF);
        mute.check(Blame::Silence, Code::TargetTimeout, "did not answer in time").await;
    }
}
