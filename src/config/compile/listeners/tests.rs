use super::super::tests::{Given, check_config};
use super::*;
use crate::config::Protocol;

const USERS: &str = r#""users": [{"name": "acme", "password": "x", "clients": ["10.0.0.0/8"]},
    {"name": "open", "password": "x"}]"#;

/// What is meant by listeners, and what is odd about them.
#[track_caller]
fn read(listeners: &str, files: &[(&str, &str)]) -> (Given, Vec<Listener>, Vec<String>) {
    let text = format!("{{\"listeners\": [{listeners}], {USERS}}}");
    let given = Given::new(&[&[("moorgate.json", &*text)], files].concat());
    let (config, warnings) = given.config().unwrap();
    let warnings = warnings.iter().map(|warning| given.lines(warning).concat()).collect();
    (given, config.listeners, warnings)
}

fn certificate() -> (String, String) {
    let made = rcgen::generate_simple_self_signed(["a.test".to_owned()]).unwrap();
    (made.cert.pem(), made.signing_key.serialize_pem())
}

#[test]
fn every_default_is_applied() {
    let (_given, listeners, warnings) = read(r#"{"bind": "127.0.0.1:1"}"#, &[]);
    let [listener] = &*listeners else { panic!() };
    assert_eq!(listener.binds, ["127.0.0.1:1".parse().unwrap()]);
    assert_eq!((listener.mode, listener.protocol), (0o660, Protocol::Auto));
    assert!(listener.certificates.is_empty() && listener.proxied_by.is_none());
    assert!(listener.user.is_none() && !listener.port_is_session && warnings.is_empty());
}

#[test]
fn every_key_is_meant() {
    let (cert, key) = certificate();
    let (given, listeners, warnings) = read(
        r#"{"bind": "10.0.0.1:1-3", "protocol": "socks5", "user": "acme", "session": "port",
            "proxy_protocol": ["10.0.0.5", "10.1.0.0/16"]},
           {"bind": "unix:run/m.sock", "mode": "600", "proxy_protocol": true},
           {"bind": "[::1]:9", "protocol": "http", "proxy_protocol": false,
            "tls": [{"cert": "a.pem", "key": "a.key"}, {"cert": "a.pem", "key": "a.key"}]},
           {"bind": "[::1]:10", "tls": {"cert": "a.pem", "key": "a.key"}}"#,
        &[("a.pem", &cert), ("a.key", &key)],
    );
    let [ports, unix, tls, one] = &*listeners else { panic!() };
    assert_eq!((ports.binds.len(), ports.protocol), (3, Protocol::Socks5));
    assert!(ports.port_is_session && ports.user.as_deref() == Some("acme"));
    let nets = ["10.0.0.5/32".parse().unwrap(), "10.1.0.0/16".parse().unwrap()];
    assert_eq!(ports.proxied_by, Some(ProxiedBy::Some(nets.to_vec())));
    assert_eq!(unix.binds, [Bind::Unix(given.folder.path().join("run/m.sock"))]);
    assert_eq!((unix.mode, &unix.proxied_by), (0o600, &Some(ProxiedBy::All)));
    assert_eq!((tls.certificates.len(), one.certificates.len()), (2, 1));
    assert!(tls.proxied_by.is_none() && warnings.is_empty());
    // Its files are watched.
    let (config, _) = given.config().unwrap();
    std::fs::write(given.folder.path().join("a.key"), "other").unwrap();
    assert_ne!(config.watched().now(), *config.watched());
    let shown = format!("{config:?}");
    assert!(!shown.contains("PRIVATE KEY"), "{shown}");
}

#[test]
fn what_is_odd_is_told() {
    let (_given, _, warnings) = read(
        r#"{"bind": "0.0.0.0:1", "proxy_protocol": true}, {"bind": "203.0.114.1:1", "proxy_protocol": true},
           {"bind": "10.0.0.1:1", "proxy_protocol": true}, {"bind": "127.0.0.1:2", "user": "open"}"#,
        &[],
    );
    let anyone = "whoever reaches this address can pass for any client: write the balancers' addresses \
                  instead of true";
    assert_eq!(
        warnings,
        [
            format!("moorgate.json:1:56: listeners[0].proxy_protocol: {anyone}"),
            format!("moorgate.json:1:107: listeners[1].proxy_protocol: {anyone}"),
            "moorgate.json:2:92: listeners[3].user: the user open has no \"clients\": everybody needs a \
             credential here"
                .to_owned(),
        ]
    );
}

#[test]
fn what_is_wrong_is_told() {
    check_config(
        r#"{"listeners": [
            {"bind": "127.0.0.1:1", "mode": "0600"},
            {"bind": "unix:s", "session": "port", "mode": "0999"},
            {"bind": "unix:s", "user": "nobody"},
            {"bind": "127.0.0.1:2", "proxy_protocol": []},
            {"bind": "127.0.0.1:3", "protocol": "socks4", "session": "client"},
            {"bind": "127.0.0.1:4", "tls": {"cert": "no.pem", "key": "no.key"}},
            {"bind": "127.0.0.1:5", "tls": []},
            {"bind": "127.0.0.1:6", "tls": "cert.pem"},
            {"bind": "127.0.0.1:7", "tls": [{"cert": "no.pem"}]},
            {"bind": "127.0.0.1:8", "tls": {"cert": "a", "key": "b", "ca": "c"}},
            {"bind": "127.0.0.1:9", "proxy_protocol": "yes"},
            {"bind": "unix:"}
        ]}"#,
        &[
            "moorgate.json:2:45: listeners[0].mode: expected \"unix:\" and a path in \"bind\" beside it",
            "moorgate.json:3:43: listeners[1].session: expected ports in \"bind\": a Unix socket has none",
            "moorgate.json:3:59: listeners[1].mode: expected a file's mode in octal, such as \"0660\"",
            "moorgate.json:4:22: listeners[2].bind: unix:s is taken by moorgate.json:3:22: listeners[1].bind",
            "moorgate.json:4:40: listeners[2].user: there is no user nobody",
            "moorgate.json:5:55: listeners[3].proxy_protocol: expected at least one address; true: everybody's word counts",
            "moorgate.json:6:49: listeners[4].protocol: expected \"auto\" or \"http\" or \"socks5\"; did you mean \"socks5\"?",
            "moorgate.json:6:70: listeners[4].session: expected \"port\"",
            "moorgate.json:7:53: listeners[5].tls.cert: no.pem cannot be read: No such file or directory (os error 2)",
            "moorgate.json:8:44: listeners[6].tls: expected 1 to 100 certificates",
            "moorgate.json:9:44: listeners[7].tls: expected an object with \"cert\" and \"key\", or a list of such, found a string",
            "moorgate.json:10:45: listeners[8].tls[0]: the field \"key\" is missing",
            "moorgate.json:11:53: listeners[9].tls.cert: a cannot be read: No such file or directory (os error 2)",
            "moorgate.json:11:70: listeners[9].tls.ca: unknown field \"ca\": expected one of cert, key",
            "moorgate.json:12:55: listeners[10].proxy_protocol: expected true, false, or a list of the balancers' addresses and CIDRs, found a string",
            "moorgate.json:13:22: listeners[11].bind: expected an address and a port, or \"unix:\" and a path of at most 107 bytes",
        ],
    );
}
