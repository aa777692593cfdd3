//! One connection to the endpoint: its login, and the one request that it may make.

use std::net::IpAddr;
use std::sync::Arc;

use russh::keys::PublicKey;
use russh::server::{
    Auth, ChannelOpenHandle, Handler, Msg, PublicKeyOffer, Response, Session as Russh, VerifiedPublicKey,
};
use russh::{Channel, ChannelId, ChannelOpenFailure, MethodKind, MethodSet};
use tokio::sync::watch;

use super::EndpointState;
use super::channel::ServerChannel;
use super::grants::Granted;
use super::{control, receive, scp, send, sftp};
use crate::wire::{BLOCK_SUBSYSTEM, CONTROL_SUBSYSTEM, WRITE_SUBSYSTEM};

/// Who has logged in.
#[derive(Debug, Clone)]
pub(super) enum AuthState {
    /// Nobody yet.
    Pending,
    /// A service, by its name.
    Issuer(String),
    /// The bearer of a credential.
    Credential(Granted),
}

pub(super) struct EndpointSession {
    shared: Arc<EndpointState>,
    from: IpAddr,
    auth: watch::Sender<AuthState>,
    channel: Option<ServerChannel>,
    opened: bool,
}

impl EndpointSession {
    pub(super) fn new(shared: Arc<EndpointState>, from: IpAddr, auth: watch::Sender<AuthState>) -> Self {
        Self { shared, from, auth, channel: None, opened: false }
    }

    fn issuer(&self, key: &PublicKey) -> Option<String> {
        let mut issuers = self.shared.issuers.iter();
        let issuer = issuers.find(|issuer| issuer.key.key_data() == key.key_data())?;
        if issuer.may_come_from(self.from) {
            return Some(issuer.shown());
        }
        tracing::warn!(target: "audit", issuer = issuer.name, from = %self.from, "a service's key was used from an address that is not allowed");
        None
    }

    fn password(&self, user: &str, secret: &str) -> Auth {
        match self.shared.grants.log_in(user, secret) {
            Some(granted) => {
                self.auth.send_replace(AuthState::Credential(granted));
                Auth::Accept
            }
            // Without methods to continue with, the library would drop the password method after one wrong attempt.
            None => Auth::Reject {
                proceed_with_methods: Some(MethodSet::from(
                    &[MethodKind::Password, MethodKind::KeyboardInteractive][..],
                )),
                partial_success: false,
            },
        }
    }

    /// Starts the requested subsystem or command on the one channel, if the client may use it.
    fn start(&mut self, channel: ChannelId, session: &mut Russh, what: ChannelRequest<'_>) -> Result<(), russh::Error> {
        let auth = self.auth.borrow().clone();
        // Taken only where something starts: after a refused request the channel can be used for another.
        let open = self.channel.take_if(|open| open.id() == channel);
        match (open, auth, what) {
            (Some(open), AuthState::Issuer(name), ChannelRequest::Subsystem(CONTROL_SUBSYSTEM)) => {
                session.channel_success(channel)?;
                tokio::spawn(control::serve(open, Arc::clone(&self.shared), name));
            }
            (Some(open), AuthState::Credential(granted), what) if granted.target.identity.is_none() => {
                if !matches!(what, ChannelRequest::Subsystem(WRITE_SUBSYSTEM)) {
                    return self.refuse(channel, session, open, &granted.user, what);
                }
                session.channel_success(channel)?;
                tokio::spawn(receive::serve(open, Arc::clone(&self.shared), granted));
            }
            (Some(open), AuthState::Credential(granted), ChannelRequest::Subsystem(BLOCK_SUBSYSTEM)) => {
                session.channel_success(channel)?;
                tokio::spawn(send::serve(open, Arc::clone(&self.shared), granted));
            }
            (Some(open), AuthState::Credential(granted), ChannelRequest::Subsystem("sftp")) => {
                session.channel_success(channel)?;
                tokio::spawn(sftp::serve(open, Arc::clone(&self.shared), granted));
            }
            (Some(open), AuthState::Credential(granted), ChannelRequest::Exec(command))
                if let Some(options) = scp::options_for(command, &granted.target) =>
            {
                session.channel_success(channel)?;
                tokio::spawn(scp::serve(open, Arc::clone(&self.shared), granted, options));
            }
            (open, auth, what) => {
                let who = match auth {
                    AuthState::Issuer(name) => name,
                    AuthState::Credential(granted) => granted.user,
                    AuthState::Pending => "nobody".to_owned(),
                };
                tracing::warn!(target: "audit", user = who, asked = what.shown(), "refused");
                self.channel = open;
                session.channel_failure(channel)?;
            }
        }
        Ok(())
    }

    /// Refuses a credential's request, and leaves the channel for another.
    fn refuse(
        &mut self,
        channel: ChannelId,
        session: &mut Russh,
        open: ServerChannel,
        user: &str,
        what: ChannelRequest<'_>,
    ) -> Result<(), russh::Error> {
        tracing::warn!(target: "audit", user, asked = what.shown(), "refused");
        self.channel = Some(open);
        session.channel_failure(channel)
    }
}

#[derive(Clone, Copy)]
enum ChannelRequest<'a> {
    Subsystem(&'a str),
    Exec(&'a [u8]),
    Other(&'a str),
}

impl ChannelRequest<'_> {
    fn shown(self) -> String {
        let text = match self {
            ChannelRequest::Subsystem(name) => format!("subsystem {name}"),
            ChannelRequest::Exec(command) => format!("command {}", String::from_utf8_lossy(command)),
            ChannelRequest::Other(name) => name.to_owned(),
        };
        text.chars().take(200).flat_map(char::escape_debug).collect()
    }
}

impl Handler for EndpointSession {
    type Error = russh::Error;

    async fn auth_password(&mut self, user: &str, password: &str) -> Result<Auth, russh::Error> {
        Ok(self.password(user, password))
    }

    async fn auth_keyboard_interactive<'a>(
        &'a mut self,
        user: &str,
        _submethods: &str,
        response: Option<Response<'a>>,
    ) -> Result<Auth, russh::Error> {
        let Some(mut answers) = response else {
            return Ok(Auth::Partial {
                name: "".into(),
                instructions: "".into(),
                prompts: vec![("One-time password: ".into(), false)].into(),
            });
        };
        let answer = answers.next().unwrap_or_default();
        Ok(self.password(user, &String::from_utf8_lossy(&answer)))
    }

    async fn auth_publickey_offered(&mut self, _user: &str, offer: PublicKeyOffer<'_>) -> Result<Auth, russh::Error> {
        if self.issuer(offer.public_key).is_some() {
            return Ok(Auth::Accept);
        }
        // A client offers its keys before it proves them: an unknown one is only seen here.
        tracing::warn!(target: "audit", from = %self.from, "an unknown key was refused");
        Ok(Auth::reject())
    }

    async fn auth_publickey(&mut self, _user: &str, key: VerifiedPublicKey<'_>) -> Result<Auth, russh::Error> {
        Ok(match self.issuer(key.public_key) {
            Some(name) => {
                tracing::info!(target: "audit", issuer = name, from = %self.from, "a service logged in");
                self.auth.send_replace(AuthState::Issuer(name));
                Auth::Accept
            }
            None => {
                tracing::warn!(target: "audit", from = %self.from, "an unknown key was refused");
                Auth::reject()
            }
        })
    }

    async fn channel_open_session(
        &mut self,
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        _session: &mut Russh,
    ) -> Result<(), russh::Error> {
        if std::mem::replace(&mut self.opened, true) {
            reply.reject(ChannelOpenFailure::AdministrativelyProhibited).await;
        } else {
            self.channel = Some(ServerChannel::new(channel));
            reply.accept().await;
        }
        Ok(())
    }

    async fn subsystem_request(
        &mut self,
        channel: ChannelId,
        name: &str,
        session: &mut Russh,
    ) -> Result<(), russh::Error> {
        self.start(channel, session, ChannelRequest::Subsystem(name))
    }

    async fn exec_request(&mut self, channel: ChannelId, data: &[u8], session: &mut Russh) -> Result<(), russh::Error> {
        self.start(channel, session, ChannelRequest::Exec(data))
    }

    async fn shell_request(&mut self, channel: ChannelId, session: &mut Russh) -> Result<(), russh::Error> {
        self.start(channel, session, ChannelRequest::Other("shell"))
    }

    async fn pty_request(
        &mut self,
        channel: ChannelId,
        _term: &str,
        _col_width: u32,
        _row_height: u32,
        _pix_width: u32,
        _pix_height: u32,
        _modes: &[(russh::Pty, u32)],
        session: &mut Russh,
    ) -> Result<(), russh::Error> {
        session.channel_failure(channel)
    }

    async fn env_request(
        &mut self,
        channel: ChannelId,
        _name: &str,
        _value: &str,
        session: &mut Russh,
    ) -> Result<(), russh::Error> {
        session.channel_failure(channel)
    }

    async fn x11_request(
        &mut self,
        channel: ChannelId,
        _single_connection: bool,
        _protocol: &str,
        _cookie: &str,
        _screen: u32,
        session: &mut Russh,
    ) -> Result<(), russh::Error> {
        session.channel_failure(channel)
    }

    async fn agent_request(&mut self, _channel: ChannelId, _session: &mut Russh) -> Result<bool, russh::Error> {
        Ok(false)
    }
}
