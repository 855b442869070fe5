//! Bytes in a line of JSON, byte for byte: as JSON where they are some, else as text, else as base64.
//! Knows not whose they are.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::borrow::Cow;

/// A body, or metadata, in a document for programs.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Body<'a> {
    /// Valid JSON on one line, with nothing before or behind it.
    #[serde(borrow)]
    Json(&'a RawValue),
    /// Valid UTF-8.
    #[serde(borrow)]
    Text(Cow<'a, str>),
    /// Anything else.
    #[serde(borrow)]
    Base64(Cow<'a, str>),
}

impl<'a> Body<'a> {
    /// The form that keeps these bytes.
    pub fn of(bytes: &'a [u8]) -> Body<'a> {
        match std::str::from_utf8(bytes) {
            Ok(text) => match json(text) {
                Some(raw) => Body::Json(raw),
                None => Body::Text(text.into()),
            },
            Err(_) => Body::Base64(BASE64_STANDARD.encode(bytes).into()),
        }
    }

    /// The bytes again.
    ///
    /// # Errors
    /// When the base64 is none.
    pub fn bytes(&self) -> Result<Cow<'_, [u8]>, base64::DecodeError> {
        Ok(match self {
            Body::Json(raw) => raw.get().as_bytes().into(),
            Body::Text(text) => text.as_bytes().into(),
            Body::Base64(text) => BASE64_STANDARD.decode(text.as_bytes())?.into(),
        })
    }
}

/// The text as JSON, when a reader of lines gets exactly it back.
fn json(text: &str) -> Option<&RawValue> {
    let raw: &RawValue = serde_json::from_str(text).ok()?;
    // The parser passes over space around a value; a line ends at its first break.
    let is_whole = raw.get().len() == text.len() && !text.contains(['\n', '\r']);
    is_whole.then_some(raw)
}

/// Bytes on a line for people: text with what a terminal would obey made visible, or how many there
/// are.
pub fn shown(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => text
            .chars()
            .flat_map(|letter| {
                let is_hidden = letter.is_control();
                let escaped = is_hidden.then(|| letter.escape_default());
                escaped.into_iter().flatten().chain((!is_hidden).then_some(letter))
            })
            .collect(),
        Err(_) => format!("base64:{}", BASE64_STANDARD.encode(bytes)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The line that holds these bytes, after reading it gave them back.
    fn line(bytes: &[u8]) -> String {
        let line = serde_json::to_string(&Body::of(bytes)).expect("a document");
        assert!(!line.contains('\n'));
        let body: Body<'_> = serde_json::from_str(&line).expect("what was just written");
        assert_eq!(body.bytes().expect("base64").as_ref(), bytes, "{line}");
        line
    }

    #[test]
    fn each_body_takes_the_form_that_keeps_it() {
        for (bytes, expected) in [
            (&br#"{"n": 1.0e999,"n":2}"#[..], r#"{"json":{"n": 1.0e999,"n":2}}"#),
            (br#""\ud800""#, r#"{"json":"\ud800"}"#),
            (b" 1", r#"{"text":" 1"}"#),
            (b"[1,\n2]", r#"{"text":"[1,\n2]"}"#),
            (b"", r#"{"text":""}"#),
            (b"caf\xc3\xa9", "{\"text\":\"caf\u{e9}\"}"),
            (b"\"\xff\"", r#"{"base64":"Iv8i"}"#),
        ] {
            assert_eq!(line(bytes), expected);
        }
        let deep = "[".repeat(100_000) + &"]".repeat(100_000);
        line(deep.as_bytes());
    }

    #[test]
    fn people_see_what_a_terminal_would_obey() {
        assert_eq!(shown(b"a\x1b[31mb\n\xc3\xa9"), "a\\u{1b}[31mb\\n\u{e9}");
        assert_eq!(shown(b"\xff"), "base64:/w==");
    }

    proptest! {
        #[test]
        fn any_bytes_come_back(bytes: Vec<u8>) {
            line(&bytes);
        }

        #[test]
        fn any_text_comes_back(text in r#"[ \n\r"\\{}\[\]:,0-9a-eu.-]{0,24}"#) {
            line(text.as_bytes());
        }
    }
}
