use crate::config::compile::tests::{check, check_exit, check_pools, fine};
use crate::core::exit::Trust;

#[test]
fn the_digest_is_of_via_with_its_credential() {
    let digest = |exit: &str| {
        let text = format!(r#"{{"pools":[{{"name":"p","exits":[{exit}]}}]}}"#);
        fine(&[("pools.json", &text)]).1.pools.pool("p").unwrap().exits[0].digest
    };
    let plain = digest(r#""http://u:a@h:1""#);
    assert_eq!(plain, digest(r#"{"id": "x", "weight": 7, "via": "HTTP://u:a@H:1/"}"#));
    assert_eq!(plain, 0x389eb296, "stable across restarts and versions");
    for other in [r#""http://u:b@h:1""#, r#""http://v:a@h:1""#, r#""http://h:1""#, r#""socks5://u:a@h:1""#] {
        assert_ne!(plain, digest(other), "{other}");
    }
}

#[test]
fn every_bad_exit_of_a_file_is_told() {
    check_pools(
        r#"{"pools": [
  {"name": "a", "exits": [
    "direct",
    "203.0.113.256",
    {"via": "203.0.113.10/24"},
    {"id": "x y", "via": "direct", "weight": 0},
    {"via": "ftp://u:hunter2@h:1"},
    {"via": "http://u:hunter2@h"},
    {"id": "z", "weigth": 3},
    7,
    {"id": "ok", "via": "http://u:{hunter2}@h:1"},
    "0.0.0.0"
  ], "exit": 1},
  {"exits": ["direct"]}
]}"#,
        &[
            "pools.json:4:5: pools[0].exits[1]: expected \"direct\", an IP address, a CIDR prefix, or the URL of an \
             upstream: http://, https://, socks5:// or socks5h:// with host and port",
            "pools.json:5:13: pools[0].exits[2].via: 203.0.113.10/24 has bits set behind its length: write \
             203.0.113.0/24 for the prefix, or 203.0.113.10 for the address",
            "pools.json:6:12: pools[0].exits[3].id: expected 1 to 300 printable ASCII characters without a space",
            "pools.json:6:46: pools[0].exits[3].weight: expected a whole number from 1 to 1000",
            "pools.json:7:13: pools[0].exits[4].via: the scheme of an upstream is http, https, socks5 or socks5h",
            "pools.json:8:13: pools[0].exits[5].via: the port is missing: write host:port, such as example.com:443",
            "pools.json:9:17: pools[0].exits[6].weigth: unknown field \"weigth\": did you mean \"weight\"?",
            "pools.json:10:5: pools[0].exits[7]: expected an exit: a string, or an object with \"via\", found a number",
            "pools.json:11:25: pools[0].exits[8].via: unknown placeholder: use {session}, {ttl_minutes}, \
             {ttl_seconds}, {ttl_hours} or a label such as {country}, and write %7B for a brace that stands for itself",
            "pools.json:12:5: pools[0].exits[9]: nothing can be sent from this address: write one of the host's own, \
             or \"direct\"",
            "pools.json:13:6: pools[0].exit: unknown field \"exit\": did you mean \"exits\"?",
            "pools.json:14:3: pools[1]: the field \"name\" is missing",
        ],
    );
}

#[test]
fn exits_are_judged_by_their_kind() {
    check_exit(
        r#"{"via": "10.0.0.0/24", "address": "10.0.0.1"}"#,
        &["pools.json:2:35: pools[0].exits[0].address: this exit has an address for each session, not one"],
    );
    check_exit(
        r#"{"via": "http://{session}:x@h:1", "address": "10.0.0.1"}"#,
        &["pools.json:2:46: pools[0].exits[0].address: this exit has an address for each session, not one"],
    );
    check_exit(
        r#"{"via": "direct", "exit_fault_status": [200, 502]}"#,
        &[
            "pools.json:2:40: pools[0].exits[0].exit_fault_status: only an upstream answers with a status",
            "pools.json:2:41: pools[0].exits[0].exit_fault_status[0]: expected a whole number from 300 to 599",
        ],
    );
    check_exit(
        r#"{"via": "direct", "labels": {"county": "us", "city": "-", "tag": ["a", 1]}}"#,
        &[
            "pools.json:2:30: pools[0].exits[0].labels.county: unknown field \"county\": did you mean \"country\"?",
            "pools.json:2:54: pools[0].exits[0].labels.city: expected a label of at most 128 bytes with a letter or a \
         digit in it",
            "pools.json:2:72: pools[0].exits[0].labels.tag[1]: expected a string, found a number",
        ],
    );
    check_exit(
        r#""http://u%3Av:x@h:1""#,
        &[
            "pools.json:2:1: pools[0].exits[0]: a user with a colon in it cannot be sent to an HTTP upstream (RFC 7617)",
        ],
    );
    check_exit(
        r#""socks5://{sesion}:hunter2@h:1""#,
        &["pools.json:2:1: pools[0].exits[0]: unknown placeholder: did you mean {session}?"],
    );
    check_exit(
        r#""198.51.100.7:3128""#,
        &["pools.json:2:1: pools[0].exits[0]: an upstream needs its scheme, as in http://host:port"],
    );
}

#[test]
fn roots_are_certificates() {
    let exit = r#"{"pools":[{"name":"p","exits":[{"via":"https://h:1","ca":"ca.pem"}]}]}"#;
    let key = rcgen::generate_simple_self_signed(["h".to_owned()]).unwrap();
    let (_, loaded) = fine(&[("pools.json", exit), ("ca.pem", &key.cert.pem())]);
    let trust = loaded.pools.pool("p").unwrap().exits[0].via.upstream().unwrap().trust.clone();
    assert_eq!(trust, Trust::Roots(key.cert.pem().into_bytes().into()));
    check(
        &[("pools.json", exit), ("ca.pem", "no PEM")],
        &["pools.json:1:58: pools[0].exits[0].ca: ca.pem: expected certificates in PEM"],
    );
}

#[test]
fn ids_and_names_are_told_apart() {
    check_pools(
        r#"{"pools": [
  {"name": "us-east", "exits": ["direct", {"id": "a", "via": "direct"}, {"id": "a", "via": "10.0.0.1"},
    {"id": "a-1", "via": "direct"}, {"id": "a:1", "via": "direct"},
    "http://u:hunter2@h:1", "http://v:hunter2@h:1"]},
  {"name": "us_east", "exits": ["direct"]},
  {"name": "us-east", "exits": ["direct"]}
]}"#,
        &[
            "pools.json:2:73: pools[0].exits[2]: the exit a stands at pools.json:2:43: pools[0].exits[1] before: give \
             one of them an \"id\"",
            "pools.json:3:37: pools[0].exits[4]: a:1 and a-1 (at pools.json:3:5: pools[0].exits[3]) are one id in a \
             username, where _ stands for what a value cannot hold: give one of them another \"id\"",
            "pools.json:4:29: pools[0].exits[6]: the exit http://h:1 stands at pools.json:4:5: pools[0].exits[5] \
             before: give one of them an \"id\"",
            "pools.json:5:12: pools[1].name: us_east and us-east (at pools.json:2:12: pools[0].name) are one name in a \
             username, where _ stands for what a value cannot hold: rename one",
            "pools.json:6:12: pools[2].name: the pool us-east stands at pools.json:2:12: pools[0].name before",
        ],
    );
    let pool = r#"{"pools":[{"name":"p","exits":["direct"]}]}"#;
    check(
        &[("moorgate.json", "{}"), ("pools/a.json", pool), ("pools/b.json", pool)],
        &["pools/b.json:1:19: pools[0].name: the pool p stands at pools/a.json:1:19: pools[0].name before"],
    );
}

#[test]
fn an_id_that_was_passed_over_makes_no_second_finding() {
    check_pools(
        r#"{"pools":[{"name":"p","exits":["direct",{"id":7,"via":"direct"}]}]}"#,
        &[
            "pools.json:1:47: pools[0].exits[1].id: expected 1 to 300 printable ASCII characters without a space, found \
         a number",
        ],
    );
}

#[test]
fn lists_are_told_by_their_lines() {
    let pools = r#"{"pools":[{"name":"p","import":["list.txt", "none.txt"]}]}"#;
    check(
        &[
            ("pools.json", pools),
            ("list.txt", "h.example:1\n\nhunter2\nh.example:1\ni:1:u:hunter2\ni:1:u:x\n"),
        ],
        &[
            "list.txt:3:1: expected host:port, host:port:user:pass, user:pass@host:port, user:pass:host:port, or a URL",
            "list.txt:4:1: the exit http://h.example:1 stands at list.txt:1:1 before: give one of them an \"id\"",
            "list.txt:6:1: the exit http://i:1#135e48e7e8 stands at list.txt:5:1 before: give one of them an \"id\"",
            "pools.json:1:45: pools[0].import[1]: none.txt: cannot be read: No such file or directory (os error 2)",
        ],
    );
}

#[test]
fn a_list_is_looked_for_beside_the_pool_file_then_beside_the_configuration() {
    let pools = r#"{"pools":[{"name":"p","import":["list.txt"]}]}"#;
    let near = ("pools/list.txt", "near.example:1\n");
    let far = ("list.txt", "far.example:1\n");
    let found = |files: &[(&str, &str)]| fine(files).1.pools.pool("p").unwrap().exits[0].name.id.to_string();
    let base = [("moorgate.json", "{}"), ("pools/p.json", pools)];
    assert_eq!(found(&[base[0], base[1], near, far]), "http://near.example:1");
    assert_eq!(found(&[base[0], base[1], far]), "http://far.example:1");
}
