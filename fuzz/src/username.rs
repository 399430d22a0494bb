//! A username: what it says can be said again, and in fields, too.

use moorgate::core::profile::Profile;
use moorgate::core::profile::cut::Who;
use moorgate::core::username::{Parameters, parse};

/// The bytes are the whole username.
pub fn check(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let users = ["a", "acme", "acme-eu", "session"];
    let is_user = |who: Who<'_>| matches!(who, Who::Name(name) if users.contains(&name));
    if let Some(cut) = Profile::ours().cut(text, "", is_user)
        && let Who::Name(user) = cut.who
    {
        let tail = &*cut.tail;
        assert_eq!(format!("{user}{tail}"), text, "a name and its tail are all there is");
        let longer = users.iter().filter(|name| name.len() > user.len());
        for name in longer {
            let rest = text.strip_prefix(name);
            assert!(!rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('-')), "the longest name");
        }
        tail_of(tail);
    }
    tail_of(text);
}

fn tail_of(tail: &str) {
    match parse(tail) {
        Ok(parameters) => {
            let said = parameters.to_string();
            assert_eq!(parse(&said).as_ref(), Ok(&parameters), "{said:?} says the same as {tail:?}");
            let twice = parameters.clone().join(parameters.clone());
            assert_eq!(twice, Ok(parameters.clone()), "equal in both places is fine");
            assert_eq!(parameters.clone().join(Parameters::default()), Ok(parameters));
        }
        Err(error) => {
            assert!(error.at <= tail.len() && tail.is_char_boundary(error.at), "where it is wrong");
            assert_eq!(error.fault.code().status(), 400);
            assert!(!error.fault.detail().is_empty());
        }
    }
}
