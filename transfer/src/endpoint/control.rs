//! The control subsystem: a service lists, reads small files, and asks for grants. One request at a time, in order.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use russh::server::Msg;
use russh::{Channel, ChannelMsg};
use stackferry_volume::{Folder, FolderError};

use super::Shared;
use super::grants::Target;
use crate::wire::PROTOCOL;
use crate::wire::block::Failure;
use crate::wire::control::{
    Content, DatastoreInfo, Described, Direction, Hello, Issued, LIST_PAGE, Listing, MOST_GRANT_SECONDS, Op, Outcome,
    Request, Response,
};
use crate::wire::frame::{FrameKind, FrameReader, encode_json};

pub(super) async fn serve(mut channel: Channel<Msg>, shared: Arc<Shared>, issuer: String) {
    let mut reader = FrameReader::default();
    while let Some(message) = channel.wait().await {
        match message {
            ChannelMsg::Data { data } => reader.push(&data),
            ChannelMsg::Eof | ChannelMsg::Close => break,
            _ => continue,
        }
        loop {
            let frame = match reader.next_frame() {
                Ok(Some(frame)) => frame,
                Ok(None) => break,
                Err(error) => {
                    tracing::warn!(issuer, %error, "a service broke the control protocol");
                    let _ = channel.close().await;
                    return;
                }
            };
            let response = answer(&shared, &issuer, frame.kind, frame.payload.to_vec()).await;
            let Ok(bytes) = encode_json(FrameKind::Response, &response) else { return };
            if channel.data_bytes(bytes).await.is_err() {
                return;
            }
        }
    }
    // The other side may be gone: nothing is left to say.
    let _ = channel.exit_status(0).await;
    let _ = channel.close().await;
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
        DatastoreInfo { name: name.clone(), kind: kind.to_owned(), reachable: folder.is_ok() }
    });
    Hello {
        protocol: PROTOCOL,
        program: concat!("stackferry ", env!("CARGO_PKG_VERSION")).to_owned(),
        features: vec!["zstd".to_owned(), "compare".to_owned()],
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
    let more = entries.len() > LIST_PAGE;
    entries.truncate(LIST_PAGE);
    Ok(Listing { entries, more })
}

fn issue(
    shared: &Shared,
    issuer: &str,
    datastore: String,
    path: String,
    direction: Direction,
    seconds: u64,
) -> Outcome {
    let Direction::Read = direction;
    if !(1..=MOST_GRANT_SECONDS).contains(&seconds) {
        return failure("bad_request", format!("a grant lives 1 to {MOST_GRANT_SECONDS} seconds"));
    }
    let opened = shared.folder(&datastore).and_then(|folder| folder.open_file(&path));
    let identity = match opened {
        Ok(source) => source.identity(),
        Err(error) => return folder_failure(&error),
    };
    let identity = match identity {
        Ok(identity) => identity,
        Err(error) => return failure("io", error.to_string()),
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
