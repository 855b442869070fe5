//! `GET /queues`: the queues that matter most, by depth or by age, out of however many there are.
//! Keeps as many as it shows and no more. Knows no store; queues are shown to it one by one.

use marconi_engine::{QueueGlance, QueueKey};
use serde_json::{Value, json};
use std::collections::BinaryHeap;

/// Most queues in one answer.
const LIMIT_MAX: usize = 1000;
/// Queues in an answer when nobody says how many.
const LIMIT_DEFAULT: usize = 20;

/// What comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sort {
    /// The queue with the most messages.
    Depth,
    /// The queue with the oldest message.
    Age,
    /// The first in the order of projects and names.
    Name,
}

/// What was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Query {
    sort: Sort,
    limit: usize,
    /// The project asked for, empty for queues without one.
    project: Option<String>,
}

impl Query {
    /// Reads the part of a request's target behind `?`. An error names the parameter and its bounds.
    pub(super) fn read(text: &str) -> Result<Query, String> {
        let mut query = Query { sort: Sort::Depth, limit: LIMIT_DEFAULT, project: None };
        for (name, value) in form_urlencoded::parse(text.as_bytes()) {
            match (name.as_ref(), value.as_ref()) {
                ("sort", "depth") => query.sort = Sort::Depth,
                ("sort", "age") => query.sort = Sort::Age,
                ("sort", "name") => query.sort = Sort::Name,
                ("sort", value) => {
                    return Err(format!("sort is {value:?}; it has to be depth, age or name"));
                }
                ("limit", value) => {
                    let limit = value.parse().ok().filter(|limit| (1..=LIMIT_MAX).contains(limit));
                    query.limit = limit.ok_or_else(|| {
                        format!("limit is {value:?}; it has to be a number, 1 to {LIMIT_MAX}")
                    })?;
                }
                ("project", value) => {
                    if value.len() > QueueKey::PART_SIZE_MAX {
                        let (size, size_max) = (value.len(), QueueKey::PART_SIZE_MAX);
                        return Err(format!(
                            "project has {size} bytes; it may have {size_max} at most"
                        ));
                    }
                    query.project = Some(value.to_owned());
                }
                (name, _) => {
                    return Err(format!(
                        "no parameter is called {name:?}; there are sort, limit and project"
                    ));
                }
            }
        }
        Ok(query)
    }
}

/// The queues kept while all are shown.
#[derive(Debug)]
pub(super) struct Top {
    query: Query,
    total: u64,
    /// The one to give way to a better one is on top.
    kept: BinaryHeap<Kept>,
}

/// A queue by its place: the lower the rank, the earlier it is shown; equals by their keys.
#[derive(Debug)]
struct Kept {
    rank: u64,
    key: QueueKey,
    document: Value,
}

impl Kept {
    fn place(&self) -> (u64, &QueueKey) {
        (self.rank, &self.key)
    }
}

impl Ord for Kept {
    fn cmp(&self, other: &Kept) -> std::cmp::Ordering {
        self.place().cmp(&other.place())
    }
}

impl PartialOrd for Kept {
    fn partial_cmp(&self, other: &Kept) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Kept {
    fn eq(&self, other: &Kept) -> bool {
        self.place() == other.place()
    }
}

impl Eq for Kept {}

impl Top {
    pub(super) fn new(query: Query) -> Top {
        Top { query, total: 0, kept: BinaryHeap::new() }
    }

    /// Looks at one queue.
    pub(super) fn add(&mut self, glance: &QueueGlance<'_>) {
        let key = glance.key();
        let is_other = |project: &String| key.project().unwrap_or("") != project;
        if self.query.project.as_ref().is_some_and(is_other) {
            return;
        }
        self.total += 1;
        let rank = match self.query.sort {
            Sort::Depth => u64::MAX - glance.messages(),
            // What cannot be read comes first: somebody has to see it.
            Sort::Age => glance.oldest_created_ms().map_or(0, |oldest| oldest.unwrap_or(u64::MAX)),
            Sort::Name => 0,
        };
        if self.kept.len() == self.query.limit {
            let last = self.kept.peek().expect("the limit is above 0");
            if last.place() <= (rank, key) {
                return;
            }
            self.kept.pop();
        }
        self.kept.push(Kept { rank, key: key.clone(), document: document(glance) });
    }

    /// How many queues there are, and those that come first.
    pub(super) fn document(self) -> Value {
        let queues = self.kept.into_sorted_vec().into_iter().map(|kept| kept.document);
        json!({ "total": self.total, "queues": queues.collect::<Vec<_>>() })
    }
}

fn document(glance: &QueueGlance<'_>) -> Value {
    let (messages, claimed) = (glance.messages(), glance.claimed());
    let mut document = json!({
        "project": glance.key().project(),
        "name": glance.key().name(),
        "free": messages.saturating_sub(claimed),
        "claimed": claimed,
        "claims": glance.claims(),
        "durability": glance.durability().name(),
    });
    let ends =
        glance.oldest_created_ms().and_then(|oldest| Ok((oldest, glance.newest_created_ms()?)));
    match ends {
        Ok((oldest, newest)) => {
            document["oldest_created_ms"] = json!(oldest);
            document["oldest_age_ms"] = json!(oldest.map(|oldest| glance.age_ms(oldest)));
            document["newest_created_ms"] = json!(newest);
        }
        Err(cause) => document["error"] = json!(cause.to_string()),
    }
    document
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_name_the_parameter_and_its_bounds() {
        let read = |text| Query::read(text).map(|_| ());
        let all = "sort=age&limit=1000&project=";
        assert_eq!(read(all), Ok(()));
        for (text, refused) in [
            ("sort=size", "sort is \"size\"; it has to be depth, age or name"),
            ("limit=0", "limit is \"0\"; it has to be a number, 1 to 1000"),
            ("limit=1001", "limit is \"1001\"; it has to be a number, 1 to 1000"),
            ("limit=ten", "limit is \"ten\"; it has to be a number, 1 to 1000"),
            ("order=age", "no parameter is called \"order\"; there are sort, limit and project"),
        ] {
            assert_eq!(read(text), Err(refused.to_owned()));
        }
        let long = format!("project={}", "x".repeat(4097));
        assert_eq!(read(&long), Err("project has 4097 bytes; it may have 4096 at most".to_owned()));
    }
}
