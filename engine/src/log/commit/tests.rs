//! The commit over one segment whose file tells what is written to it.

use super::*;
use crate::checksum;
use crate::env::{Disk as _, File, Mapping, OsDisk};
use crate::files::format::{SEGMENT_HEADER_SIZE, SegmentHeader};
use crate::log::frame::Kind;
use crate::log::scan::Scanner;
use crate::receipt::Receipt;
use std::io;

/// A file, and where what was written to it began and ended.
#[derive(Debug)]
struct Watched(Arc<dyn File>, Mutex<Vec<(u64, u64)>>);

impl File for Watched {
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.1.lock().expect("whole").push((offset, offset + bytes.len() as u64));
        self.0.write_at(bytes, offset)
    }

    fn sync(&self) -> io::Result<()> {
        self.0.sync()
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.0.read_at(buffer, offset)
    }

    fn size(&self) -> io::Result<u64> {
        self.0.size()
    }

    fn set_size(&self, size: u64) -> io::Result<()> {
        self.0.set_size(size)
    }

    fn map(&self) -> io::Result<Mapping> {
        self.0.map()
    }
}

struct World {
    log: Log,
    segment: Arc<Segment>,
    file: Arc<Watched>,
    _folder: tempfile::TempDir,
}

impl World {
    fn new(size: u64) -> World {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("segment");
        let file = OsDisk.create(&path).expect("a file");
        file.set_size(size).expect("room");
        let file = Arc::new(Watched(file, Mutex::default()));
        let header = SegmentHeader {
            engine_id: 1,
            number: 1,
            last_number: 1,
            generation: 0,
            base: Lsn(0),
            span: size - SEGMENT_HEADER_SIZE,
            created_ms: 0,
            after_checkpoint: 0,
        };
        let segment = Segment::salvage(&path, file.clone(), header, false).expect("a segment");
        let segment = Arc::new(segment);
        let log = Log::start(
            segment.clone(),
            64 << 20,
            Duration::from_secs(60),
            Arc::default(),
            Background::Threads,
        );
        World { log, segment, file, _folder: folder }
    }

    /// Appends a frame that nobody wants synced.
    fn append(&self, payload: &[u8]) -> Lsn {
        let mut crc = checksum::begin();
        crc.update(payload);
        let frame = NewFrame { kind: Kind::Posted, at_ms: 1, queue: 1, seq: 1, payload, crc };
        self.log.append(frame, Durability::Os).expect("there is room").end
    }

    fn is_written(&self, end: Lsn) -> bool {
        self.log.watermarks().get(Mark::Written) >= end
    }
}

#[test]
fn a_write_fills_its_page_and_the_next_begins_behind_the_frames() {
    let world = World::new(1 << 20);
    let _attendance = world.log.watermarks().attend();
    for _ in 0..2 {
        let end = world.append(&[7; 100]);
        let marks = world.log.watermarks();
        Receipt::when(marks, Mark::Written, end, Durability::Os, ()).wait().expect("is written");
    }
    let frame_size = padded(HEAD_SIZE + 100) as u64;
    let writes = world.file.1.lock().expect("whole").clone();
    assert_eq!(writes, [(4096, 8192), (4096 + frame_size, 8192)]);
    let mut scanner = Scanner::new(&world.segment);
    let count = std::iter::from_fn(|| scanner.next_frame().map(|_| ())).count();
    assert_eq!(count, 2, "padding hides nothing");
}

#[test]
fn an_attending_thread_that_is_never_idle_keeps_so_many_bytes_at_most() {
    let world = World::new(8 << 20);
    let _attendance = world.log.watermarks().attend();
    let payload = vec![7; (32 << 10) - HEAD_SIZE];
    for _ in 0..KEPT_MAX_SIZE / (32 << 10) {
        world.append(&payload);
    }
    let tail = world.log.shared.lock();
    let kept = (tail.waiting_size(), tail.is_for_thread);
    drop(tail);
    assert_eq!(kept, (KEPT_MAX_SIZE, false));
    let end = world.append(&payload);
    let deadline = Instant::now() + Duration::from_secs(20);
    while !world.is_written(end) {
        assert!(
            Instant::now() < deadline,
            "it is kept until this thread sleeps, which it does not"
        );
        std::thread::yield_now();
    }
}
