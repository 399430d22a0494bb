use super::*;
use crate::config::Loaded;
use crate::config::{Durability, Password, StoreAt};
use crate::core::exit::Via;
use crate::core::policy::Private;
use crate::core::pool::{Affinity, Failover};
use crate::core::time::Ttl;

const PHC: &str = "$argon2id$v=19$m=8,t=1,p=1$c2FsdHNhbHQ$\
                   AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8";

/// Files in a folder of their own, and a configuration there: `moorgate.json`
/// where that is one of them, else the defaults with `pools.json`.
pub(super) struct Given {
    pub(super) folder: tempfile::TempDir,
    pub(super) source: ConfigSource,
}

impl Given {
    pub(super) fn new(files: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut source = ConfigSource::default();
        for (name, text) in files {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, text).unwrap();
            match *name {
                "moorgate.json" => source.config = Some(path),
                "pools.json" => source.pools = Some(path),
                _ => {}
            }
        }
        Self { folder, source }
    }

    pub(super) fn config(&self) -> Result<(Config, Vec<Finding>), Findings> {
        config(&self.source, &Environment::of(&[("WORD", "word"), ("VIA", "http://u:hunter2@h.example:80")]))
    }

    pub(super) fn load(&self) -> Result<(Config, Loaded), Findings> {
        let (config, _) = self.config()?;
        let loaded = load_pools(&config, &Environment::of(&[("VIA", "http://u:hunter2@h.example:80")]))?;
        Ok((config, loaded))
    }

    /// One line for each, without the folder.
    pub(super) fn lines(&self, findings: impl ToString) -> Vec<String> {
        let folder = format!("{}/", self.folder.path().display());
        findings.to_string().replace(&folder, "").lines().map(str::to_owned).collect()
    }
}

#[track_caller]
pub(super) fn check(files: &[(&str, &str)], expected: &[&str]) {
    let given = Given::new(files);
    let found = given.load().map(|_| Vec::new()).unwrap_or_else(|findings| given.lines(findings));
    assert_eq!(found, expected);
    assert!(!found.concat().contains("hunter2"));
}

#[track_caller]
pub(super) fn check_config(text: &str, expected: &[&str]) {
    check(
        &[("moorgate.json", text), ("pools/p.json", r#"{"pools":[{"name":"p","exits":["direct"]}]}"#)],
        expected,
    );
}

#[track_caller]
pub(super) fn check_pools(text: &str, expected: &[&str]) {
    check(&[("pools.json", text)], expected);
}

/// An exit as an object, in a pool of its own.
#[track_caller]
pub(super) fn check_exit(exit: &str, expected: &[&str]) {
    check_pools(&format!("{{\"pools\":[{{\"name\":\"p\",\"exits\":[\n{exit}\n]}}]}}"), expected);
}

#[track_caller]
pub(super) fn fine(files: &[(&str, &str)]) -> (Config, Loaded) {
    Given::new(files).load().unwrap_or_else(|findings| panic!("{findings}"))
}

#[test]
fn nothing_at_all_is_a_configuration() {
    let given = Given::new(&[]);
    let (mut config, warnings) = given.config().unwrap();
    assert!(warnings.is_empty());
    assert_eq!(config.listeners[0].binds, ["127.0.0.1:8080".parse().unwrap()]);
    let admin = config.admin.take().unwrap();
    assert_eq!((admin.bind, admin.token), ("127.0.0.1:9090".parse().unwrap(), None));
    assert_eq!(config.pools, PoolsAt::Path("pools".into()), "those of this repository");
    assert_eq!(config.sessions.store, StoreAt::Folder("moorgate-data".into()));
    assert_eq!(config.sessions.durability, Durability::Journal);
    assert_eq!(config.sessions.bounds.default_ttl, Ttl::from_secs(600));
    assert_eq!(config.sessions.bounds.max_ttl, Some(Ttl::MAX));
    assert_eq!(config.timeouts.idle, Duration::from_secs(600));
    assert_eq!((config.limits.head_bytes, config.limits.head_fields), (65_536, 100));
    assert!(config.announce && !config.via && config.log.access);

    config.pools = PoolsAt::BuiltInUnless(given.folder.path().join("pools"));
    let load = |config| load_pools(config, &Environment::of(&[])).unwrap();
    let built_in = load(&config);
    assert_eq!(built_in.pools.pool("default").unwrap().exits[0].via, Via::Direct);
    std::fs::create_dir(given.folder.path().join("pools")).unwrap();
    assert_ne!(built_in.watched.now(), built_in.watched, "the folder's coming is seen");
    let text = r#"{"pools":[{"name":"p","exits":["direct"]}]}"#;
    std::fs::write(given.folder.path().join("pools/p.json"), text).unwrap();
    assert!(load(&config).pools.pool("default").is_none());
}

#[test]
fn the_configuration_of_the_contract_is_read() {
    let text = r#"{
      "$schema": "./moorgate.schema.json",
      "listeners": [
        { "bind": "127.0.0.1:8080" },
        { "bind": "10.0.0.1:20001-20100", "protocol": "http", "pool": "us", "ttl": "24h", "idle": "1h",
          "failover": "address", "labels": { "country": "us", "city": "New York" } }
      ],
      "admin": null,
      "pools": "pools",
      "users": [
        { "name": "acme", "password": "pass-${WORD}", "pools": ["us", "eu"], "default_pool": "eu",
          "clients": ["10.0.0.0/8", "::ffff:192.0.2.1"], "affinity": "client_ip+target",
          "sessions": { "max_ttl": "1h" } },
        { "name": "acme-eu", "password": "PHC" }
      ],
      "sessions": { "default_ttl": "20m", "max_ttl": "24h", "store": "file:data", "durability": "fsync" },
      "targets": { "allow": [], "deny": ["*.internal.example", "192.0.2.0/24"],
                   "ports": [80, 443, "8000-8999"], "private": ["10.0.0.0/8"], "resolve": "always" },
      "timeouts": { "head": "11s", "drain": "0s" },
      "limits": { "connections": 7, "head_bytes": "32KiB", "head_fields": 50 },
      "announce": false, "via": true, "log": { "format": "json", "access": false }
    }"#;
    let pools = r#"{"pools":[{"name":"us","exits":["direct"]},{"name":"eu","exits":["direct"]}]}"#;
    let given = Given::new(&[("moorgate.json", &text.replace("PHC", PHC)), ("pools/a.json", pools)]);
    let (config, loaded) = given.load().unwrap();
    let folder = given.folder.path();
    assert_eq!(config.listeners[1].binds.len(), 100);
    assert_eq!(config.listeners[1].defaults.labels.to_string(), "city=newyork,country=us");
    assert_eq!(config.listeners[1].defaults.failover, Some(Failover::Address));
    assert!(config.admin.is_none());
    assert_eq!(config.pools, PoolsAt::Path(folder.join("pools")));
    assert_eq!(config.sessions.store, StoreAt::Folder(folder.join("data")));
    let [acme, acme_eu] = &*config.users else { panic!() };
    assert!(matches!(&acme.password, Password::Plain(secret) if secret.expose() == "pass-word"));
    assert!(matches!(&acme_eu.password, Password::Phc(_)));
    let nets: Vec<_> = acme.clients.iter().flatten().map(ToString::to_string).collect();
    assert_eq!(nets, ["10.0.0.0/8", "192.0.2.1/32"]);
    assert_eq!(acme.affinity, Affinity::ClientIpAndTarget);
    assert_eq!(acme.account().default_pool(&loaded.pools).unwrap().name.as_ref(), "eu");
    assert_eq!(acme_eu.account().default_pool(&loaded.pools).unwrap().name.as_ref(), "us");
    assert!(acme_eu.pools.is_none() && acme.pools.is_some());
    assert_eq!(config.targets.ports.as_ref().unwrap().len(), 3);
    assert!(matches!(&config.targets.private, Private::Only(nets) if nets.len() == 1));
    assert_eq!((config.timeouts.head.as_secs(), config.timeouts.drain.as_secs()), (11, 0));
    assert_eq!(config.limits.head_bytes, 32 << 10);
    assert!(!config.announce && config.via && !config.log.access);
    assert!(loaded.warnings.is_empty());
}

#[test]
fn the_default_pool_is_named_or_first() {
    let config = |user: &str| {
        let user = format!(r#"{{"users":[{{"name":"u","password":"x"{user}}}]}}"#);
        let pools = r#"{"pools":[{"name":"a","exits":["direct"]},{"name":"default","exits":["direct"]}]}"#;
        let (config, loaded) = fine(&[("moorgate.json", &user), ("pools/p.json", pools)]);
        let pool = config.users[0].account().default_pool(&loaded.pools).map(|pool| pool.name.to_string());
        (pool, loaded.warnings.len())
    };
    assert_eq!(config(""), (Some("default".to_owned()), 0));
    assert_eq!(config(r#","default_pool":"a""#), (Some("a".to_owned()), 0));
    assert_eq!(config(r#","pools":["a","default"]"#), (Some("a".to_owned()), 0));
    assert_eq!(config(r#","pools":["later","a"]"#), (None, 1));
    assert_eq!(config(r#","default_pool":"later""#), (None, 1));
}

#[test]
fn what_is_unknown_is_told_with_what_was_meant() {
    check_config(
        "{\n  \"listner\": [],\n  \"tls\": 1\n}",
        &[
            "moorgate.json:2:3: listner: unknown field \"listner\": did you mean \"listeners\"?",
            "moorgate.json:3:3: tls: unknown field \"tls\": expected one of listeners, admin, pools, profiles, users, tokens, \
         sessions, targets, timeouts, limits, announce, via, log",
        ],
    );
    check_config(
        r#"{"log": {"format": "xml"}, "sessions": {"durability": "fsnc"}}"#,
        &[
            "moorgate.json:1:20: log.format: expected \"text\" or \"json\"",
            "moorgate.json:1:55: sessions.durability: expected \"journal\" or \"fsync\"; did you mean \"fsync\"?",
        ],
    );
}

#[test]
fn every_wrong_type_of_a_file_is_told_at_once() {
    let text = "{\n\"announce\": \"yes\",\n\"timeouts\": {\"head\": 10, \"idle\": \"10\", \"dns\": \"0s\"},\n\
                \"limits\": {\"connections\": 0, \"head_fields\": 1.5, \"head_bytes\": \"1 parsec\"},\n\
                \"listeners\": [{\"bind\": 8080}, {}, \"x\", {\"bind\": \"localhost:1\", \"ttl\": \"8d\"}]}";
    check_config(
        text,
        &[
            "moorgate.json:2:13: announce: expected true or false, found a string",
            "moorgate.json:3:22: timeouts.head: expected a duration such as \"90s\", \"10m\" or \"1h30m\", found a number",
            "moorgate.json:3:34: timeouts.idle: a duration is a number with a unit, such as 90s, 10m, 1h30m, 24h or 7d",
            "moorgate.json:3:47: timeouts.dns: expected a duration above zero",
            "moorgate.json:4:27: limits.connections: expected a whole number from 1 to 10000000",
            "moorgate.json:4:45: limits.head_fields: expected a whole number from 8 to 10000",
            "moorgate.json:4:64: limits.head_bytes: expected a number of bytes, or a size such as \"64KiB\"",
            "moorgate.json:5:24: listeners[0].bind: expected an address and a port, a range of ports, or a Unix socket: \
         \"127.0.0.1:8080\", \"[::1]:8080\", \"10.0.0.1:20001-20100\", \"unix:/run/moorgate.sock\", found a number",
            "moorgate.json:5:31: listeners[1]: the field \"bind\" is missing",
            "moorgate.json:5:35: listeners[2]: expected an object with \"bind\", found a string",
            "moorgate.json:5:49: listeners[3].bind: expected an address and a port, a range of ports, or a Unix socket: \
         \"127.0.0.1:8080\", \"[::1]:8080\", \"10.0.0.1:20001-20100\", \"unix:/run/moorgate.sock\"",
            "moorgate.json:5:71: listeners[3].ttl: expected a duration from \"1s\" to \"168h\"",
        ],
    );
}

#[test]
fn what_is_no_json_is_told_where() {
    check_config(
        "{\n  \"via\": true,\n  \"log\": {\"access\" true}\n}",
        &["moorgate.json:3:20: log: not JSON: expected `:`"],
    );
    check_config("{\"via\": true", &["moorgate.json:1:12: not JSON: EOF while parsing an object"]);
    check_config("", &["moorgate.json:1:1: not JSON: EOF while parsing a value"]);
    check_config("{} x", &["moorgate.json:1:4: not JSON: trailing characters"]);
    check_config("{\"via\": tru}", &["moorgate.json:1:12: via: not JSON: expected ident"]);
    check_config("[]", &["moorgate.json:1:1: expected an object, found a list"]);
    check_config(
        "{\"via\": true, \"via\": false}",
        &["moorgate.json:1:15: via: this key stands in the same object before; keep one"],
    );
    check_config(
        "\u{feff}{\"\u{e9}\": 1, \"\u{e9}\u{e9}\": 1}",
        &[
            "moorgate.json:1:2: [\"\u{e9}\"]: unknown field \"\u{e9}\": expected one of listeners, admin, pools, profiles, users, tokens, \
         sessions, targets, timeouts, limits, announce, via, log",
            "moorgate.json:1:10: [\"\u{e9}\u{e9}\"]: unknown field \"\u{e9}\u{e9}\": expected one of listeners, admin, \
         pools, profiles, users, tokens, sessions, targets, timeouts, limits, announce, via, log",
        ],
    );
    let deep = format!("{{\"via\":{}{}}}", "[".repeat(60), "]".repeat(60));
    check_config(
        &deep,
        &[
            "moorgate.json:1:8: via: expected true or false, found a list",
            "moorgate.json:1:23: via[0][0][0][0][0][0][0][0][0][0][0][0][0][0][0]: nested deeper than any field here",
        ],
    );
    let two = r#"{"listeners": [{"bind": "127.0.0.1:9090"}, {"bind": "127.0.0.1:5-7"}, {"bind": "127.0.0.1:7"},
                 {"bind": "127.0.0.1:0"}, {"bind": "127.0.0.1:0"}]}"#;
    let given = Given::new(&[("moorgate.json", two)]);
    let found = given.lines(given.config().unwrap_err());
    assert_eq!(
        found,
        [
            "moorgate.json:1:25: listeners[0].bind: 127.0.0.1:9090 is taken by moorgate.json:1:1",
            "moorgate.json:1:80: listeners[2].bind: 127.0.0.1:7 is taken by moorgate.json:1:53: listeners[1].bind",
        ]
    );
    check_config(
        r#"{"listeners": [], "admin": {"bind": "0.0.0.0:1"}}"#,
        &[
            "moorgate.json:1:15: listeners: expected at least one listener",
            "moorgate.json:1:37: admin.bind: without \"token\" expected an address on loopback, such as \"127.0.0.1:9090\"",
        ],
    );
    check_config(
        r#"{"admin": {"token": "two words"}}"#,
        &["moorgate.json:1:21: admin.token: expected a token of visible ASCII characters without spaces"],
    );
    check_config(r#"{"admin": {"bind": "0.0.0.0:1", "token": "a"}}"#, &[]);
    check_config(
        r#"{"listeners": [{"bind": "127.0.0.1:9-8"}, {"bind": "::1:8080"}, {"bind": "127.0.0.1:"}]}"#,
        &[
            "moorgate.json:1:25: listeners[0].bind: expected a range of ports from a lower to a higher one",
            "moorgate.json:1:52: listeners[1].bind: expected an address and a port, a range of ports, or a Unix socket: \
         \"127.0.0.1:8080\", \"[::1]:8080\", \"10.0.0.1:20001-20100\", \"unix:/run/moorgate.sock\"",
            "moorgate.json:1:74: listeners[2].bind: expected an address and a port, a range of ports, or a Unix socket: \
         \"127.0.0.1:8080\", \"[::1]:8080\", \"10.0.0.1:20001-20100\", \"unix:/run/moorgate.sock\"",
        ],
    );
}

#[test]
fn listeners_share_no_socket_and_stay_on_loopback_without_users() {
    check_config(
        r#"{"listeners": [{"bind": "0.0.0.0:1"}, {"bind": "[::1]:2"}, {"bind": "127.9.9.9:3"}]}"#,
        &[
            "moorgate.json:1:25: listeners[0].bind: without users the gateway listens on loopback alone, and 0.0.0.0 \
         is not: write \"users\", or bind 127.0.0.1",
        ],
    );
    let two = r#"{"listeners": [{"bind": "127.0.0.1:9090"}, {"bind": "127.0.0.1:5-7"}, {"bind": "127.0.0.1:7"},
                 {"bind": "127.0.0.1:0"}, {"bind": "127.0.0.1:0"}]}"#;
    let given = Given::new(&[("moorgate.json", two)]);
    let found = given.lines(given.config().unwrap_err());
    assert_eq!(
        found,
        [
            "moorgate.json:1:25: listeners[0].bind: 127.0.0.1:9090 is taken by moorgate.json:1:1",
            "moorgate.json:1:80: listeners[2].bind: 127.0.0.1:7 is taken by moorgate.json:1:53: listeners[1].bind",
        ]
    );
    check_config(
        r#"{"listeners": [], "admin": {"bind": "0.0.0.0:1"}}"#,
        &[
            "moorgate.json:1:15: listeners: expected at least one listener",
            "moorgate.json:1:37: admin.bind: without \"token\" expected an address on loopback, such as \"127.0.0.1:9090\"",
        ],
    );
    check_config(
        r#"{"listeners": [{"bind": "127.0.0.1:9-8"}, {"bind": "::1:8080"}, {"bind": "127.0.0.1:"}]}"#,
        &[
            "moorgate.json:1:25: listeners[0].bind: expected a range of ports from a lower to a higher one",
            "moorgate.json:1:52: listeners[1].bind: expected an address and a port, a range of ports, or a Unix socket: \
         \"127.0.0.1:8080\", \"[::1]:8080\", \"10.0.0.1:20001-20100\", \"unix:/run/moorgate.sock\"",
            "moorgate.json:1:74: listeners[2].bind: expected an address and a port, a range of ports, or a Unix socket: \
         \"127.0.0.1:8080\", \"[::1]:8080\", \"10.0.0.1:20001-20100\", \"unix:/run/moorgate.sock\"",
        ],
    );
}

#[test]
fn the_command_line_says_where_to_listen() {
    let mut given = Given::new(&[("moorgate.json", r#"{"listeners": [{"bind": "127.0.0.1:1"}]}"#)]);
    given.source.listen = vec!["127.0.0.1:0".to_owned(), "[::1]:0".to_owned()];
    let (config, _) = given.config().unwrap();
    assert_eq!(config.listeners.len(), 2);
    given.source.listen = vec!["0.0.0.0:8080".to_owned(), "8080".to_owned()];
    let found = given.lines(given.config().unwrap_err());
    assert_eq!(
        found,
        [
            "--listen: without users the gateway listens on loopback alone, and 0.0.0.0 is not: write \"users\", or bind \
         127.0.0.1",
            "--listen: expected an address and a port, a range of ports, or a Unix socket: \"127.0.0.1:8080\", \"[::1]:8080\", \
         \"10.0.0.1:20001-20100\", \"unix:/run/moorgate.sock\"",
        ]
    );
}

#[test]
fn users_are_judged() {
    check_config(
        r#"{"users": [
        {"name": "a b", "password": "hunter2"},
        {"name": "a", "password": ""},
        {"name": "b", "password": "$argon2id$hunter2"},
        {"name": "c", "password": "$2b$12$hunter2"},
        {"name": "d", "password": 2},
        {"name": "e", "password": "x", "pools": [], "clients": ["10.0.0.1/8", "10.0.0.0/33"]},
        {"name": "f", "password": "x", "pools": ["p", "a/b"], "default_pool": "q"},
        {"name": "e", "password": "x"},
        {"name": "g", "password": "${MISSING}"},
        {"name": "h", "password": "x", "sessions": {"min_ttl": "2h", "max_ttl": "1h"}},
        {"name": "i", "password": "x", "sessions": {"default_ttl": "2h", "max_ttl": "1h"}},
        {"nam": "j"}
    ]}"#,
        &[
            "moorgate.json:2:18: users[0].name: expected 1 to 64 of the characters A-Z a-z 0-9 . _ -",
            "moorgate.json:3:35: users[1].password: expected a secret, found an empty string",
            "moorgate.json:4:35: users[2].password: the PHC string is damaged: moorgate hash-password makes a new one",
            "moorgate.json:5:35: users[3].password: of hashes, only argon2's are known: moorgate hash-password makes \
             one",
            "moorgate.json:6:35: users[4].password: expected a string, found a number",
            "moorgate.json:7:49: users[5].pools: expected at least one pool; leave it out to allow all",
            "moorgate.json:7:65: users[5].clients[0]: 10.0.0.1/8 has bits set behind its length: write 10.0.0.0/8 for \
             the prefix, or 10.0.0.1 for the address",
            "moorgate.json:7:79: users[5].clients[1]: expected an address or a CIDR such as \"10.0.0.0/8\"",
            "moorgate.json:8:55: users[6].pools[1]: expected 1 to 128 printable ASCII characters without a space or a \
             slash",
            "moorgate.json:8:79: users[6].default_pool: expected one of the user's \"pools\"",
            "moorgate.json:9:18: users[7].name: the user e stands at moorgate.json:7:18: users[5].name before",
            "moorgate.json:10:35: users[8].password: the environment variable MISSING is not set",
            "moorgate.json:11:64: users[9].sessions.min_ttl: no ttl is left: the shortest is 2h, the longest 1h",
            "moorgate.json:12:68: users[10].sessions.default_ttl: expected a duration from 1s to 1h",
            "moorgate.json:13:10: users[11].nam: unknown field \"nam\": did you mean \"name\"?",
        ],
    );
}

#[test]
fn pools_that_are_not_there_and_bounds_that_are_cut_are_warnings() {
    let text = r#"{"listeners": [{"bind": "127.0.0.1:1", "pool": "x", "ttl": "1m", "idle": "2m"}],
        "sessions": {"max_ttl": "1h"},
        "users": [{"name": "a", "password": "x", "pools": ["p", "y"], "sessions": {"default_ttl": "2h"}}]}"#;
    let pools = r#"{"pools":[{"name":"p","exits":["direct"]}]}"#;
    let given = Given::new(&[("moorgate.json", text), ("pools/p.json", pools)]);
    let (_, warnings) = given.config().unwrap();
    let warnings: Vec<_> = warnings.iter().flat_map(|warning| given.lines(warning)).collect();
    assert_eq!(
        warnings,
        [
            "moorgate.json:1:74: listeners[0].idle: a session ends with its ttl before it can be idle for so long",
            "moorgate.json:3:99: users[0].sessions.default_ttl: the gateway's bounds make 1h of it",
        ]
    );
    let (_, loaded) = given.load().unwrap();
    let warnings: Vec<_> = loaded.warnings.iter().flat_map(|warning| given.lines(warning)).collect();
    assert_eq!(
        warnings,
        [
            "moorgate.json:1:48: listeners[0].pool: no pool is named x now; it may come with a reload",
            "moorgate.json:3:65: users[0].pools[1]: no pool is named y now; it may come with a reload",
        ]
    );
}

#[test]
fn session_bounds_agree() {
    let sessions = |text: &str| {
        let text = format!(r#"{{"sessions": {text}}}"#);
        Given::new(&[("moorgate.json", &text)])
            .config()
            .unwrap()
            .0
            .sessions
            .bounds
            .default_ttl
            .unwrap()
            .as_secs()
    };
    assert_eq!(sessions(r#"{"max_ttl": "5m"}"#), 300);
    assert_eq!(sessions(r#"{"min_ttl": "15m"}"#), 900);
    assert_eq!(sessions(r#"{"idle": null, "min_ttl": "15m", "default_ttl": "20m"}"#), 1200);
    check_config(
        r#"{"sessions": {"min_ttl": "2h", "max_ttl": "1h", "store": "redis:x"}}"#,
        &[
            "moorgate.json:1:26: sessions.min_ttl: no ttl is left: the shortest is 2h, the longest 1h",
            "moorgate.json:1:58: sessions.store: expected \"memory\", \"file:\" and a folder, or a URL redis://…",
        ],
    );
}

#[test]
fn targets_are_judged() {
    check_config(
        r#"{"targets": {"deny": ["*.x", "a b", "10.0.0.0/8:0"], "ports": [0, 80, "9-8"], "private": "yes"}}"#,
        &[
            "moorgate.json:1:30: targets.deny[1]: expected an address, a CIDR such as 192.0.2.0/24, a name or *.name, \
         each with :port if wanted",
            "moorgate.json:1:37: targets.deny[2]: a port is a number from 1 to 65535, a range of ports first-last",
            "moorgate.json:1:64: targets.ports[0]: expected a port from 1 to 65535, or a range such as \"8000-8999\"",
            "moorgate.json:1:71: targets.ports[2]: expected a port from 1 to 65535, or a range such as \"8000-8999\"",
            "moorgate.json:1:90: targets.private: expected true, false, or a list of the CIDRs that are let through, \
         found a string",
        ],
    );
}

#[test]
fn limits_of_users_are_meant_as_written_and_wrong_ones_are_told() {
    let pools = r#"{"pools": [{"name": "p", "exits": ["direct"]}]}"#;
    let user = |limits: &str| {
        format!("{{\"users\": [{{\"name\": \"u\", \"password\": \"x\", \"limits\": {limits}}}]}}")
    };
    let given = Given::new(&[(
        "moorgate.json",
        &user(r#"{"requests_per_second": 50, "sessions": 7, "bandwidth": {"down": "1MB/s"}}"#),
    )]);
    let limits = given.config().unwrap().0.users[0].limits;
    assert_eq!(limits.rate.map(|rate| (rate.per_second.get(), rate.burst.get())), Some((50, 50)));
    assert_eq!((limits.sessions.map(|n| n.get()), limits.connections), (Some(7), None));
    assert_eq!((limits.bandwidth.up, limits.bandwidth.down.map(|n| n.get())), (None, Some(1_000_000)));
    let wrong = |limits: &str, expected: &[&str]| {
        check(&[("moorgate.json", &user(limits)), ("pools.json", pools)], expected);
    };
    wrong(
        r#"{"burst": 5}"#,
        &["moorgate.json:1:63: users[0].limits.burst: expected \"requests_per_second\" beside it"],
    );
    wrong(
        r#"{"bandwith": 5, "bandwidth": "fast"}"#,
        &[
            "moorgate.json:1:54: users[0].limits.bandwith: unknown field \"bandwith\": did you mean \"bandwidth\"?",
            "moorgate.json:1:82: users[0].limits.bandwidth: expected a number of bytes a second, or a text such \
             as \"50MB/s\", or an object with \"up\" and \"down\"",
        ],
    );
    wrong(
        r#"{"bandwidth": {"up": "1MB/s", "both": 1}, "connections": -1}"#,
        &[
            "moorgate.json:1:83: users[0].limits.bandwidth.both: unknown field \"both\": expected one of up, down",
            "moorgate.json:1:110: users[0].limits.connections: expected a whole number from 0 to 10000000",
        ],
    );
}
