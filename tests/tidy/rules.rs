//! House rules that a machine can check, each with what to do instead.

use crate::tree::{Source, sources};

/// A file longer than this mostly holds two things.
const LINES_MAX: usize = 700;
/// Longer ones, how long they may be, and why.
const LONGER: [(&str, usize, &str); 0] = [];

/// A call that has a better one: where it may stand all the same.
struct Banned {
    call: &'static str,
    /// Files, and folders with a slash behind their names.
    allowed: &'static [&'static str],
    /// Whether tests, benchmarks and examples may call it.
    in_tests: bool,
    instead: &'static str,
}

const BANNED: [Banned; 8] = [
    Banned {
        call: "println!(",
        allowed: &["server/src/run.rs"],
        in_tests: true,
        instead: "use tracing, or the tools' Output; what a start prints is run.rs's",
    },
    Banned {
        call: "print!(",
        allowed: &[],
        in_tests: true,
        instead: "use tracing, or the tools' Output",
    },
    Banned {
        call: "cfg!(feature",
        // The one refuses what was left out, the other allows segments as small as simulated worlds have.
        allowed: &["server/src/config.rs", "engine/src/config.rs"],
        in_tests: false,
        instead: "a feature adds items and changes none: whatever is built along may switch it on",
    },
    Banned {
        call: "thread::sleep(",
        // All keep to a rate, in steps that closing cuts short. The next is a measurement, and the
        // last a client, which has to ask again.
        allowed: &[
            "engine/src/env/gentle.rs",
            "engine/src/upkeep/compact.rs",
            "engine/src/upkeep/segments.rs",
            "engine/benches/decisions/segment_reuse.rs",
            "server/examples/worker_pool.rs",
        ],
        in_tests: false,
        instead: "wait for a condition with a deadline, or move a ManualClock",
    },
    Banned {
        call: "SystemTime::now(",
        // app.rs makes request ids differ between starts; no decision depends on it. What the tools
        // print and measure is of now.
        allowed: &["engine/src/env/clock.rs", "server/src/app.rs", "tools/"],
        in_tests: true,
        instead: "take the time as an argument, or ask the Clock of the environment",
    },
    Banned {
        call: "fs::",
        allowed: &[
            "engine/src/env/os.rs",
            "engine/src/env/sim/",
            "server/src/config/sources.rs",
            "server/src/http/tls.rs",
            "server/src/metrics/process.rs",
            // Programs that read and write files of their users' choosing.
            "tools/",
            "fuzz/src/lib.rs",
            "fuzz/src/change.rs",
        ],
        in_tests: true,
        instead: "go through env::Disk, so that the simulated disk sees it",
    },
    Banned {
        call: "unsafe {",
        // The measurements are of what the engine does not do: stores through a map, entries for the
        // kernel's ring, which hold a pointer.
        allowed: &[
            "engine/src/env/os.rs",
            "engine/src/files/archive.rs",
            "engine/benches/decisions/disk.rs",
            "engine/benches/decisions/uring.rs",
        ],
        in_tests: false,
        instead: "put it where the rules that make it sound are written down",
    },
    Banned {
        call: "process::exit(",
        // Whoever sends a second signal wants no closing.
        allowed: &["server/src/signals.rs"],
        in_tests: false,
        instead: "return an ExitCode from main, so that everything is closed",
    },
];

#[test]
fn files_say_their_job_and_hold_one_thing() {
    let mut faults = Vec::new();
    for source in sources().iter().filter(|source| source.is_rust()) {
        let path = &source.path;
        if !source.text.starts_with("//! ") {
            faults.push(format!("{path}: the first line has to say what lives here (`//! …`)"));
        }
        let count = source.text.lines().count();
        let longer = LONGER.iter().find(|(file, ..)| file == path);
        let most = longer.map_or(LINES_MAX, |(_, most, _)| *most);
        if count > most {
            faults
                .push(format!("{path}: {count} lines, more than {most}: what is the second job?"));
        }
        if longer.is_some() && count <= LINES_MAX {
            faults.push(format!("{path}: short enough now, take it off the list of longer ones"));
        }
    }
    assert!(faults.is_empty(), "\n{}\n", faults.join("\n"));
}

#[test]
fn banned_calls_have_a_better_one() {
    let mut faults = Vec::new();
    for source in sources().iter().filter(|source| source.is_rust()) {
        for banned in &BANNED {
            let named = |allowed: &&str| match allowed.strip_suffix('/') {
                Some(_) => source.path.starts_with(*allowed),
                None => source.path == **allowed,
            };
            let is_allowed = banned.allowed.iter().any(named)
                || (banned.in_tests && source.is_beside_the_product())
                // This table names them.
                || source.path == "tests/tidy/rules.rs";
            if is_allowed {
                continue;
            }
            for (number, line) in source.code().filter(|(_, line)| calls(line, banned.call)) {
                let (path, instead) = (&source.path, banned.instead);
                faults.push(format!("{path}:{number}: {line}\n    {instead}"));
            }
        }
    }
    assert!(faults.is_empty(), "\n{}\n", faults.join("\n"));
}

/// Whether the line holds the call as a word of its own.
fn calls(line: &str, call: &str) -> bool {
    line.match_indices(call).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        !before.is_some_and(|letter| letter.is_alphanumeric() || letter == '_')
    })
}

#[test]
fn nothing_is_left_over() {
    // Put together here, so that this file does not hold them.
    let leftovers = ["TO DO", "FIX ME", "XX X", "HA CK:"].map(|word| word.replace(' ', ""));
    let folders = ["wo rk", "ro ot", "ho me", "Use rs"].map(|word| word.replace(' ', ""));
    let words = ["sess ion of", "sub agent", "lang uage model", "chat bot", "co pilot", "claud e"]
        .map(|word| word.replacen(' ', "", 1));
    let mut faults = Vec::new();
    for source in sources() {
        if source.path == "Cargo.lock" || source.path == "LICENSE" {
            continue;
        }
        for (number, line) in (1..).zip(source.text.lines()) {
            let mut fault = |what: &str| {
                faults.push(format!("{}:{number}: {what}: {}", source.path, line.trim()));
            };
            if leftovers.iter().any(|word| calls(line, word)) {
                fault("leftover");
            }
            if folders.iter().any(|folder| has_folder(line, folder)) {
                fault("a path of one machine");
            }
            let lower = line.to_lowercase();
            if words.iter().any(|word| lower.contains(word)) {
                fault("the project speaks of itself alone");
            }
        }
    }
    assert!(faults.is_empty(), "\n{}\n", faults.join("\n"));
}

/// Whether an absolute path into this folder stands in the line.
fn has_folder(line: &str, folder: &str) -> bool {
    let path = format!("/{folder}/");
    line.match_indices(&path).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        !before.is_some_and(|letter| letter.is_alphanumeric() || "._-}$*~".contains(letter))
    })
}

#[test]
fn every_module_file_is_used() {
    let all = sources();
    let rust: Vec<&Source> = all.iter().filter(|source| source.is_rust()).collect();
    let mut faults = Vec::new();
    for source in &rust {
        let Some((folder, file)) = source.path.rsplit_once('/') else { continue };
        let name = file.trim_end_matches(".rs");
        if matches!(name, "main" | "lib" | "build") {
            continue;
        }
        // A module is named by a file beside it, by the one its folder is named after, or it is a
        // target of its own.
        let (name, folder) = match name {
            "mod" => folder.rsplit_once('/').map_or((folder, ""), |(above, last)| (last, above)),
            name => (name, folder),
        };
        let is_target = ["tests", "benches", "examples", "bin", "fuzz_targets"]
            .iter()
            .any(|kind| folder.ends_with(&format!("/{kind}")));
        let parents = [
            format!("{folder}/mod.rs"),
            format!("{folder}/lib.rs"),
            format!("{folder}/main.rs"),
            format!("{folder}.rs"),
        ];
        let names_it = |parent: &&&Source| {
            parents.contains(&parent.path)
                && parent.text.lines().any(|line| line.trim().ends_with(&format!("mod {name};")))
        };
        if !is_target && !rust.iter().any(|parent| names_it(&parent)) {
            faults.push(format!("{}: no file names this module", source.path));
        }
    }
    assert!(faults.is_empty(), "\n{}\n", faults.join("\n"));
}
