//! One record for each tunnel and request, whatever became of it.
//!
//! Owns: the fields of an access record, and that it is written exactly once.
//! Must not know: how a request is served. Texts are recorded as strings,
//! which the writers quote and escape: nothing that a client sends can forge
//! a line.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::events::Event;
use super::instruments::Instruments;
use super::log::ACCESS;
use crate::core::code::Code;
use crate::core::pin::{ExitName, News};
use crate::core::session::{SessionId, UserName};

/// What a client did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A CONNECT.
    Tunnel,
    /// A plain request.
    Forward,
    /// What never became one of them.
    Refused,
}

impl Kind {
    /// Every kind.
    pub(crate) const ALL: [Self; 3] = [Self::Tunnel, Self::Forward, Self::Refused];

    /// The word in records and metrics.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Tunnel => "tunnel",
            Self::Forward => "forward",
            Self::Refused => "refused",
        }
    }
}

/// An access record: filled by the stages of a request, written when dropped.
#[derive(Debug)]
pub(crate) struct Record {
    /// What it is of.
    pub(crate) kind: Kind,
    client: SocketAddr,
    started: Instant,
    instruments: Arc<Instruments>,
    /// Who asked.
    pub(crate) user: Option<UserName>,
    /// Of which pool.
    pub(crate) pool: Option<Arc<str>>,
    /// For which session.
    pub(crate) session: Option<SessionId>,
    /// What the answer said of the session.
    pub(crate) news: Option<News>,
    /// Through which exit.
    pub(crate) exit: Option<ExitName>,
    /// What the origin saw.
    pub(crate) address: Option<IpAddr>,
    /// Where to: host and port.
    pub(crate) target: Option<String>,
    /// The answer's status.
    pub(crate) status: Option<u16>,
    /// Our own failure, where there was one.
    pub(crate) code: Option<Code>,
    /// The sentence that went with it.
    pub(crate) detail: Option<String>,
    /// How a tunnel or body ended, where not well.
    pub(crate) end: Option<&'static str>,
    /// From the client, in bytes.
    pub(crate) up: u64,
    /// To the client, in bytes.
    pub(crate) down: u64,
    /// Until the exit was connected.
    pub(crate) connected: Option<Duration>,
    /// Until the first byte of a plain request's answer.
    pub(crate) answered: Option<Duration>,
    /// Of that, for names.
    pub(crate) dns: Option<Duration>,
    /// Of that, for TLS and the upstream's answer.
    pub(crate) handshake: Option<Duration>,
    forgotten: bool,
}

impl Record {
    /// Begins with the request.
    pub(crate) fn begin(kind: Kind, client: SocketAddr, instruments: &Arc<Instruments>) -> Self {
        Self {
            kind,
            client,
            instruments: instruments.clone(),
            started: Instant::now(),
            user: None,
            pool: None,
            session: None,
            news: None,
            exit: None,
            address: None,
            target: None,
            status: None,
            code: None,
            detail: None,
            end: None,
            up: 0,
            down: 0,
            connected: None,
            answered: None,
            dns: None,
            handshake: None,
            forgotten: false,
        }
    }

    /// It is not to be written: another process serves the request, and
    /// records it.
    pub(crate) fn forget(&mut self) {
        self.forgotten = true;
    }

    /// Notes that the exit is connected.
    pub(crate) fn connected(&mut self) {
        self.connected = Some(self.started.elapsed());
    }

    /// Notes that the answer has begun.
    pub(crate) fn answered(&mut self) {
        self.answered = Some(self.started.elapsed());
    }

    /// Leaves its marks on the gateway's counts.
    fn count(&self) {
        let instruments = &self.instruments;
        instruments.request(self.kind, self.code);
        if let Some(connected) = self.connected {
            instruments.connect.record(connected);
        }
        if let Some(answered) = self.answered {
            instruments.first_byte.record(answered);
        }
        if self.kind == Kind::Tunnel && self.connected.is_some() {
            instruments.tunnels.record(self.started.elapsed());
        }
        let failed = |code: Code| Event::Failed {
            code: code.name(),
            status: code.status(),
            detail: self.detail.clone(),
            user: self.user.clone(),
            pool: self.pool.clone(),
            exit: self.exit.as_ref().map(|exit| exit.id.clone()),
        };
        match self.code {
            // So many clients begin: it would drive out what has failed.
            Some(code @ Code::AuthRequired) => instruments.events.tell(|| failed(code)),
            Some(code) => instruments.events.tell_failure(failed(code)),
            None => {}
        }
    }
}

fn millis(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e6).round() / 1e3
}

impl Drop for Record {
    fn drop(&mut self) {
        if self.forgotten {
            return;
        }
        self.count();
        if !tracing::enabled!(target: ACCESS, tracing::Level::INFO) {
            return;
        }
        let client = self.client.to_string();
        let address = self.address.map(|address| address.to_string());
        let exit = self.exit.as_ref().map(|exit| &*exit.id);
        tracing::info!(
            target: ACCESS,
            kind = self.kind.word(),
            client = client.as_str(),
            user = self.user.as_deref(),
            pool = self.pool.as_deref(),
            session = self.session.as_ref().map(SessionId::as_str),
            news = self.news.map(News::word),
            exit,
            exit_address = address.as_deref(),
            target = self.target.as_deref(),
            status = self.status,
            code = self.code.map(Code::name),
            detail = self.detail.as_deref(),
            end = self.end,
            bytes_up = self.up,
            bytes_down = self.down,
            dns_ms = self.dns.map(millis),
            handshake_ms = self.handshake.map(millis),
            connect_ms = self.connected.map(millis),
            duration_ms = millis(self.started.elapsed()),
            "access"
        );
    }
}
