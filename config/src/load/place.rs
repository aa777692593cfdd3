//! Where things stand: from a key or a span of the tree to a line of the file, a variable or a flag.

use std::ops::Range;
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::error::{Invalid, Origin};

/// One step from a table or list to what it holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum PathStep {
    /// The key of a table.
    Key(String),
    /// The place in a list, from 0.
    Item(usize),
}

impl PathStep {
    pub(crate) fn key(name: &str) -> Self {
        Self::Key(name.to_owned())
    }
}

/// Something wrong whose place is not worked out yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Issue {
    at: IssuePosition,
    text: String,
    hint: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum IssuePosition {
    /// A key; when it does not exist, the table it would stand in.
    Path(Vec<PathStep>),
    /// The key's own name rather than its value.
    KeyOf(Vec<PathStep>),
    /// Some part of the text.
    Span(Option<Range<usize>>),
    /// A variable or flag that never came into the tree.
    Outside(Origin),
}

impl Issue {
    pub(crate) fn at(path: Vec<PathStep>, text: impl Into<String>) -> Self {
        Self { at: IssuePosition::Path(path), text: text.into(), hint: None }
    }

    pub(crate) fn at_key(path: Vec<PathStep>, text: impl Into<String>) -> Self {
        Self { at: IssuePosition::KeyOf(path), text: text.into(), hint: None }
    }

    pub(crate) fn at_span(span: Option<Range<usize>>, text: impl Into<String>) -> Self {
        Self { at: IssuePosition::Span(span), text: text.into(), hint: None }
    }

    pub(crate) fn outside(origin: Origin, text: impl Into<String>) -> Self {
        Self { at: IssuePosition::Outside(origin), text: text.into(), hint: None }
    }

    pub(crate) fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

/// All the places that values can come from. A value that is not from the file has a span behind the file's end, one byte
/// for each variable or flag.
pub(crate) struct SourceMap<'a> {
    path: PathBuf,
    text: &'a str,
    others: Vec<Origin>,
}

impl<'a> SourceMap<'a> {
    pub(crate) fn new(path: &Path, text: &'a str) -> Self {
        Self { path: path.to_owned(), text, others: Vec::new() }
    }

    /// A span for everything that comes from this variable or flag.
    pub(crate) fn add(&mut self, origin: Origin) -> Range<usize> {
        // One byte of distance, since an error at the very end of the file points there.
        let start = self.text.len() + 1 + self.others.len();
        self.others.push(origin);
        start..start + 1
    }

    fn origin(&self, span: Option<Range<usize>>) -> Origin {
        let Some(span) = span else { return Origin::File(self.path.clone()) };
        if let Some(origin) = span.start.checked_sub(self.text.len() + 1).and_then(|at| self.others.get(at)) {
            return origin.clone();
        }
        let before = self.text.get(..span.start).unwrap_or(self.text);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        Origin::Place {
            path: self.path.clone(),
            line: before.bytes().filter(|byte| *byte == b'\n').count() + 1,
            column: before.get(line_start..).unwrap_or_default().chars().count() + 1,
        }
    }

    /// Works out the place of an issue in the tree it was found in.
    pub(crate) fn locate(&self, issue: Issue, root: Option<&DeTable<'_>>) -> Invalid {
        let (origin, subject) = match issue.at {
            IssuePosition::Path(path) => {
                (self.origin(root.and_then(|root| find(root, &path, false))), say(root, &path))
            }
            IssuePosition::KeyOf(path) => {
                (self.origin(root.and_then(|root| find(root, &path, true))), say(root, &path))
            }
            IssuePosition::Span(span) => {
                let path = root.zip(span.clone()).and_then(|(root, span)| path_to(root, &span));
                (self.origin(span), path.and_then(|path| say(root, &path)))
            }
            IssuePosition::Outside(origin) => (origin, None),
        };
        Invalid { origin, subject, text: issue.text, hint: issue.hint }
    }
}

/// The span of the value (or key) at the end of the path; where the path breaks off, that of the last table on it.
fn find(root: &DeTable<'_>, path: &[PathStep], key: bool) -> Option<Range<usize>> {
    let mut found = None;
    let mut table = Some(root);
    let mut list = None;
    for (at, step) in path.iter().enumerate() {
        let value: Option<&Spanned<DeValue<'_>>> = match step {
            PathStep::Key(name) => {
                let entry = table.and_then(|table| table.get_key_value(name.as_str()));
                if let (Some((name, _)), true) = (entry, key && at + 1 == path.len()) {
                    return Some(name.span());
                }
                entry.map(|(_, value)| value)
            }
            PathStep::Item(at) => list.and_then(|list: &toml::de::DeArray<'_>| list.get(*at)),
        };
        let Some(value) = value else { return found };
        // A table that is only implied by `[a.b]` has the span of its header; a root has none.
        found = Some(value.span());
        table = value.get_ref().as_table();
        list = value.get_ref().as_array();
    }
    found
}

/// The path to the value or key with exactly this span.
fn path_to(root: &DeTable<'_>, span: &Range<usize>) -> Option<Vec<PathStep>> {
    fn within(value: &Spanned<DeValue<'_>>, span: &Range<usize>, path: &mut Vec<PathStep>) -> bool {
        if value.span() == *span {
            return true;
        }
        match value.get_ref() {
            DeValue::Table(table) => in_table(table, span, path),
            DeValue::Array(items) => items.iter().enumerate().any(|(at, item)| {
                path.push(PathStep::Item(at));
                within(item, span, path) || path.pop().is_none()
            }),
            _ => false,
        }
    }
    fn in_table(table: &DeTable<'_>, span: &Range<usize>, path: &mut Vec<PathStep>) -> bool {
        table.iter().any(|(key, value)| {
            path.push(PathStep::key(key.get_ref()));
            key.span() == *span || within(value, span, path) || path.pop().is_none()
        })
    }
    let mut path = Vec::new();
    in_table(root, span, &mut path).then_some(path)
}

/// The most characters of one key or name that an error's subject shows.
const LONGEST_KEY: usize = 80;

/// A path as a person says it: `limits.transfers`, `datastore[nfs01].path`, `schedule.windows[#2]`.
fn say(root: Option<&DeTable<'_>>, path: &[PathStep]) -> Option<String> {
    let mut said = String::new();
    let mut table = root;
    let mut list = None;
    for step in path {
        let value = match step {
            PathStep::Key(name) => {
                if !said.is_empty() {
                    said.push('.');
                }
                // A key may hold anything, also what would steer a terminal.
                said.extend(name.chars().take(LONGEST_KEY).flat_map(char::escape_debug));
                table.and_then(|table| table.get(name.as_str()))
            }
            PathStep::Item(at) => {
                let item = list.and_then(|list: &toml::de::DeArray<'_>| list.get(*at));
                let name = item.and_then(|item| item.get_ref().get("name")).and_then(|name| name.get_ref().as_str());
                match name {
                    Some(name) => {
                        said.push('[');
                        said.extend(name.chars().take(LONGEST_KEY).flat_map(char::escape_debug));
                        said.push(']');
                    }
                    None => said.push_str(&format!("[#{}]", at + 1)),
                }
                item
            }
        };
        table = value.and_then(|value| value.get_ref().as_table());
        list = value.and_then(|value| value.get_ref().as_array());
    }
    (!said.is_empty()).then_some(said)
}
