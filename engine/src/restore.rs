//! Putting versions back: into a folder of this machine, or onto a datastore.
//!
//! Nothing on a datastore is ever overwritten.

mod onto;

use crate::paths::absolute;
use crate::paths::is_inside;
use crate::paths::real;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::json;
use stackferry_catalog::AuditAction;
use stackferry_config::{Config, DatastoreConfig, Route};
use stackferry_transfer::Progress;
use stackferry_transfer::restore::Checked;
use stackferry_vault::{RestoreReport, Version};
use stackferry_volume::{VersionId, VolumeId};

use super::versions::newest;
use super::{find, reconcile, restore_guide};
use crate::app::{App, DatastoreAccess};
use crate::blocking::blocking;
use crate::missing::named;
use stackferry_problem::{Code, Problem, into_folder};

/// What a destination begins with that is a folder of a datastore.
pub const DATASTORE: &str = "datastore:";

/// What to do where a datastore has something of that name.
const BESIDE: &str = "nothing on a datastore is overwritten: restore beside it, under a folder of its own, and exchange the files by hand";

/// What putting a version back did.
#[derive(Debug)]
pub struct Restored {
    /// The volume.
    pub volume: VolumeId,
    /// The version.
    pub version: VersionId,
    /// The files, as they lie in the folder.
    pub files: Vec<String>,
    /// Their lengths, and what was written.
    pub report: RestoreReport,
    /// How many credentials wrote a file: one for each where the datastore is reached through a host.
    pub credentials: u64,
    /// How it is known that the files hold what they should: `arrival` (each block was checked when it was written) or
    /// `host_digest` (the host read them again and gave their digest).
    pub verify_method: &'static str,
    /// How long it took.
    pub took: Duration,
    /// What is not as it was though all bytes are.
    pub warnings: Vec<String>,
    /// What a person does next in App Volumes.
    pub next_steps: Vec<String>,
}

/// Where a version is put back to.
#[derive(Debug, Clone)]
pub enum Destination {
    /// A folder of this machine: an absolute path.
    Folder(PathBuf),
    /// A folder of a datastore, relative to it.
    Datastore {
        /// The datastore, as it is configured.
        datastore: Box<DatastoreConfig>,
        /// The folder: plain, not empty.
        folder: String,
    },
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder(path) => write!(f, "{}", path.display()),
            Self::Datastore { datastore, folder } => write!(f, "[{}] {folder}", datastore.name),
        }
    }
}

/// What `--to` means: a folder of this machine, or, as `datastore:NAME/FOLDER`, one of a datastore.
///
/// # Errors
/// The working folder is gone; there is no such datastore; it is not one that can be written to: what to do by hand.
pub fn destination(app: &App, to: &Path, overwrite: bool) -> Result<Destination, Problem> {
    let Some(named) = to.to_str().and_then(|text| text.strip_prefix(DATASTORE)) else {
        let to = absolute(to)?;
        let config = app.config();
        let mut own = vec![config.state_dir.to_path_buf()];
        own.extend(config.vault().ok().map(|vault| vault.path.to_path_buf()));
        if is_inside(&to, &own) {
            return Err(Problem::usage("nothing is restored into the vault or the state folder: versions lie there")
                .subject(to.display()));
        }
        return Ok(Destination::Folder(to));
    };
    let (name, folder) = named.split_once('/').unwrap_or((named, ""));
    let wrong = |text: String| Problem::new(Code::Usage, text).subject(named);
    let mut found = app.config().datastores.iter().filter(|datastore| datastore.name.as_str() == name);
    let datastore = found.next().ok_or_else(|| {
        wrong(format!("no datastore is named {name}")).hint("name one of the [[datastore]] of the configuration")
    })?;
    if found.next().is_some() {
        return Err(wrong(format!("several sites have a datastore {name}")).hint("name the folder where it is mounted"));
    }
    if overwrite {
        return Err(wrong("nothing on a datastore is overwritten".to_owned()).hint(BESIDE));
    }
    let folder = folder.trim_end_matches('/');
    if folder.split('/').any(|part| matches!(part, "" | "." | "..")) {
        return Err(wrong(format!("`{folder}` is no folder of a datastore"))
            .hint("write it as datastore:NAME/FOLDER, as datastore:nfs01/restored"));
    }
    match &datastore.route {
        Route::Local(_) | Route::Endpoint(_) | Route::Ssh(_) => {
            Ok(Destination::Datastore { datastore: Box::new(datastore.clone()), folder: folder.to_owned() })
        }
        Route::Esxi(_) => Err(only_reads(datastore, folder)),
    }
}

/// Whether the API may restore to it, by the configuration of now. Blocks for a moment.
#[must_use]
pub fn is_open_to_api(config: &Config, to: &Destination) -> bool {
    match to {
        Destination::Datastore { datastore, .. } => config.restore.datastores.contains(&datastore.name),
        Destination::Folder(to) => real(to).is_some_and(|to| {
            let mut roots = config.restore.roots.iter().filter_map(|root| root.canonicalize().ok());
            roots.any(|root| to.starts_with(&root) && to != root)
        }),
    }
}

/// The datastores that may be named as a destination: nothing is said against them by their route or name.
#[must_use]
pub fn datastores(config: &Config) -> Vec<&DatastoreConfig> {
    let all = &config.datastores;
    let is_one = |datastore: &&DatastoreConfig| {
        !matches!(datastore.route, Route::Esxi(_))
            && all.iter().filter(|other| other.name.as_str() == datastore.name.as_str()).count() == 1
    };
    all.iter().filter(is_one).collect()
}

/// What storage groups do by themselves with what is put there, as far as managers can be asked.
pub async fn storage_groups(app: &App, to: &Destination) -> Vec<String> {
    let Destination::Datastore { datastore, .. } = to else { return Vec::new() };
    let told = app.ask_systems().await;
    let own = told.managers.iter().filter(|view| view.site.0 == datastore.site.as_str());
    let reports = own.filter_map(|view| view.report.as_ref().ok());
    reports.flat_map(|report| restore_guide::groups(&report.groups, datastore.name.as_str())).collect()
}

/// A datastore that nothing is written to.
fn only_reads(datastore: &DatastoreConfig, folder: &str) -> Problem {
    let name = &datastore.name;
    Problem::new(Code::Refused, format!("{name} is reached by route `{}`, which only reads", datastore.route.kind()))
        .subject(name)
        .hint(format!(
            "restore with --to DIR, then put the files into [{name}] {folder} by the datastore browser, or by scp or cp on \
             a machine that mounts it; `restore` tells what follows in App Volumes"
        ))
}

/// A problem of a restore onto a datastore, where the advice for folders does not help.
fn on_a_datastore(error: impl Into<Problem>) -> Problem {
    let problem = error.into();
    match problem.code {
        Code::Exists => problem.hint(BESIDE),
        Code::NoSpace => problem.hint("make room on the datastore, or name another one"),
        _ => problem,
    }
}

/// Puts a version back: the one that is named, else the newest that can be relied on. `actor` is for the audit.
///
/// # Errors
/// `no_such_version`, `exists`, `damaged`, `no_space`, `interrupted`; the vault's.
pub async fn restore(
    app: &App,
    text: &str,
    to: &Destination,
    overwrite: bool,
    actor: &str,
    progress: Arc<dyn Progress>,
) -> Result<Restored, Problem> {
    let metrics = app.metrics();
    metrics.restore_began();
    let restored = carry_out(app, text, to, overwrite, actor, progress).await;
    match &restored {
        Ok(done) => metrics.restored(done.report.bytes, done.took),
        Err(problem) => {
            metrics.restore_failed();
            // Some of the files may be there.
            let detail = json!({ "to": to.to_string(), "overwrite": overwrite, "code": problem.code });
            crate::audit::record(app.catalog(), AuditAction::RestoreFailed, actor, text, &detail).await;
        }
    }
    restored
}

async fn carry_out(
    app: &App,
    text: &str,
    to: &Destination,
    overwrite: bool,
    actor: &str,
    progress: Arc<dyn Progress>,
) -> Result<Restored, Problem> {
    let began = Instant::now();
    // First of all: a vault that the catalog does not know yet is taken into it, and then the volume is known.
    let vault = app.vault().await?;
    let (volume, version) = find::volume_and_version(app, text).await?;
    let version = match version {
        Some(version) => version,
        None => newest(app, &volume).await?,
    };
    let opened = {
        let (vault, volume, version) = (vault.clone(), volume.clone(), version.clone());
        blocking(move || vault.version(&volume, &version)).await?
    };
    let opened = match opened {
        Ok(opened) => opened,
        Err(error) => {
            // The catalog, or whoever asks, knows it otherwise.
            if error.is_not_found() || error.is_damaged() {
                reconcile::volume(app, &vault, &volume).await;
            }
            return Err(error.into());
        }
    };
    let (files, put, next_steps) = {
        let (to, app) = (to.clone(), app.clone());
        blocking(move || {
            let put = put(&app, &opened, &to, overwrite, &progress)?;
            let files = opened.manifest().files.iter().map(|file| file.name.to_string()).collect::<Vec<_>>();
            let next_steps = restore_guide::after_restore(opened.manifest());
            Ok::<_, Problem>((files, put, next_steps))
        })
        .await??
    };
    let name = named(&volume, &version);
    let detail = json!({ "to": to.to_string(), "bytes": put.report.bytes, "credentials": put.credentials });
    let warnings = warnings(&put.report);
    for warning in &warnings {
        tracing::warn!(version = name, to = %to, "{warning}");
    }
    // The files are there: what fails now is no failure of the restore.
    crate::audit::record(app.catalog(), AuditAction::Restored, actor, &name, &detail).await;
    let Put { report, credentials, verify_method } = put;
    let took = began.elapsed();
    Ok(Restored { volume, version, files, report, credentials, verify_method, took, warnings, next_steps })
}

/// What is not as it was though all bytes are.
fn warnings(report: &RestoreReport) -> Vec<String> {
    match report.untimed {
        0 => Vec::new(),
        count => vec![format!(
            "{count} of {} files could not be given their time of last change: the target's file system or this user's rights \
             do not allow it",
            report.files
        )],
    }
}

/// What was written where.
struct Put {
    report: RestoreReport,
    credentials: u64,
    verify_method: &'static str,
}

/// Blocks.
fn put(
    app: &App,
    version: &Version,
    to: &Destination,
    overwrite: bool,
    progress: &Arc<dyn Progress>,
) -> Result<Put, Problem> {
    let mut before = 0;
    let mut tell = |done: u64| {
        progress.done(done.saturating_sub(before));
        before = done;
    };
    let here = |report| Put { report, credentials: 0, verify_method: Checked::Arrival.as_str() };
    let (datastore, folder) = match to {
        Destination::Folder(path) => {
            let report = version.restore(path, overwrite, &mut tell, app.cancel());
            return report.map(here).map_err(|error| into_folder(error, path));
        }
        Destination::Datastore { datastore, folder } => (datastore, folder),
    };
    match app.source(datastore)? {
        DatastoreAccess::Local(root) => {
            let below = root.make_folder(folder)?;
            let shown = root.path().join(folder);
            let report = version.restore_into(below, &shown, &mut tell, app.cancel());
            report.map(here).map_err(on_a_datastore)
        }
        DatastoreAccess::Esxi(_) => Err(only_reads(datastore, folder)),
        source => {
            let done = onto::put(app, &source, folder, version, Arc::clone(progress)).map_err(on_a_datastore)?;
            let verify_method = done.checked.as_str();
            Ok(Put { report: done.report, credentials: done.credentials, verify_method })
        }
    }
}
