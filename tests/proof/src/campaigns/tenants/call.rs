//! Calls, chosen at random: every route, method and parameter, with ids left open until it is known what server
//! they go to. Knows no answers.

use super::view::{Kind, View};
use crate::random::Random;
use std::fmt;

/// Projects that are easily taken for each other, or for none.
const PROJECTS: &[[Option<&[u8]>; 2]] = &[
    [None, Some(b"a")],
    [None, Some(b"None")],
    [Some(b"a"), Some(b"ab")],
    [Some(b"a"), Some(b"aa")],
    [Some(b"a"), Some(b"A")],
    [Some(b"a"), Some(b"a/b")],
    [Some(b"a/b"), Some(b"a%2Fb")],
    [Some(b"a"), Some(b"a,b")],
    [Some(b"a.b"), Some(b"a-b")],
    [Some(b"a b"), Some(b"a  b")],
    [Some(b"a"), Some(b"a\tb")],
    [Some(b"1"), Some(b"01")],
    [Some(b"*"), Some(b"a")],
    [Some(b"%00"), Some(b"%")],
    // An e with an accent as one character and as two; a k and the sign for kelvin.
    [Some("\u{e9}".as_bytes()), Some("e\u{301}".as_bytes())],
    [Some("\u{212a}".as_bytes()), Some(b"K")],
    [Some(b"\xff"), Some(b"\xfe")],
    [Some(&[b'x'; 255]), Some(&[b'x'; 256])],
    [Some(&[b'x'; 256]), Some(&[b'x'; 257])],
];

/// Names of queues, as they stand in a path: some whole, some in pieces of others, some that are none.
const QUEUES: &[&str] = &[
    "a",
    "b",
    "c",
    "ab",
    "bc",
    "abc",
    "aa",
    "aaa",
    "A",
    "B",
    "a.b",
    "a-b",
    "a_b",
    ".",
    "..",
    "-",
    "messages",
    "claims",
    "a%2Eb",
    "%61",
    "a%2Fb",
    "a%2fmessages",
    "b%2F..%2Fa",
    "%2e%2e",
    "%00",
    "a%00",
    "a%00b",
    "%C3%A9",
    "e%CC%81",
    "%E2%84%AA",
    "K",
    "k",
    "%ff",
    "%fe",
    "a%20",
    "a+",
    "a%252Fb",
    "a%0D%0Ab",
    "*",
    "x%2Ca",
    "qqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqq",
    "qqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqq",
];
/// Of them those that can be made, which come first.
const QUEUES_THAT_CAN_BE: usize = 20;

const CLIENTS: [&str; 3] = [
    "8d3a6d1e-4c5f-4f7e-9c57-0f5b2f0d2a11",
    "8d3a6d1e4c5f4f7e9c570f5b2f0d2a12",
    "{8D3A6D1E-4C5F-4F7E-9C57-0F5B2F0D2A11}",
];
/// A queue that only the second tenant has, and one that nobody has.
const THEIRS: &str = "only-theirs";
const NOBODYS: &str = "only-nobody";

/// The names of one trial.
#[derive(Debug)]
pub(super) struct Names {
    /// Each tenant's project.
    pub(super) projects: [Option<&'static [u8]>; 2],
    queues: Vec<&'static str>,
}

impl Names {
    pub(super) fn choose(random: &mut Random) -> Names {
        let mut projects = PROJECTS[random.below(PROJECTS.len() as u64) as usize];
        if random.one_in(2) {
            projects.reverse();
        }
        let mut queues = Vec::new();
        while queues.len() < 5 {
            let queue = QUEUES[random.below(QUEUES_THAT_CAN_BE as u64) as usize];
            if !queues.contains(&queue) {
                queues.push(queue);
            }
        }
        Names { projects, queues }
    }

    fn queue(&self, random: &mut Random) -> &'static str {
        let names = if random.one_in(12) { QUEUES } else { &self.queues };
        names[random.below(names.len() as u64) as usize]
    }
}

/// A piece of a target: text, or an id to be put in.
#[derive(Debug, Clone)]
enum Piece {
    Text(String),
    Id { kind: Kind, is_own: bool, choice: u64 },
}

impl From<&str> for Piece {
    fn from(text: &str) -> Piece {
        Piece::Text(text.to_owned())
    }
}

/// A call but for its ids.
#[derive(Debug, Clone)]
pub(super) struct Template {
    method: &'static str,
    target: Vec<Piece>,
    headers: Vec<(&'static str, Vec<u8>)>,
    body: String,
}

/// A call as it is sent.
#[derive(Debug)]
pub(super) struct Filled {
    pub(super) method: &'static str,
    pub(super) target: String,
    pub(super) headers: Vec<(&'static str, Vec<u8>)>,
    pub(super) body: String,
}

impl fmt::Display for Filled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} {}", self.method, self.target)?;
        for (name, value) in &self.headers {
            writeln!(f, "{name}: {}", value.escape_ascii())?;
        }
        f.write_str(&self.body)
    }
}

impl Template {
    fn new(names: &Names, who: usize, method: &'static str, target: &str) -> Template {
        let mut headers = vec![("client-id", CLIENTS[who].as_bytes().to_vec())];
        headers.extend(names.projects[who].map(|project| ("x-project-id", project.to_vec())));
        Template { method, target: vec![target.into()], headers, body: String::new() }
    }

    fn with_body(mut self, body: impl Into<String>) -> Template {
        self.body = body.into();
        self
    }

    /// Any call of a tenant; most of them to one of few queues, and well-formed.
    pub(super) fn random(random: &mut Random, names: &Names, who: usize) -> Template {
        let queue = format!("/v1/queues/{}", names.queue(random));
        let choice = random.below(100);
        let method = match choice {
            0..12 | 34..40 => "PUT",
            12..34 | 64..74 => "POST",
            40..64 => "GET",
            74..92 => "DELETE",
            92..96 => "PATCH",
            _ => *random.pick(&["HEAD", "OPTIONS", "PATCH", "TRACE", "GET"]).unwrap_or(&"GET"),
        };
        let mut call = Template::new(names, who, method, &queue);
        match choice {
            0..12 => {}
            12..34 => {
                call.target.push("/messages".into());
                call.body = posted(random, names);
            }
            34..40 => {
                call.target.push("/metadata".into());
                call.body = format!("{{\"of\": {who}, \"n\": {}}}", random.below(1000));
            }
            40..64 => call.read(random, names),
            64..74 => {
                call.target.push("/claims".into());
                call.body = times(random);
                call.parameter(random, "limit");
            }
            74..92 => call.delete(random),
            92..96 => {
                call.target.push("/claims/".into());
                call.id(random, Kind::Claim);
                call.body = times(random);
            }
            _ => {
                let end = [
                    "",
                    "/messages",
                    "/stats",
                    "/claims",
                    "/metadata",
                    "/messages/",
                    "/claims/",
                    "/x",
                ];
                let end = *random.pick(&end).unwrap_or(&"");
                call.target.push(end.into());
                if end.ends_with('/') {
                    let kind = Kind::random(random);
                    call.id(random, kind);
                }
            }
        }
        call.disturb(random, names, who);
        call
    }

    fn read(&mut self, random: &mut Random, names: &Names) {
        match random.below(10) {
            0..2 => {
                self.target = vec!["/v1/queues".into()];
                self.parameter(random, "limit");
                self.parameter(random, "detailed");
                if random.one_in(2) {
                    let marker =
                        *random.pick(&["%00", "a/", "~", "a%2Fa", "%EF%BF%BD"]).unwrap_or(&"a");
                    let marker = if random.one_in(2) { names.queue(random) } else { marker };
                    self.with_parameter(Piece::Text(format!("marker={marker}")));
                }
            }
            2 => {}
            3 => self.target.push("/metadata".into()),
            4 => self.target.push("/stats".into()),
            5..8 => {
                self.target.push("/messages".into());
                if random.one_in(3) {
                    self.ids(random);
                }
                for name in ["limit", "echo", "include_claimed"] {
                    self.parameter(random, name);
                }
                if random.one_in(3) {
                    self.with_parameter("marker=".into());
                    self.id(random, Kind::Marker);
                }
            }
            8 => {
                self.target.push("/messages/".into());
                self.id(random, Kind::Message);
            }
            _ => {
                self.target.push("/claims/".into());
                self.id(random, Kind::Claim);
            }
        }
    }

    fn delete(&mut self, random: &mut Random) {
        match random.below(18) {
            0..2 => {}
            2..5 => {
                self.target.push("/messages".into());
                self.ids(random);
            }
            5..8 => {
                self.target.push("/claims/".into());
                self.id(random, Kind::Claim);
            }
            _ => {
                self.target.push("/messages/".into());
                self.id(random, Kind::Message);
                if random.one_in(2) {
                    self.with_parameter("claim_id=".into());
                    self.id(random, Kind::Claim);
                }
            }
        }
    }

    /// Something that a call need not have, and should not take to mean another project.
    fn disturb(&mut self, random: &mut Random, names: &Names, who: usize) {
        if random.one_in(8) {
            let level =
                *random.pick(&["memory", "os", "interval", "group", "none"]).unwrap_or(&"os");
            self.headers.push(("marconi-durability", level.into()));
        }
        let other = names.projects[1 - who].unwrap_or(b"a");
        match random.below(20) {
            // Of two the first counts, so here only one may be the other's.
            0 if names.projects[who].is_some() => {
                self.headers.push(("x-project-id", other.to_vec()))
            }
            1 => self.headers.push(("x-auth-project-id", other.to_vec())),
            2 => self.with_parameter("project=a&project_id=ab&X-Project-Id=a".into()),
            3 => self.headers[0].1 = CLIENTS[random.below(3) as usize].into(),
            4 => drop(self.headers.remove(0)),
            _ => {}
        }
    }

    /// An id, of this tenant's or the other's; of the right kind mostly.
    fn id(&mut self, random: &mut Random, kind: Kind) {
        let kind = if random.one_in(10) { Kind::random(random) } else { kind };
        let is_own = !random.one_in(3);
        self.target.push(Piece::Id { kind, is_own, choice: random.word() });
    }

    fn ids(&mut self, random: &mut Random) {
        self.with_parameter("ids=".into());
        for place in 0..=random.below(4) {
            if place > 0 {
                self.target.push(",".into());
            }
            self.id(random, Kind::Message);
        }
    }

    /// A parameter in one of two cases.
    fn parameter(&mut self, random: &mut Random, name: &str) {
        if random.one_in(2) {
            return;
        }
        let values: &[&str] = match name {
            "limit" => &["1", "2", "3", "20", "20", "0", "21", "-1", "x", ""],
            _ => &["true", "true", "true", "false", "maybe", ""],
        };
        let value = random.pick(values).unwrap_or(&"");
        self.with_parameter(Piece::Text(format!("{name}={value}")));
    }

    fn with_parameter(&mut self, parameter: Piece) {
        let is_first = !self
            .target
            .iter()
            .any(|piece| matches!(piece, Piece::Text(text) if text.contains('?')));
        self.target.push(if is_first { "?" } else { "&" }.into());
        self.target.push(parameter);
    }

    /// Calls that show a tenant all it has.
    pub(super) fn all_there_is(names: &Names, who: usize) -> Vec<Template> {
        let mut calls = vec![Template::new(names, who, "GET", "/v1/queues?limit=20&detailed=true")];
        for queue in &names.queues {
            for what in ["stats", "messages?limit=20&echo=true&include_claimed=true", "metadata"] {
                calls.push(Template::new(names, who, "GET", &format!("/v1/queues/{queue}/{what}")));
            }
        }
        calls
    }

    /// Calls of the second tenant that make and fill a queue.
    pub(super) fn of_the_others(names: &Names) -> Vec<Template> {
        let queue = format!("/v1/queues/{THEIRS}");
        let mut calls = vec![Template::new(names, 1, "PUT", &queue)];
        let messages = vec![r#"{"ttl": 3000, "body": "theirs"}"#; 50].join(",");
        let post = Template::new(names, 1, "POST", &format!("{queue}/messages"));
        calls.push(post.with_body(format!("[{messages}]")));
        calls
    }

    /// Calls of the first tenant to that queue, each with the same one to a queue that nobody has.
    pub(super) fn probes(names: &Names) -> Vec<(Template, Template)> {
        let probe = |method: &'static str, end: &str, body: &str| {
            let to = |queue| {
                let target = format!("/v1/queues/{queue}{end}");
                Template::new(names, 0, method, &target).with_body(body)
            };
            (to(THEIRS), to(NOBODYS))
        };
        vec![
            probe("GET", "", ""),
            probe("GET", "/stats", ""),
            probe("GET", "/messages?echo=true", ""),
            probe("POST", "/messages", r#"[{"ttl": 60, "body": 1}]"#),
            probe("POST", "/claims", r#"{"ttl": 60, "grace": 60}"#),
            probe("DELETE", "", ""),
        ]
    }

    /// The call with ids put in, the other's moved to where no server has any where `is_elsewhere`.
    pub(super) fn fill(&self, own: &View, others: &View, is_elsewhere: bool) -> Filled {
        let piece = |piece: &Piece| match piece {
            Piece::Text(text) => text.clone(),
            Piece::Id { kind, is_own: true, choice } => own.text(*kind, *choice, false),
            Piece::Id { kind, is_own: false, choice } => others.text(*kind, *choice, is_elsewhere),
        };
        Filled {
            method: self.method,
            target: self.target.iter().map(piece).collect(),
            headers: self.headers.clone(),
            body: self.body.clone(),
        }
    }
}

fn posted(random: &mut Random, names: &Names) -> String {
    if random.one_in(15) {
        return (*random.pick(&["[]", "{", "[{\"ttl\": 1, \"body\": 1}]", "null"]).unwrap_or(&""))
            .to_owned();
    }
    let message = |random: &mut Random| {
        let ttl_s = [60, 61, 120, 600][random.below(4) as usize];
        let size_max = if random.one_in(20) { 20_000 } else { 60 };
        let size = random.below(size_max) as usize;
        let word = names.queues[random.below(names.queues.len() as u64) as usize];
        format!("{{\"ttl\": {ttl_s}, \"body\": \"{word}{}\"}}", "x".repeat(size))
    };
    let messages: Vec<String> = (0..=random.below(4)).map(|_| message(random)).collect();
    format!("[{}]", messages.join(","))
}

fn times(random: &mut Random) -> String {
    if random.one_in(15) {
        return "{\"ttl\": 1}".to_owned();
    }
    let ttl_s = [60, 61, 90, 600][random.below(4) as usize];
    format!("{{\"ttl\": {ttl_s}, \"grace\": {}}}", 60 + random.below(60))
}
