//! Gathers values from a file, the environment and the flags, in that order of rising precedence,
//! and remembers where each came from. Checks each value by itself; knows no relation between two,
//! and not what any is for.

use super::options::{CLIENT_VARIABLES, OPTIONS, RULES_NAME, SECTIONS, Spec, VARIABLE_PREFIX};
use super::value::Value;
use marconi_engine::{Durability, DurabilityRule};
use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Nobody said anything.
    Default,
    /// This line of the file.
    File(PathBuf, usize),
    /// This environment variable.
    Variable(String),
    /// This flag, dashes included.
    Flag(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Default => f.write_str("default"),
            Origin::File(file, line) => write!(f, "{}:{line}", file.display()),
            Origin::Variable(name) | Origin::Flag(name) => f.write_str(name),
        }
    }
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The command line is not one of ours, or asks for help or the version.
    #[error(transparent)]
    Usage(#[from] clap::Error),
    /// A value or a name was refused.
    #[error("{origin}: {what}")]
    Refused {
        /// Where it was found.
        origin: Origin,
        /// What is wrong with it.
        what: String,
    },
    /// The file cannot be read.
    #[error("cannot read the configuration file {}: {cause}", file.display())]
    File {
        /// The file.
        file: PathBuf,
        /// What the system said.
        cause: std::io::Error,
    },
}

impl ConfigError {
    pub(crate) fn refused(origin: &Origin, what: impl Into<String>) -> ConfigError {
        ConfigError::Refused { origin: origin.clone(), what: what.into() }
    }
}

/// A value of every option, with its origin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// In the order of [`OPTIONS`].
    values: Vec<(Value, Origin)>,
    rules: Vec<(DurabilityRule, Origin)>,
}

/// What the command line and the environment ask for, before any file is read.
#[derive(Debug, Clone)]
pub struct Request {
    /// The file to read, if one was named.
    pub file: Option<PathBuf>,
    /// Whether to print the configuration instead of serving.
    pub print_config: bool,
    flags: clap::ArgMatches,
    variables: Vec<(String, String)>,
}

impl Request {
    /// Takes the command line, program name included, and the environment apart.
    pub fn new(
        arguments: impl IntoIterator<Item = OsString>,
        environment: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<Request, ConfigError> {
        let flags = super::page::command().try_get_matches_from(arguments)?;
        let mut variables = Vec::new();
        for (name, value) in environment {
            let Some(name) = name.to_str().filter(|name| name.starts_with(VARIABLE_PREFIX)) else {
                continue;
            };
            if CLIENT_VARIABLES.contains(&name) {
                continue;
            }
            let value = value.into_string().map_err(|_| {
                ConfigError::refused(&Origin::Variable(name.to_owned()), "is not UTF-8")
            })?;
            variables.push((name.to_owned(), value));
        }
        let from_environment = variables
            .iter()
            .find(|(name, _)| name == "MARCONI_CONFIG")
            .map(|(_, file)| PathBuf::from(file));
        let file = flags.get_one::<PathBuf>("config").cloned().or(from_environment);
        Ok(Request { file, print_config: flags.get_flag("print_config"), flags, variables })
    }

    /// Reads the file, if there is one, and lays environment and flags over it. Can be done again,
    /// to see whether the file has changed.
    pub fn gather(&self) -> Result<Settings, ConfigError> {
        let text = match &self.file {
            None => String::new(),
            Some(file) => std::fs::read_to_string(file)
                .map_err(|cause| ConfigError::File { file: file.clone(), cause })?,
        };
        let mut settings = Settings::default();
        settings.read_file(self.file.as_deref().unwrap_or(Path::new("")), &text)?;
        settings.read_variables(&self.variables)?;
        settings.read_flags(&self.flags)?;
        Ok(settings)
    }
}

impl Default for Settings {
    fn default() -> Settings {
        let values = OPTIONS.iter().map(|spec| (spec.preset(), Origin::Default)).collect();
        Settings { values, rules: Vec::new() }
    }
}

impl Settings {
    /// The settings that a file with this text makes; for fuzzers.
    #[doc(hidden)]
    pub fn from_text(text: &str) -> Result<Settings, ConfigError> {
        let mut settings = Settings::default();
        settings.read_file(Path::new(""), text)?;
        Ok(settings)
    }

    /// The options with their values and origins, in the order of the table.
    pub fn iter(&self) -> impl Iterator<Item = (&'static Spec, &Value, &Origin)> {
        OPTIONS.iter().zip(&self.values).map(|(spec, (value, origin))| (spec, value, origin))
    }

    /// The queue rules with their origins; the first that matches counts.
    pub fn rules(&self) -> &[(DurabilityRule, Origin)] {
        &self.rules
    }

    /// Where the value of this option came from.
    ///
    /// # Panics
    /// When the table has no such option, as do the next two.
    pub fn origin(&self, name: &str) -> &Origin {
        &self.values[place(name)].1
    }

    /// The value of an option that takes a number.
    pub fn number(&self, name: &str) -> u64 {
        match &self.values[place(name)].0 {
            Value::Number(number) => *number,
            Value::Text(_) => panic!("{name} takes a text"),
        }
    }

    /// The value of an option that takes a text or a word.
    pub fn text(&self, name: &str) -> &str {
        match &self.values[place(name)].0 {
            Value::Text(text) => text,
            Value::Number(_) => panic!("{name} takes a number"),
        }
    }

    /// Puts a number in place of a default that does not fit what was set around it.
    pub(crate) fn lower_default(&mut self, name: &str, most: u64) {
        let (value, origin) = &mut self.values[place(name)];
        if *origin == Origin::Default && matches!(value, Value::Number(number) if *number > most) {
            *value = Value::Number(most);
        }
    }

    /// Takes over what can change while the server runs.
    pub(crate) fn adopt(&mut self, new: &Settings) {
        for ((spec, value), new) in OPTIONS.iter().zip(&mut self.values).zip(&new.values) {
            if spec.reloads {
                value.clone_from(new);
            }
        }
    }

    fn read_file(&mut self, file: &Path, text: &str) -> Result<(), ConfigError> {
        let at = |offset: usize| {
            let before = &text.as_bytes()[..offset.min(text.len())];
            let line = 1 + before.iter().filter(|byte| **byte == b'\n').count();
            Origin::File(file.to_owned(), line)
        };
        let document = DeTable::parse(text).map_err(|cause| {
            let offset = cause.span().map_or(0, |span| span.start);
            ConfigError::refused(&at(offset), cause.message().replace('\n', "; "))
        })?;
        for (section, content) in document.get_ref() {
            let origin = at(section.span().start);
            match (section.get_ref().as_ref(), content.get_ref()) {
                ("queue", DeValue::Array(rules)) => {
                    for rule in rules {
                        self.rules.push(read_rule(rule, &at)?);
                    }
                }
                ("queue", _) => {
                    return Err(ConfigError::refused(
                        &origin,
                        "write [[queue]], once for each rule",
                    ));
                }
                (name, DeValue::Table(table))
                    if SECTIONS.iter().any(|(known, _)| *known == name) =>
                {
                    self.read_section(name, table, &at)?;
                }
                (name, _) => {
                    let known = SECTIONS.map(|(known, _)| format!("[{known}]")).join(", ");
                    let what = format!("unknown section {name:?}; there are {known} and [[queue]]");
                    return Err(ConfigError::refused(&origin, what));
                }
            }
        }
        Ok(())
    }

    fn read_section(
        &mut self,
        section: &str,
        table: &DeTable<'_>,
        at: &impl Fn(usize) -> Origin,
    ) -> Result<(), ConfigError> {
        for (name, value) in table {
            let origin = at(name.span().start);
            let name = name.get_ref().as_ref();
            let refuse = |what: String| ConfigError::refused(&origin, what);
            let place = Spec::find(name)
                .ok_or_else(|| refuse(format!("unknown option {name:?} in [{section}]")))?;
            let spec = &OPTIONS[place];
            if spec.section != section {
                return Err(refuse(format!("{name} stands in [{}]", spec.section)));
            }
            let read = match value.get_ref() {
                DeValue::String(text) => spec.read(text),
                DeValue::Integer(integer) => u64::from_str_radix(integer.as_str(), integer.radix())
                    .map_or_else(|_| spec.read(integer.as_str()), |number| spec.check(number)),
                other => {
                    Err(format!("{name} is {}; it has to be {}", other.type_str(), spec.bounds()))
                }
            };
            self.values[place] = (read.map_err(refuse)?, origin);
        }
        Ok(())
    }

    fn read_variables(&mut self, variables: &[(String, String)]) -> Result<(), ConfigError> {
        let rules_variable = format!("{VARIABLE_PREFIX}{}", RULES_NAME.to_uppercase());
        for (variable, text) in variables {
            let origin = Origin::Variable(variable.clone());
            if variable == "MARCONI_CONFIG" {
                continue;
            }
            if *variable == rules_variable {
                self.rules = read_rules(text, &origin)?;
                continue;
            }
            let place = OPTIONS.iter().position(|spec| spec.variable() == *variable);
            let place = place.ok_or_else(|| {
                ConfigError::refused(&origin, "no such option; --help lists them all")
            })?;
            self.set(place, text, origin)?;
        }
        Ok(())
    }

    fn read_flags(&mut self, flags: &clap::ArgMatches) -> Result<(), ConfigError> {
        for (place, spec) in OPTIONS.iter().enumerate() {
            if let Some(text) = flags.get_one::<String>(spec.name) {
                self.set(place, text, Origin::Flag(format!("--{}", spec.flag())))?;
            }
        }
        if let Some(texts) = flags.get_many::<String>(RULES_NAME) {
            let origin = Origin::Flag(format!("--{}", RULES_NAME.replace('_', "-")));
            let rules =
                texts.map(|text| read_rules(text, &origin)).collect::<Result<Vec<_>, _>>()?;
            self.rules = rules.concat();
        }
        Ok(())
    }

    fn set(&mut self, place: usize, text: &str, origin: Origin) -> Result<(), ConfigError> {
        match OPTIONS[place].read(text) {
            Ok(value) => self.values[place] = (value, origin),
            Err(what) => return Err(ConfigError::refused(&origin, what)),
        }
        Ok(())
    }
}

fn place(name: &str) -> usize {
    Spec::find(name).unwrap_or_else(|| panic!("no option is called {name}"))
}

/// A rule of the file: `match` and `durability`, nothing else.
fn read_rule(
    rule: &Spanned<DeValue<'_>>,
    at: &impl Fn(usize) -> Origin,
) -> Result<(DurabilityRule, Origin), ConfigError> {
    let origin = at(rule.span().start);
    let refuse = |what: &str| ConfigError::refused(&origin, what);
    let table = rule.get_ref().as_table().ok_or_else(|| refuse("a queue rule is a table"))?;
    let (mut pattern, mut durability) = (None, None);
    for (name, value) in table {
        let origin = at(name.span().start);
        let name = name.get_ref().as_ref();
        let text = value.get_ref().as_str().ok_or_else(|| {
            ConfigError::refused(&origin, format!("{name} of a queue rule has to be a text"))
        })?;
        match name {
            "match" => pattern = Some(text.to_owned()),
            "durability" => durability = Some(read_durability(text, &origin)?),
            _ => {
                let what = format!("unknown {name:?} in a queue rule; it has match and durability");
                return Err(ConfigError::refused(&origin, what));
            }
        }
    }
    let pattern = pattern.ok_or_else(|| refuse("a queue rule needs match"))?;
    let durability = durability.ok_or_else(|| refuse("a queue rule needs durability"))?;
    Ok((DurabilityRule { pattern, durability }, origin))
}

/// Rules on one line: `telemetry-*=os,orders=each`.
fn read_rules(text: &str, origin: &Origin) -> Result<Vec<(DurabilityRule, Origin)>, ConfigError> {
    let rules = text.split(',').map(str::trim).filter(|rule| !rule.is_empty());
    rules
        .map(|rule| {
            let (pattern, level) = rule.split_once('=').ok_or_else(|| {
                ConfigError::refused(origin, format!("{rule:?} is no rule such as telemetry-*=os"))
            })?;
            let durability = read_durability(level.trim(), origin)?;
            let pattern = pattern.trim().to_owned();
            Ok((DurabilityRule { pattern, durability }, origin.clone()))
        })
        .collect()
}

fn read_durability(text: &str, origin: &Origin) -> Result<Durability, ConfigError> {
    text.parse().map_err(|cause| ConfigError::refused(origin, format!("{text:?}: {cause}")))
}
