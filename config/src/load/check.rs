//! Compares the tree with the schema: unknown keys, types, words, ranges and missing keys, each with its place. Values are
//! quoted in an error only where the schema lists the words that may stand there; anything else could be a secret.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::near::nearest;
use super::place::{Issue, PathStep};
use crate::model::list;
use crate::schema::{Shape, TableShape};
use crate::value::shown;

/// Checks the whole tree.
pub(super) fn root(root: &DeTable<'_>, shape: &Shape<'_>) -> Result<(), Issue> {
    match shape.table() {
        Some(known) => table(root, known, &[]),
        None => Ok(()),
    }
}

/// How a table is called in an error: `[limits]`, `[[datastore]]`, `[serve] datastores`.
fn title(path: &[PathStep]) -> String {
    let keys: Vec<&str> = path
        .iter()
        .filter_map(|step| match step {
            PathStep::Key(key) => Some(key.as_str()),
            PathStep::Item(_) => None,
        })
        .collect();
    match path.last() {
        None => "the configuration".to_owned(),
        Some(PathStep::Item(_)) => format!("[[{}]]", keys.join(".")),
        Some(PathStep::Key(_)) => format!("[{}]", keys.join(".")),
    }
}

fn table(entries: &DeTable<'_>, known: TableShape<'_>, path: &[PathStep]) -> Result<(), Issue> {
    // In the order of the file, so that the first error is the topmost.
    let mut sorted: Vec<_> = entries.iter().collect();
    sorted.sort_by_key(|(key, _)| key.span().start);
    for (key, entry) in sorted {
        let name = key.get_ref().as_ref();
        let shape = known.key(name).or_else(|| known.free_keys());
        let mut here = path.to_vec();
        here.push(PathStep::key(name));
        match shape {
            Some(shape) => value(entry, &shape, &mut here)?,
            None => return Err(unknown(name, entry.get_ref(), known, here)),
        }
    }
    for key in known.required() {
        if !entries.contains_key(key) {
            let example = known.key(key).and_then(|shape| shape.example());
            let hint = match example {
                Some(example) => format!("add it, as {key} = {example}"),
                None => "add it".to_owned(),
            };
            return Err(Issue::at(path.to_vec(), format!("{} needs `{key}`", title(path))).with_hint(hint));
        }
    }
    Ok(())
}

fn unknown(name: &str, entry: &DeValue<'_>, known: TableShape<'_>, here: Vec<PathStep>) -> Issue {
    let keys = known.keys();
    let outer = here.split_last().map_or(&[][..], |(_, outer)| outer);
    let what = match entry {
        DeValue::Table(_) if outer.is_empty() => format!("there is no table {}", quoted(name)),
        _ if outer.is_empty() => format!("unknown key {} outside of any table", quoted(name)),
        _ => format!("unknown key {} in {}", quoted(name), title(outer)),
    };
    let elsewhere = known
        .properties()
        .find(|(_, schema)| Shape::new(schema).table().is_some_and(|table| table.key(name).is_some()))
        .map(|(table, _)| table);
    let hint = match (nearest(name, keys.iter().copied()), elsewhere) {
        (Some(near), _) => format!("did you mean `{near}`?"),
        (None, Some(table)) => format!("it belongs into [{table}]"),
        (None, None) => format!("there are {}", list(&keys)),
    };
    Issue::at_key(here, what).with_hint(hint)
}

fn quoted(name: &str) -> String {
    let plain = name.len() <= 60 && name.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '-'));
    if plain { format!("`{name}`") } else { shown(name) }
}

fn value(entry: &Spanned<DeValue<'_>>, shape: &Shape<'_>, path: &mut Vec<PathStep>) -> Result<(), Issue> {
    if shape.is_choice_of_tables() {
        // A reference to a secret: its own type says what is wrong, without repeating what stands there.
        return Ok(());
    }
    let entry = entry.get_ref();
    if !shape.takes(json_type(entry)) {
        let name = path.iter().rev().find_map(|step| match step {
            PathStep::Key(key) => Some(key.as_str()),
            PathStep::Item(_) => None,
        });
        let what = match path.last() {
            Some(PathStep::Item(_)) => format!("an item of `{}`", name.unwrap_or_default()),
            _ => format!("`{}`", name.unwrap_or_default()),
        };
        let text = format!("{what} must be {}, not {}", shape.describe(), said(entry));
        let issue = Issue::at(path.clone(), text);
        return Err(match shape.example() {
            Some(example) => issue.with_hint(format!("for example {example}")),
            None => issue,
        });
    }
    match entry {
        DeValue::Table(entries) => match shape.table() {
            Some(known) => table(entries, known, path),
            None => Ok(()),
        },
        DeValue::Array(entries) => {
            let Some(shape) = shape.items() else { return Ok(()) };
            for (at, entry) in entries.iter().enumerate() {
                path.push(PathStep::Item(at));
                value(entry, &shape, path)?;
                path.pop();
            }
            Ok(())
        }
        DeValue::String(word) => words(word, shape, path),
        DeValue::Integer(number) => {
            let (least, most) = shape.range();
            let number = i64::from_str_radix(number.as_str(), number.radix()).ok();
            let fits = number.is_some_and(|number| {
                least.is_none_or(|least| number >= least) && most.is_none_or(|most| number <= most)
            });
            if fits {
                return Ok(());
            }
            let range = match (least, most) {
                (Some(least), Some(most)) => format!("from {least} to {most}"),
                (Some(least), None) => format!("of at least {least}"),
                (None, Some(most)) => format!("of at most {most}"),
                (None, None) => "of at most 63 bits".to_owned(),
            };
            Err(Issue::at(path.clone(), format!("`{}` must be a whole number {range}", last(path))))
        }
        _ => Ok(()),
    }
}

fn words(word: &str, shape: &Shape<'_>, path: &[PathStep]) -> Result<(), Issue> {
    let words = shape.words();
    if words.is_empty() || words.contains(&word) {
        return Ok(());
    }
    let text = format!("`{}` must be one of {}, not {}", last(path), list(&words), shown(word));
    let issue = Issue::at(path.to_vec(), text);
    Err(match nearest(word, words) {
        Some(near) => issue.with_hint(format!("did you mean `{near}`?")),
        None => issue,
    })
}

fn last(path: &[PathStep]) -> &str {
    path.iter()
        .rev()
        .find_map(|step| match step {
            PathStep::Key(key) => Some(key.as_str()),
            PathStep::Item(_) => None,
        })
        .unwrap_or_default()
}

/// The JSON type of a TOML value; times and fractions are in no key.
pub(super) fn json_type(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "string",
        DeValue::Integer(_) => "integer",
        DeValue::Float(_) => "number",
        DeValue::Boolean(_) => "boolean",
        DeValue::Datetime(_) => "date-time",
        DeValue::Array(_) => "array",
        DeValue::Table(_) => "object",
    }
}

fn said(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a text",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date or time without quotes",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}
