//! Out through an HTTP proxy, over TCP or TLS.
//!
//! Owns: the CONNECT that is sent and what its answer means; bytes behind the
//! answer stay in the wire.
//! Must not know: what goes through the tunnel, how plain requests are written.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, timeout_at};

use super::{
    DialFault, DialRequest, Dialer, Form, Login, Purpose, Timings, answer_blame, exit_fault, silence,
    target_fault,
};
use crate::core::code::Code;
use crate::core::exit::{Exit, Scheme, Upstream};
use crate::core::fault::Fault;
use crate::core::policy::Vetted;
use crate::core::secret::Secret;
use crate::http1::head::{HeadLimits, ResponseHead, Scan, parse_response};
use crate::net::wire::Wire;

/// How many interim answers an upstream may send before its answer.
const MOST_INTERIM: usize = 16;

/// How much of a status line is told to a client.
const SHOWN_REASON: usize = 100;

impl Dialer {
    pub(super) async fn http_proxy(
        &self,
        request: &DialRequest<'_>,
        up: &Upstream,
        timings: &mut Timings,
    ) -> Result<(Wire, Form), DialFault> {
        let addresses = self.upstream_addresses(up, request.timeouts, timings).await?;
        let vetted = self.vet_for_upstream(request, &addresses, timings).await?;
        let login = Login::of(request, up);
        let tcp = self.connect_upstream(&addresses, up, request.timeouts, timings).await?;

        let begun = Instant::now();
        let shaken = timeout_at(begun + request.timeouts.handshake, async {
            let wire = match up.scheme {
                Scheme::Https => self.tls.connect(tcp, &up.host, &up.trust).await.map_err(|error| {
                    exit_fault(Code::ExitFailed, format!("no TLS with the upstream: {error}"))
                })?,
                _ => Wire::dialled(tcp),
            };
            let authorization = login.as_ref().map(basic);
            match request.purpose {
                Purpose::Plain => Ok((wire, Form::Absolute { authorization })),
                Purpose::Tunnel => {
                    let wire = tunnel(wire, request, &vetted, login.as_ref(), authorization).await?;
                    Ok((wire, Form::Origin))
                }
            }
        });
        let result = shaken.await.unwrap_or_else(|_| Err(silence()));
        timings.handshake += begun.elapsed();
        result
    }
}

/// The value of `Proxy-Authorization` (RFC 7617).
fn basic(login: &Login) -> Secret {
    let pair = Secret::new(format!("{}:{}", login.user.expose(), login.password.expose()));
    Secret::new(format!("Basic {}", BASE64_STANDARD.encode(pair.expose())))
}

/// Asks for a tunnel. Nothing of the client's is sent but the target.
async fn tunnel(
    mut wire: Wire,
    request: &DialRequest<'_>,
    vetted: &Vetted,
    login: Option<&Login>,
    authorization: Option<Secret>,
) -> Result<Wire, DialFault> {
    let target = vetted.target();
    let credential = authorization
        .map_or_else(String::new, |value| format!("Proxy-Authorization: {}\r\n", value.expose()));
    let via = request.via.map_or_else(String::new, |name| format!("Via: 1.1 {name}\r\n"));
    let head = Secret::new(format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n{via}{credential}\r\n"));
    // An upstream may answer and close before it has read it all: what it
    // says then counts, and if it says nothing the read tells.
    let _ = wire.write_all(head.expose().as_bytes()).await;
    let _ = wire.flush().await;

    let (answer, rest) = final_answer(&mut wire).await?;
    match answer.status() {
        // An empty rest would hold its buffer for as long as the tunnel lives.
        200..=299 if rest.is_empty() => Ok(wire),
        200..=299 => Ok(wire.with_unread(rest.freeze())),
        _ => Err(refusal(request.exit, &answer, login)),
    }
}

/// The first head that is no interim answer, and the bytes behind it.
async fn final_answer(wire: &mut Wire) -> Result<(ResponseHead, BytesMut), DialFault> {
    let limits = HeadLimits::default();
    let mut buffer = BytesMut::with_capacity(1024);
    let mut interim = 0;
    let mut scan = Scan::default();
    loop {
        let parsed = parse_response(&buffer, &mut scan, &limits).map_err(|violation| {
            exit_fault(Code::ExitFailed, format!("the upstream's answer is not usable HTTP: {violation}"))
        })?;
        match parsed {
            Some((head, eaten)) => {
                let _ = buffer.split_to(eaten);
                if !(100..=199).contains(&head.status()) || head.status() == 101 {
                    return Ok((head, buffer));
                }
                interim += 1;
                if interim > MOST_INTERIM {
                    return Err(exit_fault(
                        Code::ExitFailed,
                        "the upstream sends interim answers without end",
                    ));
                }
                scan = Scan::default();
            }
            None => match wire.read_buf(&mut buffer).await {
                Ok(1..) => {}
                Ok(0) | Err(_) => {
                    return Err(exit_fault(Code::ExitFailed, "the upstream broke off before its answer"));
                }
            },
        }
    }
}

/// What an answer other than 2xx means (SPEC §6, "Whose fault").
fn refusal(exit: &Exit, answer: &ResponseHead, login: Option<&Login>) -> DialFault {
    let said = said(answer, login);
    let status = answer.status();
    let of_exit = |code, detail| DialFault { blame: answer_blame(exit), fault: Fault::new(code, detail) };
    if status == 407 {
        of_exit(Code::ExitAuthFailed, format!("the upstream refused the exit's credential: {said}"))
    } else if exit.fault_status.contains(&status) {
        of_exit(Code::ExitFailed, format!("the upstream answered {said}, which means that the exit failed"))
    } else {
        target_fault(Fault::new(Code::ExitRefusedTarget, format!("the upstream answered {said}")))
    }
}

/// Not a control of a terminal or of the text's direction, nor a line's end.
fn is_printed(c: char) -> bool {
    c.is_ascii_graphic() || c == ' ' || (!c.is_ascii() && c.escape_debug().len() == 1)
}

/// Status and reason, without what no client may see.
fn said(answer: &ResponseHead, login: Option<&Login>) -> String {
    let status = answer.status();
    let reason: String = String::from_utf8_lossy(answer.reason())
        .chars()
        .filter(|c| is_printed(*c))
        .take(SHOWN_REASON)
        .collect();
    let tells = login.is_some_and(|login| {
        let value = basic(login);
        let encoded = value.expose().trim_start_matches("Basic ");
        login.is_told_by(&reason) || reason.contains(encoded)
    });
    if tells || reason.is_empty() { status.to_string() } else { format!("{status} {reason}") }
}
