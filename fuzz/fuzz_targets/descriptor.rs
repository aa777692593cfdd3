//! Any bytes as a descriptor: reading, judging and grouping never panic, and a disk that may be protected names only
//! plain files beside itself.

#![no_main]

use libfuzzer_sys::fuzz_target;
use stackferry_volume::descriptor::{Descriptor, ExtentFile, SECTOR_BYTES};
use stackferry_volume::{Entry, EntryKind, FileName, group};

fn entry(name: &str) -> Entry {
    Entry {
        name: name.to_owned(),
        utf8: true,
        kind: EntryKind::File,
        bytes: 1 << 20,
        allocated: None,
        mtime: Default::default(),
        changed: None,
        inode: None,
    }
}

fuzz_target!(|bytes: &[u8]| {
    let file = FileName::new("Office.vmdk").expect("a plain name");
    let disk = match Descriptor::parse(bytes, &file) {
        Ok(disk) => disk,
        Err(error) => {
            assert!(!error.to_string().chars().any(char::is_control), "{error:?}");
            let _ = error.unprotectable();
            return;
        }
    };
    let _ = (disk.summary(), disk.thin());
    if disk.protectable().is_ok() {
        let sum: u64 = disk.extents.iter().map(|extent| extent.sectors * SECTOR_BYTES).sum();
        assert_eq!(sum, disk.logical_bytes());
        for extent in &disk.extents {
            match &extent.file {
                Some(ExtentFile::Beside(name)) => {
                    assert!(!name.as_str().contains(['/', '\\']) && *name != file && name.as_str() != "manifest.json");
                }
                Some(other) => panic!("{other:?} may be protected"),
                None => {}
            }
        }
    }
    let mut entries =
        vec![entry("Office.vmdk"), entry("Office-flat.vmdk"), entry("Other.vmdk"), entry("Other-flat.vmdk")];
    entries.extend(disk.extent_files().iter().take(8).map(|name| entry(name.as_str())));
    entries.dedup_by(|one, two| one.name == two.name);
    let names = group::Names::of(&entries);
    let _ = disk.check_with(|name| names.find(name));
    let found = group::candidates(&entries);
    let reading = |name: &FileName| match *name == file {
        true => group::DescriptorReading::Descriptor(&disk),
        false => group::DescriptorReading::Unread,
    };
    let read: Vec<group::DescriptorReading<'_>> = found.descriptors.iter().map(|candidate| reading(&candidate.name)).collect();
    let _ = group::to_read_too(&entries, &found.descriptors, &read);
    let assigned = group::assign(&entries, &found.descriptors, &read);
    let grouped = assigned.groups.iter().map(|group| group.files.len()).sum::<usize>();
    let lost = assigned.orphans.iter().map(|orphan| orphan.files.len()).sum::<usize>();
    assert_eq!(grouped + lost + assigned.left_out.len() + assigned.unassigned.len() + found.rejected.len(), entries.len());
});
