//! Connections: TCP, TLS, and the socket in the state folder. Each has a deadline for what its client is slow with, and
//! there are so many at once.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::{Extension, Router};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use stackferry_config::Config;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tokio_io_timeout::TimeoutStream;

use super::auth::Peer;
use super::socket::{self, Socket};
use super::tls::Certificate;
use stackferry_problem::{Code, Problem};

/// Connections over TCP at the same time. What waits beyond waits in the kernel.
const CONNECTIONS: usize = 256;
/// Of these, so many from one address that is not this machine's own: one host can't take them all.
const OF_ONE_ADDRESS: usize = 64;
/// Connections by the socket at the same time. They are apart: who is on this machine gets in whatever goes on outside.
const LOCAL_CONNECTIONS: usize = 32;
/// How long a client may take nothing of what it is sent.
const STALL: Duration = Duration::from_secs(30);
/// How long a client may take for a TLS handshake, and for the head of its next request.
const HEAD: Duration = Duration::from_secs(15);
/// The longest head of a request, in bytes.
const MAX_HEAD: usize = 32 << 10;
/// How long to wait after `accept` failed: descriptors have run out, or so, and it fails again at once.
const BREATH: Duration = Duration::from_millis(200);

/// The service's addresses, taken.
pub struct Server {
    tcp: TcpListener,
    address: SocketAddr,
    certificate: Option<Arc<Certificate>>,
    socket: Option<Socket>,
}

impl Server {
    /// Takes the addresses.
    ///
    /// # Errors
    /// `cannot_listen`; `bad_config` for a certificate that can't be used.
    pub async fn bind(config: &Config) -> Result<Self, Problem> {
        let certificate = config.http.tls.as_ref().map(Certificate::read).transpose()?;
        let address = config.http.listen.address();
        let cannot = |error: &std::io::Error| {
            Problem::new(Code::CannotListen, format!("can't listen on {address}: {error}"))
                .subject(address)
                .hint("is the service running already, or does another program use the port? See `http.listen`")
        };
        let tcp = TcpListener::bind(address).await.map_err(|error| cannot(&error))?;
        let address = tcp.local_addr().map_err(|error| cannot(&error))?;
        let socket = socket::bind(&socket::path(config)).await;
        Ok(Self { tcp, address, certificate, socket })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers until `stop`; then what is being answered is finished, however long that takes.
    pub async fn serve(self, router: Router, stop: impl Future<Output = ()>) {
        let (ending, ended) = watch::channel(false);
        let hall = Hall { router, ended };
        let (room, local_room) = (Semaphore::new(CONNECTIONS), Semaphore::new(LOCAL_CONNECTIONS));
        let (room, local_room) = (Arc::new(room), Arc::new(local_room));
        let crowd = Crowd::default();
        let mut connections = JoinSet::new();
        let mut renewing = JoinSet::new();
        if let Some(certificate) = &self.certificate {
            renewing.spawn(Arc::clone(certificate).renew());
        }
        let mut stop = std::pin::pin!(stop);
        loop {
            let accepted = tokio::select! {
                () = &mut stop => break,
                accepted = remote(&self.tcp, &room) => accepted,
                accepted = local(self.socket.as_ref(), &local_room) => accepted,
            };
            match accepted {
                Ok((Accepted::Tcp(_, from), _)) if !crowd.has_room(from.ip()) => {
                    tracing::debug!(%from, "a connection was refused: too many of this address");
                }
                Ok((accepted, permit)) => {
                    let one = accepted.address().map(|address| crowd.one(address));
                    let (hall, certificate) = (hall.clone(), self.certificate.clone());
                    connections.spawn(async move {
                        let _place = (permit, one);
                        hall.receive(accepted, certificate).await;
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be taken");
                    tokio::time::sleep(BREATH).await;
                }
            }
            while connections.try_join_next().is_some() {}
        }
        // Nobody listens any more: who comes now is told by the kernel.
        drop((self.tcp, self.socket));
        let _ = ending.send(true);
        while connections.join_next().await.is_some() {}
    }
}

enum Accepted {
    Tcp(TcpStream, SocketAddr),
    Local(UnixStream),
}

impl Accepted {
    /// The address that counts: not that of this machine, behind which a proxy may be.
    fn address(&self) -> Option<IpAddr> {
        match self {
            Self::Tcp(_, from) => Some(from.ip()).filter(|address| !address.to_canonical().is_loopback()),
            Self::Local(_) => None,
        }
    }
}

type Taken = std::io::Result<(Accepted, OwnedSemaphorePermit)>;

async fn place(room: &Arc<Semaphore>) -> std::io::Result<OwnedSemaphorePermit> {
    Arc::clone(room).acquire_owned().await.map_err(std::io::Error::other)
}

async fn remote(tcp: &TcpListener, room: &Arc<Semaphore>) -> Taken {
    let permit = place(room).await?;
    let (stream, from) = tcp.accept().await?;
    Ok((Accepted::Tcp(stream, from), permit))
}

async fn local(socket: Option<&Socket>, room: &Arc<Semaphore>) -> Taken {
    let Some(socket) = socket else { return std::future::pending().await };
    let permit = place(room).await?;
    let (stream, _) = socket.listener.accept().await?;
    Ok((Accepted::Local(stream), permit))
}

/// What counts as one address: of IPv6 the network of 64 bits that a host has for itself.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6((address.to_bits() & !u128::from(u64::MAX)).into()),
        address => address,
    }
}

/// How many connections there are of each address.
#[derive(Clone, Default)]
struct Crowd(Arc<Mutex<HashMap<IpAddr, usize>>>);

impl Crowd {
    fn count(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn has_room(&self, address: IpAddr) -> bool {
        self.count().get(&network(address)).is_none_or(|count| *count < OF_ONE_ADDRESS)
    }

    /// Counts one until what is given is dropped.
    fn one(&self, address: IpAddr) -> One {
        let address = network(address);
        *self.count().entry(address).or_default() += 1;
        One { crowd: self.clone(), address }
    }
}

struct One {
    crowd: Crowd,
    address: IpAddr,
}

impl Drop for One {
    fn drop(&mut self) {
        let mut count = self.crowd.count();
        if let Some(own) = count.get_mut(&self.address) {
            *own = own.saturating_sub(1);
            if *own == 0 {
                count.remove(&self.address);
            }
        }
    }
}

#[derive(Clone)]
struct Hall {
    router: Router,
    ended: watch::Receiver<bool>,
}

impl Hall {
    async fn receive(self, accepted: Accepted, certificate: Option<Arc<Certificate>>) {
        match (accepted, certificate) {
            (Accepted::Local(stream), _) => {
                // Who can't be told is nobody.
                let uid = stream.peer_cred().ok().map(|peer| peer.uid());
                self.talk(stream, Peer::Local { uid }).await;
            }
            (Accepted::Tcp(stream, from), None) => self.talk(stream, Peer::Tcp { from, tls: false }).await,
            (Accepted::Tcp(stream, from), Some(certificate)) => {
                match tokio::time::timeout(HEAD, certificate.acceptor().accept(stream)).await {
                    Ok(Ok(stream)) => self.talk(stream, Peer::Tcp { from, tls: true }).await,
                    Ok(Err(error)) => tracing::debug!(%from, %error, "no TLS connection came about"),
                    Err(_) => tracing::debug!(%from, "a TLS handshake took too long"),
                }
            }
        }
    }

    async fn talk(mut self, stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, peer: Peer) {
        let service = TowerToHyperService::new(self.router.layer(Extension(peer)));
        // A client that reads nothing is disconnected: its place is another's.
        let mut stream = TimeoutStream::new(stream);
        stream.set_write_timeout(Some(STALL));
        let stream = Box::pin(stream);
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD)
            .max_buf_size(MAX_HEAD)
            .serve_connection(TokioIo::new(stream), service);
        let mut connection = std::pin::pin!(connection);
        let done = tokio::select! {
            done = connection.as_mut() => done,
            _ = self.ended.changed() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = done {
            tracing::debug!(%error, "a connection ended");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_does_not_take_every_place() {
        let crowd = Crowd::default();
        let (one, mapped): (IpAddr, IpAddr) = ("192.0.2.1".parse().unwrap(), "::ffff:192.0.2.1".parse().unwrap());
        let mut held: Vec<One> = (0..OF_ONE_ADDRESS).map(|_| crowd.one(one)).collect();
        assert!(!crowd.has_room(one) && !crowd.has_room(mapped));
        assert!(crowd.has_room("192.0.2.2".parse().unwrap()));
        held.pop();
        assert!(crowd.has_room(one));
        let (six, beside): (IpAddr, IpAddr) = ("2001:db8::1".parse().unwrap(), "2001:db8::ffff:2".parse().unwrap());
        let sixes: Vec<One> = (0..OF_ONE_ADDRESS).map(|_| crowd.one(six)).collect();
        assert!(!crowd.has_room(beside) && crowd.has_room("2001:db8:0:1::1".parse().unwrap()));
        drop(sixes);
        held.clear();
        assert!(crowd.count().is_empty(), "nothing is kept of who is gone");
        const { assert!(OF_ONE_ADDRESS < CONNECTIONS) };
    }
}
