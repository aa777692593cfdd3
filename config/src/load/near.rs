//! Finds the word that was probably meant.

/// The number of letters to change, add, leave out or swap with their neighbour to come from one word to the other
/// (optimal string alignment).
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut before_last: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=other.len()).collect();
    let mut previous = None;
    for (row, letter) in one.chars().enumerate() {
        let mut current = vec![row + 1];
        for (column, other_letter) in other.iter().enumerate() {
            let at = |line: &[usize], column: usize| line.get(column).copied().unwrap_or(usize::MAX / 2);
            let mut best = (at(&last, column) + usize::from(letter != *other_letter))
                .min(at(&last, column + 1) + 1)
                .min(at(&current, column) + 1);
            let swapped = column.checked_sub(1).and_then(|left| other.get(left)) == Some(&letter)
                && previous == Some(*other_letter);
            if let (true, Some(left)) = (swapped, column.checked_sub(1)) {
                best = best.min(at(&before_last, left) + 1);
            }
            current.push(best);
        }
        before_last = std::mem::replace(&mut last, current);
        previous = Some(letter);
    }
    last.last().copied().unwrap_or(0)
}

/// The word of `known` that is nearest to `word`, if it is near enough to be meant: a third of its letters, at least one.
pub(crate) fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // Longer words are no keys, and the time grows with the square.
    const LONGEST: usize = 100;
    let length = word.chars().count();
    if length > LONGEST {
        return None;
    }
    known
        .into_iter()
        .map(|candidate| (distance(&word.to_lowercase(), &candidate.to_lowercase()), candidate))
        .filter(|(distance, _)| *distance <= (length / 3).max(1))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances() {
        for (one, other, wanted) in [
            ("", "", 0),
            ("path", "path", 0),
            ("pth", "path", 1),
            ("paht", "path", 1),
            ("pathes", "path", 2),
            ("", "path", 4),
            ("kitten", "sitting", 3),
            ("bandwith", "bandwidth", 1),
        ] {
            assert_eq!(distance(one, other), wanted, "{one} {other}");
            assert_eq!(distance(other, one), wanted, "{other} {one}");
        }
    }

    #[test]
    fn only_what_is_near_is_suggested() {
        let known = ["path", "host", "known_hosts", "transfers"];
        assert_eq!(nearest("pth", known), Some("path"));
        assert_eq!(nearest("Path", known), Some("path"));
        assert_eq!(nearest("transfer", known), Some("transfers"));
        assert_eq!(nearest("knownhosts", known), Some("known_hosts"));
        assert_eq!(nearest("colour", known), None);
        assert_eq!(nearest("x", known), None);
        assert_eq!(nearest(&"p".repeat(1000), known), None);
    }
}
