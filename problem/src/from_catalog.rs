//! Problems of the catalog.

use stackferry_catalog::CatalogError;

use super::{Code, DEFECT, Problem, Retry, shell};

impl From<CatalogError> for Problem {
    fn from(error: CatalogError) -> Self {
        let problem = Self::of(code(&error), &error).maybe_hint(error.hint());
        let problem = match problem.code {
            Code::NoSpace => problem.hint("make space on the file system of `state_dir`"),
            Code::Internal => problem.hint(DEFECT).retry(Retry::Permanent),
            _ => problem,
        };
        match &error {
            CatalogError::Create { path, .. }
            | CatalogError::Corrupt { path, .. }
            | CatalogError::TooNew { path, .. }
            | CatalogError::TooOld { path } => problem.path(path),
            CatalogError::Missing { path } => {
                problem.path(path).hint("start the service once, or make it from the vault with `stackferry rebuild`")
            }
            CatalogError::Schema { path, .. } => problem.path(path).hint(
                "stop the service, move the catalog's files away, and run `stackferry rebuild`: versions are in the \
                 vault and are not touched",
            ),
            CatalogError::Database { subject, .. }
            | CatalogError::Range { subject, .. }
            | CatalogError::Json { subject, .. }
            | CatalogError::Twice { subject, .. } => problem.subject(subject),
            CatalogError::Row { subject, .. } => {
                problem.subject(subject).hint("move the catalog's files away and run `stackferry rebuild`")
            }
            CatalogError::OtherVault { other, .. } => problem.subject(other),
            CatalogError::NoSuchVolume(volume) => {
                problem.subject(volume).hint("`stackferry volumes` lists those that are known")
            }
            CatalogError::NoSuchVersion { volume, .. } => problem
                .subject(volume)
                .hint(format!("`stackferry versions {}` lists those that are known", shell(volume))),
            CatalogError::VersionExists { volume, .. } => problem.subject(volume).hint(
                "two processes numbered versions of one volume: `stackferry rebuild` takes the vault's word for it",
            ),
            CatalogError::DescriptorTooLong { path, .. } => {
                problem.subject(path).hint("look at the file: a descriptor is a short text")
            }
            CatalogError::NoSuchCredential(name) | CatalogError::CredentialExists(name) => problem.subject(name),
            CatalogError::TokenExists(name) | CatalogError::NoSuchToken(name) => problem.subject(name),
            CatalogError::CredentialSpent { name, .. } => problem.subject(name).hint("ask for a new one"),
            CatalogError::LeaseBusy(busy) => problem.subject(&busy.name),
            CatalogError::Process { pid, .. } => problem.subject(pid),
            _ => problem,
        }
    }
}

fn code(error: &CatalogError) -> Code {
    match error {
        _ if error.is_busy() => Code::Busy,
        _ if error.is_full() => Code::NoSpace,
        CatalogError::Create { .. } | CatalogError::Missing { .. } => Code::CatalogUnusable,
        CatalogError::Corrupt { .. } | CatalogError::Schema { .. } | CatalogError::Row { .. } => Code::CatalogDamaged,
        CatalogError::TooNew { .. } => Code::NewerFormat,
        CatalogError::TooOld { .. } => Code::CatalogOutdated,
        CatalogError::OtherVault { .. } => Code::OtherVault,
        CatalogError::NoSuchVolume(_) => Code::NoSuchVolume,
        CatalogError::NoSuchVersion { .. } => Code::NoSuchVersion,
        CatalogError::CredentialSpent { .. } => Code::CredentialSpent,
        CatalogError::TokenExists(_) => Code::Exists,
        CatalogError::NoSuchToken(_) => Code::NoSuchToken,
        CatalogError::DescriptorTooLong { .. } => Code::NotProtectable,
        CatalogError::Range { .. }
        | CatalogError::Json { .. }
        | CatalogError::AttemptNotOpen(_)
        | CatalogError::Twice { .. }
        | CatalogError::NoSuchCredential(_)
        | CatalogError::CredentialExists(_)
        | CatalogError::Process { .. } => Code::Internal,
        _ => Code::CatalogFailed,
    }
}
