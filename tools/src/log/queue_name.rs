//! How queues are written on a command line and shown: `PROJECT/QUEUE`, or `QUEUE` for one without a
//! project. Knows no folder.

use marconi_engine::QueueKey;
use serde::Serialize;

/// Reads the name of a queue. What stands before the last slash is the project; nothing there, or no
/// slash, is the queue without a project.
pub(crate) fn parse(text: &str) -> Result<QueueKey, String> {
    let (project, name) = text.rsplit_once('/').unwrap_or(("", text));
    if name.is_empty() {
        return Err("it has to be PROJECT/QUEUE, or QUEUE for one without a project".to_owned());
    }
    let longest = QueueKey::PART_SIZE_MAX;
    QueueKey::new(Some(project), name)
        .ok_or_else(|| format!("project and queue have at most {longest} bytes each"))
}

/// The name as [`parse`] reads it.
pub(crate) fn shown(key: &QueueKey) -> String {
    match key.project() {
        Some(project) => format!("{project}/{}", key.name()),
        None => key.name().to_owned(),
    }
}

/// The name in a document for programs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Name {
    project: Option<String>,
    queue: String,
}

impl From<&QueueKey> for Name {
    fn from(key: &QueueKey) -> Name {
        Name { project: key.project().map(str::to_owned), queue: key.name().to_owned() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_read_as_it_is_shown() {
        for (text, project, name, back) in [
            ("jobs", None, "jobs", "jobs"),
            ("/jobs", None, "jobs", "jobs"),
            ("acme/jobs", Some("acme"), "jobs", "acme/jobs"),
            ("acme/eu/jobs", Some("acme/eu"), "jobs", "acme/eu/jobs"),
        ] {
            let key = parse(text).expect("a name");
            assert_eq!((key.project(), key.name()), (project, name), "{text}");
            assert_eq!(shown(&key), back);
            assert_eq!(parse(back), Ok(key));
        }
        for text in ["", "acme/", "/"] {
            assert!(parse(text).is_err(), "{text:?}");
        }
    }
}
