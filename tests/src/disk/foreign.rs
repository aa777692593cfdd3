//! Disks that are healthy but whose files can't be copied as they are: other formats, objects, children of a parent.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use super::content::{RandomStream, Texture, fill};
use super::descriptor::{DescriptorSpec, SECTOR};
use crate::check::write_new;
use crate::error::{IoContext, LabError};
use crate::expect::Expect;
use crate::tools::{available, run};

/// The sectors of a grain.
const GRAIN: u64 = 128;

/// A format that Stackferry lists but does not copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Foreign {
    /// Workstation's growing disk: one binary file.
    MonolithicSparse,
    /// The format of OVA files: one binary, compressed file.
    StreamOptimized,
    /// A space-efficient snapshot on VMFS6.
    SeSparse,
    /// A snapshot's redo log on VMFS5.
    VmfsSparse,
    /// A disk whose extent is an object of vSAN.
    Vsan,
    /// A disk whose extent is an object of a vVol array.
    Vvol,
    /// A flat disk that hangs on a parent.
    Child,
}

/// What was built.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Made {
    /// The file that a listing takes for a disk.
    pub path: PathBuf,
    /// All files, `path` among them.
    pub files: Vec<PathBuf>,
    /// What Stackferry should think of it.
    pub expect: Expect,
}

impl Foreign {
    /// All of them.
    pub const ALL: [Foreign; 7] = [
        Foreign::MonolithicSparse,
        Foreign::StreamOptimized,
        Foreign::SeSparse,
        Foreign::VmfsSparse,
        Foreign::Vsan,
        Foreign::Vvol,
        Foreign::Child,
    ];

    /// What Stackferry should think of it.
    #[must_use]
    pub fn expect(self) -> Expect {
        match self {
            Foreign::Vsan | Foreign::Vvol => Expect::VSAN_ONLY,
            _ => Expect::UNSUPPORTED,
        }
    }

    /// Builds one. `tools` lets `qemu-img` make those formats that it can write.
    ///
    /// # Errors
    /// The folder can't be written, or `qemu-img` failed.
    pub fn build(self, folder: &Path, stem: &str, bytes: u64, seed: u64, tools: bool) -> Result<Made, LabError> {
        let path = folder.join(format!("{stem}.vmdk"));
        let sectors = bytes / SECTOR;
        let mut files = vec![path.clone()];
        let describe = |create_type| DescriptorSpec::new(create_type, seed, stem);
        let uuid = || hex(&RandomStream::new(seed, stem).bytes::<16>());
        let mut with_extent = |descriptor: DescriptorSpec, head: &[u8], length: u64| -> Result<(), LabError> {
            write_new(&path, descriptor.render().as_bytes())?;
            for line in &descriptor.extents {
                let extent = folder.join(&line.target);
                write_new(&extent, head)?;
                fs::File::options()
                    .write(true)
                    .open(&extent)
                    .and_then(|file| file.set_len(length))
                    .at("size", &extent)?;
                files.push(extent);
            }
            Ok(())
        };
        match self {
            Foreign::MonolithicSparse => binary(&path, "monolithicSparse", bytes, seed, tools)?,
            Foreign::StreamOptimized => binary(&path, "streamOptimized", bytes, seed, tools)?,
            Foreign::SeSparse => {
                let mut descriptor =
                    describe("seSparse").extent(sectors, "SESPARSE", format!("{stem}-000001-sesparse.vmdk"), None);
                descriptor.parent = Some((0x1234_abcd, "base.vmdk".to_owned()));
                // The constant header's magic and version 2.1, as QEMU's block/vmdk.c knows them.
                let head = [0xcafe_babe_u64.to_le_bytes(), 0x0000_0002_0000_0001_u64.to_le_bytes()].concat();
                with_extent(descriptor, &head, 64 << 10)?;
            }
            Foreign::VmfsSparse => {
                let mut descriptor =
                    describe("vmfsSparse").extent(sectors, "VMFSSPARSE", format!("{stem}-000001-delta.vmdk"), None);
                descriptor.parent = Some((0x1234_abcd, "base.vmdk".to_owned()));
                with_extent(descriptor, b"COWD\x01\0\0\0", 64 << 10)?;
            }
            Foreign::Vsan => {
                let target = format!("vsan://{}", dashed(&uuid(), &[8, 12, 16, 20]));
                write_new(&path, describe("vmfs").extent(sectors, "VMFS", target, None).render().as_bytes())?;
            }
            Foreign::Vvol => {
                let target = format!("vvol://rfc4122.{}", dashed(&uuid(), &[8, 12, 16, 20]));
                write_new(&path, describe("vmfs").extent(sectors, "VMFS", target, None).render().as_bytes())?;
            }
            Foreign::Child => {
                let mut descriptor = describe("vmfs").extent(sectors, "VMFS", format!("{stem}-flat.vmdk"), None);
                descriptor.parent = Some((0x1234_abcd, "base.vmdk".to_owned()));
                with_extent(descriptor, &[], bytes)?;
            }
        }
        Ok(Made { path, files, expect: self.expect() })
    }
}

/// A disk in one binary file: a real one by `qemu-img`, else header and descriptor without grains.
fn binary(path: &Path, create_type: &'static str, bytes: u64, seed: u64, tools: bool) -> Result<(), LabError> {
    if !(tools && available().qemu_img) {
        return write_new(path, &sparse_header(path, create_type, bytes, seed));
    }
    let work = tempfile::tempdir().at("make a folder in", &std::env::temp_dir())?;
    let raw = work.path().join("raw");
    let mut data = vec![0; 256 << 10];
    fill(seed, create_type, Texture::Text, 0, &mut data);
    write_new(&raw, &data)?;
    fs::File::options().write(true).open(&raw).and_then(|file| file.set_len(bytes)).at("size", &raw)?;
    let option = format!("subformat={create_type}");
    let args = ["convert", "-f", "raw", "-O", "vmdk", "-o", &option].map(OsStr::new);
    run("qemu-img", &[args.as_slice(), &[raw.as_os_str(), path.as_os_str()]].concat()).map(drop)
}

/// The header of a hosted sparse extent with its embedded descriptor ("Virtual Disk Format 5.0", page 8).
fn sparse_header(path: &Path, create_type: &'static str, bytes: u64, seed: u64) -> Vec<u8> {
    let stream = create_type == "streamOptimized";
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let text =
        DescriptorSpec::new(create_type, seed, &name).extent(bytes / SECTOR, "SPARSE", name.clone(), None).render();
    let mut file = b"KDMV".to_vec();
    file.extend(if stream { 3_u32 } else { 1 }.to_le_bytes());
    // Newline test and redundant grain table; compressed grains and markers.
    file.extend(if stream { 0x0003_0001_u32 } else { 3 }.to_le_bytes());
    // Capacity, grain; where the descriptor is and how long; entries of a grain table; redundant and first grain
    // directory; overhead. All but the count in sectors.
    for number in [bytes / SECTOR, GRAIN, 1, 20] {
        file.extend(number.to_le_bytes());
    }
    file.extend(512_u32.to_le_bytes());
    for number in [21, if stream { u64::MAX } else { 26 }, GRAIN] {
        file.extend(number.to_le_bytes());
    }
    file.extend(b"\0\n \r\n");
    file.extend(u16::from(stream).to_le_bytes());
    file.resize(512, 0);
    file.extend(text.as_bytes());
    file.resize(64 << 10, 0);
    file
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn dashed(text: &str, before: &[usize]) -> String {
    text.char_indices().flat_map(|(at, c)| before.contains(&at).then_some('-').into_iter().chain([c])).collect()
}
