//! `marconi log verify`: everything that can be checked, and what was found. Knows how it is shown,
//! not how it is checked.

use super::findings::{self, FindingDocument};
use super::folder::Folder;
use super::progress::Bar;
use crate::output::{Output, Tone, count, counted, duration, size};
use marconi_engine::Severity;
use marconi_engine::inspect::{self, Verification};
use serde::Serialize;
use std::process::ExitCode;
use std::time::Instant;

const EXAMPLES: &str = "\
Examples:
  marconi log verify /var/lib/marconi/data
  marconi log verify data --json | jq -r '.findings[].kind'

Ends with code 0 when all is well, 1 when there are warnings or errors, 2 when it could not check.";

/// Of what.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Options {
    #[command(flatten)]
    folder: Folder,
}

pub(crate) fn run(options: &Options, output: &mut Output) -> anyhow::Result<ExitCode> {
    let folder = &options.folder;
    folder.step_back();
    let started = Instant::now();
    let verified = inspect::verify(&folder.path, &mut Bar::new(output));
    let verified = verified.map_err(|error| folder.explain(error))?;
    let duration_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    if output.json {
        output.document(&Document::new(folder, &verified, duration_ms))?;
    } else {
        text(folder, &verified, duration_ms, output)?;
    }
    Ok(if is_clean(&verified) { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

/// Whether nothing was found but notes.
fn is_clean(verified: &Verification) -> bool {
    verified.worst().is_none_or(|worst| worst == Severity::Note)
}

fn text(
    folder: &Folder,
    verified: &Verification,
    duration_ms: u64,
    output: &mut Output,
) -> anyhow::Result<()> {
    for finding in &verified.findings {
        findings::text(finding, output)?;
        output.line("")?;
    }
    let rate = verified.bytes.saturating_mul(1000) / duration_ms.max(1);
    let compared = match (verified.compared, verified.checkpoints) {
        (true, _) => "the newest checkpoint was held against a replay",
        (false, 0 | 1) => "there were not two checkpoints to compare",
        // Errors, or a server at work, stood in the way.
        (false, _) => "the checkpoints were not compared",
    };
    output.line(format_args!(
        "Checked {} in {}: {}, {}, {}, {}; {compared}. {}, {}/s.",
        size(verified.bytes),
        counted(verified.files, "file"),
        counted(verified.frames, "frame"),
        counted(verified.messages, "message"),
        indexes(verified.indexes),
        counted(verified.checkpoints, "checkpoint"),
        duration(duration_ms),
        size(rate)
    ))?;
    let number = |severity: Severity| {
        let of_it = verified.findings.iter().filter(|finding| finding.severity == severity);
        of_it.count() as u64
    };
    let parts: Vec<String> = [Severity::Error, Severity::Warning, Severity::Note]
        .into_iter()
        .filter(|severity| number(*severity) > 0)
        .map(|severity| counted(number(severity), severity.name()))
        .collect();
    let found = parts.join(", ");
    output.line(match (is_clean(verified), found.is_empty()) {
        (true, true) => output.tone(Tone::Good, format_args!("{folder} is in order.")),
        (true, false) => output.tone(Tone::Good, format_args!("{folder} is in order: {found}.")),
        (false, _) => output.tone(Tone::Bad, format_args!("{folder} is not in order: {found}.")),
    })?;
    Ok(())
}

fn indexes(number: u64) -> String {
    match number {
        1 => "1 index".to_owned(),
        number => format!("{} indexes", count(number)),
    }
}

/// What `verify --json` prints.
#[derive(Debug, Serialize)]
struct Document<'a> {
    folder: String,
    is_clean: bool,
    in_use_by: Option<&'a str>,
    findings: Vec<FindingDocument<'a>>,
    files: u64,
    checked_bytes: u64,
    frames: u64,
    messages: u64,
    indexes: u64,
    checkpoints: u64,
    is_compared: bool,
    duration_ms: u64,
}

impl<'a> Document<'a> {
    fn new(folder: &Folder, verified: &'a Verification, duration_ms: u64) -> Document<'a> {
        Document {
            folder: folder.path.display().to_string(),
            is_clean: is_clean(verified),
            in_use_by: verified.holder.as_deref(),
            findings: verified.findings.iter().map(FindingDocument::from).collect(),
            files: verified.files,
            checked_bytes: verified.bytes,
            frames: verified.frames,
            messages: verified.messages,
            indexes: verified.indexes,
            checkpoints: verified.checkpoints,
            is_compared: verified.compared,
            duration_ms,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use marconi_engine::FaultKind;
    use marconi_engine::inspect::Finding;

    fn verified(kinds: &[FaultKind]) -> Verification {
        let findings = kinds.iter().map(|kind| Finding {
            severity: kind.severity(),
            kind: *kind,
            file: "data/log/1.seg".into(),
            offset: None,
            what: "something".to_owned(),
            meaning: kind.meaning(),
            next_step: kind.next_step(),
            lost: Vec::new(),
        });
        Verification {
            findings: findings.collect(),
            holder: None,
            files: 3,
            bytes: 64 << 20,
            frames: 1,
            messages: 2,
            indexes: 1,
            checkpoints: 2,
            compared: true,
        }
    }

    fn printed(verified: &Verification) -> String {
        let (mut output, captured) = Output::captured(false);
        let folder = Folder { path: "data".into() };
        text(&folder, verified, 500, &mut output).expect("a buffer takes all");
        output.flush().expect("a buffer takes all");
        captured.text()
    }

    #[test]
    fn what_was_checked_is_said_with_its_rate() {
        let expected = "\
Checked 64.0 MiB in 3 files: 1 frame, 2 messages, 1 index, 2 checkpoints; the newest checkpoint was \
held against a replay. 500 ms, 128.0 MiB/s.
data is in order.
";
        assert_eq!(printed(&verified(&[])), expected);
    }

    #[test]
    fn notes_leave_a_folder_in_order() {
        let notes = verified(&[FaultKind::TornTail, FaultKind::Leftover]);
        assert!(is_clean(&notes));
        assert!(printed(&notes).ends_with("\ndata is in order: 2 notes.\n"));
        let bad =
            verified(&[FaultKind::FrameDamaged, FaultKind::IndexDamaged, FaultKind::TornTail]);
        assert!(!is_clean(&bad));
        let text = printed(&bad);
        assert!(text.ends_with("\ndata is not in order: 1 error, 1 warning, 1 note.\n"), "{text}");
    }
}
