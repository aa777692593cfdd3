//! Accepts connections, and bounds those that are not logged in: each has [`LOGIN_GRACE`] to log in, and beyond
//! [`MAX_PENDING_LOGINS`] the oldest from the address with the most is dropped. So a client that only connects slows
//! nobody but itself.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use russh::keys::PrivateKey;
use russh::server;
use russh::{MethodKind, MethodSet};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::EndpointState;
use super::session::{AuthState, EndpointSession};
use crate::ssh;

/// How long a connection may take to log in.
pub(crate) const LOGIN_GRACE: Duration = Duration::from_secs(30);
/// The most connections that are not logged in.
pub(crate) const MAX_PENDING_LOGINS: usize = 128;
/// A wrong login is answered after this delay; only that connection waits.
pub(crate) const REJECTION_DELAY: Duration = Duration::from_secs(1);

/// The most login attempts on one connection.
pub(crate) const MAX_LOGIN_ATTEMPTS: usize = 6;
/// A client that is silent for so long gets a keepalive. That is less often than clients send them: while its disk is slow
/// a client may not answer for a while.
pub(crate) const KEEPALIVE: Duration = Duration::from_secs(15);
/// It is disconnected after so many unanswered keepalives.
pub(crate) const KEEPALIVES: usize = 8;
/// An idle connection is ended after this.
pub(crate) const IDLE: Duration = Duration::from_secs(600);

struct PendingLogin {
    number: u64,
    from: IpAddr,
    drop: watch::Sender<bool>,
}

type PendingLogins = Arc<Mutex<Vec<PendingLogin>>>;

pub(super) async fn run(
    listener: TcpListener,
    key: PrivateKey,
    shared: Arc<EndpointState>,
    stop: impl Future<Output = ()>,
) {
    let config = Arc::new(server::Config {
        server_id: russh::SshId::Standard("SSH-2.0-Stackferry".into()),
        methods: MethodSet::from(&[MethodKind::PublicKey, MethodKind::Password, MethodKind::KeyboardInteractive][..]),
        auth_rejection_time: REJECTION_DELAY,
        // OpenSSH's clients start with a login by method "none", only to learn the methods.
        auth_rejection_time_initial: Some(Duration::ZERO),
        max_auth_attempts: MAX_LOGIN_ATTEMPTS,
        keys: vec![key],
        maximum_packet_size: ssh::PACKET_BYTES,
        // Clients send requests and acknowledgements only.
        window_size: 1 << 20,
        inactivity_timeout: Some(IDLE),
        keepalive_interval: Some(KEEPALIVE),
        keepalive_max: KEEPALIVES,
        nodelay: true,
        preferred: ssh::preferred(),
        ..server::Config::default()
    });
    let pending = PendingLogins::default();
    let mut sessions = JoinSet::new();
    let mut number = 0u64;
    tokio::pin!(stop);
    loop {
        tokio::select! {
            () = &mut stop => break,
            Some(_) = sessions.join_next() => {}
            taken = listener.accept() => match taken {
                Ok((stream, from)) => {
                    number += 1;
                    let dropped = admit(&pending, number, from.ip());
                    sessions.spawn(serve(stream, from.ip(), number, Arc::clone(&config), Arc::clone(&shared), Arc::clone(&pending), dropped));
                }
                // Out of file descriptors, most likely: wait until some are closed.
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            },
        }
    }
    sessions.shutdown().await;
}

fn admit(pending: &PendingLogins, number: u64, from: IpAddr) -> watch::Receiver<bool> {
    let mut pending = pending.lock().unwrap_or_else(PoisonError::into_inner);
    if pending.len() >= MAX_PENDING_LOGINS {
        let mut counts: HashMap<IpAddr, usize> = HashMap::new();
        for login in pending.iter() {
            *counts.entry(login.from).or_default() += 1;
        }
        let most = counts.into_iter().max_by_key(|(_, count)| *count).map(|(from, _)| from);
        if let Some(at) = pending.iter().position(|login| Some(login.from) == most) {
            pending.remove(at).drop.send_replace(true);
        }
    }
    let drop = watch::Sender::new(false);
    let dropped = drop.subscribe();
    pending.push(PendingLogin { number, from, drop });
    dropped
}

async fn serve(
    stream: TcpStream,
    from: IpAddr,
    number: u64,
    config: Arc<server::Config>,
    shared: Arc<EndpointState>,
    pending: PendingLogins,
    mut dropped: watch::Receiver<bool>,
) {
    // A second handle on the socket ends the connection even if its session is busy.
    let Ok((stream, cut)) = split(stream) else { return forget(&pending, number) };
    let auth = watch::Sender::new(AuthState::Pending);
    let known = auth.subscribe();
    let guard = ConnectionGuard { number, cut, pending, shared: Arc::clone(&shared), known: known.clone() };
    let session = EndpointSession::new(shared, from, auth);
    let run = async {
        match server::run_stream(config, stream, session).await {
            Ok(running) => running.await,
            Err(error) => Err(error),
        }
    };
    tokio::select! {
        result = run => if let Err(error) = result { tracing::debug!(%from, %error, "a connection ended") },
        () = watch_over(&guard, known, &mut dropped) => tracing::debug!(%from, "a connection was ended"),
    }
}

/// Returns when the connection has to end.
async fn watch_over(
    guard: &ConnectionGuard,
    mut known: watch::Receiver<AuthState>,
    dropped: &mut watch::Receiver<bool>,
) {
    let logged_in = tokio::time::timeout(LOGIN_GRACE, known.wait_for(|now| !matches!(now, AuthState::Pending)));
    tokio::select! {
        result = logged_in => if !matches!(result, Ok(Ok(_))) { return },
        _ = dropped.wait_for(|dropped| *dropped) => return,
    }
    forget(&guard.pending, guard.number);
    let granted = match &*known.borrow() {
        AuthState::Credential(granted) => Some(granted.clone()),
        _ => None,
    };
    match granted {
        // A dropped sender is a removed grant: there is nothing left to wait for.
        Some(mut granted) => {
            let _ = granted.ended.wait_for(|ended| *ended).await;
        }
        None => std::future::pending().await,
    }
}

/// Cleans up after a connection however it ends: by itself, by `watch_over`, or with the endpoint.
struct ConnectionGuard {
    number: u64,
    cut: std::net::TcpStream,
    pending: PendingLogins,
    shared: Arc<EndpointState>,
    known: watch::Receiver<AuthState>,
}

impl Drop for ConnectionGuard {
    fn drop(&mut self) {
        // Best effort: the socket may be closed already. The library's session task ends with it.
        let _ = self.cut.shutdown(std::net::Shutdown::Both);
        forget(&self.pending, self.number);
        if let AuthState::Credential(granted) = &*self.known.borrow() {
            self.shared.grants.done(&granted.user);
        }
    }
}

fn split(stream: TcpStream) -> std::io::Result<(TcpStream, std::net::TcpStream)> {
    stream.set_nodelay(true)?;
    let stream = stream.into_std()?;
    let cut = stream.try_clone()?;
    Ok((TcpStream::from_std(stream)?, cut))
}

fn forget(pending: &PendingLogins, number: u64) {
    pending.lock().unwrap_or_else(PoisonError::into_inner).retain(|login| login.number != number);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_with_the_most_connections_is_dropped_first() {
        let pending = PendingLogins::default();
        let (quiet, loud): (IpAddr, IpAddr) = ("10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap());
        let first = admit(&pending, 0, quiet);
        let oldest_loud = admit(&pending, 1, loud);
        let rest: Vec<_> = (2..200).map(|number| admit(&pending, number, loud)).collect();
        assert!(!*first.borrow());
        assert!(*oldest_loud.borrow());
        assert!(!*rest.last().unwrap().borrow());
        assert_eq!(pending.lock().unwrap().len(), MAX_PENDING_LOGINS);
    }
}
