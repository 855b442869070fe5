//! The documents clients send: a batch of messages, a claim, a renewal, metadata. Bodies stay slices
//! of the request. Pure; knows no store and no sockets.

use super::fault::{Fault, Kind as FaultKind};
use super::json::{JsonFault, Kind, Scanner, Value};
use super::limits::Limits;
use bytes::Bytes;
use marconi_engine::NewMessage;

/// The times a claim is made with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClaimTimes {
    /// Seconds it lives.
    pub ttl_s: u32,
    /// Seconds its messages outlive it at least.
    pub grace_s: u32,
}

impl From<JsonFault> for Fault {
    fn from(fault: JsonFault) -> Fault {
        let text = format!("The body could not be parsed as JSON: {fault}.");
        Fault::new(FaultKind::BadBody, text)
    }
}

/// The messages of a post, in the order sent.
pub fn messages<'a>(body: &'a Bytes, limits: &Limits) -> Result<Vec<NewMessage<'a>>, Fault> {
    let mut scanner = open(body, limits, b'[', "an array of messages")?;
    let mut found = Vec::new();
    scanner.array::<Fault>(|scanner| {
        found.push(message(scanner, body)?);
        Ok(())
    })?;
    scanner.end()?;
    limits.post_count(found.len())?;
    let batch = found.into_iter().map(|(ttl, body)| {
        let ttl_s = limits.message_ttl(ttl)?;
        Ok(NewMessage { ttl_s, body })
    });
    batch.collect()
}

/// One element of a post: its ttl, not yet checked, and its body.
fn message<'a>(scanner: &mut Scanner<'_>, text: &'a Bytes) -> Result<(i64, &'a [u8]), Fault> {
    if !scanner.next_is(b'{') {
        let other = scanner.value()?;
        return Err(bad(format!(
            "Every message has to be an object; one is {}.",
            other.kind.name()
        )));
    }
    let mut ttl = None;
    let mut body = None;
    scanner.object::<Fault>(|key, scanner| {
        let value = scanner.value()?;
        if key.is("ttl") {
            ttl = Some(value);
        } else if key.is("body") {
            body = Some(value);
        }
        Ok(())
    })?;
    let ttl = integer("ttl", ttl)?.ok_or_else(|| bad("A message lacks the field ttl."))?;
    let body = body.ok_or_else(|| bad("A message lacks the field body."))?;
    Ok((ttl, &text[body.span]))
}

/// The times of a new claim.
pub fn claim(body: &Bytes, limits: &Limits) -> Result<ClaimTimes, Fault> {
    let (ttl, grace) = times(body, limits)?;
    let ttl = ttl.ok_or_else(|| bad("The claim lacks the field ttl."))?;
    let grace = grace.ok_or_else(|| bad("The claim lacks the field grace."))?;
    Ok(ClaimTimes { ttl_s: limits.claim_ttl(ttl)?, grace_s: limits.claim_grace(grace)? })
}

/// The times of a renewal; without a grace there is none.
pub fn renewal(body: &Bytes, limits: &Limits) -> Result<ClaimTimes, Fault> {
    let (ttl, grace) = times(body, limits)?;
    let ttl = ttl.ok_or_else(|| bad("The renewal lacks the field ttl."))?;
    let grace_s = limits.renewal_grace(grace.unwrap_or(0))?;
    Ok(ClaimTimes { ttl_s: limits.claim_ttl(ttl)?, grace_s })
}

fn times(body: &Bytes, limits: &Limits) -> Result<(Option<i64>, Option<i64>), Fault> {
    let mut scanner = open(body, limits, b'{', "an object with ttl and grace")?;
    let mut ttl = None;
    let mut grace = None;
    scanner.object::<Fault>(|key, scanner| {
        let value = scanner.value()?;
        if key.is("ttl") {
            ttl = Some(value);
        } else if key.is("grace") {
            grace = Some(value);
        }
        Ok(())
    })?;
    scanner.end()?;
    Ok((integer("ttl", ttl)?, integer("grace", grace)?))
}

/// A queue's metadata: the object as written, without the blanks around it.
pub fn metadata(body: &Bytes, limits: &Limits) -> Result<Bytes, Fault> {
    let mut scanner = open(body, limits, b'{', "an object")?;
    let mut reserved = None;
    scanner.object::<Fault>(|key, scanner| {
        if key.begins_with('_') {
            reserved.get_or_insert_with(|| key.decoded());
        }
        scanner.value()?;
        Ok(())
    })?;
    scanner.end()?;
    if let Some(name) = reserved {
        let text = format!("The metadata key {name:.64} is reserved: keys may not begin with '_'.");
        return Err(Fault::new(FaultKind::Refused, text));
    }
    // An object was read from end to end, so what is trimmed is blanks.
    let blank = |byte: &u8| byte.is_ascii_whitespace();
    let start = body.iter().take_while(|byte| blank(byte)).count();
    let end = body.len() - body.iter().rev().take_while(|byte| blank(byte)).count();
    Ok(body.slice(start..end))
}

/// A scanner at the document's value, which has to begin with `bracket`.
fn open<'a>(
    body: &'a Bytes,
    limits: &Limits,
    bracket: u8,
    wanted: &str,
) -> Result<Scanner<'a>, Fault> {
    if body.is_empty() {
        return Err(bad(format!("The request has no body; it takes {wanted}.")));
    }
    let mut scanner = Scanner::new(body, limits.json_depth_max)?;
    if !scanner.next_is(bracket) {
        let other = scanner.value()?;
        scanner.end()?;
        return Err(bad(format!("The body is {}; it has to be {wanted}.", other.kind.name())));
    }
    Ok(scanner)
}

fn integer(name: &str, value: Option<Value>) -> Result<Option<i64>, Fault> {
    match value.map(|value| value.kind) {
        None => Ok(None),
        Some(Kind::Integer(number)) => Ok(Some(number)),
        Some(other) => Err(bad(format!("{name} is {}; it has to be an integer.", other.name()))),
    }
}

fn bad(text: impl Into<std::borrow::Cow<'static, str>>) -> Fault {
    Fault::new(FaultKind::BadBody, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Bytes {
        Bytes::copy_from_slice(text.as_bytes())
    }

    #[test]
    fn posts_are_read_without_copying_bodies() {
        let body = text(
            " [{\"ttl\":60,\"body\": {\"z\":1, \"a\":2} ,\"x\":[]},\n{\"body\":1,\"body\":null,\"ttl\":5,\"ttl\":1209600}] ",
        );
        let read = messages(&body, &Limits::default()).expect("two messages");
        let parts: Vec<_> = read.iter().map(|m| (m.ttl_s, m.body)).collect();
        assert_eq!(parts, [(60, &b"{\"z\":1, \"a\":2}"[..]), (1_209_600, b"null")]);
        assert!(body.as_ptr_range().contains(&read[0].body.as_ptr()));
    }

    #[test]
    fn posts_are_refused() {
        for body in [
            "",
            " ",
            "[",
            "[]",
            "{}",
            ".",
            "\"x\"",
            "null",
            "true",
            "[1]",
            "[\"a\"]",
            "[null]",
            "[{}]",
            "[[{\"ttl\":60,\"body\":1}]]",
            "{\"ttl\":60,\"body\":\"\"}",
            "[{\"ttl\":60}]",
            "[{\"body\":1}]",
            "[{\"ttl\":59,\"body\":1}]",
            "[{\"ttl\":1209601,\"body\":1}]",
            "[{\"ttl\":-1,\"body\":1}]",
            "[{\"ttl\":\"60\",\"body\":1}]",
            "[{\"ttl\":60.0,\"body\":1}]",
            "[{\"ttl\":6e1,\"body\":1}]",
            "[{\"ttl\":null,\"body\":1}]",
            "[{\"ttl\":true,\"body\":1}]",
            "[{\"ttl\":9223372036854775808,\"body\":1}]",
            "[{\"ttl\":60,\"body\":1}]x",
            "[{\"ttl\":60,\"body\":9223372036854775808}]",
            "[{\"ttl\":60,\"body\":NaN}]",
            "[{\"ttl\":60,\"body\":1},{\"ttl\":59,\"body\":1}]",
            "\u{feff}[{\"ttl\":60,\"body\":1}]",
        ] {
            let fault = messages(&text(body), &Limits::default()).expect_err(body);
            assert_eq!(fault.kind.row().0, 400, "{body}");
        }
        let limits = Limits { max_messages_per_post: 1, ..Limits::default() };
        let two = text("[{\"ttl\":60,\"body\":1},{\"ttl\":60,\"body\":1}]");
        assert!(messages(&two, &limits).is_err());
    }

    #[test]
    fn claims_need_both_times_and_renewals_one() {
        let limits = Limits::default();
        let both = text("{\"ttl\":60,\"grace\":43200,\"x\":1}");
        assert_eq!(claim(&both, &limits), Ok(ClaimTimes { ttl_s: 60, grace_s: 43_200 }));
        for body in [
            "",
            "[",
            "[]",
            "{}",
            ".",
            "\"fail\"",
            "{\"ttl\":60}",
            "{\"grace\":60}",
            "{\"ttl\":\"60\",\"grace\":60}",
            "{\"ttl\":60.5,\"grace\":60}",
            "{\"ttl\":60,\"grace\":59}",
            "{\"ttl\":59,\"grace\":60}",
            "{\"ttl\":60,\"grace\":43201}",
            "{\"ttl\":43201,\"grace\":60}",
            "{\"ttl\":60,\"grace\":-10000000000000000000}",
            "{\"ttl\":60,\"grace\":true}",
        ] {
            assert!(claim(&text(body), &limits).is_err(), "{body}");
        }
        let ttl = text("{\"ttl\":60}");
        assert_eq!(renewal(&ttl, &limits), Ok(ClaimTimes { ttl_s: 60, grace_s: 0 }));
        for body in
            ["{\"grace\":60}", "{\"ttl\":60,\"grace\":\"x\"}", "{\"ttl\":60,\"grace\":-5}", "[]"]
        {
            assert!(renewal(&text(body), &limits).is_err(), "{body}");
        }
    }

    #[test]
    fn metadata_is_any_object_without_reserved_keys() {
        let limits = Limits::default();
        let kept = metadata(&text("\n {\"a\":{\"_x\":1},\"\":null} "), &limits);
        assert_eq!(kept.as_deref(), Ok(&b"{\"a\":{\"_x\":1},\"\":null}"[..]));
        for body in [
            "",
            "  ",
            "{",
            "[]",
            ".",
            "1",
            "null",
            "\"not_a_dict\"",
            "{\"_a\":1}",
            "{\"\\u005fa\":1}",
            "{\"a\":9223372036854775808}",
        ] {
            assert!(metadata(&text(body), &limits).is_err(), "{body}");
        }
    }
}
