//! Somebody who is logged in.

use stackferry_catalog::Role;

use crate::http::Caller;

/// Somebody who is logged in.
#[derive(Clone)]
pub(super) struct User {
    pub(super) caller: Caller,
    /// What every form of the session carries.
    pub(super) word: String,
}

impl User {
    pub(super) fn may(&self, least: Role) -> bool {
        self.caller.role.covers(least)
    }
}
