//! What people and scripts can ask for, each with its rules: the command line, the API and the console call these.
//!
//! `request_*` puts a job into the queue of the running service; `copy_volume`, `verify_versions` and `restore_version` carry
//! one out, whoever asked for it: a job of the service, a command without a service, or a round.

use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use stackferry_catalog::{Job, NewJob, StatusReason, Trigger, VolumeRow};
use stackferry_config::Route;
use stackferry_discover::Volume;
use stackferry_problem::progress::Reporter;
use stackferry_problem::{Code, Problem};
use stackferry_transfer::Progress;
use stackferry_volume::{VersionId, VolumeId};

use crate::app::App;
use crate::blocking::blocking;
use crate::copy::{CopyOptions, CopyOutcome, choose_bytes, copy};
use crate::inventory::{self, Round};
use crate::jobs::{self, Live, SERVICE_LEASE, no_such_job};
use crate::paths::{is_inside, real};
use crate::restore::{self, Destination};
use crate::versions::{self, Verified};
use crate::views::{CopyView, PinView, RestoreView};
use crate::{cleanups, find, follow, pins};

/// Who sees how an operation goes: a terminal or log, and where it is a job, whoever watches the job.
#[derive(Clone, Copy)]
pub struct Watchers<'a> {
    /// The bar or lines of this process.
    pub reporter: &'a Reporter,
    /// The job's progress; none for what is no job.
    pub live: Option<&'a Arc<Live>>,
}

impl Watchers<'_> {
    pub(crate) fn progress(self, task: Arc<dyn Progress>, bytes: u64) -> Arc<dyn Progress> {
        match self.live {
            None => task,
            Some(live) => {
                live.expect(bytes);
                Arc::new(Both(task, Arc::clone(live) as Arc<dyn Progress>))
            }
        }
    }
}

/// Reports to two.
struct Both(Arc<dyn Progress>, Arc<dyn Progress>);

impl Progress for Both {
    fn done(&self, bytes: u64) {
        self.0.done(bytes);
        self.1.done(bytes);
    }
}

/// Who asks for an operation, and how it is wanted.
#[derive(Debug, Clone)]
pub struct CopyRequest {
    /// Makes no version where the source equals the last one.
    pub if_changed: bool,
    /// What asks for it.
    pub trigger: Trigger,
    /// The name of who asks, for the audit.
    pub actor: String,
    /// How long to wait for another copy of the volume to end.
    pub wait: Duration,
}

/// Copies a volume as discovery just saw it.
///
/// # Errors
/// `busy`; the source's, the vault's and the catalog's.
pub async fn copy_volume(
    app: &App,
    volume: &Volume,
    request: CopyRequest,
    watchers: Watchers<'_>,
) -> Result<CopyOutcome, Problem> {
    let bytes = choose_bytes(volume);
    let task = watchers.reporter.start("copying", &volume.id.to_string(), bytes);
    let progress = watchers.progress(task.progress(), bytes);
    let CopyRequest { if_changed, trigger, actor, wait } = request;
    let done = copy(app, volume, CopyOptions { if_changed, trigger, actor, wait, progress }).await;
    task.finish(done.as_ref().map_or("failed", |done| done.outcome.as_str()));
    done
}

/// Copies the volume that a text names: by the running service if there is one, else in this process.
///
/// # Errors
/// `no_such_volume`, `ambiguous_volume`, `busy`, `interrupted`; the source's, the vault's and the catalog's.
pub async fn copy_named(app: &App, name: &str, request: CopyRequest, reporter: &Reporter) -> Result<CopyView, Problem> {
    if let Some(view) = copy_by_service(app, name, &request).await? {
        return Ok(view);
    }
    let (round, row) = scan_for(app, name).await?;
    let Some(volume) = round.inventory.volumes.into_iter().find(|volume| volume.id == row.id) else {
        return Ok(CopyView::deferred(&row.id, row.reason.unwrap_or_else(not_at_source)));
    };
    let done = copy_volume(app, &volume, request, Watchers { reporter, live: None }).await?;
    Ok(CopyView::of(&volume.id, &done))
}

/// None where no service runs.
async fn copy_by_service(app: &App, name: &str, request: &CopyRequest) -> Result<Option<CopyView>, Problem> {
    if app.catalog().lease_holder(SERVICE_LEASE).await?.is_none() {
        return Ok(None);
    }
    let row = match find::volume(app, name).await {
        // It may be newer than the service's last scan.
        Err(problem) if problem.code == Code::NoSuchVolume => scan_for(app, name).await?.1,
        other => other?,
    };
    let job = jobs::copy(&row.id, request.if_changed, request.trigger, &request.actor);
    match follow::by_service(app, job, request.wait).await? {
        Some(job) => follow::answer(job).map(Some),
        None => Ok(None),
    }
}

async fn scan_for(app: &App, name: &str) -> Result<(Round, VolumeRow), Problem> {
    cleanups::run(app).await?;
    let round = inventory::look(app).await?;
    let row = find::looked_for(app, &round, name).await?;
    Ok((round, row))
}

/// Why a volume is not copied that is not there, where nothing else is known.
pub(crate) fn not_at_source() -> StatusReason {
    StatusReason { code: "missing".to_owned(), text: "it is not at its source".to_owned() }
}

/// Reads versions back, all or those that a text names, and checks every digest. `bytes` is how many there are; 0 where
/// that is not known.
///
/// # Errors
/// `no_such_volume`, `no_such_version`; the vault's and the catalog's.
pub async fn verify_versions(
    app: &App,
    target: Option<&str>,
    actor: &str,
    bytes: u64,
    watchers: Watchers<'_>,
) -> Result<Verified, Problem> {
    let task = watchers.reporter.start("verifying", target.unwrap_or("all versions"), bytes);
    let progress = watchers.progress(task.progress(), bytes);
    let verified = versions::verify(app, target, actor, progress).await;
    task.finish(if verified.is_ok() { "verified" } else { "failed" });
    verified
}

/// Restores the version that a text names. `bytes` is its length; 0 where that is not known.
///
/// # Errors
/// `no_such_volume`, `no_such_version`, `exists`; the destination's, the vault's and the catalog's.
pub async fn restore_version(
    app: &App,
    target: &str,
    to: &Destination,
    overwrite: bool,
    actor: &str,
    bytes: u64,
    watchers: Watchers<'_>,
) -> Result<RestoreView, Problem> {
    // Said before anything is written: there is still time to restore elsewhere.
    let groups = restore::storage_groups(app, to).await;
    for warning in &groups {
        tracing::warn!("{warning}");
    }
    let task = watchers.reporter.start("restoring", target, bytes);
    let progress = watchers.progress(task.progress(), bytes);
    let restored = restore::restore(app, target, to, overwrite, actor, progress).await;
    task.finish(if restored.is_ok() { "restored" } else { "failed" });
    let mut done = restored?;
    done.next_steps.extend(groups);
    let view = RestoreView::new(&done.volume, &done.version, to.to_string(), done.files, &done.report, done.took);
    let view = view.written_by(done.credentials, done.verify_method);
    Ok(view.warned(done.warnings).followed_by(done.next_steps))
}

/// Puts a copy of a volume into the queue, for a caller of the API.
///
/// # Errors
/// `no_such_volume`, `not_protectable`; the catalog's.
pub async fn request_copy(app: &App, volume: &VolumeId, if_changed: bool, actor: &str) -> Result<Job, Problem> {
    let row = known_volume(app, volume).await?;
    if !row.protectable {
        let reason = row.reason.as_ref().map_or("it can't be copied as it is", |reason| &reason.text);
        return Err(Problem::not_protectable(&row.id, reason, row.remedy.as_deref()));
    }
    enqueue(app, jobs::copy(&row.id, if_changed, Trigger::Api, actor)).await
}

/// Puts a verification into the queue, for a caller of the API: of all versions, of a volume's, or of one.
///
/// # Errors
/// `no_such_volume`, `no_such_version`; the catalog's.
pub async fn request_verify(
    app: &App,
    volume: Option<&VolumeId>,
    version: Option<&str>,
    actor: &str,
) -> Result<Job, Problem> {
    let row = match volume {
        Some(volume) => Some(known_volume(app, volume).await?),
        None => None,
    };
    let version = match (&row, version) {
        (Some(row), Some(text)) => Some(known_version(app, row, text).await?),
        _ => None,
    };
    enqueue(app, jobs::verify(row.as_ref().map(|row| &row.id), version.as_ref(), Trigger::Api, actor)).await
}

/// Puts a restore into the queue, for a caller of the API: only to where `[restore]` allows.
///
/// # Errors
/// `no_such_volume`, `no_such_version`; `usage`, `refused` or `forbidden` for the destination; the catalog's.
pub async fn request_restore(
    app: &App,
    volume: &VolumeId,
    version: Option<&str>,
    to: &Path,
    overwrite: bool,
    actor: &str,
) -> Result<Job, Problem> {
    let row = known_volume(app, volume).await?;
    let version = match version {
        Some(text) => Some(known_version(app, &row, text).await?),
        None if row.versions == 0 => return Err(Problem::no_such_version(&row.id, None)),
        None => None,
    };
    let to = match to.to_str().filter(|text| text.starts_with(restore::DATASTORE)) {
        // The job checks once more: the configuration may be another one by then.
        Some(_) => {
            allowed_datastore(app, &restore::destination(app, to, overwrite)?)?;
            to.to_path_buf()
        }
        None => {
            let to = allowed_folder(app, to, overwrite).await?;
            restore::destination(app, &to, overwrite)?;
            to
        }
    };
    enqueue(app, jobs::restore(&row.id, version.as_ref(), &to, overwrite, Trigger::Api, actor)).await
}

/// Pins a version with a reason, or unpins it without.
///
/// # Errors
/// `no_such_volume`, `no_such_version`; the vault's and the catalog's.
pub async fn set_pin(
    app: &App,
    volume: &VolumeId,
    version: &str,
    reason: Option<&str>,
    actor: &str,
) -> Result<PinView, Problem> {
    let row = known_volume(app, volume).await?;
    let version = known_version(app, &row, version).await?;
    pins::set(app, &row.id, &version, reason, actor).await
}

/// Puts a job into the queue, and gives it as the queue has it.
///
/// # Errors
/// The catalog's.
pub async fn enqueue(app: &App, job: NewJob) -> Result<Job, Problem> {
    let id = app.jobs().enqueue(job).await?;
    app.catalog().job(id).await?.ok_or_else(|| no_such_job(id))
}

/// The volume of this id.
///
/// # Errors
/// `no_such_volume`; the catalog's.
pub async fn known_volume(app: &App, id: &VolumeId) -> Result<VolumeRow, Problem> {
    app.catalog().volume(id).await?.ok_or_else(|| Problem::no_such_volume(&id.to_string(), &[]))
}

/// A version of a volume, by its text.
async fn known_version(app: &App, row: &VolumeRow, text: &str) -> Result<VersionId, Problem> {
    let missing = || {
        Problem::new(Code::NoSuchVersion, format!("{} has no version {text}", row.id))
            .subject(&row.id)
            .hint("the list of its versions names those that there are")
    };
    let version: VersionId = text.parse().map_err(|_| missing())?;
    let versions = app.catalog().versions(&row.id).await?;
    if versions.iter().any(|one| one.version == version) { Ok(version) } else { Err(missing()) }
}

/// That a folder is below a root, wherever links lead. The roots are the service's own: whoever may put links into one while
/// a job waits could do worse.
async fn allowed_folder(app: &App, to: &Path, overwrite: bool) -> Result<PathBuf, Problem> {
    let roots: Vec<PathBuf> = app.config().restore.roots.iter().map(|root| root.to_path_buf()).collect();
    if roots.is_empty() {
        return Err(Problem::new(Code::Forbidden, "the API may restore to no folder: the configuration names no root")
            .subject("restore.roots")
            .hint("name folders as `roots` in [restore], or restore with the command line"));
    }
    let mounted = app.config().datastores.iter().filter_map(|datastore| match &datastore.route {
        Route::Local(local) => Some(local.path.to_path_buf()),
        _ => None,
    });
    let (to, mounted) = (to.to_path_buf(), mounted.collect::<Vec<_>>());
    blocking(move || {
        below(&to, &roots)?;
        if overwrite && is_inside(&to, &mounted) {
            return Err(Problem::new(Code::Forbidden, "nothing on a datastore is overwritten")
                .subject(to.display())
                .hint("name a folder that does not exist yet"));
        }
        Ok(to)
    })
    .await?
}

/// That the API may restore onto a datastore.
fn allowed_datastore(app: &App, to: &Destination) -> Result<(), Problem> {
    let Destination::Datastore { datastore, .. } = to else { return Ok(()) };
    if app.config().restore.datastores.contains(&datastore.name) {
        return Ok(());
    }
    let text = format!("the API may not restore onto {}: the configuration does not name it", datastore.name);
    Err(Problem::new(Code::Forbidden, text)
        .subject("restore.datastores")
        .hint("name it in `datastores` of [restore], or restore with the command line"))
}

fn below(to: &Path, roots: &[PathBuf]) -> Result<(), Problem> {
    let plain =
        to.is_absolute() && to.components().all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
    if !plain {
        return Err(Problem::usage("the folder has to be absolute, without `..`").subject(to.display()));
    }
    let is_below = |to: PathBuf| {
        roots.iter().any(|root| root.canonicalize().is_ok_and(|root| to.starts_with(&root) && to != root))
    };
    if real(to).is_some_and(is_below) {
        return Ok(());
    }
    let roots: Vec<String> = roots.iter().map(|root| root.display().to_string()).collect();
    Err(Problem::new(Code::Forbidden, format!("{} is not below a folder that may be restored to", to.display()))
        .subject(to.display())
        .hint(format!("name a folder below {}", roots.join(" or "))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_really_below_a_root_may_be_restored_to() {
        let dir = tempfile::tempdir().unwrap();
        let (root, other) = (dir.path().join("root"), dir.path().join("other"));
        std::fs::create_dir_all(root.join("there")).unwrap();
        std::fs::create_dir_all(&other).unwrap();
        std::os::unix::fs::symlink(&other, root.join("out")).unwrap();
        std::os::unix::fs::symlink("/nowhere", root.join("dangling")).unwrap();
        let roots = [root.clone()];
        let told = |to: PathBuf| below(&to, &roots).err().map(|problem| problem.code);
        for good in ["there", "there/new", "new/newer"] {
            assert_eq!(told(root.join(good)), None, "{good}");
        }
        for bad in ["out", "out/new", "dangling/new", ""] {
            assert_eq!(told(root.join(bad)), Some(Code::Forbidden), "{bad}");
        }
        assert_eq!(told(other), Some(Code::Forbidden));
        assert_eq!(told(dir.path().join("rootless")), Some(Code::Forbidden));
        for wrong in [root.join("../other"), PathBuf::from("relative"), PathBuf::new()] {
            assert_eq!(told(wrong), Some(Code::Usage));
        }
    }
}
