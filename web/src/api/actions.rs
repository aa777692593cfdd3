//! What is asked for: copying, checking, putting back, pinning. All but pinning take time, so they are jobs: the answer is
//! the job, and whoever asked watches it.

use std::path::{Component, Path, PathBuf};

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use serde::Deserialize;
use stackferry_catalog::{NewJob, Trigger, VolumeRow};
use stackferry_volume::VersionId;

use super::extract::{MaybeTold, Named, Told, volume_id};
use super::jobs::stored;
use super::volumes::known;
use crate::http::ApiProblem;
use crate::http::{Caller, Web};
use stackferry_engine::app::App;
use stackferry_engine::blocking::blocking;
use stackferry_engine::jobs;
use stackferry_engine::pins;
use stackferry_engine::restore as engine_restore;
use stackferry_engine::views::{JobView, PinView};
use stackferry_problem::{Code, Problem};

/// How a copy is wanted.
#[derive(Debug, Default, Deserialize, utoipa::ToSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct CopyAsked {
    /// Make no version where the source equals the last one. Default no.
    if_changed: bool,
}

/// Copies a volume now, whatever its schedule. The answer is the job
#[utoipa::path(
    post, path = "/api/v1/volumes/{kind}/{stem}/copy", tag = "volumes", request_body = CopyAsked,
    params(("kind" = String, Path, description = "The kind"), ("stem" = String, Path, description = "The rest of the id")),
    responses((status = 202, body = JobView))
)]
pub(super) async fn copy(
    State(web): State<Web>,
    Extension(caller): Extension<Caller>,
    Named((kind, stem)): Named<(String, String)>,
    MaybeTold(asked): MaybeTold<CopyAsked>,
) -> Result<Response, ApiProblem> {
    let job = want_copy(&web.app(), &kind, &stem, asked.if_changed, &caller).await?;
    Ok(accepted(job))
}

/// Has a volume copied.
///
/// # Errors
/// `no_such_volume`, `not_protectable`; the catalog's.
pub(crate) async fn want_copy(
    app: &App,
    kind: &str,
    stem: &str,
    if_changed: bool,
    caller: &Caller,
) -> Result<JobView, Problem> {
    let row = known(app, &volume_id(kind, stem)?).await?;
    if !row.protectable {
        let reason = row.reason.as_ref().map_or("it can't be copied as it is", |reason| &reason.text);
        return Err(Problem::not_protectable(&row.id, reason, row.remedy.as_deref()));
    }
    enqueue(app, jobs::copy(&row.id, if_changed, Trigger::Api, &caller.name)).await
}

pub(super) async fn enqueue(app: &App, job: NewJob) -> Result<JobView, Problem> {
    let id = app.jobs().enqueue(job).await?;
    stored(app, id).await
}

/// 202, and where the job can be looked at.
pub(super) fn accepted(job: JobView) -> Response {
    let place = format!("/api/v1/jobs/{}", job.id);
    (StatusCode::ACCEPTED, [(header::LOCATION, place)], Json(job)).into_response()
}

/// Reads every version of every volume back, and checks every digest. The answer is the job
#[utoipa::path(post, path = "/api/v1/verify", tag = "volumes", responses((status = 202, body = JobView)))]
pub(super) async fn verify_all(
    State(web): State<Web>,
    Extension(caller): Extension<Caller>,
) -> Result<Response, ApiProblem> {
    Ok(enqueue(&web.app(), jobs::verify(None, None, Trigger::Api, &caller.name)).await.map(accepted)?)
}

/// Reads every version of a volume back, and checks every digest. The answer is the job
#[utoipa::path(
    post, path = "/api/v1/volumes/{kind}/{stem}/verify", tag = "volumes",
    params(("kind" = String, Path, description = "The kind"), ("stem" = String, Path, description = "The rest of the id")),
    responses((status = 202, body = JobView))
)]
pub(super) async fn verify(
    State(web): State<Web>,
    Extension(caller): Extension<Caller>,
    Named((kind, stem)): Named<(String, String)>,
) -> Result<Response, ApiProblem> {
    Ok(want_verify(&web.app(), &kind, &stem, None, &caller).await.map(accepted)?)
}

/// Reads one version back, and checks every digest. The answer is the job
#[utoipa::path(
    post, path = "/api/v1/volumes/{kind}/{stem}/versions/{version}/verify", tag = "volumes",
    params(
        ("kind" = String, Path, description = "The kind"), ("stem" = String, Path, description = "The rest of the id"),
        ("version" = String, Path, description = "The version")
    ),
    responses((status = 202, body = JobView))
)]
pub(super) async fn verify_version(
    State(web): State<Web>,
    Extension(caller): Extension<Caller>,
    Named((kind, stem, version)): Named<(String, String, String)>,
) -> Result<Response, ApiProblem> {
    Ok(want_verify(&web.app(), &kind, &stem, Some(&version), &caller).await.map(accepted)?)
}

/// Has the versions of a volume, or one of them, read back.
///
/// # Errors
/// `no_such_volume`, `no_such_version`; the catalog's.
pub(crate) async fn want_verify(
    app: &App,
    kind: &str,
    stem: &str,
    version: Option<&str>,
    caller: &Caller,
) -> Result<JobView, Problem> {
    let row = known(app, &volume_id(kind, stem)?).await?;
    let version = match version {
        Some(text) => Some(known_version(app, &row, text).await?),
        None => None,
    };
    enqueue(app, jobs::verify(Some(&row.id), version.as_ref(), Trigger::Api, &caller.name)).await
}

/// A version of a volume that is known.
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

/// What is put back, and where to.
#[derive(Debug, Default, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RestoreAsked {
    /// The folder, absolute and below one of `[restore] roots`, made if it is missing; or `datastore:NAME/FOLDER`: new names
    /// only, in a folder of a datastore of the configuration.
    to: String,
    /// The version; the newest good one if none is named.
    #[serde(default)]
    version: Option<String>,
    /// Replace files of the same names. Default no.
    #[serde(default)]
    overwrite: bool,
}

/// Puts a version back into a folder below one of the roots, or onto a datastore. The answer is the job
#[utoipa::path(
    post, path = "/api/v1/volumes/{kind}/{stem}/restore", tag = "volumes", request_body = RestoreAsked,
    params(("kind" = String, Path, description = "The kind"), ("stem" = String, Path, description = "The rest of the id")),
    responses((status = 202, body = JobView))
)]
pub(super) async fn restore(
    State(web): State<Web>,
    Extension(caller): Extension<Caller>,
    Named((kind, stem)): Named<(String, String)>,
    Told(asked): Told<RestoreAsked>,
) -> Result<Response, ApiProblem> {
    let to = Path::new(&asked.to);
    let version = asked.version.as_deref();
    Ok(want_restore(&web.app(), &kind, &stem, version, to, asked.overwrite, &caller).await.map(accepted)?)
}

/// Has a version put back.
///
/// # Errors
/// `no_such_volume`, `no_such_version`; `usage`, `refused` or `forbidden` for the destination; the catalog's.
pub(crate) async fn want_restore(
    app: &App,
    kind: &str,
    stem: &str,
    version: Option<&str>,
    to: &Path,
    overwrite: bool,
    caller: &Caller,
) -> Result<JobView, Problem> {
    let row = known(app, &volume_id(kind, stem)?).await?;
    let version = match version {
        Some(text) => Some(known_version(app, &row, text).await?),
        None if row.versions == 0 => return Err(Problem::no_such_version(&row.id, None)),
        None => None,
    };
    let to = match to.to_str().filter(|text| text.starts_with(engine_restore::DATASTORE)) {
        // The job looks once more: the configuration may be another one by then.
        Some(_) => {
            let destination = engine_restore::destination(app, to, overwrite)?;
            onto(app, &destination)?;
            to.to_path_buf()
        }
        None => {
            let to = allowed(app, to, overwrite).await?;
            engine_restore::destination(app, &to, overwrite)?;
            to
        }
    };
    enqueue(app, jobs::restore(&row.id, version.as_ref(), &to, overwrite, Trigger::Api, &caller.name)).await
}

/// That a folder is below a root, wherever links lead. The roots are the service's own: whoever may put links into one while
/// a job waits could do worse.
async fn allowed(app: &App, to: &Path, overwrite: bool) -> Result<PathBuf, Problem> {
    let roots: Vec<PathBuf> = app.config().restore.roots.iter().map(|root| root.to_path_buf()).collect();
    if roots.is_empty() {
        return Err(Problem::new(Code::Forbidden, "the API may restore to no folder: the configuration names no root")
            .subject("restore.roots")
            .hint("name folders as `roots` in [restore], or restore with the command line"));
    }
    let mounted = app.config().datastores.iter().filter_map(|datastore| match &datastore.route {
        stackferry_config::Route::Local(local) => Some(local.path.to_path_buf()),
        _ => None,
    });
    let (to, mounted) = (to.to_path_buf(), mounted.collect::<Vec<_>>());
    blocking(move || {
        below(&to, &roots)?;
        if overwrite && stackferry_engine::paths::is_inside(&to, &mounted) {
            return Err(Problem::new(Code::Forbidden, "nothing on a datastore is overwritten")
                .subject(to.display())
                .hint("name a folder that does not exist yet"));
        }
        Ok(to)
    })
    .await?
}

/// That the API may restore onto a datastore.
fn onto(app: &App, to: &engine_restore::Destination) -> Result<(), Problem> {
    let engine_restore::Destination::Datastore { datastore, .. } = to else { return Ok(()) };
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
    if stackferry_engine::paths::real(to).is_some_and(is_below) {
        return Ok(());
    }
    let roots: Vec<String> = roots.iter().map(|root| root.display().to_string()).collect();
    Err(Problem::new(Code::Forbidden, format!("{} is not below a folder that may be restored to", to.display()))
        .subject(to.display())
        .hint(format!("name a folder below {}", roots.join(" or "))))
}

/// Why a version is pinned.
#[derive(Debug, Default, Deserialize, utoipa::ToSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct PinAsked {
    /// For whoever reads it later, at most 500 characters.
    #[schema(max_length = 500)]
    note: String,
}

/// Keeps a version whatever retention says
#[utoipa::path(
    put, path = "/api/v1/volumes/{kind}/{stem}/versions/{version}/pin", tag = "volumes", request_body = PinAsked,
    params(
        ("kind" = String, Path, description = "The kind"), ("stem" = String, Path, description = "The rest of the id"),
        ("version" = String, Path, description = "The version")
    ),
    responses((status = 200, body = PinView))
)]
pub(super) async fn pin(
    State(web): State<Web>,
    Extension(caller): Extension<Caller>,
    Named((kind, stem, version)): Named<(String, String, String)>,
    MaybeTold(asked): MaybeTold<PinAsked>,
) -> Result<Json<PinView>, ApiProblem> {
    Ok(set_pin(&web.app(), &kind, &stem, &version, Some(&asked.note), &caller).await.map(Json)?)
}

/// Lets retention decide about a version again
#[utoipa::path(
    delete, path = "/api/v1/volumes/{kind}/{stem}/versions/{version}/pin", tag = "volumes",
    params(
        ("kind" = String, Path, description = "The kind"), ("stem" = String, Path, description = "The rest of the id"),
        ("version" = String, Path, description = "The version")
    ),
    responses((status = 200, body = PinView))
)]
pub(super) async fn unpin(
    State(web): State<Web>,
    Extension(caller): Extension<Caller>,
    Named((kind, stem, version)): Named<(String, String, String)>,
) -> Result<Json<PinView>, ApiProblem> {
    Ok(set_pin(&web.app(), &kind, &stem, &version, None, &caller).await.map(Json)?)
}

/// Pins a version with a note, or unpins it without.
///
/// # Errors
/// `no_such_volume`, `no_such_version`; the vault's and the catalog's.
pub(crate) async fn set_pin(
    app: &App,
    kind: &str,
    stem: &str,
    version: &str,
    note: Option<&str>,
    caller: &Caller,
) -> Result<PinView, Problem> {
    let row = known(app, &volume_id(kind, stem)?).await?;
    let version = known_version(app, &row, version).await?;
    pins::set(app, &row.id, &version, note, &caller.name).await
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
