use super::*;
use crate::config::{ConfigSource, load_pools};

#[test]
fn it_says_what_would_run_and_no_secret() {
    let folder = tempfile::tempdir().unwrap();
    let config = r#"{
      "listeners": [{ "bind": "127.0.0.1:8080" },
                    { "bind": "127.0.0.1:5-9", "pool": "us", "ttl": "90s", "failover": "off",
                      "labels": {"city": "Boston"} }],
      "admin": null,
      "users": [{ "name": "acme", "password": "hunter2", "pools": ["us"], "clients": ["10.0.0.0/8"] },
                { "name": "bob", "password": "hunter2" }],
      "sessions": { "store": "memory" }
    }"#;
    let pools = r#"{"pools": [{ "name": "us", "failover": "address", "exits": [
        "direct", "192.0.2.1", "192.0.2.2", "2001:db8::/64", "http://u:hunter2@h:1",
        { "id": "ams", "via": "socks5://h:2", "address": "192.0.2.9", "weight": 3, "labels": {"city": "Ams"},
          "max_ttl": "1h", "state": "drain" },
        { "via": "https://h:3", "insecure": true, "state": "off" },
        { "id": "t", "via": "http://u-{session}:hunter2@h:4" }] }]}"#;
    std::fs::write(folder.path().join("c.json"), config).unwrap();
    std::fs::write(folder.path().join("p.json"), pools).unwrap();
    let source = ConfigSource {
        config: Some(folder.path().join("c.json")),
        pools: Some(folder.path().join("p.json")),
        listen: Vec::new(),
    };
    let (config, _) = Config::load(&source).unwrap();
    let loaded = load_pools(&config).unwrap();
    let text = describe(&config, &loaded.pools);
    assert_eq!(
        text,
        "\
listeners
  127.0.0.1:8080 auto
  127.0.0.1:5 to 9 auto, pool us, ttl 1m30s, failover off, city=boston
admin
  none
users
  acme: plain secret, pool us, default us, from 10.0.0.0/8
  bob: plain secret, every pool, default us
sessions
  kept in memory, gone with the process, ttl 10m by default, at most 7days
pools
  us: rotation round_robin, placement least_sessions, failover address
    1 direct
      direct
    2 source addresses
      192.0.2.1
      192.0.2.2
    1 source prefix
      2001:db8::/64
    1 http upstream
      http://h:1
    1 https upstream
      https://h:3, takes any certificate, off
    1 socks5 upstream
      ams via socks5://h:2, weight 3, city=Ams, at most 1h, draining
    1 vendor template
      t via http://h:4
warning: upstreams without \"address\" and without placeholders may change their address under a session:
  us: http://h:1
"
    );
}
