//! The API as data: bytes in, domain out, and back. Knows no store and no sockets.

pub mod fault;
pub mod headers;
pub mod homedoc;
pub mod json;
pub mod limits;
pub mod query;
pub mod shape;
pub mod v1;
pub mod write;
