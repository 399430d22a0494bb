//! The inputs that the fuzz targets keep, replayed: each once was a new way
//! through the code, or a fault.

use std::fs;
use std::path::Path;

use crate::fuzz;

/// Replays what is kept for a target.
fn replay(target: &str, check: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let mut count = 0;
    for entry in fs::read_dir(&folder).expect("a corpus") {
        let path = entry.expect("an entry").path();
        println!("{}", path.display());
        check(&fs::read(&path).expect("an input"));
        count += 1;
    }
    assert!(count > 0, "nothing in {}", folder.display());
}

#[test]
fn chunked() {
    replay("chunked", fuzz::chunked::check);
}

#[test]
fn framing() {
    replay("framing", fuzz::framing::check);
}

#[test]
fn head() {
    replay("head", fuzz::head::check);
}

#[test]
fn pool_file() {
    replay("pool_file", fuzz::pool_file::check);
}

#[test]
fn proxy_header() {
    replay("proxy_header", fuzz::proxy_header::check);
}

#[test]
fn socks5() {
    replay("socks5", fuzz::socks5::check);
}

#[test]
fn target() {
    replay("target", fuzz::target::check);
}

#[test]
fn username() {
    replay("username", fuzz::username::check);
}
