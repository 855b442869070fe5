//! Tells the program which commit it was built from, where git knows.

use std::process::Command;

fn main() {
    let git = |words: &[&str]| {
        let output = Command::new("git").args(words).output().ok()?;
        let text = String::from_utf8(output.stdout).ok()?;
        output.status.success().then(|| text.trim().to_owned())
    };
    let line = |text: String| {
        use std::io::Write;
        // Where cargo does not listen, nothing is lost but the name of the commit.
        let _ = writeln!(std::io::stdout(), "cargo::{text}");
    };
    if let Some(commit) = git(&["rev-parse", "--short=12", "HEAD"]) {
        line(format!("rustc-env=MARCONI_COMMIT={commit}"));
    }
    // It grows with every commit and every change of branch.
    match git(&["rev-parse", "--path-format=absolute", "--git-path", "logs/HEAD"]) {
        Some(log) if std::path::Path::new(&log).exists() => {
            line(format!("rerun-if-changed={log}"));
        }
        _ => line("rerun-if-changed=build.rs".to_owned()),
    }
}
