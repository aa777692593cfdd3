//! What lies in the folders of a datastore.
//!
//! The search asks for no type of file: with the one for disks a server looks into each of them, which is slow, and leaves
//! the `-flat` files out.

use std::sync::Arc;
use std::time::Duration;

use crate::error::VsphereError;
use crate::model::{BrowseEntry, Datastore, FolderListing};
use crate::session::{Session, Version};
use crate::xml::Node;
use crate::{soap, task};

/// How long a search may take. One of a datastore with thousands of folders takes minutes.
const LIMIT: Duration = Duration::from_secs(600);
/// How long the server may take to begin.
const BEGIN: Duration = Duration::from_secs(60);

pub(crate) async fn browse(
    session: Arc<Session>,
    datastore: &Datastore,
    folder: &str,
    recursive: bool,
    pattern: Option<&str>,
) -> Result<Vec<FolderListing>, VsphereError> {
    let call = if recursive { "SearchDatastoreSubFolders_Task" } else { "SearchDatastore_Task" };
    let asked = session.asked(call);
    let folder = folder.trim_matches('/');
    let place = format!("[{}] {folder}", datastore.name);
    let response = session
        .call_in(call, &datastore.browser, Version::FRIENDLY_NAMES, BEGIN, |writer| {
            writer.text("datastorePath", place.trim_end());
            writer.within("searchSpec", |writer| {
                writer.within("details", |writer| {
                    for detail in ["fileType", "fileSize", "modification", "fileOwner"] {
                        writer.text(detail, "true");
                    }
                });
                writer.text("searchCaseInsensitive", "true");
                // Without one some servers give nothing, though the reference says that they give all.
                writer.text("matchPattern", pattern.unwrap_or("*"));
            });
        })
        .await
        .map_err(|error| named(error, &place))?;
    let task = response.get("returnval").and_then(soap::moid).ok_or_else(|| asked.bad("it has no task"))?;
    let result = task::wait(&session, call, &task, LIMIT).await.map_err(|error| named(error, &place))?;
    let results = if result.kind.as_deref().is_some_and(|kind| kind.starts_with("ArrayOf")) {
        result.children
    } else {
        vec![result]
    };
    let mut listings = results
        .iter()
        .map(|result| listing(result, datastore))
        .collect::<Option<Vec<_>>>()
        .ok_or_else(|| asked.bad("a folder has no path"))?;
    listings.sort_by(|a, b| a.folder.cmp(&b.folder));
    Ok(listings)
}

/// The servers' own words do not say which folder is not there.
fn named(error: VsphereError, place: &str) -> VsphereError {
    match error {
        VsphereError::NotFound { system, .. } => VsphereError::NotFound { system, what: format!("folder {place}") },
        other => other,
    }
}

fn listing(result: &Node, datastore: &Datastore) -> Option<FolderListing> {
    let place = result.text_of("folderPath")?;
    // Some servers end it with a slash, and some begin the part after the name with one.
    let rest = place.strip_prefix('[')?.strip_prefix(datastore.name.as_str())?.strip_prefix(']')?;
    let mut entries: Vec<BrowseEntry> = result.all("file").filter_map(entry).collect();
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    Some(FolderListing { folder: rest.trim_start().trim_matches('/').to_owned(), entries })
}

fn entry(file: &Node) -> Option<BrowseEntry> {
    // vSAN tells whole paths for the folders of its root.
    let name = file.text_of("path")?.trim_end_matches('/');
    let name = name.rsplit('/').next().unwrap_or(name);
    // Never a way out of the folder, whatever a server says.
    if matches!(name, "" | "." | "..") {
        return None;
    }
    Some(BrowseEntry {
        name: name.to_owned(),
        friendly_name: file
            .text_of("friendlyName")
            .filter(|known| !known.is_empty() && *known != name)
            .map(str::to_owned),
        is_folder: file.kind.as_deref() == Some("FolderFileInfo"),
        bytes: file.text_of("fileSize").and_then(|size| size.trim().parse().ok()).unwrap_or(0),
        mtime: file.text_of("modification").and_then(|time| time.trim().parse().ok()),
        thin: file.text_of("thin").map(crate::xml::is_true),
    })
}

#[cfg(test)]
mod tests;
