use proptest::prelude::*;
use serde_json::json;

use super::*;

fn parse_text(text: &str) -> (Option<Document>, Vec<String>) {
    let mut findings = Findings::default();
    let document = Document::parse(Path::new("f"), text.to_owned(), &Environment::of(&[]), &mut findings);
    (document, findings.iter().map(ToString::to_string).collect())
}

#[track_caller]
fn check(text: &str, keys: &[&str], expected: &str) {
    let (document, _) = parse_text(text);
    let document = document.unwrap();
    assert_eq!(document.place(document.below(document.root(), keys)).to_string(), expected);
}

#[test]
fn lines_and_columns_count_characters_from_one() {
    check("{\"a\":1}", &["a"], "f:1:6: a");
    check("{\n\t\"a\": {\r\n  \"b c\" :\n3}}", &["a", "b c"], "f:4:1: a[\"b c\"]");
    check("{\"\u{e9}\u{1f600}\": 1}", &["\u{e9}\u{1f600}"], "f:1:8: [\"\u{e9}\u{1f600}\"]");
    check("\u{feff} {\"a\":1}", &["a"], "f:1:7: a");
    check("{\"a\\u0062\":1}", &["ab"], "f:1:12: ab");
    check("{\"a\":{\"b\":1}}", &["a", "x", "b"], "f:1:6: a");
    check("[]", &["a"], "f:1:1");
}

#[test]
fn odd_keys_cannot_break_a_line() {
    check("{\"a\\nb\":1}", &["a\nb"], "f:1:9: [\"a\\nb\"]");
    check("{\"\":1}", &[""], "f:1:5: [\"\"]");
}

#[test]
fn a_string_that_is_none_is_told_where_it_stands() {
    let (document, findings) = parse_text("{\"a\": [1, \"\\ud800\"]}");
    assert!(document.is_some());
    assert_eq!(findings, ["f:1:11: a[1]: not JSON: unexpected end of hex escape"]);
}

fn value() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(json!(null)),
        any::<bool>().prop_map(|value| json!(value)),
        any::<i64>().prop_map(|value| json!(value)),
        "[ -~\u{e9}\n\"\\\\]{0,8}".prop_map(|text| json!(text)),
    ];
    leaf.prop_recursive(4, 40, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(|items| json!(items)),
            prop::collection::hash_map("[a-c\u{e9}\"\\\\ ]{0,3}", inner, 0..5).prop_map(|map| json!(map)),
        ]
    })
}

/// Every value of the tree stands where its place says.
fn assert_places(document: &Document, node: NodeId, value: &serde_json::Value, text: &str) {
    let (line, column) = document.place(node).position.unwrap();
    let line = text.split('\n').nth(line as usize - 1).unwrap();
    let here: String = line.chars().skip(column as usize - 1).collect();
    match value {
        serde_json::Value::Array(items) => {
            assert!(here.starts_with('['));
            for (at, item) in items.iter().enumerate() {
                assert_places(document, document.item(node, at), item, text);
            }
        }
        serde_json::Value::Object(fields) => {
            assert!(here.starts_with('{'));
            for (key, value) in fields {
                assert_places(document, document.below(node, &[key]), value, text);
            }
        }
        leaf => assert!(here.starts_with(&leaf.to_string()), "{leaf} is not at {here}"),
    }
}

proptest! {
    #[test]
    fn every_value_knows_its_place(value in value()) {
        for text in [value.to_string(), format!("{value:#}")] {
            let (document, findings) = parse_text(&text);
            // `${` needs a variable.
            prop_assume!(findings.is_empty());
            let document = document.unwrap();
            assert_places(&document, document.root(), &value, &text);
        }
    }

    #[test]
    fn no_text_panics(text in "[\\[\\]{}:,\"\\\\ \n0-9a-eu$\u{e9}\u{feff}-]{0,40}") {
        let (document, findings) = parse_text(&text);
        prop_assert!(document.is_some() || findings.len() == 1);
    }
}
