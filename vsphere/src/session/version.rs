//! Versions of the vSphere API. A call is made in the lowest version that has what it needs: a server gives the shapes of the
//! version that it is asked in, so they stay the same from release to release.

use std::fmt;

use crate::xml::Node;

/// `6.0`, `7.0.3.1`. Missing parts are 0.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Version {
    order: [u32; 4],
    /// As the server writes it: it knows `6.0`, not `6.0.0.0`.
    text: String,
}

impl Version {
    /// The oldest that is spoken here: since 6.0 a host's accounts are reached through vCenter.
    pub(crate) const BASE: Self = Self { order: [6, 0, 0, 0], text: String::new() };
    /// Where a listed file tells the name that a person knows.
    pub(crate) const FRIENDLY_NAMES: Self = Self { order: [6, 5, 0, 0], text: String::new() };
    /// Where a ticket names the host's certificate by SHA-256.
    pub(crate) const THUMBPRINTS: Self = Self { order: [7, 0, 3, 1], text: String::new() };

    /// The lowest of the sorted `listed` that is at least `least`; else the highest, else 6.0.
    pub(crate) fn choose(listed: &[Self], least: Self) -> Self {
        let found = listed.iter().find(|version| version.order >= least.order).or_else(|| listed.last());
        found.cloned().unwrap_or_else(|| Self { text: "6.0".to_owned(), ..Self::BASE })
    }

    fn parse(text: &str) -> Option<Self> {
        let mut order = [0; 4];
        let mut parts = text.split('.');
        for place in &mut order {
            match parts.next() {
                Some(part) => *place = part.parse().ok()?,
                None => break,
            }
        }
        (parts.next().is_none() && text.len() <= 32).then(|| Self { order, text: text.to_owned() })
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// The versions of `urn:vim25`, from 6.0, that a `vimServiceVersions.xml` lists, sorted. Empty where it can't be understood.
pub(super) fn listed(body: &[u8]) -> Vec<Version> {
    let Ok(root) = Node::parse(body) else { return Vec::new() };
    let Some(space) = root.all("namespace").find(|space| space.text_of("name") == Some("urn:vim25")) else {
        return Vec::new();
    };
    let prior = space.get("priorVersions").map(|prior| prior.children.as_slice()).unwrap_or_default();
    let mut versions: Vec<Version> = space
        .get("version")
        .into_iter()
        .chain(prior.iter().filter(|node| &*node.name == "version"))
        .filter_map(|node| Version::parse(node.text.trim()))
        .filter(|version| version.order >= Version::BASE.order)
        .collect();
    versions.sort();
    versions
}
