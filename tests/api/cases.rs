//! The text form of conformance cases, and its reader. Knows what a case says, not how it is run.
//! The form is described at the top of `v1.cases`.

use anyhow::{Context, bail};
use std::collections::BTreeMap;

/// One numbered case.
#[derive(Debug, Clone)]
pub(crate) struct Case {
    pub(crate) number: u32,
    pub(crate) title: String,
    /// The case whose steps come first.
    pub(crate) continues: Option<u32>,
    /// Why it is not run.
    pub(crate) skip: Option<String>,
    /// Settings that differ from the defaults.
    pub(crate) limits: Vec<(String, u64)>,
    pub(crate) steps: Vec<Step>,
}

/// One line of a case, with the facts below it.
#[derive(Debug, Clone)]
pub(crate) struct Step {
    pub(crate) line: usize,
    pub(crate) deed: Deed,
}

impl Step {
    /// Whether it can fail for what the server answers.
    pub(crate) fn is_checked(&self) -> bool {
        matches!(self.deed, Deed::Run(_) | Deed::Send(_))
    }
}

/// What a step does.
#[derive(Debug, Clone)]
pub(crate) enum Deed {
    /// Makes queues.
    Queues { names: Vec<String>, options: Options },
    /// Posts this many messages one after another, into a queue that is made if it has to be.
    Messages { queue: String, count: u32, options: Options },
    /// Claims messages.
    Claim { queue: String, options: Options },
    /// Moves the clock on, by seconds.
    Clock(u64),
    /// Takes the storage down.
    Down,
    /// Calls a function of `deeds.rs`.
    Run(String),
    /// Sends a request and checks the answer.
    Send(Exchange),
}

/// `name=value` words.
pub(crate) type Options = BTreeMap<String, String>;

/// A request and what is expected of its answer. Texts still hold their `<...>` parts.
#[derive(Debug, Clone)]
pub(crate) struct Exchange {
    pub(crate) method: String,
    pub(crate) target: String,
    /// `None` takes a header away that is sent otherwise.
    pub(crate) headers: Vec<(String, Option<String>)>,
    pub(crate) body: Option<String>,
    pub(crate) statuses: Vec<u16>,
    pub(crate) facts: Vec<(usize, Fact)>,
}

/// One thing that has to hold for an answer.
#[derive(Debug, Clone)]
pub(crate) enum Fact {
    /// There is no body.
    Empty,
    /// The header is this, begins with this, lists this, is there, or is not there.
    Header {
        name: String,
        test: HeaderTest,
        value: String,
    },
    /// The JSON value at a pointer is, or is not, this one.
    Json {
        pointer: String,
        is_equal: bool,
        value: String,
    },
    /// The array or object at a pointer has this many members.
    Count {
        pointer: String,
        count: usize,
    },
    /// The objects at a pointer have exactly these keys.
    Keys {
        pointer: String,
        keys: Vec<String>,
    },
    /// The values at a pointer are of a kind.
    Is {
        pointer: String,
        kind: String,
    },
    /// The strings at a pointer begin or end so.
    Starts {
        pointer: String,
        text: String,
    },
    Ends {
        pointer: String,
        text: String,
    },
    /// The query of the link at a pointer holds exactly these parameters.
    Query {
        pointer: String,
        parameters: String,
    },
    /// There is nothing at a pointer.
    Lacks {
        pointer: String,
    },
    /// A GET of every link at a pointer is answered so.
    Follow {
        pointer: String,
        status: u16,
    },
    /// Keeps something under a name.
    Let {
        name: String,
        source: Source,
    },
}

/// How a header is tested.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HeaderTest {
    Equals,
    Starts,
    Has,
    Present,
    Absent,
}

/// Where a kept value comes from.
#[derive(Debug, Clone)]
pub(crate) struct Source {
    /// Keep only what stands after the last slash.
    pub(crate) is_last_part: bool,
    pub(crate) place: Place,
}

/// A part of an answer.
#[derive(Debug, Clone)]
pub(crate) enum Place {
    Header(String),
    Json(String),
}

/// Reads a file of cases, in order.
pub(crate) fn parse(text: &str) -> anyhow::Result<Vec<Case>> {
    let mut cases: Vec<Case> = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let number = index + 1;
        if line.trim().is_empty() || line.starts_with('#') {
            continue;
        }
        parse_line(&mut cases, number, line).with_context(|| format!("line {number}: {line}"))?;
    }
    Ok(cases)
}

fn parse_line(cases: &mut Vec<Case>, line: usize, text: &str) -> anyhow::Result<()> {
    if let Some(head) = text.strip_prefix("case ") {
        cases.push(parse_head(head)?);
        return Ok(());
    }
    let case = cases.last_mut().context("a step before the first case")?;
    if text.starts_with(' ') {
        let Some(Step { deed: Deed::Send(exchange), .. }) = case.steps.last_mut() else {
            bail!("a fact without a request");
        };
        exchange.facts.push((line, parse_fact(text.trim())?));
        return Ok(());
    }
    let (word, rest) = split_word(text);
    match word {
        "continues" => case.continues = Some(rest.parse().context("the number of a case")?),
        "skip" => case.skip = Some(rest.to_owned()),
        "limits" => {
            let (name, value) = rest.split_once('=').context("name=value")?;
            case.limits.push((name.to_owned(), value.parse().context("a number")?));
        }
        _ => case.steps.push(Step { line, deed: parse_deed(word, rest)? }),
    }
    Ok(())
}

fn parse_head(head: &str) -> anyhow::Result<Case> {
    let (number, title) = split_word(head);
    Ok(Case {
        number: number.parse().context("the number of a case")?,
        title: title.to_owned(),
        continues: None,
        skip: None,
        limits: Vec::new(),
        steps: Vec::new(),
    })
}

fn parse_deed(word: &str, rest: &str) -> anyhow::Result<Deed> {
    let (words, options) = split_options(rest);
    let first = || words.first().cloned().context("the name of a queue");
    Ok(match word {
        "queue" => Deed::Queues { names: words, options },
        "messages" => {
            let count = words.get(1).context("how many")?.parse().context("how many")?;
            Deed::Messages { queue: first()?, count, options }
        }
        "claim" => Deed::Claim { queue: first()?, options },
        "clock" => Deed::Clock(rest.strip_prefix('+').context("+seconds")?.parse()?),
        "down" => Deed::Down,
        "run" => Deed::Run(rest.to_owned()),
        method if method.bytes().all(|byte| byte.is_ascii_uppercase()) => {
            Deed::Send(parse_exchange(method, rest)?)
        }
        _ => bail!("no such step: {word}"),
    })
}

fn parse_exchange(method: &str, rest: &str) -> anyhow::Result<Exchange> {
    let (sent, expected) = rest.rsplit_once("=> ").context("no status is expected")?;
    let (target, mut sent) = split_word(sent.trim());
    let mut headers = Vec::new();
    while let Some(after) = sent.strip_prefix('(') {
        let (header, after) = after.split_once(')').context("a header without its end")?;
        headers.push(match (header.strip_prefix('-'), header.split_once(':')) {
            (Some(name), _) => (name.to_owned(), None),
            (None, Some((name, value))) => (name.to_owned(), Some(value.trim().to_owned())),
            (None, None) => bail!("not a header: {header}"),
        });
        sent = after.trim_start();
    }
    let statuses: Result<Vec<u16>, _> = expected.trim().split('|').map(str::parse).collect();
    Ok(Exchange {
        method: method.to_owned(),
        target: target.to_owned(),
        headers,
        body: (!sent.is_empty()).then(|| sent.to_owned()),
        statuses: statuses.context("a status, or several with | between")?,
        facts: Vec::new(),
    })
}

fn parse_fact(text: &str) -> anyhow::Result<Fact> {
    let (word, rest) = split_word(text);
    let sides = || -> anyhow::Result<(String, String)> {
        let (left, right) = rest.split_once("= ").context("no = in it")?;
        Ok((left.trim().to_owned(), right.trim().to_owned()))
    };
    Ok(match word {
        "empty" => Fact::Empty,
        "no" => {
            let name = rest.strip_prefix("header ").context("no header ...")?.to_owned();
            Fact::Header { name, test: HeaderTest::Absent, value: String::new() }
        }
        "header" => {
            let (name, rest) = split_word(rest);
            let (test, value) = split_word(rest);
            let test = match test {
                "=" => HeaderTest::Equals,
                "starts" => HeaderTest::Starts,
                "has" => HeaderTest::Has,
                "present" => HeaderTest::Present,
                other => bail!("no such test of a header: {other}"),
            };
            Fact::Header { name: name.to_owned(), test, value: value.to_owned() }
        }
        "json" => {
            let (left, value) = sides()?;
            let is_equal = !left.ends_with('!');
            let pointer = left.trim_end_matches('!').trim().to_owned();
            Fact::Json { pointer, is_equal, value }
        }
        "count" => {
            let (pointer, count) = sides()?;
            Fact::Count { pointer, count: count.parse().context("how many")? }
        }
        "keys" => {
            let (pointer, keys) = sides()?;
            Fact::Keys { pointer, keys: keys.split_whitespace().map(str::to_owned).collect() }
        }
        "is" => {
            let (pointer, kind) = sides()?;
            Fact::Is { pointer, kind }
        }
        "starts" => {
            let (pointer, text) = sides()?;
            Fact::Starts { pointer, text }
        }
        "ends" => {
            let (pointer, text) = sides()?;
            Fact::Ends { pointer, text }
        }
        "query" => {
            let (pointer, parameters) = sides()?;
            Fact::Query { pointer, parameters }
        }
        "lacks" => Fact::Lacks { pointer: rest.to_owned() },
        "follow" => {
            let (pointer, status) = rest.split_once(" => ").context("no status is expected")?;
            Fact::Follow { pointer: pointer.to_owned(), status: status.parse()? }
        }
        "let" => {
            let (name, source) = sides()?;
            Fact::Let { name, source: parse_source(&source) }
        }
        _ => bail!("no such fact: {word}"),
    })
}

fn parse_source(text: &str) -> Source {
    let (is_last_part, text) = match text.strip_prefix("last ") {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let place = match text.strip_prefix("header ") {
        Some(name) => Place::Header(name.to_owned()),
        None => Place::Json(text.to_owned()),
    };
    Source { is_last_part, place }
}

/// The first word, and what follows it without the blanks between.
fn split_word(text: &str) -> (&str, &str) {
    let text = text.trim_start();
    match text.split_once(' ') {
        Some((word, rest)) => (word, rest.trim_start()),
        None => (text, ""),
    }
}

/// The plain words, and those of the form `name=value`.
fn split_options(text: &str) -> (Vec<String>, Options) {
    let mut words = Vec::new();
    let mut options = Options::new();
    for word in text.split_whitespace() {
        match word.split_once('=') {
            Some((name, value)) => {
                options.insert(name.to_owned(), value.to_owned());
            }
            None => words.push(word.to_owned()),
        }
    }
    (words, options)
}
