//! Every limit of the API, with the names the configuration gives them, and the words of a refusal.
//! Pure; knows no store, sockets or status codes.

use super::fault::{Fault, Kind};
use serde::{Deserialize, Serialize};

/// What a request may ask for. Sizes are bytes, times seconds unless the name says otherwise.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Queues on a page when the request names no number.
    pub default_queues_per_page: usize,
    /// Most queues a page may be asked to hold.
    pub max_queues_per_page: usize,
    /// Messages on a page when the request names no number.
    pub default_messages_per_page: usize,
    /// Most messages a page may be asked to hold, and most ids in one request.
    pub max_messages_per_page: usize,
    /// Messages claimed when the request names no number.
    pub default_messages_per_claim: usize,
    /// Most messages one claim may be asked to take.
    pub max_messages_per_claim_or_pop: usize,
    /// Largest metadata document, blanks included.
    pub max_queue_metadata: usize,
    /// Largest body of a post (and of a claim), blanks included.
    pub max_messages_post_size: usize,
    /// Most messages in one post; 0 sets no bound but the size.
    pub max_messages_per_post: usize,
    /// Shortest life of a message.
    pub min_message_ttl: u32,
    /// Longest life of a message.
    pub max_message_ttl: u32,
    /// Shortest claim.
    pub min_claim_ttl: u32,
    /// Longest claim.
    pub max_claim_ttl: u32,
    /// Least grace of a new claim.
    pub min_claim_grace: u32,
    /// Most grace of a claim.
    pub max_claim_grace: u32,
    /// Longest queue name, in characters.
    pub max_queue_name_length: usize,
    /// Longest project id, in characters.
    pub max_project_id_length: usize,
    /// How deep arrays and objects may nest.
    pub json_depth_max: usize,
    /// Bytes of request bodies held at once, over all requests.
    pub bytes_in_flight_max: u64,
    /// How long a request's body may take to arrive, in milliseconds.
    pub body_read_timeout_ms: u64,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            default_queues_per_page: 10,
            max_queues_per_page: 20,
            default_messages_per_page: 10,
            max_messages_per_page: 20,
            default_messages_per_claim: 10,
            max_messages_per_claim_or_pop: 20,
            max_queue_metadata: 65_536,
            max_messages_post_size: 262_144,
            max_messages_per_post: 0,
            min_message_ttl: 60,
            max_message_ttl: 1_209_600,
            min_claim_ttl: 60,
            max_claim_ttl: 43_200,
            min_claim_grace: 60,
            max_claim_grace: 43_200,
            max_queue_name_length: 64,
            max_project_id_length: 256,
            json_depth_max: 1000,
            bytes_in_flight_max: 256 << 20,
            body_read_timeout_ms: 30_000,
        }
    }
}

/// A setting that breaks its bound.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{name} is {value}; it has to be {least} to {most}")]
pub struct BadLimit {
    /// The setting.
    pub name: &'static str,
    /// What it was set to.
    pub value: u64,
    /// The least it may be.
    pub least: u64,
    /// The most it may be.
    pub most: u64,
}

/// Most bytes a request body may be allowed to have.
const BODY_SIZE_MAX: u64 = 1 << 30;
/// Keys hold 4096 bytes a part, and a character of a project id may have four.
const PROJECT_LENGTH_MAX: u64 = 1024;
const NAME_LENGTH_MAX: u64 = 4096;

impl Limits {
    /// Checks the limits themselves; called before they are put in force.
    pub fn validate(&self) -> Result<(), BadLimit> {
        let no_most = u64::MAX;
        let seconds_max = u64::from(u32::MAX);
        let minimum_ttl = u64::from(self.min_message_ttl);
        let minimum_claim = u64::from(self.min_claim_ttl);
        let minimum_grace = u64::from(self.min_claim_grace);
        for (name, value, least, most) in [
            ("default_queues_per_page", self.default_queues_per_page as u64, 1, no_most),
            ("max_queues_per_page", self.max_queues_per_page as u64, 1, no_most),
            ("default_messages_per_page", self.default_messages_per_page as u64, 1, no_most),
            ("max_messages_per_page", self.max_messages_per_page as u64, 1, no_most),
            ("default_messages_per_claim", self.default_messages_per_claim as u64, 1, no_most),
            (
                "max_messages_per_claim_or_pop",
                self.max_messages_per_claim_or_pop as u64,
                1,
                no_most,
            ),
            ("max_queue_metadata", self.max_queue_metadata as u64, 2, BODY_SIZE_MAX),
            ("max_messages_post_size", self.max_messages_post_size as u64, 2, BODY_SIZE_MAX),
            ("min_message_ttl", minimum_ttl, 1, seconds_max),
            ("max_message_ttl", self.max_message_ttl.into(), minimum_ttl, seconds_max),
            ("min_claim_ttl", minimum_claim, 1, seconds_max),
            ("max_claim_ttl", self.max_claim_ttl.into(), minimum_claim, seconds_max),
            ("max_claim_grace", self.max_claim_grace.into(), minimum_grace, seconds_max),
            ("max_queue_name_length", self.max_queue_name_length as u64, 1, NAME_LENGTH_MAX),
            ("max_project_id_length", self.max_project_id_length as u64, 1, PROJECT_LENGTH_MAX),
            ("json_depth_max", self.json_depth_max as u64, 2, no_most),
            (
                "bytes_in_flight_max",
                self.bytes_in_flight_max,
                self.max_messages_post_size.max(self.max_queue_metadata) as u64,
                no_most,
            ),
            ("body_read_timeout_ms", self.body_read_timeout_ms, 1, no_most),
        ] {
            if value < least || value > most {
                return Err(BadLimit { name, value, least, most });
            }
        }
        Ok(())
    }

    /// How many queues a page holds, from the number asked for.
    pub fn queue_page(&self, asked: Option<i64>) -> Result<usize, Fault> {
        page(asked, self.default_queues_per_page, self.max_queues_per_page)
    }

    /// How many messages a page holds, from the number asked for.
    pub fn message_page(&self, asked: Option<i64>) -> Result<usize, Fault> {
        page(asked, self.default_messages_per_page, self.max_messages_per_page)
    }

    /// How many messages a claim takes, from the number asked for.
    pub fn claim_page(&self, asked: Option<i64>) -> Result<usize, Fault> {
        page(asked, self.default_messages_per_claim, self.max_messages_per_claim_or_pop)
    }

    /// Checks how many ids a request names, counted as sent.
    pub fn ids(&self, count: usize) -> Result<(), Fault> {
        if (1..=self.max_messages_per_page).contains(&count) {
            return Ok(());
        }
        let most = self.max_messages_per_page;
        Err(Fault::new(Kind::Refused, format!("ids names {count} messages; it takes 1 to {most}.")))
    }

    /// Checks how many messages a post holds.
    pub fn post_count(&self, count: usize) -> Result<(), Fault> {
        if count == 0 {
            return Err(Fault::new(
                Kind::Refused,
                "The array holds no message; it takes at least 1.",
            ));
        }
        let most = self.max_messages_per_post;
        if most > 0 && count > most {
            let text = format!("The array holds {count} messages; it takes at most {most}.");
            return Err(Fault::new(Kind::Refused, text));
        }
        Ok(())
    }

    /// Checks the life of a message.
    pub fn message_ttl(&self, ttl: i64) -> Result<u32, Fault> {
        within("ttl of a message", ttl, self.min_message_ttl, self.max_message_ttl)
    }

    /// Checks the life of a claim.
    pub fn claim_ttl(&self, ttl: i64) -> Result<u32, Fault> {
        within("ttl of a claim", ttl, self.min_claim_ttl, self.max_claim_ttl)
    }

    /// Checks the grace of a new claim.
    pub fn claim_grace(&self, grace: i64) -> Result<u32, Fault> {
        within("grace", grace, self.min_claim_grace, self.max_claim_grace)
    }

    /// Checks the grace of a renewal, which may be none.
    pub fn renewal_grace(&self, grace: i64) -> Result<u32, Fault> {
        within("grace", grace, 0, self.max_claim_grace)
    }

    /// Checks a queue's name.
    pub fn queue_name(&self, name: &str) -> Result<(), Fault> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
        // The allowed characters are one byte each, so bytes count characters once they pass.
        if name.bytes().all(allowed) && (1..=self.max_queue_name_length).contains(&name.len()) {
            return Ok(());
        }
        let most = self.max_queue_name_length;
        let text = format!(
            "A queue name has 1 to {most} characters, each a letter or digit of ASCII, '_', '-' or '.'."
        );
        Err(Fault::new(Kind::BadQueue, text))
    }

    /// Checks the length of a project id.
    pub fn project(&self, project: &str) -> Result<(), Fault> {
        if self.project_fits(project) {
            return Ok(());
        }
        let most = self.max_project_id_length;
        Err(Fault::new(Kind::BadQueue, format!("X-Project-Id takes at most {most} characters.")))
    }

    /// Whether a project id is short enough to have queues.
    pub fn project_fits(&self, project: &str) -> bool {
        let most = self.max_project_id_length;
        project.len() <= most || project.chars().count() <= most
    }
}

fn page(asked: Option<i64>, default: usize, most: usize) -> Result<usize, Fault> {
    let Some(asked) = asked else { return Ok(default.min(most)) };
    match usize::try_from(asked) {
        Ok(count) if (1..=most).contains(&count) => Ok(count),
        _ => Err(Fault::new(Kind::Refused, format!("limit has to be 1 to {most}."))),
    }
}

fn within(name: &str, value: i64, least: u32, most: u32) -> Result<u32, Fault> {
    match u32::try_from(value) {
        Ok(seconds) if (least..=most).contains(&seconds) => Ok(seconds),
        _ => {
            let text = format!("The {name} is {value}; it has to be {least} to {most} seconds.");
            Err(Fault::new(Kind::Refused, text))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_hold_and_bad_ones_are_named() {
        assert_eq!(Limits::default().validate(), Ok(()));
        let bad = Limits { max_message_ttl: 59, ..Limits::default() };
        assert_eq!(bad.validate().map_err(|bad| bad.name), Err("max_message_ttl"));
        let bad = Limits { max_queues_per_page: 0, ..Limits::default() };
        assert_eq!(bad.validate().map_err(|bad| bad.name), Err("max_queues_per_page"));
    }

    #[test]
    fn pages_have_a_default_a_least_and_a_most() {
        let limits = Limits::default();
        for (asked, size) in [(None, Some(10)), (Some(1), Some(1)), (Some(20), Some(20))] {
            assert_eq!(limits.message_page(asked).ok(), size);
        }
        for asked in [0, -1, 21, i64::MAX, i64::MIN] {
            assert!(limits.message_page(Some(asked)).is_err(), "{asked}");
        }
        let few = Limits { max_messages_per_page: 5, ..limits };
        assert_eq!(few.message_page(None).ok(), Some(5));
    }

    #[test]
    fn names_are_a_closed_alphabet() {
        let limits = Limits::default();
        for name in ["a", "TEST", "-", "_", "0", "a.b", &"i".repeat(64)] {
            assert!(limits.queue_name(name).is_ok(), "{name}");
        }
        for name in ["", "a b", "a\n", "a+b", "a@", "n\u{153}me", "\u{fffd}", &"i".repeat(65)] {
            assert!(limits.queue_name(name).is_err(), "{name}");
        }
        assert!(limits.project(&"\u{153}".repeat(256)).is_ok());
        assert!(limits.project(&"x".repeat(257)).is_err());
    }
}
