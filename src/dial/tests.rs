//! Every row of "whose fault", over loopback, with upstreams that do as they
//! are told and record what they hear.

use std::net::Ipv4Addr;
use std::sync::Mutex;

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;
use crate::core::exit::{Credential, Labels, Mode, Trust};
use crate::core::pin::ExitName;
use crate::core::policy::{Own, Private, Resolve, TargetPolicy};
use crate::core::target::Target;
use crate::core::template::Template;
use crate::net::resolve::tests::NameServer;

mod direct;
mod http_proxy;
mod socks5_proxy;

/// What an upstream does on each connection, one after the other.
#[derive(Clone, Copy, Debug)]
enum Act {
    Say(&'static [u8]),
    /// Hears so many bytes.
    Hear(usize),
    /// Hears a head to its empty line.
    HearHead,
    Reset,
    /// Does nothing until the client goes.
    Hang,
}

/// An upstream that plays one script for each connection, the last one again
/// and again.
struct Peer {
    port: u16,
    heard: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl Peer {
    async fn start(scripts: &[&'static [Act]]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let heard = Arc::new(Mutex::new(Vec::new()));
        let (scripts, log) = (scripts.to_vec(), heard.clone());
        tokio::spawn(async move {
            for at in 0.. {
                let (stream, _) = listener.accept().await.unwrap();
                log.lock().unwrap().push(Vec::new());
                let script = scripts[at.min(scripts.len() - 1)];
                tokio::spawn(play(stream, script, log.clone(), at));
            }
        });
        Self { port, heard }
    }

    /// What the n-th connection heard.
    fn heard(&self, at: usize) -> Vec<u8> {
        self.heard.lock().unwrap()[at].clone()
    }

    fn connections(&self) -> usize {
        self.heard.lock().unwrap().len()
    }
}

async fn play(mut stream: TcpStream, script: &[Act], log: Arc<Mutex<Vec<Vec<u8>>>>, at: usize) {
    for act in script {
        if matches!(act, Act::Reset) {
            SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
            return;
        }
        perform(&mut stream, *act, &log, at).await;
    }
}

async fn perform(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    act: Act,
    log: &Mutex<Vec<Vec<u8>>>,
    at: usize,
) {
    let mut heard = Vec::new();
    match act {
        Act::Say(bytes) => stream.write_all(bytes).await.unwrap(),
        Act::Hear(count) => {
            heard.resize(count, 0);
            stream.read_exact(&mut heard).await.unwrap();
        }
        Act::HearHead => {
            while !heard.ends_with(b"\r\n\r\n") {
                heard.push(stream.read_u8().await.unwrap());
            }
        }
        Act::Hang => while stream.read(&mut [0; 64]).await.is_ok_and(|read| read > 0) {},
        Act::Reset => unreachable!(),
    }
    log.lock().unwrap()[at].extend(heard);
}

/// A port on which nobody listens.
async fn closed_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    listener.local_addr().unwrap().port()
}

/// What is dialled, with everything that a test does not care about.
struct Case {
    exit: Exit,
    variant: Variant,
    target: String,
    policy: TargetPolicy,
    purpose: Purpose,
    asked: Vec<(&'static str, Box<str>)>,
    timeouts: DialTimeouts,
}

impl Case {
    fn new(via: Via) -> Self {
        let name = ExitName { pool: "p".into(), id: "e".into() };
        let exit = Exit {
            name,
            via,
            weight: 1,
            labels: Labels::default(),
            address: None,
            max_sessions: 0,
            max_connections: 0,
            max_ttl: None,
            mode: Mode::Active,
            fault_status: Arc::default(),
            digest: 0,
        };
        let long = Duration::from_secs(5);
        Self {
            exit,
            variant: Variant::None,
            target: "origin.test:443".to_owned(),
            policy: TargetPolicy { resolve: Resolve::Never, ..TargetPolicy::default() },
            purpose: Purpose::Tunnel,
            asked: Vec::new(),
            timeouts: DialTimeouts { dns: long, connect: long, handshake: long, response: long },
        }
    }

    /// Through an upstream on loopback.
    fn upstream(scheme: Scheme, port: u16, login: Option<(&str, &str)>) -> Self {
        let template = |text| Template::parse(text).unwrap();
        let credential =
            login.map(|(user, password)| Credential { user: template(user), password: template(password) });
        let host = Host::Ip(Ipv4Addr::LOCALHOST.into());
        let upstream = Upstream { scheme, host, port, credential, trust: Trust::System };
        Self::new(Via::Upstream(Arc::new(upstream)))
    }

    fn target(mut self, target: impl Into<String>) -> Self {
        self.target = target.into();
        self
    }

    fn private(mut self) -> Self {
        self.policy.private = Private::Yes;
        self
    }

    fn handshake(mut self, limit: Duration) -> Self {
        self.timeouts.handshake = limit;
        self
    }

    async fn dial_with(&self, resolver: Resolver) -> Result<Dialed, DialFault> {
        let policy = Arc::new(self.policy.clone());
        let target = policy.judge(Target::parse(&self.target).unwrap(), &Arc::new(Own::default())).unwrap();
        let request = DialRequest {
            exit: &self.exit,
            variant: &self.variant,
            target: &target,
            purpose: self.purpose,
            ttl: Ttl::from_secs(600).unwrap(),
            asked: &self.asked,
            timeouts: &self.timeouts,
            via: None,
        };
        let dialer = Dialer::new(Arc::new(resolver));
        fn assert_send<T: Send>(future: T) -> T {
            future
        }
        assert_send(dialer.dial(request)).await
    }

    async fn dial(&self) -> Result<Dialed, DialFault> {
        let server = NameServer::start().await;
        self.dial_with(server.resolver()).await
    }

    /// The dial fails so, and the detail tells no secret and holds this.
    #[track_caller]
    fn check(&self, blame: Blame, code: Code, detail: &'static str) -> impl Future<Output = ()> + use<'_> {
        let at = std::panic::Location::caller();
        async move {
            let DialFault { blame: blamed, fault } = self.dial().await.map(drop).unwrap_err();
            assert_eq!((blamed, fault.code()), (blame, code), "{fault} at {at}");
            assert!(fault.detail().contains(detail), "{fault} at {at}");
            assert!(!fault.detail().contains("hunter2"), "{fault} at {at}");
        }
    }
}

const BRIEF: Duration = Duration::from_millis(150);
const LOGIN: Option<(&str, &str)> = Some(("bob", "hunter2"));
const TEMPLATE: Option<(&str, &str)> = Some(("bob-{country}-{session}-{ttl_minutes}", "hunter2"));

#[test]
fn a_label_is_as_the_pool_file_writes_it() {
    let mut case = Case::upstream(Scheme::Http, 1, Some(("{city}/{country}/{session}", "x")));
    case.exit.labels = Labels::new([("city", "Boston"), ("city", "New York")]);
    case.variant = Variant::Token("t0ken".into());
    let user = |case: &Case| {
        let policy = Arc::new(TargetPolicy::default());
        let target = policy.judge(Target::parse("a.test:1").unwrap(), &Arc::default()).unwrap();
        let request = DialRequest {
            exit: &case.exit,
            variant: &case.variant,
            target: &target,
            purpose: Purpose::Tunnel,
            ttl: Ttl::MIN,
            asked: &case.asked,
            timeouts: &case.timeouts,
            via: None,
        };
        Login::of(&request, case.exit.via.upstream().unwrap()).unwrap().user.expose().to_owned()
    };
    assert_eq!(user(&case), "Boston//t0ken");
    case.asked = vec![("city", "new_york".into()), ("country", "US".into())];
    assert_eq!(user(&case), "New York/US/t0ken");
}
