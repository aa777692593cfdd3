//! Maps the library's errors to ours.

use std::io;

use russh::AlgorithmKind;

use super::{KEEPALIVE, KEEPALIVES};
use crate::error::TransferError;
use crate::sanitize::clean;

fn keepalive_timeout(address: &str) -> TransferError {
    let after = KEEPALIVE.saturating_mul(u32::try_from(KEEPALIVES).unwrap_or(1));
    TransferError::Stalled { host: address.to_owned(), doing: "answering keepalives", after }
}

/// Maps the library's errors to ours. Its texts hold no secrets: they name algorithms, channels and I/O errors.
pub(crate) fn explain(address: &str, error: russh::Error) -> TransferError {
    let unreachable = |source| TransferError::Unreachable { host: address.to_owned(), source };
    match error {
        russh::Error::IO(source) => unreachable(source),
        russh::Error::Disconnect | russh::Error::HUP | russh::Error::SendError | russh::Error::RecvError => {
            unreachable(io::Error::new(io::ErrorKind::ConnectionReset, "the connection ended"))
        }
        russh::Error::KeepaliveTimeout | russh::Error::InactivityTimeout | russh::Error::ConnectionTimeout => {
            keepalive_timeout(address)
        }
        russh::Error::NoCommonAlgo { kind, theirs, .. } => no_common(address, kind, &theirs),
        // The peer does not send this itself: a bad cable or card, or tampering in between.
        russh::Error::PacketAuth
        | russh::Error::DecryptionError
        | russh::Error::WrongServerSig
        | russh::Error::PacketSize(_) => {
            let what = format!("the data was changed in transit ({error})");
            unreachable(io::Error::new(io::ErrorKind::InvalidData, what))
        }
        other => TransferError::protocol(address, clean(&other.to_string())),
    }
}

/// The host and this program have no algorithm in common.
fn no_common(address: &str, kind: AlgorithmKind, theirs: &[String]) -> TransferError {
    let list = clean(&theirs.join(", "));
    let (thing, hint) = match kind {
        AlgorithmKind::Key if theirs.iter().all(|name| name.contains("rsa") || name.starts_with("ssh-dss")) => (
            "type of host key",
            "give it an Ed25519 host key (`ssh-keygen -A` there, then restart its SSH server), or use a stackferry that \
             was built with the feature `rsa`",
        ),
        AlgorithmKind::Key => ("type of host key", "give it an Ed25519 host key (`ssh-keygen -A` there)"),
        AlgorithmKind::Kex => ("key exchange", "allow curve25519-sha256 in `KexAlgorithms` of its sshd_config"),
        AlgorithmKind::Cipher => ("cipher", "allow aes128-gcm@openssh.com in `Ciphers` of its sshd_config"),
        AlgorithmKind::Mac => ("MAC", "allow hmac-sha2-256-etm@openssh.com in `MACs` of its sshd_config"),
        AlgorithmKind::Compression => ("compression", "allow none in `Compression` of its sshd_config"),
    };
    let what = format!("it offers no {thing} that this program uses, only {list}");
    TransferError::Unfit { host: address.to_owned(), what, hint: hint.to_owned() }
}
