//! Problems of the vault.

use std::path::Path;

use stackferry_vault::VaultError;

use super::{Code, Problem, shell};
use crate::output::size;

impl From<VaultError> for Problem {
    fn from(error: VaultError) -> Self {
        let problem = Self::of(code(&error), &error);
        match &error {
            VaultError::Missing { path, expected } => problem.path(path).hint(format!(
                "is it mounted? Mount the file system of vault {expected} at {} and try again: nothing is written \
                 into the empty folder",
                path.display()
            )),
            VaultError::NoSpace { path, needed, free, reserve } => {
                let lacking = needed.saturating_add(*reserve).saturating_sub(*free);
                let lower = match reserve {
                    0 => String::new(),
                    reserve => format!(", or lower `vault.reserve`, which keeps {} free", size(*reserve)),
                };
                let hint = format!("make {} more free on the file system of {}{lower}", size(lacking), path.display());
                problem.path(path).hint(hint)
            }
            VaultError::Damaged { volume, version, .. } | VaultError::ManifestDamaged { volume, version, .. } => {
                problem.subject(format_args!("{volume}@{version}")).hint(format!(
                    "use another version (`stackferry versions {}`) and look for a failing disk below the vault",
                    shell(volume)
                ))
            }
            VaultError::NoVersion { volume, .. } => problem
                .subject(volume)
                .hint(format!("`stackferry versions {}` lists those that are there", shell(volume))),
            VaultError::NoVolume { volume } => {
                problem.subject(volume).hint("`stackferry volumes` lists those that are known")
            }
            VaultError::NoFile { volume, version, .. } => {
                problem.subject(format_args!("{volume}@{version}")).hint("leave `--file` away for the disk itself")
            }
            VaultError::Pinned { volume, version } => problem
                .subject(format_args!("{volume}@{version}"))
                .hint(format!("unpin it first: stackferry unpin {}", shell(format_args!("{volume}@{version}")))),
            VaultError::Locked { volume, version, .. } => problem
                .subject(format_args!("{volume}@{version}"))
                .hint("it can be deleted after that time; `vault.lock` says how long versions are locked"),
            VaultError::LastGood { volume, version, .. } | VaultError::NoneReadable { volume, version } => problem
                .subject(format_args!("{volume}@{version}"))
                .hint("it is never deleted while there is no newer good one"),
            VaultError::Conflict { volume, .. } => problem.subject(volume).hint(
                "two disks may have one name: compare their GUIDs in App Volumes with `volume.json` in the vault",
            ),
            VaultError::Busy { subject, .. } => problem.subject(subject).maybe_hint(error.hint()),
            VaultError::NoGroup { group, .. } => problem.subject(group).maybe_hint(error.hint()),
            VaultError::Fenced { transfer, .. } => problem.subject(transfer).maybe_hint(error.hint()),
            VaultError::Incomplete { transfer, .. } => {
                problem.subject(transfer).hint("copy it again; if it comes back, report it with the log")
            }
            VaultError::Io { path, .. } if error.is_file_too_long() => problem.path(path).maybe_hint(error.hint()),
            VaultError::Io { path, .. } if error.is_no_space() => {
                problem.path(path).hint("make space on the vault's file system, then try again")
            }
            VaultError::Io { path, .. } => {
                problem.path(path).hint("look at the kernel log and at the disk or mount below the vault")
            }
            VaultError::Exists { path } => Self::exists(path),
            VaultError::NotAFolder { path }
            | VaultError::NoVault { path }
            | VaultError::NotAVault { path }
            | VaultError::OtherVault { path, .. }
            | VaultError::NewerFormat { path, .. }
            | VaultError::Denied { path, .. }
            | VaultError::RecordDamaged { path, .. } => problem.path(path).maybe_hint(error.hint()),
            VaultError::TwoFileSystems { other, .. } => problem.path(other).maybe_hint(error.hint()),
            error => problem.maybe_hint(error.hint()),
        }
    }
}

/// The problem of a restore into a folder: what failed there says nothing about the vault's own disk.
pub fn into_folder(error: VaultError, to: &Path) -> Problem {
    let is_there = match &error {
        VaultError::Io { path, .. } | VaultError::NoSpace { path, .. } => path.starts_with(to) || to.starts_with(path),
        _ => false,
    };
    let problem = Problem::from(error);
    let shown = to.display();
    match problem.code {
        Code::NoSpace if is_there => {
            problem.subject(&shown).hint(format!("make room on the file system of {shown}, or restore to another one"))
        }
        Code::VaultFailed if is_there => {
            let problem = Problem { code: Code::IoFailed, ..problem }.subject(&shown);
            problem
                .hint(format!("look at the disk or mount of {shown} and at the kernel log, or restore to another one"))
        }
        _ => problem,
    }
}

fn code(error: &VaultError) -> Code {
    match error {
        _ if error.is_no_space() => Code::NoSpace,
        _ if error.is_file_too_long() => Code::FileTooLong,
        VaultError::NotAFolder { .. } => Code::Usage,
        VaultError::Missing { .. } => Code::VaultMissing,
        VaultError::NoVault { .. } => Code::NoVault,
        VaultError::NotAVault { .. } => Code::NotAVault,
        VaultError::OtherVault { .. } => Code::OtherVault,
        VaultError::NewerFormat { .. } => Code::NewerFormat,
        VaultError::TwoFileSystems { .. } => Code::TwoFileSystems,
        VaultError::NoGroup { .. } => Code::BadConfig,
        VaultError::Denied { .. } => Code::PermissionDenied,
        VaultError::ReadOnly { .. } => Code::VaultReadOnly,
        VaultError::NoVolume { .. } => Code::NoSuchVolume,
        VaultError::NoVersion { .. } => Code::NoSuchVersion,
        VaultError::NoFile { .. } => Code::NoSuchFile,
        VaultError::RecordDamaged { .. } => Code::RecordDamaged,
        VaultError::ManifestDamaged { .. } | VaultError::Damaged { .. } => Code::Damaged,
        VaultError::Busy { .. } => Code::Busy,
        VaultError::Pinned { .. }
        | VaultError::Locked { .. }
        | VaultError::LastGood { .. }
        | VaultError::NoneReadable { .. } => Code::VersionProtected,
        VaultError::Conflict { .. } => Code::VaultConflict,
        VaultError::Incomplete { .. } => Code::IncompleteCopy,
        VaultError::Fenced { .. } => Code::LeaseLost,
        VaultError::Exists { .. } => Code::Exists,
        VaultError::Cancelled { .. } => Code::Interrupted,
        _ => Code::VaultFailed,
    }
}
