//! Times, sizes and words as people read them.

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use stackferry_catalog::{Standing, StatusReason, VolumeState};
use stackferry_volume::VolumeId;

use crate::api::REASONS;

/// A moment: for people, exactly, and for machines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ShownTime {
    /// `3 h ago`.
    pub(super) about: String,
    /// In the machine's zone, to the second.
    pub(super) exact: String,
    /// RFC 3339.
    pub(super) machine: String,
}

impl ShownTime {
    pub(super) fn new(at: Timestamp, now: Timestamp) -> Self {
        Self {
            about: about(now.duration_since(at)),
            exact: at.to_zoned(TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S %Z").to_string(),
            machine: format!("{at:.0}"),
        }
    }

    pub(super) fn maybe(at: Option<Timestamp>, now: Timestamp) -> Option<Self> {
        at.map(|at| Self::new(at, now))
    }
}

/// How long ago something was, or how far ahead it is.
fn about(past: SignedDuration) -> String {
    if past.is_negative() {
        return format!("in {}", span(past.unsigned_abs().as_secs()));
    }
    match past.as_secs() {
        0..5 => "just now".to_owned(),
        _ => format!("{} ago", span(past.unsigned_abs().as_secs())),
    }
}

/// A length of time with its largest unit.
pub(super) fn span(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        7200..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} days", seconds / 86_400),
    }
}

/// A size with three digits or so.
pub(super) fn size(bytes: u64) -> String {
    stackferry_problem::output::size(bytes)
}

/// A number with its thousands set apart by thin spaces.
pub(super) fn number(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push('\u{202f}');
        }
        text.push(digit);
    }
    text
}

/// A part of a whole, in thousandths: bars are drawn with it.
pub(super) fn thousandths(part: u64, whole: u64) -> u64 {
    let thousandths = u128::from(part).saturating_mul(1000).checked_div(u128::from(whole)).unwrap_or(0);
    u64::try_from(thousandths.min(1000)).unwrap_or(1000)
}

/// A volume's page.
pub(super) fn volume_path(id: &VolumeId) -> String {
    let id = id.to_string();
    let (kind, stem) = id.split_once('/').unwrap_or((&id, ""));
    format!("/volumes/{kind}/{}", encoded(stem))
}

/// An address with those fields that say something.
pub(super) fn query(path: &str, pairs: &[(&str, &str)]) -> String {
    let pairs = pairs.iter().filter(|(_, value)| !value.is_empty());
    let pairs: Vec<String> = pairs.map(|(name, value)| format!("{name}={}", encoded(value))).collect();
    if pairs.is_empty() { path.to_owned() } else { format!("{path}?{}", pairs.join("&")) }
}

/// A text as a part of an address: all but the unreserved characters of RFC 3986 are encoded.
fn encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => encoded.push(char::from(byte)),
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

/// The word for a standing, as a page shows it.
pub(super) fn standing(standing: Standing) -> &'static str {
    match standing {
        Standing::Protected => "protected",
        Standing::Overdue => "overdue",
        Standing::Never => "never copied",
        Standing::Unprotectable => "can't be protected",
        Standing::Gone => "gone",
        _ => "unknown",
    }
}

/// What to do about a reason: what is known of this volume, else what holds for all with that word.
pub(super) fn remedy(own: Option<&String>, reason: Option<&StatusReason>) -> Option<String> {
    let of_word = || REASONS.iter().find(|row| reason.is_some_and(|reason| reason.code == row.code.as_str()));
    own.cloned().or_else(|| of_word().map(|row| row.remedy.to_owned()))
}

/// How a mark for a standing looks: `good`, `warn`, `bad` or `quiet`.
pub(super) fn tone(standing: Standing) -> &'static str {
    match standing {
        Standing::Protected => "good",
        Standing::Overdue => "warn",
        Standing::Never | Standing::Unprotectable => "bad",
        _ => "quiet",
    }
}

/// How a mark for a state looks.
pub(super) fn state_tone(state: VolumeState) -> &'static str {
    match state {
        VolumeState::Ready => "good",
        VolumeState::Deferred | VolumeState::Conflict => "warn",
        VolumeState::Unprotectable | VolumeState::Incident => "bad",
        _ => "quiet",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_hold_whatever_a_volume_is_called() {
        let id: VolumeId = "writable/CORP!5C!j%20d@é".parse().unwrap();
        assert_eq!(volume_path(&id), "/volumes/writable/CORP%215C%21j%2520d%40%C3%A9");
        assert_eq!(query("/volumes", &[("text", "a&b=c"), ("kind", "")]), "/volumes?text=a%26b%3Dc");
        assert_eq!(query("/volumes", &[("kind", "")]), "/volumes");
    }

    #[test]
    fn times_and_numbers_are_short() {
        let now: Timestamp = "2026-11-22T04:00:00Z".parse().unwrap();
        let ago = |seconds| ShownTime::new(now - SignedDuration::from_secs(seconds), now).about;
        assert_eq!([ago(1), ago(119), ago(180), ago(7200)], ["just now", "119 s ago", "3 min ago", "2 h ago"]);
        assert_eq!([ago(400_000), ago(-90)], ["4 days ago", "in 90 s"]);
        assert_eq!(
            [number(0), number(999), number(5500), number(1_234_567)].join("|"),
            "0|999|5\u{202f}500|1\u{202f}234\u{202f}567"
        );
        assert_eq!([thousandths(1, 3), thousandths(9, 3), thousandths(1, 0)], [333, 1000, 0]);
    }
}
