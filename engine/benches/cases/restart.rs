//! Opening a folder that a crash left: its log is replayed. Knows no queue's content.

use super::Work;
use marconi_engine::{ClientId, Config, Durability, Engine, NewMessage, QueueKey};
use std::io;
use std::path::{Path, PathBuf};

const BATCH: u64 = 100;

fn config(folder: PathBuf) -> Config {
    // Small segments, so that there is little besides the log to copy before each run.
    Config {
        durability: Durability::Os,
        segment_size_bytes: 16 << 20,
        upkeep_interval_ms: 60_000,
        disk_reserve_bytes: 0,
        ..Config::new(folder)
    }
}

/// `count` messages of 100 bytes, none of them in a checkpoint.
pub(super) fn fill(folder: &Path, count: u64) {
    let key = QueueKey::new(None, "q").expect("short");
    let engine = Engine::open(config(folder.join("left"))).expect("opens");
    engine.create_queue(&key, None).expect("makes").wait().expect("lasts");
    let batch = [NewMessage { ttl_s: 1_209_600, body: &[b'x'; 100] }; BATCH as usize];
    for _ in 0..count / BATCH {
        engine.post(&key, ClientId(1), &batch, None).expect("posts").wait().expect("lasts");
    }
    engine.crash();
}

/// Opens a copy of what was left.
pub(super) fn open(folder: &Path) -> Box<dyn Work> {
    Box::new(Opening { left: folder.join("left"), data: folder.join("data"), engine: None })
}

struct Opening {
    left: PathBuf,
    data: PathBuf,
    engine: Option<Engine>,
}

impl Work for Opening {
    fn prepare(&mut self) {
        if let Some(engine) = self.engine.take() {
            engine.crash();
            drop(engine);
            std::fs::remove_dir_all(&self.data).expect("nobody holds it");
        }
        copy(&self.left, &self.data).expect("there is room");
    }

    fn run(&mut self) {
        let engine = Engine::open(config(self.data.clone())).expect("opens");
        assert!(!engine.recovery().was_clean && engine.recovery().replayed_frames > 0);
        self.engine = Some(engine);
    }
}

fn copy(from: &Path, to: &Path) -> io::Result<()> {
    std::fs::create_dir(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let to = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &to)?;
        } else {
            std::fs::copy(entry.path(), to)?;
        }
    }
    Ok(())
}
