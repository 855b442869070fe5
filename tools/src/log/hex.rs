//! A frame byte by byte, with its fields named. Knows no layout: the engine tells which fields there
//! are.

use crate::output::{Output, Tone};
use marconi_engine::inspect::Field;
use marconi_export::body::shown;
use std::fmt::Write;
use std::io;

/// Bytes on a line.
const LINE_SIZE: usize = 16;
/// A field longer than this is cut, where it is not asked for whole.
const CUT_SIZE: usize = 8 * LINE_SIZE;
/// And a value longer than so many characters.
const VALUE_LENGTH_MAX: usize = 40;

/// Prints the frame, each field on lines of its own. `whole`: also what is long.
pub(crate) fn dump(
    bytes: &[u8],
    fields: &[Field],
    whole: bool,
    output: &mut Output,
) -> io::Result<()> {
    let name_width = fields.iter().map(|field| field.name.chars().count()).max().unwrap_or(0);
    for field in fields {
        let end = field.offset.saturating_add(field.size).min(bytes.len());
        let content = bytes.get(field.offset..end).unwrap_or_default();
        let content_shown = if whole { content } else { &content[..content.len().min(CUT_SIZE)] };
        let mut lines = content_shown.chunks(LINE_SIZE);
        let first = hex(lines.next().unwrap_or_default());
        let offset = output.tone(Tone::Dim, format_args!("{:06x}", field.offset));
        let name = output.tone(Tone::Heading, format_args!("{:<name_width$}", field.name));
        let width = 3 * LINE_SIZE - 1;
        let mut value = shown(field.value.as_bytes());
        if !whole && value.chars().count() > VALUE_LENGTH_MAX {
            value = value.chars().take(VALUE_LENGTH_MAX).chain(['…']).collect();
        }
        let line = format!("    {offset}  {first:<width$}  {name}  {value}");
        output.line(line.trim_end())?;
        for (number, line) in (1..).zip(lines) {
            let offset = field.offset + number * LINE_SIZE;
            let offset = output.tone(Tone::Dim, format_args!("{offset:06x}"));
            output.line(format_args!("    {offset}  {}", hex(line)))?;
        }
        if content_shown.len() < content.len() {
            let left = content.len() - content_shown.len();
            output.line(format_args!("            and {left} bytes more (--bodies shows them)"))?;
        }
    }
    Ok(())
}

/// The bytes in hex, as a document for programs has them: without spaces.
pub(crate) fn plain(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        write!(text, "{byte:02x}").expect("a string takes all");
    }
    text
}

fn hex(bytes: &[u8]) -> String {
    let texts: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    texts.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dumped(whole: bool) -> String {
        let field = |offset, size, name: &str, value: &str| Field {
            offset,
            size,
            name: name.to_owned(),
            value: value.to_owned(),
        };
        let bytes: Vec<u8> = (0..=255).collect();
        let fields = [
            field(0, 4, "crc", "0x03020100"),
            field(4, 20, "body", "…"),
            field(24, 200, "rest", ""),
        ];
        let (mut output, captured) = Output::captured(false);
        dump(&bytes, &fields, whole, &mut output).expect("a buffer takes all");
        output.flush().expect("a buffer takes all");
        captured.text()
    }

    #[test]
    fn fields_are_named_beside_their_bytes() {
        let text = dumped(false);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            lines[..4],
            [
                "    000000  00 01 02 03                                      crc   0x03020100",
                "    000004  04 05 06 07 08 09 0a 0b 0c 0d 0e 0f 10 11 12 13  body  …",
                "    000014  14 15 16 17",
                "    000018  18 19 1a 1b 1c 1d 1e 1f 20 21 22 23 24 25 26 27  rest",
            ]
        );
        assert_eq!(lines[11], "            and 72 bytes more (--bodies shows them)");
        assert_eq!(lines.len(), 12);
        assert_eq!(dumped(true).lines().count(), 3 + 13);
    }
}
