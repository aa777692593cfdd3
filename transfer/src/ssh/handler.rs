//! What a host may send unasked: its key, which has to be known, a banner, and a disconnect. It may open no channel.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use russh::Names;
use russh::client::{self, Session};
use russh::keys::PublicKeyOrCertificate;
use tokio::sync::watch;

use super::{SshHost, explain};
use crate::error::TransferError;
use crate::known_hosts;
use crate::sanitize::clean;

pub(super) struct Client {
    pub(super) peer: SshHost,
    pub(super) messages: Arc<Mutex<HostMessages>>,
    /// Dropped with the handler, when the connection has ended.
    pub(super) _running: watch::Sender<()>,
}

/// What a host sent unasked.
#[derive(Debug, Default)]
pub(super) struct HostMessages {
    /// Why the connection ended, where that is known.
    pub(super) end: Option<TransferError>,
    /// The host's message when it ended the connection.
    pub(super) farewell: Option<String>,
    /// Its banner before the login.
    pub(super) banner: Option<String>,
    /// The version of its SSH server.
    pub(super) version: String,
}

impl Client {
    fn messages(&self) -> MutexGuard<'_, HostMessages> {
        self.messages.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

type OpenedChannel = russh::Channel<client::Msg>;
type OpenReply = client::ChannelOpenHandle;
type OpenResult = Result<(), russh::Error>;

impl client::Handler for Client {
    type Error = russh::Error;

    async fn check_server_key(&mut self, shown: &PublicKeyOrCertificate) -> Result<bool, russh::Error> {
        let verdict = match shown {
            PublicKeyOrCertificate::PublicKey { key, .. } => {
                known_hosts::check(&self.peer.host_keys, &self.peer.host, self.peer.port, key)
            }
            PublicKeyOrCertificate::Certificate(certificate) => {
                known_hosts::check_certificate(&self.peer.host_keys, &self.peer.host, self.peer.port, certificate)
            }
        };
        match verdict {
            Ok(()) => Ok(true),
            Err(error) => {
                self.messages().end = Some(error);
                Ok(false)
            }
        }
    }

    async fn disconnected(&mut self, reason: client::DisconnectReason<russh::Error>) -> Result<(), russh::Error> {
        let why = match reason {
            client::DisconnectReason::ReceivedDisconnect(message) => {
                let words = clean(&message.message);
                let what = format!("the host ended the connection: {words}");
                self.messages().farewell = Some(words);
                let source = io::Error::new(io::ErrorKind::ConnectionReset, what);
                TransferError::Unreachable { host: self.peer.address(), source }
            }
            client::DisconnectReason::Error(error) => explain(&self.peer.address(), error),
        };
        self.messages().end.get_or_insert(why);
        Ok(())
    }

    async fn kex_done(
        &mut self,
        _shared_secret: Option<&[u8]>,
        _names: &Names,
        session: &mut Session,
    ) -> Result<(), russh::Error> {
        self.messages().version = clean(&String::from_utf8_lossy(session.remote_sshid()));
        Ok(())
    }

    async fn auth_banner(&mut self, banner: &str, _: &mut Session) -> Result<(), russh::Error> {
        self.messages().banner = Some(clean(banner)).filter(|words| !words.is_empty());
        Ok(())
    }

    // A host has no business opening channels; the library would let it. Dropping `reply` refuses.

    async fn server_channel_open_session(
        &mut self,
        _: OpenedChannel,
        _reply: OpenReply,
        _: &mut Session,
    ) -> OpenResult {
        Ok(())
    }

    async fn server_channel_open_forwarded_tcpip(
        &mut self,
        _: OpenedChannel,
        _connected_address: &str,
        _connected_port: u32,
        _originator_address: &str,
        _originator_port: u32,
        _reply: OpenReply,
        _: &mut Session,
    ) -> OpenResult {
        Ok(())
    }

    async fn server_channel_open_forwarded_streamlocal(
        &mut self,
        _: OpenedChannel,
        _socket_path: &str,
        _reply: OpenReply,
        _: &mut Session,
    ) -> OpenResult {
        Ok(())
    }

    async fn server_channel_open_agent_forward(
        &mut self,
        _: OpenedChannel,
        _reply: OpenReply,
        _: &mut Session,
    ) -> OpenResult {
        Ok(())
    }

    async fn server_channel_open_direct_tcpip(
        &mut self,
        _: OpenedChannel,
        _host_to_connect: &str,
        _port_to_connect: u32,
        _originator_address: &str,
        _originator_port: u32,
        _reply: OpenReply,
        _: &mut Session,
    ) -> OpenResult {
        Ok(())
    }

    async fn server_channel_open_direct_streamlocal(
        &mut self,
        _: OpenedChannel,
        _socket_path: &str,
        _reply: OpenReply,
        _: &mut Session,
    ) -> OpenResult {
        Ok(())
    }

    async fn server_channel_open_x11(
        &mut self,
        _: OpenedChannel,
        _originator_address: &str,
        _originator_port: u32,
        _reply: OpenReply,
        _: &mut Session,
    ) -> OpenResult {
        Ok(())
    }
}
