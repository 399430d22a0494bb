//! Listening sockets that this process was given.
//!
//! Owns: which of them serves which listener, and that none is left over.
//! Must not know: who gave them.

use std::io;
use std::os::fd::OwnedFd;

use rustix::net::sockopt;
use socket2::{Socket, Type};

use super::listen::{Listener, bound};
use crate::core::bind::Bind;

/// The name of the admin listener's socket.
pub(crate) const ADMIN: &str = "admin";

/// Sockets that are to be used rather than bound anew.
#[derive(Debug, Default)]
pub(crate) struct Inherited {
    given: Vec<Given>,
    added: u32,
}

#[derive(Debug)]
struct Given {
    /// As the how manieth it was added, from 0.
    number: u32,
    socket: Socket,
    /// As bound.
    local: Bind,
    /// What it was bound for, where its giver says so: a port may be 0 there.
    wanted: Option<Bind>,
    /// What its giver calls it.
    name: Option<String>,
}

impl Inherited {
    /// Adds a socket, for the address that it was bound for, or by name.
    ///
    /// # Errors
    /// It is no socket of streams that listens at an address or a path.
    pub(crate) fn add(&mut self, fd: OwnedFd, wanted: Option<Bind>, name: Option<String>) -> io::Result<()> {
        let socket = Socket::from(fd);
        let local = bound(&socket.local_addr()?).ok().filter(|_| {
            socket.r#type().is_ok_and(|kind| kind == Type::STREAM)
                && sockopt::socket_acceptconn(&socket).unwrap_or(false)
        });
        let Some(local) = local else {
            let what = name.unwrap_or_else(|| "a descriptor".to_owned());
            let message = format!("{what} is no TCP or Unix socket that listens");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        };
        self.given.push(Given { number: self.added, socket, local, wanted, name });
        self.added += 1;
        Ok(())
    }

    /// The socket for a listener: the one that was bound for this very
    /// address, or has the listener's name, or is bound to the address.
    pub(crate) fn take(&mut self, address: &Bind, name: &str) -> Option<io::Result<Listener>> {
        // Whoever was the operator's stays the operator's.
        let admin = |name: Option<&str>| name == Some(ADMIN);
        let by_wish = |given: &Given| {
            given.wanted.as_ref() == Some(address) && admin(given.name.as_deref()) == admin(Some(name))
        };
        let by_name = |given: &Given| given.wanted.is_none() && given.name.as_deref() == Some(name);
        let by_address = |given: &Given| given.wanted.is_none() && given.local == *address;
        let at = self.given.iter().position(by_wish);
        let at = at.or_else(|| self.given.iter().position(by_name));
        let at = at.or_else(|| self.given.iter().position(by_address))?;
        Some(Listener::of(self.given.remove(at).socket))
    }

    /// What nobody took, in words.
    pub(crate) fn left_over(&self) -> Vec<String> {
        let describe = |given: &Given| match &given.name {
            Some(name) => format!("{} ({name})", given.local),
            None => given.local.to_string(),
        };
        self.given.iter().map(describe).collect()
    }

    /// The same, by number.
    pub(crate) fn left_numbers(&self) -> Vec<u32> {
        self.given.iter().map(|given| given.number).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bound() -> (OwnedFd, Bind) {
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        (socket.into(), address.into())
    }

    #[tokio::test]
    async fn a_socket_is_found_by_wish_name_and_address() {
        let any: Bind = "127.0.0.1:0".parse().unwrap();
        let mut inherited = Inherited::default();
        let (first, first_at) = bound();
        let (second, second_at) = bound();
        let (operators, operators_at) = bound();
        let (named, named_at) = bound();
        let (plain, plain_at) = bound();
        inherited.add(first, Some(any.clone()), None).unwrap();
        inherited.add(second, Some(any.clone()), Some("listener-7".to_owned())).unwrap();
        inherited.add(operators, Some(any.clone()), Some("admin".to_owned())).unwrap();
        inherited.add(named, None, Some("admin".to_owned())).unwrap();
        inherited.add(plain, None, Some("moorgate.socket".to_owned())).unwrap();
        let mut take = |address: &Bind, name: &str| {
            inherited.take(address, name).map(|taken| taken.unwrap().local().unwrap())
        };
        assert_eq!(take(&any, "listener-1"), Some(first_at));
        assert_eq!(take(&any, "listener-2"), Some(second_at));
        assert_eq!(take(&any, "listener-7"), None);
        assert_eq!(take(&any, "admin"), Some(operators_at));
        assert_eq!(take(&any, "admin"), Some(named_at));
        assert_eq!(take(&plain_at, "listener-4"), Some(plain_at.clone()));
        assert_eq!(inherited.left_over(), [] as [&str; 0]);
    }

    #[tokio::test]
    async fn a_unix_socket_is_found_by_its_path() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let socket = std::os::unix::net::UnixListener::bind(&path).unwrap();
        let mut inherited = Inherited::default();
        inherited.add(socket.into(), None, None).unwrap();
        let taken = inherited.take(&Bind::Unix(path.clone()), "listener-1").unwrap().unwrap();
        assert_eq!(taken.local().unwrap(), Bind::Unix(path));
    }

    #[tokio::test]
    async fn what_nobody_takes_is_told() {
        let mut inherited = Inherited::default();
        let (fd, at) = bound();
        inherited.add(fd, None, Some("x.socket".to_owned())).unwrap();
        assert!(inherited.take(&"127.0.0.1:1".parse().unwrap(), "admin").is_none());
        assert_eq!(inherited.left_over(), [format!("{at} (x.socket)")]);
        assert_eq!(inherited.left_numbers(), [0]);
    }

    #[test]
    fn what_does_not_listen_is_refused() {
        let mut inherited = Inherited::default();
        let udp = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let error = inherited.add(udp.into(), None, Some("dns".to_owned())).unwrap_err().to_string();
        assert_eq!(error, "dns is no TCP or Unix socket that listens");
        let file = std::fs::File::open("/dev/null").unwrap();
        inherited.add(file.into(), None, None).unwrap_err();
    }
}
