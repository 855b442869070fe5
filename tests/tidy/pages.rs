//! The pages name what is there: tests that hold promises, files, other pages, the one test command.

use crate::page::{Page, root};
use crate::tree::sources;
use marconi_engine::{ClaimId, MessageId};

/// Pages whose code spans name files from the top of the tree, or from a package's sources.
const PAGES: [&str; 5] =
    ["README.md", "docs/README.md", "docs/architecture.md", "docs/durability.md", "docs/api.md"];

#[test]
fn every_promise_names_a_test_that_exists() {
    let page = Page::read("docs/durability.md");
    let rows = page.table("Promises, and the test of each");
    assert!(rows.len() > 8, "the table of promises is short");
    for row in rows {
        let named = row.last().expect("a last cell");
        assert!(!named.is_empty(), "no test holds {:?}", row[0]);
        for one in named.split(", ") {
            let (file, name) = one.split_once(' ').unwrap_or_else(|| panic!("{one:?}"));
            let text = std::fs::read_to_string(root().join(file));
            let text = text.unwrap_or_else(|cause| panic!("{file}: {cause}"));
            let number = name.strip_prefix("case ");
            let is_there = match number {
                Some(number) => {
                    text.lines().any(|line| line.starts_with(&format!("case {number} ")))
                }
                None => text.contains(&format!("fn {name}(")),
            };
            assert!(is_there, "{file} has no test {name}");
        }
    }
}

#[test]
fn files_and_links_lead_somewhere() {
    let all = sources();
    let mut faults = Vec::new();
    for source in all.iter().filter(|source| source.path.ends_with(".md")) {
        let folder = root().join(&source.path);
        let folder = folder.parent().expect("a page lies in a folder");
        for link in source.text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let file = link.split('#').next().unwrap_or("");
            if !link.contains("://") && !file.is_empty() && !folder.join(file).exists() {
                faults.push(format!("{}: the link {link} leads nowhere", source.path));
            }
        }
    }
    for name in PAGES {
        let page = Page::read(name);
        for span in page.text.split('`').skip(1).step_by(2) {
            let is_file = span.contains('/') && span.ends_with(".rs") && !span.contains(' ');
            let bases = ["", "engine/src", "server/src"];
            if is_file && !bases.iter().any(|base| root().join(base).join(span).exists()) {
                faults.push(format!("{name}: there is no file {span}"));
            }
        }
    }
    assert!(faults.is_empty(), "\n{}\n", faults.join("\n"));
}

/// Whoever tries an example is told that there is no such message, not that this is no id.
#[test]
fn ids_of_examples_are_ids() {
    let text = Page::read("docs/api.md").text;
    let after = |start: &str| -> Vec<String> {
        let is_of_id = |letter: &char| letter.is_ascii_alphanumeric() || "-_".contains(*letter);
        let ids = text.split(start).skip(1).map(|rest| rest.chars().take_while(is_of_id).collect());
        ids.filter(|id: &String| !id.is_empty()).collect()
    };
    let (messages, claims) = (after("/messages/"), after("/claims/"));
    assert!(messages.len() > 4 && claims.len() > 2, "the page has fewer examples than it had");
    for id in messages {
        assert!(id.parse::<MessageId>().is_ok(), "{id} is no message's id");
    }
    for id in claims {
        assert!(id.parse::<ClaimId>().is_ok(), "{id} is no claim's id");
    }
}

#[test]
fn one_command_tests_everything() {
    let readme = Page::read("README.md");
    let script = Page::read(".ci/run");
    let command = script.text.lines().find_map(|line| line.strip_prefix("step tests "));
    let command = command.expect("a step that tests");
    assert!(readme.text.contains(command), "README.md does not name the command {command:?}");
}
