//! `marconi log compact --server`: has a running server give disk space back, and watches. Knows the
//! admin API's documents about compaction, and no HTTP.

use super::compact::{How, INTERRUPTED, LOOK_INTERVAL, agreed};
use crate::admin_client::AdminClient;
use crate::output::{Output, Tone, Unit, counted, duration, size};
use anyhow::Context;
use indicatif::ProgressBar;
use serde::{Deserialize, Serialize};
use std::process::ExitCode;
use std::time::Instant;
use tokio::signal::unix::{SignalKind, signal};

/// What `GET /compact` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
struct State {
    running: bool,
    gain_bytes: u64,
    gain_segments: u64,
    /// Since the server was started.
    freed_bytes: u64,
}

/// What `POST /compact` says once it is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
struct Freed {
    freed_bytes: u64,
}

pub(super) fn run(url: &str, how: How, output: &mut Output) -> anyhow::Result<ExitCode> {
    let client = AdminClient::new(url)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(ask(&client, how, output))
}

async fn ask(client: &AdminClient, how: How, output: &mut Output) -> anyhow::Result<ExitCode> {
    let before = state(client).await?;
    if !output.json {
        expect(&before, output)?;
        output.flush()?;
    }
    let mut document = Document {
        server: client.url(),
        reclaimable_bytes: before.gain_bytes,
        reclaimable_segments: before.gain_segments,
        done: false,
        interrupted: false,
        freed_bytes: None,
        duration_ms: None,
    };
    if how.dry_run {
        if output.json {
            output.document(&document)?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    if before.gain_bytes == 0 && !output.json {
        return Ok(ExitCode::SUCCESS);
    }
    if !how.yes && !agreed(output)? {
        output.line("Nothing was changed.")?;
        return Ok(ExitCode::SUCCESS);
    }
    let started = Instant::now();
    let progress = output.progress("giving back", before.gain_bytes, Unit::Bytes);
    let freed = watch(client, &before, &progress).await?;
    progress.finish_and_clear();
    let duration_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    document.done = freed.is_some();
    document.interrupted = freed.is_none();
    document.freed_bytes = freed;
    document.duration_ms = Some(duration_ms);
    if output.json {
        output.document(&document)?;
    } else {
        tell(freed, duration_ms, output)?;
    }
    Ok(if freed.is_some() { ExitCode::SUCCESS } else { ExitCode::from(INTERRUPTED) })
}

async fn state(client: &AdminClient) -> anyhow::Result<State> {
    let document = client.get("/compact").await?;
    serde_json::from_value(document)
        .with_context(|| format!("{}/compact answers something else", client.url()))
}

/// Has it done, and waits for its end: how many bytes it freed, or `None` when nobody wants to wait.
async fn watch(
    client: &AdminClient,
    before: &State,
    progress: &ProgressBar,
) -> anyhow::Result<Option<u64>> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let looking = async {
        let mut looks = tokio::time::interval(LOOK_INTERVAL);
        loop {
            looks.tick().await;
            // A look that fails is only a look: whether the work failed, its own answer says.
            if let Ok(now) = state(client).await {
                progress.set_position(now.freed_bytes.saturating_sub(before.freed_bytes));
            }
        }
    };
    tokio::select! {
        answer = client.post("/compact") => {
            let freed: Freed = serde_json::from_value(answer?)
                .with_context(|| format!("{}/compact answers something else", client.url()))?;
            Ok(Some(freed.freed_bytes))
        }
        () = looking => Ok(None),
        _ = interrupt.recv() => Ok(None),
        _ = terminate.recv() => Ok(None),
    }
}

fn expect(before: &State, output: &mut Output) -> anyhow::Result<()> {
    if before.running {
        output.line("A compaction is running already; this one begins when it has ended.")?;
    }
    let text = match before.gain_bytes {
        0 => "There is nothing to give back.".to_owned(),
        bytes => {
            let segments = counted(before.gain_segments, "segment");
            format!("Compaction gives back about {} out of {segments}.", size(bytes))
        }
    };
    output.line(text)?;
    Ok(())
}

fn tell(freed: Option<u64>, duration_ms: u64, output: &mut Output) -> anyhow::Result<()> {
    match freed {
        Some(bytes) => {
            let freed = output.tone(Tone::Good, format_args!("Gave back {}", size(bytes)));
            output.line(format_args!("{freed} in {}.", duration(duration_ms)))?;
        }
        None => {
            let text = "Not waited for any longer: the server goes on by itself.";
            output.line(output.tone(Tone::Warning, text))?;
        }
    }
    Ok(())
}

/// What `compact --server --json` prints.
#[derive(Debug, Serialize)]
struct Document<'a> {
    server: &'a str,
    reclaimable_bytes: u64,
    reclaimable_segments: u64,
    done: bool,
    interrupted: bool,
    freed_bytes: Option<u64>,
    duration_ms: Option<u64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_expected_and_what_was_done_is_said() {
        let state = State { running: true, gain_bytes: 3 << 20, gain_segments: 1, freed_bytes: 0 };
        let (mut output, captured) = Output::captured(false);
        expect(&state, &mut output).expect("a buffer takes all");
        expect(&State { running: false, gain_bytes: 0, ..state }, &mut output).expect("so it does");
        tell(Some(2 << 20), 1500, &mut output).expect("so it does");
        tell(None, 1500, &mut output).expect("so it does");
        output.flush().expect("so it does");
        let expected = "\
A compaction is running already; this one begins when it has ended.
Compaction gives back about 3.0 MiB out of 1 segment.
There is nothing to give back.
Gave back 2.0 MiB in 1 s.
Not waited for any longer: the server goes on by itself.
";
        assert_eq!(captured.text(), expected);
    }
}
