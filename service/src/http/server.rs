//! Connections: TCP, TLS, and the socket in the state folder. Each has a deadline for what its client is slow with, and
//! there are so many at once.

use std::net::SocketAddr;
use std::sync::Arc;
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

use super::auth::Peer;
use super::socket::{self, Socket};
use super::tls::Certificate;
use crate::problem::{Code, Problem};

/// Connections at the same time. What waits beyond waits in the kernel.
const CONNECTIONS: usize = 256;
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
        let hall = Hall { router, room: Arc::new(Semaphore::new(CONNECTIONS)), ended };
        let mut connections = JoinSet::new();
        let mut renewing = JoinSet::new();
        if let Some(certificate) = &self.certificate {
            renewing.spawn(Arc::clone(certificate).renew());
        }
        let mut stop = std::pin::pin!(stop);
        loop {
            let permit = tokio::select! {
                () = &mut stop => break,
                permit = Arc::clone(&hall.room).acquire_owned() => permit,
            };
            let Ok(permit) = permit else { break };
            let accepted = tokio::select! {
                () = &mut stop => break,
                accepted = self.tcp.accept() => accepted.map(|(stream, from)| Accepted::Tcp(stream, from)),
                accepted = local(self.socket.as_ref()) => accepted.map(Accepted::Local),
            };
            match accepted {
                Ok(accepted) => {
                    let (hall, certificate) = (hall.clone(), self.certificate.clone());
                    connections.spawn(async move { hall.receive(accepted, certificate, permit).await });
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

async fn local(socket: Option<&Socket>) -> std::io::Result<UnixStream> {
    match socket {
        Some(socket) => socket.listener.accept().await.map(|(stream, _)| stream),
        None => std::future::pending().await,
    }
}

#[derive(Clone)]
struct Hall {
    router: Router,
    room: Arc<Semaphore>,
    ended: watch::Receiver<bool>,
}

impl Hall {
    async fn receive(self, accepted: Accepted, certificate: Option<Arc<Certificate>>, _room: OwnedSemaphorePermit) {
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
