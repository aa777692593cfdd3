use std::io;
use std::ops::Range;
use std::sync::Arc;

use super::*;
use crate::io::HoleMapSource;

/// A file in memory.
#[derive(Clone)]
struct Bytes(Arc<Vec<u8>>);

impl Source for Bytes {
    fn bytes(&self) -> u64 {
        self.0.len() as u64
    }
    fn next_data(&self, from: u64) -> io::Result<Option<Range<u64>>> {
        Ok(Some(from..self.bytes()))
    }
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        let start = usize::try_from(offset).unwrap();
        let from = self.0.get(start..start + buf.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        buf.copy_from_slice(from);
        Ok(())
    }
    fn hole_map(&self) -> HoleMapSource {
        HoleMapSource::None
    }
}

fn descriptor(extents: &str) -> Descriptor {
    let text = format!(
        "# Disk DescriptorFile\nversion=1\nCID=fffffffe\nparentCID=ffffffff\ncreateType=\"vmfs\"\n{extents}\n\
         ddb.adapterType = \"lsilogic\"\n"
    );
    Descriptor::parse(text.as_bytes(), &FileName::new("Office.vmdk").unwrap()).unwrap()
}

/// A disk of so many sectors in one file.
fn look_at(disk: Vec<u8>) -> Result<Content, ContentError> {
    let described = descriptor(&format!("RW {} VMFS \"Office-flat.vmdk\"", disk.len() / 512));
    let file = Bytes(Arc::new(disk));
    look(&described, |_| Ok(file.clone()))
}

fn with_table(sectors: usize, entries: &[(u8, u32, u32)]) -> Vec<u8> {
    let mut disk = vec![0; sectors * 512];
    for (at, (kind, start, count)) in entries.iter().enumerate() {
        let entry = &mut disk[446 + 16 * at..462 + 16 * at];
        entry[4] = *kind;
        entry[8..12].copy_from_slice(&start.to_le_bytes());
        entry[12..16].copy_from_slice(&count.to_le_bytes());
    }
    disk[510..512].copy_from_slice(&[0x55, 0xaa]);
    disk
}

fn put(disk: &mut [u8], at: usize, bytes: &[u8]) {
    disk[at..at + bytes.len()].copy_from_slice(bytes);
}

/// What is told of it, good or bad.
fn told(disk: Vec<u8>) -> String {
    match look_at(disk) {
        Ok(content) => format!("ok: {content}"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn what_is_not_known_is_said_to_be_so() {
    assert_eq!(told(vec![0; 64 * 512]), "ok: an empty disk: nothing was ever written to it");
    let mut noise = vec![0; 64 * 512];
    noise[100] = 1;
    assert_eq!(told(noise), "ok: no partition table and no file system that is known here");
    assert_eq!(told(with_table(64, &[])), "ok: a partition table without partitions");
    assert_eq!(told(with_table(64, &[(0x83, 8, 50)])), "ok: partition 1: a partition of type 0x83");
    assert_eq!(told(with_table(64, &[(7, 8, 50)])), "ok: partition 1: not formatted");
    for (name, shown) in [(&b"-FVE-FS-"[..], "encrypted by BitLocker"), (b"EXFAT   ", "exFAT"), (b"ReFS", "ReFS")] {
        let mut disk = with_table(64, &[(0, 0, 0), (7, 8, 50)]);
        put(&mut disk, 8 * 512 + 3, name);
        assert_eq!(told(disk), format!("ok: partition 2: {shown}"));
    }
}

#[test]
fn a_disk_that_no_machine_could_use_is_found_out() {
    assert_eq!(
        told(with_table(64, &[(7, 8, 57)])),
        "the partition table: partition 1 goes from sector 8 to 64; the disk has 64 sectors"
    );
    assert!(told(with_table(64, &[(7, 0, 8)])).contains("goes from sector 0"), "it would begin with the table itself");
    let mut disk = with_table(64, &[(7, 8, 50)]);
    disk[8 * 512] = 1;
    assert_eq!(
        told(disk),
        "partition 1: the table says that Windows uses it, but it does not begin with a boot sector"
    );
    let mut disk = with_table(64, &[(7, 8, 50)]);
    put(&mut disk, 8 * 512 + 3, b"NTFS    ");
    assert!(told(disk).starts_with("partition 1: its NTFS can't be read: "));
}

#[test]
fn a_gpt_is_read_through_the_table_that_points_to_it() {
    let mut disk = with_table(200, &[(0xee, 1, 199)]);
    assert_eq!(told(disk.clone()), "the partition table: the first sector points to a GPT that is not there");
    put(&mut disk, 512, b"EFI PART");
    put(&mut disk, 512 + 72, &2u64.to_le_bytes());
    put(&mut disk, 512 + 80, &128u32.to_le_bytes());
    put(&mut disk, 512 + 84, &128u32.to_le_bytes());
    assert_eq!(told(disk.clone()), "ok: a partition table without partitions");
    let third = 2 * 512 + 2 * 128;
    put(&mut disk, third, &partition_type());
    put(&mut disk, third + 32, &64u64.to_le_bytes());
    put(&mut disk, third + 40, &150u64.to_le_bytes());
    put(&mut disk, 64 * 512 + 3, b"EXFAT   ");
    assert_eq!(told(disk.clone()), "ok: partition 3: exFAT");
    put(&mut disk, third + 40, &u64::MAX.to_le_bytes());
    assert!(told(disk.clone()).contains("partition 3 goes from sector 64 to 18446744073709551615"));
    put(&mut disk, 512 + 72, &u64::MAX.to_le_bytes());
    assert!(told(disk).contains("beyond the end of the disk"));
}

fn partition_type() -> [u8; 16] {
    [0xa2, 0xa0, 0xd0, 0xeb, 0xe5, 0xb9, 0x33, 0x44, 0x87, 0xc0, 0x68, 0xb6, 0xb7, 0x26, 0x99, 0xc7]
}

#[test]
fn a_disk_is_its_extents_one_after_the_other() {
    let whole = {
        let mut disk = with_table(64, &[(7, 31, 33)]);
        put(&mut disk, 31 * 512 + 3, b"EXFAT   ");
        disk
    };
    // The sector at the seam belongs to the second piece, which begins in the middle of its file.
    let described = descriptor("RW 31 FLAT \"a.vmdk\" 0\nRW 30 FLAT \"b.vmdk\" 2\nRW 3 ZERO");
    let one = Bytes(Arc::new(whole[..31 * 512].to_vec()));
    let two = Bytes(Arc::new([&[9; 1024], &whole[31 * 512..61 * 512]].concat()));
    let open = |name: &FileName| Ok(if name.as_str() == "a.vmdk" { one.clone() } else { two.clone() });
    assert_eq!(look(&described, open).unwrap().to_string(), "partition 1: exFAT");

    let short = Bytes(Arc::new(vec![0; 31 * 512]));
    let error = look(&described, |_| Ok(short.clone())).unwrap_err().to_string();
    assert_eq!(error, "b.vmdk: it has 15872 bytes; the disk needs 16384");
    let error = look(&described, |_| Err::<Bytes, _>(io::ErrorKind::NotFound.into())).unwrap_err().to_string();
    assert!(error.starts_with("a.vmdk: it can't be opened"), "{error}");
}

mod any {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Whatever lies on the disk is told of, and never ends the program.
        #[test]
        fn content_is_survived(
            seed in prop::collection::vec(any::<u8>(), 512..4096),
            table in any::<bool>(),
            boot in prop::sample::select(vec![&b"NTFS    "[..], b"EXFAT   ", b"junk"]),
        ) {
            let mut disk = with_table(128, &[(7, 8, 100)]);
            if !table {
                disk[510] = 0;
            }
            put(&mut disk, 8 * 512, &seed);
            // A plausible geometry gets further than noise does.
            put(&mut disk, 8 * 512 + 3, boot);
            put(&mut disk, 8 * 512 + 11, &[0, 2, 8]);
            put(&mut disk, 8 * 512 + 40, &[90, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0xf6]);
            let text = told(disk);
            prop_assert!(!text.chars().any(char::is_control), "{text}");
        }
    }
}
