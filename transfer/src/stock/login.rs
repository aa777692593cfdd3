//! Logging in with a new certificate, and the possible causes when the host refuses it.
//!
//! A host reports only that a certificate was refused; the reason is in its log. So the hint has everything that the
//! protocol reveals, and then the causes, most common first.

use std::net::IpAddr;
use std::sync::PoisonError;
use std::time::Instant;

use jiff::Timestamp;
use stackferry_config::SourceAddress;

use super::certificate::{CertificateRequest, CertifiedKey};
use super::{CERTIFICATE_LIFE, FORGET_AFTER, IssuedCert, Purpose, StockInner};
use crate::context::CopyContext;
use crate::error::TransferError;
use crate::ssh::{Connection, KeyType, Refusal, SshLogin};
use crate::wait::unless_cancelled;

/// Discovery's connections use the smallest receive window.
const DISCOVERY_MEMORY: u64 = 4 << 20;

/// The settings in a host's sshd_config that refuse a certificate.
const SSHD_CONFIG: &str = "- sshd_config there: `PubkeyAcceptedAlgorithms` or `CASignatureAlgorithms` without the \
                           certificate's type (ssh-ed25519-cert-v01@openssh.com and \
                           ecdsa-sha2-nistp256-cert-v01@openssh.com are tried; in FIPS mode the CA has to be ECDSA, too), \
                           `AllowUsers`, or `AuthorizedKeysFile` elsewhere";

/// The key types that a host accepts, as far as known.
#[derive(Debug, Default)]
pub(super) struct KeyTypes {
    /// One that it accepted.
    accepted: Option<KeyType>,
    /// When it refused both.
    refused: Option<Instant>,
}

/// A failed login.
struct LoginFailure {
    error: TransferError,
    /// A key of this type may be accepted.
    another: Option<KeyType>,
}

impl From<TransferError> for LoginFailure {
    fn from(error: TransferError) -> Self {
        Self { error, another: None }
    }
}

impl StockInner {
    /// The key type that is tried first.
    pub(super) fn key_type(&self) -> KeyType {
        let known = self.key_types.lock().unwrap_or_else(PoisonError::into_inner).accepted;
        known.unwrap_or_else(|| self.authority.key_type())
    }

    /// Logs in to open one file: connects, issues the certificate, reports it, uses it. Blocks; `issued` is called on this
    /// thread, outside of the runtime.
    pub(super) fn log_in_for(
        &self,
        purpose: Purpose,
        command: &str,
        context: &CopyContext,
        issued: &mut dyn FnMut(&IssuedCert),
    ) -> Result<Connection, TransferError> {
        let mut once = |key_type| {
            let memory = context.throttle.as_ref().map_or(context.memory, |throttle| throttle.bound(context.memory));
            let connecting = Connection::connect(&self.host.peer, memory, self.timeouts.login);
            let connection = self.runtime.block_on(unless_cancelled(&context.cancel, connecting))?;
            let certificate = self.issue(key_type, &connection, command)?;
            issued(&IssuedCert {
                name: certificate.name.clone(),
                serial: certificate.serial,
                purpose,
                expires: certificate.expires,
            });
            let name = certificate.name.clone();
            let logging_in = async { Ok(self.log_in(connection, certificate, key_type).await) };
            let connection = self.runtime.block_on(unless_cancelled(&context.cancel, logging_in))??;
            context.logged_in(&name);
            Ok(connection)
        };
        match once(self.key_type()) {
            Ok(connection) => Ok(connection),
            Err(LoginFailure { error, another: None }) => Err(error),
            Err(LoginFailure { error, another: Some(key_type) }) => self.judge(once(key_type), error),
        }
    }

    /// Logs in for discovery.
    pub(super) async fn log_in_for_discovery(&self, command: &str) -> Result<Connection, TransferError> {
        let once = async |key_type| {
            let connection = Connection::connect(&self.host.peer, DISCOVERY_MEMORY, self.timeouts.login).await?;
            let certificate = self.issue(key_type, &connection, command)?;
            self.log_in(connection, certificate, key_type).await
        };
        match once(self.key_type()).await {
            Ok(connection) => Ok(connection),
            Err(LoginFailure { error, another: None }) => Err(error),
            Err(LoginFailure { error, another: Some(key_type) }) => self.judge(once(key_type).await, error),
        }
    }

    /// The result of the second attempt, with a key of another type; the first failed with this error.
    fn judge(
        &self,
        second: Result<Connection, LoginFailure>,
        first: TransferError,
    ) -> Result<Connection, TransferError> {
        match second {
            Ok(connection) => Ok(connection),
            Err(LoginFailure { error: TransferError::LoginRefused { .. }, .. }) => {
                // Otherwise every login of the next hour would be tried twice.
                self.key_types.lock().unwrap_or_else(PoisonError::into_inner).refused = Some(Instant::now());
                Err(first)
            }
            Err(LoginFailure { error, .. }) => Err(error),
        }
    }

    /// Issues a certificate for a command on this connection.
    fn issue(&self, key_type: KeyType, connection: &Connection, command: &str) -> Result<CertifiedKey, TransferError> {
        let source_address = self.source_address(connection.local());
        let now = Timestamp::now();
        let source_address = source_address.as_deref();
        let request =
            CertificateRequest { user: &self.host.user, command, source_address, now, life: CERTIFICATE_LIFE };
        self.authority.issue_for(key_type, &request)
    }

    /// The addresses from which a certificate may be used; none for anywhere.
    fn source_address(&self, local: IpAddr) -> Option<String> {
        match &self.host.source_address {
            // sshd compares such an address with its zone, whose name is the host's own.
            SourceAddress::Connection if is_link_local(local) => None,
            SourceAddress::Connection => Some(local.to_string()),
            SourceAddress::Given(list) => Some(list.clone()),
            SourceAddress::Any => None,
        }
    }

    async fn log_in(
        &self,
        mut connection: Connection,
        issued: CertifiedKey,
        key_type: KeyType,
    ) -> Result<Connection, LoginFailure> {
        let name = issued.name.clone();
        let login = SshLogin::Certificate(issued.key, Box::new(issued.certificate));
        match connection.log_in(&self.host.user, &login).await {
            Ok(()) => {
                let mut types = self.key_types.lock().unwrap_or_else(PoisonError::into_inner);
                if types.accepted != Some(key_type) {
                    if key_type != self.authority.key_type() {
                        let host = self.address();
                        tracing::info!(
                            host,
                            key_type = key_type.name(),
                            "the host accepts certificates for this key type"
                        );
                    }
                    *types = KeyTypes { accepted: Some(key_type), refused: None };
                }
                drop(types);
                Ok(connection)
            }
            Err(TransferError::LoginRefused { host, .. }) => {
                let refusal = connection.refusal().cloned().unwrap_or_default();
                let another = self.another_type(key_type, &refusal);
                let hint = self.explain(&refusal, connection.local());
                let user = format!("{} with certificate {name}", self.host.user);
                Err(LoginFailure { error: TransferError::LoginRefused { host, user, hint }, another })
            }
            Err(other) => Err(other.into()),
        }
    }

    /// The key type for a second attempt: where the host refuses the key without another reason, and no accepted type is
    /// known.
    fn another_type(&self, key_type: KeyType, refusal: &Refusal) -> Option<KeyType> {
        let types = self.key_types.lock().unwrap_or_else(PoisonError::into_inner);
        let is_about_key = refusal.methods.contains(&"publickey")
            && !refusal.is_partial
            && refusal.farewell.is_none()
            && !refusal.is_dropbear();
        let was_tried = types.refused.is_some_and(|since| since.elapsed() < FORGET_AFTER);
        let is_worth_it = is_about_key && !was_tried && types.accepted.is_none();
        drop(types);
        is_worth_it.then_some(match key_type {
            KeyType::Ed25519 => KeyType::EcdsaP256,
            KeyType::EcdsaP256 => KeyType::Ed25519,
        })
    }

    /// The host's answer, the setup that it needs, and other possible causes.
    fn explain(&self, refusal: &Refusal, local: IpAddr) -> String {
        let user = &self.host.user;
        let mut hint = refusal.sentences();
        if refusal.is_dropbear() {
            hint.push(format!(
                "its SSH server is Dropbear ({}), which does not support certificates: install OpenSSH's server, or run \
                 `stackferry serve` there (route `endpoint`)",
                refusal.server()
            ));
        }
        if !refusal.accepts_keys() {
            hint.push("it does not accept keys: set `PubkeyAuthentication yes` in its sshd_config".to_owned());
        }
        hint.push(format!(
            "authorized_keys of {user} there needs the line\n{}\nIf the line is there, one of these is the cause",
            self.authority.authorized_keys_line(user)
        ));
        hint.push(format!(
            "- the clocks of the two machines: they must not differ by more than a minute; it is {} here",
            Timestamp::now().strftime("%Y-%m-%d %H:%M:%S UTC")
        ));
        hint.push(match &self.host.source_address {
            SourceAddress::Connection if is_link_local(local) => "- an address: the certificate is valid from any".to_owned(),
            SourceAddress::Connection => format!(
                "- an address: the certificate is valid from {local} only. Where something in between translates addresses \
                 (NAT), set `source_address` of this datastore to what the host sees"
            ),
            SourceAddress::Given(list) => {
                format!("- an address: the certificate is valid from {list} only (`source_address`)")
            }
            SourceAddress::Any => "- an address: `source_address` is \"any\", and `from=` in authorized_keys still counts".to_owned(),
        });
        hint.push(SSHD_CONFIG.to_owned());
        hint.push(format!(
            "- the account: {user} is expired or locked, or its home may be written by others (`StrictModes`)"
        ));
        hint.push("- the line: `principals` names another user, or the line is broken in two".to_owned());
        let server = refusal.server();
        if !server.is_empty() {
            hint.push(format!("its SSH server: {server}"));
        }
        hint.join(".\n")
    }
}

fn is_link_local(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local())
}
