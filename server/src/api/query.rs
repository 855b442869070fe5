//! The query of a request: which parameters count, and how their values are read.
//! Pure; knows no routes.

use super::fault::{Fault, Kind};
use memchr::{memchr, memchr2};
use percent_encoding::percent_decode_str;
use std::borrow::Cow;

/// A query as sent, after the question mark. It is looked through again for each parameter: a list of them
/// would take several times the memory of a query that is made to be long.
#[derive(Debug, Clone, Copy)]
pub struct Query<'a> {
    text: &'a str,
    /// Whether all of it stands for itself, as in nearly every query: then nothing is decoded.
    is_plain: bool,
}

impl<'a> Query<'a> {
    /// The query of a request; none is an empty one.
    pub fn new(text: Option<&'a str>) -> Query<'a> {
        let text = text.unwrap_or("");
        Query { text, is_plain: is_plain(text) }
    }

    /// The values written for a parameter that are not empty, undecoded, in order.
    fn written(self, name: &'static str) -> impl Iterator<Item = &'a str> {
        let mut rest = (!self.text.is_empty()).then_some(self.text);
        let pairs = std::iter::from_fn(move || {
            let text = rest?;
            let end = memchr(b'&', text.as_bytes());
            rest = end.map(|end| &text[end + 1..]);
            Some(&text[..end.unwrap_or(text.len())])
        });
        pairs.filter_map(move |pair| self.value(pair, name)).filter(|value| !value.is_empty())
    }

    /// What is written for a parameter, if this pair is about it.
    fn value(self, pair: &'a str, name: &'static str) -> Option<&'a str> {
        if self.is_plain {
            return pair.strip_prefix(name)?.strip_prefix('=');
        }
        let (found, value) = pair.split_once('=')?;
        (decode(found) == name).then_some(value)
    }

    /// What a text of the query stands for.
    fn decode(self, text: &'a str) -> Cow<'a, str> {
        if self.is_plain { Cow::Borrowed(text) } else { decode(text) }
    }

    /// A parameter that has one value: the last element of all that were sent.
    pub fn text(self, name: &'static str) -> Option<Cow<'a, str>> {
        self.written(name).filter_map(last_element).last().map(|value| self.decode(value))
    }

    /// A parameter that is an integer. One too large for 64 bits is read as the largest.
    pub fn integer(self, name: &'static str) -> Result<Option<i64>, Fault> {
        let Some(text) = self.text(name) else { return Ok(None) };
        let text = text.trim();
        let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
        if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(Fault::new(Kind::BadParameter, format!("{name} has to be an integer.")));
        }
        let beyond = if text.starts_with('-') { i64::MIN } else { i64::MAX };
        Ok(Some(text.parse().unwrap_or(beyond)))
    }

    /// A parameter that is a boolean.
    pub fn boolean(self, name: &'static str) -> Result<Option<bool>, Fault> {
        let Some(text) = self.text(name) else { return Ok(None) };
        match &*text {
            "true" | "True" | "t" | "yes" | "y" | "1" | "on" => Ok(Some(true)),
            "false" | "False" | "f" | "no" | "n" | "0" | "off" => Ok(Some(false)),
            _ => {
                let text = format!("{name} has to be a boolean: true or false.");
                Err(Fault::new(Kind::BadParameter, text))
            }
        }
    }

    /// The elements of `ids`, or `None` when it is absent or empty. It may be there and yet hold
    /// none.
    pub fn ids(self) -> Option<Vec<String>> {
        let mut written = self.written("ids").peekable();
        written.peek()?;
        let decoded = written.map(|value| self.decode(value));
        let mut ids = Vec::new();
        for value in decoded {
            ids.extend(value.split(',').filter(|id| !id.is_empty()).map(str::to_owned));
        }
        Some(ids)
    }
}

/// The last element of some with commas between them that is not empty.
fn last_element(value: &str) -> Option<&str> {
    let text = value.trim_end_matches(',');
    let start = text.bytes().rposition(|byte| byte == b',').map_or(0, |comma| comma + 1);
    (!text.is_empty()).then_some(&text[start..])
}

/// Whether a text stands for itself.
fn is_plain(text: &str) -> bool {
    memchr2(b'%', b'+', text.as_bytes()).is_none()
}

fn decode(text: &str) -> Cow<'_, str> {
    if is_plain(text) {
        return Cow::Borrowed(text);
    }
    if text.contains('+') {
        let spaced = text.replace('+', " ");
        Cow::Owned(percent_decode_str(&spaced).decode_utf8_lossy().into_owned())
    } else {
        percent_decode_str(text).decode_utf8_lossy()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn integers() {
        for (query, number) in [
            ("", None),
            ("limit", None),
            ("limit=", None),
            ("Limit=3", None),
            ("limit=3", Some(3)),
            ("limit=+5", Some(5)),
            ("limit=%2B5", Some(5)),
            ("limit=-1", Some(-1)),
            ("limit=1&limit=3", Some(3)),
            ("limit=3&limit=", Some(3)),
            ("limit=1,2", Some(2)),
            ("limit=1,2,,", Some(2)),
            ("limit=,,", None),
            ("limit=2&limit=,", Some(2)),
            ("limits=3&limi=4&=5&&limit", None),
            ("limit=a=b&limit=6", Some(6)),
            ("foo=bar&l%69mit=7", Some(7)),
            ("limit=10000000000000000000", Some(i64::MAX)),
            ("limit=-10000000000000000000", Some(i64::MIN)),
        ] {
            assert_eq!(Query::new(Some(query)).integer("limit"), Ok(number), "{query}");
        }
        for query in
            ["limit=abc", "limit=1.5", "limit=1e3", "limit=--1", "limit=%20", "limit=1%2C2"]
        {
            assert!(Query::new(Some(query)).integer("limit").is_err(), "{query}");
        }
    }

    #[test]
    fn booleans() {
        for text in ["true", "True", "t", "yes", "y", "1", "on"] {
            assert_eq!(Query::new(Some(&format!("echo={text}"))).boolean("echo"), Ok(Some(true)));
        }
        for text in ["false", "False", "f", "no", "n", "0", "off"] {
            assert_eq!(Query::new(Some(&format!("echo={text}"))).boolean("echo"), Ok(Some(false)));
        }
        for text in ["maybe", "TRUE", "Yes", "2"] {
            assert!(Query::new(Some(&format!("echo={text}"))).boolean("echo").is_err(), "{text}");
        }
        assert_eq!(Query::new(Some("echo=")).boolean("echo"), Ok(None));
    }

    #[test]
    fn ids() {
        for (query, ids) in [
            ("", None),
            ("ids=", None),
            ("ids", None),
            ("ids=,", Some(vec![])),
            ("ids=a,b", Some(vec!["a", "b"])),
            ("ids=a%2Cb&ids=,,c,", Some(vec!["a", "b", "c"])),
            ("ids=a,a", Some(vec!["a", "a"])),
        ] {
            let ids = ids.map(|ids| ids.into_iter().map(str::to_owned).collect::<Vec<_>>());
            assert_eq!(Query::new(Some(query)).ids(), ids, "{query}");
        }
    }

    proptest! {
        #[test]
        fn nothing_panics_and_the_last_wins(text in "\\PC{0,40}", number: i64) {
            let query = Query::new(Some(&text));
            let _ = (query.integer("limit"), query.boolean("echo"), query.ids());
            let text = format!("{text}&limit={number}");
            prop_assert_eq!(Query::new(Some(&text)).integer("limit"), Ok(Some(number)));
        }
    }
}
