//! Unix sockets to listen on.
//!
//! Owns: a socket's file: whose it may be made over, and who may open it.
//! Must not know: what is served.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::Path;

use socket2::{Domain, SockAddr, Socket, Type};
use tokio::net::UnixListener;

/// Binds it. A file that is there is the socket of a process that has ended,
/// or nobody's to take away.
pub(super) fn open(path: &Path, mode: u32) -> io::Result<UnixListener> {
    let address = SockAddr::unix(path)?;
    clear(path, &address)?;
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address)?;
    // Nobody gets in before it listens.
    fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
    socket.listen(super::BACKLOG)?;
    UnixListener::from_std(socket.into())
}

/// Removes the file of a socket at which nobody listens.
fn clear(path: &Path, address: &SockAddr) -> io::Result<()> {
    let found = match fs::symlink_metadata(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        found => found?,
    };
    if !found.file_type().is_socket() {
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, "there is a file that is no socket"));
    }
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    // One whose queue is full is somebody's, too.
    socket.set_nonblocking(true)?;
    match socket.connect(address) {
        Err(e) if e.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied => Err(e),
        _ => Err(io::Error::new(io::ErrorKind::AddrInUse, "another process listens there")),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    #[tokio::test]
    async fn only_a_socket_that_nobody_listens_at_is_made_over() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let first = open(&path, 0o640).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
        assert_eq!(open(&path, 0o600).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        UnixStream::connect(&path).expect("it is still there");
        drop(first);
        let second = open(&path, 0o600).expect("its file was left behind");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        drop(second);
        fs::remove_file(&path).unwrap();
        fs::write(&path, "precious").unwrap();
        assert_eq!(open(&path, 0o600).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read(&path).unwrap(), b"precious");
    }
}
