use super::choose::choose;
use super::cut::Who;
use super::*;
use crate::core::code::Code;
use crate::core::username::MAX_USER;

fn profile(name: &str, separators: [&str; 3]) -> Profile {
    let [first, pair, value] = separators.map(Into::into);
    let mut session = Rule::plain(To::Session);
    session.reach = Reach::Key;
    let mut country = Rule::plain(To::Label("country"));
    country.repeats = true;
    let mut sure = Rule::plain(To::Ignore);
    (sure.flag, sure.failover) = (Some("".into()), Some(Failover::Off));
    Profile {
        name: name.into(),
        own: false,
        first,
        pair,
        value,
        keys: vec![
            ("sid".into(), session),
            ("mins".into(), Rule::plain(To::Ttl)),
            ("country".into(), country),
            ("sure".into(), sure),
            ("zone".into(), Rule::plain(To::Pool)),
        ],
        ..Profile::clone(Profile::ours())
    }
}

/// `name|tail|secret`, or nothing.
fn cut(profile: &Profile, credential: &str) -> String {
    let (username, password) = credential.split_once(':').unwrap();
    let known = |who: Who<'_>| matches!(who, Who::Name("a" | "a-b" | "a_b") | Who::Secret("key"));
    match profile.cut(username, password, known) {
        None => String::new(),
        Some(cut) => {
            let name = match cut.who {
                Who::Name(name) => name,
                Who::Secret(_) => "?",
            };
            format!("{name}|{}|{}", cut.tail, cut.secret)
        }
    }
}

#[test]
fn the_longest_known_name_is_the_user() {
    let plain = profile("p", ["-", "-", "-"]);
    assert_eq!(cut(&plain, "a-sid-x:s"), "a|-sid-x|s");
    assert_eq!(cut(&plain, "a-b-sid-x:s"), "a-b|-sid-x|s");
    assert_eq!(cut(&plain, "a-b:s"), "a-b||s");
    assert_eq!(cut(&plain, "ab-sid-x:s"), "");
    assert_eq!(cut(&plain, ":s"), "");
    assert_eq!(cut(&plain, &format!("a-sid-{}:s", "x".repeat(600))), "");
    let dotted = profile("p", ["__", ";", "."]);
    assert_eq!(cut(&dotted, "a__sid.x;mins.1:s"), "a|__sid.x;mins.1|s");
    assert_eq!(cut(&dotted, "a_sid.x:s"), "");
    assert_eq!(cut(&dotted, "a___sid.x:s"), "a|___sid.x|s");
}

#[test]
fn our_own_grammar_is_cut_the_same_way() {
    assert_eq!(cut(Profile::ours(), "a:s:s"), "a||s:s");
    assert_eq!(cut(Profile::ours(), "a-b-session-x:s"), "a-b|-session-x|s");
    assert_eq!(cut(Profile::ours(), "a-:s"), "a|-|s");
    let long = "x".repeat(MAX_USER);
    let is_long = |who: Who<'_>| matches!(who, Who::Name(name) if name.len() >= MAX_USER);
    assert!(Profile::ours().cut(&long, "", is_long).is_some());
    assert!(Profile::ours().cut(&format!("{long}-pool-p"), "", is_long).is_some());
    assert!(Profile::ours().cut(&format!("{long}y"), "", is_long).is_none(), "no name is that long");
}

#[test]
fn a_prefix_is_taken_off_and_must_be_there() {
    let mut both = profile("p", ["-", "-", "-"]);
    both.prefixes = vec!["user-".into(), "".into()];
    assert_eq!(cut(&both, "user-a-sid-x:s"), "a|-sid-x|s");
    assert_eq!(cut(&both, "a-sid-x:s"), "a|-sid-x|s");
    both.prefixes.pop();
    assert_eq!(cut(&both, "a-sid-x:s"), "");
    assert_eq!(cut(&both, "user-:s"), "");
}

#[test]
fn a_name_may_stand_under_a_key() {
    let mut keyed = profile("p", ["-", "-", "-"]);
    keyed.user = Naming::Key("customer".into());
    assert_eq!(cut(&keyed, "customer-a-b-sid-x:s"), "a-b|-sid-x|s");
    assert_eq!(cut(&keyed, "zone-z-customer-a:s"), "a|zone-z|s");
    assert_eq!(cut(&keyed, "zone-z-Customer-a-sid-x:s"), "a|zone-z-sid-x|s");
    assert_eq!(cut(&keyed, "zone-z-sid-x:s"), "");
    let written = "zone-z-customer-a-sid-x";
    let parts = keyed.cut(written, "s", |who| who == Who::Name("a")).unwrap();
    for (at, byte) in parts.tail.bytes().enumerate() {
        assert_eq!(written.as_bytes()[parts.place(at)], byte, "{at}");
    }
}

#[test]
fn a_secret_ends_where_a_parameter_begins() {
    let mut behind = profile("p", ["_", "_", "-"]);
    behind.place = Place::Password;
    assert_eq!(cut(&behind, "a:s3cr_t"), "a||s3cr_t");
    assert_eq!(cut(&behind, "a:s3cr_t_sid-x"), "a|_sid-x|s3cr_t");
    assert_eq!(cut(&behind, "a_b:s__sid-x_mins-1"), "a_b|_sid-x_mins-1|s_");
    assert_eq!(cut(&behind, "a:s_sure"), "a|_sure|s");
    assert_eq!(cut(&behind, "a:s_sid"), "a||s_sid", "no value, no flag");
    assert_eq!(
        cut(&behind, "a:s_contry-x"),
        "a|_contry-x|s",
        "a typo is told, not taken for the secret's end"
    );
    assert_eq!(cut(&behind, "a:s_sd-x"), "a||s_sd-x", "too short to be sure");
    let long = "_".repeat(20);
    assert_eq!(
        cut(&behind, &format!("a:s{long}contry-x")),
        format!("a||s{long}contry-x"),
        "looked for long enough"
    );
    assert_eq!(cut(&behind, &format!("a:s{long}sid-x")), format!("a|_sid-x|s{}", &long[1..]));
    assert_eq!(cut(&behind, "a-sid-x:s"), "");
}

#[test]
fn a_secret_may_be_all_that_names_the_user() {
    let mut nameless = profile("p", [".", ".", "="]);
    (nameless.user, nameless.prefixes) = (Naming::Secret, vec!["svc".into()]);
    assert_eq!(cut(&nameless, "svc.sid=x:key"), "?|.sid=x|key");
    assert_eq!(cut(&nameless, "svc:key"), "?||key");
    assert_eq!(cut(&nameless, "svcs.sid=x:key"), "");
    assert_eq!(cut(&nameless, "svc.sid=x:other"), "");
}

#[track_caller]
fn check(tail: &str, expected: &str) {
    let got = match profile("p", ["-", "-", "-"]).read(tail) {
        Ok(parameters) => parameters.to_string(),
        Err(error) => format!("{}@{}", error.fault.code(), error.at),
    };
    assert_eq!(got, expected, "{tail:?}");
}

#[test]
fn pairs_flags_and_long_values_are_read() {
    check("-sid-a-b-c-mins-5", "-session-a-b-c-ttl-300s");
    check("-sid-a-sure", "-session-a-failover-off");
    check("-SURE-sid-a", "-session-a-failover-off");
    check("-country-us-country-US", "-country-us");
    check("-country-us-country-de", "parameter_invalid@20");
    check("-country-us,de", "parameter_invalid@9");
    check("-sid-a-sid-b", "parameter_duplicate@7");
    check("-mins-1-mins-1", "parameter_duplicate@8");
    check("-mins-x", "ttl_invalid@6");
    check("-mins-0", "ttl_out_of_range@6");
    check("-mins-99999999999999999999", "ttl_out_of_range@6");
    check("-mins-", "ttl_invalid@6");
    check("-sid-", "session_invalid@5");
    check("-sid-@user=a", "session_invalid@5");
    check("-sid-a@b", "-session-a@b");
    check("-zone", "parameter_invalid@5");
    check("-", "parameter_unknown@1");
    check("-minz-1", "parameter_unknown@1");
}

#[test]
fn a_duration_out_of_range_may_mean_the_nearest() {
    let mut lenient = profile("p", ["-", "-", "-"]);
    lenient.clamp = true;
    for (tail, secs) in [("-mins-0", 1), ("-mins-99999999999999999999", 604_800), ("-mins-2", 120)] {
        let said = lenient.read(tail).unwrap();
        assert_eq!((said.ttl.unwrap().as_secs(), said.clamp), (secs, true), "{tail}");
    }
}

#[test]
fn sets_of_characters_are_ranges_and_single_ones() {
    let set = Chars::parse("a-cX0-9._-").unwrap();
    for byte in 0..=255u8 {
        assert_eq!(set.has(byte), b"abcX0123456789._-".contains(&byte), "{byte}");
    }
    for bad in ["", "z-a", "a-Z", "!-~", "ü", " "] {
        assert_eq!(Chars::parse(bad), None, "{bad}");
    }
    assert!(
        (33..127).all(|byte| Chars::VISIBLE.has(byte))
            && !Chars::VISIBLE.has(b' ')
            && !Chars::VISIBLE.has(127)
    );
}

/// The name of the profile that is meant, of two, and how it reads.
fn meant(credential: &str, first: &Profile, second: &Profile) -> String {
    let (username, password) = credential.split_once(':').unwrap();
    let all = [Arc::new(first.clone()), Arc::new(second.clone())];
    let ways = all.iter().filter_map(|profile| {
        let cut = profile.cut(username, password, |who| matches!(who, Who::Name("a")))?;
        Some((profile, cut))
    });
    let ways: Vec<_> = ways.collect();
    let meant = choose(ways.iter().map(|(profile, cut): &(&Arc<Profile>, _)| (&***profile, cut)));
    let Some((profile, cut)) = meant.map(|at| &ways[at]) else { return String::new() };
    match profile.read(&cut.tail) {
        Ok(said) => format!("{}{said}", profile.name),
        Err(error) => {
            format!("{}:{}@{}", profile.name, error.fault.code(), cut.place(error.at))
        }
    }
}

#[test]
fn the_first_that_reads_parameters_is_meant() {
    let mut behind = profile("behind", ["_", "_", "-"]);
    behind.place = Place::Password;
    let ours = Profile::ours();
    for (one, other) in [(&**ours, &behind), (&behind, &**ours)] {
        assert_eq!(meant("a-session-x:s", one, other), "moorgate-session-x");
        assert_eq!(meant("a:s_sid-x", one, other), "behind-session-x");
        assert_eq!(meant("a:s", one, other), one.name.to_string());
        assert_eq!(meant("b:s", one, other), "");
    }
    let theirs = profile("theirs", ["-", "-", "-"]);
    assert_eq!(meant("a-country-us:s", &theirs, ours), "theirs-country-us");
    assert_eq!(meant("a-country-us:s", ours, &theirs), "moorgate-country-us");
    assert_eq!(meant("a-country-us-sid-x-mins-5x:s", ours, &theirs), "theirs:ttl_invalid@24");
    assert_eq!(meant("a-country-us-session-x-idle-5:s", &theirs, ours), "moorgate:idle_invalid@28");
    assert_eq!(meant("a-typo-x:s", &theirs, ours), "theirs:parameter_unknown@2");
}

#[test]
fn defaults_stand_behind_a_listeners() {
    let mut eager = profile("p", ["-", "-", "-"]);
    (eager.ttl, eager.idle) = (Ttl::from_secs(60), Ttl::from_secs(5));
    let listener = Parameters { ttl: Ttl::from_secs(90), ..Parameters::default() };
    let both = eager.defaults(&listener);
    assert_eq!((both.ttl, both.idle), (Ttl::from_secs(90), Ttl::from_secs(5)));
    assert!(matches!(Profile::ours().defaults(&listener), Cow::Borrowed(_)));
}

#[test]
fn a_fault_says_what_to_change() {
    let said = |tail: &str| profile("p", ["-", "-", "-"]).read(tail).unwrap_err().fault;
    assert!(said("-contry-us").detail().contains("did you mean country?"));
    assert!(said("-x-us").detail().contains("profile p has no such key"));
    assert!(said("-mins-5m").detail().contains("whole number of minutes"));
    assert_eq!(said("-mins-5m").code(), Code::TtlInvalid);
}
