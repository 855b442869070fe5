//! The text form of a data folder: lines of JSON, and the bytes in them. A crate of its own, so that whoever reads
//! such lines needs no more of the program. Knows no file and no folder.

pub mod body;
pub mod lines;
