//! Descriptors that are broken, hostile, or only look so. A program that trusts one of them copies the wrong bytes,
//! reads what it must not, hangs, or falls over.

use std::os::unix::fs::symlink;
use std::path::Path;

use rustix::fs::{FileType, Mode};

use super::content::RandomStream;
use super::descriptor::{DescriptorSpec, SECTOR};
use super::foreign::Made;
use crate::check::{new_file, write_new};
use crate::error::{IoContext, LabError};
use crate::expect::Expect;

/// A way to be broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Broken {
    /// Cut off in the middle of the extent's line.
    Truncated,
    /// Random bytes.
    Garbage,
    /// UTF-16 with a byte order mark, as an editor of Windows saves it.
    Utf16,
    /// Lines end with CR LF: valid.
    Crlf,
    /// A NUL in the extent's name.
    Nul,
    /// An extent outside the folder, by `..`.
    LeavesFolder,
    /// An extent with an absolute path.
    AbsolutePath,
    /// Two extents that share a part of one file.
    Overlapping,
    /// An extent that is longer than its file.
    TooLong,
    /// A text header on a sparse file of 3 GB.
    Huge,
    /// The extent's file is not there.
    MissingExtent,
    /// Nothing in it.
    Empty,
    /// No extent's line.
    NoExtents,
    /// Sectors whose bytes do not fit into 64 bits.
    Overflow,
    /// The extent's file is a symbolic link to a file outside the folder.
    Symlink,
    /// The extent's file is a FIFO: who opens it to read, waits for ever.
    Fifo,
}

impl Broken {
    /// All of them.
    pub const ALL: [Broken; 16] = [
        Broken::Truncated,
        Broken::Garbage,
        Broken::Utf16,
        Broken::Crlf,
        Broken::Nul,
        Broken::LeavesFolder,
        Broken::AbsolutePath,
        Broken::Overlapping,
        Broken::TooLong,
        Broken::Huge,
        Broken::MissingExtent,
        Broken::Empty,
        Broken::NoExtents,
        Broken::Overflow,
        Broken::Symlink,
        Broken::Fifo,
    ];

    /// What Stackferry should think of it.
    #[must_use]
    pub fn expect(self) -> Expect {
        match self {
            Broken::Crlf => Expect::Protectable,
            Broken::MissingExtent => Expect::MISSING,
            _ => Expect::BAD_DESCRIPTOR,
        }
    }

    /// Builds one of `bytes` logical size: the descriptor and, where it helps the disguise, a sparse extent.
    ///
    /// # Errors
    /// The folder can't be written.
    pub fn build(self, folder: &Path, stem: &str, bytes: u64, seed: u64) -> Result<Made, LabError> {
        let path = folder.join(format!("{stem}.vmdk"));
        let flat_name = format!("{stem}-flat.vmdk");
        let flat = folder.join(&flat_name);
        let sectors = bytes / SECTOR;
        let empty = || DescriptorSpec::new("vmfs", seed, stem);
        let to = |target: &str| empty().extent(sectors, "VMFS", target, None).render().into_bytes();
        let good = || to(&flat_name);

        let text = match self {
            Broken::Truncated => {
                let mut text = good();
                let cut = text.windows(3).position(|three| three == b"RW ").map_or(0, |at| at + 6);
                text.truncate(cut);
                text
            }
            Broken::Garbage => RandomStream::new(seed, stem).bytes::<4096>().to_vec(),
            Broken::Utf16 => {
                let units = [0xfeff].into_iter().chain(
                    empty().extent(sectors, "VMFS", &flat_name, None).render().encode_utf16().collect::<Vec<_>>(),
                );
                units.flat_map(u16::to_le_bytes).collect()
            }
            Broken::Crlf => {
                let mut descriptor = empty().extent(sectors, "VMFS", &flat_name, None);
                descriptor.crlf = true;
                descriptor.render().into_bytes()
            }
            Broken::Nul => to(&format!("{stem}\0-flat.vmdk")),
            Broken::LeavesFolder => to("../../etc/shadow"),
            Broken::AbsolutePath => to("/etc/shadow"),
            Broken::Overlapping => DescriptorSpec::new("monolithicFlat", seed, stem)
                .extent(sectors, "FLAT", &flat_name, Some(0))
                .extent(sectors, "FLAT", &flat_name, Some(sectors / 2))
                .render()
                .into_bytes(),
            Broken::TooLong => empty().extent(sectors + 1, "VMFS", &flat_name, None).render().into_bytes(),
            Broken::Empty => Vec::new(),
            Broken::NoExtents => empty().render().into_bytes(),
            Broken::Overflow => empty().extent(u64::MAX, "VMFS", &flat_name, None).render().into_bytes(),
            Broken::Huge | Broken::MissingExtent | Broken::Symlink | Broken::Fifo => good(),
        };
        write_new(&path, &text)?;
        if self == Broken::Huge {
            let file = std::fs::File::options().write(true).open(&path).at("open", &path)?;
            file.set_len(3_000_000_000).at("size", &path)?;
        }

        match self {
            Broken::MissingExtent => return Ok(Made { files: vec![path.clone()], path, expect: self.expect() }),
            Broken::Symlink => symlink("/etc/passwd", &flat).at("link", &flat)?,
            Broken::Fifo => {
                rustix::fs::mknodat(rustix::fs::CWD, &flat, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0)
                    .at("make", &flat)?;
            }
            Broken::Overlapping => new_file(&flat)?.set_len(bytes * 2).at("size", &flat)?,
            _ => new_file(&flat)?.set_len(bytes).at("size", &flat)?,
        }
        Ok(Made { files: vec![path.clone(), flat], path, expect: self.expect() })
    }
}
