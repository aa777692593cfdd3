//! Lists the folders of a datastore.
//!
//! The search requests no type of file: with the type for disks a server opens each of them, which is slow, and omits the
//! `-flat` files.

use std::sync::Arc;
use std::time::Duration;

use crate::error::VsphereError;
use crate::model::{BrowseEntry, Datastore, FolderListing};
use crate::session::{ApiVersion, Session};
use crate::xml::XmlNode;
use crate::{soap, task};

/// The timeout of a search, which takes minutes on a datastore with thousands of folders.
const SEARCH_TIMEOUT: Duration = Duration::from_secs(600);
/// The timeout of the call that starts the search.
const START_TIMEOUT: Duration = Duration::from_secs(60);

pub(crate) async fn browse(
    session: Arc<Session>,
    datastore: &Datastore,
    folder: &str,
    recursive: bool,
    pattern: Option<&str>,
) -> Result<Vec<FolderListing>, VsphereError> {
    let call = if recursive { "SearchDatastoreSubFolders_Task" } else { "SearchDatastore_Task" };
    let context = session.context(call);
    let folder = folder.trim_matches('/');
    let folder_path = format!("[{}] {folder}", datastore.name);
    let response = session
        .call_in(call, &datastore.browser, ApiVersion::FRIENDLY_NAMES, START_TIMEOUT, |writer| {
            writer.text("datastorePath", folder_path.trim_end());
            writer.within("searchSpec", |writer| {
                writer.within("details", |writer| {
                    for detail in ["fileType", "fileSize", "modification", "fileOwner"] {
                        writer.text(detail, "true");
                    }
                });
                writer.text("searchCaseInsensitive", "true");
                // Without a pattern some servers return nothing, although the reference says that they return everything.
                writer.text("matchPattern", pattern.unwrap_or("*"));
            });
        })
        .await
        .map_err(|error| named(error, &folder_path))?;
    let task =
        response.get("returnval").and_then(soap::moid).ok_or_else(|| context.invalid_response("it has no task"))?;
    let result = task::wait(&session, call, &task, SEARCH_TIMEOUT).await.map_err(|error| named(error, &folder_path))?;
    let results = if result.kind.as_deref().is_some_and(|kind| kind.starts_with("ArrayOf")) {
        result.children
    } else {
        vec![result]
    };
    let mut listings = results
        .iter()
        .map(|result| listing(result, datastore))
        .collect::<Option<Vec<_>>>()
        .ok_or_else(|| context.invalid_response("a folder has no path"))?;
    listings.sort_by(|a, b| a.folder.cmp(&b.folder));
    Ok(listings)
}

/// Adds the name of the missing folder, which the server's message omits.
fn named(error: VsphereError, folder_path: &str) -> VsphereError {
    match error {
        VsphereError::NotFound { system, .. } => {
            VsphereError::NotFound { system, what: format!("folder {folder_path}") }
        }
        other => other,
    }
}

fn listing(result: &XmlNode, datastore: &Datastore) -> Option<FolderListing> {
    let folder_path = result.text_of("folderPath")?;
    // Some servers append a slash, and some put one after the name of the datastore.
    let rest = folder_path.strip_prefix('[')?.strip_prefix(datastore.name.as_str())?.strip_prefix(']')?;
    let mut entries: Vec<BrowseEntry> = result.all("file").filter_map(entry).collect();
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    Some(FolderListing { folder: rest.trim_start().trim_matches('/').to_owned(), entries })
}

fn entry(file: &XmlNode) -> Option<BrowseEntry> {
    // vSAN reports whole paths for the folders of its root.
    let name = file.text_of("path")?.trim_end_matches('/');
    let name = name.rsplit('/').next().unwrap_or(name);
    // Never leave the folder, whatever the server sends.
    if matches!(name, "" | "." | "..") {
        return None;
    }
    Some(BrowseEntry {
        name: name.to_owned(),
        friendly_name: file
            .text_of("friendlyName")
            .filter(|friendly| !friendly.is_empty() && *friendly != name)
            .map(str::to_owned),
        is_folder: file.kind.as_deref() == Some("FolderFileInfo"),
        bytes: file.text_of("fileSize").and_then(|size| size.trim().parse().ok()).unwrap_or(0),
        mtime: file.text_of("modification").and_then(|time| time.trim().parse().ok()),
    })
}

#[cfg(test)]
mod tests;
