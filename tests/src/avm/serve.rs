//! The server: TLS, HTTP, and the faults of responses.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;

use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Request, State};
use axum::http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, COOKIE, LOCATION, SET_COOKIE};
use axum::http::{HeaderName, Response};
use futures_util::stream;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio_rustls::rustls::{ServerConfig, crypto};
use tokio_rustls::server::TlsStream;

use super::SharedWorld;
use super::answer::{AvmRequest, AvmResponse, answer};
use super::fault::AvmFault;
use crate::error::{IoContext, LabError};

/// The longest body of a request that is read, in bytes.
const MAX_BODY: usize = 1 << 20;

/// A running server.
pub(super) struct Started {
    pub(super) address: SocketAddr,
    /// Its certificate, in DER.
    pub(super) certificate: Vec<u8>,
    pub(super) ca_pem: String,
    /// Dropped, it ends the server.
    pub(super) stop: oneshot::Sender<()>,
    pub(super) thread: JoinHandle<()>,
}

/// Starts a server in a thread with a runtime of its own.
pub(super) fn start(shared: SharedWorld) -> Result<Started, LabError> {
    let wrong = |why: String| LabError::Plan { subject: "an App Volumes Manager".to_owned(), why };
    let identity = TlsIdentity::new().map_err(|error| wrong(error.to_string()))?;
    let provider = Arc::new(crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(|builder| {
            builder.with_no_client_auth().with_single_cert(
                vec![identity.certificate.clone()],
                PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(identity.key)),
            )
        })
        .map_err(|error| wrong(error.to_string()))?;
    let subject = Path::new("127.0.0.1");
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).at("listen on", subject)?;
    listener.set_nonblocking(true).at("listen on", subject)?;
    let address = listener.local_addr().at("inspect", subject)?;
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().at("make a runtime for", subject)?;
    let (stop, stopped) = oneshot::channel();
    let thread = std::thread::spawn(move || {
        runtime.block_on(async move {
            let Ok(listener) = TcpListener::from_std(listener) else { return };
            let router = Router::new().fallback(handle).with_state(shared);
            let listener = TlsListener::new(listener, TlsAcceptor::from(Arc::new(config)), address);
            // Ended by dropping it: a slow answer is not waited for.
            tokio::select! {
                _ = axum::serve(listener, router).into_future() => {}
                _ = stopped => {}
            }
        });
    });
    Ok(Started { address, certificate: identity.certificate.to_vec(), ca_pem: identity.ca_pem, stop, thread })
}

struct TlsIdentity {
    certificate: CertificateDer<'static>,
    key: Vec<u8>,
    ca_pem: String,
}

impl TlsIdentity {
    fn new() -> Result<Self, rcgen::Error> {
        let mut authority = CertificateParams::new(Vec::new())?;
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        authority.distinguished_name.push(DnType::CommonName, "the authority of a manager");
        let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate()?)?;
        let mut own = CertificateParams::new(vec!["127.0.0.1".to_owned(), "localhost".to_owned()])?;
        own.distinguished_name.push(DnType::CommonName, "avm.corp.example");
        let key = KeyPair::generate()?;
        let certificate = own.signed_by(&key, &authority)?;
        Ok(Self { certificate: certificate.der().clone(), key: key.serialize_der(), ca_pem: authority.pem() })
    }
}

/// Accepts connections and completes their handshakes; a slow one delays no other.
struct TlsListener {
    address: SocketAddr,
    done: mpsc::Receiver<(TlsStream<TcpStream>, SocketAddr)>,
}

impl TlsListener {
    fn new(listener: TcpListener, acceptor: TlsAcceptor, address: SocketAddr) -> Self {
        let (send, done) = mpsc::channel(16);
        tokio::spawn(async move {
            while let Ok((stream, peer)) = listener.accept().await {
                let (acceptor, send) = (acceptor.clone(), send.clone());
                tokio::spawn(async move {
                    // Who does not trust the certificate ends here.
                    if let Ok(stream) = acceptor.accept(stream).await {
                        let _ = send.send((stream, peer)).await;
                    }
                });
            }
        });
        Self { address, done }
    }
}

impl axum::serve::Listener for TlsListener {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, SocketAddr) {
        match self.done.recv().await {
            Some(connection) => connection,
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> std::io::Result<SocketAddr> {
        Ok(self.address)
    }
}

async fn handle(State(shared): State<SharedWorld>, request: Request) -> Result<Response<Body>, Infallible> {
    let (head, body) = request.into_parts();
    let body = to_bytes(body, MAX_BODY).await.unwrap_or_default();
    let text = |name: HeaderName| head.headers.get(name).and_then(|value| value.to_str().ok());
    let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
    let (reply, fault) = {
        let request = AvmRequest {
            method: head.method.as_str(),
            path,
            cookie: text(COOKIE),
            content_type: text(CONTENT_TYPE).unwrap_or_default(),
            body: &body,
        };
        let mut world = shared.lock();
        let reply = answer(&mut world, &request);
        (reply, world.fault(path))
    };
    if let Some(AvmFault::Slow(late)) = fault {
        tokio::time::sleep(late).await;
    }
    Ok(with_fault(reply, fault))
}

fn with_fault(reply: AvmResponse, fault: Option<AvmFault>) -> Response<Body> {
    let plain = |status: u16, body: &str, content_type: &'static str| {
        response(AvmResponse { status, body: body.to_owned(), content_type, cookie: None })
    };
    match fault {
        None | Some(AvmFault::Slow(_)) => response(reply),
        Some(AvmFault::ServerError) => {
            plain(500, r#"{"error":"Server Error","detail":"Unexpected server error."}"#, "application/json")
        }
        Some(AvmFault::Denied) => {
            plain(403, r#"{"error":"You do not have permission to perform this action."}"#, "application/json")
        }
        Some(AvmFault::Unauthorized) => plain(401, r#"{"error":"Please login."}"#, "application/json"),
        Some(AvmFault::ErrorBesideNothing) => {
            let body = r#"{"error":"Unable to reach vCenter","data":[],"datastores":{"writable_volumes":[]}}"#;
            plain(200, body, "application/json")
        }
        Some(AvmFault::Gzip) => {
            let mut response = response(reply);
            response.headers_mut().insert(CONTENT_ENCODING, axum::http::HeaderValue::from_static("gzip"));
            response
        }
        Some(AvmFault::ByteOrderMark) => response(AvmResponse { body: format!("\u{feff}{}", reply.body), ..reply }),
        Some(AvmFault::NotFound) => plain(404, "<html><body>Not found</body></html>", "text/html"),
        Some(AvmFault::WebPage) => {
            plain(200, "<!DOCTYPE html>\n<html><head><title>Welcome</title></head><body></body></html>", "text/html")
        }
        Some(AvmFault::Redirect) => {
            let mut response = plain(302, "<html><body>You are being redirected.</body></html>", "text/html");
            response.headers_mut().insert(LOCATION, axum::http::HeaderValue::from_static("/login"));
            response
        }
        Some(AvmFault::Truncated) => {
            let half = half_of(&reply.body).to_owned();
            response(AvmResponse { body: half, ..reply })
        }
        Some(AvmFault::Cut) => {
            let length = reply.body.len();
            let first = Bytes::copy_from_slice(half_of(&reply.body).as_bytes());
            let broken = std::io::Error::other("a connection that breaks");
            let mut response = response(AvmResponse { body: String::new(), ..reply });
            response.headers_mut().insert(CONTENT_LENGTH, length.into());
            *response.body_mut() = Body::from_stream(stream::iter([Ok(first), Err(broken)]));
            response
        }
        Some(AvmFault::Huge(bytes)) => {
            plain(200, &format!("[{}]", " ".repeat(bytes.saturating_sub(2))), "application/json")
        }
    }
}

fn half_of(body: &str) -> &str {
    let half = body.len() / 2;
    (half..body.len()).find_map(|at| body.get(..at)).unwrap_or(body)
}

fn response(reply: AvmResponse) -> Response<Body> {
    let mut builder = Response::builder().status(reply.status).header(CONTENT_TYPE, reply.content_type);
    if let Some(cookie) = &reply.cookie {
        builder = builder.header(SET_COOKIE, cookie);
    }
    builder.body(Body::from(reply.body)).unwrap_or_default()
}
