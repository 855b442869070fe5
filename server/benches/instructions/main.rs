//! How many instructions things take in user space: the engine's parts, the API's documents, and
//! whole requests. Unlike times they are the same on a busy machine, so that a slope shows.
//!
//! ```text
//! cargo bench -p marconi-server --bench instructions [-- FILTER] [--record]
//! ```
//!
//! `--record` appends the counts to `docs/performance/instructions.jsonl`, a line a run. Each case is
//! this program again, or the server, under `valgrind --tool=callgrind`. From run to run documents
//! differ by nothing, requests by 0.5 %, verbs by 1.5 %: their maps are seeded anew.

#[path = "../cases/mod.rs"]
mod documents;
#[path = "../../../engine/benches/cases/mod.rs"]
mod parts;

mod callgrind;
mod record;
mod whole;

use record::Record;
use std::io;
use std::path::Path;
use std::process::ExitCode;

/// How many runs a count of a document is the mean of.
const DOCUMENT_RUNS: u64 = 1000;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    if let ["run", name, folder] = words[..] {
        run(name, Path::new(folder));
        return ExitCode::SUCCESS;
    }
    let is_recording = words.contains(&"--record");
    let filters: Vec<&str> = words.into_iter().filter(|word| *word != "--record").collect();
    match count(&filters, is_recording) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// Counts what the filters name, and prints it beside what was recorded last.
fn count(filters: &[&str], is_recording: bool) -> io::Result<()> {
    if let Some(unknown) = filters.iter().find(|filter| filter.starts_with('-')) {
        let text = format!("{unknown} is no option; there is --record, and words of names");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    }
    callgrind::check()?;
    let mut record = if is_recording { Record::to_be_kept()? } else { Record::default() };
    let last = record::last_counts()?;
    let is_meant =
        |name: &str| filters.is_empty() || filters.iter().any(|word| name.contains(word));
    println!("{:<52} {:>13} {:>13} {:>9}", "", "instructions", "last recorded", "change");
    let names = parts::CASES.iter().map(|case| case.name);
    let names = names.chain(documents::CASES.iter().map(|case| case.name));
    for name in names.filter(|name| is_meant(name)) {
        record.add(name, count_alone(name)?, &last);
    }
    for case in whole::CASES.iter().filter(|case| is_meant(case.name)) {
        record.add(case.name, whole::count(case)?, &last);
    }
    if record.is_empty() {
        let text = format!("no case has a name with {}", filters.join(" or "));
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    }
    if is_recording { record.keep() } else { Ok(()) }
}

/// The instructions of one run of a case, in a process of its own.
fn count_alone(name: &str) -> io::Result<u64> {
    let folder = temporary()?;
    if let Some(case) = part(name) {
        (case.fill)(folder.path());
    }
    let mut command = callgrind::command(folder.path());
    command.arg(format!("--toggle-collect=*{MEASURED}*"));
    command.arg(std::env::current_exe()?).args(["run", name]).arg(folder.path());
    let total = callgrind::total(&mut command, folder.path())?;
    Ok(total / part(name).map_or(DOCUMENT_RUNS, |case| case.runs))
}

/// What the counted process does.
fn run(name: &str, folder: &Path) {
    if let Some(case) = part(name) {
        let mut work = (case.open)(folder);
        // What only the first one does is left out.
        work.prepare();
        work.run();
        for _ in 0..case.runs {
            work.prepare();
            measured_instructions(&mut || work.run());
        }
    } else {
        let case = documents::CASES.iter().find(|case| case.name == name).expect("it has a name");
        let mut run = (case.open)();
        run();
        for _ in 0..DOCUMENT_RUNS {
            measured_instructions(&mut run);
        }
    }
}

/// The function by whose name callgrind knows what to count.
const MEASURED: &str = "measured_instructions";

#[inline(never)]
fn measured_instructions(run: &mut dyn FnMut()) {
    run();
    // So that it is no jump, which callgrind would not see the end of.
    std::hint::black_box(());
}

fn part(name: &str) -> Option<&'static parts::Case> {
    static PARTS: [parts::Case; parts::CASES.len()] = parts::CASES;
    PARTS.iter().find(|case| case.name == name)
}

/// A folder on the disk that the build is on, not on one in memory.
fn temporary() -> io::Result<tempfile::TempDir> {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))
}
