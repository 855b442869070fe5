//! The parts of a case that stand for other text: `<name>`, `<3*text>`, and bodies that are
//! described instead of written out. Sends nothing.

use anyhow::{Context, bail};
use std::collections::BTreeMap;

/// What was kept under a name.
pub(crate) type Names = BTreeMap<String, String>;

/// `text` with every `<...>` replaced, the innermost first.
pub(crate) fn expand(text: &str, names: &Names) -> anyhow::Result<String> {
    let mut text = text.to_owned();
    while let Some(end) = text.find('>') {
        let start = text[..end].rfind('<').context("a > without its <")?;
        let part = &text[start + 1..end];
        let value = match part.split_once('*') {
            Some((count, repeated)) => {
                repeated.repeat(count.parse().with_context(|| format!("how often, in <{part}>"))?)
            }
            None => {
                names.get(part).with_context(|| format!("nothing is kept as <{part}>"))?.clone()
            }
        };
        text.replace_range(start..=end, &value);
    }
    Ok(text)
}

/// The bytes that a body stands for.
pub(crate) fn body(text: &str) -> anyhow::Result<Vec<u8>> {
    if text == "empty" {
        return Ok(Vec::new());
    }
    let described = text.strip_suffix(')').and_then(|rest| rest.split_once('('));
    let Some((form, inside)) = described else { return Ok(text.as_bytes().to_vec()) };
    Ok(match form {
        "text" => {
            let text: String = serde_json::from_str(inside).context("a string as JSON has them")?;
            text.into_bytes()
        }
        "hex" => hex(inside)?,
        "utf16" => inside.encode_utf16().flat_map(u16::to_le_bytes).collect(),
        "pad" => {
            let (size, text) = sized(inside)?;
            let mut bytes = text.as_bytes().to_vec();
            bytes.resize(size, b' ');
            bytes
        }
        "fill" => {
            let (size, text) = sized(inside)?;
            let (before, after) = text.split_once('~').context("no ~ to be filled")?;
            let missing = size.checked_sub(before.len() + after.len()).context("too long as is")?;
            format!("{before}{}{after}", "x".repeat(missing)).into_bytes()
        }
        _ => bail!("no such form of a body: {form}"),
    })
}

fn sized(inside: &str) -> anyhow::Result<(usize, &str)> {
    let (size, text) = inside.split_once(", ").context("a size and a text")?;
    Ok((size.parse().context("a size in bytes")?, text))
}

fn hex(digits: &str) -> anyhow::Result<Vec<u8>> {
    digits
        .as_bytes()
        .chunks(2)
        .map(|pair| {
            let pair = std::str::from_utf8(pair).context("hex digits")?;
            u8::from_str_radix(pair, 16).context("hex digits")
        })
        .collect()
}
