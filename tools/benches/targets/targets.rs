//! The targets: what is measured, what it is held against in the same round, and what is wanted. Knows the
//! names of figures, not how they come about.

use crate::figures::{Round, Spread};

/// What has to be measured for a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Section {
    Group,
    Os,
    Peers,
    Depth,
    Queues,
    Connections,
    Cores,
    Bytes,
    Compaction,
    Core,
}

impl Section {
    /// Those that take minutes.
    pub(crate) fn is_long(self) -> bool {
        matches!(self, Section::Depth | Section::Queues)
    }
}

/// What a ratio has to be.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Wanted {
    AtLeast(f64),
    AtMost(f64),
    /// The same as `AtLeast`, on a machine with so many cores.
    AtLeastOn(f64, f64),
    /// The same as `AtMost`, for a 99th percentile: it is one of the server only where its core is steady.
    TailAtMost(f64),
    /// It is stated, and nothing is asked of it.
    Stated,
}

type Figure = fn(&Round) -> Option<f64>;

/// One line of the table.
pub(crate) struct Target {
    pub(crate) what: &'static str,
    pub(crate) unit: &'static str,
    pub(crate) against: &'static str,
    pub(crate) needs: &'static [Section],
    pub(crate) measured: Figure,
    pub(crate) limit: Figure,
    pub(crate) wanted: Wanted,
}

/// What came of one.
pub(crate) struct Outcome {
    pub(crate) limit: Option<Spread>,
    pub(crate) measured: Option<Spread>,
    /// The middle of the rounds' ratios.
    pub(crate) ratio: Option<f64>,
    pub(crate) verdict: String,
}

impl Target {
    /// Over all rounds.
    pub(crate) fn judge(&self, rounds: &[Round]) -> Outcome {
        let spread = |figure: Figure| Spread::of(rounds.iter().filter_map(figure).collect());
        let of_round = |round: &Round| Some((self.measured)(round)? / (self.limit)(round)?);
        let ratio = Spread::of(rounds.iter().filter_map(of_round).collect());
        let ratio = ratio.map(|ratio| ratio.median);
        let measured = spread(self.measured);
        let said = |is_met: bool| if is_met { "met" } else { "not met" }.to_owned();
        let verdict = match (self.wanted, ratio) {
            (Wanted::Stated, _) if measured.is_some() => "stated".to_owned(),
            (Wanted::AtLeast(least), Some(ratio)) => said(ratio >= least),
            (Wanted::AtMost(most), Some(ratio)) => said(ratio <= most),
            (Wanted::TailAtMost(most), Some(ratio)) => {
                let slow =
                    Spread::of(rounds.iter().filter_map(|round| round.get(CORE_SLOW)).collect());
                match slow {
                    Some(slow) if ratio > most && slow.median >= 1.0 => {
                        format!(
                            "not measured: the core itself is slow for {:.1} % of the time",
                            slow.median
                        )
                    }
                    _ => said(ratio <= most),
                }
            }
            (Wanted::AtLeastOn(least, cores), Some(ratio)) => {
                let there = rounds.iter().find_map(|round| round.get("cores"));
                match there {
                    Some(there) if there >= cores => said(ratio >= least),
                    _ => format!("not measured: load and servers share less than {cores} cores"),
                }
            }
            _ => "not measured".to_owned(),
        };
        Outcome { limit: spread(self.limit), measured, ratio, verdict }
    }
}

impl Wanted {
    /// As the table has it.
    pub(crate) fn text(self) -> String {
        match self {
            Wanted::AtLeast(least) | Wanted::AtLeastOn(least, _) => format!("≥ {least}"),
            Wanted::AtMost(most) | Wanted::TailAtMost(most) => {
                format!("≤ {}", (most * 100.0).round() / 100.0)
            }
            Wanted::Stated => "–".to_owned(),
        }
    }
}

/// The best of the stubs that sync.
macro_rules! synced {
    ($cell:literal) => {
        |round| round.best(&[concat!("stub-inline ", $cell), concat!("stub-thread ", $cell)])
    };
}

macro_rules! figure {
    ($name:literal) => {
        |round| round.get($name)
    };
}

macro_rules! durable {
    ($cell:literal) => {
        |round| round.best_between("durable ", concat!(" ", $cell))
    };
}

macro_rules! weak {
    ($cell:literal) => {
        |round| round.best_between("weak ", concat!(" ", $cell))
    };
}

/// The figure of a core's steadiness.
pub(crate) const CORE_SLOW: &str = "core slow % of the time";

const STUB: &str = "the best synced stub";
const DURABLE: &str = "the best durable peer";
const WEAK: &str = "the best weaker peer";

const fn target(
    what: &'static str,
    (unit, against): (&'static str, &'static str),
    needs: &'static [Section],
    measured: Figure,
    limit: Figure,
    wanted: Wanted,
) -> Target {
    Target { what, unit, against, needs, measured, limit, wanted }
}

use Section as S;
use Wanted::{AtLeast, AtLeastOn, AtMost, Stated, TailAtMost};

/// All of them.
#[rustfmt::skip]
pub(crate) const ALL: &[Target] = &[
    target("post c1, group", ("/s", "1 / (sync + bare hyper round trip)"), &[S::Group],
        figure!("group post c1"),
        |round| Some(1e6 / (round.get("sync us")? + round.get("hello round trip us")?)), AtLeast(0.85)),
    target("post c16, group", ("/s", STUB), &[S::Group],
        figure!("group post c16"), synced!("post c16"), AtLeast(0.75)),
    target("post c64, group", ("/s", STUB), &[S::Group],
        figure!("group post c64"), synced!("post c64"), AtLeast(0.75)),
    target("claim 10 + 10 deletes c16, group", ("messages/s", STUB), &[S::Group],
        figure!("group claim10 c16"), synced!("claim10 c16"), AtLeast(0.75)),
    target("post c16, os", ("/s", "bare hyper, POST"), &[S::Os],
        figure!("os post c16"), figure!("hello post c16"), AtLeast(0.65)),
    target("post c64, os", ("/s", "bare hyper, POST"), &[S::Os],
        figure!("os post c64"), figure!("hello post c64"), AtLeast(0.65)),
    target("claim 10 + 10 deletes c16, os", ("messages/s", "the stub without disk"), &[S::Os],
        figure!("os claim10 c16"), figure!("stub-no-disk claim10 c16"), AtLeast(0.65)),
    target("post c1, group, and peers", ("/s", DURABLE), &[S::Group, S::Peers],
        figure!("group post c1"), durable!("post c1"), AtLeast(0.95)),
    target("post c16, group, and peers", ("/s", DURABLE), &[S::Group, S::Peers],
        figure!("group post c16"), durable!("post c16"), AtLeast(1.2)),
    target("post c64, group, and peers", ("/s", DURABLE), &[S::Group, S::Peers],
        figure!("group post c64"), durable!("post c64"), AtLeast(1.2)),
    target("claim 10 + 10 deletes c16, group, and peers", ("messages/s", DURABLE),
        &[S::Group, S::Peers],
        figure!("group claim10 c16"), durable!("claim10 c16"), AtLeast(1.2)),
    target("written to disk per commit of a 100-byte message", ("KiB", "4 KiB"), &[S::Group],
        figure!("group KiB a commit"), |_| Some(4.0), AtMost(4.0)),
    target("post c1, os, and peers", ("/s", WEAK), &[S::Os, S::Peers],
        figure!("os post c1"), weak!("post c1"), AtLeast(1.0)),
    target("post c16, os, and peers", ("/s", WEAK), &[S::Os, S::Peers],
        figure!("os post c16"), weak!("post c16"), AtLeast(1.0)),
    target("post c64, os, and peers", ("/s", WEAK), &[S::Os, S::Peers],
        figure!("os post c64"), weak!("post c64"), AtLeast(1.0)),
    target("list of 20 c16", ("pages/s", "bare hyper with that answer"), &[S::Os],
        figure!("os list c16"), figure!("hello list c16"), AtLeast(0.6)),
    target("posts of 20 c16, group", ("messages/s", "posts of one"), &[S::Group],
        figure!("group post20 c16"), figure!("group post c16"), AtLeast(8.0)),
    target("p99 at 70 % of the highest load c64, group", ("µs", "p50 of the synced stub at that load"),
        &[S::Group, S::Core], figure!("group p99 us at 70 %"),
        |round| Some(round.get("stub-inline p50 us at 70 %")?
            .min(round.get("stub-thread p50 us at 70 %")?)), TailAtMost(3.0)),
    target("post c16, os, 10 million waiting", ("/s", "1,000 waiting"), &[S::Depth],
        figure!("deep post c16"), figure!("shallow post c16"), AtLeast(0.95)),
    target("claim 10 + 10 deletes c16, os, 10 million waiting", ("messages/s", "1,000 waiting"),
        &[S::Depth], figure!("deep claim10 c16"), figure!("shallow claim10 c16"), AtLeast(0.95)),
    target("list of 20 c16, 10 million waiting", ("pages/s", "1,000 waiting"), &[S::Depth],
        figure!("deep list c16"), figure!("shallow list c16"), AtLeast(0.95)),
    target("post c16, os, spread over 100,000 queues", ("/s", "one queue"), &[S::Queues],
        figure!("many-queues post c16"), figure!("one-queue post c16"), AtLeast(0.8)),
    target("post c64, os, two server cores", ("/s", "one server core"), &[S::Cores],
        figure!("threads2 post c64"), figure!("threads1 post c64"), AtLeastOn(1.5, 3.0)),
    target("processor time of a post c64, os, two serving threads", ("µs", "one thread"),
        &[S::Cores], figure!("threads2 µs post c64"), figure!("threads1 µs post c64"),
        AtMost(2.0 / 1.5)),
    target("start after kill -9, 10 million waiting", ("s", "1,000 waiting"), &[S::Depth],
        figure!("deep start s"), figure!("shallow start s"), AtMost(1.5)),
    target("start after kill -9, 10 million waiting or 1,000", ("s", "1 s"), &[S::Depth],
        |round| round.best(&["deep start s", "shallow start s"]), |_| Some(1.0), AtMost(1.0)),
    target("log and index per 100-byte message, posted alone", ("B", "100 B"), &[S::Bytes],
        figure!("bytes on disk a message alone"), |_| Some(100.0), AtMost(1.8)),
    target("log and index per 100-byte message, posted in 20s", ("B", "100 B"), &[S::Bytes],
        figure!("bytes on disk a message in 20s"), |_| Some(100.0), AtMost(1.8)),
    target("p99 of posts in group while compaction runs", ("µs", "p99 while it does not"),
        &[S::Compaction, S::Core],
        // It says nothing where compaction was over before the load was.
        |round| round.get("compacting p99 us").filter(|_| round.get("compacting all along") == Some(1.0)),
        figure!("quiet p99 us"), TailAtMost(1.5)),
    target("the servers' core at less than half its speed, nothing else running", ("% of the time", "1 %"),
        &[S::Core], |round| round.get(CORE_SLOW), |_| Some(1.0), Stated),
    target("memory per waiting message", ("B", "nothing"), &[S::Depth],
        figure!("bytes of memory a message"), |_| None, Stated),
    target("memory per idle queue", ("B", "300 B"), &[S::Queues],
        figure!("bytes of memory a queue"), |_| Some(300.0), AtMost(1.0)),
    target("memory per idle connection", ("KiB", "20 KiB"), &[S::Connections],
        figure!("KiB of memory a connection"), |_| Some(20.0), AtMost(1.0)),
    target("CPU of an idle server with 100,000 queues", ("%", "1 % of a core"), &[S::Queues],
        figure!("idle cpu %"), |_| Some(1.0), AtMost(1.0)),
];
