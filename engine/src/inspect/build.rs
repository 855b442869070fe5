//! Builds a data folder that holds exactly the state it is told: ids, times, claims and all. Its log is
//! that of a folder right after compaction: segments of living messages, and a checkpoint above them.
//! Knows how a folder is put together; knows nothing of where the state comes from.

use crate::config::Config;
use crate::domain::{ClaimId, ClientId, Durability, Lsn, QueueId, QueueKey, Seq};
use crate::env::{Disk, Environment};
use crate::error::{Error, Result};
use crate::files::checkpoint::{ClaimShape, LifeShape, QueueShape, RangeShape, Writer};
use crate::files::format::{CHECKPOINT_FOLDER, LOG_FOLDER, SEGMENT_HEADER_SIZE, SegmentHeader};
use crate::log::record::MESSAGE_HEAD_SIZE;
use crate::log::segment::Segment;
use crate::log::stored::Origin;
use crate::upkeep::recover::{self, Lock};
use crate::upkeep::segment_writer::{FRAME_COUNT_MAX, SegmentWriter};
use bytes::Bytes;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A section of the checkpoint is written when it holds about so many bytes.
const SECTION_SIZE: usize = 1 << 20;
/// The generation of the segments built: anything but 0, which stands for a segment as it was appended.
const GENERATION: u64 = 1;

/// What a folder is built with.
#[derive(Debug, Clone, Copy)]
pub struct BuildOptions {
    /// Where the log ended that the state was taken from. All ids lie below; those given out later
    /// lie above.
    pub end: Lsn,
    /// Size of the segments; as [`Config::segment_size_bytes`].
    pub segment_size_bytes: u64,
}

/// All of a queue but its messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueImage {
    /// Its key.
    pub key: QueueKey,
    /// Its id. Ids of messages repeat it.
    pub id: QueueId,
    /// Its metadata; empty when none was set.
    pub metadata: Bytes,
    /// Its durability floor.
    pub floor: Option<Durability>,
    /// The number of the next message; those of its messages lie below.
    pub next_seq: Seq,
    /// No message at or behind this was ever claimed.
    pub cursor: Seq,
    /// Its live claims.
    pub claims: Vec<ClaimImage>,
    /// Messages that came back, as runs: first and last number.
    pub returned: Vec<(Seq, Seq)>,
    /// Lives that a claim extended.
    pub lives: Vec<LifeImage>,
}

/// A claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimImage {
    /// Its id.
    pub id: ClaimId,
    /// When it was made or last renewed.
    pub renewed_ms: u64,
    /// Seconds it lives from then.
    pub ttl_s: u32,
    /// Seconds by which its messages outlive it.
    pub grace_s: u32,
    /// What it holds, in order.
    pub seqs: Vec<Seq>,
}

/// A life that a claim extended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LifeImage {
    /// Which message.
    pub seq: Seq,
    /// When it dies.
    pub expires_ms: u64,
    /// The ttl it shows.
    pub ttl_s: u32,
}

/// A message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MessageImage<'a> {
    /// Its number.
    pub seq: Seq,
    /// When it was posted.
    pub created_ms: u64,
    /// Seconds to live, as posted.
    pub ttl_s: u32,
    /// Who posted it.
    pub client: ClientId,
    /// Its body.
    pub body: &'a [u8],
}

/// What was built.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Built {
    /// Queues.
    pub queues: u64,
    /// Messages.
    pub messages: u64,
    /// Segments.
    pub segments: u64,
}

/// A folder being built. Until [`FolderBuilder::finish`] it is no data folder, and a start refuses it.
pub struct FolderBuilder {
    disk: Arc<dyn Disk>,
    log: PathBuf,
    checkpoints: PathBuf,
    config: Config,
    options: BuildOptions,
    header: recover::NewFolder,
    lock: Lock,
    segment: Option<Building>,
    /// The first LSN that no segment stands for yet.
    base: Lsn,
    number: u64,
    queue: Option<QueueShape>,
    frame: Option<Frame>,
    pending: Vec<QueueShape>,
    pending_size: usize,
    checkpoint: Option<Writer>,
    built: Built,
    now_ms: u64,
}

/// The segment being written.
struct Building {
    writer: SegmentWriter,
    number: u64,
}

/// The frame being gathered: consecutive messages of one poster and one moment.
struct Frame {
    first: u64,
    count: usize,
    at_ms: u64,
    client: ClientId,
}

impl FolderBuilder {
    /// Begins a folder where there is none, or an empty one.
    ///
    /// # Errors
    /// `Folder` when it holds anything or cannot be made; `Setting` for a segment size out of bounds.
    pub fn create(folder: &Path, options: BuildOptions) -> Result<FolderBuilder> {
        FolderBuilder::create_in(folder, options, &Environment::system())
    }

    /// As [`FolderBuilder::create`], in a world of your own.
    ///
    /// # Errors
    /// As [`FolderBuilder::create`].
    pub fn create_in(
        folder: &Path,
        options: BuildOptions,
        env: &Environment,
    ) -> Result<FolderBuilder> {
        let config =
            Config { segment_size_bytes: options.segment_size_bytes, ..Config::new(folder) };
        config.check()?;
        let (lock, header) = recover::take_new_folder(&config, env)?;
        let end = options.end.0.max(recover::FIRST_LSN.0).next_multiple_of(8);
        Ok(FolderBuilder {
            disk: env.disk.clone(),
            log: folder.join(LOG_FOLDER),
            checkpoints: folder.join(CHECKPOINT_FOLDER),
            config,
            options: BuildOptions { end: Lsn(end), ..options },
            header,
            lock,
            segment: None,
            base: Lsn(end),
            number: 0,
            queue: None,
            frame: None,
            pending: Vec::new(),
            pending_size: 0,
            checkpoint: None,
            built: Built::default(),
            now_ms: env.clock.now_ms(),
        })
    }

    /// Begins a queue; its messages follow.
    ///
    /// # Errors
    /// `Image` when an id lies behind the end of the log it came from, or a number behind the next;
    /// `Io`.
    pub fn queue(&mut self, image: QueueImage) -> Result<()> {
        self.end_queue()?;
        let end = self.options.end.0;
        let claims_end = image.claims.iter().map(|claim| claim.id.0.0).max().unwrap_or(0);
        if image.id.0 >= end || claims_end >= end {
            return Err(wrong("id", "of a queue or a claim lies behind the end of the log"));
        }
        if image.id.0 == 0 {
            return Err(wrong("id", "of a queue is 0, which names none"));
        }
        let mut shape = QueueShape {
            id: image.id.0,
            as_of: end,
            next_seq: image.next_seq.0.max(1),
            cursor: image.cursor.0.max(1),
            key: image.key.as_bytes().to_vec(),
            metadata: image.metadata.to_vec(),
            floor: image.floor.map_or(0, |floor| floor as u8),
            claims: Vec::new(),
            returned: image.returned.iter().map(|(first, last)| [first.0, last.0]).collect(),
            lives: Vec::new(),
            ranges: Vec::new(),
            extra: Vec::new(),
        };
        shape.claims.extend(image.claims.into_iter().map(|claim| ClaimShape {
            id: claim.id.0.0,
            renewed_ms: claim.renewed_ms,
            ttl_s: claim.ttl_s,
            grace_s: claim.grace_s,
            seqs: claim.seqs.iter().map(|seq| seq.0).collect(),
        }));
        shape.lives.extend(image.lives.iter().map(|life| LifeShape {
            seq: life.seq.0,
            expires_ms: life.expires_ms,
            ttl_s: life.ttl_s,
        }));
        let held = shape.claims.iter().flat_map(|claim| &claim.seqs);
        let returned = shape.returned.iter().flatten();
        if held.chain(returned).any(|seq| *seq >= shape.next_seq) {
            return Err(wrong("seq", "of a claimed message is not below the queue's next"));
        }
        self.queue = Some(shape);
        self.built.queues += 1;
        Ok(())
    }

    /// Adds a message to the queue begun last. Numbers grow.
    ///
    /// # Errors
    /// `Image` when there is no queue, or the number does not fit; `TooLarge`; `Io`.
    pub fn message(&mut self, message: MessageImage<'_>) -> Result<()> {
        let size = (MESSAGE_HEAD_SIZE + message.body.len()) as u64;
        let size_max = self.config.segment_size_bytes / 4;
        if size > size_max {
            return Err(Error::TooLarge { what: "a message in bytes", size, size_max });
        }
        let Some(queue) = &self.queue else {
            return Err(wrong("message", "comes before any queue"));
        };
        let next = self.frame.as_ref().map_or(0, |frame| frame.first + frame.count as u64);
        if message.seq.0 < next.max(1) || message.seq.0 >= queue.next_seq {
            let what = "of a message is not above the last one's, or not below the queue's next";
            return Err(wrong("seq", what));
        }
        let fits = self.frame.as_ref().is_some_and(|frame| {
            let payload = self.segment.as_ref().map_or(0, |one| one.writer.payload.bytes.len());
            next == message.seq.0
                && (frame.at_ms, frame.client) == (message.created_ms, message.client)
                && frame.count < FRAME_COUNT_MAX
                && payload as u64 + size <= size_max
        });
        if !fits {
            self.end_frame()?;
            self.begin_frame(&message, size)?;
        }
        let frame = self.frame.as_mut().expect("one was just begun");
        frame.count += 1;
        let segment = self.segment.as_mut().expect("a frame is begun in a segment");
        segment.writer.payload.message(message.ttl_s, message.body);
        self.built.messages += 1;
        Ok(())
    }

    fn begin_frame(&mut self, message: &MessageImage<'_>, size: u64) -> Result<()> {
        // Room for the frame as it may become, so that none grows beyond its segment.
        let room = self.config.segment_size_bytes - self.config.segment_size_bytes / 4;
        if self.segment.as_ref().is_some_and(|one| one.writer.size() + size > room) {
            self.end_segment()?;
        }
        if self.segment.is_none() {
            self.number += 1;
            let number = self.number;
            let name = self.segment_header(number, 0).file_name();
            let writer = SegmentWriter::create(self.disk.clone(), &self.log, &name)?;
            self.segment = Some(Building { writer, number });
        }
        let segment = self.segment.as_mut().expect("one was just begun");
        segment.writer.payload.posted(message.client);
        let queue = self.queue.as_mut().expect("the caller looked");
        if queue.ranges.last().is_none_or(|range| range.segment != segment.number) {
            queue.ranges.push(RangeShape {
                segment: segment.number,
                generation: GENERATION,
                first_seq: message.seq.0,
                bits: Vec::new(),
            });
        }
        self.frame = Some(Frame {
            first: message.seq.0,
            count: 0,
            at_ms: message.created_ms,
            client: message.client,
        });
        Ok(())
    }

    fn end_frame(&mut self) -> Result<()> {
        let Some(frame) = self.frame.take() else { return Ok(()) };
        let segment = self.segment.as_mut().expect("a frame is begun in a segment");
        let queue = self.queue.as_ref().expect("a frame is begun in a queue");
        let lsn = Lsn(self.base.0 + segment.writer.size() - SEGMENT_HEADER_SIZE);
        let origin = Origin { lsn, at_ms: frame.at_ms, client: frame.client };
        let kind = segment.writer.payload.end_posted();
        if segment.writer.frame(kind, QueueId(queue.id), frame.first, &origin) {
            segment.writer.flush()?;
        }
        Ok(())
    }

    fn end_queue(&mut self) -> Result<()> {
        self.end_frame()?;
        let Some(queue) = self.queue.take() else { return Ok(()) };
        self.pending_size += queue.size();
        self.pending.push(queue);
        if self.pending_size >= SECTION_SIZE { self.end_section() } else { Ok(()) }
    }

    fn end_section(&mut self) -> Result<()> {
        self.pending_size = 0;
        let queues = std::mem::take(&mut self.pending);
        if self.checkpoint.is_none() {
            let disk = self.disk.clone();
            let writer = Writer::create(disk, &self.checkpoints, 1, self.base, self.now_ms)?;
            self.checkpoint = Some(writer);
        }
        self.checkpoint.as_mut().expect("one was just begun").section(queues)
    }

    fn segment_header(&self, number: u64, span: u64) -> SegmentHeader {
        SegmentHeader {
            engine_id: self.header.engine_id(),
            number,
            last_number: number,
            generation: GENERATION,
            base: self.base,
            span,
            created_ms: self.now_ms,
            after_checkpoint: 0,
        }
    }

    fn end_segment(&mut self) -> Result<()> {
        let Some(Building { writer, number }) = self.segment.take() else { return Ok(()) };
        let span = writer.size() - SEGMENT_HEADER_SIZE;
        let header = self.segment_header(number, span);
        writer.finish(&header)?.adopt(&mut || {})?;
        self.base = Lsn(self.base.0 + span);
        self.built.segments += 1;
        Ok(())
    }

    /// Makes it a data folder: whole, durable, as after a stop in good order.
    ///
    /// # Errors
    /// `Io`; it is no data folder then.
    pub fn finish(mut self) -> Result<Built> {
        self.end_queue()?;
        self.end_segment()?;
        self.end_section()?;
        // The log goes on in a segment as an engine makes one.
        let size = self.config.segment_size_bytes;
        let disk = &*self.disk;
        let prepared = Segment::prepare(disk, &self.log, size, 0, || usize::MAX)?;
        let span = size - SEGMENT_HEADER_SIZE;
        let header = SegmentHeader { generation: 0, ..self.segment_header(self.number + 1, span) };
        Segment::start(disk, &self.log, &prepared, header)?;
        let mut checkpoint = self.checkpoint.take().expect("its last section was just written");
        checkpoint.set_lsn(self.base);
        checkpoint.finish(true)?;
        self.header.finish(&self.config, disk)?;
        drop(self.lock);
        Ok(self.built)
    }
}

fn wrong(field: &'static str, what: &'static str) -> Error {
    Error::Image { field, what }
}
