//! Out through a SOCKS5 proxy (RFC 1928, RFC 1929).
//!
//! Owns: the client's side of the handshake and what a reply means.
//! Must not know: what goes through the tunnel.
//!
//! The handshake is spoken here rather than by fast-socks5's client, which
//! panics on a reply beyond 8, writes a credential of more than 255 bytes
//! with a wrong length, repeats the user in its errors, and offers to go
//! without a credential always, so that a vendor's gateway may never see the
//! session in it.

use std::net::IpAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, timeout_at};
use zeroize::Zeroizing;

use super::{
    DialFault, DialRequest, Dialer, Form, Login, Timings, answer_blame, exit_fault, silence, target_fault,
};
use crate::core::code::Code;
use crate::core::exit::{Exit, Scheme, Upstream};
use crate::core::fault::{Blame, Fault};
use crate::core::policy::At;
use crate::core::target::Host;
use crate::net::wire::Wire;

/// How many addresses of a target an upstream is asked for.
const MOST_ADDRESSES: usize = 4;

const VERSION: u8 = 5;
const NO_LOGIN: u8 = 0;
const LOGIN: u8 = 2;

impl Dialer {
    pub(super) async fn socks5_proxy(
        &self,
        request: &DialRequest<'_>,
        up: &Upstream,
        timings: &mut Timings,
    ) -> Result<(Wire, Form), DialFault> {
        let addresses = self.upstream_addresses(up, request.timeouts, timings).await?;
        let vetted = match up.scheme {
            Scheme::Socks5 => self.vet(request, None, timings).await?,
            _ => self.vet_for_upstream(request, &addresses, timings).await?,
        };
        let login = Login::of(request, up);
        let port = vetted.target().port;
        let wanted = match vetted.at() {
            At::Addresses(all) => literals(all),
            At::Upstream => vec![vetted.target().host.clone()],
        };
        let mut first = None;
        let mut left = request.timeouts.handshake;
        for host in wanted {
            let tcp = self.connect_upstream(&addresses, up, request.timeouts, timings).await?;
            let mut wire = Wire::dialled(tcp);
            let begun = Instant::now();
            let shaken =
                timeout_at(begun + left, shake(&mut wire, request.exit, login.as_ref(), &host, port));
            let result = shaken.await.unwrap_or_else(|_| Err(silence()));
            let spent = begun.elapsed();
            timings.handshake += spent;
            left = left.saturating_sub(spent);
            match result {
                Ok(()) => return Ok((wire, Form::Origin)),
                // Another address of the target may do.
                Err(fault) if fault.blame == Blame::Target => first = first.or(Some(fault)),
                Err(fault) => return Err(first.unwrap_or(fault)),
            }
        }
        Err(first.unwrap_or_else(|| exit_fault(Code::ExitFailed, "the target has no address to ask for")))
    }
}

/// What a SOCKS5 server is asked for, IPv4 first: more of them have it.
fn literals(addresses: &[IpAddr]) -> Vec<Host> {
    let v4 = addresses.iter().filter(|ip| ip.is_ipv4());
    let v6 = addresses.iter().filter(|ip| ip.is_ipv6());
    v4.chain(v6).take(MOST_ADDRESSES).copied().map(Host::Ip).collect()
}

async fn shake(
    wire: &mut Wire,
    exit: &Exit,
    login: Option<&Login>,
    host: &Host,
    port: u16,
) -> Result<(), DialFault> {
    let refused = |detail: &'static str| DialFault {
        blame: answer_blame(exit),
        fault: Fault::new(Code::ExitAuthFailed, detail),
    };
    let greeting: &[u8] = match login {
        None => &[VERSION, 1, NO_LOGIN],
        // A vendor's gateway must see the session in the credential.
        Some(_) if exit.via.is_template() => &[VERSION, 1, LOGIN],
        Some(_) => &[VERSION, 2, NO_LOGIN, LOGIN],
    };
    send(wire, greeting).await?;
    let [version, method] = receive(wire).await?;
    if version != VERSION {
        return Err(no_socks());
    }
    match (method, login) {
        (NO_LOGIN, _) if greeting[2..].contains(&NO_LOGIN) => {}
        (LOGIN, Some(login)) => {
            let message = login_message(login).ok_or_else(|| {
                refused("the exit's user and password must have 1 to 255 bytes each for SOCKS5")
            })?;
            send(wire, &message).await?;
            // The sub-negotiation has a version of its own, which some
            // servers write as SOCKS5's.
            let [_, status] = receive(wire).await?;
            if status != 0 {
                return Err(refused("the upstream refused the exit's credential"));
            }
        }
        _ => return Err(refused("the upstream takes none of the exit's ways to log in")),
    }
    ask(wire, host, port).await
}

/// RFC 1929 §2.
fn login_message(login: &Login) -> Option<Zeroizing<Vec<u8>>> {
    let mut message = Zeroizing::new(Vec::with_capacity(3 + 255 + 255));
    message.push(1);
    for part in [&login.user, &login.password] {
        let text = part.expose().as_bytes();
        message.push(u8::try_from(text.len()).ok().filter(|length| *length > 0)?);
        message.extend_from_slice(text);
    }
    Some(message)
}

/// Asks for a connection; what the server sends behind its reply is not read.
async fn ask(wire: &mut Wire, host: &Host, port: u16) -> Result<(), DialFault> {
    let mut message = vec![VERSION, 1, 0];
    match host {
        Host::Ip(IpAddr::V4(ip)) => {
            message.push(1);
            message.extend_from_slice(&ip.octets());
        }
        Host::Ip(IpAddr::V6(ip)) => {
            message.push(4);
            message.extend_from_slice(&ip.octets());
        }
        Host::Name(name) => {
            let length = u8::try_from(name.len()).map_err(|_| name_too_long())?;
            message.extend_from_slice(&[3, length]);
            message.extend_from_slice(name.as_bytes());
        }
    }
    message.extend_from_slice(&port.to_be_bytes());
    send(wire, &message).await?;

    let [version, reply] = receive(wire).await?;
    if version != VERSION {
        return Err(no_socks());
    }
    if reply != 0 {
        return Err(refusal(reply));
    }
    let [_, kind] = receive(wire).await?;
    match kind {
        1 => drop(receive::<6>(wire).await?),
        4 => drop(receive::<18>(wire).await?),
        3 => {
            let [length] = receive(wire).await?;
            let mut bound = [0; 255 + 2];
            fill(wire, &mut bound[..usize::from(length) + 2]).await?;
        }
        _ => return Err(no_socks()),
    }
    Ok(())
}

/// What a reply other than 0 means (SPEC §6, "Whose fault").
fn refusal(reply: u8) -> DialFault {
    let meaning = match reply {
        1 => "general failure",
        2 => "not allowed by ruleset",
        3 => "network unreachable",
        4 => "host unreachable",
        5 => "connection refused",
        6 => "TTL expired",
        7 => "command not supported",
        8 => "address type not supported",
        _ => "unassigned",
    };
    let detail = format!("the upstream answered with SOCKS5 reply {reply} ({meaning})");
    match reply {
        3 | 4 => target_fault(Fault::new(Code::TargetUnreachable, detail)),
        5 => target_fault(Fault::new(Code::TargetRefused, detail)),
        6 => target_fault(Fault::new(Code::TargetTimeout, detail)),
        7 | 8 => exit_fault(Code::ExitFailed, detail),
        _ => target_fault(Fault::new(Code::ExitRefusedTarget, detail)),
    }
}

async fn send(wire: &mut Wire, message: &[u8]) -> Result<(), DialFault> {
    let sent = async {
        wire.write_all(message).await?;
        wire.flush().await
    };
    sent.await.map_err(|_| broke_off())
}

async fn receive<const N: usize>(wire: &mut Wire) -> Result<[u8; N], DialFault> {
    let mut bytes = [0; N];
    fill(wire, &mut bytes).await?;
    Ok(bytes)
}

async fn fill(wire: &mut Wire, bytes: &mut [u8]) -> Result<(), DialFault> {
    wire.read_exact(bytes).await.map(drop).map_err(|_| broke_off())
}

fn broke_off() -> DialFault {
    exit_fault(Code::ExitFailed, "the upstream broke off before its answer")
}

fn no_socks() -> DialFault {
    exit_fault(Code::ExitFailed, "the upstream's answer is not SOCKS5")
}

fn name_too_long() -> DialFault {
    target_fault(Fault::new(Code::BadTarget, "the target's name is too long for SOCKS5"))
}
