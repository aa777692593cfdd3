//! Takes connections and keeps what nobody logged in on from growing: each has [`LOGIN_GRACE`] to log in, and beyond
//! [`MOST_STRANGERS`] of them the oldest from the address with the most is dropped. So somebody who only knocks slows
//! himself and nobody else.

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

use super::Shared;
use super::session::{Session, Standing};
use crate::ssh;

/// How long a connection may take to log in.
pub(crate) const LOGIN_GRACE: Duration = Duration::from_secs(30);
/// The most connections that are not logged in.
pub(crate) const MOST_STRANGERS: usize = 128;
/// A wrong login is answered after this long; only that connection waits.
pub(crate) const WRONG_LOGIN: Duration = Duration::from_secs(1);

/// The most tries to log in on one connection.
pub(crate) const MOST_TRIES: usize = 6;
/// A client that is silent for so long is asked for a sign of life. That is less often than a client asks: while its
/// disk is slow it may not answer for a while.
pub(crate) const KEEPALIVE: Duration = Duration::from_secs(15);
/// It is given up after so many unanswered questions.
pub(crate) const KEEPALIVES: usize = 8;
/// A connection on which nothing is said for so long is ended.
pub(crate) const IDLE: Duration = Duration::from_secs(600);

struct Stranger {
    number: u64,
    from: IpAddr,
    drop: watch::Sender<bool>,
}

type Strangers = Arc<Mutex<Vec<Stranger>>>;

pub(super) async fn run(listener: TcpListener, key: PrivateKey, shared: Arc<Shared>, stop: impl Future<Output = ()>) {
    let config = Arc::new(server::Config {
        server_id: russh::SshId::Standard("SSH-2.0-Stackferry".into()),
        methods: MethodSet::from(&[MethodKind::PublicKey, MethodKind::Password, MethodKind::KeyboardInteractive][..]),
        auth_rejection_time: WRONG_LOGIN,
        // OpenSSH's clients begin with a login by method "none", only to learn which methods there are.
        auth_rejection_time_initial: Some(Duration::ZERO),
        max_auth_attempts: MOST_TRIES,
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
    let strangers = Strangers::default();
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
                    let dropped = admit(&strangers, number, from.ip());
                    sessions.spawn(serve(stream, from.ip(), number, Arc::clone(&config), Arc::clone(&shared), Arc::clone(&strangers), dropped));
                }
                // Out of file descriptors, most likely: wait for some to be given back.
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be taken");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            },
        }
    }
    sessions.shutdown().await;
}

fn admit(strangers: &Strangers, number: u64, from: IpAddr) -> watch::Receiver<bool> {
    let mut strangers = strangers.lock().unwrap_or_else(PoisonError::into_inner);
    if strangers.len() >= MOST_STRANGERS {
        let mut counts: HashMap<IpAddr, usize> = HashMap::new();
        for stranger in strangers.iter() {
            *counts.entry(stranger.from).or_default() += 1;
        }
        let most = counts.into_iter().max_by_key(|(_, count)| *count).map(|(from, _)| from);
        if let Some(at) = strangers.iter().position(|stranger| Some(stranger.from) == most) {
            strangers.remove(at).drop.send_replace(true);
        }
    }
    let drop = watch::Sender::new(false);
    let dropped = drop.subscribe();
    strangers.push(Stranger { number, from, drop });
    dropped
}

async fn serve(
    stream: TcpStream,
    from: IpAddr,
    number: u64,
    config: Arc<server::Config>,
    shared: Arc<Shared>,
    strangers: Strangers,
    mut dropped: watch::Receiver<bool>,
) {
    // A second handle on the socket ends the connection whatever its session is doing.
    let Ok((stream, cut)) = split(stream) else { return forget(&strangers, number) };
    let standing = watch::Sender::new(Standing::Stranger);
    let known = standing.subscribe();
    let guest = Guest { number, cut, strangers, shared: Arc::clone(&shared), known: known.clone() };
    let session = Session::new(shared, from, standing);
    let run = async {
        match server::run_stream(config, stream, session).await {
            Ok(running) => running.await,
            Err(error) => Err(error),
        }
    };
    tokio::select! {
        result = run => if let Err(error) = result { tracing::debug!(%from, %error, "a connection ended") },
        () = watch_over(&guest, known, &mut dropped) => tracing::debug!(%from, "a connection was ended"),
    }
}

/// Ends when the connection has to.
async fn watch_over(guest: &Guest, mut known: watch::Receiver<Standing>, dropped: &mut watch::Receiver<bool>) {
    let logged_in = tokio::time::timeout(LOGIN_GRACE, known.wait_for(|now| !matches!(now, Standing::Stranger)));
    tokio::select! {
        result = logged_in => if !matches!(result, Ok(Ok(_))) { return },
        _ = dropped.wait_for(|dropped| *dropped) => return,
    }
    forget(&guest.strangers, guest.number);
    let granted = match &*known.borrow() {
        Standing::Credential(granted) => Some(granted.clone()),
        _ => None,
    };
    match granted {
        // A sender that is gone is a grant that was forgotten: nothing is left to wait for.
        Some(mut granted) => {
            let _ = granted.ended.wait_for(|ended| *ended).await;
        }
        None => std::future::pending().await,
    }
}

/// What a connection leaves behind is cleared in whatever way it ends: by itself, by the watch, or with the endpoint.
struct Guest {
    number: u64,
    cut: std::net::TcpStream,
    strangers: Strangers,
    shared: Arc<Shared>,
    known: watch::Receiver<Standing>,
}

impl Drop for Guest {
    fn drop(&mut self) {
        // Best effort: the socket may be closed already. The library's session is a task of its own, which ends with it.
        let _ = self.cut.shutdown(std::net::Shutdown::Both);
        forget(&self.strangers, self.number);
        if let Standing::Credential(granted) = &*self.known.borrow() {
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

fn forget(strangers: &Strangers, number: u64) {
    strangers.lock().unwrap_or_else(PoisonError::into_inner).retain(|stranger| stranger.number != number);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_knocks_most_is_dropped_first() {
        let strangers = Strangers::default();
        let (quiet, loud): (IpAddr, IpAddr) = ("10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap());
        let first = admit(&strangers, 0, quiet);
        let oldest_loud = admit(&strangers, 1, loud);
        let rest: Vec<_> = (2..200).map(|number| admit(&strangers, number, loud)).collect();
        assert!(!*first.borrow());
        assert!(*oldest_loud.borrow());
        assert!(!*rest.last().unwrap().borrow());
        assert_eq!(strangers.lock().unwrap().len(), MOST_STRANGERS);
    }
}
