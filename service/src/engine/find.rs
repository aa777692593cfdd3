//! Which volume a person means: an id, or a name, owner or GUID that fits exactly one.

use stackferry_catalog::VolumeRow;
use stackferry_volume::ids::split_version;
use stackferry_volume::{VersionId, VolumeId};

use crate::app::App;
use crate::problem::Problem;

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

/// The volume and version that are meant by `VOLUME[@VERSION]`.
///
/// # Errors
/// As for [`volume`].
pub async fn volume_and_version(app: &App, text: &str) -> Result<(VolumeId, Option<VersionId>), Problem> {
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
