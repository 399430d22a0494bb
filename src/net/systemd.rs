//! What a service manager is told (sd_notify(3)).
//!
//! Owns: the datagrams of that protocol, and how its address is written.
//! Must not know: when the gateway is ready.

use std::io;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::atomic::{AtomicBool, Ordering};

/// The service manager, if there is one. Whatever becomes of a message, the
/// gateway goes on.
#[derive(Debug, Default)]
pub(crate) struct Manager {
    socket: Option<UnixDatagram>,
    /// Another process is the service from now on.
    silent: AtomicBool,
}

impl Manager {
    /// The one that listens at `address`: a path, or `@` and an abstract name.
    ///
    /// # Errors
    /// It cannot be reached.
    pub(crate) fn at(address: &str) -> io::Result<Self> {
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        socket.connect_addr(&parse(address)?)?;
        Ok(Self { socket: Some(socket), silent: AtomicBool::new(false) })
    }

    /// The service is up (again).
    pub(crate) fn ready(&self) {
        self.say("READY=1\nSTATUS=serving");
    }

    /// It takes up a changed configuration; `now_us` is the system's monotonic
    /// clock. [`Manager::ready`] ends it.
    pub(crate) fn reloading(&self, now_us: u64) {
        self.say(&format!("RELOADING=1\nMONOTONIC_USEC={now_us}\nSTATUS=reloading"));
    }

    /// It is on its way down.
    pub(crate) fn stopping(&self) {
        self.say("STOPPING=1\nSTATUS=draining");
    }

    /// It lives.
    pub(crate) fn alive(&self) {
        self.say("WATCHDOG=1");
    }

    /// Another process is the service. Nothing is said after this: it would
    /// be taken for the other's word.
    pub(crate) fn is_now(&self, pid: u32) {
        self.say(&format!("MAINPID={pid}"));
        self.silent.store(true, Ordering::Relaxed);
    }

    fn say(&self, what: &str) {
        let Some(socket) = self.socket.as_ref().filter(|_| !self.silent.load(Ordering::Relaxed)) else {
            return;
        };
        if let Err(error) = socket.send(what.as_bytes()) {
            tracing::debug!(%error, "the service manager does not listen");
        }
    }
}

fn parse(address: &str) -> io::Result<SocketAddr> {
    match address.strip_prefix('@') {
        #[cfg(target_os = "linux")]
        Some(name) => <SocketAddr as std::os::linux::net::SocketAddrExt>::from_abstract_name(name.as_bytes()),
        #[cfg(not(target_os = "linux"))]
        Some(_) => Err(io::ErrorKind::Unsupported.into()),
        None => SocketAddr::from_pathname(address),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(socket: &UnixDatagram) -> String {
        let mut buffer = [0; 256];
        let length = socket.recv(&mut buffer).unwrap();
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    }

    #[test]
    fn a_manager_hears_until_another_process_is_the_service() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_nonblocking(true).unwrap();
        let manager = Manager::at(path.to_str().unwrap()).unwrap();
        manager.ready();
        assert_eq!(heard(&socket), "READY=1\nSTATUS=serving");
        manager.reloading(12);
        assert_eq!(heard(&socket), "RELOADING=1\nMONOTONIC_USEC=12\nSTATUS=reloading");
        manager.is_now(77);
        assert_eq!(heard(&socket), "MAINPID=77");
        manager.stopping();
        assert_eq!(socket.recv(&mut [0; 9]).unwrap_err().kind(), io::ErrorKind::WouldBlock);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn an_address_may_be_abstract() {
        let name = format!("moorgate-test-{}", std::process::id());
        let address = <SocketAddr as std::os::linux::net::SocketAddrExt>::from_abstract_name(&name).unwrap();
        let socket = UnixDatagram::bind_addr(&address).unwrap();
        Manager::at(&format!("@{name}")).unwrap().alive();
        assert_eq!(heard(&socket), "WATCHDOG=1");
        Manager::at("/no/such/place").unwrap_err();
        Manager::default().ready();
    }
}
