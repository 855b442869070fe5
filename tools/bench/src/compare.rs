//! x
use crate::options::CompareOptions;
use std::io::Write;
pub fn run(_: &CompareOptions, _: bool, _: &mut dyn Write) -> anyhow::Result<()> {
    Ok(())
}
