use std::time::Duration;

use super::*;
use crate::core::exit::{Labels, Mode, Via};
use crate::core::pin::ExitName;
use crate::core::pool::DialTimeouts;
use crate::core::username::parse;

fn exit_of(pool: &str, id: &str, country: &str) -> Arc<Exit> {
    Arc::new(Exit {
        name: ExitName { pool: pool.into(), id: id.into() },
        via: Via::Direct,
        weight: 1,
        labels: Labels::new([("country", country)]),
        address: None,
        max_sessions: 0,
        max_connections: 0,
        max_ttl: None,
        mode: Mode::Active,
        fault_status: [].into(),
        digest: 0,
    })
}

fn pool_of(name: &str) -> Pool {
    let s = Duration::from_secs(5);
    let timeouts = DialTimeouts { dns: s, connect: s, handshake: s, response: s };
    Pool::new(name, vec![exit_of(name, "ams-1", "nl"), exit_of(name, "nyc", "US")], Arc::default(), timeouts)
}

fn pools() -> Pools {
    let mut eu = pool_of("eu-west");
    eu.sessions.max_ttl = Ttl::from_secs(3600);
    eu.sessions.default_ttl = Ttl::from_secs(1800);
    eu.failover = Failover::Off;
    let mut sticky = pool_of("sticky");
    sticky.affinity = Some(Affinity::ClientIpAndTarget);
    Pools::new(vec![Arc::new(pool_of("us")), Arc::new(eu), Arc::new(sticky), Arc::new(pool_of("secret"))])
}

fn account() -> Account {
    Account {
        name: "acme".into(),
        pools: Some(vec!["us".into(), "eu-west".into(), "sticky".into(), "later".into()]),
        default_pool: None,
        sessions: SessionBounds { max_ttl: Ttl::from_secs(86_400), ..SessionBounds::default() },
        affinity: Affinity::None,
    }
}

fn asked(tail: &str, defaults: &str) -> Result<Ask, Fault> {
    let gateway = GatewayBounds {
        default_ttl: Ttl::from_secs(600).unwrap(),
        min_ttl: Ttl::MIN,
        max_ttl: Ttl::MAX,
        idle: None,
    };
    let target = Target { host: crate::core::target::Host::Name("www.shop.example.co.uk".into()), port: 443 };
    let at_hand = AtHand { client: "192.0.2.7".parse().unwrap(), target: Some(&target) };
    let parameters = parse(tail).unwrap();
    judge(&parameters, &account(), &gateway)?;
    ask(parameters, &parse(defaults).unwrap(), &account(), &pools(), &gateway, at_hand)
}

#[track_caller]
fn check(tail: &str, expected: &str) {
    let got = match asked(tail, "") {
        Err(fault) => fault.code().to_string(),
        Ok(ask) => {
            let session =
                ask.session.map_or_else(|| "-".to_owned(), |s| format!("{}:{}", s.id, s.ttl.as_secs()));
            format!("{} {session} {} [{}]", ask.pool.name, ask.failover.word(), ask.filter)
        }
    };
    assert_eq!(got, expected, "{tail}");
}

#[test]
fn pool_and_ttl_come_from_the_narrowest_place() {
    check("", "us - on []");
    check("-session-a", "us a:600 on []");
    check("-pool-eu_west-session-a", "eu-west a:1800 off []");
    check("-pool-eu_west-session-a-ttl-1h-failover-on", "eu-west a:3600 on []");
    check("-session-a-ttl-24h", "us a:86400 on []");
    check("-country-US-session-b", "us b:600 on [country=us]");
}

#[test]
fn judgement_has_an_order() {
    check("-ttl-5m", "ttl_without_session");
    check("-idle-5m", "ttl_without_session");
    check("-session-a-ttl-25h-pool-secret", "ttl_out_of_range");
    check("-session-a-pool-secret", "pool_forbidden");
    check("-session-a-pool-nowhere", "pool_forbidden");
    check("-session-a-pool-later", "pool_forbidden");
    check("-pool-eu_west-session-a-ttl-61m", "ttl_out_of_range");
    check("-pool-secret-exit-nowhere", "pool_forbidden");
    check("-exit-nowhere", "exit_unknown");
    check("-exit-ams_1-country-us", "us - on [country=us]");
}

#[test]
fn an_exit_is_named_with_what_a_value_can_hold() {
    assert_eq!(&*asked("-exit-ams_1", "").unwrap().exit.unwrap().name.id, "ams-1");
}

#[test]
fn affinity_makes_a_session_of_what_is_at_hand() {
    check("-pool-sticky", "sticky @client=192.0.2.7@target=example.co.uk:600 on []");
    check("-pool-sticky-session-mine", "sticky mine:600 on []");
}

#[test]
fn a_listeners_defaults_give_way_to_the_request() {
    let ask = asked("-country-nl-session-a", "-pool-eu_west-country-us-session-x-ttl-2h").unwrap();
    assert_eq!(&*ask.pool.name, "eu-west");
    assert_eq!(ask.filter.to_string(), "country=nl");
    assert_eq!(ask.session.unwrap().ttl.as_secs(), 3600);
}

#[test]
fn sessions_of_other_users_pools_and_labels_are_other_sessions() {
    let key = |tail| asked(tail, "").unwrap().session.unwrap().key;
    assert_eq!(key("-session-a"), key("-sid-a-pool-us-ttl-5m-failover-off"));
    assert_ne!(key("-session-a"), key("-session-A"));
    assert_ne!(key("-session-a"), key("-session-a-country-us"));
    assert_ne!(key("-session-a"), key("-session-a-pool-eu_west"));
}
