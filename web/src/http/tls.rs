//! The service's certificate. It is read again when its files change, so that a renewed one needs no restart.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use stackferry_config::Tls;
use tokio_rustls::TlsAcceptor;

use stackferry_problem::{Code, Problem};

/// How often it is looked whether the files changed.
const LOOK: Duration = Duration::from_secs(30);

/// The certificate that is shown now.
pub(super) struct Certificate {
    files: Tls,
    state: RwLock<TlsState>,
}

struct TlsState {
    acceptor: TlsAcceptor,
    stamp: Stamp,
}

/// When both files were last changed, as far as that is known.
type Stamp = [Option<SystemTime>; 2];

impl Certificate {
    /// Reads the certificate and its key.
    ///
    /// # Errors
    /// `bad_config`: a file can't be read, or the two don't belong together.
    pub(super) fn read(files: &Tls) -> Result<Arc<Self>, Problem> {
        let state = TlsState { stamp: stamp(files), acceptor: load(files)? };
        Ok(Arc::new(Self { files: files.clone(), state: RwLock::new(state) }))
    }

    pub(super) fn acceptor(&self) -> TlsAcceptor {
        self.state.read().unwrap_or_else(PoisonError::into_inner).acceptor.clone()
    }

    /// Looks for a renewed certificate now and then, for ever.
    pub(super) async fn renew(self: Arc<Self>) {
        loop {
            tokio::time::sleep(LOOK).await;
            self.look();
        }
    }

    /// Takes a changed certificate over. One that can't be used is told, and the former stays.
    fn look(&self) {
        let now = stamp(&self.files);
        if self.state.read().unwrap_or_else(PoisonError::into_inner).stamp == now {
            return;
        }
        let loaded = load(&self.files);
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        state.stamp = now;
        match loaded {
            Ok(acceptor) => {
                state.acceptor = acceptor;
                tracing::info!(cert = %self.files.cert.display(), "a renewed certificate is shown from now on");
            }
            Err(problem) => tracing::error!("the former certificate stays: {}", problem.message),
        }
    }
}

fn stamp(files: &Tls) -> Stamp {
    [&files.cert, &files.key].map(|path| std::fs::metadata(path).and_then(|about| about.modified()).ok())
}

fn load(files: &Tls) -> Result<TlsAcceptor, Problem> {
    let wrong = |key: &str, path: &stackferry_config::AbsPath, why: String| {
        Problem::new(Code::BadConfig, format!("{} can't be used: {why}", path.display()))
            .subject(format!("http.tls.{key}"))
            .hint(
                "both are PEM files: the certificate with the chain above it, and its private key without a passphrase",
            )
    };
    let chain = CertificateDer::pem_file_iter(&files.cert)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| wrong("cert", &files.cert, error.to_string()))?;
    if chain.is_empty() {
        return Err(wrong("cert", &files.cert, "it holds no certificate".to_owned()));
    }
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(|error| wrong("key", &files.key, error.to_string()))?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| Problem::internal(format!("TLS can't be set up: {error}")))?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(|error| wrong("cert", &files.cert, error.to_string()))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(dir: &std::path::Path, name: &str) -> Tls {
        let made = rcgen::generate_simple_self_signed(vec![name.to_owned()]).unwrap();
        std::fs::write(dir.join("cert.pem"), made.cert.pem()).unwrap();
        std::fs::write(dir.join("key.pem"), made.signing_key.serialize_pem()).unwrap();
        let path = |name: &str| dir.join(name).to_str().unwrap().parse().unwrap();
        Tls { cert: path("cert.pem"), key: path("key.pem") }
    }

    #[test]
    fn a_renewed_certificate_is_taken_over_and_a_broken_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let files = write(dir.path(), "one");
        let certificate = Certificate::read(&files).unwrap();
        let same = |one: &TlsAcceptor, other: &TlsAcceptor| Arc::ptr_eq(one.config(), other.config());
        let first = certificate.acceptor();
        certificate.look();
        assert!(same(&first, &certificate.acceptor()), "nothing changed");

        write(dir.path(), "two");
        let later = SystemTime::now() + Duration::from_secs(10);
        std::fs::File::options().write(true).open(dir.path().join("cert.pem")).unwrap().set_modified(later).unwrap();
        certificate.look();
        let second = certificate.acceptor();
        assert!(!same(&first, &second));

        std::fs::write(dir.path().join("cert.pem"), "no certificate").unwrap();
        certificate.look();
        assert!(same(&second, &certificate.acceptor()));
        let problem = Certificate::read(&files).err().unwrap();
        assert_eq!((problem.code, problem.subject.as_deref()), (Code::BadConfig, Some("http.tls.cert")));
    }
}
