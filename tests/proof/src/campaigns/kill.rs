//! `kill -9` of the real server, again and again on one folder, while several clients post, claim, delete, release and
//! list, and an operator asks for compaction and checkpoints. Half of the kills fall at a random moment, some while the
//! server is closing; half at the n-th write, sync, rename, removal or cut of a file, by strace's injection, which
//! also hits the start and what it recovers. After each the server starts again, and all it has is held against what
//! the clients were told (`load/check.rs`). Levels, queues and clients are the seed's; moments are the machine's.
//!
//! Cannot see what only a power cut takes: the system keeps what a killed process has written. Where strace is
//! missing, all kills fall at random.

use crate::campaign::{Campaign, Width, none};
use crate::load::{Fault, Load, Plan, Starter};
use crate::random::Random;
use anyhow::{Context, ensure};
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

/// Kills in one trial, all on the same folder.
const KILLS: u64 = 10;
/// Requests answered before a kill at random, at the most.
const ANSWERED_MAX: u64 = 1_500;
/// How long a server that was told to stop may go on before it is killed, at the most.
const CLOSING_US_MAX: u64 = 30_000;
/// System calls that change the disk, as the engine makes them.
const CALLS: [&str; 7] =
    ["pwrite64", "pwrite64", "fdatasync", "fsync", "rename", "unlink", "ftruncate"];
/// The signal of `kill -9`.
const SIGKILL: i32 = 9;

/// See the file's first lines.
pub(super) const CAMPAIGN: Campaign = Campaign {
    name: "kill",
    promise: "what was acknowledged is there after a crash of the process, and nothing else; \
              `memory` loses the end of the log at the most",
    fault: "`kill -9` of the server at any write, sync or rename, and at random, under load",
    unit: "kills",
    in_tests: 50,
    in_ledger: 1_000,
    once_failed: &[],
    width: Width::One,
    trial,
    obstacle: none,
};

fn trial(seed: u64) -> anyhow::Result<u64> {
    let mut random = Random::new(seed);
    let folder = tempfile::tempdir().context("make a folder")?;
    let plan = Plan::new(&mut random);
    let log = folder.path().join("log");
    let starter = Starter::new(&folder.path().join("data"), &log, plan.options())?;
    let mut load = Load::new(plan, Random::new(random.word()), Fault::Kill);
    let mut kills = 0;
    let mut acknowledged = 0;
    while kills < KILLS {
        let call = (has_strace() && random.one_in(2)).then(|| Call::at_random(&mut random));
        let launcher = call.as_ref().map(Call::launcher).unwrap_or_default();
        let told = || format!("life {kills}, {:?}, killed at {call:?}", load.plan());
        let mut server = match starter.start(&launcher)? {
            Ok(server) => server,
            Err(ended) => {
                let is_ours = call.is_some() && ended.status.signal() == Some(SIGKILL);
                ensure!(is_ours, "{}: no start: {}\n{}", told(), ended.status, ended.log);
                kills += 1;
                continue;
            }
        };
        let is_checked = load.check(&server).with_context(|| format!("after life {kills}"))?;
        if !is_checked {
            ensure!(call.is_some(), "life {kills}: hung up\n{}", server.log());
            server.kill();
            kills += 1;
            continue;
        }
        // An injection that never comes is made up for.
        let moment = match &call {
            Some(_) => ANSWERED_MAX,
            None => random.below(ANSWERED_MAX),
        };
        let closing = (call.is_none() && random.one_in(4))
            .then(|| Duration::from_micros(random.below(CLOSING_US_MAX)));
        let mut told_to_stop = None;
        load.work(&mut server, |server, progress| {
            acknowledged = acknowledged.max(progress.answered);
            if server.has_ended() {
                return true;
            }
            if progress.answered < moment {
                return false;
            }
            let Some(closing) = closing else { return true };
            let since = *told_to_stop.get_or_insert_with(|| {
                server.terminate();
                progress.elapsed
            });
            progress.elapsed - since >= closing
        })?;
        let end = server.end().context("it was killed")?;
        let is_ours = end.signal() == Some(SIGKILL) || (closing.is_some() && end.success());
        ensure!(is_ours, "life {kills}: the server ended by itself: {end}\n{}", server.log());
        // One that was told to stop may have been quicker than the kill.
        kills += u64::from(end.signal() == Some(SIGKILL));
    }
    // Without a fault the next start shows what the last kill left, and the one after a stop the same.
    for is_stopped in [false, true] {
        let server = starter.start(&[])?;
        let mut server =
            server.map_err(|ended| anyhow::anyhow!("no start: {}\n{}", ended.status, ended.log))?;
        ensure!(load.check(&server)?, "the server hung up, and was not killed");
        if !is_stopped {
            server.stop()?;
        }
    }
    ensure!(acknowledged > 0, "no life of the server answered anything");
    Ok(kills)
}

/// A system call at which the server dies.
#[derive(Debug)]
struct Call {
    name: &'static str,
    /// Which one of a thread it is; the first thread that gets there dies, and all with it.
    number: u64,
}

impl Call {
    /// Mostly an early one, sometimes one of hundreds.
    fn at_random(random: &mut Random) -> Call {
        let name = random.pick(&CALLS).copied().unwrap_or("pwrite64");
        // Renames, removals and cuts are rare.
        let most = 1 << random.below(if matches!(name, "pwrite64" | "fdatasync") { 10 } else { 5 });
        Call { name, number: 1 + random.below(most) }
    }

    /// The command that becomes the server and dies at this call.
    fn launcher(&self) -> Vec<String> {
        let Call { name, number } = self;
        let inject = format!("inject={name}:signal=KILL:when={number}");
        let trace = format!("trace={name}");
        // Only what is to be hit stops the server, so that it is as fast as ever otherwise. The tracer is not the
        // server's parent: killed, it would be a server that nobody waits for.
        [
            "strace",
            "-D",
            "-f",
            "--seccomp-bpf",
            "-qqq",
            "-o",
            "/dev/null",
            "-e",
            &trace,
            "-e",
            &inject,
        ]
        .map(str::to_owned)
        .to_vec()
    }
}

/// Whether strace is there and may trace.
fn has_strace() -> bool {
    static HAS: OnceLock<bool> = OnceLock::new();
    *HAS.get_or_init(|| {
        let mut command = Command::new("strace");
        command.args(["-D", "-f", "--seccomp-bpf", "-qqq", "-o", "/dev/null"]);
        command.args(["-e", "inject=fsync:signal=KILL:when=1", "true"]);
        let status = command.stdin(Stdio::null()).stderr(Stdio::null()).status();
        status.is_ok_and(|status| status.success())
    })
}
