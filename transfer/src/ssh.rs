//! Outgoing SSH connections: one for control requests (the service's key), one for each file (a one-time credential).
//!
//! It never continues past an unknown host key, and never prompts.

mod algorithms;
mod explain;
mod greeting;
mod handler;
mod keys;
mod refusal;

use std::io;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use russh::client::{self, AuthResult, Handle, KeyboardInteractiveAuthResponse};
use russh::keys::{Certificate, PrivateKey, PrivateKeyWithHashAlg};
use russh::{Disconnect, MethodKind};
use tokio::sync::watch;

use crate::dial::{DialError, dial};
use crate::error::TransferError;
use crate::known_hosts::{self, HostKeys};
use stackferry_config::Secret;

pub(crate) use algorithms::preferred;
use algorithms::preferred_of;
pub(crate) use explain::explain;
use greeting::{FirstBytes, GreetingCapture};
use handler::{Client, HostMessages};
pub(crate) use keys::KeyType;
pub use keys::{load_key, new_key, public_line};
pub(crate) use refusal::Refusal;
use refusal::method_names;

/// How long a host may take to accept a connection, over all the addresses of its name, and to open a channel, each.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long it may take for its greeting and key exchange, and for the login, each: a name service or a directory behind
/// it may be slow, and sshd itself allows two minutes for both (`LoginGraceTime`).
pub const LOGIN_TIMEOUT: Duration = Duration::from_secs(60);
/// A keepalive is sent to a host that was silent for so long …
pub(crate) const KEEPALIVE: Duration = Duration::from_secs(5);
/// … and the connection ends after so many without an answer: within 30 seconds.
pub(crate) const KEEPALIVES: usize = 4;

/// How long to wait for the reason of a disconnect once the channel has ended.
const REASON_TIMEOUT: Duration = Duration::from_millis(250);

/// A host to connect to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SshHost {
    /// Its name or address.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// Where its key is looked up.
    pub host_keys: HostKeys,
}

impl SshHost {
    /// `host:port`, as messages show it.
    #[must_use]
    pub fn address(&self) -> String {
        known_hosts::address(&self.host, self.port)
    }
}

/// How to log in.
pub enum SshLogin {
    /// With a password: by method `password`.
    Password(Secret),
    /// With a password as the answer to every prompt (`keyboard-interactive`), else by method `password`. ESXi offers only
    /// the first by default.
    Interactive(Secret),
    /// With a key.
    Key(Arc<PrivateKey>),
    /// With a key and a certificate for it.
    Certificate(Arc<PrivateKey>, Box<Certificate>),
}

/// The most that one SSH packet carries of a channel's data, in bytes.
pub(crate) const PACKET_BYTES: u32 = 65535;

/// The receive window for a transfer that may use `memory` bytes: a twelfth of it, between 2 and 16 MiB, since assembling,
/// decompressing and writing take as much again and more. A stream is limited to one window for each round trip.
pub(crate) fn window(memory: u64) -> u32 {
    u32::try_from((memory / 12).clamp(2 << 20, 16 << 20)).unwrap_or(2 << 20)
}

/// A connection, logged in unless [`Connection::connect`] made it.
pub struct Connection {
    handle: Handle<Client>,
    address: String,
    local: IpAddr,
    login_timeout: Duration,
    messages: Arc<Mutex<HostMessages>>,
    /// Nothing is ever sent here: it closes when the library has ended the connection and reported why.
    ended: watch::Receiver<()>,
    refusal: Option<Refusal>,
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Connection {
    /// Connects, checks the host's key, and logs in as `user`.
    ///
    /// # Errors
    /// `Unreachable`, `Stalled`, `HostKey…`, `KnownHosts`, `LoginRefused`, `Protocol`.
    pub async fn open(
        peer: &SshHost,
        user: &str,
        login: &SshLogin,
        memory: u64,
        login_timeout: Duration,
    ) -> Result<Self, TransferError> {
        let mut connection = Self::connect(peer, memory, login_timeout).await?;
        connection.log_in(user, login).await?;
        Ok(connection)
    }

    /// Connects and checks the host's key. Call [`Connection::log_in`] before anything else.
    ///
    /// # Errors
    /// `Unreachable`, `Stalled`, `HostKey…`, `KnownHosts`, `Protocol`.
    pub(crate) async fn connect(peer: &SshHost, memory: u64, login_timeout: Duration) -> Result<Self, TransferError> {
        let address = peer.address();
        let silent = |doing, after| TransferError::Stalled { host: address.clone(), doing, after };
        let unreachable = |source| TransferError::Unreachable { host: address.clone(), source };
        let stream = dial(&peer.host, peer.port, CONNECT_TIMEOUT).await.map_err(|error| match error {
            DialError::Failed(source) => unreachable(source),
            DialError::NoAnswer(addresses) if addresses.len() <= 1 => silent("connecting", CONNECT_TIMEOUT),
            several => unreachable(io::Error::new(io::ErrorKind::TimedOut, several.to_string())),
        })?;
        stream.set_nodelay(true).map_err(unreachable)?;
        let local = stream.local_addr().map_err(unreachable)?.ip().to_canonical();
        let config = client::Config {
            window_size: window(memory),
            maximum_packet_size: PACKET_BYTES,
            nodelay: true,
            keepalive_interval: Some(KEEPALIVE),
            keepalive_max: KEEPALIVES,
            preferred: preferred_of(&known_hosts::known_types(&peer.host_keys, &peer.host, peer.port)),
            ..client::Config::default()
        };
        let messages = Arc::new(Mutex::new(HostMessages::default()));
        let (running, ended) = watch::channel(());
        let handler = Client { peer: peer.clone(), messages: Arc::clone(&messages), _running: running };
        let first = FirstBytes::default();
        let stream = GreetingCapture::new(stream, first.clone());
        let handshake = client::connect_stream(Arc::new(config), stream, handler);
        let failed = match tokio::time::timeout(login_timeout, handshake).await {
            Ok(Ok(handle)) => {
                return Ok(Self { handle, address, local, login_timeout, messages, ended, refusal: None });
            }
            Ok(Err(error)) => {
                let reason = messages.lock().unwrap_or_else(PoisonError::into_inner).end.take();
                reason.unwrap_or_else(|| explain(&address, error))
            }
            Err(_) => silent("agreeing on keys", login_timeout),
        };
        Err(match (failed, first.text()) {
            (TransferError::Unreachable { host, source }, Some(words)) => {
                let source =
                    io::Error::new(source.kind(), format!("{source}; before its greeting the host said: {words}"));
                TransferError::Unreachable { host, source }
            }
            (TransferError::Protocol { host, what }, Some(words)) => {
                TransferError::Protocol { host, what: format!("{what}; instead of a greeting it said: {words}") }
            }
            (other, _) => other,
        })
    }

    /// Logs in as `user`.
    ///
    /// # Errors
    /// `Unreachable`, `Stalled`, `LoginRefused`, `Protocol`.
    pub(crate) async fn log_in(&mut self, user: &str, login: &SshLogin) -> Result<(), TransferError> {
        let result = match tokio::time::timeout(self.login_timeout, self.authenticate(user, login)).await {
            Ok(result) => result?,
            Err(_) => return Err(self.stalled("logging in", self.login_timeout)),
        };
        let AuthResult::Failure { remaining_methods, partial_success } = result else { return Ok(()) };
        let refusal = {
            let mut messages = self.messages.lock().unwrap_or_else(PoisonError::into_inner);
            Refusal {
                is_partial: partial_success,
                methods: method_names(&remaining_methods),
                farewell: messages.farewell.take(),
                banner: messages.banner.take(),
                version: messages.version.clone(),
            }
        };
        // The library reports this, too, where the connection ended without an answer.
        if remaining_methods.is_empty() && self.is_closed() && refusal.farewell.is_none() {
            return Err(self.disconnected().await);
        }
        let hint = refusal.sentences().join(".\n");
        self.refusal = Some(refusal);
        Err(TransferError::LoginRefused { host: self.address.clone(), user: user.to_owned(), hint })
    }

    /// Why the host refused the login, where it did.
    pub(crate) fn refusal(&self) -> Option<&Refusal> {
        self.refusal.as_ref()
    }

    async fn authenticate(&mut self, user: &str, login: &SshLogin) -> Result<AuthResult, TransferError> {
        let result = match login {
            SshLogin::Password(secret) => self.handle.authenticate_password(user, secret.expose()).await,
            SshLogin::Interactive(secret) => return self.answer_prompts(user, secret).await,
            SshLogin::Key(key) => {
                let hash =
                    self.handle.best_supported_rsa_hash().await.map_err(|error| explain(&self.address, error))?;
                let key = PrivateKeyWithHashAlg::new(Arc::clone(key), hash.flatten());
                self.handle.authenticate_publickey(user, key).await
            }
            SshLogin::Certificate(key, certificate) => {
                self.handle.authenticate_openssh_cert(user, Arc::clone(key), (**certificate).clone()).await
            }
        };
        result.map_err(|error| explain(&self.address, error))
    }

    async fn answer_prompts(&mut self, user: &str, secret: &Secret) -> Result<AuthResult, TransferError> {
        /// One round asks for the password. A host that needs more wants something else.
        const ROUNDS: usize = 5;
        let failed = |error| explain(&self.address, error);
        let mut response =
            self.handle.authenticate_keyboard_interactive_start(user, None::<String>).await.map_err(failed)?;
        for _ in 0..ROUNDS {
            match response {
                KeyboardInteractiveAuthResponse::Success => return Ok(AuthResult::Success),
                KeyboardInteractiveAuthResponse::Failure { remaining_methods, partial_success } => {
                    if !remaining_methods.contains(&MethodKind::Password) {
                        return Ok(AuthResult::Failure { remaining_methods, partial_success });
                    }
                    return self.handle.authenticate_password(user, secret.expose()).await.map_err(failed);
                }
                KeyboardInteractiveAuthResponse::InfoRequest { prompts, .. } => {
                    let answers = prompts.iter().map(|_| secret.expose().to_owned()).collect();
                    response = self.handle.authenticate_keyboard_interactive_respond(answers).await.map_err(failed)?;
                }
            }
        }
        Err(TransferError::protocol(&self.address, "it keeps prompting during the login"))
    }

    /// Opens a session channel and starts a subsystem on it.
    ///
    /// # Errors
    /// `Refused` where the host has no such subsystem for this login; `Unreachable`.
    pub async fn subsystem(&self, name: &str) -> Result<russh::Channel<client::Msg>, TransferError> {
        let refused = |what: &str| TransferError::Refused {
            host: self.address.clone(),
            code: "no_subsystem".to_owned(),
            message: format!("{what} {name}"),
        };
        let opening = async {
            let channel = self.channel(|| refused("the host opens no channel for")).await?;
            channel.request_subsystem(true, name).await.map_err(|error| explain(&self.address, error))?;
            self.granted(channel, || refused("there is no subsystem")).await
        };
        let opened = tokio::time::timeout(CONNECT_TIMEOUT, opening).await;
        opened.unwrap_or_else(|_| Err(self.stalled("starting a subsystem", CONNECT_TIMEOUT)))
    }

    /// Opens a session channel and runs a command on it. Where the login has a forced command, the host runs that one.
    ///
    /// # Errors
    /// `Refused` with code `no_exec` where this login may not run commands; `Unreachable`.
    pub async fn exec(&self, command: &str) -> Result<russh::Channel<client::Msg>, TransferError> {
        let refused = || TransferError::Refused {
            host: self.address.clone(),
            code: "no_exec".to_owned(),
            message: "this login may not run commands".to_owned(),
        };
        let opening = async {
            let channel = self.channel(refused).await?;
            channel.exec(true, command).await.map_err(|error| explain(&self.address, error))?;
            self.granted(channel, refused).await
        };
        let opened = tokio::time::timeout(CONNECT_TIMEOUT, opening).await;
        opened.unwrap_or_else(|_| Err(self.stalled("starting a command", CONNECT_TIMEOUT)))
    }

    async fn channel(
        &self,
        refused: impl FnOnce() -> TransferError,
    ) -> Result<russh::Channel<client::Msg>, TransferError> {
        self.handle.channel_open_session().await.map_err(|error| match error {
            russh::Error::ChannelOpenFailure(_) => refused(),
            other => explain(&self.address, other),
        })
    }

    /// Waits for the host's answer to a channel request.
    async fn granted(
        &self,
        mut channel: russh::Channel<client::Msg>,
        refused: impl FnOnce() -> TransferError,
    ) -> Result<russh::Channel<client::Msg>, TransferError> {
        loop {
            match channel.wait().await {
                Some(russh::ChannelMsg::Success) => return Ok(channel),
                Some(russh::ChannelMsg::WindowAdjusted { .. }) => {}
                Some(russh::ChannelMsg::Failure) => return Err(refused()),
                Some(russh::ChannelMsg::Data { .. } | russh::ChannelMsg::ExtendedData { .. }) => {
                    return Err(TransferError::protocol(&self.address, "it sends data before it accepts the request"));
                }
                _ => return Err(self.disconnected().await),
            }
        }
    }

    fn stalled(&self, doing: &'static str, after: Duration) -> TransferError {
        TransferError::Stalled { host: self.address.clone(), doing, after }
    }

    /// Our address, as the host sees it where no NAT is in between.
    pub(crate) fn local(&self) -> IpAddr {
        self.local
    }

    /// The error for a connection that the host or the network ended.
    pub(crate) async fn disconnected(&self) -> TransferError {
        // The library closes the channels before it reports the reason, and drops the handler after that.
        let mut ended = self.ended.clone();
        let _ = tokio::time::timeout(REASON_TIMEOUT, ended.changed()).await;
        let reason = self.messages.lock().unwrap_or_else(PoisonError::into_inner).end.take();
        reason.unwrap_or_else(|| TransferError::Unreachable {
            host: self.address.clone(),
            source: io::Error::new(io::ErrorKind::ConnectionReset, "the connection ended"),
        })
    }

    /// `host:port`.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Whether the connection has ended.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.handle.is_closed()
    }

    /// Disconnects. The host closes what is left.
    pub async fn close(self) {
        // Whether the message arrives makes no difference: dropping the handle ends the connection.
        let disconnect = self.handle.disconnect(Disconnect::ByApplication, "done", "");
        let _ = tokio::time::timeout(Duration::from_secs(2), disconnect).await;
    }
}
