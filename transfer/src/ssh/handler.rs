//! What a host may say by itself: its key, which has to be known, and goodbye. It may open no channel to us.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use russh::Names;
use russh::client::{self, Session};
use russh::keys::PublicKeyOrCertificate;
use tokio::sync::watch;

use super::{Peer, explain};
use crate::error::TransferError;
use crate::known_hosts;
use crate::words::clean;

pub(super) struct Client {
    pub(super) peer: Peer,
    pub(super) heard: Arc<Mutex<Heard>>,
    /// Dropped with the handler, when the connection has ended.
    pub(super) _running: watch::Sender<()>,
}

/// What a host said by itself.
#[derive(Debug, Default)]
pub(super) struct Heard {
    /// Why the connection ended, where that is known.
    pub(super) refused: Option<TransferError>,
    /// The host's words when it ended the connection.
    pub(super) farewell: Option<String>,
    /// Its words before the login.
    pub(super) banner: Option<String>,
    /// The version of its SSH server.
    pub(super) version: String,
}

impl Client {
    fn heard(&self) -> MutexGuard<'_, Heard> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

type Opened = russh::Channel<client::Msg>;
type Reply = client::ChannelOpenHandle;
type Refusal = Result<(), russh::Error>;

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
                self.heard().refused = Some(error);
                Ok(false)
            }
        }
    }

    async fn disconnected(&mut self, reason: client::DisconnectReason<russh::Error>) -> Result<(), russh::Error> {
        let why = match reason {
            client::DisconnectReason::ReceivedDisconnect(told) => {
                let words = clean(&told.message);
                let what = format!("the host ended the connection: {words}");
                self.heard().farewell = Some(words);
                let source = io::Error::new(io::ErrorKind::ConnectionReset, what);
                TransferError::Unreachable { host: self.peer.address(), source }
            }
            client::DisconnectReason::Error(error) => explain(&self.peer.address(), error),
        };
        self.heard().refused.get_or_insert(why);
        Ok(())
    }

    async fn kex_done(
        &mut self,
        _shared_secret: Option<&[u8]>,
        _names: &Names,
        session: &mut Session,
    ) -> Result<(), russh::Error> {
        self.heard().version = clean(&String::from_utf8_lossy(session.remote_sshid()));
        Ok(())
    }

    async fn auth_banner(&mut self, banner: &str, _: &mut Session) -> Result<(), russh::Error> {
        self.heard().banner = Some(clean(banner)).filter(|words| !words.is_empty());
        Ok(())
    }

    // A host has no channel to open to us; the library would let it. What drops `reply` says no.

    async fn server_channel_open_session(&mut self, _: Opened, _reply: Reply, _: &mut Session) -> Refusal {
        Ok(())
    }

    async fn server_channel_open_forwarded_tcpip(
        &mut self,
        _: Opened,
        _connected_address: &str,
        _connected_port: u32,
        _originator_address: &str,
        _originator_port: u32,
        _reply: Reply,
        _: &mut Session,
    ) -> Refusal {
        Ok(())
    }

    async fn server_channel_open_forwarded_streamlocal(
        &mut self,
        _: Opened,
        _socket_path: &str,
        _reply: Reply,
        _: &mut Session,
    ) -> Refusal {
        Ok(())
    }

    async fn server_channel_open_agent_forward(&mut self, _: Opened, _reply: Reply, _: &mut Session) -> Refusal {
        Ok(())
    }

    async fn server_channel_open_direct_tcpip(
        &mut self,
        _: Opened,
        _host_to_connect: &str,
        _port_to_connect: u32,
        _originator_address: &str,
        _originator_port: u32,
        _reply: Reply,
        _: &mut Session,
    ) -> Refusal {
        Ok(())
    }

    async fn server_channel_open_direct_streamlocal(
        &mut self,
        _: Opened,
        _socket_path: &str,
        _reply: Reply,
        _: &mut Session,
    ) -> Refusal {
        Ok(())
    }

    async fn server_channel_open_x11(
        &mut self,
        _: Opened,
        _originator_address: &str,
        _originator_port: u32,
        _reply: Reply,
        _: &mut Session,
    ) -> Refusal {
        Ok(())
    }
}
