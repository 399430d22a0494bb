//! Moorgate's release binary, in each of its set-ups.

use std::fs;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};

use super::{ADDRESSES, SECRET, Setup, USER, write};

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
    let password = if setup == Setup::Argon2 { hashed(SECRET) } else { SECRET.to_owned() };
    let access = setup == Setup::Logging;
    let text = format!(
        r#"{{
  "listeners": [{{ "bind": "{address}" }}],
  "admin": {{ "bind": "{admin}" }},
  "pools": "pools",
  "users": [{{ "name": "{USER}", "password": "{password}" }}],
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
