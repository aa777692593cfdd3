//! How large a site is.

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// The size of a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DiskSize {
    /// Its logical size, in bytes; a multiple of 512.
    pub bytes: u64,
    /// How much data is on it, in bytes.
    pub data: u64,
}

/// A site to be built.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SitePlan {
    /// What all content and all ids derive from.
    pub seed: u64,
    /// The AppStack `Office`, which is on both datastores.
    pub office: DiskSize,
    /// Each other AppStack and package.
    pub application: DiskSize,
    /// Each writable and each template.
    pub writable: DiskSize,
    /// How many more users have a writable on `nfs01`, beside the named ones.
    pub more_writables: u32,
    /// External tools may be used: a real NTFS on `Office`, real disks of foreign formats. Without them the site is
    /// the same, byte for byte, on every machine.
    pub tools: bool,
}

impl SitePlan {
    /// Some 10s of MiB of data on disks of realistic shape; built within two seconds, without external tools.
    #[must_use]
    pub fn small() -> Self {
        Self {
            seed: 1,
            office: DiskSize { bytes: 2 * GIB, data: 12 * MIB },
            application: DiskSize { bytes: 512 * MIB, data: 2 * MIB },
            writable: DiskSize { bytes: 256 * MIB, data: 768 * KIB },
            more_writables: 0,
            tools: false,
        }
    }

    /// `Office` is a thin disk of 20 GiB with 2 GiB in a real NTFS; the others are larger than in the small plan.
    #[must_use]
    pub fn large() -> Self {
        Self {
            seed: 2,
            office: DiskSize { bytes: 20 * GIB, data: 2 * GIB },
            application: DiskSize { bytes: 20 * GIB, data: 64 * MIB },
            writable: DiskSize { bytes: 10 * GIB, data: 16 * MIB },
            more_writables: 0,
            tools: true,
        }
    }
}
