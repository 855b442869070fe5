//! The verdict: for each mode in one line what it promises, what a power cut took, how fast it is,
//! and when to choose it. Pure.

use super::{short, time};
use crate::results::{CellKey, Loss, Results};
use crate::stats::{Spread, median};
use serde::Serialize;

/// The verdict over all modes.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Verdict {
    /// What to do, in a sentence or two.
    pub(crate) headline: String,
    /// The connections that its figures are of.
    pub(crate) connections: usize,
    /// The size of a body that its figures are of.
    pub(crate) size_bytes: usize,
    /// A line for each mode.
    pub(crate) modes: Vec<ModeVerdict>,
}

/// The verdict on one mode.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct ModeVerdict {
    /// The mode.
    pub(crate) mode: String,
    /// When an answer is sent.
    pub(crate) promise: &'static str,
    /// What a power cut took.
    pub(crate) power_cut: Option<LossVerdict>,
    /// What a crash of the process took.
    pub(crate) process_crash: Option<LossVerdict>,
    /// Posts a second, as fast as they are answered.
    pub(crate) posts_per_s: Option<f64>,
    /// The 99th percentile of a post, at a fixed rate where that was measured, in microseconds.
    pub(crate) p99_us: Option<f64>,
    /// Whether `p99_us` is of a fixed rate.
    pub(crate) p99_is_open: bool,
    /// Posts a second as a share of those in `group`.
    pub(crate) ratio_to_group: Option<f64>,
    /// When to choose it.
    pub(crate) choose_when: &'static str,
}

/// What cuts or crashes took.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct LossVerdict {
    /// How many there were.
    pub(crate) count: usize,
    /// The most acknowledged messages that were gone.
    pub(crate) messages_max: u64,
    /// The median.
    pub(crate) messages_median: f64,
    /// The oldest acknowledged message that was gone, in milliseconds before the cut.
    pub(crate) ms_max: f64,
    /// The median of the oldest.
    pub(crate) ms_median: f64,
    /// The most bytes of bodies that were gone.
    pub(crate) bytes_max: u64,
    /// Messages acknowledged a second.
    pub(crate) rate: f64,
    /// Whether a run lost all it had acknowledged: a longer one might have lost more.
    pub(crate) bounded_by_run: bool,
}

impl LossVerdict {
    fn of<'a>(losses: impl Iterator<Item = &'a Loss>) -> Option<LossVerdict> {
        let losses: Vec<&Loss> = losses.collect();
        let worst = losses.iter().max_by_key(|loss| loss.lost)?;
        let of = |figure: fn(&Loss) -> f64| -> Vec<f64> {
            losses.iter().map(|loss| figure(loss)).collect()
        };
        let ms = Spread::of(&of(|loss| loss.lost_ms))?;
        Some(LossVerdict {
            count: losses.len(),
            messages_max: worst.lost,
            messages_median: median(&of(|loss| loss.lost as f64)),
            ms_max: ms.max,
            ms_median: ms.median,
            bytes_max: worst.lost * worst.size_bytes as u64,
            rate: median(&of(|loss| loss.rate)),
            bounded_by_run: worst.lost > 0 && worst.lost == worst.acknowledged,
        })
    }

    /// In a few words.
    pub(crate) fn text(&self) -> String {
        if self.messages_max == 0 {
            return "nothing".to_owned();
        }
        let more = if self.bounded_by_run { " or more" } else { "" };
        format!(
            "up to {}{more} ({} messages)",
            time(self.ms_max * 1e3),
            short(self.messages_max as f64)
        )
    }
}

impl Verdict {
    /// The verdict on these results.
    pub(crate) fn of(results: &Results) -> Verdict {
        let posts = results.cells.iter().filter(|cell| cell.key.workload == "post");
        let closed: Vec<_> = posts.filter(|cell| !cell.key.open).collect();
        let nearest = closed.iter().min_by_key(|cell| cell.key.connections.abs_diff(16));
        let connections = nearest.map_or(16, |cell| cell.key.connections);
        // The size of every cell, not one that was measured for posts alone.
        let size_bytes = closed.first().map_or(1024, |cell| cell.key.size_bytes);
        let key = |mode: &str, open| CellKey {
            workload: "post".to_owned(),
            open,
            size_bytes,
            connections,
            mode: mode.to_owned(),
        };
        let group = results.rate(&key("group", false)).map(|rate| rate.median);
        let modes: Vec<ModeVerdict> = results
            .modes()
            .iter()
            .map(|mode| {
                let rate = results.rate(&key(mode, false)).map(|rate| rate.median);
                let p99 = |open| {
                    let key = key(mode, open);
                    let all = results.repetitions(&key).map(|cell| cell.latency_us.p99);
                    Spread::of(&all.collect::<Vec<_>>()).map(|spread| spread.median)
                };
                let losses = |event: &'static str| {
                    let all = results.losses.iter();
                    LossVerdict::of(all.filter(|one| one.mode == *mode && one.event == event))
                };
                let open = p99(true);
                ModeVerdict {
                    mode: mode.clone(),
                    promise: promise(mode),
                    power_cut: losses("power-cut"),
                    process_crash: losses("process-crash"),
                    posts_per_s: rate,
                    p99_us: open.or_else(|| p99(false)),
                    p99_is_open: open.is_some(),
                    ratio_to_group: rate.zip(group).map(|(rate, group)| rate / group),
                    choose_when: choose_when(mode),
                }
            })
            .collect();
        Verdict { headline: headline(&modes, connections), connections, size_bytes, modes }
    }
}

fn promise(mode: &str) -> &'static str {
    match mode {
        "memory" => "answers at once; writes soon after",
        "os" => "answers once the system has it: a crash of the process takes nothing",
        "interval" => "as os, and syncs every 100 ms",
        "group" => "answers after a sync that all who wait share",
        "each" => "answers after a sync of its own",
        _ => "what this server promises",
    }
}

fn choose_when(mode: &str) -> &'static str {
    match mode {
        "memory" => "the next message replaces the last: samples, presence",
        "os" => "the sender can repeat the work, and power seldom fails",
        "interval" => "the sender can repeat the work of the last moment",
        "group" => "work must not be lost: the default",
        "each" => "never, but to see what sharing a sync saves",
        _ => "",
    }
}

/// The answer to "which one?".
fn headline(modes: &[ModeVerdict], connections: usize) -> String {
    let rate = |name: &str| modes.iter().find(|one| one.mode == name)?.posts_per_s;
    let violated: Vec<&str> = modes
        .iter()
        .filter(|one| matches!(one.mode.as_str(), "group" | "each"))
        .filter(|one| one.power_cut.as_ref().is_some_and(|lost| lost.messages_max > 0))
        .map(|one| one.mode.as_str())
        .collect();
    if !violated.is_empty() {
        return format!(
            "A power cut took acknowledged messages in {}: that must not be. Report it, with these \
             results.",
            violated.join(" and ")
        );
    }
    let Some(group) = rate("group") else {
        let rates = modes.iter().filter_map(|one| Some((&one.mode, one.posts_per_s?)));
        let texts = rates.map(|(mode, rate)| format!("{mode} {}", short(rate)));
        return format!(
            "Posts a second over {connections} connections: {}.",
            texts.collect::<Vec<_>>().join(", ")
        );
    };
    let weakest = ["memory", "os", "interval"].into_iter().filter_map(rate).fold(0.0, f64::max);
    let reached = if weakest > 0.0 { group / weakest } else { 1.0 };
    let posts = format!("{} durable posts a second over {connections} connections", short(group));
    let share = reached * 100.0;
    match reached {
        0.9.. => format!(
            "Choose group: {posts}, as many as without waiting for a sync. Nothing weaker is worth it here."
        ),
        0.4..0.9 => format!(
            "Choose group: {posts}, {share:.0} % of what modes that lose messages reach. Take a weaker one only where that \
             is too slow and the sender can repeat the work."
        ),
        _ => format!(
            "Choose group where work must not be lost: {posts}, {share:.0} % of what modes that lose messages reach. Syncs \
             are slow here: where the sender can repeat the work, interval is worth its loss."
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::tests::sample;

    #[test]
    fn the_verdict_says_what_was_measured() {
        let verdict = Verdict::of(&sample());
        assert_eq!((verdict.connections, verdict.size_bytes), (16, 1024));
        let [os, group] = &verdict.modes[..] else { panic!("two modes: {verdict:?}") };
        let cut = os.power_cut.as_ref().expect("the power was cut");
        assert_eq!((cut.count, cut.messages_max, cut.messages_median), (2, 4000, 2500.0));
        assert_eq!((cut.ms_max, cut.bytes_max, cut.bounded_by_run), (1000.0, 4000 * 4096, false));
        assert_eq!(cut.text(), "up to 1.00 s (4.00k messages)");
        assert_eq!(os.process_crash.as_ref().expect("it crashed").text(), "nothing");
        assert_eq!(group.power_cut.as_ref().expect("the power was cut").text(), "nothing");
        assert!((os.ratio_to_group.expect("both were measured") - 1.5).abs() < 1e-9);
        assert!(group.p99_is_open);
        assert!(verdict.headline.starts_with("Choose group: 40.6k durable posts"), "{verdict:?}");
        assert!(verdict.headline.contains("67 %"), "{}", verdict.headline);
    }

    #[test]
    fn a_broken_promise_comes_first() {
        let mut results = sample();
        results.losses.last_mut().expect("there are losses").lost = 1;
        let headline = Verdict::of(&results).headline;
        assert!(headline.contains("took acknowledged messages in group"), "{headline}");
    }

    #[test]
    fn a_run_that_lost_all_is_no_upper_bound() {
        let mut results = sample();
        results.losses[0].acknowledged = 4000;
        let verdict = Verdict::of(&results);
        let cut = verdict.modes[0].power_cut.as_ref().expect("the power was cut");
        assert_eq!(cut.text(), "up to 1.00 s or more (4.00k messages)");
    }
}
