//! Where a running gateway's admin API is, and what opens it.
//!
//! Owns: the options of every command that talks to a gateway, and the token:
//! from a file, the environment or the configuration, never from an argument,
//! for every user of a machine may see those.
//! Must not know: what is asked.

use std::io::Read;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

use clap::Args;

use crate::config::env::Environment;
use crate::config::{Config, ConfigSource, Findings};
use crate::core::secret::Secret;

mod client;

pub(super) use client::{Client, Problem, Unanswered, encode};

/// Where the admin listener is unless somebody says otherwise.
const DEFAULT: &str = "127.0.0.1:9090";

/// Its port, where an address has none.
const PORT: u16 = 9090;

/// The variable that may hold the token.
const TOKEN: &str = "MOORGATE_ADMIN_TOKEN";

/// No token is longer.
const MOST_TOKEN: u64 = 8192;

/// Which gateway.
#[derive(Args, Clone, Debug, Default)]
pub(super) struct Gateway {
    /// The admin listener: HOST:PORT or http://HOST:PORT [default: the
    /// configuration's, else 127.0.0.1:9090]
    #[arg(long, global = true, env = "MOORGATE_ADMIN", value_name = "ADDR", help_heading = "Gateway")]
    admin: Option<String>,
    /// The gateway's configuration file, which has its admin listener and token
    #[arg(long, global = true, env = "MOORGATE_CONFIG", value_name = "FILE", help_heading = "Gateway")]
    config: Option<PathBuf>,
    /// A file that has the admin token [default: MOORGATE_ADMIN_TOKEN, else the
    /// configuration's]
    #[arg(long, global = true, value_name = "FILE", help_heading = "Gateway")]
    token_file: Option<PathBuf>,
}

/// Why it is not known which gateway to ask: bad arguments.
#[derive(Debug, thiserror::Error)]
pub(super) enum Misdirected {
    #[error("{0:?} is no admin listener: expected HOST:PORT or http://HOST:PORT")]
    Address(String),
    #[error("the admin listener speaks http without TLS: say {0}, or reach it through a tunnel")]
    Https(String),
    #[error("an address with a name or secret in it can be seen by all: use --token-file or {TOKEN}")]
    Credential,
    #[error("{0}: there is no admin listener in it (\"admin\" is null): say --admin HOST:PORT")]
    NoAdmin(PathBuf),
    #[error("{0}: the system chooses the admin listener's port (0): say --admin HOST:PORT")]
    AnyPort(PathBuf),
    #[error("{0}: cannot read the token: {1}")]
    TokenFile(PathBuf, std::io::Error),
    #[error("{0}: expected one token of visible ASCII characters without spaces")]
    Token(String),
    #[error("{0}")]
    Arguments(String),
    #[error(transparent)]
    Configuration(#[from] Findings),
}

impl Gateway {
    /// Finds it. Nothing is sent yet.
    ///
    /// # Errors
    /// An argument, a file or a variable that is wrong.
    pub(super) fn find(&self) -> Result<Client, Misdirected> {
        self.find_with(&Environment::of_process())
    }

    fn find_with(&self, env: &Environment) -> Result<Client, Misdirected> {
        // Another address than the configuration's does not get its token.
        let configured = match (&self.admin, &self.config) {
            (None, Some(file)) => Some(configured(file)?),
            _ => None,
        };
        let place = match (&self.admin, &configured) {
            (Some(admin), _) => Place::parse(admin)?,
            (None, Some((bind, _))) => Place::of(*bind),
            (None, None) => Place::parse(DEFAULT)?,
        };
        let token = match (&self.token_file, env.variable(TOKEN).filter(|token| !token.is_empty())) {
            (Some(file), _) => Some(read_token(file)?),
            (None, Some(token)) => Some(check_token(TOKEN, Secret::new(token))?),
            (None, None) => configured.and_then(|(_, token)| token),
        };
        Ok(Client::new(place, token))
    }
}

fn configured(file: &Path) -> Result<(SocketAddr, Option<Secret>), Misdirected> {
    let (config, _) = Config::load(&ConfigSource { config: Some(file.into()), ..ConfigSource::default() })?;
    let admin = config.admin.ok_or_else(|| Misdirected::NoAdmin(file.into()))?;
    if admin.bind.port() == 0 {
        return Err(Misdirected::AnyPort(file.into()));
    }
    Ok((admin.bind, admin.token))
}

fn read_token(file: &Path) -> Result<Secret, Misdirected> {
    let failed = |error| Misdirected::TokenFile(file.into(), error);
    let mut text = zeroize::Zeroizing::new(String::new());
    let read = std::fs::File::open(file).map_err(failed)?;
    read.take(MOST_TOKEN).read_to_string(&mut text).map_err(failed)?;
    check_token(&file.display().to_string(), Secret::new(text.trim_ascii()))
}

fn check_token(of: &str, token: Secret) -> Result<Secret, Misdirected> {
    let text = token.expose();
    match !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic()) {
        true => Ok(token),
        false => Err(Misdirected::Token(of.to_owned())),
    }
}

/// Where to connect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// A name or an address, without brackets.
    host: String,
    port: u16,
}

impl Place {
    /// Of a listener, as seen from its own machine.
    fn of(bind: SocketAddr) -> Self {
        let ip = match bind.ip() {
            ip if !ip.is_unspecified() => ip,
            IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        };
        Self { host: ip.to_string(), port: bind.port() }
    }

    fn parse(text: &str) -> Result<Self, Misdirected> {
        let wrong = || Misdirected::Address(text.to_owned());
        let (rest, port) = match text.split_once("://") {
            None => (text, PORT),
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => (rest, 80),
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("https") => {
                return Err(Misdirected::Https(format!("http://{rest}")));
            }
            Some(_) => return Err(wrong()),
        };
        if rest.contains('@') {
            return Err(Misdirected::Credential);
        }
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        // An IPv6 address may stand without brackets where it has no port.
        if let Ok(ip) = rest.parse::<IpAddr>() {
            return Ok(Self { host: ip.to_string(), port });
        }
        let authority = rest.parse::<http::uri::Authority>().map_err(|_| wrong())?;
        let host = authority.host();
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let port = match rest.len() == host.len() {
            true => port,
            false => authority.port_u16().filter(|port| *port != 0).ok_or_else(wrong)?,
        };
        match bare.is_empty() {
            true => Err(wrong()),
            false => Ok(Self { host: bare.to_owned(), port }),
        }
    }

    /// As it stands in `Host`.
    pub(super) fn authority(&self) -> String {
        match self.host.contains(':') {
            true => format!("[{}]:{}", self.host, self.port),
            false => format!("{}:{}", self.host, self.port),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &str) {
        let parsed = Place::parse(text).map(|place| place.authority()).map_err(|error| error.to_string());
        match parsed {
            Ok(authority) => assert_eq!(authority, expected, "{text}"),
            Err(message) => assert!(message.contains(expected), "{text}: {message}"),
        }
    }

    #[test]
    fn an_address_is_read_in_every_way_of_writing() {
        check("127.0.0.1:9091", "127.0.0.1:9091");
        check("gate.example", "gate.example:9090");
        check("gate.example:1", "gate.example:1");
        check("::1", "[::1]:9090");
        check("[::1]:7", "[::1]:7");
        check("http://gate.example:9090/", "gate.example:9090");
        check("HTTP://gate.example", "gate.example:80");
        check("https://gate.example:1", "say http://gate.example:1");
        check("http://me:s3cret@gate.example", "--token-file");
        for wrong in
            ["", ":9090", "gate:0", "gate:99999", "gate:x", "a b", "http://gate/v1", "ftp://gate", "gate:"]
        {
            check(wrong, "expected HOST:PORT");
        }
        let any = |text: &str| Place::of(text.parse().unwrap()).authority();
        assert_eq!(any("0.0.0.0:1"), "127.0.0.1:1");
        assert_eq!(any("[::]:1"), "[::1]:1");
        assert_eq!(any("192.0.2.1:1"), "192.0.2.1:1");
    }

    #[test]
    fn a_token_is_one_word() {
        for right in ["t", "a.b-c_d~!"] {
            assert!(check_token("x", Secret::new(right)).is_ok());
        }
        for wrong in ["", "two words", "line\nline", "ä", "\u{7f}"] {
            let message = check_token("x", Secret::new(wrong)).unwrap_err().to_string();
            assert_eq!(message, "x: expected one token of visible ASCII characters without spaces");
        }
    }

    #[test]
    fn the_token_comes_from_the_file_first_then_from_the_environment() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(&file, "from-file\n").unwrap();
        let gateway = Gateway { token_file: Some(file.path().into()), ..Gateway::default() };
        let env = || Environment::of(&[(TOKEN, "from-env")]);
        assert_eq!(gateway.find_with(&env()).unwrap().token(), Some("from-file"));
        assert_eq!(Gateway::default().find_with(&env()).unwrap().token(), Some("from-env"));
        assert_eq!(Gateway::default().find_with(&Environment::of(&[])).unwrap().token(), None);
        let missing = Gateway { token_file: Some("/no/such/file".into()), ..Gateway::default() };
        assert!(matches!(missing.find_with(&env()), Err(Misdirected::TokenFile(..))));
    }

    #[test]
    fn the_configuration_says_where_and_with_what() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("moorgate.json");
        let find = |text: &str, admin: Option<&str>| {
            std::fs::write(&file, text).unwrap();
            let gateway =
                Gateway { admin: admin.map(str::to_owned), config: Some(file.clone()), token_file: None };
            let found = gateway.find_with(&Environment::of(&[])).map_err(|error| error.to_string());
            found.map(|client| (client.place().authority(), client.token().map(str::to_owned)))
        };
        let config = r#"{"admin": {"bind": "0.0.0.0:9191", "token": "abc"}}"#;
        assert_eq!(find(config, None), Ok(("127.0.0.1:9191".to_owned(), Some("abc".to_owned()))));
        assert_eq!(find(config, Some("other:1")), Ok(("other:1".to_owned(), None)), "its token stays here");
        assert!(find(r#"{"admin": null}"#, None).unwrap_err().contains("no admin listener"));
        assert!(find(r#"{"admin": {"bind": "127.0.0.1:0"}}"#, None).unwrap_err().contains("--admin"));
        assert!(find(r#"{"admin": 1}"#, None).unwrap_err().contains("moorgate.json:1:"));
    }
}
