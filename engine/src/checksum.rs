//! The sum that everything in a data folder is checked by: CRC-32, the IEEE polynomial, as in gzip and PNG. Which
//! of the processor's instructions it takes is asked once; asking again for each sum takes as long as summing a
//! short text.

use crc32fast::Hasher;
use std::sync::LazyLock;

static OF_NOTHING: LazyLock<Hasher> = LazyLock::new(Hasher::new);

/// The sum of nothing yet, to be gone on with.
pub(crate) fn begin() -> Hasher {
    OF_NOTHING.clone()
}

/// The sum of `bytes`.
pub(crate) fn of(bytes: &[u8]) -> u32 {
    let mut sum = begin();
    sum.update(bytes);
    sum.finalize()
}
