//! Clocks that are wrong: an engine beside the reference model, as in `model`, while time jumps to just before and
//! just behind where messages die and claims run out, stands still, and is another one after each start: by a second
//! to ten years, both ways. Cannot see what a clock does that steps under a running process, which never looks at
//! the time of day again.

use super::model::operation::{Operation, sequence_of_jumps};
use crate::campaign::{Campaign, Width, none};

/// See the file's first lines.
pub(super) const CAMPAIGN: Campaign = Campaign {
    name: "clock",
    promise: "no message dies early or lives on, no claim ends early or comes back",
    fault: "a clock that jumps by a second to ten years, both ways, over a stop or a crash, stands still, and goes to just beside every end of a life",
    unit: "clock jumps",
    in_tests: 1_000,
    in_ledger: 50_000,
    once_failed: &[],
    width: Width::Processors,
    trial,
    obstacle: none,
};

fn trial(seed: u64) -> anyhow::Result<u64> {
    super::model::run(seed, sequence_of_jumps(), Operation::is_of_the_clock)
}
