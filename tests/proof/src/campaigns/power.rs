//! Power cuts under the real server, again and again on one disk: a file system of our own under FUSE forgets, splits
//! and reorders what was not synced (the fault model stands in `power_disk/mod.rs`). Clients and operator are those of
//! `kill`, and so is the check afterwards. Most cuts fall at the n-th change or sync of the disk, which also hits starts
//! and what they recover; the others at a random moment. Levels, queues, clients and what a cut leaves are the seed's;
//! the order in which the server's threads reach the disk is the machine's.
//!
//! Cannot see what a real file system does wrong, nor a disk that lies about its syncs.

use crate::campaign::{Campaign, Width};
use crate::load::{Fault, Load, Plan, Starter};
use crate::power_disk::PowerDisk;
use crate::power_disk::mount::Mounted;
use crate::random::Random;
use anyhow::{Context, ensure};
use std::fs;

/// Cuts in one trial, all on the same disk.
const CUTS: u64 = 10;
/// Requests answered before a cut at random, at the most.
const ANSWERED_MAX: u64 = 1_000;

/// See the file's first lines.
pub(super) const CAMPAIGN: Campaign = Campaign {
    name: "power",
    promise: "what was acknowledged in `group` and `each` is there after a power cut; the other levels lose the end \
              of the log at the most",
    fault: "power cuts under the real server: what was not synced is forgotten, split and reordered",
    unit: "power cuts",
    in_tests: 20,
    in_ledger: 500,
    once_failed: &[],
    width: Width::One,
    trial,
    obstacle,
};

fn obstacle() -> Option<String> {
    let mount = || -> anyhow::Result<()> {
        let folder = tempfile::tempdir().context("make a folder")?;
        Mounted::new(PowerDisk::default(), folder.path())?.unmount()?;
        Ok(())
    };
    let cause = mount().err()?;
    Some(format!("{cause:#}; it takes /dev/fuse, and root or the program fusermount3"))
}

fn trial(seed: u64) -> anyhow::Result<u64> {
    let mut random = Random::new(seed);
    let folder = tempfile::tempdir().context("make a folder")?;
    let mount_point = folder.path().join("disk");
    fs::create_dir(&mount_point).context("make a folder to mount on")?;
    let plan = Plan::new(&mut random);
    let log = folder.path().join("log");
    let starter = Starter::new(&mount_point.join("data"), &log, plan.options())?;
    let mut load = Load::new(plan, Random::new(random.word()), Fault::PowerCut);
    let mut disk = PowerDisk::default();
    let mut acknowledged = 0;
    for cut in 0..CUTS {
        let fails_at = (!random.one_in(4)).then(|| {
            let most = 1 << random.below(13);
            1 + random.below(most)
        });
        let moment = match fails_at {
            Some(_) => ANSWERED_MAX,
            None => random.below(ANSWERED_MAX),
        };
        let told = || format!("life {cut} of {:?}, power fails at {fails_at:?}", load.plan());
        let told = told();
        let mounted = Mounted::new(disk, &mount_point)?;
        mounted.disk().fail_at(fails_at);
        match starter.start(&[])? {
            Err(ended) => {
                let is_ours = mounted.disk().is_dead();
                ensure!(is_ours, "{told}: no start: {}\n{}", ended.status, ended.log);
            }
            Ok(mut server) => {
                if load.check(&server).with_context(|| told.clone())? {
                    load.work(&mut server, |server, progress| {
                        acknowledged = acknowledged.max(progress.answered);
                        let mut disk = mounted.disk();
                        if progress.answered >= moment && !disk.is_dead() {
                            disk.fail();
                        }
                        disk.is_dead() || server.has_ended()
                    })
                    .with_context(|| told.clone())?;
                    let is_ours = mounted.disk().is_dead();
                    ensure!(is_ours, "{told}: the server ended by itself\n{}", server.log());
                } else {
                    let is_ours = mounted.disk().is_dead();
                    ensure!(is_ours, "{told}: the server hung up\n{}", server.log());
                }
                server.kill();
            }
        }
        disk = mounted.unmount()?.cut(&mut random);
    }
    // The power stays on: the next start shows what the last cut left, and the one after a stop the same.
    let mounted = Mounted::new(disk, &mount_point)?;
    for is_stopped in [false, true] {
        let server = starter.start(&[])?;
        let mut server =
            server.map_err(|ended| anyhow::anyhow!("no start: {}\n{}", ended.status, ended.log))?;
        ensure!(load.check(&server)?, "the server hung up, and its disk has power");
        if !is_stopped {
            server.stop()?;
        }
    }
    mounted.unmount()?;
    ensure!(acknowledged > 0, "no life of the server answered anything");
    Ok(CUTS)
}
