//! The two tables, as Markdown.

use crate::figures::{Round, Spread, short};
use crate::peers::Peer;
use crate::rates::kind_of;
use crate::targets::Target;
use std::io::{self, Write};

/// The targets with their verdicts.
///
/// # Errors
/// When nobody listens.
pub(crate) fn targets(out: &mut impl Write, all: &[&Target], rounds: &[Round]) -> io::Result<()> {
    writeln!(
        out,
        "| what | held against | limit | measured | spread | ratio | wanted | verdict |"
    )?;
    writeln!(out, "|---|---|--:|--:|--:|--:|--:|---|")?;
    for target in all {
        let found = target.judge(rounds);
        let nothing = || "–".to_owned();
        let limit = found.limit.map_or_else(nothing, |limit| short(limit.median));
        let (measured, spread) = match found.measured {
            Some(Spread { median, least, most }) => {
                let unit = target.unit;
                let gap = if unit.starts_with('/') { "" } else { " " };
                (short(median) + gap + unit, format!("{}-{}", short(least), short(most)))
            }
            None => (nothing(), nothing()),
        };
        let ratio = found.ratio.map_or_else(nothing, |ratio| format!("{ratio:.2}"));
        writeln!(
            out,
            "| {} | {} | {limit} | {measured} | {spread} | {ratio} | {} | {} |",
            target.what,
            target.against,
            target.wanted.text(),
            found.verdict
        )?;
    }
    Ok(())
}

/// Peers and this server, a line each.
///
/// # Errors
/// When nobody listens.
pub(crate) fn peers(out: &mut impl Write, peers: &[Peer], rounds: &[Round]) -> io::Result<()> {
    if !rounds.iter().any(Round::has_rates) {
        return Ok(());
    }
    writeln!(out)?;
    writeln!(out, "| peer | durable | post c1 | post c16 | post c64 | claim10 c16 |")?;
    writeln!(out, "|---|---|--:|--:|--:|--:|")?;
    let ours = [("this server, group", "yes", "group"), ("this server, os", "no", "os")];
    let stubs = [
        ("stub, sync in the loop", "yes", "stub-inline"),
        ("stub, sync in a thread", "yes", "stub-thread"),
        ("stub without disk", "no", "stub-no-disk"),
        ("bare hyper", "no", "hello"),
    ];
    for (name, durable, prefix) in ours.into_iter().chain(stubs) {
        row(out, name, durable, prefix, rounds)?;
    }
    for peer in peers {
        let durable = if peer.durable { "yes" } else { "no" };
        row(out, peer.name, durable, &format!("{} {}", kind_of(peer.durable), peer.name), rounds)?;
    }
    writeln!(out)?;
    for peer in peers {
        match peer.missing() {
            Some(missing) => writeln!(out, "- {}: not measured, {missing}", peer.name)?,
            None => writeln!(out, "- {}: {}", peer.name, peer.setting)?,
        }
    }
    Ok(())
}

fn row(
    out: &mut impl Write,
    name: &str,
    durable: &str,
    prefix: &str,
    rounds: &[Round],
) -> io::Result<()> {
    let cell = |cell: &str| {
        let values = rounds.iter().filter_map(|round| round.get(&format!("{prefix} {cell}")));
        match Spread::of(values.collect()) {
            Some(Spread { median, least, most }) => {
                format!("{} ({}-{})", short(median), short(least), short(most))
            }
            None => "–".to_owned(),
        }
    };
    let cells = ["post c1", "post c16", "post c64", "claim10 c16"].map(cell);
    if cells.iter().all(|cell| cell == "–") {
        return Ok(());
    }
    writeln!(out, "| {name} | {durable} | {} |", cells.join(" | "))
}
