//! What is known and what is to be done, in SQL: volumes and where they are, versions, attempts, leases, credentials
//! issued, audit.
//!
//! The catalog is an index: the vault is the truth about versions, and what is here of them can be rebuilt with
//! `rebuild`. Only attempts, leases, credentials, audit and the descriptor cache live here alone. No secret is ever
//! written here.
//!
//! # Durability
//!
//! Every function that writes is one SQLite transaction that began with `BEGIN IMMEDIATE`, in a WAL file with
//! `synchronous=FULL`:
//!
//! 1. the new pages are appended to the WAL;
//! 2. the commit record is appended, and the WAL is synced to disk;
//! 3. only then the function returns `Ok`.
//!
//! A crash before 2 leaves nothing of the transaction, a crash after it leaves all of it; a later checkpoint copies
//! the pages into the main file and is repeated from the WAL if it is cut off. A function that returns an error, or
//! whose future is dropped before it is done, has written all or nothing, nearly always nothing.

mod attempts;
mod audit;
mod baselines;
mod cleanups;
mod clock;
mod convert;
mod credentials;
mod damages;
mod descriptors;
mod error;
mod file;
mod fleet;
mod history;
mod index;
mod jobs;
mod leases;
mod meta;
mod migrations;
mod notify;
mod pool;
mod process;
mod rebuild;
mod renamed;
mod scratch;
mod session;
mod tallies;
mod tokens;
mod versions;
mod volumes;

pub use attempts::{Attempt, AttemptEnd, AttemptId, Outcome, Trigger};
pub use audit::{AuditAction, AuditCheck, AuditRecord};
pub use cleanups::{Cleanup, CleanupId, CleanupKind, PendingCleanup};
pub use clock::Clock;
pub use credentials::{CredentialEnding, CredentialRow, Direction, NewCredential};
pub use descriptors::{DescriptorRow, MAX_CACHED_DESCRIPTOR};
pub use error::{CatalogError, DatabaseCause, LeaseBusy};
pub use fleet::{Fleet, FleetVolume};
pub use history::{HistoryLimits, Trimmed};
pub use index::{IndexChange, IndexedVersion, IndexedVolume};
pub use jobs::{Cancelled, Claim, Job, JobEnd, JobFilter, JobId, JobKind, JobState, NewJob, Pause, Priority};
pub use leases::{LEASE_LIFE, Lease, LeaseGuard, LeaseInfo, RENEW_EVERY};
pub use notify::{Channel, NewMessage, NotifyChange, ReportedProblem, WaitingMessage};
pub use pool::Catalog;
pub use process::Process;
pub use rebuild::{VaultLocation, VaultVolume};
pub use tokens::{NewToken, Role, TokenRow};
pub use versions::{RestoreTest, VersionContent, VersionRow};
pub use volumes::{
    DatastoreKey, FoundVolumes, FreshnessByKind, FreshnessLimit, InventoryChange, InventoryRound, LocationRow,
    ObservedLocation, ObservedVolume, Page, PostponedVolume, Standing, StandingCount, StatusReason,
    UnreachableDatastore, VolumeFilter, VolumeOrder, VolumeRow,
};

pub use stackferry_volume::{Baseline, VolumeState};
