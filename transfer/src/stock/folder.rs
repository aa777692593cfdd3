//! A stock host's datastore, for discovery. Its logins open no disk: one lists folders, another reads descriptors. SFTP
//! sessions are kept for some minutes, never longer than their certificates are valid; without SFTP each request is a login
//! of its own.

use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use stackferry_volume::fingerprint::time_of;
use stackferry_volume::io::MAX_SMALL_READ;
use stackferry_volume::local::MAX_FOLDER_ENTRIES;
use stackferry_volume::{Entry, EntryKind, Folder, FolderError, UNKNOWN_MTIME};
use tokio::sync::Mutex;

use super::command::{self, EXIT_LINK, EXIT_NO_FILE, EXIT_NO_ROOT, EXIT_NOTHING, HEAD_END, SFTP_LIST, SFTP_READ};
use super::find::{lacks, run_find};
use super::listing::{MAX_NAMES, once_each};
use super::run::run;
use super::sftp::{Sftp, SftpError};
use super::{ReadMethod, StockInner};
use crate::error::TransferError;
use crate::sanitize::clean;
use crate::sftp::{Attributes, entry_name};

/// How long a session is kept.
const MAX_AGE: Duration = Duration::from_secs(240);
/// How many times the timeout of an answer all of one question may take: 5 minutes, for a folder of very many files.
const ANSWERS: u32 = 10;
/// Why a path with a symbolic link is refused.
const LINKED: &str = "it is or passes a symbolic link";

/// A cached session.
pub(super) type SessionSlot = Arc<Mutex<Option<CachedSession>>>;

pub(super) struct CachedSession {
    sftp: Sftp,
    since: Instant,
}

/// The session's purpose.
#[derive(Clone, Copy)]
enum SessionUse {
    List,
    Read,
}

/// A stock host's datastore.
pub struct StockFolder {
    inner: Arc<StockInner>,
}

impl StockFolder {
    pub(super) fn new(inner: Arc<StockInner>) -> Self {
        Self { inner }
    }
}

/// The datastore's own folder does not exist: it is not mounted. That does not mean that its volumes are gone.
pub(super) fn no_root(root: &str, address: &str) -> FolderError {
    let why = "there is no such folder on that host: is the datastore mounted there?".to_owned();
    FolderError::Unreachable { datastore: format!("{root} on {address}"), why }
}

/// Probes how the host is read, and keeps the session.
pub(super) async fn probe_method(inner: &StockInner) -> Result<ReadMethod, TransferError> {
    let mut slot = inner.listing.lock().await;
    if let Some(method) = inner.known_method() {
        return Ok(method);
    }
    for (method, command) in [(ReadMethod::Sftp, SFTP_LIST), (ReadMethod::PlainSftp, SFTP_READ)] {
        match start(inner, command).await {
            Ok(Some(sftp)) => {
                cache(inner, &inner.listing, &mut slot, CachedSession { sftp, since: Instant::now() });
                inner.set_method(Some(method));
                return Ok(method);
            }
            Ok(None) => {}
            Err(TransferError::Refused { code, .. }) if code == "no_subsystem" => break,
            Err(other) => return Err(other),
        }
    }
    inner.set_method(Some(ReadMethod::Scp));
    Ok(ReadMethod::Scp)
}

pub(super) fn question_timeout(inner: &StockInner) -> Duration {
    inner.timeouts.answer.saturating_mul(ANSWERS)
}

async fn start(inner: &StockInner, command: &str) -> Result<Option<Sftp>, TransferError> {
    let connection = inner.log_in_for_discovery(command).await?;
    Sftp::start(connection, None, inner.timeouts.answer, &|| false).await
}

/// Caches a session. A task closes it when it is too old, unless it is in use.
fn cache(inner: &StockInner, slot: &SessionSlot, place: &mut Option<CachedSession>, kept: CachedSession) {
    let since = kept.since;
    *place = Some(kept);
    let slot = Arc::downgrade(slot);
    inner.runtime.spawn(async move {
        tokio::time::sleep_until((since + MAX_AGE).into()).await;
        let Some(slot) = slot.upgrade() else { return };
        let old = slot.lock().await.take_if(|kept| kept.since == since);
        if let Some(old) = old {
            old.sftp.close().await;
        }
    });
}

/// Runs `doing` in the cached session, or in a new one.
async fn with<T>(
    inner: &StockInner,
    what: SessionUse,
    doing: impl AsyncFn(&mut Sftp) -> Result<T, SftpError>,
) -> Result<T, SftpError> {
    let slot = match what {
        SessionUse::List => &inner.listing,
        SessionUse::Read => &inner.reading,
    };
    let mut place = slot.lock().await;
    let kept = place.take().filter(|kept| !kept.sftp.is_closed() && kept.since.elapsed() < MAX_AGE);
    if let Some(mut kept) = kept {
        match doing(&mut kept.sftp).await {
            // It may have ended meanwhile: by a restart, or because it was idle.
            Err(SftpError::Transfer(TransferError::Unreachable { .. } | TransferError::Protocol { .. })) => {}
            Err(SftpError::Transfer(other)) => return Err(other.into()),
            done => {
                *place = Some(kept);
                return done;
            }
        }
    }
    let command = match (what, inner.known_method()) {
        (SessionUse::List, Some(ReadMethod::Sftp) | None) => SFTP_LIST,
        _ => SFTP_READ,
    };
    let started = start(inner, command).await;
    inner.forget_method_if_gone(&started);
    let Some(mut sftp) = started? else {
        inner.set_method(None);
        let host = inner.address();
        return Err(TransferError::protocol(&host, "it does not start SFTP any more").into());
    };
    let since = Instant::now();
    let done = doing(&mut sftp).await;
    if !matches!(done, Err(SftpError::Transfer(_))) {
        cache(inner, slot, &mut place, CachedSession { sftp, since });
    }
    done
}

/// SFTP's time, in whole seconds.
fn mtime(attributes: &Attributes) -> Timestamp {
    attributes.mtime.map_or(UNKNOWN_MTIME, |seconds| time_of(i64::from(seconds), 0))
}

fn entry(name: &[u8], attributes: &Attributes) -> Entry {
    let kind = match attributes {
        attributes if attributes.is_file() => EntryKind::File,
        attributes if attributes.is_folder() => EntryKind::Folder,
        _ => EntryKind::Other,
    };
    Entry {
        name: String::from_utf8_lossy(name).into_owned(),
        utf8: std::str::from_utf8(name).is_ok(),
        kind,
        bytes: if kind == EntryKind::File { attributes.bytes.unwrap_or(0) } else { 0 },
        allocated: None,
        mtime: mtime(attributes),
        changed: None,
        inode: None,
    }
}

async fn list_by_sftp(sftp: &mut Sftp, root: &str, requested: &str, path: &str) -> Result<Vec<Entry>, SftpError> {
    let refused = |why| TransferError::from(FolderError::Refused { path: requested.to_owned(), why });
    match sftp.stat_below(root, path).await? {
        Some(attributes) if attributes.is_folder() => {}
        Some(_) => return Err(refused("it is no folder").into()),
        None => return Err(refused(LINKED).into()),
    }
    let handle = sftp.open_folder(path).await?;
    let too_many =
        || TransferError::from(FolderError::TooMany { path: requested.to_owned(), most: MAX_FOLDER_ENTRIES });
    let mut entries = Vec::new();
    let (mut count, mut bytes) = (0, 0);
    while let Some(names) = sftp.read_folder(&handle).await? {
        for (name, mut attributes) in names {
            // Every entry counts, also the folder itself and its parent (2).
            count += 1;
            bytes += name.len();
            if count > MAX_FOLDER_ENTRIES + 2 || bytes > MAX_NAMES {
                return Err(too_many().into());
            }
            let name = match entry_name(&name) {
                Ok(Some(name)) => name,
                Ok(None) => continue,
                Err(error) => return Err(sftp.protocol_error(error.to_string()).into()),
            };
            // Not every server sends all attributes of every entry.
            if let Ok(text) = std::str::from_utf8(name)
                && (attributes.mode.is_none() || attributes.bytes.is_none() || attributes.mtime.is_none())
            {
                attributes = sftp.lstat(&format!("{}/{text}", path.trim_end_matches('/'))).await?;
            }
            entries.push(entry(name, &attributes));
        }
    }
    sftp.close_handle(handle).await?;
    Ok(once_each(entries))
}

async fn read_by_sftp(
    sftp: &mut Sftp,
    root: &str,
    requested: &str,
    path: &str,
    limit: usize,
) -> Result<Vec<u8>, SftpError> {
    let attributes = match sftp.stat_below(root, path).await? {
        Some(attributes) if attributes.is_file() => attributes,
        found => {
            let why = if found.is_some() { "it is no regular file" } else { LINKED };
            return Err(TransferError::from(FolderError::Refused { path: requested.to_owned(), why }).into());
        }
    };
    let bytes = attributes.bytes.unwrap_or(u64::MAX);
    let length = usize::try_from(bytes).unwrap_or(usize::MAX).min(limit);
    let handle = sftp.open(path).await?;
    let mut content = Vec::new();
    while content.len() < length {
        let missing = u32::try_from(length - content.len()).unwrap_or(u32::MAX);
        let data = sftp.read(&handle, content.len() as u64, missing).await?;
        if data.is_empty() {
            if attributes.bytes.is_none() {
                break;
            }
            let why = format!("it has {bytes} bytes, and ends after {}", content.len());
            let path = requested.to_owned();
            return Err(TransferError::from(FolderError::Io { path, source: std::io::Error::other(why) }).into());
        }
        content.extend_from_slice(&data);
    }
    sftp.close_handle(handle).await?;
    Ok(content)
}

async fn read_by_head(inner: &StockInner, requested: &str, path: &str, limit: usize) -> Result<Vec<u8>, TransferError> {
    let connection = inner.log_in_for_discovery(&command::head(&inner.root, path, limit)).await?;
    let most = limit + HEAD_END.len();
    let mut content = Vec::new();
    let ended = run(inner, connection, question_timeout(inner), &|| false, &mut |data| {
        content.extend_from_slice(data);
        if content.len() > most { std::ops::ControlFlow::Break(()) } else { std::ops::ControlFlow::Continue(()) }
    })
    .await?;
    let path = requested.to_owned();
    let refused = |why| TransferError::from(FolderError::Refused { path: path.clone(), why });
    match ended.status {
        _ if content.len() > most => Err(TransferError::protocol(&inner.address(), "it sends more than was requested")),
        Some(0) => match content.strip_suffix(HEAD_END.as_bytes()) {
            Some(whole) => Ok(whole.to_vec()),
            None => {
                let begin = clean(&String::from_utf8_lossy(content.get(..content.len().min(200)).unwrap_or_default()));
                Err(lacks(inner, "head", "file", &ended, &begin))
            }
        },
        Some(EXIT_LINK) => Err(refused(LINKED)),
        Some(EXIT_NO_FILE) => Err(refused("it is no regular file")),
        Some(EXIT_NOTHING) => Err(FolderError::NotFound { path }.into()),
        Some(EXIT_NO_ROOT) => Err(no_root(&inner.root, &inner.address()).into()),
        _ if ended.stderr.contains("Permission denied") => Err(FolderError::Denied { path }.into()),
        _ => Err(FolderError::Io { path, source: std::io::Error::other(ended.stderr) }.into()),
    }
}

impl StockFolder {
    fn request<T>(
        &self,
        requested: &str,
        request: impl Future<Output = Result<T, SftpError>>,
    ) -> Result<T, FolderError> {
        let after = question_timeout(&self.inner);
        let limited = async { tokio::time::timeout(after, request).await };
        let result = self.inner.runtime.block_on(limited).unwrap_or_else(|_| {
            let host = self.inner.address();
            Err(TransferError::Stalled { host, doing: "reading a folder", after }.into())
        });
        result.map_err(|error| match error.for_path(requested) {
            Ok(error) | Err(TransferError::Folder(error)) => error,
            Err(error) => {
                let why = match &error {
                    TransferError::LoginRefused { hint, .. } | TransferError::Unfit { hint, .. } => {
                        format!("{}: {hint}", crate::describe(&error))
                    }
                    _ => crate::describe(&error),
                };
                FolderError::Unreachable { datastore: self.inner.datastore(), why }
            }
        })
    }

    async fn by_sftp(&self) -> Result<bool, TransferError> {
        let method = match self.inner.known_method() {
            Some(method) => method,
            None => probe_method(&self.inner).await?,
        };
        Ok(method != ReadMethod::Scp)
    }
}

impl Folder for StockFolder {
    fn list(&self, requested: &str) -> Result<Vec<Entry>, FolderError> {
        let (inner, path) = (&*self.inner, self.inner.path(requested)?);
        self.request(requested, async {
            if self.by_sftp().await? {
                let listing = async |sftp: &mut Sftp| list_by_sftp(sftp, &inner.root, requested, &path).await;
                return with(inner, SessionUse::List, listing).await;
            }
            let refused = |why| TransferError::from(FolderError::Refused { path: requested.to_owned(), why });
            match run_find(inner, requested, &path, 1).await? {
                (None, _) => Err(TransferError::from(FolderError::NotFound { path: requested.to_owned() }).into()),
                (Some(itself), entries) => match itself.kind {
                    EntryKind::Folder => Ok(entries),
                    EntryKind::File => Err(refused("it is no folder").into()),
                    EntryKind::Other | EntryKind::Unreadable => {
                        Err(refused("it is no folder, or a symbolic link").into())
                    }
                },
            }
        })
    }

    fn stat(&self, requested: &str) -> Result<Option<Entry>, FolderError> {
        let (inner, path) = (&*self.inner, self.inner.path(requested)?);
        let (folder, name) = requested.rsplit_once('/').unwrap_or(("", requested));
        if name.is_empty() {
            return Err(FolderError::Refused { path: requested.to_owned(), why: "it names no file" });
        }
        let parent = inner.path(folder)?;
        let found = self.request(requested, async {
            if !self.by_sftp().await? {
                return Ok(run_find(inner, requested, &path, 0).await?.0);
            }
            let stat = async |sftp: &mut Sftp| {
                if sftp.stat_below(&inner.root, &parent).await?.is_none() {
                    let refused = FolderError::Refused { path: requested.to_owned(), why: LINKED };
                    return Err(TransferError::from(refused).into());
                }
                sftp.lstat(&path).await.map(|attributes| Some(entry(name.as_bytes(), &attributes)))
            };
            with(inner, SessionUse::List, stat).await
        });
        match found {
            Err(FolderError::NotFound { .. }) => Ok(None),
            Ok(Some(found)) => Ok(Some(Entry { name: name.to_owned(), utf8: true, ..found })),
            other => other,
        }
    }

    fn read(&self, requested: &str, limit: usize) -> Result<Vec<u8>, FolderError> {
        let (inner, path) = (&*self.inner, self.inner.path(requested)?);
        let limit = limit.min(MAX_SMALL_READ);
        self.request(requested, async {
            if !self.by_sftp().await? {
                return Ok(read_by_head(inner, requested, &path, limit).await?);
            }
            let reading = async |sftp: &mut Sftp| read_by_sftp(sftp, &inner.root, requested, &path, limit).await;
            with(inner, SessionUse::Read, reading).await
        })
    }
}
