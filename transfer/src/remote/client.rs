//! The control client: requests to an endpoint's control subsystem, for folders and credentials.
//!
//! The service's own key opens this connection, and no file. The client keeps the connection, and reconnects when it broke.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use russh::keys::PrivateKey;
use russh::{ChannelMsg, client};
use stackferry_volume::io::Cancel;
use tokio::runtime::Handle;
use tokio::sync::Mutex;

use crate::error::TransferError;
use crate::sanitize::clean;
use crate::ssh::{Connection, SshHost, SshLogin, load_key};
use crate::timeouts::Timeouts;
use crate::wait::unless_cancelled;
use crate::wire::block::ErrorPayload;
use crate::wire::control::{
    ControlOp, ControlOutcome, ControlRequest, ControlResponse, Direction, Hello, IssueResponse,
};
use crate::wire::frame::{FrameKind, FrameReader, encode_json};
use crate::wire::{CONTROL_SUBSYSTEM, PROTOCOL};
use stackferry_config::Secret;

/// How long revoking an unneeded credential may take: it expires by itself.
const REVOKE_TIMEOUT: Duration = Duration::from_secs(3);
/// How long a credential may wait for its one login.
pub(crate) const CREDENTIAL_LIFE: Duration = Duration::from_secs(60);
/// The user name that the service's key logs in as; endpoints go by the key.
const SERVICE_USER: &str = "stackferry";
/// This program's name and version.
const PROGRAM: &str = concat!("stackferry ", env!("CARGO_PKG_VERSION"));
/// The memory of the control connection, in bytes.
const CONTROL_MEMORY: u64 = 4 << 20;

/// One endpoint. Its methods block, and must not be called on a thread that runs async tasks.
pub struct EndpointClient {
    peer: SshHost,
    key: Arc<PrivateKey>,
    runtime: Handle,
    timeouts: Timeouts,
    connection: Mutex<Option<ControlConnection>>,
}

struct ControlConnection {
    connection: Connection,
    channel: russh::Channel<client::Msg>,
    reader: FrameReader,
    next: u64,
}

/// An issued credential.
#[derive(Debug, Clone)]
pub struct IssuedCredential {
    /// Its public name, and the user to log in as.
    pub user: String,
    /// Its secret.
    pub password: Secret,
    /// The file's path in SFTP and SCP.
    pub path: String,
    /// How long it may be used to log in.
    pub life: Duration,
}

impl EndpointClient {
    /// A client of this endpoint, with the service's key. Nothing is connected yet.
    ///
    /// # Errors
    /// `Key`.
    pub fn new(peer: SshHost, key: &Path, runtime: Handle) -> Result<Self, TransferError> {
        Ok(Self { peer, key: load_key(key)?, runtime, timeouts: Timeouts::default(), connection: Mutex::new(None) })
    }

    /// The same client with other timeouts.
    #[must_use]
    pub fn with_timeouts(mut self, timeouts: Timeouts) -> Self {
        self.timeouts = timeouts;
        self
    }

    pub(super) fn timeouts(&self) -> Timeouts {
        self.timeouts
    }

    /// `host:port`.
    #[must_use]
    pub fn address(&self) -> String {
        self.peer.address()
    }

    /// Its address and host key.
    #[must_use]
    pub fn peer(&self) -> &SshHost {
        &self.peer
    }

    pub(super) fn runtime(&self) -> &Handle {
        &self.runtime
    }

    /// The endpoint's version, features and datastores.
    ///
    /// # Errors
    /// See [`TransferError`].
    pub fn hello(&self) -> Result<Hello, TransferError> {
        self.ask(ControlOp::Hello { protocol: PROTOCOL, program: PROGRAM.to_owned() })
    }

    /// Requests a credential for one file of a datastore; `life` is truncated to whole seconds.
    ///
    /// # Errors
    /// See [`TransferError`]; `Refused` where the endpoint refuses.
    pub fn issue(&self, datastore: &str, path: &str, life: Duration) -> Result<IssuedCredential, TransferError> {
        self.issue_to(&Cancel::default(), datastore, path, Direction::Read, life)
    }

    pub(super) fn issue_to(
        &self,
        cancel: &Cancel,
        datastore: &str,
        path: &str,
        direction: Direction,
        life: Duration,
    ) -> Result<IssuedCredential, TransferError> {
        let op = ControlOp::Issue {
            datastore: datastore.to_owned(),
            path: path.to_owned(),
            direction,
            seconds: life.as_secs(),
        };
        let issued: IssueResponse = self.runtime.block_on(unless_cancelled(cancel, self.request(op)))?;
        Ok(IssuedCredential {
            user: issued.user,
            password: Secret::new(issued.password),
            path: issued.path,
            life: Duration::from_secs(issued.seconds),
        })
    }

    /// Revokes an unneeded credential, if that can be done at once.
    pub(super) fn revoke_soon(&self, user: &str) {
        let revoking = self.request::<serde_json::Value>(ControlOp::Revoke { user: user.to_owned() });
        let _ = self.runtime.block_on(async { tokio::time::timeout(REVOKE_TIMEOUT, revoking).await });
    }

    /// Ends a credential and the connection made with it.
    ///
    /// # Errors
    /// See [`TransferError`]; `Refused` with code `not_found` where it is gone already.
    pub fn revoke(&self, user: &str) -> Result<(), TransferError> {
        self.ask::<serde_json::Value>(ControlOp::Revoke { user: user.to_owned() }).map(|_| ())
    }

    pub(super) fn ask<T: serde::de::DeserializeOwned>(&self, op: ControlOp) -> Result<T, TransferError> {
        self.runtime.block_on(self.request(op))
    }

    async fn request<T: serde::de::DeserializeOwned>(&self, op: ControlOp) -> Result<T, TransferError> {
        let mut slot = self.connection.lock().await;
        let kept = slot.is_some();
        let outcome = match self.request_once(&mut slot, op.clone()).await {
            // A kept connection may have ended meanwhile: by a restart, or because it was idle.
            Err(TransferError::Unreachable { .. }) if kept => self.request_once(&mut slot, op).await,
            other => other,
        }?;
        drop(slot);
        parse_outcome(&self.address(), outcome)
    }

    async fn request_once(
        &self,
        slot: &mut Option<ControlConnection>,
        op: ControlOp,
    ) -> Result<ControlOutcome, TransferError> {
        // The connection goes back only after the answer: a late answer would be taken for the next request's.
        let mut connection = match slot.take().filter(|kept| !kept.connection.is_closed()) {
            Some(kept) => kept,
            None => self.connect().await?,
        };
        let outcome = connection.request(op, self.timeouts.answer).await?;
        *slot = Some(connection);
        Ok(outcome)
    }

    async fn connect(&self) -> Result<ControlConnection, TransferError> {
        let login = SshLogin::Key(Arc::clone(&self.key));
        let opening = Connection::open(&self.peer, SERVICE_USER, &login, CONTROL_MEMORY, self.timeouts.login);
        let connection = opening.await.map_err(|error| match error {
            TransferError::LoginRefused { host, user, hint } => {
                let cause = "the endpoint does not accept the service's key, or not from this address: add its public half to \
                             `issuers` of [serve] there";
                TransferError::LoginRefused { host, user, hint: format!("{cause}; {hint}") }
            }
            other => other,
        })?;
        let channel = connection.subsystem(CONTROL_SUBSYSTEM).await?;
        let mut control = ControlConnection { connection, channel, reader: FrameReader::default(), next: 0 };
        let greeting = ControlOp::Hello { protocol: PROTOCOL, program: PROGRAM.to_owned() };
        let hello: Hello = parse_outcome(&self.address(), control.request(greeting, self.timeouts.answer).await?)?;
        if hello.protocol == 0 || hello.protocol > PROTOCOL {
            let what = format!("it speaks protocol {}, this program speaks {PROTOCOL}", hello.protocol);
            return Err(TransferError::protocol(&self.address(), what));
        }
        Ok(control)
    }
}

fn parse_outcome<T: serde::de::DeserializeOwned>(address: &str, outcome: ControlOutcome) -> Result<T, TransferError> {
    match outcome {
        ControlOutcome::Ok(value) => serde_json::from_value(value)
            .map_err(|error| TransferError::protocol(address, format!("its answer is invalid: {error}"))),
        ControlOutcome::Error(ErrorPayload { code, message }) => {
            Err(TransferError::Refused { host: address.to_owned(), code: clean(&code), message: clean(&message) })
        }
    }
}

impl ControlConnection {
    async fn request(&mut self, op: ControlOp, timeout: Duration) -> Result<ControlOutcome, TransferError> {
        self.next += 1;
        let id = self.next;
        let address = self.connection.address().to_owned();
        let protocol = |what: String| TransferError::protocol(&address, what);
        let frame =
            encode_json(FrameKind::Request, &ControlRequest { id, op }).map_err(|error| protocol(error.to_string()))?;
        let exchange = async {
            if self.channel.data_bytes(frame).await.is_err() {
                return Err(self.connection.disconnected().await);
            }
            loop {
                if let Some(frame) = self.reader.next_frame().map_err(|error| protocol(error.to_string()))? {
                    let response: ControlResponse = match frame.kind {
                        FrameKind::Response => serde_json::from_slice(&frame.payload)
                            .map_err(|error| protocol(format!("its answer is invalid: {error}")))?,
                        other => {
                            return Err(protocol(format!("a frame of type {other:?} where an answer is expected")));
                        }
                    };
                    if response.id != id {
                        return Err(protocol(format!(
                            "an answer to request {} where one to {id} is expected",
                            response.id
                        )));
                    }
                    return Ok(response.outcome);
                }
                match self.channel.wait().await {
                    Some(ChannelMsg::Data { data }) => self.reader.push(&data),
                    Some(ChannelMsg::Close | ChannelMsg::Eof) | None => {
                        return Err(self.connection.disconnected().await);
                    }
                    Some(_) => {}
                }
            }
        };
        tokio::time::timeout(timeout, exchange).await.map_err(|_| TransferError::Stalled {
            host: address.clone(),
            doing: "answering a request",
            after: timeout,
        })?
    }
}
