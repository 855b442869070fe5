//! Who names whom in the engine and in the server: read from the sources, and held against the
//! table in `docs/architecture.md`.

use crate::page::Page;
use crate::tree::{Source, sources};
use std::collections::{BTreeMap, BTreeSet};

type Arrows = BTreeMap<String, BTreeSet<String>>;

/// Folders of the engine whose files are told apart; elsewhere a folder is one node.
const TOLD_APART: [&str; 3] = ["log", "files", "state"];

#[test]
fn arrows_are_those_of_the_page() {
    let page = Page::read("docs/architecture.md");
    let tables = page.tables("Arrows");
    for (package, table) in ["engine", "server"].into_iter().zip(tables) {
        let (listed, closing) = read_table(&table);
        let found = read_sources(package);
        assert!(found.len() > 8, "{package}: the sources were to have more modules");
        let mut faults = Vec::new();
        for (from, to) in pairs(&found) {
            if !has(&listed, from, to) {
                faults.push(format!("{from} -> {to} is new: turn it round, or put it on the page"));
            }
        }
        for (from, to) in pairs(&listed) {
            if !has(&found, from, to) {
                faults.push(format!("{from} -> {to} is gone: take it off the page"));
            }
        }
        let mut open = found.clone();
        for (from, to) in &closing {
            open.entry(from.clone()).or_default().remove(to);
        }
        if let Some(circle) = circle(&open) {
            faults.push(format!("a circle: {}", circle.join(" -> ")));
        }
        for (from, to) in &closing {
            let mut one = open.clone();
            one.entry(from.clone()).or_default().insert(to.clone());
            if circle(&one).is_none() {
                faults.push(format!("{from} -> {to} closes no circle any more: drop its star"));
            }
        }
        assert!(faults.is_empty(), "{package}:\n{}\n", faults.join("\n"));
    }
}

#[test]
fn a_circle_is_found() {
    let arrow = |to: &str| BTreeSet::from([to.to_owned()]);
    let mut arrows = Arrows::from([("a".to_owned(), arrow("b")), ("b".to_owned(), arrow("c"))]);
    assert_eq!(circle(&arrows), None);
    arrows.insert("c".to_owned(), arrow("a"));
    assert!(circle(&arrows).is_some());
}

fn pairs(arrows: &Arrows) -> impl Iterator<Item = (&String, &String)> {
    arrows.iter().flat_map(|(from, all)| all.iter().map(move |to| (from, to)))
}

fn has(arrows: &Arrows, from: &str, to: &str) -> bool {
    arrows.get(from).is_some_and(|all| all.contains(to))
}

/// The arrows of a table, and those it marks as closing a circle.
fn read_table(rows: &[Vec<String>]) -> (Arrows, Vec<(String, String)>) {
    let (mut arrows, mut closing) = (Arrows::new(), Vec::new());
    for row in rows {
        let all = arrows.entry(row[0].clone()).or_default();
        for word in row[1].split_whitespace().filter(|word| *word != "–") {
            let to = word.trim_end_matches('*');
            all.insert(to.to_owned());
            if to != word {
                closing.push((row[0].clone(), to.to_owned()));
            }
        }
    }
    (arrows, closing)
}

fn read_sources(package: &str) -> Arrows {
    let prefix = format!("{package}/src/");
    let all = sources();
    let files: Vec<(&str, &Source)> = all
        .iter()
        .filter(|source| source.is_rust())
        .filter_map(|source| Some((source.path.strip_prefix(&prefix)?, source)))
        .filter(|(path, _)| !matches!(*path, "lib.rs" | "main.rs") && !path.ends_with("/tests.rs"))
        .collect();
    let nodes: BTreeSet<String> = files.iter().map(|(path, _)| node(path)).collect();
    let mut arrows = Arrows::new();
    for (path, source) in &files {
        let from = node(path);
        let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
        let code: Vec<&str> = source.code().map(|(_, line)| line).collect();
        let code = code.join(" ");
        let mut named: Vec<String> = paths_after(&code, "crate::");
        if path.ends_with("mod.rs") {
            named.extend(paths_after(&code, "self::").iter().map(|to| format!("{folder}::{to}")));
            // `mod.rs` says `use queue::Queue`.
            named.extend(paths_after(&code, "use ").iter().map(|to| format!("{folder}::{to}")));
        } else if !folder.is_empty() {
            named.extend(paths_after(&code, "super::").iter().map(|to| format!("{folder}::{to}")));
        }
        let all = arrows.entry(from.clone()).or_default();
        for to in named {
            if let Some(to) = resolve(&to, &nodes).filter(|to| *to != from) {
                all.insert(to);
            }
        }
    }
    // A folder's own file only says what is in it.
    for folder in ["log", "files"] {
        arrows.remove(folder);
    }
    arrows
}

/// The node a file belongs to.
fn node(path: &str) -> String {
    let path = path.trim_end_matches(".rs").trim_end_matches("/mod");
    let (first, rest) = path.split_once('/').unwrap_or((path, ""));
    if TOLD_APART.contains(&first) && !rest.is_empty() { path.to_owned() } else { first.to_owned() }
}

/// The node that a path like `log::frame::Head` names.
fn resolve(path: &str, nodes: &BTreeSet<String>) -> Option<String> {
    let mut parts = path.split("::");
    let first = parts.next()?;
    let second = parts.next().map(|second| format!("{first}/{second}"));
    let second = second.filter(|second| nodes.contains(second));
    second.or_else(|| nodes.contains(first).then(|| first.to_owned()))
}

/// The paths that follow `start`, two parts of each, braces opened.
fn paths_after(code: &str, start: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (at, _) in code.match_indices(start) {
        let rest = &code[at + start.len()..];
        if let Some(inside) = rest.strip_prefix('{') {
            found.extend(inside.split('}').next().unwrap_or("").split(',').map(first_words));
            continue;
        }
        let path = first_words(rest);
        match rest[path.len()..].strip_prefix('{') {
            Some(inside) => {
                let names = inside.split('}').next().unwrap_or("").split(',');
                found.extend(names.map(|name| format!("{path}{}", first_words(name))));
            }
            None => found.push(path),
        }
    }
    found
}

/// The path at the beginning of a text.
fn first_words(text: &str) -> String {
    let is_path = |letter: char| letter.is_alphanumeric() || letter == '_' || letter == ':';
    text.trim_start().chars().take_while(|letter| is_path(*letter)).collect()
}

/// A circle, if there is one.
fn circle(arrows: &Arrows) -> Option<Vec<String>> {
    fn follow(
        arrows: &Arrows,
        at: &str,
        way: &mut Vec<String>,
        done: &mut BTreeSet<String>,
    ) -> bool {
        if let Some(start) = way.iter().position(|node| node == at) {
            way.drain(..start);
            way.push(at.to_owned());
            return true;
        }
        if !done.insert(at.to_owned()) {
            return false;
        }
        way.push(at.to_owned());
        for to in arrows.get(at).into_iter().flatten() {
            if follow(arrows, to, way, done) {
                return true;
            }
        }
        way.pop();
        false
    }
    let mut done = BTreeSet::new();
    arrows.keys().find_map(|start| {
        let mut way = Vec::new();
        follow(arrows, start, &mut way, &mut done).then_some(way)
    })
}
