//! For each kind of violation a history that shows it, and one beside it that may have been right.

use super::{Kind, check};
use crate::campaigns::history::clock::{Clock, Step};
use crate::campaigns::history::operation::{
    Answer, Call, History, Key, Moment, NEVER, Operation, Position, Shown,
};

const START_MS: u64 = 1_000_000;

/// A history that is being told: one queue that was made before anything else.
struct Story(History);

impl Story {
    fn new() -> Story {
        let clock = Clock::Manual(vec![Step { begun: 0, ended: 0, to_ms: START_MS }]);
        let mut story = Story(History { operations: Vec::new(), clock });
        story.tell(0, 1, Call::Create, Answer::Made);
        story
    }

    fn tell(&mut self, begun: Moment, ended: Moment, call: Call, answer: Answer) -> &mut Story {
        self.by(1, begun, ended, call, answer)
    }

    fn by(
        &mut self,
        client: usize,
        begun: Moment,
        ended: Moment,
        call: Call,
        answer: Answer,
    ) -> &mut Story {
        self.0.operations.push(Operation { client, queue: 0, call, begun, ended, answer });
        self
    }

    /// The clock is put to so many milliseconds behind the start.
    fn clock(&mut self, at: Moment, ms: u64) -> &mut Story {
        if let Clock::Manual(steps) = &mut self.0.clock {
            steps.push(Step { begun: at, ended: at, to_ms: START_MS + ms });
        }
        self
    }

    fn kinds(&self) -> Vec<Kind> {
        let mut kinds: Vec<Kind> = check(&self.0).iter().map(|violation| violation.kind).collect();
        kinds.sort_unstable();
        kinds.dedup();
        kinds
    }

    fn is_right(&self) {
        let found: Vec<String> = check(&self.0).iter().map(ToString::to_string).collect();
        assert!(found.is_empty(), "{}", found.join("\n"));
    }

    fn is(&self, kind: Kind) {
        assert_eq!(self.kinds(), [kind]);
    }
}

fn at(seq: u64) -> Position {
    Position { queue: 7, seq }
}

/// A message whose key is its place.
fn shown(seqs: &[u64]) -> Vec<Shown> {
    seqs.iter().map(|seq| Shown { position: at(*seq), key: Key(*seq) }).collect()
}

/// A post of the messages from `first` on, with a long life.
fn post(first: u64, count: u64) -> Call {
    Call::Post { first: Key(first), count, ttl_s: 1_000_000 }
}

fn posted(first: u64, count: u64) -> Answer {
    Answer::Posted((first..first + count).map(at).collect())
}

fn list() -> Call {
    Call::List { after: None, limit: 100, echo: true, with_claimed: true }
}

fn page(seqs: &[u64]) -> Answer {
    Answer::Shown(shown(seqs))
}

fn claim(limit: usize) -> Call {
    Call::Claim { ttl_s: 60, grace_s: 60, limit }
}

fn claimed(claim: u64, seqs: &[u64]) -> Answer {
    Answer::Claimed { claim, messages: shown(seqs) }
}

fn delete(seq: u64, claim: Option<u64>) -> Call {
    Call::Delete { message: at(seq), claim }
}

/// Two messages, posted and answered for by moment 3.
fn two() -> Story {
    let mut story = Story::new();
    story.tell(2, 3, post(1, 2), posted(1, 2));
    story
}

#[test]
fn a_message_that_is_not_listed_is_lost_unless_it_may_have_gone() {
    two().tell(4, 5, list(), page(&[1])).is(Kind::Lost);
    two().tell(4, 5, list(), page(&[1, 2])).is_right();
    // A delete that was never answered, or still is under way, may be the reason.
    two().tell(4, NEVER, delete(2, None), Answer::None).tell(6, 7, list(), page(&[1])).is_right();
    two().tell(4, 7, delete(2, None), Answer::Done).tell(5, 6, list(), page(&[1])).is_right();
    // One that was never sent to its end, or refused, is none.
    two()
        .tell(4, 5, delete(2, None), Answer::NotSent)
        .tell(6, 7, list(), page(&[1]))
        .is(Kind::Lost);
    // A post that is not answered yet need not show, nor one that never was.
    Story::new().tell(2, 6, post(1, 1), posted(1, 1)).tell(4, 5, list(), page(&[])).is_right();
    Story::new().tell(2, 3, post(1, 1), Answer::None).tell(4, 5, list(), page(&[])).is_right();
    let get = || Call::Get { message: at(2) };
    two().tell(4, 5, get(), Answer::Refused(404)).is(Kind::Lost);
    two().tell(4, 5, get(), page(&[2])).is_right();
    two().tell(4, 5, claim(9), claimed(50, &[1])).is(Kind::Lost);
}

#[test]
fn what_was_shown_once_is_there_though_its_post_was_never_answered() {
    let unanswered = || {
        let mut story = Story::new();
        story.tell(2, 5, post(1, 2), Answer::None).tell(3, 4, list(), page(&[1, 2]));
        story
    };
    unanswered().tell(5, 6, list(), page(&[])).is(Kind::Lost);
    unanswered().tell(5, 6, list(), page(&[1])).is(Kind::Lost);
    unanswered().tell(5, 6, list(), page(&[1, 2])).is_right();
    // A batch is whole.
    let mut half = Story::new();
    half.tell(2, 5, post(1, 2), Answer::None).tell(6, 7, list(), page(&[1]));
    half.is_right();
    half.tell(8, 9, list(), page(&[1])).is(Kind::Lost);
}

#[test]
fn what_nobody_posted_is_invented() {
    two().tell(4, 5, list(), page(&[1, 2, 3])).is(Kind::Invented);
    // Posted later, or never sent to its end.
    let mut early = two();
    early.tell(4, 5, list(), page(&[1, 2, 3])).tell(6, 7, post(3, 1), posted(3, 1));
    early.is(Kind::Invented);
    let mut cut = two();
    cut.tell(4, 5, post(3, 1), Answer::NotSent).tell(6, 7, list(), page(&[1, 2, 3]));
    cut.is(Kind::Invented);
    let mut under_way = two();
    under_way.tell(4, NEVER, post(3, 1), Answer::None).tell(6, 7, list(), page(&[1, 2, 3]));
    under_way.is_right();
    // The same message in two places.
    let twice = vec![Shown { position: at(3), key: Key(2) }];
    assert!(two().tell(4, 5, list(), Answer::Shown(twice)).kinds().contains(&Kind::Invented));
}

#[test]
fn a_message_is_under_one_living_claim() {
    let first = || {
        let mut story = two();
        story.tell(4, 5, claim(1), claimed(50, &[1]));
        story
    };
    first().tell(6, 7, claim(1), claimed(60, &[1])).is(Kind::ClaimedTwice);
    first().tell(4, 7, claim(1), claimed(60, &[1])).is(Kind::ClaimedTwice);
    first().tell(6, 7, claim(1), claimed(60, &[2])).is_right();
    // It may have ended: released, run out, or the answer to its release got lost.
    let release = || Call::Release { claim: 50 };
    first().tell(6, 7, release(), Answer::Done).tell(8, 9, claim(1), claimed(60, &[1])).is_right();
    first()
        .tell(6, NEVER, release(), Answer::None)
        .tell(8, 9, claim(1), claimed(60, &[1]))
        .is_right();
    first().clock(6, 60_000).tell(8, 9, claim(1), claimed(60, &[1])).is_right();
    first().clock(6, 59_999).tell(8, 9, claim(1), claimed(60, &[1])).is(Kind::ClaimedTwice);
    // A renewal gives it more time.
    let renew = || Call::Renew { claim: 50, ttl_s: 60, grace_s: 0 };
    let renewed = |answer| {
        let mut story = first();
        story.clock(6, 30_000).tell(7, 8, renew(), answer).clock(9, 60_000);
        story.tell(10, 11, claim(1), claimed(60, &[1]));
        story
    };
    renewed(Answer::Done).is(Kind::ClaimedTwice);
    renewed(Answer::None).is_right();
}

#[test]
fn places_agree_with_the_order_of_posts() {
    let mut behind = Story::new();
    behind.tell(2, 3, post(2, 1), posted(2, 1)).by(2, 4, 5, post(1, 1), posted(1, 1));
    behind.is(Kind::OutOfOrder);
    let mut together = Story::new();
    together.tell(2, 4, post(2, 1), posted(2, 1)).by(2, 3, 5, post(1, 1), posted(1, 1));
    together.is_right();
    let swapped = Answer::Shown(shown(&[2, 1]));
    two().tell(4, 5, list(), swapped).is(Kind::OutOfOrder);
    // A claim takes the oldest.
    assert_eq!(two().tell(4, 5, claim(1), claimed(50, &[2])).kinds(), [Kind::Lost]);
    two().tell(4, 5, claim(2), claimed(50, &[1, 2])).is_right();
}

#[test]
fn what_was_deleted_stays_so() {
    let deleted = |answer| {
        let mut story = two();
        story.tell(4, 5, delete(1, None), answer);
        story
    };
    deleted(Answer::Done).tell(6, 7, list(), page(&[1, 2])).is(Kind::CameBack);
    deleted(Answer::Done).tell(6, 7, claim(5), claimed(50, &[1, 2])).is(Kind::CameBack);
    deleted(Answer::Done).tell(5, 7, list(), page(&[1, 2])).is(Kind::CameBack);
    deleted(Answer::Done).tell(4, 7, list(), page(&[1, 2])).is_right();
    deleted(Answer::None).tell(6, 7, list(), page(&[1, 2])).is_right();
    // The same with the whole queue, and with time.
    let mut removed = two();
    removed.tell(4, 5, Call::Remove, Answer::Done).tell(6, 7, Call::Create, Answer::Made);
    removed.is_right();
    removed.tell(8, 9, list(), page(&[1, 2])).is(Kind::CameBack);
    let short = |clock_ms| {
        let mut story = Story::new();
        let call = Call::Post { first: Key(1), count: 1, ttl_s: 60 };
        story.tell(2, 3, call, posted(1, 1)).clock(4, clock_ms).tell(5, 6, list(), page(&[1]));
        story
    };
    short(60_000).is(Kind::CameBack);
    short(59_999).is_right();
    short(59_999).tell(7, 8, list(), page(&[])).is(Kind::Lost);
}

#[test]
fn a_claim_gives_its_messages_a_longer_life() {
    let held = |clock_ms: u64, seqs: &[u64]| {
        let mut story = Story::new();
        let call = Call::Post { first: Key(1), count: 1, ttl_s: 60 };
        story.tell(2, 3, call, posted(1, 1)).tell(4, 5, claim(1), claimed(50, &[1]));
        story.clock(6, clock_ms).tell(7, 8, list(), page(seqs));
        story
    };
    held(119_999, &[1]).is_right();
    held(119_999, &[]).is(Kind::Lost);
    held(120_000, &[1]).is(Kind::CameBack);
    held(120_000, &[]).is_right();
}

#[test]
fn a_delete_under_a_claim_counts_while_the_claim_lives() {
    let held = |clock_ms: u64, answer| {
        let mut story = two();
        story.tell(4, 5, claim(1), claimed(50, &[1])).clock(6, clock_ms);
        story.tell(7, 8, delete(1, Some(50)), answer);
        story
    };
    held(59_999, Answer::Done).is_right();
    held(59_999, Answer::Refused(400)).is(Kind::ClaimEndedEarly);
    held(60_000, Answer::Done).is(Kind::ClaimOutlived);
    held(60_000, Answer::Refused(400)).is_right();
    // What is gone may be deleted under any claim.
    let mut gone = two();
    gone.tell(4, 5, claim(1), claimed(50, &[1]));
    gone.tell(6, 7, Call::DeleteMany { messages: vec![at(1)] }, Answer::Done);
    gone.clock(8, 60_000).tell(9, 10, delete(1, Some(50)), Answer::Done);
    gone.is_right();
    // Without a claim.
    let free = |claim, answer| {
        let mut story = two();
        story.tell(4, 5, self::claim(1), claimed(50, &[1])).tell(6, 7, delete(claim, None), answer);
        story
    };
    free(1, Answer::Done).is(Kind::ClaimEndedEarly);
    free(1, Answer::Refused(403)).is_right();
    free(2, Answer::Done).is_right();
    free(2, Answer::Refused(403)).is(Kind::ClaimOutlived);
}

#[test]
fn a_claim_answers_for_as_long_as_it_lives() {
    let look = || Call::ClaimGet { claim: 50 };
    let held = |clock_ms: u64, answer| {
        let mut story = two();
        story.tell(4, 5, claim(2), claimed(50, &[1, 2])).clock(6, clock_ms);
        story.tell(7, 8, look(), answer);
        story
    };
    held(59_999, claimed(50, &[1, 2])).is_right();
    held(59_999, claimed(50, &[1])).is(Kind::Lost);
    held(59_999, Answer::Refused(404)).is(Kind::ClaimEndedEarly);
    held(60_000, claimed(50, &[1, 2])).is(Kind::ClaimOutlived);
    held(60_000, Answer::Refused(404)).is_right();
    let renew = || Call::Renew { claim: 50, ttl_s: 60, grace_s: 0 };
    let renewed = |clock_ms: u64, answer| {
        let mut story = two();
        story.tell(4, 5, claim(2), claimed(50, &[1, 2])).clock(6, clock_ms);
        story.tell(7, 8, renew(), answer);
        story
    };
    renewed(60_000, Answer::Done).is(Kind::ClaimOutlived);
    renewed(59_999, Answer::Done).is_right();
    renewed(59_999, Answer::Refused(404)).is(Kind::ClaimEndedEarly);
    // A page of free messages shows none of a claim's.
    let free = Call::List { after: None, limit: 9, echo: true, with_claimed: false };
    let mut story = two();
    story.tell(4, 5, claim(1), claimed(50, &[1]));
    story.tell(6, 7, free.clone(), page(&[2])).is_right();
    story.tell(8, 9, free, page(&[1, 2])).is(Kind::ClaimEndedEarly);
}

#[test]
fn what_a_clock_that_is_put_back_brings_back_is_no_violation() {
    let mut story = two();
    story.tell(4, 5, claim(1), claimed(50, &[1])).clock(6, 60_000);
    // It finds the claim run out, so nothing is written down.
    story.tell(7, 8, Call::Release { claim: 50 }, Answer::Done).clock(9, 0);
    story.tell(10, 11, Call::ClaimGet { claim: 50 }, claimed(50, &[1])).is_right();
    let mut story = two();
    story.tell(4, 5, claim(1), claimed(50, &[1]));
    story.tell(7, 8, Call::Release { claim: 50 }, Answer::Done);
    story.tell(10, 11, Call::ClaimGet { claim: 50 }, claimed(50, &[1])).is(Kind::ClaimOutlived);
}

#[test]
fn counts_lie_between_what_is_certain_and_what_is_possible() {
    let counts = |free, claimed, ends: Option<(u64, u64)>| Answer::Counts {
        free,
        claimed,
        ends: ends.map(|(oldest, newest)| (at(oldest), at(newest))),
    };
    let held = |answer| {
        let mut story = two();
        story.tell(4, 5, claim(1), claimed(50, &[1])).tell(6, 7, Call::Stats, answer);
        story
    };
    held(counts(1, 1, Some((1, 2)))).is_right();
    for wrong in [
        counts(2, 0, Some((1, 2))),
        counts(0, 1, Some((1, 1))),
        counts(2, 1, Some((1, 2))),
        counts(1, 1, Some((2, 2))),
        counts(1, 1, None),
    ] {
        held(wrong).is(Kind::WrongCount);
    }
    // A post under way counts or not.
    for free in [2, 3] {
        let mut story = two();
        story.tell(4, 8, post(3, 1), posted(3, 1));
        story.tell(5, 6, Call::Stats, counts(free, 0, Some((1, free)))).is_right();
    }
    // One that was never answered, too, until a page of everything lacks it.
    let unanswered = |seqs: &[u64], free, newest| {
        let mut story = two();
        story.tell(4, 5, post(3, 1), Answer::None).tell(6, 7, list(), page(seqs));
        story.tell(8, 9, Call::Stats, counts(free, 0, Some((1, newest))));
        story
    };
    unanswered(&[1, 2], 2, 2).is_right();
    unanswered(&[1, 2], 3, 3).is(Kind::WrongCount);
    unanswered(&[1, 2, 3], 3, 3).is_right();
}

#[test]
fn queues_are_there_or_not_and_keep_their_metadata() {
    two().tell(4, 5, Call::Create, Answer::Done).is_right();
    two().tell(4, 5, Call::Create, Answer::Made).is(Kind::Lost);
    two().tell(4, 5, post(3, 1), Answer::Refused(404)).is(Kind::Lost);
    let mut removed = Story::new();
    removed.tell(4, 5, Call::Remove, Answer::Done);
    removed.tell(6, 7, Call::Stats, Answer::Refused(404)).is_right();
    removed.tell(8, 9, post(1, 1), posted(1, 1)).is(Kind::CameBack);
    let set = |value| Call::SetMetadata { value };
    let twice = |found| {
        let mut story = Story::new();
        story.tell(2, 3, set(1), Answer::Done).tell(4, 5, set(2), Answer::Done);
        story.tell(6, 7, Call::GetMetadata, Answer::Value(found));
        story
    };
    twice(Some(2)).is_right();
    twice(Some(1)).is(Kind::WrongMetadata);
    twice(None).is(Kind::WrongMetadata);
    let mut together = Story::new();
    together.tell(2, 5, set(1), Answer::Done).tell(3, 4, set(2), Answer::Done);
    together.tell(6, 7, Call::GetMetadata, Answer::Value(Some(1))).is_right();
}

#[test]
fn nonsense_is_told_as_it_is() {
    two().tell(4, 5, list(), Answer::Nonsense("status 500".into())).is(Kind::Nonsense);
}

#[test]
fn a_violation_names_the_operations_and_their_times() {
    let found = check(&two().tell(4_000, 5_000, list(), page(&[1])).0);
    let text = found.first().map(ToString::to_string).unwrap_or_default();
    for part in [
        "Lost: message 0/2, there and not deleted, is missing",
        "client 1, 0.000000 to 0.000000 s (clock 1000000 to 1000000 ms), queue 0: post 2 from 0/1 on",
        "client 1, 0.000004 to 0.000005 s",
        "list up to 100, echo true, claimed ones true -> [7:1 (0/1)]",
    ] {
        assert!(text.contains(part), "{text}");
    }
}
