//! Whether an answer is what a case expects, and what every answer has to be whatever the case.
//! Sends nothing.

use crate::cases::{Exchange, Fact, HeaderTest, Place, Source};
use crate::text::{Names, expand};
use anyhow::{Context, bail, ensure};
use marconi_tests::client::Reply;
use serde_json::Value;

/// Checks the status and what holds for every answer.
pub(crate) fn status(exchange: &Exchange, reply: &Reply) -> anyhow::Result<()> {
    let expected = &exchange.statuses;
    ensure!(expected.contains(&reply.status), "status {}, expected {expected:?}", reply.status);
    if reply.status == 204 {
        ensure!(reply.body.is_empty(), "204 with a body");
    }
    if reply.status >= 400 && !reply.body.is_empty() {
        let kind = reply.header("Content-Type").unwrap_or_default();
        ensure!(kind.starts_with("application/json"), "an error as {kind}");
        let document = json(reply)?;
        ensure!(document["title"].is_string(), "an error without a title");
        let description = document.get("description");
        ensure!(description.is_none_or(Value::is_string), "a description that is no string");
    }
    Ok(())
}

/// Checks one fact; `Let` and `Follow` are for the caller.
pub(crate) fn fact(fact: &Fact, reply: &Reply, names: &Names) -> anyhow::Result<()> {
    match fact {
        Fact::Empty => ensure!(reply.body.is_empty(), "there is a body"),
        Fact::Header { name, test, value } => {
            header(name, *test, &expand(value, names)?, reply.header(name))?;
        }
        Fact::Json { pointer, is_equal, value } => {
            let expected: Value =
                serde_json::from_str(&expand(value, names)?).context("the value expected")?;
            let found = collected(&json(reply)?, pointer)?;
            ensure!((found == expected) == *is_equal, "{pointer} is {found}");
        }
        Fact::Count { pointer, count } => {
            let document = json(reply)?;
            let found = match single(&document, pointer)? {
                Value::Array(members) => members.len(),
                Value::Object(members) => members.len(),
                other => bail!("{pointer} has no members, it is {other}"),
            };
            ensure!(found == *count, "{pointer} has {found} members, expected {count}");
        }
        Fact::Keys { pointer, keys } => {
            let mut expected: Vec<&str> = keys.iter().map(String::as_str).collect();
            expected.sort_unstable();
            each(reply, pointer, |value| {
                let object = value.as_object().context("not an object")?;
                let mut found: Vec<&str> = object.keys().map(String::as_str).collect();
                found.sort_unstable();
                ensure!(found == expected, "the keys are {found:?}");
                Ok(())
            })?;
        }
        Fact::Is { pointer, kind } => each(reply, pointer, |value| {
            ensure!(is(value, kind)?, "not {kind}");
            Ok(())
        })?,
        Fact::Starts { pointer, text } => {
            let start = expand(text, names)?;
            each(reply, pointer, |value| {
                ensure!(value.as_str().is_some_and(|text| text.starts_with(&start)), "other start");
                Ok(())
            })?;
        }
        Fact::Ends { pointer, text } => {
            let end = expand(text, names)?;
            each(reply, pointer, |value| {
                ensure!(value.as_str().is_some_and(|text| text.ends_with(&end)), "another end");
                Ok(())
            })?;
        }
        Fact::Query { pointer, parameters } => {
            let parameters = expand(parameters, names)?;
            each(reply, pointer, |value| query(value, &parameters))?;
        }
        Fact::Lacks { pointer } => {
            let document = json(reply)?;
            ensure!(found(&document, pointer).is_empty(), "{pointer} is there");
        }
        Fact::Follow { .. } | Fact::Let { .. } => {}
    }
    Ok(())
}

/// The texts that a pointer with `*` in it leads to.
pub(crate) fn texts(reply: &Reply, pointer: &str) -> anyhow::Result<Vec<String>> {
    let document = json(reply)?;
    let found = found(&document, pointer);
    found.iter().map(|value| Ok(value.as_str().context("not a string")?.to_owned())).collect()
}

/// What a `let` keeps.
pub(crate) fn kept(source: &Source, reply: &Reply) -> anyhow::Result<String> {
    let text = match &source.place {
        Place::Header(name) => reply.header(name).context("no such header")?.to_owned(),
        Place::Json(pointer) => match single(&json(reply)?, pointer)? {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        },
    };
    if !source.is_last_part {
        return Ok(text);
    }
    let path = text.split('?').next().unwrap_or_default();
    Ok(path.rsplit('/').next().unwrap_or_default().to_owned())
}

fn json(reply: &Reply) -> anyhow::Result<Value> {
    serde_json::from_slice(&reply.body).context("the body is not JSON")
}

fn header(name: &str, test: HeaderTest, wanted: &str, found: Option<&str>) -> anyhow::Result<()> {
    let holds = match (test, found) {
        (HeaderTest::Absent, found) => found.is_none(),
        (_, None) => false,
        (HeaderTest::Present, Some(_)) => true,
        (HeaderTest::Equals, Some(found)) => found == wanted,
        (HeaderTest::Starts, Some(found)) => found.starts_with(wanted),
        (HeaderTest::Has, Some(found)) => {
            wanted.split_whitespace().all(|word| found.split(',').any(|part| part.trim() == word))
        }
    };
    ensure!(holds, "header {name} is {found:?}");
    Ok(())
}

/// All values at a pointer; `*` stands for every member.
fn found<'a>(document: &'a Value, pointer: &str) -> Vec<&'a Value> {
    let mut values = vec![document];
    for part in pointer.split('/').skip(1) {
        let part = part.replace('~', "/");
        values = values
            .into_iter()
            .flat_map(|value| -> Vec<&Value> {
                match (part.as_str(), value) {
                    ("*", Value::Array(members)) => members.iter().collect(),
                    ("*", Value::Object(members)) => members.values().collect(),
                    (_, Value::Array(members)) => part
                        .parse::<usize>()
                        .ok()
                        .and_then(|at| members.get(at))
                        .into_iter()
                        .collect(),
                    _ => value.get(&part).into_iter().collect(),
                }
            })
            .collect();
    }
    values
}

fn single<'a>(document: &'a Value, pointer: &str) -> anyhow::Result<&'a Value> {
    found(document, pointer).first().copied().with_context(|| format!("nothing at {pointer}"))
}

/// The value at a pointer, or an array of them where the pointer has a `*`.
fn collected(document: &Value, pointer: &str) -> anyhow::Result<Value> {
    if pointer.contains('*') {
        return Ok(found(document, pointer).into_iter().cloned().collect());
    }
    single(document, pointer).cloned()
}

fn each(
    reply: &Reply,
    pointer: &str,
    test: impl Fn(&Value) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let document = json(reply)?;
    let values = found(&document, pointer);
    ensure!(!values.is_empty(), "nothing at {pointer}");
    for value in values {
        test(value).with_context(|| format!("{pointer} is {value}"))?;
    }
    Ok(())
}

fn is(value: &Value, kind: &str) -> anyhow::Result<bool> {
    let is_id = |text: &str| {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        !text.is_empty() && text.bytes().all(plain)
    };
    Ok(match kind {
        "array" => value.is_array(),
        "object" => value.is_object(),
        "string" => value.is_string(),
        "integer" => value.is_i64(),
        "link" => value.as_str().is_some_and(|text| {
            text.starts_with('/') && text.rsplit('/').next().is_some_and(is_id)
        }),
        "time" => value.as_str().is_some_and(|text| {
            let shape: String =
                text.chars().map(|c| if c.is_ascii_digit() { '9' } else { c }).collect();
            shape == "9999-99-99T99:99:99Z"
        }),
        _ => bail!("no such kind: {kind}"),
    })
}

/// Compares the parameters of a link, in any order; `marker=*` is any marker.
fn query(link: &Value, parameters: &str) -> anyhow::Result<()> {
    let link = link.as_str().context("not a string")?;
    let (_, query) = link.split_once('?').context("no query")?;
    let mut found: Vec<&str> = query.split('&').collect();
    let mut expected: Vec<&str> = parameters.split('&').collect();
    found.sort_unstable();
    expected.sort_unstable();
    let same = |(found, expected): (&&str, &&str)| match expected.strip_suffix('*') {
        Some(start) => found.starts_with(start) && found.len() > start.len(),
        None => found == expected,
    };
    ensure!(
        found.len() == expected.len() && found.iter().zip(&expected).all(same),
        "the parameters are {found:?}"
    );
    Ok(())
}
