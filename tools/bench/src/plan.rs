//! What is measured, in which order, and how long each piece may take. Pure.

use crate::workload::Workload;
use std::time::Duration;

/// What to measure.
#[derive(Debug, Clone)]
pub(crate) struct Choice {
    /// Durability modes.
    pub(crate) modes: Vec<String>,
    /// Counts of connections.
    pub(crate) connections: Vec<usize>,
    /// Workloads.
    pub(crate) workloads: Vec<Workload>,
    /// Sizes of bodies; the first of them is the one of every cell.
    pub(crate) sizes: Vec<usize>,
    /// Every size with every workload and count of connections, not with posts alone.
    pub(crate) full: bool,
    /// Repetitions of everything.
    pub(crate) rounds: usize,
    /// The time that all of it may take.
    pub(crate) budget: Duration,
    /// Whether a server of ours is measured: then the bare server and the power cuts are, too.
    pub(crate) own: bool,
}

/// One thing to measure in a round.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Task {
    /// The disk.
    Disk,
    /// The bare server.
    Hello {
        /// Over so many connections.
        connections: usize,
    },
    /// One cell.
    Cell {
        /// The mode.
        mode: String,
        /// The workload.
        workload: Workload,
        /// Connections.
        connections: usize,
        /// The size of a body.
        size_bytes: usize,
        /// At a fixed rate; as fast as it is answered otherwise.
        open: bool,
    },
}

/// The plan of a run.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    /// What one round does, in its first order.
    groups: Vec<Vec<Task>>,
    /// Rounds.
    pub(crate) rounds: usize,
    /// The part of a cell that is not measured.
    pub(crate) warm_up: Duration,
    /// The part that is.
    pub(crate) measured: Duration,
    /// What the power cuts may take.
    pub(crate) loss: Duration,
    /// The time of it all, as far as it can be told.
    pub(crate) estimate: Duration,
}

/// Connections at which latency is measured at a fixed rate, where they are measured at all.
const OPEN_CONNECTIONS: [usize; 2] = [16, 64];
/// Connections at which sizes are compared.
const SIZE_CONNECTIONS: usize = 16;
/// The share of a mode's own rate at which its latency is measured.
pub(crate) const OPEN_SHARE: f64 = 0.7;
/// An open cell is measured so many times longer: it needs the rare ones.
pub(crate) const OPEN_FACTOR: u32 = 2;
/// What making, filling and removing a queue costs, in cells.
const FILL_COST: f64 = 0.45;
const QUEUE_COST: f64 = 0.06;
/// The warm-up, as a share of a cell.
const WARM_UP_SHARE: f64 = 0.2;
/// The power cuts take this share of the time, and no more than that many seconds.
const LOSS_SHARE: f64 = 0.22;
const LOSS_MAX: Duration = Duration::from_secs(90);

impl Plan {
    /// Plans so that all of it takes about the budget.
    pub(crate) fn new(choice: &Choice) -> Plan {
        let groups = groups(choice);
        let loss = match choice.own {
            true => choice.budget.mul_f64(LOSS_SHARE).min(LOSS_MAX),
            false => Duration::ZERO,
        };
        let weight: f64 = groups.iter().flatten().map(weight).sum::<f64>() * choice.rounds as f64;
        let left = choice.budget.saturating_sub(loss);
        let cell = left.div_f64(weight.max(1.0));
        // Below this nothing is measured but the start of it.
        let cell = cell.max(Duration::from_millis(50));
        let warm_up = cell.mul_f64(WARM_UP_SHARE);
        Plan {
            groups,
            rounds: choice.rounds,
            warm_up,
            measured: cell - warm_up,
            loss,
            estimate: cell.mul_f64(weight) + loss,
        }
    }

    /// What a round (from 1) does, in order. Modes of one cell follow each other, and another one
    /// begins each round.
    pub(crate) fn round(&self, round: usize) -> Vec<Task> {
        let mut tasks = Vec::new();
        for group in &self.groups {
            let shift = (round - 1) % group.len().max(1);
            tasks.extend(group[shift..].iter().chain(&group[..shift]).cloned());
        }
        tasks
    }

    /// Cells in all rounds.
    pub(crate) fn task_count(&self) -> usize {
        self.groups.iter().map(Vec::len).sum::<usize>() * self.rounds
    }
}

fn weight(task: &Task) -> f64 {
    match task {
        Task::Disk | Task::Hello { .. } => 1.0,
        Task::Cell { workload: Workload::ClaimDelete, .. } => 1.0 + QUEUE_COST + FILL_COST,
        Task::Cell { open: true, .. } => f64::from(OPEN_FACTOR) + QUEUE_COST,
        Task::Cell { .. } => 1.0 + QUEUE_COST,
    }
}

/// Cells that differ by mode alone stand together.
fn groups(choice: &Choice) -> Vec<Vec<Task>> {
    let mut groups = Vec::new();
    let by_mode = |workload, connections, size_bytes, open| -> Vec<Task> {
        let modes = choice.modes.iter().cloned();
        modes.map(|mode| Task::Cell { mode, workload, connections, size_bytes, open }).collect()
    };
    for (place, connections) in choice.connections.iter().copied().enumerate() {
        if choice.own {
            // Twice a round at least, so that its drift is seen.
            if place % 2 == 0 {
                groups.push(vec![Task::Disk]);
            }
            groups.push(vec![Task::Hello { connections }]);
        }
        for workload in choice.workloads.iter().copied() {
            for (place, size_bytes) in choice.sizes.iter().copied().enumerate() {
                let is_posted = workload == Workload::Post && connections == SIZE_CONNECTIONS;
                if place > 0 && !choice.full && !is_posted {
                    continue;
                }
                groups.push(by_mode(workload, connections, size_bytes, false));
                if place == 0
                    && workload == Workload::Post
                    && OPEN_CONNECTIONS.contains(&connections)
                {
                    groups.push(by_mode(workload, connections, size_bytes, true));
                }
            }
        }
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choice() -> Choice {
        Choice {
            modes: ["os", "group", "each"].map(str::to_owned).to_vec(),
            connections: vec![1, 16, 64, 256],
            workloads: Workload::ALL.to_vec(),
            sizes: vec![1024, 256, 16384],
            full: false,
            rounds: 3,
            budget: Duration::from_secs(300),
            own: true,
        }
    }

    fn cells(tasks: &[Task]) -> usize {
        tasks.iter().filter(|task| matches!(task, Task::Cell { .. })).count()
    }

    #[test]
    fn every_cell_is_in_every_round_and_modes_take_turns() {
        let plan = Plan::new(&choice());
        // Closed 5 x 4, sizes 2, open 2; each in three modes.
        assert_eq!(cells(&plan.round(1)), 3 * (20 + 2 + 2));
        let full = Plan::new(&Choice { full: true, ..choice() });
        assert_eq!(cells(&full.round(1)), 3 * (60 + 2));
        let first = |round| {
            plan.round(round)
                .into_iter()
                .find_map(|task| match task {
                    Task::Cell { mode, .. } => Some(mode),
                    _ => None,
                })
                .expect("there are cells")
        };
        assert_eq!([1, 2, 3, 4].map(first), ["os", "group", "each", "os"]);
        let sorted = |round| {
            let mut tasks: Vec<String> =
                plan.round(round).iter().map(|task| format!("{task:?}")).collect();
            tasks.sort();
            tasks
        };
        assert_eq!(sorted(1), sorted(3));
        assert_eq!(plan.task_count(), 3 * plan.round(1).len());
    }

    #[test]
    fn the_time_is_kept() {
        for seconds in [60, 300, 1200] {
            let budget = Duration::from_secs(seconds);
            let plan = Plan::new(&Choice { budget, ..choice() });
            let off = plan.estimate.as_secs_f64() / budget.as_secs_f64();
            assert!((0.99..1.01).contains(&off), "{seconds}: {:?}", plan.estimate);
        }
        let foreign = Plan::new(&Choice { own: false, ..choice() });
        assert_eq!(foreign.loss, Duration::ZERO);
        assert_eq!(foreign.round(1).len(), cells(&foreign.round(1)));
    }

    #[test]
    fn a_rate_is_known_before_latency_is_measured_at_a_share_of_it() {
        let tasks = Plan::new(&choice()).round(2);
        for (at, task) in tasks.iter().enumerate() {
            let Task::Cell { mode, workload, connections, size_bytes, open: true } = task else {
                continue;
            };
            let closed = Task::Cell {
                mode: mode.clone(),
                workload: *workload,
                connections: *connections,
                size_bytes: *size_bytes,
                open: false,
            };
            assert!(tasks[..at].contains(&closed), "{task:?}");
        }
    }
}
