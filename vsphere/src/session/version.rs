//! Versions of the vSphere API. Each call uses the lowest version that has what it needs: a server responds in the format of
//! the requested version, so formats stay the same from release to release.

use std::fmt;

use crate::xml::XmlNode;

/// `6.0`, `7.0.3.1`. Missing parts are 0.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ApiVersion {
    order: [u32; 4],
    /// The server's spelling: it accepts `6.0`, not `6.0.0.0`.
    text: String,
}

impl ApiVersion {
    /// The oldest supported version: since 6.0 vCenter manages the accounts of a host.
    pub(crate) const BASE: Self = Self { order: [6, 0, 0, 0], text: String::new() };
    /// The first version that lists the names of files that users see.
    pub(crate) const FRIENDLY_NAMES: Self = Self { order: [6, 5, 0, 0], text: String::new() };
    /// The first version whose tickets name the host's certificate by SHA-256.
    pub(crate) const THUMBPRINTS: Self = Self { order: [7, 0, 3, 1], text: String::new() };

    /// The lowest of the sorted `listed` from `least` on; otherwise the highest, otherwise 6.0.
    pub(crate) fn choose(listed: &[Self], least: Self) -> Self {
        let found = listed.iter().find(|version| version.order >= least.order).or_else(|| listed.last());
        found.cloned().unwrap_or_else(|| Self { text: "6.0".to_owned(), ..Self::BASE })
    }

    fn parse(text: &str) -> Option<Self> {
        let mut order = [0; 4];
        let mut parts = text.split('.');
        for number in &mut order {
            match parts.next() {
                Some(part) => *number = part.parse().ok()?,
                None => break,
            }
        }
        (parts.next().is_none() && text.len() <= 32).then(|| Self { order, text: text.to_owned() })
    }
}

impl fmt::Display for ApiVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// The versions of `urn:vim25` from 6.0 on in a `vimServiceVersions.xml`, sorted. Empty if it can't be parsed.
pub(super) fn listed(body: &[u8]) -> Vec<ApiVersion> {
    let Ok(root) = XmlNode::parse(body) else { return Vec::new() };
    let Some(space) = root.all("namespace").find(|space| space.text_of("name") == Some("urn:vim25")) else {
        return Vec::new();
    };
    let prior = space.get("priorVersions").map(|prior| prior.children.as_slice()).unwrap_or_default();
    let mut versions: Vec<ApiVersion> = space
        .get("version")
        .into_iter()
        .chain(prior.iter().filter(|node| &*node.name == "version"))
        .filter_map(|node| ApiVersion::parse(node.text.trim()))
        .filter(|version| version.order >= ApiVersion::BASE.order)
        .collect();
    versions.sort();
    versions
}
