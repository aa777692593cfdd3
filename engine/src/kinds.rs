//! The configuration's word for a kind of volume, and everybody else's.

use stackferry_volume::Kind;

/// The configuration's word for a kind, as the other rooms know it.
#[must_use]
pub fn from_config(kind: stackferry_config::KindKey) -> Kind {
    match kind {
        stackferry_config::KindKey::Appstack => Kind::Appstack,
        stackferry_config::KindKey::Package => Kind::Package,
        stackferry_config::KindKey::Writable => Kind::Writable,
        stackferry_config::KindKey::Template => Kind::Template,
        stackferry_config::KindKey::Image => Kind::Image,
    }
}

/// A kind as the configuration knows it.
#[must_use]
pub fn config_kind(kind: Kind) -> stackferry_config::KindKey {
    match kind {
        Kind::Appstack => stackferry_config::KindKey::Appstack,
        Kind::Package => stackferry_config::KindKey::Package,
        Kind::Writable => stackferry_config::KindKey::Writable,
        Kind::Template => stackferry_config::KindKey::Template,
        Kind::Image => stackferry_config::KindKey::Image,
    }
}
