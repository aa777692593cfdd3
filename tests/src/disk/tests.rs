use super::*;
use crate::check::same_bytes;
use crate::tools::{available, have, qemu_img_compare, qemu_img_info};

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

fn plain(stem: &str, bytes: u64, seed: u64, data: u64) -> DiskSpec {
    DiskSpec::new(stem, bytes, seed).content(DiskContent::Plain { bytes: data })
}

#[test]
fn the_same_seed_gives_the_same_disk() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let spec = plain("Office", 64 * MIB, 7, 3 * MIB).sidecar(Sidecar::Metadata);
    let a = TestDisk::build(one.path(), spec.clone()).unwrap();
    let b = TestDisk::build(two.path(), spec).unwrap();
    assert_eq!(a.files().len(), 3);
    for (a, b) in a.files().iter().zip(b.files()) {
        assert!(same_bytes(a, &b).unwrap(), "{}", a.display());
    }
    let other = TestDisk::build(one.path(), plain("Other", 64 * MIB, 8, 3 * MIB)).unwrap();
    assert!(!same_bytes(&a.extents()[0], &other.extents()[0]).unwrap());
    assert_ne!(a.cid(), other.cid());
    // A change in how content is made would show here.
    let digest = |disk: &TestDisk| blake3::hash(&fs::read(&disk.extents()[0]).unwrap()).to_hex().to_string();
    assert_eq!(digest(&a), "73e589e44c6373e79d7d1c6c40d0178915c00f0b52555e905f5c329a232d1b69");
    assert!(TestDisk::build(one.path(), a.spec().clone()).is_err(), "a disk was overwritten");
}

#[test]
fn a_large_sparse_disk_stores_only_its_data() {
    let folder = tempfile::tempdir().unwrap();
    let disk = TestDisk::build(folder.path(), plain("big", 20 * GIB, 1, 8 * MIB)).unwrap();
    assert_eq!(fs::metadata(&disk.extents()[0]).unwrap().len(), 20 * GIB);
    let allocated = disk.allocated().unwrap();
    assert!((8 * MIB..9 * MIB).contains(&allocated), "{allocated}");
    let ranges = crate::check::data_ranges(&File::open(&disk.extents()[0]).unwrap()).unwrap();
    assert!(ranges.len() > 4, "{ranges:?}");
    assert!(ranges.last().unwrap().start > 10 * GIB, "{ranges:?}");
}

#[test]
fn plain_content_fits_disks_of_any_size() {
    let folder = tempfile::tempdir().unwrap();
    for (number, bytes) in [512, 1000 * 512, MIB, MIB + 512, 2 * MIB + 512, 3 * MIB].into_iter().enumerate() {
        let disk = TestDisk::build(folder.path(), plain(&format!("d{number}"), bytes, 1, 10 * MIB)).unwrap();
        assert_eq!(fs::metadata(&disk.extents()[0]).unwrap().len(), bytes);
        assert!(disk.allocated().unwrap() > 0);
    }
    for bytes in [0, 511, 513] {
        assert!(matches!(TestDisk::build(folder.path(), plain("no", bytes, 1, 0)), Err(LabError::Plan { .. })));
    }
}

#[test]
fn every_extent_layout_holds_the_same_bytes_and_opens_in_qemu() {
    let folder = tempfile::tempdir().unwrap();
    let bytes = 10 * MIB + 512;
    let kinds = [
        ("vmfs", CreateType::Vmfs),
        ("monolithicFlat", CreateType::MonolithicFlat { offset: 0 }),
        ("monolithicFlat", CreateType::MonolithicFlat { offset: 128 }),
        ("twoGbMaxExtentFlat", CreateType::TwoGbMaxExtentFlat { sectors: 6000 }),
    ];
    let mut first: Option<TestDisk> = None;
    for (number, (name, create_type)) in kinds.into_iter().enumerate() {
        let disk =
            TestDisk::build(folder.path(), plain(&format!("d{number}"), bytes, 5, 2 * MIB).create_type(create_type))
                .unwrap();
        let extents = Extents::open(&disk.path(), false).unwrap();
        assert_eq!(extents.bytes(), bytes);
        if have(available().qemu_img, "qemu-img").unwrap() {
            let info = qemu_img_info(&disk.path()).unwrap();
            assert_eq!(info["format"], "vmdk");
            assert_eq!(info["virtual-size"], bytes);
            assert_eq!(info["format-specific"]["data"]["create-type"], name);
            assert_eq!(info["format-specific"]["data"]["cid"], disk.cid());
            if let Some(first) = &first {
                assert!(qemu_img_compare(&first.path(), &disk.path()).unwrap());
            }
        }
        if let Some(first) = &first {
            let read = |disk: &TestDisk| {
                let mut all = vec![0; usize::try_from(bytes).unwrap()];
                Extents::open(&disk.path(), false).unwrap().read(&mut all, 0).unwrap();
                all
            };
            assert!(read(first) == read(&disk));
        }
        first.get_or_insert(disk);
    }
    let count = |stem: &str| {
        fs::read_dir(folder.path())
            .unwrap()
            .filter(|e| e.as_ref().unwrap().file_name().to_string_lossy().starts_with(stem))
            .count()
    };
    assert_eq!(count("d3-f00"), 4);
}

#[test]
fn a_change_updates_content_cid_and_mtime() {
    let folder = tempfile::tempdir().unwrap();
    let mut disk = TestDisk::build(folder.path(), plain("CORP!5C!jdoe", 32 * MIB, 3, 2 * MIB)).unwrap();
    let before = disk.replicate(tempfile::tempdir_in(folder.path()).unwrap().keep().as_path()).unwrap();
    assert_eq!(modified(&before.path()).unwrap(), modified(&disk.path()).unwrap());
    for round in 0..3 {
        let (cid, times) = (disk.cid(), disk.times().unwrap());
        let (at, bytes) = (5 * MIB + 100, 1000);
        if round < 2 {
            disk.overwrite(round, at, bytes).unwrap();
            let first = crate::check::first_difference(&before.extents()[0], &disk.extents()[0]).unwrap().unwrap();
            assert!((at..at + bytes).contains(&first));
        } else {
            let allocated = disk.allocated().unwrap();
            disk.append_file("new", 9, MIB).unwrap();
            assert!(disk.allocated().unwrap() >= allocated + MIB);
        }
        assert_ne!(disk.cid(), cid);
        assert!(fs::read_to_string(disk.path()).unwrap().contains(&format!("CID={:08x}\n", disk.cid())));
        for ((path, before), (_, after)) in times.iter().zip(disk.times().unwrap()) {
            assert!(*before < after, "{}", path.display());
        }
    }
    assert!(disk.overwrite(1, 32 * MIB - 10, 11).is_err());
}

#[test]
fn files_written_to_an_ntfs_read_back_from_a_mount() {
    if !have(available().makes_ntfs() && available().mounts_ntfs(), "mkntfs, ntfs-3g or /dev/fuse").unwrap() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let splits = [CreateType::Vmfs, CreateType::TwoGbMaxExtentFlat { sectors: 40_000 }];
    for (number, create_type) in splits.into_iter().enumerate() {
        let total = 12 * MIB;
        let spec = DiskSpec::new(format!("n{number}"), 128 * MIB, 11).content(DiskContent::Ntfs { bytes: total });
        let mut disk = TestDisk::build(folder.path(), spec.create_type(create_type)).unwrap();
        assert!(disk.allocated().unwrap() < 40 * MIB);
        let files = mount_and_digest(&disk.path()).unwrap();
        let planned = ntfs::plan_files(11, total, Mix::default());
        assert_eq!(files.len(), planned.len());
        for file in &planned {
            let mut content = vec![0; usize::try_from(file.bytes).unwrap()];
            content::fill(11, &file.path, file.texture, 0, &mut content);
            assert!(files.contains(&(file.path.clone(), blake3::hash(&content))), "{}", file.path);
        }

        disk.append_file("Users/added later.bin", 4, 3 * MIB).unwrap();
        let more = mount_and_digest(&disk.path()).unwrap();
        assert_eq!(more.len(), files.len() + 1);
        assert!(files.iter().all(|file| more.contains(file)));
        assert!(more.iter().any(|(path, _)| path == "Users/added later.bin"));
        assert!(disk.append_file("Users/added later.bin", 4, 1).is_err(), "a file was overwritten");
    }
    // Nothing of the making is left beside the disks.
    assert!(
        fs::read_dir(folder.path()).unwrap().all(|entry| !entry
            .unwrap()
            .file_name()
            .to_string_lossy()
            .starts_with('.'))
    );
}

#[test]
fn a_panic_unmounts_the_file_system() {
    if !have(available().makes_ntfs() && available().mounts_ntfs(), "mkntfs, ntfs-3g or /dev/fuse").unwrap() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let disk =
        TestDisk::build(folder.path(), DiskSpec::new("p", 32 * MIB, 1).content(DiskContent::Ntfs { bytes: MIB }))
            .unwrap();
    let point = std::sync::Mutex::new(PathBuf::new());
    let result = std::panic::catch_unwind(|| {
        let mount = NtfsMount::disk(&disk.path()).unwrap();
        assert!(fs::write(mount.path().join("new"), b"x").is_err(), "mounted for writing");
        *point.lock().unwrap() = mount.path().to_owned();
        std::panic::panic_any("on purpose");
    });
    assert!(result.is_err());
    let point = point.lock().unwrap().clone();
    assert!(!point.as_os_str().is_empty() && !point.exists());
    let text = point.to_str().unwrap();
    assert!(!fs::read_to_string("/proc/mounts").unwrap().contains(text));
    // Its file can be used again, so no loop device of ours holds it.
    let loops = fs::read_dir("/sys/block").unwrap().map(|entry| entry.unwrap().path().join("loop/backing_file"));
    let held: Vec<String> = loops.filter_map(|path| fs::read_to_string(path).ok()).collect();
    assert!(!held.iter().any(|file| file.trim() == disk.extents()[0].to_str().unwrap()), "{held:?}");
}

#[test]
fn foreign_disks_are_valid_for_qemu() {
    let folder = tempfile::tempdir().unwrap();
    for (number, foreign) in Foreign::ALL.into_iter().enumerate() {
        for tools in [false, true] {
            let made = foreign.build(folder.path(), &format!("f{number}-{tools}"), 8 * MIB, 1, tools).unwrap();
            assert!(made.files.contains(&made.path) && made.files.iter().all(|file| file.exists()));
            assert!(!made.expect.protectable());
            let head = fs::read(&made.path).unwrap();
            let binary = matches!(foreign, Foreign::MonolithicSparse | Foreign::StreamOptimized);
            assert_eq!(head.starts_with(b"KDMV"), binary, "{foreign:?}");
            assert_eq!(head.starts_with(b"# Disk DescriptorFile\n"), !binary, "{foreign:?}");
            if binary && tools && available().qemu_img {
                assert_eq!(qemu_img_info(&made.path).unwrap()["virtual-size"], 8 * MIB);
            }
        }
    }
}

#[test]
fn each_broken_disk_has_its_own_defect() {
    let folder = tempfile::tempdir().unwrap();
    for broken in Broken::ALL {
        let stem = format!("{broken:?}");
        let made = broken.build(folder.path(), &stem, 4 * MIB, 1).unwrap();
        assert_eq!(made.path, folder.path().join(format!("{stem}.vmdk")));
        if matches!(broken, Broken::Fifo | Broken::Huge) {
            assert!(made.files.iter().all(|file| file.exists()));
            continue;
        }
        if !have(available().qemu_img, "qemu-img").unwrap() {
            continue;
        }
        // qemu-img judges the text alone: what hides in the folder it may accept.
        let accepted = qemu_img_info(&made.path).is_ok_and(|info| info["format"] == "vmdk");
        match broken {
            Broken::Crlf => assert!(accepted),
            Broken::Garbage | Broken::Utf16 | Broken::Empty | Broken::Truncated | Broken::MissingExtent => {
                assert!(!accepted, "{broken:?}");
            }
            _ => {}
        }
    }
    let huge = folder.path().join("Huge.vmdk");
    assert_eq!(fs::metadata(&huge).unwrap().len(), 3_000_000_000);
    assert!(crate::check::allocated_bytes(&huge).unwrap() < MIB);
}

#[test]
fn the_program_reads_ntfs_and_reports_a_missing_mft() {
    use stackferry_volume::FileName;
    use stackferry_volume::content::{self, Content as Seen, ContentState, FileSystem};
    use stackferry_volume::descriptor::Descriptor;
    use stackferry_volume::local::LocalSource;
    if !have(available().makes_ntfs(), "mkntfs").unwrap() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    for (number, create_type) in
        [CreateType::Vmfs, CreateType::TwoGbMaxExtentFlat { sectors: 40_000 }].into_iter().enumerate()
    {
        let spec = DiskSpec::new(format!("n{number}"), 64 * MIB, 5).content(DiskContent::Ntfs { bytes: 4 * MIB });
        let disk = TestDisk::build(folder.path(), spec.create_type(create_type)).unwrap();
        let name = FileName::new(disk.path().file_name().unwrap().to_str().unwrap()).unwrap();
        let descriptor = Descriptor::parse(&fs::read(disk.path()).unwrap(), &name).unwrap();
        let look = || {
            let open = |name: &FileName| LocalSource::new(fs::File::open(folder.path().join(name.as_str()))?);
            content::inspect(&descriptor, open).unwrap()
        };
        let Seen::Partitions(volumes) = look() else { panic!("no volumes") };
        let [volume] = &volumes[..] else { panic!("{volumes:?}") };
        let FileSystem::Ntfs { label, records, entries } = &volume.system else { panic!("{volume:?}") };
        assert!(volume.number == 1 && !label.is_empty() && *records > 12 && *entries > 12, "{volume:?}");

        // `mkntfs` puts the table at the fourth cluster of 4 KiB of the partition, which begins at 1 MiB.
        let first = fs::File::options().write(true).open(&disk.extents()[0]).unwrap();
        let wipe =
            |at: u64, bytes: usize| std::os::unix::fs::FileExt::write_all_at(&first, &vec![0; bytes], at).unwrap();
        wipe(MIB + 4 * 4096, 1024);
        let found = look();
        assert!(found.to_string().starts_with("partition 1: its NTFS can't be read: record 0"), "{found}");
        assert_eq!(found.state(), ContentState::Damaged);
        wipe(MIB, 512);
        assert_eq!(look().state(), ContentState::NotRecognised, "its boot sector is gone");
        wipe(0, 512);
        assert_eq!(look().state(), ContentState::NotRecognised, "its partition table is gone");
    }
}

/// An NTFS as `mkntfs` makes it with this length and these clusters, in a file that is a whole disk.
fn bare_ntfs(image: &Path, bytes: u64, cluster: &str) {
    use crate::tools::run;
    fs::File::create_new(image).unwrap().set_len(bytes).unwrap();
    let args = ["-F", "-q", "-Q", "-c", cluster, "-z", "1"].map(std::ffi::OsStr::new);
    run("mkntfs", &[&args[..], &[image.as_os_str()]].concat()).unwrap();
}

fn look_at_bare(image: &Path) -> stackferry_volume::content::Content {
    use stackferry_volume::FileName;
    use stackferry_volume::descriptor::Descriptor;
    use stackferry_volume::local::LocalSource;
    let sectors = fs::metadata(image).unwrap().len() / 512;
    let text = format!(
        "# Disk DescriptorFile\nversion=1\nCID=fffffffe\nparentCID=ffffffff\ncreateType=\"vmfs\"\n\
         RW {sectors} VMFS \"n-flat.vmdk\"\nddb.adapterType = \"lsilogic\"\n"
    );
    let descriptor = Descriptor::parse(text.as_bytes(), &FileName::new("n.vmdk").unwrap()).unwrap();
    stackferry_volume::content::inspect(&descriptor, |_| LocalSource::new(fs::File::open(image)?)).unwrap()
}

#[test]
fn every_cluster_size_is_reported_healthy() {
    use stackferry_volume::content::ContentState;
    if !have(available().mkntfs, "mkntfs").unwrap() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    for cluster in ["512", "1024", "8192", "65536", "2097152"] {
        let image = folder.path().join(cluster);
        bare_ntfs(&image, 128 * MIB, cluster);
        let found = look_at_bare(&image);
        assert_eq!(found.state(), ContentState::Healthy, "clusters of {cluster} bytes: {found}");
    }
}

/// Small files fill the disk, every third one goes, and empty ones take the table into the gaps: it is in so many pieces then
/// that its own record has no room for them.
#[test]
fn a_fragmented_mft_is_reported_healthy() {
    use std::io::ErrorKind;

    use stackferry_volume::content::{Content as Seen, ContentState, FileSystem};
    let tools = available();
    if !have(tools.mkntfs && tools.mounts_ntfs(), "mkntfs, ntfs-3g or /dev/fuse").unwrap() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let image = folder.path().join("image");
    bare_ntfs(&image, 12 * MIB, "4096");
    let mount = super::mount::NtfsMount::image(&image, true).unwrap();
    let fill = |name: &str, content: &[u8]| {
        let made = |number: u32| fs::write(mount.path().join(format!("{name}{number:06}")), content);
        let full = (0..100_000).find_map(|number| made(number).err().map(|error| (number, error)));
        let (number, error) = full.expect("the disk is full at some time");
        assert_eq!(error.kind(), ErrorKind::StorageFull);
        number
    };
    let small = fill("a", &[b'x'; 3900]);
    for number in (0..small).step_by(3) {
        fs::remove_file(mount.path().join(format!("a{number:06}"))).unwrap();
    }
    let empty = fill("b", b"");
    // The root folder's first entries are files whose records lie in the table's last pieces.
    for number in (0..empty).rev().take(50) {
        let from = mount.path().join(format!("b{number:06}"));
        fs::rename(from, mount.path().join(format!("0 {number:06}"))).unwrap_or_default();
    }
    mount.unmount().unwrap();
    let table = crate::tools::run("ntfsinfo", &["-f", "-i", "0", image.to_str().unwrap()].map(std::ffi::OsStr::new));
    let table = String::from_utf8_lossy(&table.unwrap()).into_owned();
    assert!(table.contains("$ATTRIBUTE_LIST"), "the table is in few pieces: {table}");

    let found = look_at_bare(&image);
    assert_eq!(found.state(), ContentState::Healthy, "{found}");
    let Seen::Partitions(volumes) = &found else { panic!("{found}") };
    let FileSystem::Ntfs { records, entries, .. } = volumes[0].system else { panic!("{found}") };
    assert!(records >= 1000 && entries == 1000, "{found}");
}
