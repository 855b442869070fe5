//! The terminal that the screen is shown on: its size, its second page, and the way back. Knows no
//! lines.

use super::screen::ScreenSize;
use std::io::{self, Write};

/// What a terminal is taken for that does not say.
const SIZE_DEFAULT: ScreenSize = ScreenSize { width: 80, height: 24 };

/// The size of the terminal on standard output; without one what COLUMNS and LINES say.
pub(super) fn size() -> ScreenSize {
    if let Ok(found) = rustix::termios::tcgetwinsize(io::stdout())
        && found.ws_col > 0
        && found.ws_row > 0
    {
        return ScreenSize { width: found.ws_col.into(), height: found.ws_row.into() };
    }
    let read = |name| std::env::var(name).ok()?.parse().ok().filter(|number| *number > 0);
    ScreenSize {
        width: read("COLUMNS").unwrap_or(SIZE_DEFAULT.width),
        height: read("LINES").unwrap_or(SIZE_DEFAULT.height),
    }
}

/// The terminal's second page, without a cursor. Dropping it brings the first page back as it was.
#[derive(Debug)]
pub(super) struct SecondPage(());

impl SecondPage {
    pub(super) fn open() -> io::Result<SecondPage> {
        let page = SecondPage(());
        write(b"\x1b[?1049h\x1b[?25l")?;
        Ok(page)
    }
}

impl Drop for SecondPage {
    fn drop(&mut self) {
        // A terminal that is gone needs no restoring.
        let _ = write(b"\x1b[?25h\x1b[?1049l");
    }
}

fn write(codes: &[u8]) -> io::Result<()> {
    let mut out = io::stdout();
    out.write_all(codes)?;
    out.flush()
}

/// Lines as what puts them over those shown before, without a flicker.
pub(super) fn frame(lines: &[String]) -> String {
    let mut text = String::from("\x1b[H");
    for line in lines {
        text.push_str(line);
        text.push_str("\x1b[K\n");
    }
    text.push_str("\x1b[J");
    text
}
