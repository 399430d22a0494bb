use base64::Engine as _;

use super::credential::BASE64;
use super::*;
use crate::clock::SystemClock;

fn entry(name: &str, password: &str, clients: &[&str]) -> Entry {
    Entry {
        account: Account {
            name: name.into(),
            pools: None,
            default_pool: None,
            sessions: SessionBounds::default(),
            affinity: Affinity::None,
        },
        password: Secret::new(password),
        clients: clients.iter().map(|net| net.parse().unwrap()).collect(),
        limits: UserLimits::default(),
        profiles: None,
    }
}

fn users() -> Users {
    let entries =
        [entry("acme", "p@s:s", &[]), entry("acme-b", "b", &[]), entry("near", "n", &["10.0.0.0/8"])];
    let users = Users::new(5, Arc::default(), Arc::new(SystemClock::new()));
    users.replace(&entries, None);
    users
}

async fn prove(users: &Users, credential: &str) -> Result<(String, String), Code> {
    let field = format!("bAsIc {}", BASE64.encode(credential));
    let door = [Profile::ours().clone()].into();
    let caller = users.prove(Some(field.as_bytes()), IpAddr::from([192, 0, 2, 1]), &door).await;
    caller.map(|c| (c.account.name.to_string(), c.tail.to_string())).map_err(|fault| fault.code())
}

#[tokio::test]
async fn a_caller_is_proven_by_user_and_secret() {
    let users = users();
    let ok = |name: &str, tail: &str| Ok((name.to_owned(), tail.to_owned()));
    assert_eq!(prove(&users, "acme:p@s:s").await, ok("acme", ""));
    assert_eq!(prove(&users, "acme-session-x:p@s:s").await, ok("acme", "-session-x"));
    assert_eq!(prove(&users, "acme-b-session-x:b").await, ok("acme-b", "-session-x"));
    assert_eq!(prove(&users, "near:n").await, Err(Code::ClientForbidden));
    assert_eq!(prove(&users, "near:x").await, Err(Code::AuthFailed));
    assert_eq!(prove(&users, "nobody:n").await, Err(Code::AuthFailed));
    assert_eq!(prove(&users, "acme").await, Err(Code::AuthFailed));
}

#[tokio::test]
async fn failures_are_throttled_and_right_ones_pass() {
    let users = users();
    for _ in 0..5 {
        assert_eq!(prove(&users, "acme:x").await, Err(Code::AuthFailed));
    }
    assert_eq!(prove(&users, "acme:x").await, Err(Code::AuthThrottled));
    assert!(prove(&users, "acme:p@s:s").await.is_ok());
    for _ in 0..100 {
        let fault = users.prove(None, IpAddr::from([192, 0, 2, 2]), &[].into()).await.unwrap_err();
        assert_eq!(fault.code(), Code::AuthRequired);
    }
    assert_eq!(prove(&users, "acme:x").await, Err(Code::AuthThrottled));
}

#[test]
fn credentials_are_read_as_rfc_7617_says() {
    let read = |field: &str| match Credential::read(field.as_bytes())? {
        Credential::Basic { username, secret } => Some((username, secret.expose().to_owned())),
        Credential::Bearer(token) => Some((String::new(), token.expose().to_owned())),
    };
    assert_eq!(read("Basic YTpiOmM="), Some(("a".into(), "b:c".into())));
    assert_eq!(read("basic YTpiOmM"), Some(("a".into(), "b:c".into())));
    assert_eq!(read("BASIC   YTo="), Some(("a".into(), String::new())));
    assert_eq!(read("BEARER  a.b.c "), Some((String::new(), "a.b.c".into())));
    assert_eq!(read("Bearer"), None);
    assert_eq!(read("Digest YTpi"), None);
    assert_eq!(read("Basic"), None);
    assert_eq!(read("Basic !"), None);
}

/// With users who write in the grammars of these profiles.
fn profiled() -> (Users, Arc<[Arc<Profile>]>) {
    let shipped = |name: &str| Arc::new(crate::config::shipped(name).unwrap().unwrap());
    let own = |name: &str, password: &str, profiles: &[&str]| Entry {
        profiles: (!profiles.is_empty()).then(|| profiles.iter().map(|name| shipped(name)).collect()),
        ..entry(name, password, &[])
    };
    let entries = [
        own("acme", "pw", &["iproyal", "oxylabs"]),
        own("key", "apikey", &["apify"]),
        own("door", "secret", &[]),
        own("twin", "same", &["apify"]),
        own("twin2", "same", &["apify"]),
    ];
    let users = Users::new(0, Arc::default(), Arc::new(SystemClock::new()));
    users.replace(&entries, None);
    (users, [Profile::ours().clone(), shipped("decodo")].into())
}

#[tokio::test]
async fn a_user_or_else_its_door_names_the_grammars() {
    let (users, door) = profiled();
    let prove = async |credential: &str| {
        let field = format!("Basic {}", BASE64.encode(credential));
        let caller = users.prove(Some(field.as_bytes()), [192, 0, 2, 1].into(), &door).await;
        caller
            .map(|c| format!("{} {} {}", c.account.name, c.profile.name, c.tail))
            .map_err(|fault| fault.code())
    };
    let ok = |text: &str| Ok(text.to_owned());
    assert_eq!(prove("acme:pw_country-br").await, ok("acme iproyal _country-br"));
    assert_eq!(prove("customer-acme-cc-DE:pw").await, ok("acme oxylabs -cc-DE"));
    assert_eq!(prove("acme:pw").await, ok("acme iproyal "));
    assert_eq!(prove("acme-session-x:pw").await, Err(Code::AuthFailed), "not in its list");
    assert_eq!(prove("acme:pww_country-br").await, Err(Code::AuthFailed));
    assert_eq!(prove("door-session-x:secret").await, ok("door moorgate -session-x"));
    assert_eq!(prove("user-door-session-x:secret").await, ok("door decodo -session-x"));
    assert_eq!(prove("customer-door-cc-DE:secret").await, Err(Code::AuthFailed), "not the door's");
    assert_eq!(prove("session-x,country-US:apikey").await, ok("key apify session-x,country-US"));
    assert_eq!(prove("auto:wrong").await, Err(Code::AuthFailed));
    assert_eq!(prove("auto:same").await, Err(Code::AuthFailed), "two have this secret");
    assert_eq!(prove("session-x:secret").await, Err(Code::AuthFailed), "another's grammar");
    // What was right at one door is looked at anew at another.
    let field = format!("Basic {}", BASE64.encode("door-session-x:secret"));
    let other = [door[1].clone()].into();
    for (door, right) in [(&door, true), (&other, false), (&door, true)] {
        let proven = users.prove(Some(field.as_bytes()), [192, 0, 2, 1].into(), door).await;
        assert_eq!(proven.is_ok(), right);
    }
}
