//! One connection to the endpoint: who it is, and the one thing that it may do.

use std::net::IpAddr;
use std::sync::Arc;

use russh::keys::PublicKey;
use russh::server::{
    Auth, ChannelOpenHandle, Handler, Msg, PublicKeyOffer, Response, Session as Russh, VerifiedPublicKey,
};
use russh::{Channel, ChannelId, ChannelOpenFailure, MethodKind, MethodSet};
use tokio::sync::watch;

use super::Shared;
use super::grants::Granted;
use super::line::Line;
use super::{control, scp, send, sftp, take};
use crate::wire::{BLOCK_SUBSYSTEM, CONTROL_SUBSYSTEM, WRITE_SUBSYSTEM};

/// Who is at the other end.
#[derive(Debug, Clone)]
pub(super) enum Standing {
    /// Nobody has logged in.
    Stranger,
    /// A service, by its name.
    Issuer(String),
    /// The bearer of a credential.
    Credential(Granted),
}

pub(super) struct Session {
    shared: Arc<Shared>,
    from: IpAddr,
    standing: watch::Sender<Standing>,
    channel: Option<Line>,
    opened: bool,
}

impl Session {
    pub(super) fn new(shared: Arc<Shared>, from: IpAddr, standing: watch::Sender<Standing>) -> Self {
        Self { shared, from, standing, channel: None, opened: false }
    }

    fn issuer(&self, key: &PublicKey) -> Option<String> {
        let mut issuers = self.shared.issuers.iter();
        let issuer = issuers.find(|issuer| issuer.key.key_data() == key.key_data())?;
        if issuer.may_come_from(self.from) {
            return Some(issuer.shown());
        }
        tracing::warn!(target: "audit", issuer = issuer.name, from = %self.from, "a service's key from an address that it may not come from");
        None
    }

    fn password(&self, user: &str, secret: &str) -> Auth {
        match self.shared.grants.log_in(user, secret) {
            Some(granted) => {
                self.standing.send_replace(Standing::Credential(granted));
                Auth::Accept
            }
            // Without methods to go on with, the library would take the password away after one wrong try.
            None => Auth::Reject {
                proceed_with_methods: Some(MethodSet::from(
                    &[MethodKind::Password, MethodKind::KeyboardInteractive][..],
                )),
                partial_success: false,
            },
        }
    }

    /// Starts what was asked for on the one channel, if whoever asks may have it.
    fn start(&mut self, channel: ChannelId, session: &mut Russh, what: What<'_>) -> Result<(), russh::Error> {
        let standing = self.standing.borrow().clone();
        // Taken only where something starts: a refused request leaves the channel for another.
        let open = self.channel.take_if(|open| open.id() == channel);
        match (open, standing, what) {
            (Some(open), Standing::Issuer(name), What::Subsystem(CONTROL_SUBSYSTEM)) => {
                session.channel_success(channel)?;
                tokio::spawn(control::serve(open, Arc::clone(&self.shared), name));
            }
            (Some(open), Standing::Credential(granted), what) if granted.target.identity.is_none() => {
                if !matches!(what, What::Subsystem(WRITE_SUBSYSTEM)) {
                    return self.refuse(channel, session, open, &granted.user, what);
                }
                session.channel_success(channel)?;
                tokio::spawn(take::serve(open, Arc::clone(&self.shared), granted));
            }
            (Some(open), Standing::Credential(granted), What::Subsystem(BLOCK_SUBSYSTEM)) => {
                session.channel_success(channel)?;
                tokio::spawn(send::serve(open, Arc::clone(&self.shared), granted));
            }
            (Some(open), Standing::Credential(granted), What::Subsystem("sftp")) => {
                session.channel_success(channel)?;
                tokio::spawn(sftp::serve(open, Arc::clone(&self.shared), granted));
            }
            (Some(open), Standing::Credential(granted), What::Exec(command))
                if let Some(options) = scp::options_for(command, &granted.target) =>
            {
                session.channel_success(channel)?;
                tokio::spawn(scp::serve(open, Arc::clone(&self.shared), granted, options));
            }
            (open, standing, what) => {
                let who = match standing {
                    Standing::Issuer(name) => name,
                    Standing::Credential(granted) => granted.user,
                    Standing::Stranger => "nobody".to_owned(),
                };
                tracing::warn!(target: "audit", user = who, asked = what.shown(), "refused");
                self.channel = open;
                session.channel_failure(channel)?;
            }
        }
        Ok(())
    }

    /// Refuses what a credential asked for, and leaves the channel for another request.
    fn refuse(
        &mut self,
        channel: ChannelId,
        session: &mut Russh,
        open: Line,
        user: &str,
        what: What<'_>,
    ) -> Result<(), russh::Error> {
        tracing::warn!(target: "audit", user, asked = what.shown(), "refused");
        self.channel = Some(open);
        session.channel_failure(channel)
    }
}

#[derive(Clone, Copy)]
enum What<'a> {
    Subsystem(&'a str),
    Exec(&'a [u8]),
    Other(&'a str),
}

impl What<'_> {
    fn shown(self) -> String {
        let text = match self {
            What::Subsystem(name) => format!("subsystem {name}"),
            What::Exec(command) => format!("command {}", String::from_utf8_lossy(command)),
            What::Other(name) => name.to_owned(),
        };
        text.chars().take(200).flat_map(char::escape_debug).collect()
    }
}

impl Handler for Session {
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
        // A client offers its keys before it proves them: this is all that is seen of one that is not known.
        tracing::warn!(target: "audit", from = %self.from, "an unknown key was refused");
        Ok(Auth::reject())
    }

    async fn auth_publickey(&mut self, _user: &str, key: VerifiedPublicKey<'_>) -> Result<Auth, russh::Error> {
        Ok(match self.issuer(key.public_key) {
            Some(name) => {
                tracing::info!(target: "audit", issuer = name, from = %self.from, "a service logged in");
                self.standing.send_replace(Standing::Issuer(name));
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
            self.channel = Some(Line::new(channel));
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
        self.start(channel, session, What::Subsystem(name))
    }

    async fn exec_request(&mut self, channel: ChannelId, data: &[u8], session: &mut Russh) -> Result<(), russh::Error> {
        self.start(channel, session, What::Exec(data))
    }

    async fn shell_request(&mut self, channel: ChannelId, session: &mut Russh) -> Result<(), russh::Error> {
        self.start(channel, session, What::Other("shell"))
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
