//! `marconi log stat`: a data folder on one screen. Knows how it is shown, not how it is found out.

use super::folder::Folder;
use super::table::{Cell, Side, Table};
use crate::output::{Output, Tone, bar, count, counted, duration, moment, size};
use marconi_engine::inspect::{CheckpointSummary, SegmentSummary, Summary};
use serde::Serialize;
use std::process::ExitCode;

const EXAMPLES: &str = "\
Examples:
  marconi log stat /var/lib/marconi/data
  marconi log stat data --json | jq .reclaimable_bytes";

/// Segments take at most so many lines; neighbours share one where there are more.
const SEGMENT_LINES_MAX: usize = 20;
/// Characters of a bar.
const BAR_WIDTH: usize = 8;

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
    let summary = folder.view()?.summary().map_err(|error| folder.explain(error))?;
    if output.json {
        output.document(&Document::new(folder, &summary))?;
    } else {
        text(folder, &summary, output)?;
    }
    Ok(ExitCode::SUCCESS)
}

// ---- for people ----

fn text(folder: &Folder, summary: &Summary, output: &mut Output) -> anyhow::Result<()> {
    let age = |ms: u64| duration(summary.now_ms.saturating_sub(ms));
    let facts = [
        ("Folder", folder.path.display().to_string()),
        (
            "Format",
            format!(
                "version {}, made {}, {} ago",
                summary.format_version,
                moment(summary.created_ms),
                age(summary.created_ms)
            ),
        ),
        ("Engine", format!("{:032x}", summary.engine_id)),
        ("State", state(summary, output)),
        ("Queues", format!("{}, with {}", count(summary.queues), counted(summary.claims, "claim"))),
        (
            "Messages",
            format!(
                "{} waiting, {} claimed; {} dead on disk",
                count(summary.waiting),
                count(summary.claimed),
                count(summary.dead)
            ),
        ),
        (
            "Disk",
            format!(
                "{}, {} of it for what lives",
                size(summary.disk_bytes),
                size(summary.live_bytes)
            ),
        ),
        ("Compaction", compaction(folder, summary)),
        (
            "Restart",
            format!(
                "{}: reads {} of log again, {}",
                duration(summary.restart_ms),
                size(summary.replay_bytes),
                counted(summary.replay_frames, "frame")
            ),
        ),
    ];
    for (name, fact) in facts {
        let name = output.tone(Tone::Heading, format_args!("{name:<12}"));
        output.line(format_args!("{name}{fact}"))?;
    }
    output.line("")?;
    segments(summary, output)?;
    if !summary.checkpoints.is_empty() {
        output.line("")?;
        checkpoints(summary, output)?;
    }
    Ok(())
}

fn state(summary: &Summary, output: &Output) -> String {
    if let Some(holder) = &summary.holder {
        return output.tone(Tone::Good, format_args!("in use by {}", process(holder)));
    }
    if summary.was_clean {
        return "free; the last run ended in good order".to_owned();
    }
    output.tone(Tone::Warning, "free; the last run did not end in good order")
}

/// What the lock says of its holder: a number is a process.
pub(crate) fn process(holder: &str) -> String {
    match holder.parse::<u64>() {
        Ok(pid) => format!("process {pid}"),
        Err(_) => holder.to_owned(),
    }
}

fn compaction(folder: &Folder, summary: &Summary) -> String {
    match (summary.reclaimable_bytes, &summary.holder) {
        (0, _) => "nothing to give back".to_owned(),
        (bytes, Some(_)) => {
            format!("would give back {}: marconi log compact --server URL", size(bytes))
        }
        (bytes, None) => format!("would give back {}: marconi log compact {folder}", size(bytes)),
    }
}

fn segments(summary: &Summary, output: &mut Output) -> anyhow::Result<()> {
    let all = &summary.segments;
    let lines: Vec<Line> = all
        .chunks(all.len().div_ceil(SEGMENT_LINES_MAX).max(1))
        .map(|neighbours| Line::new(neighbours, summary.now_ms))
        .collect();
    let largest = lines.iter().map(|line| line.size).max().unwrap_or(0);
    let oldest = lines.iter().map(|line| line.age_ms).max().unwrap_or(0);
    let share = |part: u64, whole: u64| if whole == 0 { 0.0 } else { part as f64 / whole as f64 };
    let rows: Vec<Vec<Cell>> = lines
        .iter()
        .map(|line| {
            let live = share(line.live_bytes, line.size);
            let tone = if line.is_reclaimable { Tone::Warning } else { Tone::Good };
            vec![
                line.numbers.clone().into(),
                size(line.size).into(),
                Cell::toned(Tone::Dim, bar(share(line.size, largest), BAR_WIDTH)),
                format!("{:.0} %", live.min(1.0) * 100.0).into(),
                Cell::toned(tone, bar(live, BAR_WIDTH)),
                duration(line.age_ms).into(),
                Cell::toned(Tone::Dim, bar(share(line.age_ms, oldest), BAR_WIDTH)),
                Cell::toned(Tone::Dim, line.note.clone()),
            ]
        })
        .collect();
    Table::new(&[
        ("Segment", Side::Left, 0),
        ("Size", Side::Right, 10),
        ("", Side::Left, BAR_WIDTH),
        ("Live", Side::Right, 5),
        ("", Side::Left, BAR_WIDTH),
        ("Age", Side::Right, 11),
        ("", Side::Left, BAR_WIDTH),
        ("", Side::Left, 0),
    ])
    .print(output, &rows)?;
    Ok(())
}

/// A segment, or neighbours that share a line.
struct Line {
    numbers: String,
    size: u64,
    live_bytes: u64,
    /// Of the oldest.
    age_ms: u64,
    is_reclaimable: bool,
    note: String,
}

impl Line {
    fn new(segments: &[SegmentSummary], now_ms: u64) -> Line {
        let (first, last) = (&segments[0], &segments[segments.len() - 1]);
        let mut numbers = first.number.to_string();
        if last.last_number > first.number {
            numbers += &format!("–{}", last.last_number);
        }
        let reclaimable = segments.iter().map(|segment| segment.reclaimable_bytes).sum();
        let mut notes = Vec::new();
        if segments.len() > 1 {
            notes.push(counted(segments.len() as u64, "segment"));
        } else if first.generation > 0 {
            notes.push(format!("rewritten, generation {}", first.generation));
        }
        if segments.iter().any(|segment| segment.is_active) {
            notes.push("being written".to_owned());
        }
        if reclaimable > 0 {
            notes.push(format!("{} to give back", size(reclaimable)));
        }
        Line {
            numbers,
            size: segments.iter().map(|segment| segment.size + segment.index_size).sum(),
            live_bytes: segments.iter().map(|segment| segment.live_bytes).sum(),
            age_ms: segments
                .iter()
                .map(|segment| now_ms.saturating_sub(segment.created_ms))
                .max()
                .unwrap_or(0),
            is_reclaimable: reclaimable > 0,
            note: notes.join("; "),
        }
    }
}

fn checkpoints(summary: &Summary, output: &mut Output) -> anyhow::Result<()> {
    let state = |checkpoint: &CheckpointSummary| match &checkpoint.fault {
        Some(fault) => Cell::toned(Tone::Bad, format!("damaged: {fault}")),
        None if checkpoint.clean => Cell::from("an end in good order"),
        None => Cell::from("whole"),
    };
    let rows: Vec<Vec<Cell>> = summary
        .checkpoints
        .iter()
        .map(|checkpoint| {
            vec![
                checkpoint.number.to_string().into(),
                size(checkpoint.size).into(),
                checkpoint.lsn.to_string().into(),
                duration(summary.now_ms.saturating_sub(checkpoint.created_ms)).into(),
                state(checkpoint),
            ]
        })
        .collect();
    Table::new(&[
        ("Checkpoint", Side::Left, 0),
        ("Size", Side::Right, 10),
        ("At LSN", Side::Right, 10),
        ("Age", Side::Right, 11),
        ("State", Side::Left, 0),
    ])
    .print(output, &rows)?;
    Ok(())
}

// ---- for programs ----

/// What `stat --json` prints.
#[derive(Debug, Serialize)]
struct Document<'a> {
    folder: String,
    format_version: u32,
    engine_id: String,
    created_ms: u64,
    now_ms: u64,
    in_use_by: Option<&'a str>,
    was_clean: bool,
    queues: u64,
    claims: u64,
    messages_waiting: u64,
    messages_claimed: u64,
    messages_dead: u64,
    end_lsn: u64,
    replay_bytes: u64,
    replay_frames: u64,
    restart_ms: u64,
    disk_bytes: u64,
    live_bytes: u64,
    reclaimable_bytes: u64,
    segments: Vec<SegmentDocument>,
    checkpoints: Vec<CheckpointDocument<'a>>,
}

#[derive(Debug, Serialize)]
struct SegmentDocument {
    number: u64,
    last_number: u64,
    generation: u64,
    file: String,
    base_lsn: u64,
    span_bytes: u64,
    size_bytes: u64,
    index_size_bytes: u64,
    messages: u64,
    live_messages: u64,
    live_bytes: u64,
    created_ms: u64,
    reclaimable_bytes: u64,
    is_active: bool,
}

#[derive(Debug, Serialize)]
struct CheckpointDocument<'a> {
    number: u64,
    lsn: u64,
    created_ms: u64,
    size_bytes: u64,
    is_clean: bool,
    fault: Option<&'a str>,
}

impl<'a> Document<'a> {
    fn new(folder: &Folder, summary: &'a Summary) -> Document<'a> {
        Document {
            folder: folder.path.display().to_string(),
            format_version: summary.format_version,
            engine_id: format!("{:032x}", summary.engine_id),
            created_ms: summary.created_ms,
            now_ms: summary.now_ms,
            in_use_by: summary.holder.as_deref(),
            was_clean: summary.was_clean,
            queues: summary.queues,
            claims: summary.claims,
            messages_waiting: summary.waiting,
            messages_claimed: summary.claimed,
            messages_dead: summary.dead,
            end_lsn: summary.end.0,
            replay_bytes: summary.replay_bytes,
            replay_frames: summary.replay_frames,
            restart_ms: summary.restart_ms,
            disk_bytes: summary.disk_bytes,
            live_bytes: summary.live_bytes,
            reclaimable_bytes: summary.reclaimable_bytes,
            segments: summary.segments.iter().map(SegmentDocument::from).collect(),
            checkpoints: summary.checkpoints.iter().map(CheckpointDocument::from).collect(),
        }
    }
}

impl From<&SegmentSummary> for SegmentDocument {
    fn from(segment: &SegmentSummary) -> SegmentDocument {
        SegmentDocument {
            number: segment.number,
            last_number: segment.last_number,
            generation: segment.generation,
            file: segment.file.display().to_string(),
            base_lsn: segment.base.0,
            span_bytes: segment.span,
            size_bytes: segment.size,
            index_size_bytes: segment.index_size,
            messages: segment.messages,
            live_messages: segment.live_messages,
            live_bytes: segment.live_bytes,
            created_ms: segment.created_ms,
            reclaimable_bytes: segment.reclaimable_bytes,
            is_active: segment.is_active,
        }
    }
}

impl<'a> From<&'a CheckpointSummary> for CheckpointDocument<'a> {
    fn from(checkpoint: &'a CheckpointSummary) -> CheckpointDocument<'a> {
        CheckpointDocument {
            number: checkpoint.number,
            lsn: checkpoint.lsn.0,
            created_ms: checkpoint.created_ms,
            size_bytes: checkpoint.size,
            is_clean: checkpoint.clean,
            fault: checkpoint.fault.as_deref(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use marconi_engine::Lsn;

    const MIB: u64 = 1 << 20;

    fn segment(number: u64) -> SegmentSummary {
        SegmentSummary {
            number,
            last_number: number,
            generation: 0,
            file: format!("data/log/{number}.seg").into(),
            base: Lsn(number * 64 * MIB),
            span: 64 * MIB,
            size: 64 * MIB,
            index_size: 0,
            messages: 10,
            live_messages: 5,
            live_bytes: 32 * MIB,
            created_ms: 1_700_000_000_000 + number * 1000,
            reclaimable_bytes: 0,
            is_active: false,
        }
    }

    fn summary() -> Summary {
        let joined = SegmentSummary { last_number: 4, generation: 2, size: 16 * MIB, ..segment(1) };
        let wasteful = SegmentSummary {
            live_bytes: 0,
            live_messages: 0,
            reclaimable_bytes: 64 * MIB,
            ..segment(5)
        };
        let checkpoint = CheckpointSummary {
            number: 8,
            lsn: Lsn(4096),
            created_ms: 1_700_000_050_000,
            size: 2048,
            clean: false,
            fault: None,
        };
        let damaged = CheckpointSummary {
            number: 9,
            fault: Some("the checksum does not match".to_owned()),
            ..checkpoint.clone()
        };
        Summary {
            format_version: 2,
            engine_id: 0xabc,
            created_ms: 1_700_000_000_000,
            now_ms: 1_700_000_065_000,
            holder: None,
            segments: vec![joined, wasteful, SegmentSummary { is_active: true, ..segment(6) }],
            checkpoints: vec![checkpoint, damaged],
            queues: 1,
            waiting: 12_345,
            claimed: 6,
            dead: 7,
            claims: 2,
            end: Lsn(999),
            replay_bytes: 3 * MIB,
            replay_frames: 1,
            restart_ms: 31,
            was_clean: false,
            disk_bytes: 144 * MIB,
            live_bytes: 64 * MIB,
            reclaimable_bytes: 64 * MIB,
        }
    }

    fn printed(summary: &Summary, json: bool) -> String {
        let (mut output, captured) = Output::captured(json);
        let folder = Folder { path: "data".into() };
        if json {
            output.document(&Document::new(&folder, summary)).expect("a buffer takes all");
        } else {
            text(&folder, summary, &mut output).expect("a buffer takes all");
        }
        output.flush().expect("a buffer takes all");
        captured.text().replace('\u{a0}', " ")
    }

    #[test]
    fn a_folder_is_seen_at_a_glance() {
        let expected = "\
Folder      data
Format      version 2, made 2023-11-14T22:13:20.000Z, 1 min 5 s ago
Engine      00000000000000000000000000000abc
State       free; the last run did not end in good order
Queues      1, with 2 claims
Messages    12 345 waiting, 6 claimed; 7 dead on disk
Disk        144.0 MiB, 64.0 MiB of it for what lives
Compaction  would give back 64.0 MiB: marconi log compact data
Restart     31 ms: reads 3.0 MiB of log again, 1 frame
";
        let text = printed(&summary(), false);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[..9], expected.lines().collect::<Vec<_>>(), "{text}");
        assert!(lines[9].is_empty());
        let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!(
            lines[10..].iter().map(|line| words(line)).collect::<Vec<_>>(),
            [
                "Segment Size Live Age",
                "1–4 16.0 MiB ██░░░░░░ 100 % ████████ 1 min 4 s ████████ rewritten, generation 2",
                "5 64.0 MiB ████████ 0 % ░░░░░░░░ 1 min ████████ 64.0 MiB to give back",
                "6 64.0 MiB ████████ 50 % ████░░░░ 59 s ███████░ being written",
                "",
                "Checkpoint Size At LSN Age State",
                "8 2.0 KiB 4096 15 s whole",
                "9 2.0 KiB 4096 15 s damaged: the checksum does not match",
            ]
        );
    }

    #[test]
    fn many_segments_still_fit_a_screen() {
        let mut many = summary();
        many.segments = (1..=1000).map(segment).collect();
        let text = printed(&many, false);
        let lines = text.lines().filter(|line| line.contains("50 segments")).count();
        assert_eq!(lines, 20, "{text}");
        assert!(text.contains("951–1000"), "{text}");
        many.segments.clear();
        assert!(printed(&many, false).contains("Segment"));
    }

    #[test]
    fn whoever_has_the_folder_is_named() {
        let held = Summary { holder: Some("4711".to_owned()), ..summary() };
        let text = printed(&held, false);
        assert!(text.contains("State       in use by process 4711\n"), "{text}");
        assert!(text.contains("marconi log compact --server URL"), "{text}");
        let document = printed(&held, true);
        assert!(document.contains("\"in_use_by\":\"4711\""), "{document}");
    }
}
