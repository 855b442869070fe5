//! What is wrong with a folder, as people and programs are told. Knows not how it was found.

use super::queue_name::{Name, shown};
use super::runs::shown as runs_shown;
use crate::output::{Output, Tone, counted, size};
use marconi_engine::inspect::{Finding, LostItem};
use marconi_engine::{LostKind, Seq, Severity};
use serde::Serialize;

/// What was found, with what it means and what to do; then what is lost by it.
pub(crate) fn text(finding: &Finding, output: &mut Output) -> anyhow::Result<()> {
    let tone = match finding.severity {
        Severity::Note => Tone::Dim,
        Severity::Warning => Tone::Warning,
        Severity::Error => Tone::Bad,
    };
    let place = match finding.offset {
        Some(offset) => format!("{} at byte {offset}", finding.file.display()),
        None => finding.file.display().to_string(),
    };
    let head = format!("{}: {}", finding.severity.name(), finding.kind.name());
    output.line(format_args!("{}  {place}", output.tone(tone, head)))?;
    output.line(format_args!("  found    {}", finding.what))?;
    output.line(format_args!("  means    {}", finding.meaning))?;
    output.line(format_args!("  to do    {}", finding.next_step))?;
    for lost in &finding.lost {
        output.line(format_args!("  lost     {}", lost_line(lost)))?;
    }
    Ok(())
}

fn lost_line(lost: &LostItem) -> String {
    let mut line = match (lost.what, lost.count) {
        (_, 0) => format!("{}, nobody knows how many", lost.what.name()),
        (LostKind::Bytes, bytes) => size(bytes),
        (LostKind::Messages, count) => counted(count, "message"),
        (LostKind::Record, count) => counted(count, "record"),
    };
    match (&lost.key, lost.queue) {
        (Some(key), _) => line += &format!(" of queue {}", shown(key)),
        (None, Some(id)) => line += &format!(" of the queue with id {}", id.0),
        (None, None) => {}
    }
    if let Some(first) = lost.first {
        let seqs = (0..lost.count.max(1)).map(|more| Seq(first.0.saturating_add(more)));
        line += &format!(", seq {}", runs_shown(seqs));
    }
    if !lost.note.is_empty() {
        line += &format!(" ({})", lost.note);
    }
    line
}

/// A finding for programs.
#[derive(Debug, Serialize)]
pub(crate) struct FindingDocument<'a> {
    severity: &'static str,
    kind: &'static str,
    file: String,
    offset: Option<u64>,
    what: &'a str,
    meaning: &'static str,
    next_step: &'static str,
    lost: Vec<LostDocument<'a>>,
}

#[derive(Debug, Serialize)]
struct LostDocument<'a> {
    what: &'static str,
    #[serde(flatten)]
    name: Option<Name>,
    queue_id: Option<u64>,
    first_seq: Option<u64>,
    count: u64,
    note: &'a str,
}

impl<'a> From<&'a Finding> for FindingDocument<'a> {
    fn from(finding: &'a Finding) -> FindingDocument<'a> {
        let lost = finding.lost.iter().map(|lost| LostDocument {
            what: lost.what.name(),
            name: lost.key.as_ref().map(Name::from),
            queue_id: lost.queue.map(|id| id.0),
            first_seq: lost.first.map(|first| first.0),
            count: lost.count,
            note: &lost.note,
        });
        FindingDocument {
            severity: finding.severity.name(),
            kind: finding.kind.name(),
            file: finding.file.display().to_string(),
            offset: finding.offset,
            what: &finding.what,
            meaning: finding.meaning,
            next_step: finding.next_step,
            lost: lost.collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use marconi_engine::{FaultKind, QueueId, QueueKey};

    fn finding() -> Finding {
        let lost = |what, key: Option<&str>, first, count, note: &str| LostItem {
            what,
            queue: Some(QueueId(4096)),
            key: key.map(|name| QueueKey::new(Some("acme"), name).expect("short")),
            first,
            count,
            note: note.to_owned(),
        };
        Finding {
            severity: Severity::Error,
            kind: FaultKind::FrameDamaged,
            file: "data/log/1.seg".into(),
            offset: Some(4160),
            what: "the checksum does not match".to_owned(),
            meaning: "What these frames said is lost.",
            next_step: "run it",
            lost: vec![
                lost(LostKind::Messages, Some("jobs"), Some(Seq(7)), 3, ""),
                lost(LostKind::Record, None, None, 1, "a claim"),
                lost(LostKind::Bytes, None, None, 2048, ""),
                lost(LostKind::Messages, Some("jobs"), None, 0, ""),
            ],
        }
    }

    #[test]
    fn a_finding_says_what_it_means_and_what_is_lost() {
        let (mut output, captured) = Output::captured(false);
        text(&finding(), &mut output).expect("a buffer takes all");
        output.flush().expect("a buffer takes all");
        let expected = "\
error: frame-damaged  data/log/1.seg at byte 4160
  found    the checksum does not match
  means    What these frames said is lost.
  to do    run it
  lost     3 messages of queue acme/jobs, seq 7–9
  lost     1 record of the queue with id 4096 (a claim)
  lost     2.0 KiB of the queue with id 4096
  lost     messages, nobody knows how many of queue acme/jobs
";
        assert_eq!(captured.text(), expected);
    }

    #[test]
    fn programs_get_the_same() {
        let document = serde_json::to_value(FindingDocument::from(&finding())).expect("JSON");
        assert_eq!(document["kind"], "frame-damaged");
        assert_eq!(document["lost"][0]["queue"], "jobs");
        assert_eq!(document["lost"][0]["first_seq"], 7);
        assert_eq!(document["lost"][2]["what"], "bytes");
    }
}
