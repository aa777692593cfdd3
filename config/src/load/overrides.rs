//! Settings from the environment and from flags, which go before the file.
//!
//! `STACKFERRY_<TABLE>__<KEY>` sets a key: `STACKFERRY_STATE_DIR`, `STACKFERRY_VAULT__PATH`,
//! `STACKFERRY_SCHEDULE__WRITABLE__MAX_AGE`. A value is read as TOML where that gives what the key takes, else as plain
//! text. Entries of a list cannot be set one by one; a whole list can, as TOML.
//!
//! A variable under the prefix that sets nothing is an error, since a misspelt one would be silently ignored. Not
//! settings, and left alone, are: `STACKFERRY_CONFIG` (the file), `STACKFERRY_OUTPUT` and `STACKFERRY_LOG` (options of the
//! command line), whatever begins with `STACKFERRY_LAB_` or `STACKFERRY_TEST_`, and variables that the file names as the
//! place of a password.
//!
//! Values are never repeated in an error.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::check::json_type;
use super::near::nearest;
use super::place::{Issue, PathStep, SourceMap};
use crate::error::Origin;
use crate::schema::{Shape, TableShape};

const PREFIX: &str = "STACKFERRY_";
const NOT_SETTINGS: [&str; 3] = ["STACKFERRY_CONFIG", "STACKFERRY_OUTPUT", "STACKFERRY_LOG"];
const NOT_SETTINGS_PREFIXES: [&str; 2] = ["STACKFERRY_LAB_", "STACKFERRY_TEST_"];

/// What goes before the file: the environment, and before that the flags.
#[derive(Clone, Default)]
pub struct Overrides {
    environment: Vec<(OsString, OsString)>,
    flags: Vec<Flag>,
}

#[derive(Clone)]
struct Flag {
    option: String,
    key: String,
    value: String,
}

/// Names only: a value could be a secret that was put into the wrong place.
impl std::fmt::Debug for Overrides {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Overrides")
            .field("environment", &self.environment.iter().map(|(name, _)| name).collect::<Vec<_>>())
            .field("flags", &self.flags.iter().map(|flag| &flag.option).collect::<Vec<_>>())
            .finish()
    }
}

impl Overrides {
    /// Only the file.
    pub fn none() -> Self {
        Self::default()
    }

    /// Takes the variables of an environment, as `std::env::vars_os()`; those of other programs are left out at once.
    #[must_use]
    pub fn environment(mut self, variables: impl IntoIterator<Item = (OsString, OsString)>) -> Self {
        let ours = variables.into_iter().filter(|(name, _)| is_ours(name));
        self.environment.extend(ours);
        // Outer tables before their keys, and errors always in the same order.
        self.environment.sort();
        self
    }

    /// Adds a flag: `option` as the person wrote it (`--state-dir`), `key` with dots (`limits.transfers`), and its value.
    #[must_use]
    pub fn flag(mut self, option: &str, key: &str, value: &str) -> Self {
        self.flags.push(Flag { option: option.to_owned(), key: key.to_owned(), value: value.to_owned() });
        self
    }

    /// Puts the values into the tree.
    pub(super) fn apply<'i>(
        &'i self,
        root: &mut DeTable<'i>,
        shape: &Shape<'_>,
        sources: &mut SourceMap<'_>,
    ) -> Result<(), Issue> {
        let Some(known) = shape.table() else { return Ok(()) };
        let mut passwords = BTreeSet::new();
        password_variables(root, &mut passwords);
        for (name, value) in &self.environment {
            let shown = name.to_string_lossy().into_owned();
            let origin = Origin::Variable(shown.clone());
            let name = name.to_str().ok_or_else(|| Issue::outside(origin.clone(), "its name is not UTF-8"))?;
            if passwords.contains(name) {
                continue;
            }
            let value = value.to_str().ok_or_else(|| Issue::outside(origin.clone(), "its value is not UTF-8 text"))?;
            let path = name.strip_prefix(PREFIX).unwrap_or(name).to_ascii_lowercase();
            let path: Vec<&str> = path.split("__").collect();
            let shape = lookup(known, &path).ok_or_else(|| {
                Issue::outside(origin.clone(), "it sets no key").with_hint(variable_hint(name, known, &path))
            })?;
            put(root, &path, value, &shape, sources.add(origin.clone()), &origin)?;
        }
        for flag in &self.flags {
            let origin = Origin::Flag(flag.option.clone());
            let path: Vec<&str> = flag.key.split('.').collect();
            let shape = lookup(known, &path)
                .ok_or_else(|| Issue::outside(origin.clone(), format!("there is no key `{}`", flag.key)))?;
            put(root, &path, &flag.value, &shape, sources.add(origin.clone()), &origin)?;
        }
        Ok(())
    }
}

fn is_ours(name: &OsStr) -> bool {
    // Lossy is right here: only the beginning counts, and it is ASCII.
    let name = name.to_string_lossy();
    name.starts_with(PREFIX)
        && !NOT_SETTINGS.contains(&name.as_ref())
        && !NOT_SETTINGS_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

/// The variables that `{ env = "…" }` in the file names as places of passwords.
fn password_variables(table: &DeTable<'_>, found: &mut BTreeSet<String>) {
    for (key, value) in table.iter() {
        let tables: Vec<&DeTable<'_>> = match value.get_ref() {
            DeValue::Table(table) => vec![table],
            DeValue::Array(items) => items.iter().filter_map(|item| item.get_ref().as_table()).collect(),
            _ => Vec::new(),
        };
        for table in tables {
            let variable = table.get("env").and_then(|value| value.get_ref().as_str());
            if let (true, Some(variable)) = (key.get_ref().ends_with("password"), variable) {
                found.insert(variable.to_owned());
            }
            password_variables(table, found);
        }
    }
}

fn lookup<'a>(known: TableShape<'a>, path: &[&str]) -> Option<Shape<'a>> {
    let (first, rest) = path.split_first()?;
    let shape = known.key(first)?;
    if rest.is_empty() { Some(shape) } else { lookup(shape.table()?, rest) }
}

fn variable_hint(name: &str, known: TableShape<'_>, path: &[&str]) -> String {
    // The longest beginning that is a key: a list or a table with free names ends there.
    let outer = (1..path.len()).rev().find_map(|length| {
        let outer = path.get(..length)?;
        let shape = lookup(known, outer)?;
        let whole = shape.takes("array") || shape.table().is_some_and(|table| table.free_keys().is_some());
        whole.then(|| format!("{PREFIX}{}", outer.join("__").to_ascii_uppercase()))
    });
    if let Some(outer) = outer {
        return format!("entries cannot be set one by one: set {outer} to all of them, as TOML, or use the file");
    }
    let mut all = Vec::new();
    variables(known, PREFIX, &mut all);
    match nearest(name, all.iter().map(String::as_str)) {
        Some(near) => format!("did you mean {near}?"),
        None => "unset it, or name a key: STACKFERRY_VAULT__PATH sets `path` of [vault]".to_owned(),
    }
}

/// The names of all variables that set a key.
fn variables(table: TableShape<'_>, prefix: &str, into: &mut Vec<String>) {
    for (key, schema) in table.properties() {
        let name = format!("{prefix}{}", key.to_ascii_uppercase());
        if let Some(table) = Shape::new(schema).table() {
            variables(table, &format!("{name}__"), into);
        }
        into.push(name);
    }
}

fn put<'i>(
    root: &mut DeTable<'i>,
    path: &[&str],
    text: &'i str,
    shape: &Shape<'_>,
    span: Range<usize>,
    origin: &Origin,
) -> Result<(), Issue> {
    let parsed = DeValue::parse(text).ok().map(Spanned::into_inner).filter(|value| shape.takes(json_type(value)));
    let value = match parsed {
        Some(value) => stamped(value, &span),
        None => DeValue::String(text.into()),
    };
    let Some((last, tables)) = path.split_last() else { return Ok(()) };
    let mut table = root;
    for (at, name) in tables.iter().enumerate() {
        if !table.contains_key(*name) {
            insert(table, name, DeValue::Table(DeTable::new()), &span);
        }
        table = match table.get_mut(*name).map(Spanned::get_mut) {
            Some(DeValue::Table(inner)) => inner,
            _ => {
                let outer = path.get(..=at).unwrap_or_default();
                let text = format!("`{}` is not a table, so nothing in it can be set by {origin}", outer.join("."));
                return Err(Issue::at(outer.iter().map(|name| PathStep::key(name)).collect(), text));
            }
        };
    }
    insert(table, last, value, &span);
    Ok(())
}

fn insert<'i>(table: &mut DeTable<'i>, name: &str, value: DeValue<'i>, span: &Range<usize>) {
    // The old key would keep its old place.
    table.remove(name);
    table.insert(Spanned::new(span.clone(), name.to_owned().into()), Spanned::new(span.clone(), value));
}

/// The same value with everything in it at one place.
fn stamped<'i>(value: DeValue<'i>, span: &Range<usize>) -> DeValue<'i> {
    let stamp = |value: Spanned<DeValue<'i>>| Spanned::new(span.clone(), stamped(value.into_inner(), span));
    match value {
        DeValue::Array(items) => DeValue::Array(items.into_iter().map(stamp).collect()),
        DeValue::Table(table) => DeValue::Table(
            table
                .into_iter()
                .map(|(key, value)| (Spanned::new(span.clone(), key.into_inner()), stamp(value)))
                .collect(),
        ),
        scalar => scalar,
    }
}
