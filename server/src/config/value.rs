//! One value: from text and back, within the bounds of its option.
//! Knows the kinds of options, but neither their names nor where a value came from.

use super::options::{ANY, Kind, Preset, Spec};
use std::fmt::Write;

/// What an option is set to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// A number, in the unit of the option's kind.
    Number(u64),
    /// A text or a word.
    Text(String),
}

/// Units of size with their bytes, largest first.
const SIZES: [(&str, u64); 5] =
    [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];
/// Units of time with their milliseconds, largest first.
const TIMES: [(&str, u64); 5] =
    [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];

impl Kind {
    /// What a plain number counts.
    pub fn unit(self) -> &'static str {
        match self {
            Kind::Bytes => "bytes",
            Kind::Milliseconds => "milliseconds",
            Kind::Seconds => "seconds",
            Kind::Count => "count",
            Kind::Text => "text",
            Kind::Choice(_) => "word",
        }
    }

    /// The units a text may use, and how much of the smallest unit a plain number's one is.
    fn units(self) -> (&'static [(&'static str, u64)], u64) {
        match self {
            Kind::Bytes => (&SIZES, 1),
            Kind::Milliseconds => (&TIMES, 1),
            Kind::Seconds => (&TIMES, 1000),
            Kind::Count | Kind::Text | Kind::Choice(_) => (&[], 1),
        }
    }

    /// A number as a person writes it: in the largest unit that leaves it whole.
    pub fn write(self, number: u64) -> String {
        let (units, scale) = self.units();
        let scaled = u128::from(number) * u128::from(scale);
        let unit = units.iter().find(|(_, size)| scaled.is_multiple_of(u128::from(*size)));
        match unit {
            Some((name, size)) if number > 0 => format!("{}{name}", scaled / u128::from(*size)),
            _ => number.to_string(),
        }
    }

    fn read(self, text: &str) -> Option<u64> {
        let digits = text.bytes().take_while(|byte| byte.is_ascii_digit() || *byte == b'_').count();
        let (number, unit) = text.split_at(digits);
        let number: u64 = number.replace('_', "").parse().ok()?;
        let unit = unit.trim_start();
        if unit.is_empty() {
            return Some(number);
        }
        let (units, scale) = self.units();
        let (_, size) = units.iter().find(|(name, _)| *name == unit)?;
        let scaled = number.checked_mul(*size)?;
        scaled.is_multiple_of(scale).then_some(scaled / scale)
    }
}

impl Spec {
    /// Its value when nobody says anything.
    pub fn preset(&self) -> Value {
        match self.preset {
            Preset::Number(number) => Value::Number(number),
            Preset::Text(text) => Value::Text(text.to_owned()),
        }
    }

    /// Reads a value written as text. An error says what the value has to be.
    pub fn read(&self, text: &str) -> Result<Value, String> {
        match self.kind {
            Kind::Text => Ok(Value::Text(text.to_owned())),
            Kind::Choice(words) if words.contains(&text) => Ok(Value::Text(text.to_owned())),
            Kind::Choice(_) => Err(self.refusal(text)),
            _ => {
                let number = self.kind.read(text).ok_or_else(|| self.refusal(text))?;
                self.check(number)
            }
        }
    }

    /// Takes a plain number, in the unit of the option.
    pub fn check(&self, number: u64) -> Result<Value, String> {
        match self.kind {
            Kind::Text | Kind::Choice(_) => Err(self.refusal(&number.to_string())),
            _ if number < self.least || number > self.most => {
                Err(self.refusal(&self.kind.write(number)))
            }
            _ => Ok(Value::Number(number)),
        }
    }

    fn refusal(&self, value: &str) -> String {
        format!("{} is {value:?}; it has to be {}", self.name, self.bounds())
    }

    /// What a value has to be, in words.
    pub fn bounds(&self) -> String {
        let form = match self.kind {
            Kind::Text => return "a text".to_owned(),
            Kind::Choice(words) => return format!("one of {}", words.join(", ")),
            Kind::Bytes => "a size such as 64MiB, ",
            Kind::Milliseconds => "a time such as 100ms or 2s, ",
            Kind::Seconds => "a time such as 60s or 1h in whole seconds, ",
            Kind::Count => "a number ",
        };
        format!("{form}{}", self.range())
    }

    /// Its bounds, from least to most; empty where it has none.
    pub fn range(&self) -> String {
        let mut text = String::new();
        match self.kind {
            Kind::Text => {}
            Kind::Choice(words) => text.push_str(&words.join(", ")),
            _ => {
                let _ = write!(text, "{} ", self.kind.write(self.least));
                match self.most {
                    ANY => text.push_str("or more"),
                    most => {
                        let _ = write!(text, "to {}", self.kind.write(most));
                    }
                }
            }
        }
        text
    }

    /// A value as a person writes it.
    pub fn show(&self, value: &Value) -> String {
        match value {
            Value::Number(number) => self.kind.write(*number),
            Value::Text(text) => text.clone(),
        }
    }

    /// A value as TOML.
    pub fn show_toml(&self, value: &Value) -> String {
        let text = self.show(value);
        match value {
            // A number without a unit needs no quotes.
            Value::Number(_) if text.bytes().all(|byte| byte.is_ascii_digit()) => text,
            _ => toml::Value::String(text).to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_in_every_unit_and_written_in_the_largest() {
        for (kind, text, expected) in [
            (Kind::Bytes, "64MiB", Some(64 << 20)),
            (Kind::Bytes, "64 MiB", Some(64 << 20)),
            (Kind::Bytes, "1_000", Some(1000)),
            (Kind::Bytes, "64MB", None),
            (Kind::Bytes, "MiB", None),
            (Kind::Bytes, "", None),
            (Kind::Bytes, "-1", None),
            (Kind::Bytes, "1.5MiB", None),
            (Kind::Bytes, "99999999TiB", None),
            (Kind::Milliseconds, "100ms", Some(100)),
            (Kind::Milliseconds, "2s", Some(2000)),
            (Kind::Milliseconds, "7", Some(7)),
            (Kind::Seconds, "1h", Some(3600)),
            (Kind::Seconds, "7", Some(7)),
            (Kind::Seconds, "1500ms", None),
            (Kind::Count, "12", Some(12)),
            (Kind::Count, "12s", None),
        ] {
            assert_eq!(kind.read(text), expected, "{kind:?} {text:?}");
        }
        for (kind, number, expected) in [
            (Kind::Bytes, 64 << 20, "64MiB"),
            (Kind::Bytes, 1000, "1000B"),
            (Kind::Bytes, 0, "0"),
            (Kind::Milliseconds, 75_000, "75s"),
            (Kind::Milliseconds, 1500, "1500ms"),
            (Kind::Seconds, 1_209_600, "14d"),
            (Kind::Seconds, 61, "61s"),
            (Kind::Count, 61, "61"),
        ] {
            assert_eq!(kind.write(number), expected);
            assert_eq!(kind.read(expected), Some(number), "{expected}");
        }
    }
}
