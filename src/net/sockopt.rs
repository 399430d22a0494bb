//! Socket options and descriptors that no safe crate offers.
//!
//! Owns: `IP_BIND_ADDRESS_NO_PORT`, taking up descriptors by their number;
//! all of the crate's `unsafe`.
//! Must not know: which exit a socket is for, what a descriptor leads to.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};

/// Has a later `bind` to an address without a port leave the port to
/// `connect`. A source address then carries as many connections as there are
/// ports *for each destination*, rather than as there are ports.
///
/// Works for sockets of both families. A kernel that does not know it picks
/// the port at `bind`, which is as right and only scarcer: no error then.
#[cfg(target_os = "linux")]
pub(crate) fn leave_port_to_connect(socket: &impl AsFd) -> io::Result<()> {
    let on: libc::c_int = 1;
    let size = size_of_val(&on) as libc::socklen_t;
    let fd = socket.as_fd().as_raw_fd();
    #[expect(unsafe_code, reason = "neither socket2 nor rustix has this option")]
    // SAFETY: the descriptor is borrowed and so open; the option's value is a
    // c_int that outlives the call, and its size is given.
    let result = unsafe {
        libc::setsockopt(
            fd,
            libc::IPPROTO_IP,
            libc::IP_BIND_ADDRESS_NO_PORT,
            std::ptr::from_ref(&on).cast(),
            size,
        )
    };
    match result {
        0 => Ok(()),
        _ => match io::Error::last_os_error() {
            error if error.raw_os_error() == Some(libc::ENOPROTOOPT) => Ok(()),
            error => Err(error),
        },
    }
}

/// Not there outside Linux: the port is picked at `bind`.
#[cfg(not(target_os = "linux"))]
pub(crate) fn leave_port_to_connect(_: &impl AsFd) -> io::Result<()> {
    Ok(())
}

/// The first descriptor that a service manager passes (sd_listen_fds(3)).
const FIRST_PASSED: RawFd = 3;

/// Takes up the descriptors that a service manager has passed to this very
/// process, and keeps them from any process that it starts.
///
/// # Errors
/// One of them is not open, or they were taken up before.
pub(crate) fn passed(count: u16) -> io::Result<Vec<OwnedFd>> {
    static TAKEN: AtomicBool = AtomicBool::new(false);
    if TAKEN.swap(true, Ordering::Relaxed) {
        return Err(io::Error::other("the passed descriptors have been taken up before"));
    }
    (FIRST_PASSED..FIRST_PASSED + RawFd::from(count)).map(take_up).collect()
}

fn take_up(number: RawFd) -> io::Result<OwnedFd> {
    #[expect(unsafe_code, reason = "a number is all that is passed")]
    // SAFETY: it is used in the next statement alone, which fails if no such
    // descriptor is open.
    let there = unsafe { BorrowedFd::borrow_raw(number) };
    rustix::io::fcntl_setfd(there, rustix::io::FdFlags::CLOEXEC)?;
    #[expect(unsafe_code, reason = "a number is all that is passed")]
    // SAFETY: it is open, and it came with the start of this process for us to
    // own, so nobody else in it does; [`passed`] takes it up once.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddr};

    use super::*;

    #[test]
    fn the_port_is_left_to_connect() {
        let server = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        leave_port_to_connect(&socket).unwrap();
        socket.bind(&SocketAddr::from((Ipv4Addr::new(127, 0, 0, 2), 0)).into()).unwrap();
        socket.connect(&server.local_addr().unwrap().into()).unwrap();
        let local = socket.local_addr().unwrap().as_socket().unwrap();
        assert_eq!(local.ip(), Ipv4Addr::new(127, 0, 0, 2));
        assert_ne!(local.port(), 0);
    }
}
