//! A validated rkyv archive inside mapped bytes. Knows nothing of what is archived.
//!
//! Validating costs a walk over the archive's structure, so it is done once, when the value is made;
//! later looks are free. That is the whole reason for the `unsafe` here.

use bytes::Bytes;
use rkyv::Portable;
use rkyv::api::high::HighValidator;
use rkyv::bytecheck::CheckBytes;
use rkyv::rancor;
use std::marker::PhantomData;

/// Bytes that were found to be a valid archive of a `T`.
#[derive(Debug)]
pub(crate) struct Archived<T> {
    bytes: Bytes,
    kind: PhantomData<fn() -> T>,
}

impl<T> Archived<T>
where
    T: Portable + for<'a> CheckBytes<HighValidator<'a, rancor::Error>>,
{
    /// Validates `bytes`, which have to be aligned to 16 bytes and to end with the archive.
    pub(crate) fn new(bytes: Bytes) -> Result<Archived<T>, rancor::Error> {
        rkyv::access::<T, rancor::Error>(&bytes)?;
        Ok(Archived { bytes, kind: PhantomData })
    }

    /// The archive.
    pub(crate) fn get(&self) -> &T {
        // SAFETY: `new` validated these very bytes as a `T`, and they do not change: they are a
        // slice of a file that is written once, before it gets its name, and never again (see
        // `env/os.rs` for why the map itself is sound).
        #[allow(unsafe_code, reason = "validated once, in `new`")]
        unsafe {
            rkyv::access_unchecked::<T>(&self.bytes)
        }
    }
}
