//! Moorgate's release binary, in each of its set-ups.

use std::fs;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};

use super::{ADDRESSES, SECRET, Setup, USER, write};

/// Pools of [`Setup::Large`], and the exits of each.
pub(crate) const POOLS: usize = 1_000;
pub(crate) const EXITS: usize = 100;
const BINARY: &str = env!("CARGO_BIN_EXE_moorgate");

pub(super) fn command(
    folder: &Path,
    address: SocketAddr,
    admin: SocketAddr,
    setup: Setup,
    upstream: Option<SocketAddr>,
) -> Command {
    let pools = folder.join("pools");
    fs::create_dir_all(&pools).expect("a folder of our own");
    let exits = match setup {
        Setup::Addresses => {
            (1..=ADDRESSES).map(|n| format!("\"127.0.1.{n}\"")).collect::<Vec<_>>().join(", ")
        }
        Setup::Upstream => format!("\"http://{}\"", upstream.expect("it has one")),
        _ => "\"direct\"".to_owned(),
    };
    write(
        &pools.join("bench.json"),
        &format!(r#"{{ "pools": [{{ "name": "bench", "exits": [{exits}] }}] }}"#),
    );
    if setup == Setup::Large {
        write_pools(folder, 0);
        put_pools(folder);
    }
    let password = if setup == Setup::Argon2 { hashed(SECRET) } else { SECRET.to_owned() };
    let access = setup == Setup::Logging;
    let text = format!(
        r#"{{
  "listeners": [{{ "bind": "{address}" }}],
  "admin": {{ "bind": "{admin}" }},
  "pools": "pools",
  "users": [{{ "name": "{USER}", "password": "{password}", "default_pool": "bench" }}],
  "sessions": {{ "store": "file:state" }},
  "targets": {{ "private": ["127.0.0.0/8"] }},
  "log": {{ "access": {access} }}
}}"#
    );
    let config = folder.join("moorgate.json");
    write(&config, &text);
    let mut command = Command::new(BINARY);
    command.arg("run").arg("--config").arg(config);
    command
}

/// Writes many pools, none of which any client uses. From one turn to the next
/// the weight of each of their exits changes.
pub(super) fn write_pools(folder: &Path, turn: usize) {
    let weight = 1 + turn % 2;
    let exit = |pool: usize, n: usize| {
        format!(r#"{{ "via": "socks5://10.{}.{}.{n}:1080", "weight": {weight} }}"#, pool / 250, pool % 250)
    };
    let pool = |pool: usize| {
        let exits: Vec<_> = (1..=EXITS).map(|n| exit(pool, n)).collect();
        format!(r#"{{ "name": "p{pool}", "exits": [{}] }}"#, exits.join(",\n"))
    };
    let pools: Vec<_> = (0..POOLS).map(pool).collect();
    write(&folder.join("many.part"), &format!(r#"{{ "pools": [{}] }}"#, pools.join(",\n")));
}

/// Puts them where they are read.
pub(super) fn put_pools(folder: &Path) {
    fs::rename(folder.join("many.part"), folder.join("pools/many.json")).expect("our own files");
}

/// As `moorgate hash-password` prints it.
fn hashed(secret: &str) -> String {
    let mut command = Command::new(BINARY);
    let command =
        command.arg("hash-password").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().expect("the binary");
    writeln!(child.stdin.take().expect("it is piped"), "{secret}").expect("it reads");
    let output = child.wait_with_output().expect("it ends");
    String::from_utf8(output.stdout).expect("a PHC string").trim().to_owned()
}
