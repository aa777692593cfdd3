//! Lists and single objects out of an answer. Entries are read one by one and let go, since a list may have 100,000 of them
//! and most of their fields are of no interest.

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};
use stackferry_https::{Response, UnexpectedContent};

use super::markup::plain;

/// The most entries of one list: twenty times the largest sites that are known of.
pub(super) const MAX_ENTRIES: usize = 100_000;
/// How deep below the top a list is looked for (`currentappstacks.appstacks`).
const MAX_DEPTH: u8 = 3;

/// Why an answer could not be read.
#[derive(Debug)]
pub(super) enum ResponseFault {
    /// It is a web page.
    WebPage,
    /// It is compressed, though nobody asked for that: how.
    Compressed(&'static str),
    /// There is nothing in it.
    Empty,
    /// It is no JSON, or ends too early.
    Json(serde_json::Error),
    /// It is JSON without what was asked for; with what it says instead.
    Without(Option<String>),
}

/// How a list was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ListResult {
    /// Whether it has more entries than are read.
    pub(super) cut: bool,
    /// How many entries were no objects.
    pub(super) odd: usize,
    /// Whether an error stands beside the list: then it is not all of it.
    pub(super) failed: bool,
}

/// Gives each object of the list that lies at the top, or below one or more of these keys.
pub(super) fn each(
    body: &[u8],
    keys: &[&str],
    give: &mut dyn FnMut(Map<String, Value>),
) -> Result<ListResult, ResponseFault> {
    each_of(body, keys, MAX_ENTRIES, give)
}

fn each_of(
    body: &[u8],
    keys: &[&str],
    most: usize,
    give: &mut dyn FnMut(Map<String, Value>),
) -> Result<ListResult, ResponseFault> {
    let body = json(body)?;
    let mut state = ListState { keys, most, give, found: false, seen: 0, odd: 0, said: None, failed: false };
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    ListVisitor { state: &mut state, depth: 0 }.deserialize(&mut deserializer).map_err(ResponseFault::Json)?;
    deserializer.end().map_err(ResponseFault::Json)?;
    // An error beside an empty list says that the list could not be made, not that there is nothing.
    if !state.found || (state.failed && state.seen == 0) {
        return Err(ResponseFault::Without(state.said));
    }
    Ok(ListResult { cut: state.seen > most, odd: state.odd, failed: state.failed })
}

/// The object below one of these keys, else the one at the top if it has the field `sign`.
pub(super) fn one(body: &[u8], keys: &[&str], sign: &str) -> Result<Map<String, Value>, ResponseFault> {
    let mut value: Value = serde_json::from_slice(json(body)?).map_err(ResponseFault::Json)?;
    if has_error(&value) {
        return Err(ResponseFault::Without(said(&value)));
    }
    for key in keys {
        if let Some(Value::Object(inner)) = value.get_mut(key) {
            return Ok(std::mem::take(inner));
        }
    }
    match value {
        Value::Object(object) if object.contains_key(sign) => Ok(object),
        value => Err(ResponseFault::Without(said(&value))),
    }
}

/// What an answer says of an error, as a person reads it: `error`, `warning`, or the first of `errors`.
pub(super) fn said_in(body: &[u8]) -> Option<String> {
    /// Errors are short; longer ones are something else.
    const MAX_LENGTH: usize = 64 << 10;
    let body = body.get(..MAX_LENGTH.min(body.len()))?;
    said(&serde_json::from_slice(without_mark(body)).ok()?)
}

/// As [`said_in`], where it is an error and not only a warning.
pub(super) fn error_in(body: &[u8]) -> Option<String> {
    let value: Value = serde_json::from_slice(without_mark(body)).ok()?;
    if has_error(&value) { said(&value) } else { None }
}

/// Whether an error is told: by an error's text, or a list of some.
fn has_error(value: &Value) -> bool {
    let is_told = |value: &Value| match value {
        Value::String(text) => !text.trim().is_empty(),
        Value::Array(several) => !several.is_empty(),
        Value::Object(object) => !object.is_empty(),
        Value::Bool(flag) => *flag,
        _ => false,
    };
    ["error", "errors"].iter().any(|key| value.get(key).is_some_and(is_told))
}

fn said(value: &Value) -> Option<String> {
    let of = |value: &Value| match value {
        Value::String(text) => Some(plain(text)).filter(|text| !text.is_empty()),
        Value::Object(object) => object.get("title").and_then(Value::as_str).map(plain),
        _ => None,
    };
    let main = ["error", "errors", "warning"].iter().find_map(|key| match value.get(key)? {
        Value::Array(several) => several.first().and_then(of),
        single => of(single),
    })?;
    match value.get("detail").and_then(of) {
        Some(detail) => Some(format!("{main}: {detail}")),
        None => Some(main),
    }
}

/// What an answer is instead of JSON, by what its head and first bytes say.
pub(super) fn unexpected_content(answer: &Response) -> Option<ResponseFault> {
    match answer.unexpected_content()? {
        UnexpectedContent::WebPage => Some(ResponseFault::WebPage),
        UnexpectedContent::Compressed(how) => Some(ResponseFault::Compressed(how)),
    }
}

/// The JSON of an answer. A manager that is not there answers with a page of whoever is; so does one whose address leads to its
/// console. Some servers put a byte order mark before JSON, which is no part of it.
fn json(body: &[u8]) -> Result<&[u8], ResponseFault> {
    let body = without_mark(body);
    match body.trim_ascii_start().first() {
        Some(b'<') => Err(ResponseFault::WebPage),
        None => Err(ResponseFault::Empty),
        _ => Ok(body),
    }
}

fn without_mark(body: &[u8]) -> &[u8] {
    body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body)
}

struct ListState<'a> {
    keys: &'a [&'a str],
    most: usize,
    give: &'a mut dyn FnMut(Map<String, Value>),
    found: bool,
    seen: usize,
    odd: usize,
    said: Option<String>,
    failed: bool,
}

/// A place in the answer where the list may be.
struct ListVisitor<'s, 'a> {
    state: &'s mut ListState<'a>,
    depth: u8,
}

impl<'de> DeserializeSeed<'de> for ListVisitor<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for ListVisitor<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a list, or an object with one")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut entries: A) -> Result<(), A::Error> {
        let state = self.state;
        state.found = true;
        while state.seen < state.most {
            match entries.next_element()? {
                Some(Value::Object(entry)) => (state.give)(entry),
                Some(_) => state.odd += 1,
                None => return Ok(()),
            }
            state.seen += 1;
        }
        while entries.next_element::<IgnoredAny>()?.is_some() {
            state.seen += 1;
        }
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let state = self.state;
        while let Some(key) = map.next_key::<String>()? {
            if self.depth < MAX_DEPTH && state.keys.contains(&key.as_str()) {
                map.next_value_seed(ListVisitor { state, depth: self.depth + 1 })?;
            } else if matches!(key.as_str(), "error" | "errors" | "warning") {
                let value: Value = map.next_value()?;
                let told = Value::Object(Map::from_iter([(key, value)]));
                state.failed |= has_error(&told);
                state.said = said(&told).or(state.said.take());
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(())
    }

    /// A list that is empty is null in some answers.
    fn visit_unit<E>(self) -> Result<(), E> {
        self.state.found |= self.depth > 0;
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KEYS: [&str; 3] = ["currentappstacks", "appstacks", "data"];

    fn ids(body: &str) -> Result<(Vec<u64>, ListResult), ResponseFault> {
        let mut ids = Vec::new();
        let listed = each(body.as_bytes(), &KEYS, &mut |entry| ids.push(entry["id"].as_u64().unwrap()))?;
        Ok((ids, listed))
    }

    #[test]
    fn a_list_is_found_flat_or_nested() {
        for body in [
            r#"[{"id":1},{"id":2}]"#,
            r#"{"currentappstacks":{"other":[{"x":1}],"appstacks":[{"id":1},{"id":2}]},"more":3}"#,
            r#"{"data":[{"id":1},{"id":2}],"meta":{"appstacks":null}}"#,
        ] {
            assert_eq!(ids(body).unwrap(), (vec![1, 2], ListResult { cut: false, odd: 0, failed: false }), "{body}");
        }
        for empty in ["[]", r#"{"data":[]}"#, r#"{"data":null}"#] {
            assert_eq!(ids(empty).unwrap().0, [0; 0], "{empty}");
        }
        assert_eq!(
            ids(r#"[{"id":1},null,7,[]]"#).unwrap(),
            (vec![1], ListResult { cut: false, odd: 3, failed: false })
        );
    }

    #[test]
    fn what_is_no_list_is_told_apart() {
        assert!(matches!(ids("\u{feff} <!DOCTYPE html><html>"), Err(ResponseFault::WebPage)));
        assert!(matches!(ids(""), Err(ResponseFault::Empty)));
        for broken in ["[{\"id\":1},", "{\"data\":[{\"id\":1}", "[] x", "nope"] {
            assert!(matches!(ids(broken), Err(ResponseFault::Json(_))), "{broken}");
        }
        for (other, text) in [
            (r#"{"error":"Server Error","detail":"Unexpected"}"#, Some("Server Error")),
            (r#"{"errors":[{"title":"Incorrect Package id 0 passed"}]}"#, Some("Incorrect Package id 0 passed")),
            (r#"{"success":"Ok"}"#, None),
            ("7", None),
            ("null", None),
        ] {
            let Err(ResponseFault::Without(said)) = ids(other) else { panic!("{other}") };
            assert_eq!(said.as_deref(), text);
        }
    }

    #[test]
    fn an_error_beside_a_list_is_no_empty_list() {
        for body in [
            r#"{"error":"vCenter is away","data":[]}"#,
            r#"{"data":[],"error":"vCenter is away"}"#,
            r#"{"data":null,"errors":[{"title":"vCenter is away"}]}"#,
            r#"{"currentappstacks":{"appstacks":[],"error":"vCenter is away"}}"#,
        ] {
            let Err(ResponseFault::Without(said)) = ids(body) else { panic!("{body}") };
            assert_eq!(said.as_deref(), Some("vCenter is away"), "{body}");
        }
        let partly = ids(r#"{"data":[{"id":1}],"error":"vCenter is away"}"#).unwrap();
        assert_eq!(partly, (vec![1], ListResult { cut: false, odd: 0, failed: true }));
        for whole in [r#"{"data":[],"error":null,"errors":[]}"#, r#"{"data":[],"error":"","warning":"old"}"#] {
            assert_eq!(ids(whole).unwrap(), (vec![], ListResult { cut: false, odd: 0, failed: false }), "{whole}");
        }
        let one = one(br#"{"error":"away","data":{"id":1}}"#, &["data"], "id");
        assert!(matches!(one, Err(ResponseFault::Without(Some(said))) if said == "away"));
        assert_eq!(error_in(br#"{"success":"Ok","warning":"old"}"#), None);
        assert_eq!(
            error_in(br#"{"error":"Invalid user name or password"}"#).as_deref(),
            Some("Invalid user name or password")
        );
    }

    #[test]
    fn a_byte_order_mark_is_no_part_of_the_json() {
        assert_eq!(ids("\u{feff}[{\"id\":1}]").unwrap().0, [1]);
        assert_eq!(one("\u{feff}{\"id\":3}".as_bytes(), &["data"], "id").unwrap()["id"], 3);
        assert_eq!(said_in("\u{feff}{\"error\":\"x\"}".as_bytes()).as_deref(), Some("x"));
    }

    #[test]
    fn a_list_without_end_is_cut() {
        let body = format!("[{}]", vec![r#"{"id":1}"#; 20].join(","));
        let mut count = 0;
        let listed = each_of(body.as_bytes(), &KEYS, 15, &mut |_| count += 1).unwrap();
        assert_eq!((listed.cut, count), (true, 15));
        let listed = each_of(body.as_bytes(), &KEYS, 20, &mut |_| ()).unwrap();
        assert!(!listed.cut);
        let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        assert!(matches!(ids(&deep), Err(ResponseFault::Json(_))));
    }

    #[test]
    fn one_object_is_found_flat_or_nested() {
        for body in [r#"{"appstack":{"id":3}}"#, r#"{"data":{"id":3}}"#, r#"{"id":3,"x":{}}"#] {
            assert_eq!(one(body.as_bytes(), &["appstack", "data"], "id").unwrap()["id"], 3, "{body}");
        }
        assert!(matches!(one(b"{\"x\":1}", &["appstack"], "id"), Err(ResponseFault::Without(None))));
        assert!(matches!(one(b"{\"id\":", &["appstack"], "id"), Err(ResponseFault::Json(_))));
    }

    #[test]
    fn errors_are_told_with_their_detail() {
        let said = |body: &str| said_in(body.as_bytes());
        let server = r#"{"error":"Server Error","detail":"Unexpected server error."}"#;
        assert_eq!(said(server).as_deref(), Some("Server Error: Unexpected server error."));
        assert_eq!(said("<html>"), None);
        assert_eq!(said(r#"{"error":{}}"#), None);
    }

    proptest! {
        #[test]
        fn nothing_that_comes_makes_it_stumble(
            bytes in prop::collection::vec(any::<u8>(), 0..200),
            near in r#"[\[\]{}",:a-z0-9 ]{0,60}"#,
            cut in 0usize..120,
        ) {
            let _ = each(&bytes, &KEYS, &mut |_| ());
            let _ = each(near.as_bytes(), &KEYS, &mut |_| ());
            let _ = (one(&bytes, &KEYS, "id"), one(near.as_bytes(), &KEYS, "id"), said_in(&bytes));
            let whole = r#"{"currentappstacks":{"appstacks":[{"id":1,"name":"a\\b"},{"id":"2"}]},"error":null}"#;
            let mut count = 0;
            let read = each(whole.as_bytes().get(..cut.min(whole.len())).unwrap(), &KEYS, &mut |_| count += 1);
            prop_assert_eq!(read.is_ok(), cut >= whole.len());
            prop_assert!(count <= 2);
        }
    }
}
