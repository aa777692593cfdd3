//! Names of datastores and paths on them, as different systems spell them. vSphere, App Volumes and a configuration may write
//! one place in several ways (`NFS01` and `nfs01`, `a//b`, `a\b`, `team%2fa` and `team/a`): here they become one.

use crate::{Location, SiteName};

/// What places are compared by: equal for all spellings of one place.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PlaceKey {
    site: SiteName,
    datastore: String,
    path: String,
}

impl PlaceKey {
    /// The key of a path on a datastore.
    #[must_use]
    pub fn new(site: &SiteName, datastore: &str, path: &str) -> Self {
        Self { site: site.clone(), datastore: datastore_key(datastore), path: path_key(path) }
    }
}

impl From<&Location> for PlaceKey {
    fn from(location: &Location) -> Self {
        Self::new(&location.site, &location.datastore, &location.path)
    }
}

/// What names of datastores are compared by. vSphere writes `/`, `\` and `%` in a name as `%2f`, `%5c` and `%25`; a person may
/// write either.
#[must_use]
pub fn datastore_key(name: &str) -> String {
    let mut key = String::with_capacity(name.len());
    let mut rest = name.trim();
    while let Some(at) = rest.find('%') {
        let (before, escape) = rest.split_at(at);
        key.push_str(before);
        let plain = match escape.get(..3).map(str::to_ascii_lowercase).as_deref() {
            Some("%25") => Some('%'),
            Some("%2f") => Some('/'),
            Some("%5c") => Some('\\'),
            _ => None,
        };
        key.push(plain.unwrap_or('%'));
        rest = escape.get(if plain.is_some() { 3 } else { 1 }..).unwrap_or_default();
    }
    key.push_str(rest);
    key.to_lowercase()
}

/// A path relative to its datastore: folders parted by one `/` each, none at either end. None where it leaves the datastore.
#[must_use]
pub fn clean_path(path: &str) -> Option<String> {
    let parts = path.trim().split(['/', '\\']).filter(|part| !matches!(*part, "" | "."));
    let parts: Vec<&str> = parts.collect();
    (!parts.contains(&"..")).then(|| parts.join("/"))
}

/// What paths are compared by.
#[must_use]
pub fn path_key(path: &str) -> String {
    clean_path(path).unwrap_or_else(|| path.to_owned()).to_lowercase()
}

/// The datastore and the path in `[datastore] folder/file.vmdk`. `known` are names of datastores; a name may hold brackets and
/// `] ` itself, so the longest known one counts, and where none is known the brackets are matched.
#[must_use]
pub fn split_datastore_path<'t>(text: &'t str, known: &[String]) -> Option<(&'t str, &'t str)> {
    let inner = text.trim().strip_prefix('[')?;
    let fits = |name: &&String| inner.strip_prefix(name.as_str()).is_some_and(|rest| rest.starts_with(']'));
    let known = known.iter().filter(|name| !name.is_empty()).filter(fits).map(String::len).max();
    let end = known.or_else(|| closing(inner)).or_else(|| inner.find("] ")).or_else(|| inner.find(']'))?;
    let (datastore, rest) = (inner.get(..end)?, inner.get(end + 1..)?);
    (!datastore.trim().is_empty()).then(|| (datastore, rest.trim_start().trim_start_matches('/')))
}

/// Where the bracket closes that was opened before `text`.
fn closing(text: &str) -> Option<usize> {
    let mut open = 1usize;
    text.char_indices().find_map(|(at, c)| {
        match c {
            '[' => open += 1,
            ']' => open -= 1,
            _ => {}
        }
        (open == 0).then_some(at)
    })
}

/// Of `names` the one most like `name`, where one is like it at all: no more than a third of the letters differ.
#[must_use]
pub fn nearest_name<'a>(name: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let wanted = datastore_key(name);
    let near = names.into_iter().map(|other| (distance(&wanted, &datastore_key(other)), other)).min()?;
    (near.0 <= wanted.chars().count().div_ceil(3)).then_some(near.1)
}

/// How many characters have to be changed, added or left out to make one of the other.
#[must_use]
pub fn distance(one: &str, two: &str) -> usize {
    // Names are at most 80 characters long; a longer text is not worth the time.
    let two: Vec<char> = two.chars().take(100).collect();
    let mut row: Vec<usize> = (0..=two.len()).collect();
    for (i, c) in one.chars().take(100).enumerate() {
        let mut next = vec![i + 1];
        for (j, d) in two.iter().enumerate() {
            let at = |row: &[usize], j: usize| row.get(j).copied().unwrap_or(usize::MAX - 1);
            let changed = at(&row, j) + usize::from(c != *d);
            next.push(changed.min(at(&row, j + 1) + 1).min(at(&next, j) + 1));
        }
        row = next;
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_place_has_one_key_however_it_is_written() {
        let site = SiteName("dc1".to_owned());
        let key = |datastore: &str, path: &str| PlaceKey::new(&site, datastore, path);
        let plain = key("nfs01", "cloudvolumes/writable/CORP!5C!jdoe.vmdk");
        for (datastore, path) in [
            ("NFS01", "cloudvolumes/writable/CORP!5C!jdoe.vmdk"),
            (" nfs01 ", "/cloudvolumes//writable/CORP!5C!jdoe.vmdk"),
            ("nfs01", r"cloudvolumes\writable\CORP!5C!jdoe.vmdk"),
            ("Nfs01", "./CloudVolumes/./Writable/corp!5c!JDOE.VMDK "),
        ] {
            assert_eq!(key(datastore, path), plain, "[{datastore}] {path}");
        }
        for (datastore, path) in [
            ("nfs011", "cloudvolumes/writable/CORP!5C!jdoe.vmdk"),
            ("nfs01", "writable/CORP!5C!jdoe.vmdk"),
            ("nfs01", "cloudvolumes/writable/CORP!5C!jdoe2.vmdk"),
        ] {
            assert_ne!(key(datastore, path), plain, "[{datastore}] {path}");
        }
        let elsewhere = SiteName("dc2".to_owned());
        assert_ne!(PlaceKey::new(&elsewhere, "nfs01", "cloudvolumes/writable/CORP!5C!jdoe.vmdk"), plain);
    }

    #[test]
    fn escaped_names_are_the_plain_ones() {
        for (one, other) in [("team%2fa", "team/a"), ("100%25 SSD", "100% ssd"), ("a%5Cb", r"A\b"), ("50%", "50%25")] {
            assert_eq!(datastore_key(one), datastore_key(other), "{one}");
        }
        assert_eq!(datastore_key("%"), "%");
        assert_eq!(datastore_key("%2"), "%2");
        assert_eq!(datastore_key("ä%é%2fü"), "ä%é/ü");
    }

    #[test]
    fn paths_stay_below_their_datastore() {
        assert_eq!(clean_path("/a//b\\c/"), Some("a/b/c".to_owned()));
        assert_eq!(clean_path(""), Some(String::new()));
        for way_out in ["..", "a/../b", r"..\a"] {
            assert_eq!(clean_path(way_out), None, "{way_out}");
        }
    }

    #[test]
    fn datastores_may_have_brackets_in_their_names() {
        let known = ["ssd [fast] 01", "ssd", "odd] name"].map(str::to_owned);
        for (text, names, expected) in [
            ("[nfs01] a/b.vmdk", &known[..], Some(("nfs01", "a/b.vmdk"))),
            ("[nfs01] a [x] b/c.vmdk", &[], Some(("nfs01", "a [x] b/c.vmdk"))),
            ("[ssd [fast] 01] a/b.vmdk", &known, Some(("ssd [fast] 01", "a/b.vmdk"))),
            ("[ssd [fast] 01] a/b.vmdk", &[], Some(("ssd [fast] 01", "a/b.vmdk"))),
            ("[ssd] a/b.vmdk", &known, Some(("ssd", "a/b.vmdk"))),
            ("[odd] name] /a.vmdk", &known, Some(("odd] name", "a.vmdk"))),
            ("[odd[ name] a.vmdk", &[], Some(("odd[ name", "a.vmdk"))),
            ("[nfs01]a.vmdk", &[], Some(("nfs01", "a.vmdk"))),
            ("[nfs01]", &[], Some(("nfs01", ""))),
            ("[] a.vmdk", &[], None),
            ("[nfs01", &[], None),
            ("nfs01 a.vmdk", &[], None),
        ] {
            assert_eq!(split_datastore_path(text, names), expected, "{text}");
        }
    }

    #[test]
    fn the_nearest_name_is_named() {
        assert_eq!(nearest_name("nfs1", ["archive", "nfs01", "vmfs-07"]), Some("nfs01"));
        assert_eq!(nearest_name("prod", ["archive", "nfs01"]), None);
        for (one, two, expected) in
            [("", "", 0), ("abc", "", 3), ("", "ab", 2), ("kitten", "sitting", 3), ("ds1", "ds1", 0)]
        {
            assert_eq!(distance(one, two), expected, "{one} {two}");
        }
    }
}
