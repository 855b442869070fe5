//! What a history says about each message, claim and queue: what is possible and what is certain at which moment.
//! Notes violations only where an answer names what cannot exist. Judges no answer.

use super::{Findings, Kind};
use crate::campaigns::history::operation::{
    Answer, Call, History, Key, Moment, NEVER, Operation, Position, Shown,
};
use std::collections::HashMap;

/// An operation by its number in the history.
pub(super) type Number = usize;

/// A message that was posted, or may have been.
#[derive(Debug)]
pub(super) struct Message {
    pub(super) key: Key,
    pub(super) queue: usize,
    pub(super) post: Number,
    pub(super) position: Option<Position>,
    /// Its life ends when the clock shows something between these, if no claim extends it.
    ends_ms: (u64, u64),
    /// Certainly there from here on.
    pub(super) there: Moment,
    /// The first answer that showed it, or that of its post.
    pub(super) seen_by: Option<Number>,
    /// Possibly deleted from here on.
    pub(super) may_go: Moment,
    /// Certainly deleted from here on, and by what.
    pub(super) gone: Moment,
    pub(super) gone_by: Number,
    /// Deletes of it that may have happened.
    deletes: Vec<Number>,
    /// Whether its post certainly never happened.
    pub(super) is_void: bool,
    /// The claims that handed it out, as places in [`Facts::claims`].
    pub(super) claims: Vec<usize>,
}

/// A claim whose id was answered.
#[derive(Debug)]
pub(super) struct Claim {
    pub(super) id: u64,
    pub(super) made: Number,
    /// What it handed out, as places in [`Facts::messages`].
    pub(super) messages: Vec<usize>,
    /// Its making and its renewals, those without an answer too.
    pub(super) starts: Vec<Start>,
    pub(super) releases: Vec<Number>,
}

/// A claim's time was started, possibly.
#[derive(Debug, Clone, Copy)]
pub(super) struct Start {
    by: Number,
    pub(super) begun: Moment,
    pub(super) ended: Moment,
    pub(super) is_certain: bool,
    /// The claim runs out when the clock shows something between these.
    pub(super) ends_ms: (u64, u64),
    /// Its messages live until then, at least.
    pub(super) lives_ms: (u64, u64),
}

/// What happened to a queue as a whole.
#[derive(Debug, Default)]
pub(super) struct QueueFacts {
    /// Calls to make it that may have happened.
    pub(super) creates: Vec<Number>,
    /// Calls to remove it that may have happened.
    pub(super) removals: Vec<Number>,
    /// Claims without an answer, which may hold anything.
    pub(super) ghosts: Vec<Start>,
    /// Calls that may have set its metadata.
    pub(super) metadata: Vec<Number>,
    /// Its messages that have a position, in the order of their positions.
    pub(super) order: Vec<usize>,
    /// All its messages, those never seen too.
    pub(super) messages: Vec<usize>,
}

/// See the file's first lines.
pub(super) struct Facts<'a> {
    pub(super) history: &'a History,
    pub(super) messages: Vec<Message>,
    pub(super) claims: Vec<Claim>,
    pub(super) queues: Vec<QueueFacts>,
    by_key: HashMap<Key, usize>,
    by_position: HashMap<Position, usize>,
    by_claim: HashMap<u64, usize>,
    /// The most that the clock ever showed.
    latest_ms: u64,
}

impl<'a> Facts<'a> {
    /// Goes through the history.
    pub(super) fn gather(history: &'a History, findings: &mut Findings<'_>) -> Facts<'a> {
        let queue_count = history.operations.iter().map(|operation| operation.queue + 1).max();
        let mut facts = Facts {
            history,
            messages: Vec::new(),
            claims: Vec::new(),
            queues: (0..queue_count.unwrap_or(0)).map(|_| QueueFacts::default()).collect(),
            by_key: HashMap::new(),
            by_position: HashMap::new(),
            by_claim: HashMap::new(),
            latest_ms: history.clock.range(0, NEVER).1,
        };
        for number in 0..history.operations.len() {
            facts.note_post(number, findings);
            facts.note_claim(number, findings);
        }
        for number in 0..history.operations.len() {
            facts.note_sightings(number, findings);
            facts.note_queue_and_claim_changes(number);
        }
        facts.order();
        // Whether a release or a delete is certain depends on all starts of claims.
        for number in 0..history.operations.len() {
            facts.note_deletes(number);
        }
        facts.note_removals();
        facts.note_void_posts();
        facts
    }

    fn note_post(&mut self, number: Number, findings: &mut Findings<'_>) {
        let operation = self.operation(number);
        let Call::Post { first, count, ttl_s } = operation.call else { return };
        if !operation.may_have_happened() {
            return;
        }
        let positions = match &operation.answer {
            Answer::Posted(positions) => Some(positions),
            _ => None,
        };
        if let Some(positions) = positions {
            let is_sorted = positions.is_sorted_by(|one, next| one < next);
            if positions.len() as u64 != count || !is_sorted {
                let what = "a post of several messages got these ids".to_owned();
                findings.add(Kind::OutOfOrder, what, &[number]);
            }
        }
        let (low_ms, high_ms) = self.history.clock.range(operation.begun, operation.ended);
        let ttl_ms = u64::from(ttl_s) * 1000;
        for place in 0..count {
            let index = self.messages.len();
            let position = positions.and_then(|positions| positions.get(place as usize)).copied();
            let is_there = position.is_some();
            let message = Message {
                key: Key(first.0 + place),
                queue: operation.queue,
                post: number,
                position,
                ends_ms: (low_ms + ttl_ms, high_ms.saturating_add(ttl_ms)),
                there: if is_there { operation.ended } else { NEVER },
                seen_by: is_there.then_some(number),
                may_go: NEVER,
                gone: NEVER,
                gone_by: number,
                deletes: Vec::new(),
                is_void: false,
                claims: Vec::new(),
            };
            if let Some(position) = position
                && let Some(other) = self.by_position.insert(position, index)
            {
                let what = format!("two messages have the id {position}");
                findings.add(Kind::Invented, what, &[self.messages[other].post, number]);
            }
            self.by_key.insert(message.key, index);
            self.queues[operation.queue].messages.push(index);
            self.messages.push(message);
        }
    }

    fn note_claim(&mut self, number: Number, findings: &mut Findings<'_>) {
        let operation = self.operation(number);
        let Call::Claim { ttl_s, grace_s, .. } = operation.call else { return };
        let start = self.start(number, ttl_s, grace_s);
        match &operation.answer {
            Answer::None => self.queues[operation.queue].ghosts.push(start),
            Answer::Claimed { claim, .. } => {
                let made = Claim {
                    id: *claim,
                    made: number,
                    messages: Vec::new(),
                    starts: vec![start],
                    releases: Vec::new(),
                };
                if let Some(other) = self.by_claim.insert(*claim, self.claims.len()) {
                    let what = format!("two claims have the id {claim}");
                    findings.add(Kind::Invented, what, &[self.claims[other].made, number]);
                }
                self.claims.push(made);
            }
            _ => {}
        }
    }

    fn start(&self, by: Number, ttl_s: u32, grace_s: u32) -> Start {
        let operation = self.operation(by);
        let (low_ms, high_ms) = self.history.clock.range(operation.begun, operation.ended);
        let ttl_ms = u64::from(ttl_s) * 1000;
        let kept_ms = ttl_ms + u64::from(grace_s) * 1000;
        Start {
            by,
            begun: operation.begun,
            ended: operation.ended,
            is_certain: operation.has_happened(),
            ends_ms: (low_ms + ttl_ms, high_ms.saturating_add(ttl_ms)),
            lives_ms: (low_ms + kept_ms, high_ms.saturating_add(kept_ms)),
        }
    }

    /// What an answer shows was certainly there when it ended.
    fn note_sightings(&mut self, number: Number, findings: &mut Findings<'_>) {
        let operation = self.operation(number);
        let shown: &[Shown] = match &operation.answer {
            Answer::Shown(messages) | Answer::Claimed { messages, .. } => messages,
            _ => return,
        };
        let made = match (&operation.call, &operation.answer) {
            (Call::Claim { .. }, Answer::Claimed { claim, .. }) => {
                self.by_claim.get(claim).copied()
            }
            _ => None,
        };
        for one in shown {
            let Some(index) = self.by_key.get(&one.key).copied() else {
                let what =
                    format!("message {} shows {}, which nobody posted", one.position, one.key);
                findings.add(Kind::Invented, what, &[number]);
                continue;
            };
            let (post, queue) = (self.messages[index].post, self.messages[index].queue);
            if queue != operation.queue || self.operation(post).begun > operation.ended {
                let what = format!("message {} was not posted here, or not yet", one.key);
                findings.add(Kind::Invented, what, &[post, number]);
                continue;
            }
            match self.messages[index].position {
                Some(position) if position != one.position => {
                    let what = format!("message {} is at {position} and {}", one.key, one.position);
                    findings.add(Kind::Invented, what, &[post, number]);
                }
                Some(_) => {}
                None => self.place_batch(index, one.position, findings),
            }
            let message = &mut self.messages[index];
            if operation.ended < message.there {
                // A batch is whole: with one of it all were there.
                let (first, count) = self.batch(index);
                for other in &mut self.messages[first..first + count] {
                    other.there = other.there.min(operation.ended);
                    other.seen_by = Some(number);
                }
            }
            if let Some(made) = made {
                self.messages[index].claims.push(made);
                self.claims[made].messages.push(index);
            }
        }
    }

    /// The batch of a message: where it begins, and how many there are.
    fn batch(&self, index: usize) -> (usize, usize) {
        let message = &self.messages[index];
        let Call::Post { first, count, .. } = self.operation(message.post).call else {
            return (index, 1);
        };
        (index - (message.key.0 - first.0) as usize, count as usize)
    }

    /// One of a batch that was never answered was seen: the others lie beside it.
    fn place_batch(&mut self, index: usize, position: Position, findings: &mut Findings<'_>) {
        let (first, count) = self.batch(index);
        for other in first..first + count {
            let seq = (position.seq + other as u64).checked_sub(index as u64);
            let Some(seq) = seq.filter(|seq| *seq > 0) else { continue };
            let position = Position { seq, ..position };
            self.messages[other].position = Some(position);
            if let Some(taken) = self.by_position.insert(position, other) {
                let what = format!("two messages have the id {position}");
                let posts = [self.messages[taken].post, self.messages[other].post];
                findings.add(Kind::Invented, what, &posts);
            }
        }
    }

    fn note_queue_and_claim_changes(&mut self, number: Number) {
        let operation = self.operation(number);
        if !operation.may_have_happened() {
            return;
        }
        let queue = &mut self.queues[operation.queue];
        match operation.call {
            Call::Create => queue.creates.push(number),
            Call::Remove => queue.removals.push(number),
            Call::SetMetadata { .. } => queue.metadata.push(number),
            Call::Renew { claim, ttl_s, grace_s } => {
                let start = self.start(number, ttl_s, grace_s);
                if let Some(claim) = self.by_claim.get(&claim) {
                    self.claims[*claim].starts.push(start);
                }
            }
            Call::Release { claim } => {
                if let Some(claim) = self.by_claim.get(&claim) {
                    self.claims[*claim].releases.push(number);
                }
            }
            _ => {}
        }
    }

    fn order(&mut self) {
        for queue in &mut self.queues {
            let placed = queue.messages.iter().copied();
            queue.order = placed.filter(|at| self.messages[*at].position.is_some()).collect();
            queue.order.sort_by_key(|at| self.messages[*at].position);
        }
    }

    fn note_deletes(&mut self, number: Number) {
        let operation = self.operation(number);
        let positions = match &operation.call {
            Call::Delete { message, .. } => std::slice::from_ref(message),
            Call::DeleteMany { messages } => messages,
            _ => return,
        };
        if !operation.may_have_happened() {
            return;
        }
        for position in positions {
            let Some(index) = self.by_position.get(position).copied() else { continue };
            // One that finds its message expired writes nothing down.
            let is_final = operation.has_happened()
                && !(self.history.clock.goes_back_after(operation.begun)
                    && self.may_have_expired(index, number));
            let message = &mut self.messages[index];
            message.may_go = message.may_go.min(operation.begun);
            message.deletes.push(number);
            if is_final && operation.ended < message.gone {
                (message.gone, message.gone_by) = (operation.ended, number);
            }
        }
    }

    fn note_removals(&mut self) {
        for queue in &self.queues {
            for number in &queue.removals {
                let removal = &self.history.operations[*number];
                for index in &queue.messages {
                    let message = &mut self.messages[*index];
                    if removal.ended < self.history.operations[message.post].begun {
                        continue;
                    }
                    message.may_go = message.may_go.min(removal.begun);
                    let is_after = removal.begun > message.there;
                    if removal.has_happened() && is_after && removal.ended < message.gone {
                        (message.gone, message.gone_by) = (removal.ended, *number);
                    }
                }
            }
        }
    }

    /// What a page of the whole queue did not show, though it could not happen later, never happened.
    fn note_void_posts(&mut self) {
        let mut last_whole: HashMap<usize, Vec<Number>> = HashMap::new();
        for (number, operation) in self.history.operations.iter().enumerate() {
            if let Call::List { after: None, limit, echo: true, with_claimed: true } =
                operation.call
                && let Answer::Shown(messages) = &operation.answer
                && messages.len() < limit
            {
                last_whole.entry(operation.queue).or_default().push(number);
            }
        }
        for index in 0..self.messages.len() {
            let message = &self.messages[index];
            let post = self.operation(message.post);
            if message.seen_by.is_some() || post.ended == NEVER {
                continue;
            }
            let lists = last_whole.get(&message.queue).into_iter().flatten();
            let refutes = |list: &Number| {
                let whole = self.operation(*list);
                whole.begun >= post.ended
                    && message.may_go > whole.ended
                    && !self.may_have_expired(index, *list)
            };
            self.messages[index].is_void = lists.into_iter().any(refutes);
        }
    }

    // ---- questions ----

    pub(super) fn operation(&self, number: Number) -> &'a Operation {
        &self.history.operations[number]
    }

    /// The message that has this body.
    pub(super) fn message(&self, key: Key) -> Option<usize> {
        self.by_key.get(&key).copied()
    }

    pub(super) fn at(&self, position: Position) -> Option<usize> {
        self.by_position.get(&position).copied()
    }

    pub(super) fn claim(&self, id: u64) -> Option<&Claim> {
        self.by_claim.get(&id).map(|at| &self.claims[*at])
    }

    /// Whether a message's life may be over when `number` takes effect.
    pub(super) fn may_have_expired(&self, index: usize, number: Number) -> bool {
        let (message, at) = (&self.messages[index], self.operation(number));
        let clock = &self.history.clock;
        let post = self.operation(message.post);
        if self.latest_ms < message.ends_ms.0
            || clock.range(post.begun, at.ended.max(post.begun)).1 < message.ends_ms.0
        {
            return false;
        }
        // Each claim that handed it out promised a life of its own.
        !message.claims.iter().any(|claim| {
            let start = &self.claims[*claim].starts[0];
            start.ended <= at.begun && clock.range(start.begun, at.ended).1 < start.lives_ms.0
        })
    }

    /// Whether a message's life is certainly over when `number` takes effect.
    pub(super) fn has_expired(&self, index: usize, number: Number) -> bool {
        let (message, at) = (&self.messages[index], self.operation(number));
        let now_ms = self.history.clock.range(at.begun, at.ended).0;
        now_ms >= message.ends_ms.1 && {
            let held = message.claims.iter().flat_map(|claim| &self.claims[*claim].starts);
            let mut starts = held.chain(&self.queues[message.queue].ghosts);
            starts.all(|start| start.begun > at.ended || start.lives_ms.1 <= now_ms)
        }
    }

    /// Whether a message is certainly there when `number` takes effect.
    pub(super) fn is_there(&self, index: usize, number: Number) -> bool {
        let (message, at) = (&self.messages[index], self.operation(number));
        message.there <= at.begun
            && message.may_go > at.ended
            && !self.may_have_expired(index, number)
    }

    /// Whether a message may be there when `number` takes effect.
    pub(super) fn may_be_there(&self, index: usize, number: Number) -> bool {
        let (message, at) = (&self.messages[index], self.operation(number));
        self.operation(message.post).begun <= at.ended
            && !message.is_void
            && message.gone > at.begun
            && !self.has_expired(index, number)
    }

    /// Whether another operation than `number` may have deleted a message before that takes effect.
    pub(super) fn may_be_deleted_before(&self, index: usize, number: Number) -> bool {
        let (message, at) = (&self.messages[index], self.operation(number));
        let begun = self.operation(message.post).begun;
        let mut removals = self.queues[message.queue].removals.iter().map(|at| self.operation(*at));
        message.may_go <= at.ended
            && (message
                .deletes
                .iter()
                .any(|delete| *delete != number && self.operation(*delete).begun <= at.ended)
                || removals.any(|removal| removal.begun <= at.ended && removal.ended >= begun))
    }

    /// Whether a claim may have ended before `number` takes effect.
    pub(super) fn may_have_ended(&self, claim: &Claim, number: Number) -> bool {
        let at = self.operation(number);
        let mut releases = claim.releases.iter().map(|release| self.operation(*release));
        if releases.any(|release| release.begun <= at.ended) {
            return true;
        }
        let made = self.operation(claim.made);
        let mut removals = self.queues[made.queue].removals.iter().map(|at| self.operation(*at));
        if removals.any(|removal| removal.begun <= at.ended && removal.ended >= made.begun) {
            return true;
        }
        claim.starts.iter().any(|start| {
            let is_replaced = || {
                claim.starts.iter().any(|later| {
                    later.is_certain && later.begun >= start.ended && later.ended <= at.begun
                })
            };
            start.begun <= at.ended
                && self.history.clock.range(start.begun, at.ended).1 >= start.ends_ms.0
                && !is_replaced()
        })
    }

    /// Whether a claim has certainly ended when `number`, which may be a renewal of it, takes effect.
    pub(super) fn has_ended(&self, claim: &Claim, number: Number) -> bool {
        let at = self.operation(number);
        let is_over = |change: &Operation| change.has_happened() && change.ended <= at.begun;
        // One that finds its claim run out writes nothing down.
        let is_final = |release: Number| {
            !self.history.clock.goes_back_after(self.operation(release).begun)
                || !self.may_have_run_out(claim, release)
        };
        let mut releases = claim.releases.iter();
        if releases.any(|release| is_over(self.operation(*release)) && is_final(*release)) {
            return true;
        }
        let made = self.operation(claim.made);
        let mut removals = self.queues[made.queue].removals.iter().map(|at| self.operation(*at));
        if removals.any(|removal| is_over(removal) && removal.begun > made.ended) {
            return true;
        }
        let now_ms = self.history.clock.range(at.begun, at.ended).0;
        claim
            .starts
            .iter()
            .all(|start| start.by == number || start.begun > at.ended || start.ends_ms.1 <= now_ms)
    }

    fn may_have_run_out(&self, claim: &Claim, number: Number) -> bool {
        let at = self.operation(number);
        let clock = &self.history.clock;
        claim.starts.iter().any(|start| {
            start.begun <= at.ended && clock.range(start.begun, at.ended).1 >= start.ends_ms.0
        })
    }

    /// Whether claims that nobody was told of may hold messages of this queue when `number` takes effect.
    pub(super) fn has_ghosts(&self, queue: usize, number: Number) -> bool {
        let at = self.operation(number);
        let ghosts = &self.queues[queue].ghosts;
        let now_ms = self.history.clock.range(at.begun, at.ended).0;
        ghosts.iter().any(|ghost| ghost.begun <= at.ended && ghost.ends_ms.1 > now_ms)
    }

    /// Whether a claim may hold a message when `number`, itself no claim of it, takes effect.
    pub(super) fn may_be_claimed(&self, index: usize, number: Number) -> bool {
        let message = &self.messages[index];
        let holds = |claim: &usize| {
            let claim = &self.claims[*claim];
            claim.made != number
                && self.operation(claim.made).begun <= self.operation(number).ended
                && !self.has_ended(claim, number)
        };
        message.claims.iter().any(holds) || self.has_ghosts(message.queue, number)
    }

    /// The claim that certainly holds a message when `number` takes effect, if the message is there.
    pub(super) fn holder(&self, index: usize, number: Number) -> Option<&Claim> {
        let claims = self.messages[index].claims.iter().map(|claim| &self.claims[*claim]);
        claims
            .filter(|claim| self.operation(claim.made).ended <= self.operation(number).begun)
            .find(|claim| !self.may_have_ended(claim, number))
    }

    /// Whether a queue is certainly there when `number` takes effect.
    pub(super) fn queue_is_there(&self, queue: usize, number: Number) -> bool {
        let (facts, at) = (&self.queues[queue], self.operation(number));
        facts.creates.iter().map(|create| self.operation(*create)).any(|create| {
            let mut removals = facts.removals.iter().map(|removal| self.operation(*removal));
            create.has_happened()
                && create.ended <= at.begun
                && !removals
                    .any(|removal| removal.begun <= at.ended && removal.ended >= create.begun)
        })
    }

    /// Whether a queue may be there when `number`, itself no making of it, takes effect.
    pub(super) fn queue_may_be_there(&self, queue: usize, number: Number) -> bool {
        let (facts, at) = (&self.queues[queue], self.operation(number));
        facts.creates.iter().filter(|create| **create != number).any(|create| {
            let create = self.operation(*create);
            let mut removals = facts.removals.iter().map(|removal| self.operation(*removal));
            create.begun <= at.ended
                && !removals.any(|removal| {
                    removal.has_happened()
                        && removal.begun > create.ended
                        && removal.ended <= at.begun
                })
        })
    }
}
