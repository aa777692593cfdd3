//! Text files as people save them: UTF-8, with or without a byte order mark. What is in another encoding is named as such.

use std::fmt;

/// The encoding that bytes seem to be in which are not UTF-8.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// Windows' "Unicode": two bytes for most characters.
    Utf16,
    /// An older encoding with one byte for each character, as Windows-1252; the first line with such a byte, from 1.
    OneByte {
        /// The line.
        line: usize,
    },
}

impl fmt::Display for Encoding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Encoding::Utf16 => f.write_str("it is UTF-16, not UTF-8"),
            Encoding::OneByte { line } => {
                write!(f, "line {line} is not UTF-8; it may be in an older encoding, as Windows-1252 or Latin-1")
            }
        }
    }
}

impl Encoding {
    /// What to do about it.
    #[must_use]
    pub fn hint(self) -> &'static str {
        match self {
            Encoding::Utf16 => {
                "save it as UTF-8: choose that encoding in the editor's \"Save as\", or run: iconv -f UTF-16 -t UTF-8"
            }
            Encoding::OneByte { .. } => {
                "save it as UTF-8: choose that encoding in the editor's \"Save as\", or run: iconv -f WINDOWS-1252 -t UTF-8"
            }
        }
    }
}

/// The text of a file, without its byte order mark.
///
/// # Errors
/// The encoding that it seems to be in, where it is not UTF-8.
pub fn text(bytes: &[u8]) -> Result<&str, Encoding> {
    if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) {
        return Err(Encoding::Utf16);
    }
    let bytes = bytes.strip_prefix(&[0xef, 0xbb, 0xbf]).unwrap_or(bytes);
    // Without a mark, too: a first character of ASCII has a byte of zeros beside it, and no text file holds one.
    if matches!(bytes, [0, _, ..] | [_, 0, ..]) {
        return Err(Encoding::Utf16);
    }
    std::str::from_utf8(bytes).map_err(|error| {
        let before = bytes.get(..error.valid_up_to()).unwrap_or_default();
        Encoding::OneByte { line: before.iter().filter(|byte| **byte == b'\n').count() + 1 }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn utf_8_is_read_with_and_without_its_mark() {
        assert_eq!(text("a = \"é\"".as_bytes()), Ok("a = \"é\""));
        assert_eq!(text(b"\xef\xbb\xbfa = 1"), Ok("a = 1"));
        assert_eq!(text(b""), Ok(""));
    }

    #[test]
    fn other_encodings_are_named() {
        let utf16 = |mark: &[u8], swap: bool| -> Vec<u8> {
            let units = "state_dir".encode_utf16();
            let bytes = units.flat_map(|unit| if swap { unit.to_be_bytes() } else { unit.to_le_bytes() });
            [mark, &bytes.collect::<Vec<_>>()].concat()
        };
        for bytes in [utf16(&[0xff, 0xfe], false), utf16(&[0xfe, 0xff], true), utf16(&[], false), utf16(&[], true)] {
            assert_eq!(text(&bytes), Err(Encoding::Utf16), "{bytes:?}");
        }
        assert_eq!(text(b"a = 1\nb = \"M\xfcller\"\n"), Err(Encoding::OneByte { line: 2 }));
    }
}
