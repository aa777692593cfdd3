//! What a page says after something was done.

/// What is said after something was done. Words of the address are not shown; these texts are.
pub(super) const SAID: [(&str, &str); 9] = [
    ("copy", "The copy is in the queue."),
    ("verify", "The check is in the queue."),
    ("restore", "The restore is in the queue."),
    ("pin", "The version is pinned."),
    ("unpin", "The version is not pinned any more."),
    ("pause", "Planned copies begin no more."),
    ("resume", "Planned copies begin again."),
    ("cancel", "The job is asked to end."),
    ("ended", "The job had ended before."),
];

/// The text for a word of an address.
pub(super) fn said(word: &str) -> Option<&'static str> {
    SAID.iter().find(|(own, _)| *own == word).map(|(_, text)| *text)
}
