//! The reader of JSON from outside: checks a whole document in one pass and yields slices of it.
//! Pure; knows no field names, limits other than depth, requests or status codes.
//!
//! Invariants:
//! - Nothing here recurses by the depth of the document, so no input can exhaust the stack.
//! - What it accepts is what RFC 8259 allows, minus: integers beyond signed 64 bits, floats beyond
//!   the finite ones, lone surrogates, and nesting deeper than asked.
//! - Nothing is allocated for a value that nests less than 64 deep.

use memchr::memchr2;
use std::ops::Range;

/// Why a text is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum JsonFault {
    /// The bytes are not UTF-8.
    #[error("it is not UTF-8 (byte {0})")]
    NotUtf8(usize),
    /// The text ends within a value.
    #[error("it ends too early")]
    Early,
    /// A byte stands where it may not.
    #[error("byte {0} is not valid there")]
    Byte(usize),
    /// An integer does not fit in 64 bits, signed.
    #[error("the integer at byte {0} does not fit in 64 bits")]
    IntegerTooLarge(usize),
    /// A number with fraction or exponent is larger than any finite one.
    #[error("the number at byte {0} is too large")]
    FloatTooLarge(usize),
    /// Half of a surrogate pair stands alone.
    #[error("the escape at byte {0} is half of a surrogate pair")]
    LoneSurrogate(usize),
    /// Arrays and objects nest too deep.
    #[error("it nests deeper than {0} levels")]
    TooDeep(usize),
}

/// What a value is; the value itself where that is free.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `null`.
    Null,
    /// `true` or `false`.
    Bool,
    /// A number without fraction or exponent.
    Integer(i64),
    /// Any other number.
    Float,
    /// A string.
    String,
    /// An array.
    Array,
    /// An object.
    Object,
}

impl Kind {
    /// The kind's name as refusals give it.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Null => "null",
            Kind::Bool => "a boolean",
            Kind::Integer(_) => "an integer",
            Kind::Float => "a number with fraction or exponent",
            Kind::String => "a string",
            Kind::Array => "an array",
            Kind::Object => "an object",
        }
    }
}

/// A value that was read: what it is, and where it stands in the text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Value {
    /// What it is.
    pub kind: Kind,
    /// Where it stands, without blanks around it.
    pub span: Range<usize>,
}

/// A member's name as written, between its quotes, escapes and all: a part of a text that is UTF-8.
#[derive(Debug, Clone, Copy)]
pub struct Key<'a>(&'a [u8]);

impl Key<'_> {
    /// Whether this is the name `name`, however it was written.
    pub fn is(self, name: &str) -> bool {
        self.0 == name.as_bytes() || (self.0.contains(&b'\\') && self.decoded() == name)
    }

    /// Whether the name begins with `first`, however that was written.
    pub fn begins_with(self, first: char) -> bool {
        if self.0.starts_with(b"\\") {
            self.decoded().starts_with(first)
        } else {
            utf8(self.0).starts_with(first)
        }
    }

    /// The name itself.
    pub fn decoded(self) -> String {
        serde_json::from_str(&format!("\"{}\"", utf8(self.0)))
            .expect("the scanner accepted this string")
    }
}

/// A place in a text that is being read. The text was checked to be UTF-8.
#[derive(Debug)]
pub struct Scanner<'a> {
    text: &'a [u8],
    at: usize,
    depth: usize,
    depth_max: usize,
}

impl<'a> Scanner<'a> {
    /// Starts at the first value of a text whose arrays and objects may nest `depth_max` deep.
    pub fn new(bytes: &'a [u8], depth_max: usize) -> Result<Scanner<'a>, JsonFault> {
        // Most texts are ASCII, which is seen many times as fast.
        if !bytes.is_ascii() {
            std::str::from_utf8(bytes).map_err(|fault| JsonFault::NotUtf8(fault.valid_up_to()))?;
        }
        let mut scanner = Scanner { text: bytes, at: 0, depth: 0, depth_max };
        scanner.skip_blanks();
        Ok(scanner)
    }

    /// Whether only blanks are left.
    pub fn is_at_end(&self) -> bool {
        self.at == self.text.len()
    }

    /// Whether the value that comes next begins with this byte.
    pub fn next_is(&self, byte: u8) -> bool {
        self.peek() == Some(byte)
    }

    /// Refuses anything but blanks up to the end.
    pub fn end(mut self) -> Result<(), JsonFault> {
        self.skip_blanks();
        if self.is_at_end() { Ok(()) } else { Err(JsonFault::Byte(self.at)) }
    }

    /// Reads the array that comes next; `each` has to read one value.
    pub fn array<E: From<JsonFault>>(
        &mut self,
        mut each: impl FnMut(&mut Self) -> Result<(), E>,
    ) -> Result<(), E> {
        self.open(b'[')?;
        if self.take(b']') {
            self.depth -= 1;
            return Ok(());
        }
        loop {
            each(self)?;
            self.skip_blanks();
            if self.take(b']') {
                self.depth -= 1;
                return Ok(());
            }
            self.expect(b',')?;
            self.skip_blanks();
        }
    }

    /// Reads the object that comes next; `each` has to read the value of one member.
    pub fn object<E: From<JsonFault>>(
        &mut self,
        mut each: impl FnMut(Key<'a>, &mut Self) -> Result<(), E>,
    ) -> Result<(), E> {
        self.open(b'{')?;
        if self.take(b'}') {
            self.depth -= 1;
            return Ok(());
        }
        loop {
            let key = self.key()?;
            each(key, self)?;
            self.skip_blanks();
            if self.take(b'}') {
                self.depth -= 1;
                return Ok(());
            }
            self.expect(b',')?;
            self.skip_blanks();
        }
    }

    /// Reads the value that comes next, whatever it is, and all within it.
    pub fn value(&mut self) -> Result<Value, JsonFault> {
        let start = self.at;
        let kind = match self.peek().ok_or(JsonFault::Early)? {
            b'[' => {
                self.nested()?;
                Kind::Array
            }
            b'{' => {
                self.nested()?;
                Kind::Object
            }
            _ => self.scalar()?,
        };
        Ok(Value { kind, span: start..self.at })
    }

    /// Reads an array or object with all it holds, by a loop.
    fn nested(&mut self) -> Result<(), JsonFault> {
        let mut open = Nesting::default();
        loop {
            // Here a value begins.
            let closed = match self.peek().ok_or(JsonFault::Early)? {
                b'[' => {
                    self.enter(open.depth)?;
                    if self.take(b']') {
                        true
                    } else {
                        open.push(false);
                        false
                    }
                }
                b'{' => {
                    self.enter(open.depth)?;
                    if self.take(b'}') {
                        true
                    } else {
                        open.push(true);
                        self.key()?;
                        false
                    }
                }
                _ => {
                    self.scalar()?;
                    true
                }
            };
            if !closed {
                continue;
            }
            // Here a value has ended: go on in, or close, what holds it.
            loop {
                let Some(in_object) = open.top() else { return Ok(()) };
                self.skip_blanks();
                if self.take(if in_object { b'}' } else { b']' }) {
                    open.pop();
                    continue;
                }
                self.expect(b',')?;
                self.skip_blanks();
                if in_object {
                    self.key()?;
                }
                break;
            }
        }
    }

    /// Steps over an opening bracket that has `within` more around it since `self.depth`.
    fn enter(&mut self, within: usize) -> Result<(), JsonFault> {
        if self.depth + within >= self.depth_max {
            return Err(JsonFault::TooDeep(self.depth_max));
        }
        self.at += 1;
        self.skip_blanks();
        Ok(())
    }

    fn open(&mut self, bracket: u8) -> Result<(), JsonFault> {
        if !self.next_is(bracket) {
            return Err(self.unexpected());
        }
        self.enter(0)?;
        self.depth += 1;
        Ok(())
    }

    /// A member's name and the colon after it.
    fn key(&mut self) -> Result<Key<'a>, JsonFault> {
        if !self.next_is(b'"') {
            return Err(self.unexpected());
        }
        let start = self.at + 1;
        self.string()?;
        let key = Key(&self.text[start..self.at - 1]);
        self.skip_blanks();
        self.expect(b':')?;
        self.skip_blanks();
        Ok(key)
    }

    fn scalar(&mut self) -> Result<Kind, JsonFault> {
        match self.peek().ok_or(JsonFault::Early)? {
            b'"' => self.string().map(|()| Kind::String),
            b'-' | b'0'..=b'9' => self.number(),
            b't' => self.word("true", Kind::Bool),
            b'f' => self.word("false", Kind::Bool),
            b'n' => self.word("null", Kind::Null),
            _ => Err(self.unexpected()),
        }
    }

    fn word(&mut self, word: &str, kind: Kind) -> Result<Kind, JsonFault> {
        for byte in word.bytes() {
            self.expect(byte)?;
        }
        Ok(kind)
    }

    fn number(&mut self) -> Result<Kind, JsonFault> {
        let start = self.at;
        self.take(b'-');
        let digits_start = self.at;
        if !self.take(b'0') {
            self.digits()?;
        }
        let digits = self.at - digits_start;
        let mut is_float = false;
        let mut may_overflow = digits > 300;
        if self.take(b'.') {
            is_float = true;
            self.digits()?;
        }
        if self.take(b'e') || self.take(b'E') {
            is_float = true;
            may_overflow = true;
            if !self.take(b'+') {
                self.take(b'-');
            }
            self.digits()?;
        }
        let text = utf8(&self.text[start..self.at]);
        if is_float {
            let finite = !may_overflow || text.parse::<f64>().is_ok_and(f64::is_finite);
            return if finite { Ok(Kind::Float) } else { Err(JsonFault::FloatTooLarge(start)) };
        }
        text.parse().map(Kind::Integer).map_err(|_| JsonFault::IntegerTooLarge(start))
    }

    /// One digit or more.
    fn digits(&mut self) -> Result<(), JsonFault> {
        let rest = &self.text[self.at..];
        let count = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        if count == 0 {
            return Err(self.unexpected());
        }
        self.at += count;
        Ok(())
    }

    /// A string, from its first quote to behind its last.
    fn string(&mut self) -> Result<(), JsonFault> {
        self.at += 1;
        loop {
            let rest = &self.text[self.at..];
            let plain = plain_size(rest);
            let stop = *rest.get(plain).ok_or(JsonFault::Early)?;
            self.at += plain;
            match stop {
                b'"' => {
                    self.at += 1;
                    return Ok(());
                }
                b'\\' => self.escape()?,
                _ => return Err(JsonFault::Byte(self.at)),
            }
        }
    }

    fn escape(&mut self) -> Result<(), JsonFault> {
        let start = self.at;
        self.at += 1;
        match self.peek().ok_or(JsonFault::Early)? {
            b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => {
                self.at += 1;
                Ok(())
            }
            b'u' => {
                self.at += 1;
                match self.hex4()? {
                    0xdc00..=0xdfff => Err(JsonFault::LoneSurrogate(start)),
                    0xd800..=0xdbff => {
                        let low = self.take(b'\\') && self.take(b'u');
                        if low && matches!(self.hex4()?, 0xdc00..=0xdfff) {
                            Ok(())
                        } else {
                            Err(JsonFault::LoneSurrogate(start))
                        }
                    }
                    _ => Ok(()),
                }
            }
            _ => Err(JsonFault::Byte(self.at)),
        }
    }

    fn hex4(&mut self) -> Result<u32, JsonFault> {
        let mut unit = 0;
        for _ in 0..4 {
            let byte = self.peek().ok_or(JsonFault::Early)?;
            let digit = char::from(byte).to_digit(16).ok_or(JsonFault::Byte(self.at))?;
            unit = unit << 4 | digit;
            self.at += 1;
        }
        Ok(unit)
    }

    fn skip_blanks(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn take(&mut self, byte: u8) -> bool {
        let here = self.next_is(byte);
        self.at += usize::from(here);
        here
    }

    fn expect(&mut self, byte: u8) -> Result<(), JsonFault> {
        if self.take(byte) { Ok(()) } else { Err(self.unexpected()) }
    }

    fn unexpected(&self) -> JsonFault {
        if self.is_at_end() { JsonFault::Early } else { JsonFault::Byte(self.at) }
    }
}

/// A part of the text that begins and ends between characters.
fn utf8(part: &[u8]) -> &str {
    std::str::from_utf8(part).expect("the whole text was checked")
}

/// Most names of members have fewer bytes.
const NAME_SIZE: usize = 8;

/// How many bytes stand before the first that ends a string, begins an escape, or may not be in one.
fn plain_size(bytes: &[u8]) -> usize {
    let is_control = |byte: u8| byte < 0x20;
    let is_special = |byte: u8| byte == b'"' || byte == b'\\' || is_control(byte);
    // Names are short: they end before a search is worth its while.
    let start = &bytes[..bytes.len().min(NAME_SIZE)];
    if let Some(size) = start.iter().position(|byte| is_special(*byte)) {
        return size;
    }
    let plain = &bytes[..memchr2(b'"', b'\\', bytes).unwrap_or(bytes.len())];
    // Without a branch for each byte, and in bytes, the compiler looks at many together.
    if plain.iter().fold(0, |any, byte| any | u8::from(is_control(*byte))) == 0 {
        return plain.len();
    }
    plain.iter().position(|byte| is_control(*byte)).unwrap_or(plain.len())
}

/// Which brackets are open: a bit each, the first 64 without an allocation.
#[derive(Default)]
struct Nesting {
    depth: usize,
    /// The innermost bits.
    low: u64,
    /// Full words pushed out of `low`.
    spilled: Vec<u64>,
}

impl Nesting {
    fn push(&mut self, is_object: bool) {
        if self.depth > 0 && self.depth.is_multiple_of(64) {
            self.spilled.push(self.low);
        }
        self.low = self.low << 1 | u64::from(is_object);
        self.depth += 1;
    }

    fn pop(&mut self) {
        self.depth -= 1;
        self.low >>= 1;
        if self.depth > 0 && self.depth.is_multiple_of(64) {
            self.low = self.spilled.pop().expect("a word was spilled at this depth");
        }
    }

    fn top(&self) -> Option<bool> {
        (self.depth > 0).then_some(self.low & 1 == 1)
    }
}

#[cfg(test)]
mod tests;
