//! What holds for every command of the program: its help is whole, its examples are commands that it
//! takes, and it has a page in the manual.

use super::Cli;
use clap::{Command, CommandFactory, Parser};

/// The commands that do something, each with the words that lead to it. Hidden ones are for the program
/// itself, and for who packages it.
fn leaves() -> Vec<(String, Command)> {
    let mut program = Cli::command().disable_help_subcommand(true);
    program.build();
    let (mut open, mut found) = (vec![(program.get_name().to_owned(), program)], Vec::new());
    while let Some((path, command)) = open.pop() {
        let inner = command.get_subcommands().filter(|inner| !inner.is_hide_set());
        open.extend(inner.map(|inner| (format!("{path} {}", inner.get_name()), inner.clone())));
        if !command.is_subcommand_required_set() {
            found.push((path, command));
        }
    }
    assert!(found.len() > 20, "{found:?}");
    found
}

/// The lines below `Examples:` in what follows a command's help.
fn examples(command: &Command) -> Vec<String> {
    let text = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    let lines = text.lines().skip_while(|line| line.trim() != "Examples:").skip(1);
    lines.map(|line| line.trim().to_owned()).filter(|line| !line.is_empty()).collect()
}

/// The words of a line as a shell would take them, up to where another command begins.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    for letter in line.chars() {
        match (quote, letter) {
            (Some(open), letter) if letter == open => quote = None,
            (None, '\'' | '"') => {
                quote = Some(letter);
                word.get_or_insert_default();
            }
            (None, ' ') => words.extend(word.take()),
            (None, '|' | '>' | '<' | '&' | '#') => break,
            (_, letter) => word.get_or_insert_default().push(letter),
        }
    }
    words.extend(word);
    words
}

#[test]
fn every_command_and_every_option_is_explained() {
    let mut faults = Vec::new();
    for (path, command) in leaves() {
        if command.get_about().is_none() {
            faults.push(format!("{path}: says not what it does"));
        }
        for argument in command.get_arguments() {
            let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
            if help.is_empty() {
                faults.push(format!("{path}: {} is not explained", argument.get_id()));
            }
        }
    }
    assert!(faults.is_empty(), "\n{}\n", faults.join("\n"));
}

#[test]
fn every_command_has_two_examples_that_it_takes() {
    let mut faults = Vec::new();
    for (path, command) in leaves() {
        let examples = examples(&command);
        if examples.len() < 2 {
            faults.push(format!("{path}: has {} examples below `Examples:`", examples.len()));
        }
        let prefix = format!("{path} ");
        if !examples.iter().any(|line| line.contains(prefix.trim_end())) {
            faults.push(format!("{path}: no example names it"));
        }
        for line in examples {
            // What an example is for may stand behind it, apart.
            let line = line.split("  ").next().unwrap_or_default();
            for piece in line.split(" | ").filter(|piece| piece.starts_with("marconi ")) {
                if let Err(error) = Cli::try_parse_from(words(piece)) {
                    faults.push(format!("{path}: {piece}\n    {}", error.to_string().trim()));
                }
            }
        }
    }
    assert!(faults.is_empty(), "\n{}\n", faults.join("\n"));
}

#[test]
fn every_command_has_a_page_in_the_manual() {
    let folder = tempfile::tempdir().expect("a folder");
    clap_mangen::generate_to(Cli::command(), folder.path()).expect("pages");
    for (path, command) in leaves() {
        let page = folder.path().join(format!("{}.1", path.replace(' ', "-")));
        let page = std::fs::read_to_string(&page).unwrap_or_else(|cause| panic!("{path}: {cause}"));
        let about = command.get_about().expect("it says what it does").to_string();
        let about = about.replace('-', r"\-").replace('\'', r"\*(Aq");
        assert!(page.contains(&about), "{path}: {page}");
    }
}

#[test]
fn shells_learn_every_command() {
    use clap_complete::Shell;
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        let mut script = Vec::new();
        clap_complete::generate(shell, &mut Cli::command(), "marconi", &mut script);
        let script = String::from_utf8(script).expect("text");
        for (path, command) in leaves() {
            assert!(script.contains(command.get_name()), "{shell}: {path} is not there");
        }
    }
}

#[test]
fn words_are_taken_as_a_shell_takes_them() {
    let line = r#"marconi message post jobs '{"n": 1}' --ttl 1h > file"#;
    assert_eq!(words(line), ["marconi", "message", "post", "jobs", r#"{"n": 1}"#, "--ttl", "1h"]);
}
