//! Asking a URL through an exit, to see whether the exit works.
//!
//! Owns: one request and its answer, as an HTTP client of our own.
//! Must not know: when an exit is probed, what follows.

use std::future::poll_fn;
use std::net::IpAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;

use bytes::Bytes;
use http::{HeaderValue, Request, header};
use hyper::body::{Body, Incoming};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::time::timeout;

use super::{DialFault, DialRequest, Dialer, Form, Purpose};
use crate::core::code::Code;
use crate::core::exit::{Exit, Trust};
use crate::core::fault::{Blame, Fault};
use crate::core::pin::Variant;
use crate::core::policy::{Own, Private, TargetPolicy};
use crate::core::pool::DialTimeouts;
use crate::core::probe::{Probe, ProbeUrl, address_in};
use crate::core::time::Ttl;

/// As much of an answer is read.
const MOST_BODY: usize = 4096;

impl Dialer {
    /// Probes an exit: the address that its answer tells, if it tells one.
    ///
    /// # Errors
    /// Whose fault it is that there was no answer with a status of 2xx. Of
    /// what happens behind the dial, a refused credential alone is the exit's
    /// for sure; the rest is the target's, as far as one probe can tell.
    pub(crate) async fn probe(
        &self,
        probe: &Probe,
        exit: &Exit,
        variant: &Variant,
        timeouts: &DialTimeouts,
    ) -> Result<Option<IpAddr>, DialFault> {
        let asked = timeout(probe.timeout, self.ask(&probe.url, exit, variant, timeouts)).await;
        asked.unwrap_or_else(|_| Err(targets("no answer to the probe came in time")))
    }

    async fn ask(
        &self,
        url: &ProbeUrl,
        exit: &Exit,
        variant: &Variant,
        timeouts: &DialTimeouts,
    ) -> Result<Option<IpAddr>, DialFault> {
        // The URL is the operator's word: nothing is refused.
        let policy = Arc::new(TargetPolicy {
            private: Private::Yes,
            ports: Some(vec![1..=u16::MAX]),
            ..TargetPolicy::default()
        });
        let own = Arc::new(Own::new(Vec::new(), Vec::new()));
        let target = policy
            .judge(url.target.clone(), &own)
            .map_err(|fault| DialFault { blame: Blame::Target, fault })?;
        let purpose = if url.tls { Purpose::Tunnel } else { Purpose::Plain };
        let (ttl, asked, via) = (Ttl::MIN, &[][..], None);
        let request = DialRequest { exit, variant, target: &target, purpose, ttl, asked, timeouts, via };
        let dialed = self.dial(request).await?;
        let request = request_for(url, &dialed.form);
        if !url.tls {
            return exchange(dialed.wire, request, &dialed.form, exit).await;
        }
        let tls = self.tls.over(dialed.wire, &url.target.host, &Trust::System).await;
        let tls = tls.map_err(|error| targets(format!("the probe's target: {error}")))?;
        exchange(tls, request, &dialed.form, exit).await
    }
}

fn request_for(url: &ProbeUrl, form: &Form) -> Request<Nothing> {
    let mut request = Request::new(Nothing);
    let uri = match form {
        Form::Origin => url.path.parse(),
        Form::Absolute { .. } => format!("http://{}{}", url.authority, url.path).parse(),
    };
    if let Ok(uri) = uri {
        *request.uri_mut() = uri;
    }
    let fields = request.headers_mut();
    if let Ok(host) = HeaderValue::from_str(&url.authority) {
        fields.insert(header::HOST, host);
    }
    let agent = concat!("moorgate/", env!("CARGO_PKG_VERSION"));
    fields.insert(header::USER_AGENT, HeaderValue::from_static(agent));
    fields.insert(header::ACCEPT, HeaderValue::from_static("application/json, text/plain, */*"));
    fields.insert(header::CONNECTION, HeaderValue::from_static("close"));
    if let Form::Absolute { authorization: Some(credential) } = form
        && let Ok(mut value) = HeaderValue::from_str(credential.expose())
    {
        value.set_sensitive(true);
        fields.insert(header::PROXY_AUTHORIZATION, value);
    }
    request
}

async fn exchange<T>(
    stream: T,
    request: Request<Nothing>,
    form: &Form,
    exit: &Exit,
) -> Result<Option<IpAddr>, DialFault>
where
    T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    let broken = |error: hyper::Error| targets(format!("no answer to the probe: {error}"));
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
    let exchange = async {
        let answer = sender.send_request(request).await.map_err(broken)?;
        let status = answer.status();
        if status.as_u16() == 407 && matches!(form, Form::Absolute { .. }) {
            let blame = super::answer_blame(exit);
            let fault =
                Fault::new(Code::ExitAuthFailed, "the upstream refused the exit's credential for a probe");
            return Err(DialFault { blame, fault });
        }
        if !status.is_success() {
            return Err(targets(format!("the probe was answered with {}", status.as_u16())));
        }
        Ok(address_in(&start_of(answer.into_body()).await.map_err(broken)?))
    };
    // The connection moves what the exchange waits for; it may end first.
    let (mut exchange, mut connection) = (pin!(exchange), pin!(connection));
    let mut connected = true;
    poll_fn(|cx| {
        if connected && connection.as_mut().poll(cx).is_ready() {
            connected = false;
        }
        exchange.as_mut().poll(cx)
    })
    .await
}

async fn start_of(mut body: Incoming) -> Result<Vec<u8>, hyper::Error> {
    let mut start = Vec::new();
    while start.len() < MOST_BODY {
        let Some(frame) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await else { break };
        if let Ok(data) = frame?.into_data() {
            start.extend_from_slice(&data[..data.len().min(MOST_BODY - start.len())]);
        }
    }
    Ok(start)
}

fn targets(detail: impl Into<std::borrow::Cow<'static, str>>) -> DialFault {
    DialFault { blame: Blame::Target, fault: Fault::new(Code::BadResponse, detail) }
}

/// A request's body.
struct Nothing;

impl Body for Nothing {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> Poll<Option<Result<hyper::body::Frame<Bytes>, Self::Error>>> {
        Poll::Ready(None)
    }

    fn is_end_stream(&self) -> bool {
        true
    }
}
