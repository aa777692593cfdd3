//! An SSH client that asks for whatever it likes.

use std::net::SocketAddr;
use std::sync::Arc;

use russh::client::{self, Handle, KeyboardInteractiveAuthResponse};
use russh::keys::PublicKeyOrCertificate;
use russh::{Channel, ChannelMsg};
use stackferry_transfer::remote::IssuedCredential;

pub(crate) struct Anybody;

impl client::Handler for Anybody {
    type Error = russh::Error;
    async fn check_server_key(&mut self, _: &PublicKeyOrCertificate) -> Result<bool, russh::Error> {
        Ok(true)
    }
}

pub(crate) async fn connect(address: SocketAddr, config: client::Config) -> Handle<Anybody> {
    client::connect(Arc::new(config), address, Anybody).await.unwrap()
}

/// Logs in with a credential.
pub(crate) async fn log_in(address: SocketAddr, credential: &IssuedCredential) -> Handle<Anybody> {
    let mut handle = connect(address, client::Config::default()).await;
    let result = handle.authenticate_password(&credential.user, credential.password.expose()).await.unwrap();
    assert!(result.success());
    handle
}

/// Whether a password is taken.
pub(crate) async fn may_log_in(address: SocketAddr, user: &str, password: &str) -> bool {
    let mut handle = connect(address, client::Config::default()).await;
    handle.authenticate_password(user, password).await.is_ok_and(|result| result.success())
}

/// Whether answers to keyboard-interactive's prompts are taken.
pub(crate) async fn may_answer(address: SocketAddr, user: &str, answers: Vec<String>) -> bool {
    let mut handle = connect(address, client::Config::default()).await;
    match handle.authenticate_keyboard_interactive_start(user, None::<String>).await.unwrap() {
        KeyboardInteractiveAuthResponse::InfoRequest { .. } => {
            let answer = handle.authenticate_keyboard_interactive_respond(answers).await;
            matches!(answer, Ok(KeyboardInteractiveAuthResponse::Success))
        }
        _ => false,
    }
}

/// The answer to a request on a channel.
pub(crate) async fn is_granted(channel: &mut Channel<client::Msg>) -> bool {
    loop {
        match channel.wait().await {
            Some(ChannelMsg::Success) => return true,
            Some(ChannelMsg::Failure) | None => return false,
            Some(_) => {}
        }
    }
}

/// All that a channel says until it ends, and its exit status.
pub(crate) async fn read_to_end(channel: &mut Channel<client::Msg>) -> (Vec<u8>, Option<u32>) {
    let (mut bytes, mut status) = (Vec::new(), None);
    while let Some(message) = channel.wait().await {
        match message {
            ChannelMsg::Data { data } => bytes.extend_from_slice(&data),
            ChannelMsg::ExitStatus { exit_status } => status = Some(exit_status),
            _ => {}
        }
    }
    (bytes, status)
}

/// A channel with the block subsystem on it.
pub(crate) async fn blocks(handle: &Handle<Anybody>) -> Channel<client::Msg> {
    let mut channel = handle.channel_open_session().await.unwrap();
    channel.request_subsystem(true, "stackferry-blocks").await.unwrap();
    assert!(is_granted(&mut channel).await);
    channel
}
