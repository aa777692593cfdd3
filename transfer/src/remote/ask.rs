//! Asking an endpoint on its control subsystem: what there is, and for credentials.
//!
//! The service's own key opens this connection and no file. The connection is kept for as long as the client lives,
//! and made anew when it broke.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use russh::keys::PrivateKey;
use russh::{ChannelMsg, client};
use stackferry_volume::io::{Cancel, MAX_SMALL_READ};
use stackferry_volume::local::MAX_FOLDER_ENTRIES;
use stackferry_volume::{Entry, Folder, FolderError};
use tokio::runtime::Handle;
use tokio::sync::Mutex;

use crate::context::{CopyContext, FileCopy, FileOutcome};
use crate::credential::Secret;
use crate::error::TransferError;
use crate::restore::{FileRestore, Written};
use crate::ssh::{Connection, LOGIN_TIMEOUT, Login, Peer, load_key};
use crate::wait::unless_cancelled;
use crate::wire::block::Failure;
use crate::wire::control::{
    Content, Described, Direction, Hello, Issued, Listing, Op, Outcome, Request, Response, SMALLEST_PAGE,
};
use crate::wire::frame::{FrameKind, FrameReader, encode_json};
use crate::wire::{CONTROL_SUBSYSTEM, PROTOCOL};
use crate::words::clean;

/// How long an endpoint may take, beyond being reachable at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// To answer a question: a folder of many thousand files on a slow disk takes a while.
    pub answer: Duration,
    /// To send the next whole frame of a file, of at most a block: one that answers signs of life but takes longer has
    /// a disk that hangs.
    pub stall: Duration,
    /// To greet and agree on keys, and to let us in, each.
    pub login: Duration,
}

impl Default for Patience {
    /// 30, 120 and 60 seconds.
    fn default() -> Self {
        Self { answer: Duration::from_secs(30), stall: Duration::from_secs(120), login: LOGIN_TIMEOUT }
    }
}

/// How long revoking a credential that is of no more use may take: it dies by itself.
const REVOKE_TIMEOUT: Duration = Duration::from_secs(3);
/// How long listing one folder may take, in all its pages.
const LIST_TIMEOUT: Duration = Duration::from_secs(300);
/// The user name that the service's key logs in as; endpoints go by the key.
const SERVICE_USER: &str = "stackferry";
/// How this program calls itself.
const PROGRAM: &str = concat!("stackferry ", env!("CARGO_PKG_VERSION"));
/// The receive window of the control connection.
const CONTROL_MEMORY: u64 = 4 << 20;

/// One endpoint. Its methods block, and must not be called on a thread that runs async tasks.
pub struct EndpointClient {
    peer: Peer,
    key: Arc<PrivateKey>,
    runtime: Handle,
    patience: Patience,
    asking: Mutex<Option<Asking>>,
}

struct Asking {
    connection: Connection,
    channel: russh::Channel<client::Msg>,
    reader: FrameReader,
    next: u64,
}

/// A credential as it was issued.
#[derive(Debug, Clone)]
pub struct IssuedCredential {
    /// Its public name, and the user to log in as.
    pub user: String,
    /// Its secret.
    pub password: Secret,
    /// The path by which SFTP and SCP know the file.
    pub path: String,
    /// How long it may be used to log in.
    pub life: Duration,
}

impl EndpointClient {
    /// A client of this endpoint, with the service's key. Nothing is connected yet.
    ///
    /// # Errors
    /// `Key`.
    pub fn new(peer: Peer, key: &Path, runtime: Handle) -> Result<Self, TransferError> {
        Ok(Self { peer, key: load_key(key)?, runtime, patience: Patience::default(), asking: Mutex::new(None) })
    }

    /// The same client with another patience.
    #[must_use]
    pub fn with_patience(mut self, patience: Patience) -> Self {
        self.patience = patience;
        self
    }

    pub(super) fn patience(&self) -> Patience {
        self.patience
    }

    /// `host:port`.
    #[must_use]
    pub fn address(&self) -> String {
        self.peer.address()
    }

    /// Where it is.
    #[must_use]
    pub fn peer(&self) -> &Peer {
        &self.peer
    }

    pub(super) fn runtime(&self) -> &Handle {
        &self.runtime
    }

    /// What the endpoint is, and what it has now.
    ///
    /// # Errors
    /// See [`TransferError`].
    pub fn hello(&self) -> Result<Hello, TransferError> {
        self.ask(Op::Hello { protocol: PROTOCOL, program: PROGRAM.to_owned() })
    }

    /// Asks for a credential for one file of a datastore; `life` is cut to whole seconds.
    ///
    /// # Errors
    /// See [`TransferError`]; `Refused` where the endpoint says no.
    pub fn issue(&self, datastore: &str, path: &str, life: Duration) -> Result<IssuedCredential, TransferError> {
        self.issue_unless(&Cancel::default(), datastore, path, life)
    }

    pub(super) fn issue_unless(
        &self,
        cancel: &Cancel,
        datastore: &str,
        path: &str,
        life: Duration,
    ) -> Result<IssuedCredential, TransferError> {
        self.issue_to(cancel, datastore, path, Direction::Read, life)
    }

    pub(super) fn issue_to(
        &self,
        cancel: &Cancel,
        datastore: &str,
        path: &str,
        direction: Direction,
        life: Duration,
    ) -> Result<IssuedCredential, TransferError> {
        let op =
            Op::Issue { datastore: datastore.to_owned(), path: path.to_owned(), direction, seconds: life.as_secs() };
        let issued: Issued = self.runtime.block_on(unless_cancelled(cancel, self.asked(op)))?;
        Ok(IssuedCredential {
            user: issued.user,
            password: Secret::new(issued.password),
            path: issued.path,
            life: Duration::from_secs(issued.seconds),
        })
    }

    /// Revokes what is of no more use, if that can be done at once.
    pub(super) fn revoke_soon(&self, user: &str) {
        let revoking = self.asked::<serde_json::Value>(Op::Revoke { user: user.to_owned() });
        let _ = self.runtime.block_on(async { tokio::time::timeout(REVOKE_TIMEOUT, revoking).await });
    }

    /// Ends a credential and the connection made with it.
    ///
    /// # Errors
    /// See [`TransferError`]; `Refused` with code `not_found` where it is gone already.
    pub fn revoke(&self, user: &str) -> Result<(), TransferError> {
        self.ask::<serde_json::Value>(Op::Revoke { user: user.to_owned() }).map(|_| ())
    }

    /// Copies one file of a datastore; see [`crate::context::FileCopy`]. `issued` is told the credential's public name
    /// before it is used, so that it can be written down.
    ///
    /// # Errors
    /// See [`TransferError`].
    pub fn copy(
        &self,
        datastore: &str,
        file: FileCopy<'_>,
        context: &CopyContext,
        issued: &mut dyn FnMut(&IssuedCredential),
    ) -> Result<FileOutcome, TransferError> {
        super::fetch::copy(self, datastore, file, context, issued)
    }

    /// Writes one new file onto a datastore; see [`FileRestore`]. `issued` is told the credential's public name before it is
    /// used, so that it can be written down.
    ///
    /// # Errors
    /// See [`TransferError`]; `NotAllowed` where the endpoint's `[serve] restore` does not name the datastore, `Exists`,
    /// `NoRoom`, `VersionDamaged`, `Arrived`.
    pub fn write(
        &self,
        datastore: &str,
        file: &FileRestore<'_>,
        context: &CopyContext,
        issued: &mut dyn FnMut(&IssuedCredential),
    ) -> Result<Written<'_>, TransferError> {
        super::put::write(self, datastore, file, context, issued)
    }

    fn ask<T: serde::de::DeserializeOwned>(&self, op: Op) -> Result<T, TransferError> {
        self.runtime.block_on(self.asked(op))
    }

    async fn asked<T: serde::de::DeserializeOwned>(&self, op: Op) -> Result<T, TransferError> {
        let mut slot = self.asking.lock().await;
        let kept = slot.is_some();
        let outcome = match self.ask_once(&mut slot, op.clone()).await {
            // A connection that was kept may have been ended meanwhile: by a restart, or for being idle.
            Err(TransferError::Unreachable { .. }) if kept => self.ask_once(&mut slot, op).await,
            other => other,
        }?;
        drop(slot);
        answered(&self.address(), outcome)
    }

    async fn ask_once(&self, slot: &mut Option<Asking>, op: Op) -> Result<Outcome, TransferError> {
        // It goes back only after its answer: one that was not waited for would be taken for that to the next question.
        let mut asking = match slot.take().filter(|asking| !asking.connection.is_closed()) {
            Some(asking) => asking,
            None => self.connect().await?,
        };
        let outcome = asking.ask(op, self.patience.answer).await?;
        *slot = Some(asking);
        Ok(outcome)
    }

    async fn connect(&self) -> Result<Asking, TransferError> {
        let login = Login::Key(Arc::clone(&self.key));
        let opening = Connection::open(&self.peer, SERVICE_USER, &login, CONTROL_MEMORY, self.patience.login);
        let connection = opening.await.map_err(|error| match error {
            TransferError::LoginRefused { host, user, hint } => {
                let cause = "the endpoint does not know the service's key, or not from this address: its public half belongs \
                             into `issuers` of [serve] there";
                TransferError::LoginRefused { host, user, hint: format!("{cause}; {hint}") }
            }
            other => other,
        })?;
        let channel = connection.subsystem(CONTROL_SUBSYSTEM).await?;
        let mut asking = Asking { connection, channel, reader: FrameReader::default(), next: 0 };
        let greeting = Op::Hello { protocol: PROTOCOL, program: PROGRAM.to_owned() };
        let hello: Hello = answered(&self.address(), asking.ask(greeting, self.patience.answer).await?)?;
        if hello.protocol == 0 || hello.protocol > PROTOCOL {
            let what = format!("it speaks protocol {}, this program speaks {PROTOCOL}", hello.protocol);
            return Err(TransferError::protocol(&self.address(), what));
        }
        Ok(asking)
    }
}

fn answered<T: serde::de::DeserializeOwned>(address: &str, outcome: Outcome) -> Result<T, TransferError> {
    match outcome {
        Outcome::Ok(value) => serde_json::from_value(value)
            .map_err(|error| TransferError::protocol(address, format!("its answer is not understood: {error}"))),
        Outcome::Error(Failure { code, message }) => {
            Err(TransferError::Refused { host: address.to_owned(), code: clean(&code), message: clean(&message) })
        }
    }
}

impl Asking {
    async fn ask(&mut self, op: Op, patience: Duration) -> Result<Outcome, TransferError> {
        self.next += 1;
        let id = self.next;
        let address = self.connection.address().to_owned();
        let protocol = |what: String| TransferError::protocol(&address, what);
        let frame =
            encode_json(FrameKind::Request, &Request { id, op }).map_err(|error| protocol(error.to_string()))?;
        let asking = async {
            if self.channel.data_bytes(frame).await.is_err() {
                return Err(self.connection.broken().await);
            }
            loop {
                if let Some(frame) = self.reader.next_frame().map_err(|error| protocol(error.to_string()))? {
                    let response: Response = match frame.kind {
                        FrameKind::Response => serde_json::from_slice(&frame.payload)
                            .map_err(|error| protocol(format!("its answer is not understood: {error}")))?,
                        other => return Err(protocol(format!("a frame of type {other:?} where an answer is due"))),
                    };
                    if response.id != id {
                        return Err(protocol(format!("an answer to request {} where one to {id} is due", response.id)));
                    }
                    return Ok(response.outcome);
                }
                match self.channel.wait().await {
                    Some(ChannelMsg::Data { data }) => self.reader.push(&data),
                    Some(ChannelMsg::Close | ChannelMsg::Eof) | None => return Err(self.connection.broken().await),
                    Some(_) => {}
                }
            }
        };
        tokio::time::timeout(patience, asking).await.map_err(|_| TransferError::Silent {
            host: address.clone(),
            doing: "answering a question",
            after: patience,
        })?
    }
}

/// A datastore of an endpoint, to be discovered.
pub struct EndpointFolder {
    client: Arc<EndpointClient>,
    datastore: String,
}

impl EndpointFolder {
    /// The datastore of this name.
    #[must_use]
    pub fn new(client: Arc<EndpointClient>, datastore: &str) -> Self {
        Self { client, datastore: datastore.to_owned() }
    }

    fn explain(&self, path: &str, error: TransferError) -> FolderError {
        let path = path.to_owned();
        match error {
            TransferError::Refused { code, message, .. } => match code.as_str() {
                "not_found" => FolderError::NotFound { path },
                "denied" => FolderError::Denied { path },
                "unreachable" => FolderError::Unreachable { datastore: self.datastore.clone(), why: message },
                "too_many" => FolderError::TooMany { path, most: MAX_FOLDER_ENTRIES },
                "refused" => FolderError::Refused { path, why: "the endpoint does not open it" },
                _ => FolderError::Io { path, source: std::io::Error::other(message) },
            },
            other => {
                let why = crate::describe(&other);
                FolderError::Unreachable { datastore: self.datastore.clone(), why }
            }
        }
    }
}

impl Folder for EndpointFolder {
    fn list(&self, path: &str) -> Result<Vec<Entry>, FolderError> {
        let mut entries: Vec<Entry> = Vec::new();
        let began = Instant::now();
        while began.elapsed() < LIST_TIMEOUT {
            let after = entries.last().map(|last| last.name.clone());
            let op = Op::List { datastore: self.datastore.clone(), path: path.to_owned(), after: after.clone() };
            let page: Listing = self.client.ask(op).map_err(|error| self.explain(path, error))?;
            // A list that does not go on would never end.
            let forward = page.entries.iter().is_sorted_by(|one, two| one.name <= two.name)
                && page.entries.first().is_none_or(|first| after.as_ref().is_none_or(|after| first.name > *after));
            if !forward || (page.more && page.entries.len() < SMALLEST_PAGE) {
                let what = format!("the list of {path} does not go forward");
                return Err(self.explain(path, TransferError::protocol(&self.client.address(), what)));
            }
            entries.extend(page.entries);
            if entries.len() > MAX_FOLDER_ENTRIES {
                return Err(FolderError::TooMany { path: path.to_owned(), most: MAX_FOLDER_ENTRIES });
            }
            if !page.more {
                return Ok(entries);
            }
        }
        let host = self.client.address();
        let late = TransferError::Silent { host, doing: "listing a folder", after: LIST_TIMEOUT };
        Err(self.explain(path, late))
    }

    fn stat(&self, path: &str) -> Result<Option<Entry>, FolderError> {
        let op = Op::Describe { datastore: self.datastore.clone(), path: path.to_owned() };
        let described: Described = self.client.ask(op).map_err(|error| self.explain(path, error))?;
        Ok(described.entry)
    }

    fn read(&self, path: &str, limit: usize) -> Result<Vec<u8>, FolderError> {
        let limit = limit.min(MAX_SMALL_READ);
        let op = Op::Read { datastore: self.datastore.clone(), path: path.to_owned(), limit };
        let content: Content = self.client.ask(op).map_err(|error| self.explain(path, error))?;
        match BASE64.decode(&content.base64) {
            Ok(bytes) if bytes.len() <= limit => Ok(bytes),
            _ => {
                let what = format!("the content of {path} is not what was asked for");
                Err(self.explain(path, TransferError::protocol(&self.client.address(), what)))
            }
        }
    }
}
