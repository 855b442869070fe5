//! x
use crate::{measure::Surroundings, options::RunOptions};
use std::io::Write;
pub fn run(
    _: &str,
    _: &RunOptions,
    _: &Surroundings,
    _: bool,
    _: &mut dyn Write,
) -> anyhow::Result<()> {
    Ok(())
}
pub fn list(_: Option<&str>, _: bool, _: &mut dyn Write) -> anyhow::Result<()> {
    Ok(())
}
