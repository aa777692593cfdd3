//! Deterministic content: the same seed gives the same bytes on every machine, at any offset.
//!
//! Content is made of pages of 64 KiB. A page is text-like (compresses to about a third, as documents and scripts
//! do), random (does not compress, as packed installers do not) or zeros that are really written (as freshly
//! formatted structures are). BLAKE3's extendable output is the source of all randomness, since its bytes are
//! specified and it is fast even in a build without optimisation.

use std::sync::OnceLock;

/// The length of a page, in bytes.
pub const PAGE: usize = 64 << 10;

/// How many different phrases text-like content is made of.
const PHRASES: usize = 4096;

/// A source of numbers and bytes that a seed and a label define.
#[derive(Debug, Clone)]
pub struct RandomStream(blake3::OutputReader);

impl RandomStream {
    /// The stream of a seed and a label.
    #[must_use]
    pub fn new(seed: u64, label: &str) -> Self {
        Self::page(seed, label, u64::MAX)
    }

    /// The stream of one page of a seed's and a label's content.
    fn page(seed: u64, label: &str, page: u64) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key("stackferry lab content 1");
        hasher.update(&seed.to_le_bytes()).update(&page.to_le_bytes()).update(label.as_bytes());
        Self(hasher.finalize_xof())
    }

    /// Fills a buffer.
    pub fn fill(&mut self, out: &mut [u8]) {
        self.0.fill(out);
    }

    /// The next `N` bytes.
    pub fn bytes<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        self.0.fill(&mut bytes);
        bytes
    }

    /// The next number.
    pub fn number(&mut self) -> u64 {
        u64::from_le_bytes(self.bytes())
    }

    /// A number below `limit`; 0 if there is none.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.number().checked_rem(limit).unwrap_or(0)
    }
}

/// A number that a seed and a label define.
#[must_use]
pub fn derive(seed: u64, label: &str) -> u64 {
    RandomStream::new(seed, label).number()
}

/// What the bytes of a page are like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Texture {
    /// Words and numbers.
    Text,
    /// No pattern at all.
    Random,
    /// Zeros, written.
    Zero,
}

/// How much of the content has which texture; what is neither text nor zeros is random.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mix {
    /// Percent of text-like content.
    pub text: u8,
    /// Percent of written zeros.
    pub zero: u8,
}

impl Default for Mix {
    fn default() -> Self {
        Self { text: 55, zero: 5 }
    }
}

impl Mix {
    /// Draws a texture.
    pub fn draw(self, stream: &mut RandomStream) -> Texture {
        let drawn = stream.below(100);
        if drawn < u64::from(self.text) {
            Texture::Text
        } else if drawn < u64::from(self.text) + u64::from(self.zero) {
            Texture::Zero
        } else {
            Texture::Random
        }
    }
}

/// Fills a buffer with the content of `label`, beginning at page `first`. The last page may be cut short.
pub fn fill(seed: u64, label: &str, texture: Texture, first: u64, out: &mut [u8]) {
    match texture {
        Texture::Zero => out.fill(0),
        Texture::Random => {
            for (page, part) in (first..).zip(out.chunks_mut(PAGE)) {
                RandomStream::page(seed, label, page).fill(part);
            }
        }
        Texture::Text => {
            let mut text = Vec::with_capacity(PAGE + 64);
            for (page, part) in (first..).zip(out.chunks_mut(PAGE)) {
                text.clear();
                write_text(&mut RandomStream::page(seed, label, page), &mut text);
                text.truncate(part.len());
                part.copy_from_slice(&text);
            }
        }
    }
}

/// Appends at least one page of phrases and numbers. A phrase comes from a fixed table, so that a page costs few,
/// long copies.
fn write_text(stream: &mut RandomStream, out: &mut Vec<u8>) {
    let phrases = phrases();
    let mut drawn = [0; 8 << 10];
    while out.len() < PAGE {
        stream.fill(&mut drawn);
        for eight in drawn.as_chunks::<8>().0 {
            let number = u64::from_le_bytes(*eight);
            let index = usize::try_from(number & (PHRASES as u64 - 1)).unwrap_or(0);
            if let Some(phrase) = phrases.get(index) {
                out.extend_from_slice(phrase);
            }
            // Six letters of `a` to `p`, all at once.
            let letters = ((number >> 16) & 0x0f0f_0f0f_0f0f).wrapping_add(0x6161_6161_6161).to_le_bytes();
            let (letters, _) = letters.split_at(6);
            out.extend_from_slice(letters);
            if out.len() >= PAGE {
                break;
            }
        }
    }
    out.truncate(PAGE);
}

fn phrases() -> &'static [Vec<u8>] {
    const WORDS: [&str; 32] = [
        "volume",
        "=",
        "user",
        "path",
        "\r\n",
        "key",
        "value",
        "install",
        "C:\\Program Files\\",
        "version",
        "the",
        "and",
        "0x",
        "registry",
        "true",
        "false",
        "package",
        "<item>",
        "</item>",
        "file",
        "size",
        "name",
        "default",
        "{",
        "}",
        ";",
        "system",
        "policy",
        "update",
        "cache",
        "index",
        "error",
    ];
    static PHRASES_MADE: OnceLock<Vec<Vec<u8>>> = OnceLock::new();
    PHRASES_MADE.get_or_init(|| {
        let mut stream = RandomStream::new(0, "phrases");
        (0..PHRASES)
            .map(|_| {
                let mut phrase = Vec::new();
                for index in stream.bytes::<5>() {
                    if let Some(word) = WORDS.get(usize::from(index % 32)) {
                        phrase.extend_from_slice(word.as_bytes());
                        phrase.push(b' ');
                    }
                }
                phrase
            })
            .collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_bytes_at_any_offset() {
        for texture in [Texture::Text, Texture::Random, Texture::Zero] {
            let (mut whole, mut again, mut part) = (vec![1; 3 * PAGE + 100], vec![2; 3 * PAGE + 100], vec![3; PAGE]);
            fill(7, "a", texture, 0, &mut whole);
            fill(7, "a", texture, 0, &mut again);
            fill(7, "a", texture, 2, &mut part);
            assert!(whole == again);
            assert!(whole[2 * PAGE..3 * PAGE] == part);
        }
        let (mut one, mut other) = (vec![0; PAGE], vec![0; PAGE]);
        for (seed, label) in [(8, "a"), (7, "b")] {
            fill(7, "a", Texture::Text, 0, &mut one);
            fill(seed, label, Texture::Text, 0, &mut other);
            assert!(one != other);
        }
        // Fixed for ever: digests in other tests may rest on it.
        assert_eq!(derive(1, "x"), 18_264_620_622_253_120_138);
    }

    #[test]
    fn text_compresses_and_random_bytes_do_not() {
        let distinct = |texture| {
            let mut page = vec![0; PAGE];
            fill(1, "t", texture, 0, &mut page);
            page.windows(8).collect::<std::collections::HashSet<_>>().len()
        };
        assert!(distinct(Texture::Random) > PAGE - 100);
        let text = distinct(Texture::Text);
        assert!((PAGE / 4..PAGE * 4 / 5).contains(&text), "{text} of {PAGE} windows differ");
        assert_eq!(distinct(Texture::Zero), 1);
    }
}
