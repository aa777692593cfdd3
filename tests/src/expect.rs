//! What Stackferry should think of each thing that the lab makes.

use std::fmt;

/// How a volume should be classified.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expect {
    /// It can be copied.
    Protectable,
    /// It can be copied later; the reason code says why not now.
    Deferred(&'static str),
    /// It can never be copied as it is; the reason code says why.
    Unprotectable(&'static str),
}

impl Expect {
    /// The descriptor or its extents can't be trusted.
    pub const BAD_DESCRIPTOR: Expect = Expect::Unprotectable("bad_descriptor");
    /// The descriptor or an extent is not there.
    pub const MISSING: Expect = Expect::Unprotectable("missing");
    /// A disk format whose bytes are not in plain extents, or that hangs on a parent.
    pub const UNSUPPORTED: Expect = Expect::Unprotectable("unsupported_disk");
    /// The bytes are in an object of vSAN.
    pub const VSAN_ONLY: Expect = Expect::Unprotectable("vsan_only");
    /// A copy that App Volumes' own backup made.
    pub const OWN_BACKUP: Expect = Expect::Unprotectable("app_volumes_backup");
    /// The extent is locked by a host.
    pub const LOCKED: Expect = Expect::Deferred("locked");

    /// The reason code, if it can't be copied now.
    #[must_use]
    pub fn reason(self) -> Option<&'static str> {
        match self {
            Expect::Protectable => None,
            Expect::Deferred(code) | Expect::Unprotectable(code) => Some(code),
        }
    }

    /// Whether it can be copied, now or later.
    #[must_use]
    pub fn protectable(self) -> bool {
        !matches!(self, Expect::Unprotectable(_))
    }
}

impl fmt::Display for Expect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Expect::Protectable => f.pad("yes"),
            Expect::Deferred(code) => f.pad(&format!("later: {code}")),
            Expect::Unprotectable(code) => f.pad(&format!("no: {code}")),
        }
    }
}
