//! A JSON text in the making: one buffer, written front to back. Pure; knows no document.

use std::fmt::Display;
use std::io::Write;

/// The buffer. Each call appends; the caller sets brackets and commas.
#[derive(Debug, Default)]
pub struct Json(Vec<u8>);

impl Json {
    /// An empty text with room for `size` bytes.
    pub fn with_capacity(size: usize) -> Json {
        Json(Vec::with_capacity(size))
    }

    /// Appends text that is JSON already.
    pub fn raw(&mut self, text: &str) -> &mut Json {
        self.bytes(text.as_bytes())
    }

    /// Appends bytes that are JSON already.
    pub fn bytes(&mut self, bytes: &[u8]) -> &mut Json {
        self.0.extend_from_slice(bytes);
        self
    }

    /// Appends what `value` shows, which has to need no escapes.
    pub fn show(&mut self, value: impl Display) -> &mut Json {
        write!(self.0, "{value}").expect("a vector takes every write");
        self
    }

    /// Appends a number.
    pub fn number(&mut self, number: u64) -> &mut Json {
        self.raw(itoa::Buffer::new().format(number))
    }

    /// Appends a string with its quotes and escapes.
    pub fn string(&mut self, text: &str) -> &mut Json {
        serde_json::to_writer(&mut self.0, text).expect("a vector takes every string");
        self
    }

    /// Appends what `each` writes for every item, with commas between.
    pub fn list<T>(
        &mut self,
        items: impl IntoIterator<Item = T>,
        mut each: impl FnMut(&mut Json, T),
    ) -> &mut Json {
        self.raw("[");
        for (index, item) in items.into_iter().enumerate() {
            if index > 0 {
                self.raw(",");
            }
            each(self, item);
        }
        self.raw("]")
    }

    /// The text.
    pub fn into_bytes(self) -> Vec<u8> {
        self.0
    }
}
