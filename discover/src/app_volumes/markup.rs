//! Text out of the bits of HTML that a manager puts into its JSON (`<a href="…" title="jdoe">CORP\jdoe</a>`).

use stackferry_volume::reason::shown_up_to;

/// The elements that are taken for markup. Anything else between angle brackets belongs to a name that a person gave.
const ELEMENTS: [&str; 24] = [
    "a", "abbr", "b", "br", "div", "em", "font", "h1", "h2", "h3", "i", "img", "label", "li", "p", "small", "span",
    "strong", "table", "td", "tr", "u", "ul", "wbr",
];
/// The longest text that is kept, in characters: App Volumes' own columns hold 255.
const MAX_LENGTH: usize = 255;
/// The longest tag or entity that is looked for, in bytes.
const MAX_TAG: usize = 4096;
const MAX_ENTITY: usize = 10;

/// The text as a person reads it: without markup, with entities decoded, in one line, made harmless.
pub(super) fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len().min(1024));
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let eaten = match c {
            '<' => tag(rest),
            '&' => entity(rest).map(|(decoded, bytes)| {
                out.push(decoded);
                bytes
            }),
            _ => None,
        };
        let bytes = eaten.unwrap_or_else(|| {
            out.push(c);
            c.len_utf8()
        });
        rest = rest.get(bytes..).unwrap_or_default();
    }
    let words: Vec<&str> = out.split_whitespace().collect();
    shown_up_to(&words.join(" "), MAX_LENGTH)
}

/// The bytes of the tag or comment that a text begins with.
fn tag(text: &str) -> Option<usize> {
    if text.starts_with("<!--") {
        return text.find("-->").map(|at| at + 3);
    }
    let end = text.bytes().take(MAX_TAG).position(|byte| byte == b'>')?;
    let inner = text.get(1..end)?;
    let name = inner.strip_prefix('/').unwrap_or(inner);
    let name = name.split(|c: char| c.is_whitespace() || c == '/').next()?;
    ELEMENTS.iter().any(|element| name.eq_ignore_ascii_case(element)).then_some(end + 1)
}

/// The character of the entity that a text begins with, and the entity's bytes.
fn entity(text: &str) -> Option<(char, usize)> {
    let end = text.bytes().take(MAX_ENTITY).position(|byte| byte == b';')?;
    let name = text.get(1..end)?;
    let decoded = match name {
        "amp" => '&',
        "lt" => '<',
        "gt" => '>',
        "quot" => '"',
        "apos" => '\'',
        "nbsp" => ' ',
        _ => {
            let digits = name.strip_prefix('#')?;
            let code = match digits.strip_prefix(['x', 'X']) {
                Some(hex) => u32::from_str_radix(hex, 16),
                None => digits.parse(),
            };
            char::from_u32(code.ok()?)?
        }
    };
    Some((decoded, end + 1))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn anchors_go_and_their_text_stays() {
        let link = r#"<a href="/directory#/Users/2" title="test_user">TESTDOMAIN\test_user</a>"#;
        assert_eq!(plain(link), r"TESTDOMAIN\test_user");
        assert_eq!(plain("<B>Office</b><br/> 2016<!-- new -->"), "Office 2016");
        assert_eq!(plain("R&amp;D &#39;x&#x27; &quot;y&quot;&nbsp;z"), "R&D 'x' \"y\" z");
    }

    #[test]
    fn what_is_no_markup_belongs_to_the_name() {
        for name in ["Tool <beta>", "a < b & c > d", "AT&T", "&unknown;", "<", "&", "5 <a", "&#xd800;"] {
            assert_eq!(plain(name), name);
        }
    }

    #[test]
    fn decoded_text_is_not_decoded_again_and_is_harmless() {
        assert_eq!(plain("&lt;a&gt;x&lt;/a&gt;"), "<a>x</a>");
        assert_eq!(plain("&amp;lt;"), "&lt;");
        assert_eq!(plain("a\u{202e}b&#27;c"), "a\u{fffd}b\u{fffd}c");
        assert_eq!(plain("two\nlines\tof   text "), "two lines of text");
    }

    proptest! {
        #[test]
        fn any_text_is_read(text in ".{0,200}", tags in "[<>a&;#x0-9/ !-]{0,80}") {
            let _ = plain(&text);
            let read = plain(&tags);
            prop_assert!(!read.contains("<a>") || tags.contains('&') || tags.contains('<'));
        }
    }
}
