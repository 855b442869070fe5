//! What was acknowledged and is still to be there, for all clients together. Knows no server.

use anyhow::ensure;
use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

/// How far beside the times between which a message has to die by our reckoning the server's may lie.
const SLACK: Duration = Duration::from_secs(2);

/// When a message dies by itself, at the earliest and at the latest: it was posted at some time between question and answer.
pub(super) type Death = (Instant, Instant);

/// The messages by their links, which name queue and id.
#[derive(Debug, Default)]
pub(super) struct Book {
    /// Each with when it dies by itself, if that is soon.
    alive: HashMap<String, Option<Death>>,
    /// Each message that a client holds: no other may get it.
    held: HashSet<String>,
    /// Deleted by one client before another heard that it was posted.
    early: HashSet<String>,
    /// All messages ever acknowledged.
    pub(super) posted: u64,
}

impl Book {
    /// Messages that live.
    pub(super) fn len(&self) -> usize {
        self.alive.len()
    }

    /// One was acknowledged.
    pub(super) fn posted(&mut self, link: String, dies: Option<Death>) -> anyhow::Result<()> {
        self.posted += 1;
        if self.early.remove(&link) {
            return Ok(());
        }
        let before = self.alive.insert(link, dies);
        ensure!(before.is_none(), "an id was given twice");
        Ok(())
    }

    /// One was given to a claim that its client will end before it runs out.
    pub(super) fn claimed(&mut self, link: &str) -> anyhow::Result<()> {
        ensure!(self.held.insert(link.to_owned()), "{link} was given to two claims");
        Ok(())
    }

    /// One is held no more, since its client is about to release it.
    pub(super) fn released(&mut self, link: &str) {
        self.held.remove(link);
    }

    /// One was deleted, and that acknowledged.
    pub(super) fn deleted(&mut self, link: &str) {
        self.held.remove(link);
        if self.alive.remove(link).is_none() {
            self.early.insert(link.to_owned());
        }
    }

    /// What is listed while nobody asks for anything is what lives.
    pub(super) fn compare(&mut self, listed: &[String], asked: Instant) -> anyhow::Result<()> {
        let answered = Instant::now();
        ensure!(self.early.is_empty(), "claimed, deleted, and never posted: {:?}", self.early);
        let seen: HashSet<&String> = listed.iter().collect();
        ensure!(seen.len() == listed.len(), "a message is listed twice");
        for link in listed {
            let dies = self.alive.get(link);
            let is_late =
                |dies: &Option<Death>| dies.is_some_and(|(_, latest)| asked > latest + SLACK);
            ensure!(dies.is_some(), "{link} is there, and is not acknowledged, or was deleted");
            ensure!(!dies.is_some_and(is_late), "{link} is there, and its time is over");
        }
        for (link, dies) in &self.alive {
            let may_be_gone = dies.is_some_and(|(earliest, _)| answered + SLACK > earliest);
            ensure!(may_be_gone || seen.contains(link), "{link} was acknowledged, and is lost");
        }
        self.alive.retain(|link, dies| dies.is_none() || seen.contains(link));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_lost_back_late_or_held_twice_is_told() {
        let now = Instant::now();
        let mut book = Book::default();
        book.posted("a".to_owned(), None).expect("it is new");
        book.posted("b".to_owned(), Some((now, now + SLACK))).expect("it is new");
        assert!(book.posted("a".to_owned(), None).is_err());
        book.compare(&["a".to_owned(), "b".to_owned()], now).expect("both live");
        assert!(book.compare(&["b".to_owned()], now).is_err(), "a is lost");
        assert!(
            book.compare(&["a".to_owned(), "b".to_owned()], now + 3 * SLACK).is_err(),
            "b is late"
        );
        book.claimed("a").expect("it is free");
        assert!(book.claimed("a").is_err());
        book.deleted("a");
        assert!(book.compare(&["a".to_owned()], now).is_err(), "a is back");
        book.compare(&[], now).expect("b may have died");
        assert_eq!(book.len(), 0);
        book.deleted("c");
        assert!(book.compare(&[], now).is_err(), "c was never posted");
        book.posted("c".to_owned(), None).expect("it was");
        book.compare(&[], now).expect("c is gone");
        // Its answer took a minute: it may have been posted before that, or only now.
        let (soon, late) = (now + Duration::from_secs(1), now + Duration::from_secs(61));
        book.posted("d".to_owned(), Some((soon, late))).expect("it is new");
        book.compare(&["d".to_owned()], soon + Duration::from_secs(30)).expect("it may live");
        book.compare(&[], now).expect("and may be dead");
        book.posted("e".to_owned(), Some((late, late))).expect("it is new");
        assert!(book.compare(&[], now).is_err(), "e is lost");
    }
}
