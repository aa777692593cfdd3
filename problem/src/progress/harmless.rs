//! Log lines made harmless: names come from outside, and a terminal obeys what it is shown.

use std::io::{self, Write};

use stackferry_volume::reason::is_harmful;
use tracing::Metadata;
use tracing_subscriber::fmt::MakeWriter;

/// How the lines look that are made harmless.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum EscapedLines {
    /// Text.
    Plain,
    /// Text with colours: what the formatter itself writes begins with ESC, and it lets no other ESC through.
    Coloured,
    /// JSON, in which no control character stands as it is.
    Json,
}

/// Gives writers that make each line harmless.
pub(super) struct Harmless<W>(pub(super) W, pub(super) EscapedLines);

impl<'w, W: MakeWriter<'w>> MakeWriter<'w> for Harmless<W> {
    type Writer = EscapedLine<W::Writer>;
    fn make_writer(&'w self) -> Self::Writer {
        EscapedLine(self.0.make_writer(), self.1)
    }
    fn make_writer_for(&'w self, metadata: &Metadata<'_>) -> Self::Writer {
        EscapedLine(self.0.make_writer_for(metadata), self.1)
    }
}

/// Takes a whole line at a time, as the formatter gives it.
pub(super) struct EscapedLine<W>(W, EscapedLines);

impl<W: Write> Write for EscapedLine<W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.write_all(harmless(&String::from_utf8_lossy(line), self.1).as_bytes())?;
        Ok(line.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// The line with harmful characters written out; its end stays.
fn harmless(line: &str, lines: EscapedLines) -> String {
    let (body, end) = line.strip_suffix('\n').map_or((line, ""), |body| (body, "\n"));
    let mut shown = String::with_capacity(line.len());
    for c in body.chars() {
        match lines {
            _ if !is_harmful(c) => shown.push(c),
            EscapedLines::Coloured if c == '\u{1b}' => shown.push(c),
            EscapedLines::Plain | EscapedLines::Coloured => shown.extend(c.escape_unicode()),
            EscapedLines::Json => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    shown.push_str(&format!("\\u{unit:04x}"));
                }
            }
        }
    }
    shown.push_str(end);
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_hold_nothing_that_a_terminal_obeys() {
        let line = "WARN a\u{1b}[2J\u{202e}b\nERROR forged\u{9b}\u{e0041} Müller\n";
        assert_eq!(
            harmless(line, EscapedLines::Plain),
            "WARN a\\u{1b}[2J\\u{202e}b\\u{a}ERROR forged\\u{9b}\\u{e0041} Müller\n"
        );
        assert!(harmless(line, EscapedLines::Coloured).starts_with("WARN a\u{1b}[2J\\u{202e}b\\u{a}"));
        let json = format!("{}\n", serde_json::to_string(line).unwrap());
        let shown = harmless(&json, EscapedLines::Json);
        assert!(!shown.trim_end().chars().any(is_harmful), "{shown}");
        assert_eq!(serde_json::from_str::<String>(&shown).unwrap(), line, "it is the same JSON");
    }
}
