use proptest::prelude::*;

use super::*;

const UUID: &str = "3f2504e0-4f89-41d3-9a0c-0305e82c3301";

#[track_caller]
fn check(tail: &str, expected: &str) {
    let got = match parse(tail) {
        Ok(parameters) => parameters.to_string(),
        Err(error) => format!("{}@{}", error.fault.code(), error.at),
    };
    assert_eq!(got, expected, "{tail:?}");
}

#[test]
fn pairs_are_read_from_left_to_right() {
    check("", "");
    check("-session-cart42-ttl-24h", "-session-cart42-ttl-86400s");
    check("-SESSID-Cart42", "-session-Cart42");
    check("-sid-a-idle-90s", "-session-a-idle-90s");
    check("-session-pool-ttl-5m", "-session-pool-ttl-300s");
    check("-pool-us_east-exit-ams_1", "-pool-us_east-exit-ams_1");
    check("-country-us-city-new_york", "-country-us-city-new_york");
    check("-session-a-failover-ADDRESS", "-session-a-failover-address");
}

#[test]
fn a_uuid_keeps_its_hyphens() {
    check(&format!("-session-{UUID}"), &format!("-session-{UUID}"));
    check(&format!("-session-{UUID}-ttl-1h"), &format!("-session-{UUID}-ttl-3600s"));
    check(&format!("-session-{UUID}x"), "parameter_unknown@18");
    check(&format!("-country-{UUID}"), "parameter_unknown@18");
}

#[test]
fn what_is_wrong_is_said_with_its_place() {
    check("-sesion-x", "parameter_unknown@1");
    check("-", "parameter_unknown@1");
    check("--session-x", "parameter_unknown@1");
    check("-session", "session_invalid@8");
    check("-session-", "session_invalid@9");
    check("-session-a%20b", "session_invalid@9");
    check(&format!("-session-{}", "x".repeat(129)), "session_invalid@9");
    check("-session-a-sid-b", "parameter_duplicate@11");
    check("-session-a-ttl-10", "ttl_invalid@15");
    check("-session-a-ttl", "ttl_invalid@14");
    check("-session-a-ttl-0s", "ttl_out_of_range@15");
    check("-session-a-ttl-500ms", "ttl_out_of_range@15");
    check("-session-a-ttl-169h", "ttl_out_of_range@15");
    check("-session-a-ttl-99999999999999999999d", "ttl_out_of_range@15");
    check("-session-a-idle-5", "idle_invalid@16");
    check("-session-a-idle-8d", "ttl_out_of_range@16");
    check("-failover-maybe", "failover_invalid@10");
    check("-failover", "failover_invalid@9");
    check("-pool-", "parameter_invalid@6");
    check("-country", "parameter_invalid@8");
    check("-country-_", "parameter_invalid@9");
    check("-exit-", "exit_unknown@6");
    check("-session-ü", "session_invalid@9");
}

#[test]
fn a_typo_is_answered_with_the_nearest_key() {
    let hint = |tail| parse(tail).unwrap_err().fault.detail().to_owned();
    assert!(hint("-sesion-x").contains("did you mean session?"));
    assert!(hint("-contry-us").contains("did you mean country?"));
    assert!(hint("-tll-5m").contains("did you mean ttl?"));
    assert!(!hint("-us-session").contains("did you mean"));
}

#[test]
fn fields_say_the_same_as_the_username() {
    let mut fields = Parameters::default();
    fields.take_field("Session", UUID).unwrap();
    fields.take_field("ttl", "24h").unwrap();
    fields.take_field("POOL", "us-east").unwrap();
    fields.take_field("label", "country=US, city=New York").unwrap();
    let tail = format!("-session-{UUID}-ttl-1440m-pool-us_east-city-new_york");
    let joined = parse(&tail).unwrap().join(fields.clone()).unwrap();
    assert_eq!(joined.pool, Some(NameRef::Exact("us-east".into())));
    assert_eq!(joined.labels.len(), 2);
    let code = |tail: &str| parse(tail).unwrap().join(fields.clone()).unwrap_err().code();
    assert_eq!(code("-session-other"), Code::ParameterConflict);
    assert_eq!(code("-pool-us.east"), Code::ParameterConflict);
    assert_eq!(code("-city-boston"), Code::ParameterConflict);
}

#[test]
fn fields_are_judged_like_pairs() {
    let code = |name: &str, value: &str| {
        let mut fields = Parameters::default();
        fields.take_field("Session", "a").unwrap();
        fields.take_field(name, value).unwrap_err().code()
    };
    assert_eq!(code("session", "a"), Code::ParameterDuplicate);
    assert_eq!(code("sessions", "a"), Code::ParameterUnknown);
    assert_eq!(code("sesion", "a"), Code::ParameterUnknown);
    assert_eq!(code("labels", "country=us"), Code::ParameterUnknown);
    assert_eq!(Parameters::default().take_field("strange", "x"), Ok(()));
    assert_eq!(code("label", "colour=red"), Code::ParameterUnknown);
    assert_eq!(code("label", "country"), Code::ParameterInvalid);
    assert_eq!(code("label", "country=us,country=de"), Code::ParameterDuplicate);
    assert_eq!(code("ttl", "10"), Code::TtlInvalid);
    assert_eq!(code("exit", ""), Code::ExitUnknown);
}

fn value() -> impl Strategy<Value = String> {
    "[A-Za-z0-9._~]{1,40}"
}

prop_compose! {
    fn parameters()(
        session in prop_oneof![value(), Just(UUID.to_owned())],
        ttl in proptest::option::of(1u64..=604_800),
        idle in proptest::option::of(1u64..=604_800),
        pool in proptest::option::of(value()),
        exit in proptest::option::of(value()),
        failover in proptest::option::of(prop_oneof![Just(Failover::On), Just(Failover::Off), Just(Failover::Address)]),
        labels in proptest::sample::subsequence(LABEL_KEYS.to_vec(), 0..=10),
        label in "[A-Za-z0-9]{1,10}",
    ) -> Parameters {
        Parameters {
            session: SessionId::new(&session),
            ttl: ttl.and_then(Ttl::from_secs),
            idle: idle.and_then(Ttl::from_secs),
            pool: pool.map(|name| NameRef::Folded(name.into())),
            exit: exit.map(|name| NameRef::Folded(name.into())),
            failover,
            clamp: false,
            labels: labels.into_iter().map(|key| (key, label.as_str().into())).collect(),
        }
    }
}

proptest! {
    #[test]
    fn printed_then_read_is_the_same(parameters in parameters()) {
        prop_assert_eq!(parse(&parameters.to_string()).unwrap(), parameters);
    }

    #[test]
    fn no_text_panics(tail in "\\PC{0,80}") {
        let _ = parse(&tail);
        let _ = parse(&format!("-session-{tail}"));
        let _ = Parameters::default().take_field("label", &tail);
    }

    #[test]
    fn pairs_of_any_words_never_panic(words in proptest::collection::vec("(session|ttl|pool|us|1h|[a-z]{0,4})", 0..8)) {
        let _ = parse(&format!("-{}", words.join("-")));
    }
}
