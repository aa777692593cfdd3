//! Asking an endpoint on its control subsystem: what there is, and for credentials.
//!
//! The service's own key opens this connection and no file. The connection is kept for as long as the client lives,
//! and made anew when it broke.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use russh::keys::PrivateKey;
use russh::{ChannelMsg, client};
use stackferry_volume::io::MAX_SMALL_READ;
use stackferry_volume::local::MAX_FOLDER_ENTRIES;
use stackferry_volume::{Entry, Folder, FolderError};
use tokio::runtime::Handle;
use tokio::sync::Mutex;

use crate::context::{CopyContext, FileCopy, FileOutcome};
use crate::credential::Secret;
use crate::error::TransferError;
use crate::ssh::{Connection, Login, Peer, load_key};
use crate::wire::block::Failure;
use crate::wire::control::{Content, Described, Direction, Hello, Issued, Listing, Op, Outcome, Request, Response};
use crate::wire::frame::{FrameKind, FrameReader, encode_json};
use crate::wire::{CONTROL_SUBSYSTEM, PROTOCOL};

/// How long an endpoint may take to answer: a folder of many thousand files on a slow disk takes a while.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// The user name that the service's key logs in as; endpoints go by the key.
const SERVICE_USER: &str = "stackferry";
/// The receive window of the control connection.
const CONTROL_MEMORY: u64 = 4 << 20;

/// One endpoint. Its methods block, and must not be called on a thread that runs async tasks.
pub struct EndpointClient {
    peer: Peer,
    key: Arc<PrivateKey>,
    runtime: Handle,
    asking: Mutex<Option<Asking>>,
}

struct Asking {
    connection: Connection,
    channel: russh::Channel<client::Msg>,
    reader: FrameReader,
    next: u64,
    hello: Hello,
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
        Ok(Self { peer, key: load_key(key)?, runtime, asking: Mutex::new(None) })
    }

    /// `host:port`.
    #[must_use]
    pub fn address(&self) -> String {
        self.peer.address()
    }

    pub(super) fn peer(&self) -> &Peer {
        &self.peer
    }

    pub(super) fn runtime(&self) -> &Handle {
        &self.runtime
    }

    /// What the endpoint is, and what it has.
    ///
    /// # Errors
    /// See [`TransferError`].
    pub fn hello(&self) -> Result<Hello, TransferError> {
        self.runtime.block_on(async {
            let mut asking = self.asking.lock().await;
            self.connected(&mut asking).await.map(|asking| asking.hello.clone())
        })
    }

    /// Asks for a credential for one file of a datastore; `life` is cut to whole seconds.
    ///
    /// # Errors
    /// See [`TransferError`]; `Refused` where the endpoint says no.
    pub fn issue(&self, datastore: &str, path: &str, life: Duration) -> Result<IssuedCredential, TransferError> {
        let op = Op::Issue {
            datastore: datastore.to_owned(),
            path: path.to_owned(),
            direction: Direction::Read,
            seconds: life.as_secs(),
        };
        let issued: Issued = self.ask(op)?;
        Ok(IssuedCredential {
            user: issued.user,
            password: Secret::new(issued.password),
            path: issued.path,
            life: Duration::from_secs(issued.seconds),
        })
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

    fn ask<T: serde::de::DeserializeOwned>(&self, op: Op) -> Result<T, TransferError> {
        let outcome = self.runtime.block_on(async {
            let mut asking = self.asking.lock().await;
            let fresh = asking.is_none();
            match self.ask_once(&mut asking, op.clone()).await {
                // A connection that was kept may have been ended meanwhile: by a restart, or for being idle.
                Err(error) if !fresh && error.retry() == crate::Retry::Transient => {
                    *asking = None;
                    self.ask_once(&mut asking, op).await
                }
                other => other,
            }
        })?;
        match outcome {
            Outcome::Ok(value) => serde_json::from_value(value).map_err(|error| {
                TransferError::protocol(&self.address(), format!("its answer is not understood: {error}"))
            }),
            Outcome::Error(Failure { code, message }) => {
                Err(TransferError::Refused { host: self.address(), code, message: clean(&message) })
            }
        }
    }

    async fn ask_once(&self, slot: &mut Option<Asking>, op: Op) -> Result<Outcome, TransferError> {
        let asking = self.connected(slot).await?;
        let result = asking.ask(op).await;
        if result.is_err() {
            // What follows on this connection could answer another question.
            *slot = None;
        }
        result
    }

    async fn connected<'a>(&self, slot: &'a mut Option<Asking>) -> Result<&'a mut Asking, TransferError> {
        if slot.as_ref().is_some_and(|asking| asking.connection.is_closed()) {
            *slot = None;
        }
        match slot {
            Some(asking) => Ok(asking),
            empty => Ok(empty.insert(self.connect().await?)),
        }
    }

    async fn connect(&self) -> Result<Asking, TransferError> {
        let login = Login::Key(Arc::clone(&self.key));
        let connection = Connection::open(&self.peer, SERVICE_USER, &login, CONTROL_MEMORY).await.map_err(|error| {
            match error {
            TransferError::LoginRefused { host, user, .. } => TransferError::LoginRefused {
                host,
                user,
                hint: "the endpoint does not know the service's key, or not from this address: its public half belongs \
                       into `issuers` of [serve] there"
                    .to_owned(),
            },
            other => other,
        }
        })?;
        let channel = connection.subsystem(CONTROL_SUBSYSTEM).await?;
        let hello = Hello { protocol: 0, program: String::new(), features: Vec::new(), datastores: Vec::new() };
        let mut asking = Asking { connection, channel, reader: FrameReader::default(), next: 0, hello };
        let program = concat!("stackferry ", env!("CARGO_PKG_VERSION")).to_owned();
        let address = self.address();
        match asking.ask(Op::Hello { protocol: PROTOCOL, program }).await? {
            Outcome::Ok(value) => {
                asking.hello = serde_json::from_value(value).map_err(|error| {
                    TransferError::protocol(&address, format!("its greeting is not understood: {error}"))
                })?;
            }
            Outcome::Error(Failure { code, message }) => {
                return Err(TransferError::Refused { host: address, code, message: clean(&message) });
            }
        }
        if asking.hello.protocol == 0 || asking.hello.protocol > PROTOCOL {
            let what = format!("it speaks protocol {}, this program speaks {PROTOCOL}", asking.hello.protocol);
            return Err(TransferError::protocol(&address, what));
        }
        Ok(asking)
    }
}

impl Asking {
    async fn ask(&mut self, op: Op) -> Result<Outcome, TransferError> {
        self.next += 1;
        let id = self.next;
        let address = self.connection.address().to_owned();
        let protocol = |what: String| TransferError::protocol(&address, what);
        let frame =
            encode_json(FrameKind::Request, &Request { id, op }).map_err(|error| protocol(error.to_string()))?;
        let asking = async {
            if self.channel.data_bytes(frame).await.is_err() {
                return Err(self.connection.broken());
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
                    Some(ChannelMsg::Close | ChannelMsg::Eof) | None => return Err(self.connection.broken()),
                    Some(_) => {}
                }
            }
        };
        tokio::time::timeout(ANSWER_TIMEOUT, asking).await.map_err(|_| TransferError::Silent {
            host: address.clone(),
            doing: "answering a question",
            after: ANSWER_TIMEOUT,
        })?
    }
}

/// A peer's words, fit to be shown: no control characters, not endless.
pub(super) fn clean(text: &str) -> String {
    text.chars().take(500).map(|c| if c.is_control() { ' ' } else { c }).collect()
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
                "refused" if message.starts_with(self.datastore.as_str()) => {
                    FolderError::Unreachable { datastore: self.datastore.clone(), why: message }
                }
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
        loop {
            let after = entries.last().map(|last| last.name.clone());
            let op = Op::List { datastore: self.datastore.clone(), path: path.to_owned(), after: after.clone() };
            let page: Listing = self.client.ask(op).map_err(|error| self.explain(path, error))?;
            // A list that does not go on would never end.
            let forward = page.entries.iter().is_sorted_by(|one, two| one.name <= two.name)
                && page.entries.first().is_none_or(|first| after.as_ref().is_none_or(|after| first.name > *after));
            if !forward || (page.more && page.entries.is_empty()) {
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
