//! The boot sector of an NTFS.

use super::{NtfsError, damaged};
use crate::content::bytes::{u16_at, u64_at};

/// The longest clusters and records that any Windows makes are 2 MiB and 4 KiB.
const MAX_CLUSTER: u64 = 2 << 20;
const MAX_RECORD: u64 = 64 << 10;

/// How a file system is laid out.
pub(super) struct Geometry {
    /// The length of a cluster, in bytes.
    pub(super) cluster: u64,
    /// How many clusters there are.
    pub(super) clusters: u64,
    /// The length of a record of the master file table, in bytes.
    pub(super) record: u64,
    /// The cluster that the master file table begins with.
    pub(super) table: u64,
}

impl Geometry {
    /// What the boot sector of a partition of so many bytes says.
    pub(super) fn read(sector: &[u8; 512], partition: u64) -> Result<Self, NtfsError> {
        let byte = |at: usize| sector.get(at).copied().unwrap_or_default();
        let sector_bytes = u64::from(u16_at(sector, 11));
        if !sector_bytes.is_power_of_two() || !(256..=4096).contains(&sector_bytes) {
            return damaged(format!("its boot sector says that a sector has {sector_bytes} bytes"));
        }
        // Above 0x80 it is the negative of a power of two (Windows 10 1709 and later, for clusters above 64 KiB).
        let per_cluster = match byte(13) {
            direct @ 0..=0x80 => u64::from(direct),
            power => 1u64.checked_shl(u32::from(power.wrapping_neg())).unwrap_or_default(),
        };
        let cluster = sector_bytes.saturating_mul(per_cluster);
        if !cluster.is_power_of_two() || cluster > MAX_CLUSTER {
            return damaged(format!("its boot sector says that a cluster has {cluster} bytes"));
        }
        let record = match byte(64).cast_signed() {
            direct @ 1.. => u64::from(direct.unsigned_abs()).saturating_mul(cluster),
            power => 1u64.checked_shl(u32::from(power.unsigned_abs())).unwrap_or_default(),
        };
        if !record.is_power_of_two() || record < 512 {
            return damaged(format!("its boot sector says that a record has {record} bytes"));
        }
        if record > MAX_RECORD {
            return Err(NtfsError::Limit(format!("its records have {record} bytes")));
        }
        let bytes = u64_at(sector, 40).saturating_mul(sector_bytes);
        if bytes == 0 || bytes > partition {
            return damaged(format!("it says that it has {bytes} bytes, and there are {partition}"));
        }
        let (clusters, table) = (bytes / cluster, u64_at(sector, 48));
        if table == 0 || table >= clusters {
            return damaged("its boot sector says that the master file table lies outside of it");
        }
        Ok(Self { cluster, clusters, record, table })
    }
}
