//! A client that speaks SOCKS5, up to the beginning of its tunnel.
//!
//! Owns: the order of its messages, and how a failure is told (SPEC §4).
//! Must not know: how the messages are written, how a tunnel comes about.

use std::pin::pin;
use std::sync::Arc;

use bytes::BytesMut;
use tokio::time::{Instant, timeout_at};

use super::client::{Client, Next, note};
use super::intake::{self, Linger, fill, say};
use super::presence::{PATIENCE, unless_left};
use super::wish::{Asking, Proven};
use super::{Shared, connect, entry};
use crate::admit::users::Caller;
use crate::core::code::Code;
use crate::core::fault::Fault;
use crate::handshake::Read;
use crate::handshake::socks5::{self, Method, Misfit, Request, reply};
use crate::http1::answer::Announce;
use crate::net::wire::Wire;
use crate::observe::access::{Kind, Record};
use crate::relay::vigil::AtEnd;

/// Why there is no request.
enum Stop {
    /// The client is gone.
    Gone,
    /// It is told this, and that is all.
    Told(Fault, Vec<u8>),
}

/// What a client asks for, and who it is.
struct Asked {
    caller: Result<Caller, Fault>,
    request: Request,
}

/// Serves a client that has begun with SOCKS5.
pub(super) async fn serve(shared: &Arc<Shared>, mut client: Box<Client>, since: Instant) {
    let deadline = since + shared.settings.timeouts.head;
    // Boxed: it is over before the tunnel begins.
    let asked = timeout_at(deadline, Box::pin(ask(shared, &mut client))).await;
    let asked = asked.unwrap_or_else(|_| {
        let detail = "the SOCKS5 messages did not arrive in time: send them at once";
        Err(Stop::Told(Fault::new(Code::RequestTimeout, detail), Vec::new()))
    });
    match asked {
        Ok(asked) => match Box::pin(tunnel(shared, client, asked)).await {
            Next::Tunnel(tunnel) => tunnel.run(shared.settings.timeouts.idle).await,
            Next::Part(wire, answer, linger) => intake::part(wire, &answer, linger).await,
            // There is one request, and it is over.
            Next::Request(_) | Next::Done | Next::Elsewhere(_) => {}
        },
        Err(Stop::Gone) => {}
        Err(Stop::Told(fault, answer)) => {
            entry::bad(shared, client.address, &fault);
            intake::part(client.wire, &answer, Linger::SHORT).await;
        }
    }
}

/// The client's messages, up to its request.
async fn ask(shared: &Shared, client: &mut Client) -> Result<Asked, Stop> {
    let mut talk = Talk { wire: &mut client.wire, buffer: BytesMut::new() };
    let choose = |greeting: socks5::Greeting<'_>| {
        let known = [Method::Login, Method::None].map(|method| greeting.offers(method));
        (known[0], known[1])
    };
    let (can_login, can_pass) = talk.hear(|bytes| map(socks5::greeting(bytes), choose)).await?;
    let at_home = || {
        let user = client.door.user.as_ref()?;
        shared.users.at_home(user, client.address.ip())
    };
    let caller = if can_login {
        talk.say(&socks5::chosen(Method::Login), shared).await?;
        login(shared, &mut talk, client.address.ip()).await?
    } else if let Some(caller) = can_pass.then(at_home).flatten() {
        talk.say(&socks5::chosen(Method::None), shared).await?;
        Ok(caller)
    } else {
        let detail = "send the user and its secret by the method of RFC 1929 (username/password)";
        let fault = Fault::new(Code::AuthRequired, detail);
        return Err(Stop::Told(fault, socks5::chosen(Method::Nothing).to_vec()));
    };
    let request = talk.hear(socks5::request).await;
    let request = match request {
        Err(Stop::Told(fault, _)) if talk.is_of_unknown_type() => {
            return Err(Stop::Told(fault, socks5::replied(reply::ADDRESS_TYPE).to_vec()));
        }
        request => request?,
    };
    if !request.connect {
        let detail = "of SOCKS5, only CONNECT is done here, neither BIND nor UDP ASSOCIATE";
        let fault = Fault::new(Code::BadRequest, detail);
        return Err(Stop::Told(fault, socks5::replied(reply::COMMAND).to_vec()));
    }
    // What was sent ahead is for the target.
    talk.wire.unread(talk.buffer.split().freeze());
    Ok(Asked { caller, request })
}

/// Who the client is. A credential that proves somebody is told so whatever
/// else stands against the request, which is then answered for it.
async fn login(
    shared: &Shared,
    talk: &mut Talk<'_>,
    client: std::net::IpAddr,
) -> Result<Result<Caller, Fault>, Stop> {
    let own = |login: socks5::Login<'_>| (login.username.to_vec(), login.password.to_vec());
    let (username, password) = talk.hear(|bytes| map(socks5::login(bytes), own)).await?;
    let proven = shared.users.login(&username, &password, client).await;
    match proven {
        Err(fault) if matches!(fault.code(), Code::AuthFailed | Code::AuthThrottled) => {
            Err(Stop::Told(fault, socks5::judged(false).to_vec()))
        }
        caller => {
            talk.say(&socks5::judged(true), shared).await?;
            Ok(caller)
        }
    }
}

async fn tunnel(shared: &Arc<Shared>, mut client: Box<Client>, asked: Asked) -> Next {
    let mut record = Record::begin(Kind::Tunnel, client.address, &shared.instruments);
    let leaves = shared.drain.is_begun() || shared.drain.is_handed_over();
    // Whoever has sent bytes ahead for the target wants it to have them.
    let at_end = if client.wire.has_unread() { AtEnd::Stays } else { PATIENCE };
    let found = {
        let proven = Proven { caller: asked.caller, target: asked.request.target };
        let asking = Asking::Tunnel(Box::new(proven));
        let way = async {
            if leaves {
                let detail = "this gateway is shutting down: ask another, or again";
                return Err(Fault::new(Code::Draining, detail));
            }
            connect::way(shared, &client.door, asking, client.address, &mut record).await
        };
        unless_left(&mut client.wire, at_end, pin!(way)).await
    };
    match found {
        Some(Ok(way)) => connect::stand(shared, client, way, record, granted).await,
        Some(Err(fault)) => {
            note(&mut record, &fault);
            let answer = socks5::replied(fault.code().socks_reply()).to_vec();
            Next::Part(client.wire, answer, Linger::SHORT)
        }
        None => {
            record.end = Some("client_gone");
            Next::Done
        }
    }
}

/// A success; SOCKS5 has no place for what else there is to tell.
fn granted(_: Option<&Announce<'_>>) -> Vec<u8> {
    socks5::replied(reply::GRANTED).to_vec()
}

/// What is said before the tunnel.
struct Talk<'a> {
    wire: &'a mut Wire,
    /// Read, and not yet understood.
    buffer: BytesMut,
}

impl Talk<'_> {
    /// The client's next message.
    async fn hear<T>(&mut self, read: impl Fn(&[u8]) -> Read<T, Misfit>) -> Result<T, Stop> {
        loop {
            match read(&self.buffer) {
                Ok(Some((message, taken))) => {
                    drop(self.buffer.split_to(taken));
                    return Ok(message);
                }
                Ok(None) => {}
                Err(misfit) => {
                    let fault = Fault::new(Code::BadRequest, misfit.to_string());
                    return Err(Stop::Told(fault, Vec::new()));
                }
            }
            let Ok(1..) = fill(self.wire, &mut self.buffer).await else { return Err(Stop::Gone) };
        }
    }

    async fn say(&mut self, answer: &[u8], shared: &Shared) -> Result<(), Stop> {
        if say(self.wire, answer, shared).await { Ok(()) } else { Err(Stop::Gone) }
    }

    /// Whether what was not understood is a request that is right so far.
    fn is_of_unknown_type(&self) -> bool {
        matches!(socks5::request(&self.buffer), Err(Misfit::AddressType))
    }
}

fn map<T, U>(read: Read<T, Misfit>, with: impl FnOnce(T) -> U) -> Read<U, Misfit> {
    read.map(|read| read.map(|(message, taken)| (with(message), taken)))
}
