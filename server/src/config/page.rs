//! The options as a person reads them: the command line with its help, the configuration in force
//! as a file, and the page `docs/configuration.md`. All follow from the table.

use super::options::{Kind, OPTIONS, RULES_NAME, SECTIONS, Spec};
use super::sources::Settings;
use clap::{Arg, ArgAction, Command, value_parser};
use std::fmt::Write;
use std::path::PathBuf;

/// The command line.
pub(super) fn command() -> Command {
    let mut command = Command::new("marconi-server")
        .version(env!("CARGO_PKG_VERSION"))
        .about("A durable message queue over HTTP")
        .after_help(
            "Every option can also be set in the file (as name_with_underscores, in the section of \
             its heading) and in the environment (as MARCONI_NAME). A flag outranks the \
             environment, which outranks the file.",
        )
        .arg(
            Arg::new("config")
                .long("config")
                .value_name("FILE")
                .value_parser(value_parser!(PathBuf))
                .help("The configuration file, in TOML [MARCONI_CONFIG; none by default]"),
        )
        .arg(
            Arg::new("print_config")
                .long("print-config")
                .action(ArgAction::SetTrue)
                .help("Prints every value with its origin, as a configuration file, and ends"),
        );
    for spec in OPTIONS {
        command = command.arg(
            Arg::new(spec.name)
                .long(spec.flag())
                .value_name(spec.kind.unit().to_uppercase())
                .help(help(spec))
                .help_heading(heading(spec.section))
                .allow_hyphen_values(true),
        );
    }
    command.arg(
        Arg::new(RULES_NAME)
            .long(RULES_NAME.replace('_', "-"))
            .value_name("PATTERN=LEVEL,...")
            .action(ArgAction::Append)
            .help("Durability by queue name; * stands for anything, and the first match counts")
            .help_heading(heading("storage")),
    )
}

fn heading(section: &str) -> String {
    let about = SECTIONS.iter().find(|(name, _)| *name == section).map_or("", |(_, about)| about);
    format!("[{section}] {about}")
}

fn help(spec: &Spec) -> String {
    let preset = spec.show(&spec.preset());
    let preset = if preset.is_empty() { "none".to_owned() } else { preset };
    match spec.range() {
        range if range.is_empty() => format!("{} [default: {preset}]", spec.help),
        range => format!("{} [default: {preset}; {range}]", spec.help),
    }
}

/// Every value with its unit and origin, as a file that sets the same.
pub fn print(settings: &Settings) -> String {
    let mut text = String::new();
    for (section, about) in SECTIONS {
        let _ = writeln!(text, "# {about}.\n[{section}]");
        for (spec, value, origin) in settings.iter().filter(|(spec, ..)| spec.section == section) {
            let value = spec.show_toml(value);
            let _ = writeln!(text, "{} = {value} # {}; {origin}", spec.name, spec.kind.unit());
        }
        text.push('\n');
    }
    for (rule, origin) in settings.rules() {
        let pattern = toml::Value::String(rule.pattern.clone());
        let _ = writeln!(
            text,
            "[[queue]] # {origin}\nmatch = {pattern}\ndurability = \"{}\"\n",
            rule.durability
        );
    }
    text.truncate(text.trim_end().len());
    text.push('\n');
    text
}

/// The page `docs/configuration.md`.
pub fn document() -> String {
    let mut text = INTRODUCTION.to_owned();
    for (section, about) in SECTIONS {
        let _ = write!(
            text,
            "\n## `[{section}]`\n\n{about}.\n\n\
             | option | default | bounds | unit of a plain number | reload | meaning |\n\
             | --- | --- | --- | --- | --- | --- |\n"
        );
        for spec in OPTIONS.iter().filter(|spec| spec.section == section) {
            let preset = spec.show(&spec.preset());
            let preset = if preset.is_empty() { "none".to_owned() } else { format!("`{preset}`") };
            let unit = match spec.kind {
                Kind::Text | Kind::Choice(_) | Kind::Count => "",
                kind => kind.unit(),
            };
            let reload = if spec.reloads { "yes" } else { "" };
            let _ = writeln!(
                text,
                "| `{}` | {preset} | {} | {unit} | {reload} | {} |",
                spec.name,
                spec.range(),
                spec.help
            );
        }
    }
    text.push_str(ENDING);
    text
}

const INTRODUCTION: &str = "\
# Configuration

Nothing has to be configured: without a word the server listens on `127.0.0.1:8888` and keeps its data
in `./data`. This page is made from the table of options in `server/src/config/options.rs`, and a test
compares the two.

## Where values come from

1. The file: TOML, named by `--config FILE` or by `MARCONI_CONFIG`. There is none by default.
2. The environment: `MARCONI_` and the option's name in capitals, such as `MARCONI_MAX_MESSAGE_TTL`.
3. Flags: the option's name with dashes, such as `--max-message-ttl`.

A later one outranks an earlier one. The names are the same in all three, and unique over all sections.
`--print-config` prints every value with where it came from, in the form of a file, and ends. `--help`
lists the flags. The variables of the client on the command line, such as `MARCONI_URL` and
`MARCONI_PROJECT`, are none of the server's, and it passes them over.

A name nobody knows and a value out of its bounds stop the start, with the name, the bound and the place:

```text
marconi-server: /etc/marconi.toml:7: segment_size_bytes is \"1KiB\"; it has to be a size such as 64MiB, 1MiB to 1GiB
```

Sizes are written `64MiB` (B, KiB, MiB, GiB, TiB), times `100ms`, `2s`, `5m`, `1h`, `14d`; a plain number
counts in the unit the tables name.

\"Reload: yes\" means that SIGHUP reads the file again and puts a new value in force. The others need a
restart, and the log says so when they have changed.

A default page is lowered to its maximum where that is set below it.
";

const ENDING: &str = "
## `[[queue]]`

Durability by queue name: one table for each rule. The first rule that matches counts; where none does,
`durability` of `[storage]` does. A queue or a request may ask for more, never for less.

```toml
[[queue]]
match = \"telemetry-*\"  # * stands for any run of characters
durability = \"os\"      # memory, os, interval, group or each
```

In the environment: `MARCONI_QUEUE_DURABILITY=telemetry-*=os,orders=each`; as a flag:
`--queue-durability 'telemetry-*=os'`, once or more often. Either replaces all rules of the file.
";
