//! Many clients over HTTP against the server, while it is killed, stopped, paused and its clock is set. Each client
//! writes down what it asked and was told, and when; afterwards the whole history is checked (see `check`): nothing
//! acknowledged is lost, nothing is invented, no message is under two live claims, order holds, what was deleted
//! stays so, claims that ended do not count, and counts are right. Some clients send or read in small pieces, some
//! hang up in the middle, most have several calls under way.
//!
//! Most trials have the server in this process, where the clock steps exactly and a kill is the engine's own crash;
//! every twelfth starts the real program and sends it signals. Cannot see what a power cut takes, nor an order of
//! operations that only all of them together rule out. What threads do when is not decided by the seed: the same
//! seed tries the same things again, in another interleaving.

mod answer;
mod check;
mod client;
mod clock;
mod operation;
mod plan;
mod service;
mod wire;

use crate::campaign::{Campaign, Width, none};
use crate::random::Random;
use anyhow::{Context, ensure};
use client::{Client, Gossip};
use operation::{Answer, Call, History, Moment, NEVER, Operation};
use plan::{CLAIM_TTL_MAX_S, Fault, Plan, QUEUE_COUNT};
use service::{End, PAGE_SIZE_MAX, Service};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// See the file's first lines.
pub(super) const CAMPAIGN: Campaign = Campaign {
    name: "history",
    promise: "whatever several clients are told at the same time can be true together",
    fault: "kills, pauses, restarts, steps of the clock, slow and broken connections under load",
    unit: "operations through the checker",
    in_tests: 100_000,
    in_ledger: 20_000_000,
    once_failed: &[],
    width: Width::Processors,
    trial,
    obstacle: none,
};

/// So long may pass without any call being answered.
const STANDSTILL_MAX: Duration = Duration::from_secs(120);
/// Between two looks at how far the clients are.
const LOOK_INTERVAL: Duration = Duration::from_micros(200);

/// Runs the trial of a seed and checks its history; returns how many operations that has.
fn trial(seed: u64) -> anyhow::Result<u64> {
    let mut random = Random::new(seed);
    let plan = Plan::new(seed, &mut random);
    let mut service = Service::start(&plan)?;
    let site = std::sync::Arc::clone(&service.site);
    let gossip = Gossip::default();
    // The first client makes the queues and has the last word.
    let mut first = Client::new(0, &plan, &site, &gossip, seed);
    for queue in 0..QUEUE_COUNT {
        let floor = plan.floors[queue].map(|level| level.to_string());
        first.call(queue, Call::Create, floor.as_deref())?;
    }
    let mut clients: Vec<Client<'_>> = (1..=plan.client_count)
        .map(|number| Client::new(number, &plan, &site, &gossip, seed))
        .collect();
    let answered = AtomicU64::new(0);
    thread::scope(|scope| {
        let threads: Vec<_> =
            clients.iter_mut().map(|client| scope.spawn(|| client.work(&answered))).collect();
        let faults = inflict(&plan, &mut service, &answered, || {
            threads.iter().all(thread::ScopedJoinHandle::is_finished)
        });
        let ends = threads.into_iter().map(|thread| match thread.join() {
            Ok(end) => end,
            Err(panic) => std::panic::resume_unwind(panic),
        });
        let ends: anyhow::Result<Vec<()>> = ends.collect();
        faults.and(ends.map(drop))
    })?;
    conclude(&plan, &mut service, &mut first)?;
    service.end().context("at the end")?;

    let mut history = History { operations: Vec::new(), clock: service.clock() };
    for client in std::iter::once(first).chain(clients) {
        for (place, noticed, why) in &client.unanswered {
            let begun = client.log[*place].begun;
            let is_explained =
                service.outages.iter().any(|(from, to)| from <= noticed && *to >= begun);
            ensure!(is_explained, "no answer: {why}\n    {}", told(&client.log[*place], &service));
        }
        history.operations.extend(client.log);
    }
    for operation in &mut history.operations {
        if operation.answer == Answer::None {
            operation.ended = last_chance(&service.outages, operation.begun);
        }
    }
    history.operations.sort_by_key(|operation| operation.begun);
    let count = history.operations.iter().filter(|operation| operation.has_happened()).count();
    let violations = check::check(&history);
    let told: Vec<String> = violations.iter().map(|violation| format!("\n  {violation}")).collect();
    ensure!(
        violations.is_empty(),
        "{} violations; the server was ended at {:?} ns; {plan:?}:{}",
        violations.len(),
        service.outages,
        told.concat()
    );
    ensure!(
        count * 2 > history.operations.len(),
        "only {count} of {} calls were done",
        history.operations.len()
    );
    Ok(history.operations.len() as u64)
}

fn told(operation: &Operation, service: &Service) -> String {
    History { operations: vec![operation.clone()], clock: service.clock() }.tell(0)
}

/// When a call that was begun then and never answered can have happened at the latest.
fn last_chance(outages: &[(Moment, Moment)], begun: Moment) -> Moment {
    outages.iter().map(|(_, to)| *to).find(|to| *to >= begun).unwrap_or(NEVER)
}

/// Does to the server what the plan says, as the clients get on.
fn inflict(
    plan: &Plan,
    service: &mut Service,
    answered: &AtomicU64,
    is_over: impl Fn() -> bool,
) -> anyhow::Result<()> {
    for (after, fault) in &plan.faults {
        let (mut last, mut since) = (0, Instant::now());
        while answered.load(Ordering::Relaxed) < *after && !is_over() {
            let now = answered.load(Ordering::Relaxed);
            if now != last {
                (last, since) = (now, Instant::now());
            }
            ensure!(since.elapsed() < STANDSTILL_MAX, "no call is answered after {now}");
            thread::park_timeout(LOOK_INTERVAL);
        }
        match fault {
            Fault::Kill { clock_ms } => {
                let clock_ms = service.clock_ms().saturating_add_signed(*clock_ms);
                service.restart(End::Killed, Some(clock_ms)).context("after a kill")?;
            }
            Fault::Restart => service.restart(End::Stopped, None).context("after a stop")?,
            Fault::Pause(time) => service.pause(*time),
            Fault::ClockOn { by_ms } => service.set_clock(service.clock_ms() + by_ms),
            Fault::Checkpoint => service.engine().map_or(Ok(()), |engine| engine.checkpoint())?,
            Fault::Compact => drop(service.engine().map(|engine| engine.compact()).transpose()?),
        }
    }
    Ok(())
}

/// When all others are done: looks at everything, claims everything, and looks again after a restart.
fn conclude(plan: &Plan, service: &mut Service, client: &mut Client<'_>) -> anyhow::Result<()> {
    let end = if plan.may_kill { End::Killed } else { End::Stopped };
    service.restart(end, None).context("before the last look")?;
    let limit = PAGE_SIZE_MAX;
    let list = |with_claimed| Call::List { after: None, limit, echo: true, with_claimed };
    let claim = Call::Claim { ttl_s: CLAIM_TTL_MAX_S, grace_s: 60, limit };
    for queue in 0..QUEUE_COUNT {
        for call in [Call::Create, list(true), Call::Stats, list(false)] {
            client.call(queue, call, None)?;
        }
    }
    // Now all claims have run out.
    service.set_clock(service.clock_ms() + u64::from(CLAIM_TTL_MAX_S) * 1000);
    for queue in 0..QUEUE_COUNT {
        for call in [Call::Stats, claim.clone(), Call::Stats, list(false), list(true)] {
            client.call(queue, call, None)?;
        }
    }
    service.restart(end, None).context("after the last claims")?;
    for queue in 0..QUEUE_COUNT {
        for call in [Call::GetMetadata, list(true), list(false), Call::Stats] {
            client.call(queue, call, None)?;
        }
    }
    Ok(())
}
