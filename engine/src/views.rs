//! What commands print on stdout: one type for each answer, with the contract's JSON and a table for people.
//!
//! JSON only grows: keys are added, never changed or removed, and a key that has nothing to tell is `null`. Sizes are
//! bytes and times RFC 3339 in UTC there. Tables show sizes as people read them, times in the local zone, and no text
//! from outside with its control characters. Nothing here asks the catalog or the vault for anything.

mod admin;
mod copy;
mod grant;
mod job;
mod notify;
mod prune;
mod token;
mod verify;
mod version;
mod volume;

pub use admin::{AuditVerifyView, AuditView, BrokenRecord, CheckItem, CheckView, PathProblem, PinView, RebuildView};
pub use copy::{CopyView, RunItem, RunOutcome, RunProblem, RunView};
pub use grant::GrantView;
pub use job::{CancelView, ClockView, JobErrorView, JobView, JobsView, PausedView, PausesView};
pub use notify::{NotifyItem, NotifyView};
pub use prune::{HeldItem, PruneItem, PruneView};
pub use token::{NewTokenView, TokenView, TokensView};
pub use verify::{DamageView, RestoreView, VerifyView};
pub use version::{VersionView, VersionsView};
pub use volume::{
    DiscoverItem, DiscoverView, LocationView, OtherView, ProtectedView, ReasonBody, VolumeView, VolumesView,
};
