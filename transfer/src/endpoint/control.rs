//! The control subsystem: a service lists, reads small files, and asks for grants. One request at a time, in order.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use stackferry_volume::local::RESTORE_PREFIX;
use stackferry_volume::{Entry, Folder, FolderError};

use super::Shared;
use super::grants::Target;
use super::line::Line;
use crate::wire::block::Failure;
use crate::wire::control::{
    Content, DatastoreInfo, Described, Direction, Hello, Issued, LIST_PAGE, Listing, MOST_GRANT_SECONDS, Op, Outcome,
    Request, Response,
};
use crate::wire::frame::{FrameKind, FrameReader, encode_json};
use crate::wire::{PROTOCOL, WRITE_FEATURE};

pub(super) async fn serve(mut line: Line, shared: Arc<Shared>, issuer: String) {
    let mut reader = FrameReader::default();
    let status = loop {
        let frame = match reader.next_frame() {
            Ok(Some(frame)) => frame,
            Ok(None) => match line.next().await {
                Some(data) => {
                    reader.push(&data);
                    continue;
                }
                None => break 0,
            },
            Err(error) => {
                tracing::warn!(issuer, %error, "a service broke the control protocol");
                break 1;
            }
        };
        let response = answer(&shared, &issuer, frame.kind, frame.payload.to_vec()).await;
        let Ok(bytes) = encode_json(FrameKind::Response, &response) else { break 1 };
        if line.put(bytes).await.is_err() {
            break 1;
        }
    };
    line.finish(status).await;
}

async fn answer(shared: &Arc<Shared>, issuer: &str, kind: FrameKind, payload: Vec<u8>) -> Response {
    let request = match serde_json::from_slice::<Request>(&payload) {
        Ok(request) if kind == FrameKind::Request => request,
        _ => {
            #[derive(serde::Deserialize)]
            struct Numbered {
                id: u64,
            }
            let id = serde_json::from_slice::<Numbered>(&payload).map_or(0, |numbered| numbered.id);
            return Response { id, outcome: failure("bad_request", "this request is not understood") };
        }
    };
    let id = request.id;
    let (shared, issuer) = (Arc::clone(shared), issuer.to_owned());
    // File systems block, and a hung one must not hang the other connections.
    let outcome = tokio::task::spawn_blocking(move || perform(&shared, &issuer, request.op)).await;
    Response { id, outcome: outcome.unwrap_or_else(|_| failure("internal", "the endpoint failed; its log says why")) }
}

fn failure(code: &str, message: impl Into<String>) -> Outcome {
    Outcome::Error(Failure { code: code.to_owned(), message: message.into() })
}

fn perform(shared: &Shared, issuer: &str, op: Op) -> Outcome {
    let done = match op {
        Op::Hello { .. } => Ok(json(&hello(shared))),
        Op::List { datastore, path, after } => {
            list(shared, &datastore, &path, after.as_deref()).map(|listing| json(&listing))
        }
        Op::Describe { datastore, path } => {
            let entry = shared.folder(&datastore).and_then(|folder| folder.stat(&path));
            entry.map(|entry| json(&Described { entry }))
        }
        Op::Read { datastore, path, limit } => {
            let bytes = shared.folder(&datastore).and_then(|folder| folder.read(&path, limit));
            bytes.map(|bytes| json(&Content { base64: BASE64.encode(bytes) }))
        }
        Op::Issue { datastore, path, direction, seconds } => {
            return issue(shared, issuer, datastore, path, direction, seconds);
        }
        Op::Revoke { user } => {
            return if shared.grants.revoke(&user, issuer) {
                Outcome::Ok(serde_json::json!({}))
            } else {
                failure("not_found", "there is no such credential of yours; it may have been used and done")
            };
        }
    };
    match done {
        Ok(value) => Outcome::Ok(value),
        Err(error) => folder_failure(&error),
    }
}

fn json(value: &impl serde::Serialize) -> serde_json::Value {
    serde_json::to_value(value).unwrap_or_default()
}

fn folder_failure(error: &FolderError) -> Outcome {
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

fn hello(shared: &Shared) -> Hello {
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

/// A page is listed anew each time: a service asks for few folders, and none is kept in memory between requests.
fn list(shared: &Shared, datastore: &str, path: &str, after: Option<&str>) -> Result<Listing, FolderError> {
    let mut entries = shared.folder(datastore)?.list(path)?;
    entries.sort_by(|one, two| one.name.cmp(&two.name));
    if let Some(after) = after {
        entries.retain(|entry| entry.name.as_str() > after);
    }
    Ok(page(entries))
}

/// As many entries as one response holds. A name of control characters is six times as long in JSON.
fn page(mut entries: Vec<Entry>) -> Listing {
    let mut room = FrameKind::Response.limit().saturating_sub(4096);
    let fits = entries.iter().take(LIST_PAGE).take_while(|entry| {
        let bytes = serde_json::to_vec(entry).map_or(usize::MAX, |json| json.len() + 1);
        let fits = bytes <= room;
        room = room.saturating_sub(bytes);
        fits
    });
    let count = fits.count();
    let more = entries.len() > count;
    entries.truncate(count);
    Listing { entries, more }
}

/// The device and inode of a file that is there.
fn existing(shared: &Shared, datastore: &str, path: &str) -> Result<(u64, u64), Outcome> {
    let opened = shared.folder(datastore).and_then(|folder| folder.open_file(path));
    let source = opened.map_err(|error| folder_failure(&error))?;
    source.identity().map_err(|error| failure("io", error.to_string()))
}

/// A file may be made at this path. Whoever makes it looks again.
fn new(shared: &Shared, datastore: &str, path: &str) -> Result<(), Outcome> {
    let folder = shared.folder(datastore).map_err(|error| folder_failure(&error))?;
    if !shared.restore.contains(datastore) {
        let message = format!("{datastore} may not be restored to: `restore` of [serve] here does not name it");
        return Err(failure("not_allowed", message));
    }
    let name = path.rsplit('/').next().unwrap_or(path);
    if stackferry_volume::FileName::new(name).is_err() || name.starts_with(RESTORE_PREFIX) {
        return Err(failure("refused", format!("no file is restored under the name {name}")));
    }
    match folder.stat(path) {
        Ok(None) => Ok(()),
        Ok(Some(_)) => Err(failure("exists", format!("{path} is there, and nothing is written over"))),
        Err(error) => Err(folder_failure(&error)),
    }
}

fn issue(
    shared: &Shared,
    issuer: &str,
    datastore: String,
    path: String,
    direction: Direction,
    seconds: u64,
) -> Outcome {
    if !(1..=MOST_GRANT_SECONDS).contains(&seconds) {
        return failure("bad_request", format!("a grant lives 1 to {MOST_GRANT_SECONDS} seconds"));
    }
    // SFTP and SCP know the file by this path, and compare it as text.
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
    let target = Target { datastore, path, identity };
    let shown = target.shown_path();
    match shared.grants.issue(target, issuer, Duration::from_secs(seconds)) {
        Ok(credential) => Outcome::Ok(json(&Issued {
            user: credential.user,
            password: credential.secret.expose().to_owned(),
            seconds,
            path: shown,
        })),
        Err(super::grants::TooMany) => failure("busy", "too many credentials wait to be used"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::control::SMALLEST_PAGE;
    use stackferry_volume::EntryKind;

    #[test]
    fn a_page_fits_into_its_frame_whatever_the_names() {
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
            let response = Response { id: u64::MAX, outcome: Outcome::Ok(json(&listing)) };
            let frame = encode_json(FrameKind::Response, &response).unwrap();
            assert!(frame.len() - 5 <= FrameKind::Response.limit(), "{}", frame.len());
        }
        let listing = page((0..1000).map(|at| entry(format!("{at:05}"))).collect());
        assert_eq!((listing.entries.len(), listing.more), (1000, false));
    }
}
