//! A ring of the kernel's (`io_uring`) that writes one file; the unsafe call is the one that hands it a
//! pointer. Does not know what is measured.
use crate::disk::GROUP;
use io_uring::squeue::{Entry, Flags};
use io_uring::{IoUring, opcode, types};
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

/// Entries that may be under way: two groups, each a write and a sync.
const ENTRIES: u32 = 4;
/// How long the kernel's polling thread looks for work before it sleeps.
const POLL_MS: u32 = 2;
/// Marks the write of a pair, which is heard of only when it failed.
const FIRST_HALF: u64 = 1 << 63;

/// How entries reach the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Submit {
    /// By a system call.
    Call,
    /// The same; what ended is told of with any later call of the thread.
    Cooperative,
    /// A thread of the kernel looks for them (`SQPOLL`).
    Polled,
}

/// Writes a file from [`GROUP`], and waits for it.
pub(crate) struct Ring {
    ring: IoUring,
}

impl Ring {
    /// For the thread that calls; the file stays open as long as the ring.
    pub(crate) fn new(file: &File, submit: Submit) -> io::Result<Ring> {
        let mut builder = IoUring::builder();
        match submit {
            Submit::Call => builder.setup_single_issuer().setup_defer_taskrun(),
            Submit::Cooperative => builder.setup_single_issuer().setup_coop_taskrun(),
            Submit::Polled => builder.setup_single_issuer().setup_sqpoll(POLL_MS),
        };
        let ring = builder.build(ENTRIES)?;
        ring.submitter().register_files(&[file.as_raw_fd()])?;
        Ok(Ring { ring })
    }

    /// Lets a write of `size` bytes begin with the next [`Ring::submit`] or [`Ring::wait`].
    pub(crate) fn write(&mut self, tag: u64, size: usize, at: u64) -> io::Result<()> {
        self.push(&[write_entry(size, at).user_data(tag)])
    }

    /// The same with an `fdatasync` behind it, begun when the write ended well.
    pub(crate) fn write_then_sync(&mut self, tag: u64, size: usize, at: u64) -> io::Result<()> {
        let write = write_entry(size, at).user_data(tag | FIRST_HALF);
        let sync = opcode::Fsync::new(types::Fixed(0)).flags(types::FsyncFlags::DATASYNC).build();
        self.push(&[write.flags(Flags::IO_LINK | Flags::SKIP_SUCCESS), sync.user_data(tag)])
    }

    #[allow(unsafe_code, reason = "the kernel reads the bytes after the call has returned")]
    fn push(&mut self, entries: &[Entry]) -> io::Result<()> {
        // SAFETY: The entries point into `GROUP`, which lives as long as the process and never changes.
        unsafe { self.ring.submission().push_multiple(entries) }.map_err(io::Error::other)
    }

    /// Lets begin what waits for it.
    pub(crate) fn submit(&mut self) -> io::Result<()> {
        self.ring.submit().map(|_| ())
    }

    /// The tag of a group that is done, if the kernel told of one.
    pub(crate) fn ended(&mut self) -> io::Result<Option<u64>> {
        match self.ring.completion().next() {
            None => Ok(None),
            Some(done) if done.result() < 0 => Err(io::Error::from_raw_os_error(-done.result())),
            Some(done) => Ok(Some(done.user_data())),
        }
    }

    /// Waits until one of the groups is done, and returns its tag.
    pub(crate) fn wait(&mut self) -> io::Result<u64> {
        loop {
            if let Some(tag) = self.ended()? {
                return Ok(tag);
            }
            self.ring.submit_and_wait(1)?;
        }
    }
}

fn write_entry(size: usize, at: u64) -> Entry {
    let bytes = &GROUP.0[..size];
    let size = u32::try_from(size).expect("a group is small");
    opcode::Write::new(types::Fixed(0), bytes.as_ptr(), size).offset(at).build()
}
