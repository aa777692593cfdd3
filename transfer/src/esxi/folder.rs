//! A datastore for discovery, through vSphere: its browser lists folders, and `/folder` of the system itself serves small
//! files, with the client's session. Where that fails a host serves them, by a ticket.
//!
//! One search lists a folder and everything below it, so that a scan of thousands of volumes is one call. What is below is
//! answered from that search for a minute; the requested folder itself, and single files, are always read again.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use stackferry_config::Secret;
use stackferry_https::{HttpsClient, Request, Response};
use stackferry_volume::io::MAX_SMALL_READ;
use stackferry_volume::local::MAX_FOLDER_ENTRIES;
use stackferry_volume::{Entry, EntryKind, Folder, FolderError, UNKNOWN_MTIME};
use stackferry_vsphere::{BrowseEntry, Datastore, FolderListing, TicketMethod, Via, VsphereError, folder_path};

use super::EsxiInner;
use super::location::authority;
use super::ticket::address;
use crate::context::FileCopy;
use crate::error::{DownloadFault, TransferError};
use crate::stock::{check_unchanged, whole_seconds};
use crate::wait::unless_cancelled;

/// How long a search is valid for what is below the requested folder.
const FRESH: Duration = Duration::from_secs(60);
/// The longest path on a datastore, in bytes.
const MAX_PATH: usize = 4096;

/// A datastore, for discovery through vSphere.
pub struct EsxiFolder {
    inner: Arc<EsxiInner>,
    search: Mutex<Option<SearchResult>>,
    /// The session's cookie, so that it is not requested for every file.
    cookie: Mutex<Option<Secret>>,
}

/// The result of one search.
struct SearchResult {
    since: Instant,
    /// The requested folder.
    top: String,
    /// Entries by the path on the datastore.
    folders: HashMap<String, Vec<Entry>>,
}

impl EsxiFolder {
    pub(super) fn new(inner: Arc<EsxiInner>) -> Self {
        Self { inner, search: Mutex::default(), cookie: Mutex::default() }
    }

    fn below_search(&self, path: &str) -> Option<Result<Vec<Entry>, FolderError>> {
        let search = self.search.lock().unwrap_or_else(PoisonError::into_inner);
        let search = search.as_ref().filter(|search| search.since.elapsed() < FRESH)?;
        let below = path.strip_prefix(search.top.as_str())?.starts_with('/');
        let missing = || FolderError::NotFound { path: path.to_owned() };
        below.then(|| search.folders.get(path).cloned().ok_or_else(missing))
    }

    async fn read_small(&self, path: &str, limit: usize) -> Result<Vec<u8>, TransferError> {
        let inner = &*self.inner;
        let datastore = inner.location.datastore().await?;
        let through = match self.read_through(&datastore, path, limit).await {
            Err(error) if is_refused_ticket(&error) => {
                // The session may have ended since.
                *self.cookie.lock().unwrap_or_else(PoisonError::into_inner) = None;
                self.read_through(&datastore, path, limit).await
            }
            done => done,
        };
        let error = match through {
            Err(error) if may_help(&error) => error,
            done => return done,
        };
        let (datastore, hosts) = inner.location.hosts().await?;
        for host in hosts {
            match inner.read_at(&datastore, host, path, limit).await {
                Ok(content) => return Ok(content),
                Err(error) => tracing::debug!(path, error = crate::describe(&error), "the next host is tried"),
            }
        }
        Err(error)
    }

    async fn read_through(&self, datastore: &Datastore, path: &str, limit: usize) -> Result<Vec<u8>, TransferError> {
        let vsphere = &self.inner.datastore.vsphere;
        let kept = self.cookie.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let cookie = match kept {
            Some(cookie) => cookie,
            None => {
                let cookie = vsphere.session_cookie().await?;
                *self.cookie.lock().unwrap_or_else(PoisonError::into_inner) = Some(cookie.clone());
                cookie
            }
        };
        let real = self.inner.real_path(datastore, path).await?;
        let url = folder_path(datastore, &real, Via::Server);
        get(vsphere.https(), vsphere.system(), &url, &cookie, path, limit).await
    }
}

fn is_refused_ticket(error: &TransferError) -> bool {
    matches!(error, TransferError::Download { fault: DownloadFault::TicketRefused, .. })
}

/// Whether a host may serve what the system did not.
fn may_help(error: &TransferError) -> bool {
    match error {
        TransferError::Download { fault, .. } => {
            !matches!(fault, DownloadFault::NotFound | DownloadFault::Denied(_) | DownloadFault::Long)
        }
        TransferError::Vsphere(VsphereError::Https(_)) => true,
        _ => false,
    }
}

/// The first bytes of a file, at most `limit`. The response is checked.
async fn get(
    web: &HttpsClient,
    host: &str,
    url: &str,
    cookie: &Secret,
    file: &str,
    limit: usize,
) -> Result<Vec<u8>, TransferError> {
    let fault = |fault| TransferError::Download { host: host.to_owned(), file: file.to_owned(), fault };
    let last = limit.saturating_sub(1);
    let request = Request::get(url)
        .header("cookie", cookie.expose())
        .header("range", &format!("bytes=0-{last}"))
        .limit(limit as u64);
    let answer = match web.send(request).await {
        Ok(answer) => answer,
        Err(stackferry_https::HttpsError::TooLong { .. }) => return Err(fault(DownloadFault::NotPartial)),
        Err(error) => return Err(VsphereError::from(error).into()),
    };
    small(&answer, limit).map(|()| answer.body().to_vec()).or_else(|wrong| match wrong {
        // An empty file has no part.
        AnswerProblem::Empty => Ok(Vec::new()),
        AnswerProblem::Fault(wrong) => Err(fault(wrong)),
    })
}

enum AnswerProblem {
    Empty,
    Fault(DownloadFault),
}

fn small(answer: &Response, limit: usize) -> Result<(), AnswerProblem> {
    let fault = |fault| Err(AnswerProblem::Fault(fault));
    match answer.status() {
        200 | 206 => {}
        401 => return fault(DownloadFault::TicketRefused),
        403 => return fault(DownloadFault::Denied(Vec::new())),
        404 => return fault(DownloadFault::NotFound),
        416 if answer.header("content-range").is_some_and(|text| text.trim() == "bytes */0") => {
            return Err(AnswerProblem::Empty);
        }
        500 => return fault(DownloadFault::Locked),
        status @ (429 | 502 | 503 | 504) => return fault(DownloadFault::NotReady(status)),
        status => return fault(DownloadFault::Status(status)),
    }
    if answer.content_type().is_some_and(|kind| kind.trim_start().to_ascii_lowercase().starts_with("text/html")) {
        return fault(DownloadFault::WebPage);
    }
    if answer.status() == 206 {
        let range = answer.header("content-range").unwrap_or_default();
        let right = super::download::content_range(range).is_some_and(|(part, total)| {
            part.start == 0 && part.end == total.min(limit as u64) && part.end == answer.body().len() as u64
        });
        if !right {
            return fault(DownloadFault::WrongPart(range.chars().take(100).collect()));
        }
    }
    Ok(())
}

impl EsxiInner {
    /// Waits for a system until the program ends.
    pub(super) fn wait<T>(&self, doing: impl Future<Output = Result<T, TransferError>>) -> Result<T, TransferError> {
        self.runtime.block_on(unless_cancelled(&self.ending, doing))
    }

    /// The same path with vSAN's own name for the top folder, where its display name differs.
    async fn real_path(&self, datastore: &Datastore, path: &str) -> Result<String, VsphereError> {
        if !has_namespaces(datastore) {
            return Ok(path.to_owned());
        }
        let (top, rest) = path.split_once('/').map_or((path, None), |(top, rest)| (top, Some(rest)));
        let root = self.datastore.vsphere.browse(datastore, "", false, None).await?;
        let entries = root.iter().flat_map(|listing| &listing.entries);
        let real = entries.into_iter().find(|entry| entry.friendly_name.as_deref() == Some(top));
        let real = real.map_or(top, |entry| entry.name.as_str());
        Ok(rest.map_or_else(|| real.to_owned(), |rest| format!("{real}/{rest}")))
    }

    async fn browse(
        &self,
        path: &str,
        recursive: bool,
        pattern: Option<&str>,
    ) -> Result<Vec<FolderListing>, TransferError> {
        let datastore = self.location.datastore().await?;
        let vsphere = &self.datastore.vsphere;
        let mut found = vsphere.browse(&datastore, path, recursive, pattern).await;
        if matches!(found, Err(VsphereError::NotFound { .. })) && !path.is_empty() && has_namespaces(&datastore) {
            let real = self.real_path(&datastore, path).await?;
            if real != path {
                found = vsphere.browse(&datastore, &real, recursive, pattern).await;
            }
        }
        match found {
            Ok(found) => Ok(found),
            Err(VsphereError::NotFound { .. }) => Err(FolderError::NotFound { path: path.to_owned() }.into()),
            Err(VsphereError::Fault { name, .. }) if name == "CannotAccessFile" || name == "NotADirectory" => {
                Err(FolderError::Refused { path: path.to_owned(), why: "it is no folder, or can't be opened" }.into())
            }
            Err(error) => {
                // It may have been renamed.
                self.location.forget().await;
                Err(error.into())
            }
        }
    }

    /// One entry, read again.
    async fn stat(&self, path: &str) -> Result<Option<Entry>, TransferError> {
        let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
        match self.browse(folder, false, Some(name)).await {
            Ok(found) => {
                let mut entries = found.into_iter().flat_map(|listing| listing.entries);
                Ok(entries.find(|entry| shown_name(entry) == name).map(|found| entry(&found)))
            }
            Err(TransferError::Folder(FolderError::NotFound { .. })) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Checks that the file is the one that discovery saw.
    pub(super) async fn check_unchanged(&self, file: &FileCopy<'_>) -> Result<(), TransferError> {
        match self.stat(file.path).await? {
            Some(now) if now.kind == EntryKind::File => {
                // vSphere may report a descriptor with the length of its disk; its download has the real one.
                let small = MAX_SMALL_READ as u64;
                let is_hint = file.bytes < small && now.bytes > small;
                let bytes = if is_hint { file.bytes } else { now.bytes };
                check_unchanged(file, bytes, whole_seconds(now.mtime))
            }
            _ => Err(TransferError::SourceChanged { file: file.path.to_owned(), what: "it is gone".to_owned() }),
        }
    }

    /// The first bytes of a file, from a host.
    async fn read_at(
        &self,
        datastore: &Datastore,
        host: stackferry_vsphere::Host,
        path: &str,
        limit: usize,
    ) -> Result<Vec<u8>, TransferError> {
        let place = authority(host.addresses.first().unwrap_or(&host.name));
        let server =
            super::ticket::DownloadServer { label: format!("host {}", host.name), authority: place, host: Some(host) };
        let real = self.real_path(datastore, path).await?;
        let (url, below) = address(&server, datastore, &real);
        let ticket = self.datastore.vsphere.ticket(TicketMethod::Get, &url).await?;
        let web = self.web(&server.label, &server.authority, &ticket)?;
        get(&web, &server.label, &below, &ticket.cookie(), path, limit).await
    }

    /// As an error of reading a folder.
    fn folder_error(&self, path: &str, error: TransferError) -> FolderError {
        let path = path.to_owned();
        let unreachable = |why| FolderError::Unreachable { datastore: self.datastore.name.clone(), why };
        let hinted = |hint: String| format!("{}: {hint}", crate::describe(&error));
        match &error {
            TransferError::Download { fault: DownloadFault::NotFound, .. } => FolderError::NotFound { path },
            TransferError::Download { fault: fault @ DownloadFault::Denied(_), .. } => {
                unreachable(hinted(fault.hint()))
            }
            TransferError::Download { .. } => {
                FolderError::Io { path, source: std::io::Error::other(crate::describe(&error)) }
            }
            TransferError::Vsphere(refused) => unreachable(hinted(refused.hint())),
            _ => match error {
                TransferError::Folder(error) => error,
                other => unreachable(crate::describe(&other)),
            },
        }
    }
}

fn has_namespaces(datastore: &Datastore) -> bool {
    datastore.kind.eq_ignore_ascii_case("vsan") || datastore.kind.eq_ignore_ascii_case("vvol")
}

/// The display name, which is the one in the configuration.
fn shown_name(entry: &BrowseEntry) -> &str {
    entry.friendly_name.as_deref().unwrap_or(&entry.name)
}

fn entry(found: &BrowseEntry) -> Entry {
    // Fractions of seconds differ between vSphere's calls.
    let mtime = found.mtime.and_then(|time| Timestamp::from_second(whole_seconds(time)).ok());
    Entry {
        name: shown_name(found).to_owned(),
        utf8: true,
        kind: if found.is_folder { EntryKind::Folder } else { EntryKind::File },
        bytes: if found.is_folder { 0 } else { found.bytes },
        allocated: None,
        mtime: mtime.unwrap_or(UNKNOWN_MTIME),
        changed: None,
        inode: None,
    }
}

/// A search's results by paths below `top`, whatever the server calls it.
fn sorted(top: &str, listings: &[FolderListing]) -> Result<HashMap<String, Vec<Entry>>, FolderError> {
    let base = listings.iter().map(|listing| listing.folder.as_str()).min_by_key(|folder| folder.len()).unwrap_or(top);
    let mut folders = HashMap::new();
    for listing in listings {
        let Some(below) = listing.folder.strip_prefix(base) else { continue };
        let path = if top.is_empty() { below.trim_start_matches('/').to_owned() } else { format!("{top}{below}") };
        if listing.entries.len() > MAX_FOLDER_ENTRIES {
            return Err(FolderError::TooMany { path, most: MAX_FOLDER_ENTRIES });
        }
        folders.insert(path, listing.entries.iter().map(entry).collect());
    }
    Ok(folders)
}

/// A path below the datastore, or the datastore itself.
fn plain(path: &str) -> Result<(), FolderError> {
    let refused = |why| Err(FolderError::Refused { path: path.escape_debug().to_string(), why });
    if path.is_empty() {
        return Ok(());
    }
    if path.len() > MAX_PATH || path.contains(char::is_control) {
        return refused("the path can't be requested");
    }
    if path.split('/').any(|part| matches!(part, "" | "." | "..")) {
        return refused("the path leaves the datastore or is not plain");
    }
    Ok(())
}

impl Folder for EsxiFolder {
    fn list(&self, path: &str) -> Result<Vec<Entry>, FolderError> {
        plain(path)?;
        if let Some(known) = self.below_search(path) {
            return known;
        }
        let since = Instant::now();
        // A whole datastore is never searched.
        let browsing = self.inner.browse(path, !path.is_empty(), None);
        let found = self.inner.wait(browsing).map_err(|error| self.inner.folder_error(path, error))?;
        let mut folders = sorted(path, &found)?;
        let entries = if path.is_empty() {
            folders.remove(path).unwrap_or_default()
        } else {
            let entries = folders.get(path).cloned().unwrap_or_default();
            let search = SearchResult { since, top: path.to_owned(), folders };
            *self.search.lock().unwrap_or_else(PoisonError::into_inner) = Some(search);
            entries
        };
        Ok(entries)
    }

    fn stat(&self, path: &str) -> Result<Option<Entry>, FolderError> {
        plain(path)?;
        if path.is_empty() {
            return Err(FolderError::Refused { path: String::new(), why: "it names no file" });
        }
        self.inner.wait(self.inner.stat(path)).map_err(|error| self.inner.folder_error(path, error))
    }

    fn read(&self, path: &str, limit: usize) -> Result<Vec<u8>, FolderError> {
        plain(path)?;
        let limit = limit.min(MAX_SMALL_READ);
        if limit == 0 {
            return Ok(Vec::new());
        }
        self.inner.wait(self.read_small(path, limit)).map_err(|error| self.inner.folder_error(path, error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listing(folder: &str, names: &[&str]) -> FolderListing {
        let entries = names.iter().map(|name| BrowseEntry {
            name: (*name).to_owned(),
            friendly_name: None,
            is_folder: !name.contains('.'),
            bytes: 7,
            mtime: "2024-01-02T03:04:05.678Z".parse().ok(),
        });
        FolderListing { folder: folder.to_owned(), entries: entries.collect() }
    }

    #[test]
    fn search_results_are_sorted_by_requested_path() {
        let results = [listing("5f1e/apps", &["b", "a.vmdk"]), listing("5f1e/apps/b", &["c.vmdk"])];
        let folders = sorted("cloudvolumes/apps", &results).unwrap();
        assert_eq!(folders.len(), 2);
        let entries = &folders["cloudvolumes/apps"];
        assert_eq!((entries[0].kind, entries[0].bytes), (EntryKind::Folder, 0));
        assert_eq!((entries[1].kind, entries[1].bytes), (EntryKind::File, 7));
        assert_eq!(entries[1].mtime.to_string(), "2024-01-02T03:04:05Z", "whole seconds");
        assert_eq!(folders["cloudvolumes/apps/b"][0].name, "c.vmdk");
        assert!(sorted("", &[listing("", &["x"])]).unwrap().contains_key(""));
    }

    #[test]
    fn paths_are_plain() {
        for good in ["", "a", "a/b!5C!c.vmdk", "[x] y/ü"] {
            plain(good).unwrap();
        }
        for bad in ["/a", "a/", "a//b", "..", "a/../b", "./a", "a\nb", "a\0", &"x".repeat(5000)] {
            assert!(plain(bad).is_err(), "{bad:?}");
        }
    }
}
