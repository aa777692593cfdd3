//! The state of a running manager: its site, its sessions and its requests.

use std::collections::BTreeMap;

use super::fault::AvmFault;
use super::site::AvmSite;

/// A received request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordedRequest {
    /// `GET`, `POST`, …
    pub method: String,
    /// The path, with its query.
    pub path: String,
}

impl RecordedRequest {
    /// The method and the path without its query, `{id}` in place of each number.
    #[must_use]
    pub fn shape(&self) -> String {
        format!("{} {}", self.method, shape(&self.path))
    }

    /// Whether it was about a single volume.
    #[must_use]
    pub fn is_detail(&self) -> bool {
        let shape = shape(&self.path);
        shape.contains("{id}") && !shape.contains("storage_groups")
    }

    /// Whether it was neither a `GET` nor a login nor a logout.
    #[must_use]
    pub fn is_write(&self) -> bool {
        self.method != "GET" && !shape(&self.path).ends_with("/sessions")
    }
}

/// A path without its query, `{id}` in place of each number.
pub(super) fn shape(path: &str) -> String {
    let path = path.split('?').next().unwrap_or_default();
    let is_number = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    path.split('/').map(|part| if is_number(part) { "{id}" } else { part }).collect::<Vec<_>>().join("/")
}

/// A change that a request made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Write {
    /// A writable was disabled.
    Disable(u64),
    /// A writable was enabled.
    Enable(u64),
    /// Everything was detached from everyone.
    Cleanup,
}

#[derive(Debug)]
pub(super) struct World {
    pub(super) site: AvmSite,
    /// Cookies, and the places of their users in the site.
    pub(super) sessions: BTreeMap<String, usize>,
    pub(super) expire_after: Option<usize>,
    pub(super) faults: Vec<(String, AvmFault, Option<usize>)>,
    pub(super) requests: Vec<RecordedRequest>,
    pub(super) writes: Vec<Write>,
    pub(super) logins: usize,
    pub(super) refusals: usize,
}

impl World {
    pub(super) fn new(site: AvmSite) -> Self {
        Self {
            site,
            sessions: BTreeMap::new(),
            expire_after: None,
            faults: Vec::new(),
            requests: Vec::new(),
            writes: Vec::new(),
            logins: 0,
            refusals: 0,
        }
    }

    /// The fault that this path meets, if any.
    pub(super) fn fault(&mut self, path: &str) -> Option<AvmFault> {
        let (bare, shape) = (path.split('?').next().unwrap_or_default(), shape(path));
        let at = self.faults.iter().position(|(wanted, ..)| wanted == bare || *wanted == shape)?;
        let (_, fault, times) = self.faults.get_mut(at)?;
        let fault = *fault;
        if let Some(left) = times {
            *left = left.saturating_sub(1);
            if *left == 0 {
                self.faults.remove(at);
            }
        }
        Some(fault)
    }
}
