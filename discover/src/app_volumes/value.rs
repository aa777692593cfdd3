//! One JSON object of a manager, read with patience: keys may be missing or new, numbers may be texts, anything may be null.

use std::hash::{DefaultHasher, Hash, Hasher};

use jiff::Timestamp;
use serde_json::{Map, Value};

use super::markup::plain;

/// The longest text that is kept as it is, in bytes: a path on a datastore may have 1,024 or so.
const MAX_LENGTH: usize = 4096;

/// The fields that mere use of a volume changes. A detail is not asked again for them.
const CHANGED_BY_USE: [&str; 17] = [
    "assignment_count",
    "assignments_total",
    "attached",
    "attachment_count",
    "attachments_total",
    "free_mb",
    "mount_count",
    "mounted_at",
    "mounted_on",
    "percent_available",
    "replicated_at",
    "imported_at",
    "curated_at",
    "space_used",
    "space_total",
    "total_use_count",
    "updated_at",
];

/// An object of an answer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fields<'a>(pub(super) &'a Map<String, Value>);

impl<'a> Fields<'a> {
    /// The object in a value, if it is one.
    pub(super) fn of(value: &'a Value) -> Option<Self> {
        value.as_object().map(Self)
    }

    /// The object under a key.
    pub(super) fn object(self, key: &str) -> Option<Self> {
        self.0.get(key).and_then(Self::of)
    }

    /// The objects of the array under a key; what is no object is left out.
    pub(super) fn objects(self, key: &str) -> impl Iterator<Item = Self> + use<'a> {
        self.0.get(key).and_then(Value::as_array).into_iter().flatten().filter_map(Self::of)
    }

    /// A text just as it came, for what names things on a datastore. None if it is empty or too long to be real.
    pub(super) fn verbatim(self, key: &str) -> Option<String> {
        let text = match self.0.get(key)? {
            Value::String(text) => text.clone(),
            Value::Number(number) => number.to_string(),
            _ => return None,
        };
        (!text.trim().is_empty() && text.len() <= MAX_LENGTH).then_some(text)
    }

    /// A text as a person reads it: no markup, one line, harmless. None if nothing is left.
    pub(super) fn text(self, key: &str) -> Option<String> {
        let text = match self.0.get(key)? {
            Value::String(text) => plain(text),
            Value::Number(number) => number.to_string(),
            Value::Bool(flag) => flag.to_string(),
            _ => return None,
        };
        (!text.is_empty()).then_some(text)
    }

    /// The first of some keys that has a text.
    pub(super) fn first_text(self, keys: &[&str]) -> Option<String> {
        keys.iter().find_map(|key| self.text(key))
    }

    /// A number that is not negative, also one in a text or with a fraction, which is cut off.
    pub(super) fn number(self, key: &str) -> Option<u64> {
        let text = match self.0.get(key)? {
            Value::Number(number) => number.to_string(),
            Value::String(text) => text.trim().to_owned(),
            _ => return None,
        };
        text.split('.').next()?.parse().ok()
    }

    /// Yes or no, also as a text or a number.
    pub(super) fn flag(self, key: &str) -> Option<bool> {
        match self.0.get(key)? {
            Value::Bool(flag) => Some(*flag),
            Value::Number(number) => Some(number.as_f64()? != 0.0),
            Value::String(text) => match text.trim().to_ascii_lowercase().as_str() {
                "true" | "1" | "yes" | "on" | "enabled" => Some(true),
                "false" | "0" | "no" | "off" | "disabled" => Some(false),
                _ => None,
            },
            _ => None,
        }
    }

    /// The id of a disk, without braces, in lower case: `9b1b40b0-e2f8-4fe6-b743-c55be9c2e000`. None for anything else, and
    /// for the one of zeros only, which names nothing.
    pub(super) fn guid(self, key: &str) -> Option<String> {
        let text = self.verbatim(key)?;
        let bare = text.trim().trim_start_matches('{').trim_end_matches('}');
        let digits: String = bare.chars().filter(|c| *c != '-').map(|c| c.to_ascii_lowercase()).collect();
        let right = digits.len() == 32
            && digits.bytes().all(|byte| byte.is_ascii_hexdigit())
            && digits.bytes().any(|byte| byte != b'0');
        let parts = [(0, 8), (8, 12), (12, 16), (16, 20), (20, 32)].map(|(from, to)| digits.get(from..to));
        right.then(|| parts.into_iter().flatten().collect::<Vec<_>>().join("-"))
    }

    /// A time, whatever the way it is written.
    pub(super) fn time(self, key: &str) -> Option<Timestamp> {
        time(self.0.get(key)?.as_str()?)
    }

    /// A number that changes when anything but use changed. Nested values are left out: they belong to other things.
    pub(super) fn digest(self) -> u64 {
        let mut hasher = DefaultHasher::new();
        for (key, value) in self.0 {
            let by_use = CHANGED_BY_USE.contains(&key.as_str()) || key.ends_with("_human") || key.ends_with("_html");
            if !by_use && !value.is_object() && !value.is_array() {
                key.hash(&mut hasher);
                value.to_string().hash(&mut hasher);
            }
        }
        hasher.finish()
    }
}

/// `2016-11-23 13:10:13 -0800`, `2016-11-23 21:10:13 UTC` of old managers, or ISO 8601.
pub(super) fn time(text: &str) -> Option<Timestamp> {
    let text = text.trim();
    if let Ok(time) = text.parse() {
        return Some(time);
    }
    let with_offset = text.strip_suffix(" UTC").map(|local| format!("{local} +0000"));
    Timestamp::strptime("%Y-%m-%d %H:%M:%S %z", with_offset.as_deref().unwrap_or(text)).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn fields(value: &Value) -> Fields<'_> {
        Fields::of(value).unwrap()
    }

    #[test]
    fn numbers_and_flags_may_be_texts() {
        let value = json!({
            "a": 78, "b": "78", "c": 78.9, "d": " 78.2 ", "e": "Unknown", "f": null, "g": -1, "h": true, "i": "1", "j": 0, "k": "No",
        });
        let value = fields(&value);
        for key in ["a", "b", "c", "d"] {
            assert_eq!(value.number(key), Some(78), "{key}");
        }
        for key in ["e", "f", "g", "h", "missing"] {
            assert_eq!(value.number(key), None, "{key}");
        }
        let flags = ["h", "i", "j", "k", "e", "f"].map(|key| value.flag(key));
        assert_eq!(flags, [Some(true), Some(true), Some(false), Some(false), None, None]);
    }

    #[test]
    fn guids_lose_their_braces() {
        let id = "9b1b40b0-e2f8-4fe6-b743-c55be9c2e000";
        let value = json!({
            "braces": "{9B1B40B0-e2f8-4fe6-b743-c55be9c2e000}", "bare": id, "digits": "9b1b40b0e2f84fe6b743c55be9c2e000",
            "nil": "{00000000-0000-0000-0000-000000000000}", "none": "", "odd": "Unknown", "null": null,
        });
        for key in ["braces", "bare", "digits"] {
            assert_eq!(fields(&value).guid(key).as_deref(), Some(id), "{key}");
        }
        for key in ["nil", "none", "odd", "null"] {
            assert_eq!(fields(&value).guid(key), None, "{key}");
        }
    }

    #[test]
    fn times_are_read_in_each_of_their_forms() {
        let at = Some("2016-11-23T21:10:13Z".parse().unwrap());
        for text in ["2016-11-23 13:10:13 -0800", "2016-11-23 21:10:13 UTC", "2016-11-23T13:10:13.000-08:00"] {
            assert_eq!(time(text), at, "{text}");
        }
        for text in ["", "Nov 23 2016", "2016-11-23", "2016-13-23 13:10:13 -0800"] {
            assert_eq!(time(text), None, "{text}");
        }
    }

    #[test]
    fn use_does_not_change_the_digest_and_anything_else_does() {
        let entry = |mounts: u32, status: &str| {
            json!({ "id": 1, "status": status, "mount_count": mounts, "mounted_at": mounts, "mounted_at_human": mounts,
                "app_product": { "assignment_count": mounts } })
        };
        let digest = |value: Value| fields(&value).digest();
        assert_eq!(digest(entry(1, "enabled")), digest(entry(2, "enabled")));
        assert_ne!(digest(entry(1, "enabled")), digest(entry(1, "disabled")));
        assert_ne!(digest(json!({ "size_mb": 1 })), digest(json!({ "size_mb": 2 })));
    }

    proptest! {
        #[test]
        fn any_time_text_is_read(text in ".{0,40}", near in "[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9:]{0,9} ?[-+UTC0-9]{0,6}") {
            let _ = (time(&text), time(&near));
        }
    }
}
