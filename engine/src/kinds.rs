//! The configuration's word for a kind of volume, and everybody else's.

use stackferry_volume::Kind;

/// The configuration's word for a kind, as the other rooms know it.
#[must_use]
pub fn from_config(kind: stackferry_config::Kind) -> Kind {
    match kind {
        stackferry_config::Kind::Appstack => Kind::Appstack,
        stackferry_config::Kind::Package => Kind::Package,
        stackferry_config::Kind::Writable => Kind::Writable,
        stackferry_config::Kind::Template => Kind::Template,
        stackferry_config::Kind::Image => Kind::Image,
    }
}

/// A kind as the configuration knows it.
#[must_use]
pub fn config_kind(kind: Kind) -> stackferry_config::Kind {
    match kind {
        Kind::Appstack => stackferry_config::Kind::Appstack,
        Kind::Package => stackferry_config::Kind::Package,
        Kind::Writable => stackferry_config::Kind::Writable,
        Kind::Template => stackferry_config::Kind::Template,
        Kind::Image => stackferry_config::Kind::Image,
    }
}
