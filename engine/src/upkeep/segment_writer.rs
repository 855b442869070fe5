//! Writes a segment of messages alone, as compaction leaves one: aside, frame by frame, with its index.
//! Knows how such a file is made; knows neither where its messages come from nor when it is used.

use crate::domain::QueueId;
use crate::env::{Disk, File, PIECE_SIZE};
use crate::error::{Error, Result};
use crate::files::format::{SEGMENT_HEADER_SIZE, SegmentHeader, UNFINISHED};
use crate::files::segment_index::{self, Entry, IndexBuilder, SegmentIndex};
use crate::log::frame::{HEAD_SIZE, Head, Kind, padded};
use crate::log::record::{Payload, Record};
use crate::log::segment::Segment;
use crate::log::stored::Origin;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A frame of a rewritten segment holds at most so many messages.
pub(crate) const FRAME_COUNT_MAX: usize = 1024;

/// A segment being written aside.
pub(crate) struct SegmentWriter {
    disk: Arc<dyn Disk>,
    folder: PathBuf,
    aside: PathBuf,
    file: Arc<dyn File>,
    piece: Vec<u8>,
    written: u64,
    /// The payload of the frame being made.
    pub(crate) payload: Payload,
    index: IndexBuilder,
}

impl SegmentWriter {
    /// Begins a file of which nobody knows yet, for the segment that will have this name.
    pub(crate) fn create(disk: Arc<dyn Disk>, folder: &Path, name: &str) -> Result<SegmentWriter> {
        let aside = folder.join(format!("{name}.{UNFINISHED}"));
        let file =
            disk.create(&aside).map_err(|cause| Error::io("writing", aside.as_path(), cause))?;
        Ok(SegmentWriter {
            disk,
            folder: folder.to_path_buf(),
            aside,
            file,
            piece: Vec::with_capacity(PIECE_SIZE * 2),
            written: SEGMENT_HEADER_SIZE,
            payload: Payload::default(),
            index: IndexBuilder::default(),
        })
    }

    /// Bytes so far.
    pub(crate) fn size(&self) -> u64 {
        self.written + self.piece.len() as u64
    }

    /// Whether nothing was added.
    pub(crate) fn is_empty(&self) -> bool {
        self.size() == SEGMENT_HEADER_SIZE
    }

    /// Ends the frame whose payload was made: messages of a queue, from number `first` on, that
    /// lay in a frame like `origin`. Returns whether a piece is full, to be [flushed](Self::flush).
    pub(crate) fn frame(
        &mut self,
        kind: Kind,
        queue: QueueId,
        first: u64,
        origin: &Origin,
    ) -> bool {
        let size = HEAD_SIZE + self.payload.bytes.len();
        let head = Head {
            length: u32::try_from(size).expect("a part of a frame is no larger than it was"),
            lsn: origin.lsn,
            at_ms: origin.at_ms,
            queue: queue.0,
            seq: first,
            behind: origin.lsn.high(),
            kind,
        };
        let position = self.size();
        self.piece.extend_from_slice(&head.encode(self.payload.crc()));
        self.piece.extend_from_slice(&self.payload.bytes);
        self.piece.resize(self.piece.len() + padded(size) - size, 0);

        let record = Record::decode(&head, &self.payload.bytes);
        let Ok(Record::Posted { messages, .. }) = record else {
            unreachable!("a posted record was just encoded")
        };
        for (message, seq) in messages.zip(first..) {
            let message = message.expect("it was just encoded");
            let entry = Entry::new(&message, position, origin.at_ms);
            self.index.push(queue, seq, entry, origin.client);
        }
        self.piece.len() >= PIECE_SIZE
    }

    /// Hands what was gathered to the system.
    pub(crate) fn flush(&mut self) -> Result<()> {
        let written = self.file.write_at(&self.piece, self.written);
        written.map_err(|cause| Error::io("writing", self.aside.as_path(), cause))?;
        self.written += self.piece.len() as u64;
        self.piece.clear();
        Ok(())
    }

    /// As [`SegmentWriter::flush`], and has it on the disk. A file synced only at its end would hold up
    /// every sync of the log until all of it is written.
    pub(crate) fn flush_to_disk(&mut self) -> Result<()> {
        self.flush()?;
        self.file.sync().map_err(|cause| Error::io("syncing", self.aside.as_path(), cause))
    }

    /// Gives up: nobody looks for a file of this name, and the next start removes it too.
    pub(crate) fn abandon(self) {
        let _ = self.disk.remove(&self.aside);
    }

    /// Makes the file whole and durable, under its name aside.
    pub(crate) fn finish(mut self, header: &SegmentHeader) -> Result<Finished> {
        let stored = self.flush().and_then(|()| self.store(header));
        if let Err(error) = stored {
            self.abandon();
            return Err(error);
        }
        let SegmentWriter { disk, folder, aside, index, .. } = self;
        let path = folder.join(header.file_name());
        Ok(Finished { disk, folder, aside, path, header: *header, index })
    }

    fn store(&self, header: &SegmentHeader) -> Result<()> {
        let store = || -> std::io::Result<()> {
            // Even without a message the file has a whole header.
            if self.is_empty() {
                self.file.set_size(SEGMENT_HEADER_SIZE)?;
            }
            self.file.write_at(&header.encode(), 0)?;
            self.file.sync()
        };
        store().map_err(|cause| Error::io("writing", self.aside.as_path(), cause))
    }
}

/// A segment that is whole and durable, and has not its name yet.
pub(crate) struct Finished {
    disk: Arc<dyn Disk>,
    folder: PathBuf,
    aside: PathBuf,
    /// The name it will have.
    pub(crate) path: PathBuf,
    header: SegmentHeader,
    index: IndexBuilder,
}

impl Finished {
    /// Gives it its name; `pause` is called now and then. The index comes first: a segment of a later generation never stands without.
    ///
    /// # Errors
    /// It may have its name all the same.
    pub(crate) fn adopt(self, pause: &mut dyn FnMut()) -> Result<Segment> {
        let Finished { disk, folder, aside, path, header, index } = self;
        let disk = &*disk;
        if let Err(error) = segment_index::write(disk, &path, &header, index, pause) {
            let _ = disk.remove(&aside);
            return Err(error);
        }
        let failed = |cause| Error::io("writing", aside.as_path(), cause);
        disk.rename(&aside, &path).map_err(failed)?;
        disk.sync_folder(&folder).map_err(failed)?;
        let segment = Segment::open(disk, &path, header.engine_id)?;
        let index = SegmentIndex::open(disk, &path, &header)
            .ok_or_else(|| segment.damaged(0, "its new index cannot be read".to_owned()))?;
        segment.set_index(index);
        segment.set_indexed();
        segment.seal(segment.lsn_limit());
        Ok(segment)
    }
}
