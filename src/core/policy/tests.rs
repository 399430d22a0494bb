use super::*;

fn policy(json: &[(&str, &str)]) -> Arc<TargetPolicy> {
    let mut policy = TargetPolicy::default();
    for (key, text) in json {
        let words = || text.split_whitespace();
        match *key {
            "allow" => policy.allow = words().map(|w| w.parse().unwrap()).collect(),
            "deny" => policy.deny = words().map(|w| w.parse().unwrap()).collect(),
            "ports" => policy.ports = Some(words().map(|w| parse_ports(w).unwrap()).collect()),
            "private" if *text == "yes" => policy.private = Private::Yes,
            "private" => policy.private = Private::Only(words().map(|w| w.parse().unwrap()).collect()),
            "resolve" if *text == "always" => policy.resolve = Resolve::Always,
            "resolve" if *text == "never" => policy.resolve = Resolve::Never,
            other => panic!("{other}"),
        }
    }
    Arc::new(policy)
}

fn judged(policy: &Arc<TargetPolicy>, target: &str) -> Result<Judged, Fault> {
    policy.judge(Target::parse(target).unwrap(), &Arc::default())
}

#[track_caller]
fn check(rules: &[(&str, &str)], passes: &[&str], refused: &[&str]) {
    let policy = policy(rules);
    for target in passes {
        assert!(judged(&policy, target).is_ok(), "{target} under {rules:?}");
    }
    for target in refused {
        let fault = judged(&policy, target).map(drop).unwrap_err();
        assert_eq!(fault.code(), Code::TargetForbidden, "{target} under {rules:?}");
    }
}

/// What of the addresses of `name.example` is kept.
#[track_caller]
fn check_vet(rules: &[(&str, &str)], resolved: &[&str], expected: Option<&[&str]>) {
    let judged = judged(&policy(rules), "name.example:443").unwrap();
    let parse = |ips: &[&str]| ips.iter().map(|ip| ip.parse().unwrap()).collect::<Vec<IpAddr>>();
    let kept = judged.vet(&parse(resolved)).ok().map(|vetted| vetted.at().clone());
    assert_eq!(kept, expected.map(|ips| At::Addresses(parse(ips))), "{resolved:?} under {rules:?}");
}

#[test]
fn by_default_public_addresses_and_every_port_but_25() {
    check(
        &[],
        &[
            "example.com:443",
            "8.8.8.8:53",
            "[2606:4700::1]:80",
            "[64:ff9b::8.8.8.8]:443",
            "x.localhost.example:1",
        ],
        &[
            "example.com:25",
            "127.0.0.1:80",
            "[::1]:80",
            "localhost:80",
            "a.b.localhost:80",
            "LOCALHOST.:80",
            "10.1.2.3:443",
            "[::ffff:10.1.2.3]:443",
            "[2002:a01:203::]:443",
            "[64:ff9b:1::7f00:1]:80",
            "[fd00::1]:80",
            "0.0.0.0:80",
            "[::]:80",
            "169.254.169.254:80",
            "[100::1]:80",
        ],
    );
}

#[test]
fn ports_are_as_listed() {
    check(
        &[("ports", "25 443 8000-8999")],
        &["a.example:25", "a.example:443", "a.example:8000", "8.8.8.8:8999"],
        &["a.example:80", "a.example:7999", "8.8.8.8:9000"],
    );
    for bad in ["", "0", "65536", "9-8", "1-", "-1", "+1", "1-2-3", "a"] {
        assert_eq!(parse_ports(bad), Err(EntryError::Port), "{bad}");
    }
}

#[test]
fn deny_wins() {
    check(
        &[
            ("private", "yes"),
            ("allow", "*.example 10.0.0.0/8 8.8.8.8"),
            ("deny", "bad.example *.internal.example 10.6.0.0/16 x.example:80"),
        ],
        &[
            "good.example:1",
            "internal.example:1",
            "10.5.0.1:1",
            "8.8.8.8:1",
            "[64:ff9b::8.8.8.8]:1",
            "x.example:81",
        ],
        &[
            "bad.example:1",
            "a.internal.example:1",
            "a.b.internal.example:1",
            "10.6.1.1:1",
            "[::ffff:10.6.1.1]:1",
            "[64:ff9b::10.6.1.1]:1",
            "[2002:a06:101::]:1",
            "x.example:80",
            "9.9.9.9:1",
            "[2606:4700::1]:1",
        ],
    );
}

#[test]
fn allow_lets_only_its_own_through_and_does_not_excuse() {
    check(
        &[("allow", "good.example 10.0.0.0/8 [2606:4700::/32]:443")],
        &["good.example:1", "maybe.example:1", "[2606:4700::1]:443"],
        &["10.0.0.1:1", "8.8.8.8:1", "[2606:4700::1]:80"],
    );
    check(
        &[("allow", "*.good.example:443")],
        &["a.good.example:443"],
        &["good.example:443", "a.good.example:80", "agood.example:443", "bad.example:443"],
    );
    check(&[("allow", "8.8.8.8:443")], &["maybe.example:443"], &["never.example:80"]);
}

#[test]
fn private_lets_its_networks_through_in_every_spelling() {
    check(
        &[("private", "10.0.0.0/8 127.0.0.1/32")],
        &[
            "10.1.1.1:1",
            "[::ffff:10.1.1.1]:1",
            "[64:ff9b::10.1.1.1]:1",
            "[64:ff9b:1::10.1.1.1]:1",
            "[2002:a01:101::]:1",
            "localhost:80",
            "127.0.0.1:80",
        ],
        &["192.168.0.1:1", "[::ffff:192.168.0.1]:1", "127.0.0.2:1", "[::1]:1", "[2001:0:a01:101::]:1"],
    );
    check(&[("private", "::/0")], &["[fd00::1]:1", "[::1]:1"], &["[::ffff:127.0.0.1]:1", "127.0.0.1:1"]);
    check(
        &[("private", "yes")],
        &["127.0.0.1:1", "[::1]:1", "a.localhost:1", "[2002:7f00:1::]:1"],
        &["10.0.0.1:25"],
    );
}

#[test]
fn resolved_addresses_are_judged_one_by_one() {
    check_vet(&[], &["8.8.8.8", "10.0.0.1", "2606:4700::1"], Some(&["8.8.8.8", "2606:4700::1"]));
    check_vet(&[], &["10.0.0.1", "::1"], None);
    check_vet(&[], &[], None);
    check_vet(&[], &["::ffff:8.8.8.8"], Some(&["8.8.8.8"]));
    check_vet(&[("deny", "8.8.0.0/16")], &["8.8.8.8", "64:ff9b::808:808", "9.9.9.9"], Some(&["9.9.9.9"]));
    check_vet(&[("allow", "8.8.0.0/16")], &["8.8.8.8", "9.9.9.9"], Some(&["8.8.8.8"]));
    check_vet(&[("allow", "8.8.0.0/16 name.example")], &["9.9.9.9", "10.0.0.1"], Some(&["9.9.9.9"]));
    check_vet(&[("private", "10.0.0.0/8")], &["10.0.0.1", "192.168.1.1"], Some(&["10.0.0.1"]));
}

#[test]
fn a_name_that_the_upstream_resolves_passes_by_name_alone() {
    let vets = |rules: &[(&str, &str)]| judged(&policy(rules), "name.example:443").unwrap().vet_unresolved();
    assert_eq!(*vets(&[]).unwrap().at(), At::Upstream);
    assert_eq!(*vets(&[("allow", "name.example 8.8.8.8")]).unwrap().at(), At::Upstream);
    assert_eq!(vets(&[("allow", "8.8.8.8")]).unwrap_err().code(), Code::TargetForbidden);
}

#[test]
fn an_upstream_may_take_any_address() {
    let vets = |ips: &[&str]| {
        let ips: Vec<_> = ips.iter().map(|ip| ip.parse().unwrap()).collect();
        judged(&policy(&[]), "name.example:443").unwrap().vet_upstream(&ips).is_ok()
    };
    assert!(vets(&["8.8.8.8", "9.9.9.9"]));
    assert!(!vets(&["8.8.8.8", "10.0.0.1"]));
    assert!(vets(&[]));
}

#[test]
fn resolving_as_well() {
    #[track_caller]
    fn check(rules: &[(&str, &str)], target: &str, private: bool, expected: bool) {
        assert_eq!(judged(&policy(rules), target).unwrap().wants_resolving(private), expected, "{rules:?}");
    }
    check(&[], "a.example:1", true, true);
    check(&[], "a.example:1", false, false);
    check(&[], "8.8.8.8:1", true, false);
    check(&[("private", "yes")], "a.example:1", true, false);
    check(&[("private", "yes"), ("deny", "10.0.0.0/8")], "a.example:1", true, true);
    check(&[("resolve", "always")], "a.example:1", false, true);
    check(&[("resolve", "never")], "a.example:1", true, false);
}

#[test]
fn loops_are_seen_in_every_spelling_whatever_the_policy() {
    let ip = |text: &str| text.parse::<IpAddr>().unwrap();
    let own = |sockets: &[&str]| {
        let local = vec![ip("10.0.0.5"), ip("2606:4700::5")];
        Arc::new(Own::new(sockets.iter().map(|s| s.parse().unwrap()).collect(), local))
    };
    let looped = |own: &Arc<Own>, target: &str| {
        let judged = policy(&[("deny", "10.0.0.5")]).judge(Target::parse(target).unwrap(), own);
        judged.is_err_and(|fault| fault.code() == Code::LoopDetected)
    };

    let loopback = own(&["127.0.0.1:8080"]);
    for target in [
        "127.0.0.1:8080",
        "[::ffff:127.0.0.1]:8080",
        "[::127.0.0.1]:8080",
        "[64:ff9b::7f00:1]:8080",
        "localhost:8080",
        "a.localhost:8080",
        "0.0.0.0:8080",
        "[::]:8080",
        "[2002:7f00:1::]:8080",
    ] {
        assert!(looped(&loopback, target), "{target}");
    }
    for target in ["127.0.0.1:8081", "127.0.0.2:8080", "10.0.0.5:8080", "[::1]:8080", "a.example:8080"] {
        assert!(!looped(&loopback, target), "{target}");
    }

    let any = own(&["0.0.0.0:8080"]);
    for target in
        ["127.0.0.1:8080", "127.9.9.9:8080", "10.0.0.5:8080", "[::ffff:10.0.0.5]:8080", "localhost:8080"]
    {
        assert!(looped(&any, target), "{target}");
    }
    assert!(!looped(&any, "10.0.0.6:8080"));
    assert!(!looped(&any, "[2606:4700::5]:8080"));

    let both = own(&["[::]:8080"]);
    for target in ["127.0.0.1:8080", "[::1]:8080", "10.0.0.5:8080", "[2606:4700::5]:8080"] {
        assert!(looped(&both, target), "{target}");
    }

    let judged = policy(&[]).judge(Target::parse("a.example:8080").unwrap(), &any).unwrap();
    assert_eq!(judged.vet(&[ip("8.8.8.8"), ip("10.0.0.5")]).unwrap_err().code(), Code::LoopDetected);
}

#[test]
fn entries_are_read_in_every_form() {
    for good in [
        "192.0.2.1",
        "192.0.2.0/24",
        "192.0.2.1/24",
        "192.0.2.1:80",
        "192.0.2.0/24:80",
        "2001:db8::1",
        "2001:db8::/32",
        "[2001:db8::1]:80",
        "[2001:db8::/32]:80",
        "[2001:db8::1]",
        "name.example",
        "name.example:80",
        "*.example",
        "*.Example.:80",
        "localhost",
    ] {
        assert!(good.parse::<Entry>().is_ok(), "{good}");
    }
    for bad in [
        "",
        "*",
        "*.",
        "a.*.b",
        "192.0.2.0/33",
        "name.example:0",
        "name.example:x",
        "name.example:1-2",
        "[192.0.2.1]:80",
        "[2001:db8::1]80",
        "a b",
        "127.1",
        "http://a.example",
        "*.127.0.0.1",
        "2001:db8::1/129",
    ] {
        assert!(bad.parse::<Entry>().is_err(), "{bad}");
    }
    assert_eq!("::ffff:10.0.0.0/104".parse::<Entry>(), "10.0.0.0/8".parse());
}
