//! Text from peers, made safe to show in errors, logs and terminals.

/// The most characters kept of a peer's text.
const MOST: usize = 500;

/// A peer's text in one line of at most [`MOST`] characters: without control characters, which would command the
/// terminal, and without those that turn or hide text (Unicode's bidirectional and invisible ones).
pub(crate) fn clean(text: &str) -> String {
    let text: String = text.trim().chars().take(MOST).map(|c| if is_harmful(c) { ' ' } else { c }).collect();
    text.trim().to_owned()
}

fn is_harmful(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_becomes_one_short_line_without_control_characters() {
        assert_eq!(clean("\x1b[2J no\nspace \u{202e}tfel\u{9b}5m \0"), "[2J no space  tfel 5m");
        assert_eq!(clean(&"ü".repeat(1000)).chars().count(), MOST);
        assert_eq!(clean("\n \t"), "");
    }
}
