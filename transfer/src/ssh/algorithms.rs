//! The algorithms offered, in order of preference.

use std::borrow::Cow;

use russh::keys::ssh_key::Algorithm;
use russh::{Preferred, cipher, compression};

use crate::known_hosts::KnownTypes;

/// Algorithms, in our order: AES-GCM first, since it is as fast as memory where the CPU has AES, while russh's own
/// order begins with ChaCha20, at half of that and less.
pub(crate) fn preferred() -> Preferred {
    // Without its feature `rsa` the library still requests such a key, and then can't check its signature.
    let usable = |key: &&Algorithm| cfg!(feature = "rsa") || !matches!(key, Algorithm::Rsa { .. });
    let defaults = Preferred::default();
    Preferred {
        key: Cow::Owned(defaults.key.iter().filter(usable).cloned().collect()),
        cipher: Cow::Borrowed(&[
            cipher::AES_128_GCM,
            cipher::AES_256_GCM,
            cipher::CHACHA20_POLY1305,
            cipher::AES_256_CTR,
            cipher::AES_128_CTR,
        ]),
        compression: Cow::Borrowed(&[compression::NONE]),
        ..defaults
    }
}

/// The same, with the host's known key types first, and its certificates where their authority is known, as OpenSSH does.
pub(super) fn preferred_of(known: &KnownTypes) -> Preferred {
    let mut preferred = preferred();
    let rsa = |algorithm: &Algorithm| matches!(algorithm, Algorithm::Rsa { .. });
    let is_known = |wanted: &Algorithm| known.keys.iter().any(|known| known == wanted || (rsa(known) && rsa(wanted)));
    preferred.key.to_mut().sort_by_key(|algorithm| !is_known(algorithm));
    if known.has_authority {
        preferred.host_key_certificates = preferred.key.clone();
    }
    preferred
}
