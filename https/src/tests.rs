//! The client against a TLS server of the test, with certificates that the test creates.

use std::io::Write as _;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rcgen::{CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use sha1::Sha1;
use sha2::{Digest, Sha256};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::*;

/// A certificate, its key, and the authority's certificate in PEM.
struct Identity {
    certificate: CertificateDer<'static>,
    key: Vec<u8>,
    authority: String,
}

fn identity(name: &str, expired: bool) -> Identity {
    let mut ca = CertificateParams::new(Vec::new()).unwrap();
    ca.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    ca.distinguished_name.push(DnType::CommonName, "an authority");
    let authority = CertifiedIssuer::self_signed(ca, KeyPair::generate().unwrap()).unwrap();
    let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    if expired {
        params.not_before = rcgen::date_time_ymd(2001, 1, 1);
        params.not_after = rcgen::date_time_ymd(2002, 1, 1);
    }
    let key = KeyPair::generate().unwrap();
    let certificate = params.signed_by(&key, &authority).unwrap();
    Identity { certificate: certificate.der().clone(), key: key.serialize_der(), authority: authority.pem() }
}

/// Sends `reply` to each request on every connection, records the requests, and may use a key other than its
/// certificate's.
struct Server {
    address: SocketAddr,
    requests: Arc<Mutex<Vec<String>>>,
    connections: Arc<Mutex<usize>>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Server {
    async fn start(identity: &Identity, reply: &'static [u8]) -> Self {
        Self::with_key(identity, identity.key.clone(), reply).await
    }

    async fn with_key(identity: &Identity, key: Vec<u8>, reply: &'static [u8]) -> Self {
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key));
        let signing = provider.key_provider.load_private_key(key).unwrap();
        let certified = rustls::sign::CertifiedKey::new(vec![identity.certificate.clone()], signing);
        let config = ServerConfig::builder_with_provider(Arc::new(provider))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(certified)));
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let connections = Arc::new(Mutex::new(0));
        let task = tokio::spawn({
            let (requests, connections) = (Arc::clone(&requests), Arc::clone(&connections));
            async move {
                while let Ok((tcp, _)) = listener.accept().await {
                    let (acceptor, requests) = (acceptor.clone(), Arc::clone(&requests));
                    *connections.lock().unwrap() += 1;
                    tokio::spawn(async move {
                        let Ok(mut tls) = acceptor.accept(tcp).await else { return };
                        let mut buffer = vec![0; 64 * 1024];
                        while let Ok(count @ 1..) = tls.read(&mut buffer).await {
                            requests.lock().unwrap().push(String::from_utf8_lossy(&buffer[..count]).into_owned());
                            if tls.write_all(reply).await.is_err() || reply.ends_with(b"#") {
                                return;
                            }
                        }
                    });
                }
            }
        });
        Self { address, requests, connections, task }
    }

    fn client(&self, trust: Trust) -> HttpsClient {
        self.named("127.0.0.1", trust)
    }

    fn named(&self, host: &str, trust: Trust) -> HttpsClient {
        HttpsClient::new("system one", &format!("https://{host}:{}", self.address.port()), trust).unwrap()
    }
}

const REPLY: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: text/xml\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\n\
                      Content-Length: 5\r\n\r\nhello";

/// Trusts exactly that certificate.
fn pinned(identity: &Identity) -> Trust {
    Trust::new(None, Some(Sha256::digest(&identity.certificate).into()))
}

#[tokio::test]
async fn a_pinned_certificate_is_trusted_despite_name_and_dates() {
    let identity = identity("somewhere.else.example.com", true);
    let server = Server::start(&identity, REPLY).await;
    let client = server.client(pinned(&identity));
    let answer = client.send(Request::get("/a%20b?c=d").header("cookie", "secret=1")).await.unwrap();
    assert_eq!(answer.status(), 200);
    assert!(answer.is_success());
    assert_eq!(answer.content_type(), Some("text/xml"));
    assert_eq!(answer.cookies().collect::<Vec<_>>(), ["a=1", "b=2"]);
    assert_eq!(&answer.body()[..], b"hello");
    assert!(!format!("{answer:?}").contains("a=1"));
    client.send(Request::post("/sdk", "text/xml", b"body".to_vec())).await.unwrap();
    let requests = server.requests.lock().unwrap().join("\n");
    assert!(requests.starts_with("GET /a%20b?c=d HTTP/1.1\r\n"), "{requests}");
    assert!(requests.contains("cookie: secret=1\r\n"), "{requests}");
    assert!(requests.contains("content-type: text/xml\r\n"), "{requests}");
    assert_eq!(*server.connections.lock().unwrap(), 1, "one connection serves both requests");
}

#[tokio::test]
async fn another_certificate_is_refused_and_named() {
    let identity = identity("127.0.0.1", false);
    let server = Server::start(&identity, REPLY).await;
    let presented = Thumbprint::Sha256(Sha256::digest(&identity.certificate).into());
    for trust in [
        Trust::new(None, Some([7; 32])),
        Trust::Certificates(vec![Thumbprint::Sha1([7; 20]), Thumbprint::Sha256([7; 32])]),
        Trust::Certificates(Vec::new()),
    ] {
        let error = server.client(trust).send(Request::get("/").header("cookie", "secret")).await.unwrap_err();
        let HttpsError::Certificate { presented: Some(reported), .. } = &error else { panic!("{error:?}") };
        assert_eq!(*reported, presented);
        assert!(error.to_string().contains(&presented.to_string()), "{error}");
        assert!(error.hint().contains(&format!("fingerprint = \"{presented}\"")), "{}", error.hint());
        assert_eq!(error.retry(), Retry::Permanent);
    }
    assert!(server.requests.lock().unwrap().is_empty(), "no request may reach an untrusted server");
}

#[tokio::test]
async fn sha1_and_sha256_thumbprints_are_accepted() {
    let identity = identity("localhost.localdomain", false);
    let server = Server::start(&identity, REPLY).await;
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02X}")).collect::<Vec<_>>().join(":");
    for text in [hex(&Sha1::digest(&identity.certificate)), hex(&Sha256::digest(&identity.certificate))] {
        let known = Thumbprint::parse(&text).unwrap();
        server.client(Trust::Certificates(vec![known])).send(Request::get("/")).await.unwrap();
    }
    assert_eq!(Thumbprint::parse("00:11"), None);
    assert_eq!(Thumbprint::parse("é"), None);
}

#[tokio::test]
async fn a_server_without_the_private_key_is_refused() {
    let identity = identity("127.0.0.1", false);
    let server = Server::with_key(&identity, KeyPair::generate().unwrap().serialize_der(), REPLY).await;
    let error = server.client(pinned(&identity)).send(Request::get("/")).await.unwrap_err();
    assert!(matches!(error, HttpsError::Certificate { .. } | HttpsError::Handshake { .. }), "{error:?}");
    assert!(server.requests.lock().unwrap().is_empty());
}

#[tokio::test]
async fn an_authority_is_trusted_for_its_names_and_dates_only() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::File::options().write(true).create_new(true).open(&path).unwrap().write_all(text.as_bytes()).unwrap();
        path
    };
    let good = identity("127.0.0.1", false);
    let good_ca = Trust::Ca(file("good", &good.authority));
    let server = Server::start(&good, REPLY).await;
    server.client(good_ca.clone()).send(Request::get("/")).await.unwrap();

    let why = |error: HttpsError| match error {
        HttpsError::Certificate { why, presented: Some(_), .. } => why,
        other => panic!("{other:?}"),
    };
    let error = server.named("localhost", good_ca.clone()).send(Request::get("/")).await.unwrap_err();
    assert_eq!(why(error), "it was issued for another host name");

    let other = identity("127.0.0.1", false);
    let other_server = Server::start(&other, REPLY).await;
    let error = other_server.client(good_ca).send(Request::get("/")).await.unwrap_err();
    assert_eq!(why(error), "it is not issued by a trusted authority");

    let old = identity("127.0.0.1", true);
    let old_ca = Trust::Ca(file("old", &old.authority));
    let old_server = Server::start(&old, REPLY).await;
    let error = old_server.client(old_ca).send(Request::get("/")).await.unwrap_err();
    assert_eq!(why(error), "it has expired");

    // A self-signed certificate, the default of appliances.
    let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let own = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let own = Identity { certificate: own.der().clone(), key: own.key().serialize_der(), authority: own.pem() };
    let own_server = Server::start(&own, REPLY).await;
    let error = own_server.client(Trust::Ca(file("own", &own.authority))).send(Request::get("/")).await.unwrap_err();
    assert!(why(error).contains("configure its fingerprint"));
    own_server.client(pinned(&own)).send(Request::get("/")).await.unwrap();

    let make = |trust| HttpsClient::new("system one", "https://127.0.0.1", trust).unwrap_err();
    for path in [file("text", "no certificate"), folder.path().join("nowhere")] {
        assert!(matches!(make(Trust::Ca(path)), HttpsError::NoAuthorities { .. }));
    }
}

#[tokio::test]
async fn size_and_time_limits_apply_to_responses() {
    let identity = identity("127.0.0.1", false);
    let trust = || pinned(&identity);
    let announced = Server::start(&identity, REPLY).await;
    let error = announced.client(trust()).send(Request::get("/").limit(4)).await.unwrap_err();
    assert_eq!(error, HttpsError::TooLong { system: "system one".to_owned(), limit: 4 });

    let unannounced = Server::start(
        &identity,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n3\r\ndef\r\n0\r\n\r\n",
    )
    .await;
    let answer = unannounced.client(trust()).send(Request::get("/").limit(6)).await.unwrap();
    assert_eq!(&answer.into_body()[..], b"abcdef");
    let error = unannounced.client(trust()).send(Request::get("/").limit(5)).await.unwrap_err();
    assert!(matches!(error, HttpsError::TooLong { .. }), "{error:?}");

    let short = Server::start(&identity, b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nabc#").await;
    let mut streaming = short.client(trust()).stream(Request::get("/")).await.unwrap();
    assert_eq!(streaming.content_length(), Some(50));
    let error = loop {
        match streaming.chunk().await {
            Ok(Some(_)) => {}
            Ok(None) => panic!("a body that ended too early was accepted as complete"),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, HttpsError::Broken { .. }), "{error:?}");

    let slow = Server::start(&identity, b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nabc").await;
    let brief = Request::get("/").timeout(Duration::from_millis(300));
    let error = slow.client(trust()).send(brief).await.unwrap_err();
    assert!(matches!(error, HttpsError::Stalled { .. }), "{error:?}");
    assert_eq!(error.retry(), Retry::Transient);

    let mut client = slow.client(trust());
    client.idle = Duration::from_millis(100);
    let mut streaming = client.stream(Request::get("/")).await.unwrap();
    let error = loop {
        match streaming.chunk().await {
            Ok(chunk) => assert!(chunk.is_some(), "a body that stopped was accepted as complete"),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, HttpsError::Stalled { .. }), "{error:?}");
}

#[tokio::test]
async fn a_head_response_has_a_length_but_no_body() {
    let identity = identity("127.0.0.1", false);
    let reply = b"HTTP/1.1 200 OK\r\nContent-Length: 5000000000\r\n\r\n";
    let server = Server::start(&identity, reply).await;
    let client = server.client(pinned(&identity));
    let answer = client.send(Request::new(Method::HEAD, "/file")).await.unwrap();
    assert_eq!(answer.header("content-length"), Some("5000000000"));
    assert!(answer.body().is_empty());
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let identity = identity("127.0.0.1", false);
    let reply = b"HTTP/1.1 302 Found\r\nLocation: /elsewhere\r\nContent-Length: 0\r\n\r\n";
    let server = Server::start(&identity, reply).await;
    let client = server.client(pinned(&identity));
    let answer = client.send(Request::get("/")).await.unwrap();
    assert_eq!((answer.status(), answer.header("location")), (302, Some("/elsewhere")));
    assert_eq!(server.requests.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn a_closed_port_is_unreachable() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let trust = Trust::new(None, Some([0; 32]));
    let client = HttpsClient::new("system one", &format!("https://{address}"), trust).unwrap();
    let error = client.send(Request::get("/")).await.unwrap_err();
    assert!(matches!(error, HttpsError::Unreachable { .. }), "{error:?}");
    assert!(error.to_string().starts_with("system one is unreachable: Connection refused"), "{error}");
}

#[tokio::test]
async fn a_path_that_would_be_rewritten_is_refused() {
    let trust = || Trust::new(None, Some([0; 32]));
    let client = HttpsClient::new("system one", "https://127.0.0.1:1/base/", trust()).unwrap();
    assert_eq!(client.url("/a%2Fb?c=%20d").unwrap().as_str(), "https://127.0.0.1:1/base/a%2Fb?c=%20d");
    for path in ["", "a", "/a b", "/../b", "/%2e%2e/b", "/a\\b", "/a#b", "/\n", "/a?b c", "/é"] {
        assert!(matches!(client.url(path), Err(HttpsError::InvalidRequest { .. })), "{path:?}");
    }
    let odd = client.send(Request::get("/").header("cookie", "se\ncret")).await.unwrap_err();
    assert!(!format!("{odd} {odd:?}").contains("cret\n"), "{odd:?}");
    assert!(matches!(odd, HttpsError::InvalidRequest { .. }));
    for base in ["ftp://a", "a", "https://", "https://u:p@h", "https://h?q", "https://h#f"] {
        assert!(matches!(HttpsClient::new("s", base, trust()), Err(HttpsError::InvalidAddress { .. })), "{base}");
    }
}

#[test]
fn debug_output_of_a_request_omits_secrets() {
    let request =
        Request::post("/login?token=hidden", "text/xml", b"hidden".to_vec()).header("vmware_soap_session", "hidden");
    let shown = format!("{request:?}");
    assert!(!shown.contains("hidden"), "{shown}");
    assert!(shown.contains("vmware_soap_session"), "{shown}");
}

/// A self-signed certificate with an RSA key of 1,024 bits.
const WEAK: &str = include_str!("tests/weak.pem");

#[tokio::test]
async fn a_weak_key_is_refused_even_if_pinned() {
    use rustls::pki_types::pem::PemObject;
    let certificate = CertificateDer::from_pem_slice(WEAK.as_bytes()).unwrap();
    assert_eq!(trust::weak_rsa(&certificate), Some(1024));
    assert_eq!(trust::weak_rsa(&identity("x", false).certificate), None, "an ECDSA key");
    for cut in 0..certificate.len() {
        let _ = trust::weak_rsa(&CertificateDer::from(certificate[..cut].to_vec()));
    }
    // The certificate is checked before the key, so the server can use another key here.
    let weak = Identity { certificate, key: identity("x", false).key, authority: String::new() };
    let server = Server::start(&weak, REPLY).await;
    for trust in [pinned(&weak), Trust::new(None, Some([7; 32]))] {
        let error = server.client(trust).send(Request::get("/")).await.unwrap_err();
        assert_eq!(error, HttpsError::WeakKey { system: "system one".to_owned(), bits: 1024 });
        assert!(error.hint().contains("2,048"), "{}", error.hint());
        assert_eq!(error.retry(), Retry::Permanent);
    }
}

#[tokio::test]
async fn a_failed_handshake_is_reported_as_one() {
    for said in [&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], b"", b"\x15\x03\x03\x00\x02\x02\x28"] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let task = tokio::spawn(async move {
            while let Ok((mut tcp, _)) = listener.accept().await {
                let mut hello = [0; 1024];
                let _ = tcp.read(&mut hello).await;
                let _ = tcp.write_all(said).await;
                let _ = tcp.shutdown().await;
            }
        });
        let client =
            HttpsClient::new("system one", &format!("https://{address}"), Trust::Certificates(Vec::new())).unwrap();
        let error = client.send(Request::get("/")).await.unwrap_err();
        assert!(matches!(error, HttpsError::Handshake { .. }), "{said:?}: {error:?}");
        assert!(error.hint().contains("TLS 1.2"), "{}", error.hint());
        task.abort();
    }
}

#[tokio::test]
async fn web_pages_and_compressed_bodies_are_recognised() {
    for (reply, expected) in [
        (&b"HTTP/1.1 200 OK\r\nContent-Length: 15\r\n\r\n<!DOCTYPE html>"[..], Some(UnexpectedContent::WebPage)),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n\xef\xbb\xbf<HTML>", Some(UnexpectedContent::WebPage)),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n\x1f\x8b\x08", Some(UnexpectedContent::Compressed("gzip"))),
        (
            b"HTTP/1.1 200 OK\r\nContent-Encoding: br\r\nContent-Length: 3\r\n\r\nabc",
            Some(UnexpectedContent::Compressed("brotli")),
        ),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n<?xml", None),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]", None),
    ] {
        let identity = identity("127.0.0.1", false);
        let server = Server::start(&identity, reply).await;
        let client = server.client(pinned(&identity));
        let answer = client.send(Request::get("/")).await.unwrap();
        assert_eq!(answer.unexpected_content(), expected, "{}", String::from_utf8_lossy(reply));
    }
}
