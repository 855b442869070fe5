//! plots placeholder
use super::verdict::Verdict;
use crate::results::Results;
pub struct Plot { pub file: &'static str, pub title: &'static str, pub caption: String, pub svg: String }
pub fn all(_: &Results, _: &Verdict) -> anyhow::Result<Vec<Plot>> { Ok(vec![]) }
