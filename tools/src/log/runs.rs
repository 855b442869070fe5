//! Message numbers as runs, in the order they come: `1–10, 15`. Knows not what they are numbers of.

use marconi_engine::Seq;
use serde::Serialize;

/// So many runs are shown to people on a line.
const SHOWN_MAX: usize = 6;

/// First and last of each run, as programs get them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Runs(Vec<(u64, u64)>);

impl Runs {
    pub(crate) fn of(seqs: impl IntoIterator<Item = Seq>) -> Runs {
        let mut runs: Vec<(u64, u64)> = Vec::new();
        for Seq(seq) in seqs {
            match runs.last_mut() {
                Some((_, last)) if last.checked_add(1) == Some(seq) => *last = seq,
                _ => runs.push((seq, seq)),
            }
        }
        Runs(runs)
    }
}

/// The numbers on a line.
pub(crate) fn shown(seqs: impl IntoIterator<Item = Seq>) -> String {
    let Runs(runs) = Runs::of(seqs);
    let one = |(first, last): &(u64, u64)| match first == last {
        true => first.to_string(),
        false => format!("{first}–{last}"),
    };
    let mut text = runs.iter().take(SHOWN_MAX).map(one).collect::<Vec<_>>().join(", ");
    if runs.len() > SHOWN_MAX {
        text += &format!(" and {} runs more", runs.len() - SHOWN_MAX);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_follow_each_other_are_a_run() {
        let seqs = |seqs: &[u64]| shown(seqs.iter().copied().map(Seq));
        assert_eq!(seqs(&[]), "");
        assert_eq!(seqs(&[4, 5, 6, 2, 9, 10]), "4–6, 2, 9–10");
        assert_eq!(seqs(&[1, 3, 5, 7, 9, 11, 13, 15]), "1, 3, 5, 7, 9, 11 and 2 runs more");
        assert_eq!(Runs::of([7, 8, 3].map(Seq)), Runs(vec![(7, 8), (3, 3)]));
    }
}
