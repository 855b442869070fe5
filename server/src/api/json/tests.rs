//! What the scanner accepts, refuses, and has in common with `serde_json`.

use super::*;
use proptest::prelude::*;

fn read(text: &[u8]) -> Result<Value, JsonFault> {
    let mut scanner = Scanner::new(text, 1000)?;
    let value = scanner.value()?;
    scanner.end()?;
    Ok(value)
}

#[test]
fn refuses_what_the_service_must_not_store() {
    for (text, fault) in [
        ("9223372036854775808", JsonFault::IntegerTooLarge(0)),
        ("-9223372036854775809", JsonFault::IntegerTooLarge(0)),
        ("{\"a\":[9223372036854775808]}", JsonFault::IntegerTooLarge(6)),
        ("1e400", JsonFault::FloatTooLarge(0)),
        ("NaN", JsonFault::Byte(0)),
        ("Infinity", JsonFault::Byte(0)),
        ("-Infinity", JsonFault::Byte(1)),
        (r#""\ud83d""#, JsonFault::LoneSurrogate(1)),
        (r#""\ud83d\u0041""#, JsonFault::LoneSurrogate(1)),
        (r#""\ude00""#, JsonFault::LoneSurrogate(1)),
        ("\u{feff}[]", JsonFault::Byte(0)),
        ("[] x", JsonFault::Byte(3)),
        ("'a'", JsonFault::Byte(0)),
        ("\"a\tb\"", JsonFault::Byte(2)),
        ("[1,]", JsonFault::Byte(3)),
        ("{\"a\" 1}", JsonFault::Byte(5)),
        ("01", JsonFault::Byte(1)),
        ("1.", JsonFault::Early),
        ("", JsonFault::Early),
        ("[", JsonFault::Early),
        ("\"\\x\"", JsonFault::Byte(2)),
    ] {
        assert_eq!(read(text.as_bytes()), Err(fault), "{text}");
    }
    assert_eq!(read(b"\xff\xfe"), Err(JsonFault::NotUtf8(0)));
}

#[test]
fn keeps_the_edges_that_are_allowed() {
    for text in [
        "9223372036854775807",
        "-9223372036854775808",
        "-0",
        "1e308",
        "0.5E-3",
        r#""\ud83d\ude00\u0000""#,
        "[[],{},[{}],\"\"]",
        "{\"\":null}",
    ] {
        assert_eq!(read(text.as_bytes()).map(|value| value.span), Ok(0..text.len()), "{text}");
    }
}

#[test]
fn depth_is_bounded_without_recursion() {
    for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
        let nest = |depth: usize| format!("{}1{}", open.repeat(depth), close.repeat(depth));
        assert!(read(nest(1000).as_bytes()).is_ok());
        assert_eq!(read(nest(1001).as_bytes()), Err(JsonFault::TooDeep(1000)));
        assert_eq!(read(nest(100_000).as_bytes()), Err(JsonFault::TooDeep(1000)));
    }
}

#[test]
fn names_are_compared_decoded() {
    let mut scanner = Scanner::new(br#"{"\u0074tl":1,"\u005fx":2}"#, 9).expect("UTF-8");
    let mut keys = Vec::new();
    scanner
        .object::<JsonFault>(|key, scanner| {
            keys.push((key.is("ttl"), key.begins_with('_')));
            scanner.value().map(|_| ())
        })
        .expect("an object");
    assert_eq!(keys, [(true, false), (false, true)]);
}

/// Whether a value has an integer beyond 64 bits signed. Floats that were integers in the text
/// cannot be told apart here, so the strategies below write none that large.
fn fits(value: &serde_json::Value) -> bool {
    match value {
        serde_json::Value::Number(number) => !number.is_u64() || number.is_i64(),
        serde_json::Value::Array(all) => all.iter().all(fits),
        serde_json::Value::Object(all) => all.values().all(fits),
        _ => true,
    }
}

fn any_json() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        any::<u64>().prop_map(Into::into),
        any::<f64>().prop_map(Into::into),
        any::<String>().prop_map(Into::into),
    ];
    leaf.prop_recursive(6, 40, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Into::into),
            prop::collection::vec((any::<String>(), inner), 0..6)
                .prop_map(|all| serde_json::Value::Object(all.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn accepts_what_serde_json_writes(value in any_json(), pretty: bool) {
        let text = if pretty {
            serde_json::to_string_pretty(&value)
        } else {
            serde_json::to_string(&value)
        }.expect("values are written");
        prop_assert_eq!(read(text.as_bytes()).is_ok(), fits(&value), "{}", text);
    }

    #[test]
    fn agrees_with_serde_json_on_nearly_json(
        text in r#"([\[\]{},: "a\\]|[0-9]{1,3}|true|null|-|\.|e[1-9]|\\u00e9|\\ud83d|\\ude00|"a"|"b":){0,14}"#
    ) {
        let theirs = serde_json::from_str::<serde_json::Value>(&text);
        prop_assert_eq!(read(text.as_bytes()).is_ok(), theirs.is_ok(), "{}", text);
    }

    #[test]
    fn agrees_with_serde_json_on_broken_json(
        value in any_json(), cut in any::<prop::sample::Index>(), byte: u8
    ) {
        let mut text = serde_json::to_vec(&value).expect("values are written");
        let cut = cut.index(text.len());
        text[cut] = byte;
        // Digits glued together could make an integer of more than 64 bits, which ours refuses.
        if let Ok(value) = read(&text) {
            prop_assert_eq!(value.span.end, text.len() - text.iter().rev().take_while(|byte| byte.is_ascii_whitespace()).count());
            prop_assert!(serde_json::from_slice::<serde_json::Value>(&text).is_ok());
        }
    }

    #[test]
    fn eight_bytes_are_looked_at_as_one_by_one(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
        let is_special = |byte: &u8| matches!(byte, b'"' | b'\\' | 0..=0x1f);
        let one_by_one = bytes.iter().position(is_special).unwrap_or(bytes.len());
        prop_assert_eq!(plain_size(&bytes), one_by_one);
    }

    #[test]
    fn never_panics(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
        let _ = read(&bytes);
    }
}
