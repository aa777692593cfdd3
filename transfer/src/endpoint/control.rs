//! The control subsystem: a service lists folders, reads small files, and requests grants. One request at a time, in order.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use stackferry_volume::local::RESTORE_PREFIX;
use stackferry_volume::{Entry, Folder, FolderError};

use super::EndpointState;
use super::channel::ServerChannel;
use super::grants::GrantTarget;
use crate::wire::block::ErrorPayload;
use crate::wire::control::{
    ControlOp, ControlOutcome, ControlRequest, ControlResponse, DatastoreInfo, Described, Direction, FileContent,
    Hello, IssueResponse, LIST_PAGE, ListResponse, MAX_GRANT_SECONDS,
};
use crate::wire::frame::{FrameKind, FrameReader, encode_json};
use crate::wire::{PROTOCOL, WRITE_FEATURE};

pub(super) async fn serve(mut channel: ServerChannel, shared: Arc<EndpointState>, issuer: String) {
    let mut reader = FrameReader::default();
    let status = loop {
        let frame = match reader.next_frame() {
            Ok(Some(frame)) => frame,
            Ok(None) => match channel.next().await {
                Some(data) => {
                    reader.push(&data);
                    continue;
                }
                None => break 0,
            },
            Err(error) => {
                tracing::warn!(issuer, %error, "a service violated the control protocol");
                break 1;
            }
        };
        let response = answer(&shared, &issuer, frame.kind, frame.payload.to_vec()).await;
        let Ok(bytes) = encode_json(FrameKind::Response, &response) else { break 1 };
        if channel.send(bytes).await.is_err() {
            break 1;
        }
    };
    channel.finish(status).await;
}

async fn answer(shared: &Arc<EndpointState>, issuer: &str, kind: FrameKind, payload: Vec<u8>) -> ControlResponse {
    let request = match serde_json::from_slice::<ControlRequest>(&payload) {
        Ok(request) if kind == FrameKind::Request => request,
        _ => {
            #[derive(serde::Deserialize)]
            struct Numbered {
                id: u64,
            }
            let id = serde_json::from_slice::<Numbered>(&payload).map_or(0, |numbered| numbered.id);
            return ControlResponse { id, outcome: failure("bad_request", "this request is invalid") };
        }
    };
    let id = request.id;
    let (shared, issuer) = (Arc::clone(shared), issuer.to_owned());
    // File systems block, and a hung one must not block the other connections.
    let outcome = tokio::task::spawn_blocking(move || perform(&shared, &issuer, request.op)).await;
    ControlResponse {
        id,
        outcome: outcome.unwrap_or_else(|_| failure("internal", "the endpoint failed; its log says why")),
    }
}

fn failure(code: &str, message: impl Into<String>) -> ControlOutcome {
    ControlOutcome::Error(ErrorPayload { code: code.to_owned(), message: message.into() })
}

fn perform(shared: &EndpointState, issuer: &str, op: ControlOp) -> ControlOutcome {
    let done = match op {
        ControlOp::Hello { .. } => Ok(json(&hello(shared))),
        ControlOp::List { datastore, path, after } => {
            list(shared, &datastore, &path, after.as_deref()).map(|listing| json(&listing))
        }
        ControlOp::Describe { datastore, path } => {
            let entry = shared.folder(&datastore).and_then(|folder| folder.stat(&path));
            entry.map(|entry| json(&Described { entry }))
        }
        ControlOp::Read { datastore, path, limit } => {
            let bytes = shared.folder(&datastore).and_then(|folder| folder.read(&path, limit));
            bytes.map(|bytes| json(&FileContent { base64: BASE64.encode(bytes) }))
        }
        ControlOp::Issue { datastore, path, direction, seconds } => {
            return issue(shared, issuer, datastore, path, direction, seconds);
        }
        ControlOp::Revoke { user } => {
            return if shared.grants.revoke(&user, issuer) {
                ControlOutcome::Ok(serde_json::json!({}))
            } else {
                failure("not_found", "you have no such credential; it may have been used and finished")
            };
        }
    };
    match done {
        Ok(value) => ControlOutcome::Ok(value),
        Err(error) => folder_failure(&error),
    }
}

fn json(value: &impl serde::Serialize) -> serde_json::Value {
    serde_json::to_value(value).unwrap_or_default()
}

fn folder_failure(error: &FolderError) -> ControlOutcome {
    let code = match error {
        FolderError::NotFound { .. } => "not_found",
        FolderError::Denied { .. } => "denied",
        FolderError::Refused { .. } => "refused",
        FolderError::TooMany { .. } => "too_many",
        FolderError::Unreachable { .. } => "unreachable",
        _ => "io",
    };
    failure(code, crate::describe(error))
}

fn hello(shared: &EndpointState) -> Hello {
    let datastores = shared.datastores.keys().map(|name| {
        let folder = shared.folder(name);
        let kind =
            if folder.as_ref().is_ok_and(stackferry_volume::local::LocalFolder::is_nfs) { "NFS" } else { "OTHER" };
        let restore = shared.restore.contains(name);
        DatastoreInfo { name: name.clone(), kind: kind.to_owned(), reachable: folder.is_ok(), restore }
    });
    Hello {
        protocol: PROTOCOL,
        program: concat!("stackferry ", env!("CARGO_PKG_VERSION")).to_owned(),
        features: ["zstd", "compare", WRITE_FEATURE].map(str::to_owned).to_vec(),
        datastores: datastores.collect(),
    }
}

/// Each page lists the folder again: a service lists few folders, and none is kept in memory between requests.
fn list(shared: &EndpointState, datastore: &str, path: &str, after: Option<&str>) -> Result<ListResponse, FolderError> {
    let mut entries = shared.folder(datastore)?.list(path)?;
    entries.sort_by(|one, two| one.name.cmp(&two.name));
    if let Some(after) = after {
        entries.retain(|entry| entry.name.as_str() > after);
    }
    Ok(page(entries))
}

/// As many entries as fit into one response. A name of control characters is six times as long in JSON.
fn page(mut entries: Vec<Entry>) -> ListResponse {
    let mut left = FrameKind::Response.limit().saturating_sub(4096);
    let fits = entries.iter().take(LIST_PAGE).take_while(|entry| {
        let bytes = serde_json::to_vec(entry).map_or(usize::MAX, |json| json.len() + 1);
        let fits = bytes <= left;
        left = left.saturating_sub(bytes);
        fits
    });
    let count = fits.count();
    let more = entries.len() > count;
    entries.truncate(count);
    ListResponse { entries, more }
}

/// The device and inode of an existing file.
fn existing(shared: &EndpointState, datastore: &str, path: &str) -> Result<(u64, u64), ControlOutcome> {
    let opened = shared.folder(datastore).and_then(|folder| folder.open_file(path));
    let source = opened.map_err(|error| folder_failure(&error))?;
    source.identity().map_err(|error| failure("io", error.to_string()))
}

/// Checks that a file may be created at this path. Creating it checks again.
fn new(shared: &EndpointState, datastore: &str, path: &str) -> Result<(), ControlOutcome> {
    let folder = shared.folder(datastore).map_err(|error| folder_failure(&error))?;
    if !shared.restore.contains(datastore) {
        let message = format!("restores to {datastore} are not allowed: `restore` of [serve] here does not list it");
        return Err(failure("not_allowed", message));
    }
    let name = path.rsplit('/').next().unwrap_or(path);
    if stackferry_volume::FileName::new(name).is_err() || name.starts_with(RESTORE_PREFIX) {
        return Err(failure("refused", format!("no file is restored under the name {name}")));
    }
    match folder.stat(path) {
        Ok(None) => Ok(()),
        Ok(Some(_)) => Err(failure("exists", format!("{path} exists, and nothing is overwritten"))),
        Err(error) => Err(folder_failure(&error)),
    }
}

fn issue(
    shared: &EndpointState,
    issuer: &str,
    datastore: String,
    path: String,
    direction: Direction,
    seconds: u64,
) -> ControlOutcome {
    if !(1..=MAX_GRANT_SECONDS).contains(&seconds) {
        return failure("bad_request", format!("a grant is valid for 1 to {MAX_GRANT_SECONDS} seconds"));
    }
    // SFTP and SCP address the file by this path, and compare it as text.
    if path.split('/').any(|part| matches!(part, "" | "." | "..")) {
        return failure("refused", "a path has to be plain: folder/file, without . and .. and doubled slashes");
    }
    let found = match direction {
        Direction::Read => existing(shared, &datastore, &path).map(Some),
        Direction::Write => new(shared, &datastore, &path).map(|()| None),
    };
    let identity = match found {
        Ok(identity) => identity,
        Err(refusal) => return refusal,
    };
    let target = GrantTarget { datastore, path, identity };
    let shown = target.shown_path();
    match shared.grants.issue(target, issuer, Duration::from_secs(seconds)) {
        Ok(credential) => ControlOutcome::Ok(json(&IssueResponse {
            user: credential.user,
            password: credential.secret.expose().to_owned(),
            seconds,
            path: shown,
        })),
        Err(super::grants::TooMany) => failure("busy", "too many credentials are waiting for their login"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::control::SMALLEST_PAGE;
    use stackferry_volume::EntryKind;

    #[test]
    fn a_page_fits_into_its_frame_with_any_names() {
        let entry = |name: String| Entry {
            name,
            utf8: true,
            kind: EntryKind::Folder,
            bytes: u64::MAX,
            allocated: Some(u64::MAX),
            mtime: jiff::Timestamp::MIN,
            changed: Some(jiff::Timestamp::MIN),
            inode: Some(u64::MAX),
        };
        for character in ["\u{1}", "a", "\u{fffd}"] {
            let entries: Vec<_> = (0..3000).map(|at| entry(format!("{at:05}{}", character.repeat(250)))).collect();
            let listing = page(entries);
            assert!(listing.more);
            assert!((SMALLEST_PAGE..=LIST_PAGE).contains(&listing.entries.len()), "{}", listing.entries.len());
            let response = ControlResponse { id: u64::MAX, outcome: ControlOutcome::Ok(json(&listing)) };
            let frame = encode_json(FrameKind::Response, &response).unwrap();
            assert!(frame.len() - 5 <= FrameKind::Response.limit(), "{}", frame.len());
        }
        let listing = page((0..1000).map(|at| entry(format!("{at:05}"))).collect());
        assert_eq!((listing.entries.len(), listing.more), (1000, false));
    }
}
