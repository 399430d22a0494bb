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
    let caller = users.prove(Some(field.as_bytes()), IpAddr::from([192, 0, 2, 1])).await;
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
        let fault = users.prove(None, IpAddr::from([192, 0, 2, 2])).await.unwrap_err();
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
