//! What can go wrong: one variant for each different reaction of a caller. Knows neither HTTP nor
//! how a fault came about; the text says what a person needs: the file, the place, the next step.

use std::path::PathBuf;
use std::sync::Arc;

/// Why the engine refused or failed. Cheap to clone, so every waiter of a failed commit gets it.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// There is no such queue.
    #[error("there is no such queue")]
    NoSuchQueue,
    /// There is no such message, or it has expired.
    #[error("there is no such message")]
    NoSuchMessage,
    /// There is no such live claim on this queue.
    #[error("there is no such claim, or it has expired")]
    NoSuchClaim,
    /// The message is under a live claim, and none or another live one was named.
    #[error("the message is claimed; deleting it needs the claim that holds it")]
    Claimed,
    /// A claim was named that does not hold this message: never made, released, or expired.
    #[error(
        "the claim named does not hold this message: it was released, has expired, or never was"
    )]
    ClaimMismatch,
    /// The request is larger than the store takes; nothing was stored.
    #[error("{what} is {size}, more than the {size_max} this store takes")]
    TooLarge {
        /// What is too large, with its unit.
        what: &'static str,
        /// How large it is.
        size: u64,
        /// How large it may be.
        size_max: u64,
    },
    /// The disk is (nearly) full. Nothing was stored; trying again makes sense when room is back.
    #[error(
        "the disk is full: posting stops before the last byte and resumes by itself when there is room"
    )]
    Full,
    /// More is waiting to be written than may. Nothing was stored; trying again soon makes sense.
    #[error("too much is waiting to be written")]
    Busy,
    /// A write or a sync failed earlier: the engine takes no more writes until it is opened again.
    #[error("read only since a failure of the disk: {0}; restart once the disk is well")]
    ReadOnly(Arc<str>),
    /// Bytes on disk are not what was written there.
    #[error("damage in {file} at byte {offset}: {what}; {next_step}")]
    Damaged {
        /// The damaged file.
        file: PathBuf,
        /// Where in it.
        offset: u64,
        /// What was expected and found.
        what: String,
        /// What to do now.
        next_step: &'static str,
    },
    /// The data folder cannot be opened: in use, not ours, of a newer format, or not readable.
    #[error("cannot open the data folder {folder}: {what}; {next_step}")]
    Folder {
        /// The folder.
        folder: PathBuf,
        /// What is the matter.
        what: String,
        /// What to do now.
        next_step: &'static str,
    },
    /// Another version of the program wrote it: a newer one, or one from before the first release.
    #[error(
        "cannot open the data folder {folder}: {what}; use the version of the program that wrote it"
    )]
    OtherVersion {
        /// The folder.
        folder: PathBuf,
        /// What says so.
        what: String,
    },
    /// A setting is out of bounds.
    #[error("{name} is {value}; it has to be {bound}")]
    Setting {
        /// Its name in [`Config`](crate::Config).
        name: &'static str,
        /// The value found.
        value: String,
        /// The bound it breaks.
        bound: String,
    },
    /// The operating system refused something while opening, reading or tidying.
    #[error("{action} {file}: {cause}")]
    Io {
        /// What was being done.
        action: &'static str,
        /// To which file.
        file: PathBuf,
        /// What the system said.
        cause: Arc<std::io::Error>,
    },
    /// A state to be built contradicts itself.
    #[error("the {field} {what}")]
    Image {
        /// Which field.
        field: &'static str,
        /// What is wrong with it.
        what: &'static str,
    },
    /// The engine was closed while this waited.
    #[error("the engine is closed")]
    Closed,
}

impl Error {
    /// Wraps what the operating system said.
    pub(crate) fn io(
        action: &'static str,
        file: impl Into<PathBuf>,
        cause: std::io::Error,
    ) -> Error {
        Error::Io { action, file: file.into(), cause: Arc::new(cause) }
    }

    /// Whether the same call may succeed later without anything else changing hands.
    pub fn is_temporary(&self) -> bool {
        matches!(self, Error::Full | Error::Busy)
    }

    /// Whether the storage failed, as against the caller having asked for the impossible.
    pub fn is_storage(&self) -> bool {
        !matches!(
            self,
            Error::NoSuchQueue
                | Error::NoSuchMessage
                | Error::NoSuchClaim
                | Error::Claimed
                | Error::ClaimMismatch
                | Error::TooLarge { .. }
        )
    }

    /// Whether the disk has no room.
    pub(crate) fn is_out_of_space(&self) -> bool {
        match self {
            Error::Full => true,
            Error::Io { cause, .. } => is_out_of_space(cause),
            _ => false,
        }
    }
}

/// Whether the system said that the disk, or the user's share of it, is full.
pub(crate) fn is_out_of_space(cause: &std::io::Error) -> bool {
    use std::io::ErrorKind;
    matches!(cause.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded)
}

/// The engine's results.
pub type Result<T> = std::result::Result<T, Error>;
