//! The door for schedules (`--cfg shuttle`): the log without an engine over it, and the watermarks without a log.
//! Small, so that a schedule has little to do besides what is tried. Decides nothing.

use crate::checksum;
use crate::domain::{Durability, Lsn};
use crate::env::{Background, Disk};
use crate::error::Result;
use crate::files::format::{SEGMENT_HEADER_SIZE, SegmentHeader};
use crate::log::commit::Log;
use crate::log::frame::Kind;
use crate::log::segment::Segment;
use crate::log::tail::{NewFrame, Refused};
use crate::log::watermark::{Attendance, Mark, Rest, Watermarks};
use crate::receipt::Receipt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// How long a write of mode `interval` may wait for its sync.
const SYNC_INTERVAL: Duration = Duration::from_millis(100);

/// A log in a folder of its own.
#[derive(Debug)]
pub struct Journal {
    log: Log,
    disk: Arc<dyn Disk>,
    folder: PathBuf,
    segment_size: u64,
}

impl Journal {
    /// Begins a log. More than `waiting_max` bytes that wait to be written make writers wait.
    ///
    /// # Errors
    /// When the first segment cannot be made.
    pub fn start(
        disk: Arc<dyn Disk>,
        folder: PathBuf,
        segment_size: u64,
        waiting_max: u64,
    ) -> Result<Journal> {
        let first = make(&*disk, &folder, segment_size, 1, Lsn(SEGMENT_HEADER_SIZE))?;
        let log = Log::start(
            Arc::new(first),
            waiting_max,
            SYNC_INTERVAL,
            Arc::default(),
            Background::Threads,
        );
        Ok(Journal { log, disk, folder, segment_size })
    }

    /// Appends a frame as the verbs do: waits for room before and, where none was, after. The answer is where it
    /// was put.
    ///
    /// # Errors
    /// As those of every write.
    pub fn append(&self, payload: &[u8], demand: Durability) -> Result<Receipt<Lsn>> {
        let mut crc = checksum::begin();
        crc.update(payload);
        loop {
            self.log.mind_the_time();
            self.log.admit()?;
            let crc = crc.clone();
            let kind = Kind::Posted;
            let frame = NewFrame { kind, at_ms: 0, queue: 1, seq: 1, payload, crc };
            match self.log.append(frame, demand) {
                Ok(appended) => {
                    let marks = self.log.watermarks();
                    return Ok(Receipt::at(marks, appended.end, demand, appended.head.lsn));
                }
                Err(Refused::NoRoom) => self.log.wait_for_room()?,
                Err(Refused::For(error)) => return Err(error),
            }
        }
    }

    /// Gives the log its next segment, if it wants one.
    ///
    /// # Errors
    /// When the file cannot be made.
    pub fn give_segment(&self) -> Result<bool> {
        let Some((number, base)) = self.log.wants_next() else { return Ok(false) };
        let next = make(&*self.disk, &self.folder, self.segment_size, number, base)?;
        self.log.set_next(Arc::new(next));
        Ok(true)
    }

    /// As [`Engine::ready`](crate::Engine::ready).
    pub async fn ready(&self) {
        std::future::poll_fn(|context| self.log.poll_ready(context.waker())).await;
    }

    /// As [`Engine::attend`](crate::Engine::attend).
    pub fn attend(&self) -> Attendance {
        self.log.watermarks().attend()
    }

    /// As [`Engine::before_rest`](crate::Engine::before_rest), or
    /// [`Engine::before_sleep`](crate::Engine::before_sleep).
    pub fn do_chores(&self, can_look: bool) -> Rest {
        self.log.watermarks().do_chores(can_look)
    }

    /// As [`Engine::sync`](crate::Engine::sync).
    ///
    /// # Errors
    /// When that failed.
    pub fn sync(&self) -> Result<()> {
        self.log.sync_to(self.log.end())
    }

    /// Whether a write or a sync has failed.
    pub fn has_failed(&self) -> bool {
        self.log.watermarks().failure().is_some()
    }

    /// Ends the log in good order.
    pub fn close(&self) {
        self.log.close();
    }

    /// Ends it as a crash would.
    pub fn abandon(&self) {
        self.log.abandon();
    }
}

fn make(disk: &dyn Disk, folder: &Path, size: u64, number: u64, base: Lsn) -> Result<Segment> {
    let header = SegmentHeader {
        engine_id: 1,
        number,
        last_number: number,
        generation: 0,
        base,
        span: size - SEGMENT_HEADER_SIZE,
        created_ms: 0,
        after_checkpoint: 0,
    };
    let prepared = Segment::prepare(disk, folder, size, number, || usize::MAX)?;
    Segment::start(disk, folder, &prepared, header)
}

/// The watermarks by themselves.
#[derive(Debug, Clone)]
pub struct Marks(Arc<Watermarks>);

impl Marks {
    /// Both at `start`.
    pub fn new(start: u64) -> Marks {
        Marks(Arc::new(Watermarks::new(Lsn(start))))
    }

    /// Raises the written one, or the durable one.
    pub fn publish(&self, is_durable: bool, lsn: u64) {
        self.0.publish(mark(is_durable), Lsn(lsn));
    }

    /// Fails for good.
    pub fn fail(&self) {
        self.0.fail("the disk is gone");
    }

    /// How far one is.
    pub fn get(&self, is_durable: bool) -> u64 {
        self.0.get(mark(is_durable)).0
    }

    /// A receipt that waits for one of them.
    pub fn receipt(&self, is_durable: bool, lsn: u64) -> Receipt<()> {
        Receipt::when(&self.0, mark(is_durable), Lsn(lsn), Durability::Group, ())
    }

    /// As [`Engine::attend`](crate::Engine::attend).
    pub fn attend(&self) -> Attendance {
        self.0.attend()
    }
}

fn mark(is_durable: bool) -> Mark {
    if is_durable { Mark::Durable } else { Mark::Written }
}
