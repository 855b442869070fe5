//! The page `docs/reliability.md`, made of the campaigns and the ledger. Knows no trials.

use crate::campaign::Campaign;
use crate::campaigns::{ALL, soak};
use crate::ledger::Line;
use std::fmt::Write;

const INTRODUCTION: &str = "\
# Reliability

What is promised, what threatens it, how often that was tried, and how often the promise was broken. Nobody has to
believe this page: each line names the command that does it again, with new seeds or with the same.

The table is made from `reliability/ledger.jsonl`, to which every run adds a line, by
`cargo run -p marconi-proof -- page`; a test compares the two. What each campaign does, and what it cannot see, stands
in the first lines of its file in `tests/proof/src/campaigns/`. Whether these trials find mistakes is tried as well:
[planted.md](reliability/planted.md) lists those that were planted, and who found each.

| promise | what threatens it | campaign | tried | of at least | failed | processor |
|---|---|---|--:|--:|--:|--:|
";

/// What the last soak measured, drawn; `proof run soak` makes it with its line of the ledger.
pub const SOAK_PICTURE: &str = "docs/reliability/soak.svg";

const COMMANDS: &str = "
*Tried* counts the runs of the ledger, *failed* those seeds that broke the promise in them, before what they found was
mended. Every run of the tests tries a part of it again.

```sh
cargo run --release -p marconi-proof -- list                     # the campaigns
cargo run --release -p marconi-proof -- run --minutes 60         # all of them, as long as you like
cargo run --release -p marconi-proof -- run model --minutes 10   # one of them
cargo run --release -p marconi-proof -- one model 4711           # one seed again, as a failure prints it
cargo run --release -p marconi-proof -- page                     # makes this page
```

A run begins with the first seed that no run before had, shows how far it is, and adds its line to the ledger when it
ends.
";

/// The page.
pub fn render(lines: &[Line]) -> String {
    let mut page = INTRODUCTION.to_owned();
    for campaign in ALL {
        let total = Total::of(campaign, lines);
        let Campaign { name, promise, fault, unit, in_ledger, .. } = campaign;
        let _ = writeln!(
            page,
            "| {promise} | {fault} | `{name}` | {} {unit} | {} | {} | {} |",
            grouped(total.tried),
            grouped(*in_ledger),
            total.failed,
            hours(total.cpu_s),
        );
    }
    if lines.iter().any(|line| line.campaign == soak::CAMPAIGN.name) {
        page.push_str("\n![What a server took over the last soak](reliability/soak.svg)\n");
    }
    let found: Vec<&Line> = lines.iter().filter(|line| line.found.is_some()).collect();
    if !found.is_empty() {
        page.push_str("\n## What was found\n\n");
        for line in found {
            let what = line.found.as_deref().unwrap_or_default();
            let _ = writeln!(page, "- {}, `{}`: {what}", line.date, line.campaign);
        }
    }
    page.push_str("\n## Again\n");
    page.push_str(COMMANDS);
    page
}

/// What all runs of a campaign tried together.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Total {
    /// Units.
    pub tried: u64,
    /// Seeds.
    pub failed: u64,
    /// Seconds of processor time.
    pub cpu_s: u64,
}

impl Total {
    /// The sum over a ledger.
    pub fn of(campaign: &Campaign, lines: &[Line]) -> Total {
        let of_it = lines.iter().filter(|line| line.campaign == campaign.name);
        of_it.fold(Total::default(), |sum, line| Total {
            tried: sum.tried + line.tried,
            failed: sum.failed + line.failed,
            cpu_s: sum.cpu_s + line.cpu_s,
        })
    }
}

/// `1234567` as `1,234,567`.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn hours(seconds: u64) -> String {
    if seconds < 3600 {
        format!("{} min", seconds / 60)
    } else {
        format!("{:.1} h", seconds as f64 / 3600.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger;

    #[test]
    fn the_page_agrees_with_the_ledger() {
        let lines = ledger::read(&ledger::path()).expect("the ledger can be read");
        let kept =
            std::fs::read_to_string(ledger::root().join("docs/reliability.md")).unwrap_or_default();
        assert!(kept == render(&lines), "make it again: cargo run -p marconi-proof -- page");
    }

    #[test]
    fn numbers_are_grouped_by_thousands() {
        let texts = [0, 12, 999, 1000, 1_234_567].map(grouped);
        assert_eq!(texts, ["0", "12", "999", "1,000", "1,234,567"]);
    }
}
