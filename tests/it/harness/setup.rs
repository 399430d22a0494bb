//! What a gateway is started with.
//!
//! Owns: a configuration and a pool file that need few changes, and the
//! files beside them.
//! Must not know: the running process.

use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::OwnedFd;
use std::sync::Arc;

use serde_json::{Value, json};

use super::gateway::Gateway;
use super::request::PASSWORD;

/// A configuration that a test changes where it matters: one listener, one
/// user `acme`, one pool `p` in `pools/p.json`, and its pins in memory, for a
/// state folder takes a hundred times as long to make as all else.
#[derive(Clone)]
pub struct Setup {
    /// `moorgate.json`.
    pub config: Value,
    /// `pools/p.json`.
    pub pools: Value,
    /// More files, by their path in the folder.
    pub files: Vec<(String, Vec<u8>)>,
    /// More of the environment.
    pub env: Vec<(String, String)>,
    /// A program before the gateway's own, `{dir}` standing for the folder.
    pub wrap: Vec<String>,
    /// Runs a copy of the gateway's program, in the folder and of this name,
    /// which a test may replace.
    pub program: Option<String>,
    /// Its standard input; else there is none.
    pub stdin: Option<Arc<OwnedFd>>,
}

impl Setup {
    /// With these exits in pool `p`.
    pub fn new(exits: Value) -> Self {
        Self {
            config: json!({
                "listeners": [{ "bind": "127.0.0.1:0" }],
                "admin": { "bind": "127.0.0.1:0" },
                "pools": "pools",
                "users": [{ "name": "acme", "password": PASSWORD, "pools": ["p"], "default_pool": "p" }],
                "sessions": { "store": "memory" },
                "targets": { "private": true },
            }),
            pools: json!({ "pools": [{ "name": "p", "exits": exits }] }),
            files: Vec::new(),
            env: Vec::new(),
            wrap: Vec::new(),
            program: None,
            stdin: None,
        }
    }

    /// With so many source addresses as exits `e1`, `e2`, ….
    pub fn addresses(count: u8) -> Self {
        Self::new(addresses(count))
    }

    /// Sets a key of pool `p`.
    #[must_use]
    pub fn pool(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.pools["pools"][0][key] = value.into();
        self
    }

    /// Adds a pool, which `acme` may use.
    #[must_use]
    pub fn another_pool(mut self, pool: Value) -> Self {
        push(&mut self.config["users"][0]["pools"], pool["name"].clone());
        push(&mut self.pools["pools"], pool);
        self
    }

    /// Sets a part of the configuration, by its path such as
    /// `sessions.default_ttl` or `users.0.clients`.
    #[must_use]
    pub fn config(mut self, path: &str, value: impl Into<Value>) -> Self {
        let part = path.split('.').fold(&mut self.config, |part, key| match key.parse::<usize>() {
            Ok(at) => &mut part[at],
            Err(_) => &mut part[key],
        });
        *part = value.into();
        self
    }

    /// Adds a user.
    #[must_use]
    pub fn user(mut self, user: Value) -> Self {
        push(&mut self.config["users"], user);
        self
    }

    /// Adds a listener on a free port.
    #[must_use]
    pub fn listener(mut self, mut listener: Value) -> Self {
        listener["bind"] = "127.0.0.1:0".into();
        push(&mut self.config["listeners"], listener);
        self
    }

    /// Adds a file.
    #[must_use]
    pub fn file(mut self, path: &str, text: impl Into<Vec<u8>>) -> Self {
        self.files.push((path.to_owned(), text.into()));
        self
    }

    /// Adds to the environment.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Pins on disk, in `state/`: for what is about claims, crashes, restarts.
    #[must_use]
    pub fn on_disk(self) -> Self {
        self.config("sessions.store", "file:state")
    }

    /// Log lines as JSON.
    #[must_use]
    pub fn json_log(self) -> Self {
        self.config("log", json!({ "format": "json", "access": true }))
    }

    /// Quick to give up and to come back: for tests of failing exits.
    #[must_use]
    pub fn quick(self) -> Self {
        self.pool("health", json!({ "eject_after": 3, "eject_for": "1s" }))
            .pool("timeouts", json!({ "connect": "500ms" }))
            .pool("slow_start", "0s")
            .config("timeouts", json!({ "handshake": "500ms", "dns": "2s" }))
    }

    /// Runs the gateway and waits until it listens.
    #[track_caller]
    pub fn start(self) -> Gateway {
        Gateway::start(self)
    }
}

/// So many source addresses as exits `e1`, `e2`, ….
pub fn addresses(count: u8) -> Value {
    (1..=count).map(address).collect()
}

/// The source address number `n` as exit `e<n>`.
pub fn address(n: u8) -> Value {
    json!({ "id": format!("e{n}"), "via": address_of(n).to_string() })
}

/// What an origin sees of exit `e<n>`.
pub fn address_of(n: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(127, 0, 0, n + 1))
}

/// Adds to a list.
pub fn push(list: &mut Value, item: Value) {
    list.as_array_mut().expect("a list").push(item);
}
