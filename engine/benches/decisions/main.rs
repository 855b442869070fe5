//! The measurements behind the pages in `docs/decisions`: one question a file, one name each.
//! Prints Markdown tables. Measures the disk, the kernel and the processor, not the engine.
//!
//! ```text
//! cargo bench -p marconi-engine --bench decisions -- log-write [--rounds n] [--tries n] [--ms n]
//! ```
mod body_reads;
mod checksum;
mod commit_path;
mod commit_thread;
mod disk;
mod log_write;
mod map_write;
mod measure;
mod one_core;
mod segment_reuse;
mod shards;
mod uring;

use measure::Effort;
use std::io;

type Question = fn(Effort) -> io::Result<()>;

/// Every question by the name it is asked under.
const QUESTIONS: [(&str, Question); 9] = [
    ("log-write", log_write::ask),
    ("map-write", map_write::ask),
    ("commit-thread", commit_thread::ask),
    ("commit-path", commit_path::ask),
    ("one-core", one_core::ask),
    ("body-reads", body_reads::ask),
    ("shards", shards::ask),
    ("checksum", checksum::ask),
    ("segment-reuse", segment_reuse::ask),
];

fn main() -> io::Result<()> {
    let mut effort = Effort::default();
    let mut asked = Vec::new();
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        match word.as_str() {
            "--bench" => {} // Cargo says so to every benchmark.
            "--rounds" => effort.rounds = number(words.next())?,
            "--tries" => effort.tries = number(words.next())?,
            "--ms" => effort.turn_ms = number(words.next())? as u64,
            name => match QUESTIONS.iter().find(|(known, _)| *known == name) {
                Some((_, question)) => asked.push(question),
                None => return Err(wrong(&format!("no question is called {name:?}"))),
            },
        }
    }
    if asked.is_empty() {
        println!("Name a question: {}", QUESTIONS.map(|(name, _)| name).join(", "));
    }
    asked.into_iter().try_for_each(|question| question(effort))
}

fn number(word: Option<String>) -> io::Result<usize> {
    match word.and_then(|text| text.parse().ok()) {
        Some(number) if number > 0 => Ok(number),
        _ => Err(wrong("--rounds, --tries and --ms take a number from 1")),
    }
}

fn wrong(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, what)
}
