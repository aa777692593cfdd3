//! Which volume a person means: an id, or a name, owner or GUID that fits exactly one.

use stackferry_catalog::VolumeRow;
use stackferry_config::DatastoreConfig;
use stackferry_volume::ids::split_version;
use stackferry_volume::{ReasonCode, VersionId, VolumeId};

use super::inventory::Round;
use crate::app::App;
use crate::blocking::blocking;
use crate::probe;
use stackferry_problem::{Code, Problem};

/// The volume that is meant by `text`, among all that the catalog knows.
///
/// # Errors
/// `no_such_volume` with what looks like it; `ambiguous_volume` with those that fit; the catalog's.
pub async fn volume(app: &App, text: &str) -> Result<VolumeRow, Problem> {
    let rows = app.catalog().volumes().await?;
    if let Some(row) = rows.iter().find(|row| row.id.to_string() == text) {
        return Ok(row.clone());
    }
    let guid = |text: &str| text.trim_matches(['{', '}']).to_lowercase();
    let fits = |row: &&VolumeRow| {
        row.name.eq_ignore_ascii_case(text)
            || row.stem == text
            || row.guid.as_deref().is_some_and(|own| guid(own) == guid(text))
            || row.owner.as_ref().is_some_and(|owner| {
                owner.name.eq_ignore_ascii_case(text)
                    || owner.upn.as_deref().is_some_and(|upn| upn.eq_ignore_ascii_case(text))
                    || owner.sid.as_deref() == Some(text)
            })
    };
    let found: Vec<&VolumeRow> = rows.iter().filter(fits).collect();
    match found.as_slice() {
        [one] => Ok((*one).clone()),
        [] => Err(Problem::no_such_volume(text, &similar(&rows, text))),
        several => Err(Problem::ambiguous_volume(text, &several.iter().map(|row| row.id.clone()).collect::<Vec<_>>())),
    }
}

/// The volume that is meant by `text`, after a round has looked for it. Where its datastore can't be looked at for a reason
/// that does not pass by itself (an unknown host key, a refused login), that reason is the error: somebody has to act.
///
/// # Errors
/// As for [`volume`]; and what keeps its datastores, or all of them, from being looked at.
pub async fn looked_for(app: &App, round: &Round, text: &str) -> Result<VolumeRow, Problem> {
    let found = volume(app, text).await;
    if round.reachable == round.datastores {
        return found;
    }
    match found {
        Err(problem) if problem.code == Code::NoSuchVolume => {
            if round.reachable == 0 {
                let all = app.config().datastores.clone();
                if let Some(problem) = trouble(app, all, |_| true).await? {
                    return Err(problem);
                }
            }
            let why: Vec<_> =
                round.problems.iter().map(|problem| format!("{}: {}", problem.subject, problem.text)).collect();
            Err(problem.hint(format!("some datastores could not be looked at, it may lie there: {}", why.join("; "))))
        }
        Ok(row) if row.reason.as_ref().is_some_and(|reason| reason.code == ReasonCode::Unreachable.as_str()) => {
            let places = row.locations.iter().map(|place| &place.location);
            let own = places.filter_map(|place| app.datastore(&place.site, &place.datastore)).cloned().collect();
            match trouble(app, own, |problem| !passes_by_itself(problem.code)).await? {
                Some(problem) => Err(problem),
                None => Ok(row),
            }
        }
        other => other,
    }
}

/// The first problem of these datastores that `counts`.
async fn trouble(
    app: &App,
    datastores: Vec<DatastoreConfig>,
    counts: impl Fn(&Problem) -> bool,
) -> Result<Option<Problem>, Problem> {
    for datastore in datastores {
        let trying = app.clone();
        let tried = blocking(move || probe::datastore(&trying, &datastore)).await?;
        if let Some(problem) = tried.err().filter(&counts) {
            return Ok(Some(problem));
        }
    }
    Ok(None)
}

/// Whether waiting helps.
fn passes_by_itself(code: Code) -> bool {
    !matches!(
        code,
        Code::HostKeyUnknown
            | Code::HostKeyChanged
            | Code::KnownHostsUnusable
            | Code::LoginRefused
            | Code::BadKey
            | Code::HostUnfit
    )
}

/// The volume and version that are meant by `VOLUME[@VERSION]`.
///
/// # Errors
/// As for [`volume`].
pub async fn volume_and_version(app: &App, text: &str) -> Result<(VolumeId, Option<VersionId>), Problem> {
    // A volume's own id may look like a version of another one.
    if let Ok(id) = text.parse::<VolumeId>()
        && app.catalog().volume(&id).await?.is_some()
    {
        return Ok((id, None));
    }
    let (name, version) = split_version(text);
    Ok((volume(app, name).await?.id, version))
}

/// Up to five volumes whose id or name holds the text.
fn similar(rows: &[VolumeRow], text: &str) -> Vec<VolumeId> {
    let text = text.to_lowercase();
    let last = text.rsplit(['/', '\\']).next().unwrap_or_default().to_owned();
    let fits = |row: &&VolumeRow| {
        !last.is_empty()
            && (row.id.to_string().to_lowercase().contains(&last) || row.name.to_lowercase().contains(&last))
    };
    rows.iter().filter(fits).take(5).map(|row| row.id.clone()).collect()
}
