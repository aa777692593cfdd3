//! One disk by every route: copied, stored, restored, and compared by independent programs.

// A failed step has to stop its test with its cause; these lints are for the program itself.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_possible_wrap)]

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use serde_json::Value;
use stackferry_tests::check::{allocated_bytes, same_files};
use stackferry_tests::disk::{CreateType, DiskContent, DiskSpec, Sidecar, TestDisk, mount_and_digest};
use stackferry_tests::lab::{EndpointProcess, Lab};
use stackferry_tests::tools::{available, have, qemu_img_compare};

const LAB: &str = env!("CARGO_BIN_EXE_stackferry-lab");
const APPS: &str = "cloudvolumes/apps";
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// What a copy may take or move beyond 1.01 times what the source takes: file systems round up.
const ROUNDING: u64 = 64 << 10;

fn most(allocated: u64) -> u64 {
    allocated + allocated / 100 + ROUNDING
}

fn bytes(copy: &Value, key: &str) -> u64 {
    copy["bytes"][key].as_u64().unwrap_or_else(|| panic!("no bytes.{key} in {copy}"))
}

/// Points the lab's service at the datastore `nfs01` by a route, with a state and a vault of its own.
fn take_route(lab: &mut Lab, route: &str) -> Option<EndpointProcess> {
    lab.config.set("state_dir", lab.path(&format!("state-{route}")).to_str().unwrap());
    lab.config.set("vault.path", lab.path(&format!("vault-{route}")).to_str().unwrap());
    if route == "local" {
        lab.add_local("nfs01").unwrap();
        return None;
    }
    let endpoint = lab.serve(&["nfs01"]).unwrap();
    lab.add_endpoint("nfs01", &endpoint).unwrap();
    Some(endpoint)
}

/// Copies and restores a disk by a route; gives the copy's answer, and the folders of the version and the restored disk.
fn there_and_back(lab: &mut Lab, route: &str, disk: &TestDisk) -> (Value, PathBuf, PathBuf) {
    let endpoint = take_route(lab, route);
    let id = format!("appstack/{}", disk.spec().stem);
    let copy = lab.run_json(&["copy", &id]).unwrap();
    assert_eq!(copy["outcome"], "copied");
    assert_eq!(copy["route"], route);
    assert_eq!(copy["verified"], true);
    let files = disk.files();
    assert_eq!(copy["credentials"], if endpoint.is_some() { files.len() } else { 0 });
    let logical: u64 = files.iter().map(|file| fs::metadata(file).unwrap().len()).sum();
    assert_eq!(bytes(&copy, "logical"), logical);

    let to = lab.path(&format!("restored-{route}"));
    lab.run_json(&["restore".as_ref(), id.as_ref(), "--to".as_ref(), to.as_os_str()]).unwrap();
    same_files(&files, &to).unwrap();
    if let Some(mut endpoint) = endpoint {
        endpoint.terminate().unwrap().expect_code(0).unwrap();
    }
    let version = lab.path(&format!("vault-{route}")).join("volumes").join(&id).join(copy["version"].as_str().unwrap());
    (copy, version, to)
}

fn taken(disk: &TestDisk, folder: &Path) -> u64 {
    disk.files().iter().map(|file| allocated_bytes(&folder.join(file.file_name().unwrap())).unwrap()).sum()
}

/// With real tools 1 GiB of files in an NTFS; without them as much data without a file system.
#[test]
fn every_route_restores_one_gibibyte_unchanged() {
    let tools = available();
    let ntfs = have(tools.makes_ntfs() && tools.mounts_ntfs(), "mkntfs, ntfs-3g or /dev/fuse").unwrap();
    let content = if ntfs { DiskContent::Ntfs { bytes: GIB } } else { DiskContent::Plain { bytes: GIB } };
    let mut lab = Lab::new(LAB).unwrap();
    let spec = DiskSpec::new("Office", 20 * GIB, 42).content(content).sidecar(Sidecar::Metadata);
    let disk = TestDisk::build(&lab.folder("nfs01", APPS).unwrap(), spec).unwrap();
    let source: u64 = disk.files().iter().map(|file| allocated_bytes(file).unwrap()).sum();
    assert!(source > GIB);
    let inside = if ntfs { mount_and_digest(&disk.path()).unwrap() } else { Vec::new() };

    for route in ["local", "endpoint"] {
        let (copy, version, restored) = there_and_back(&mut lab, route, &disk);
        for folder in [&version, &restored] {
            let taken = taken(&disk, folder);
            assert!(taken <= most(source), "{} takes {taken} bytes, its source {source}", folder.display());
        }
        let read = bytes(&copy, "read");
        assert!((source - source / 100..=most(source)).contains(&read), "{read} bytes were read, of {source}");
        assert!(bytes(&copy, "stored") <= read);
        match route {
            "local" => assert_eq!(bytes(&copy, "wire"), 0),
            _ => assert!((1..=source).contains(&bytes(&copy, "wire")), "{copy}"),
        }
        let path = restored.join("Office.vmdk");
        if have(tools.qemu_img, "qemu-img").unwrap() {
            assert!(qemu_img_compare(&disk.path(), &path).unwrap());
        }
        if ntfs {
            let files = mount_and_digest(&path).unwrap();
            assert!(files.len() > 50 && files == inside, "{} files", files.len());
        }
        fs::remove_dir_all(&restored).unwrap();
        fs::remove_dir_all(lab.path(&format!("vault-{route}"))).unwrap();
    }
}

#[test]
fn written_zeros_are_neither_sent_nor_stored() {
    let mut lab = Lab::new(LAB).unwrap();
    let spec = DiskSpec::new("Office", 96 * MIB, 7).sidecar(Sidecar::Json);
    let disk = TestDisk::build(&lab.folder("nfs01", APPS).unwrap(), spec).unwrap();
    let extent = fs::File::options().write(true).open(&disk.extents()[0]).unwrap();
    let mut data = vec![0; 1 << 20];
    for block in 0..96 {
        extent.write_all_at(&data, block * MIB).unwrap();
    }
    // Random, so that nothing is saved by compression, and in two places that share no block.
    blake3::Hasher::new().finalize_xof().fill(&mut data);
    extent.write_all_at(&data, 10 * MIB + (512 << 10)).unwrap();
    extent.write_all_at(&data, 70 * MIB).unwrap();
    drop(extent);
    let data = 2 * MIB;
    assert!(disk.allocated().unwrap() >= 96 * MIB);

    for route in ["local", "endpoint"] {
        let (copy, version, restored) = there_and_back(&mut lab, route, &disk);
        assert!((96 * MIB..=96 * MIB + ROUNDING).contains(&bytes(&copy, "read")), "{copy}");
        assert!((data..=data + ROUNDING).contains(&bytes(&copy, "stored")), "{copy}");
        assert!(taken(&disk, &version) <= most(data) && taken(&disk, &restored) <= most(data));
        if route == "endpoint" {
            assert!((data..=most(data)).contains(&bytes(&copy, "wire")), "{copy}");
        }
    }
}

#[test]
fn an_empty_disk_sends_and_stores_nothing() {
    let mut lab = Lab::new(LAB).unwrap();
    let disk = TestDisk::build(&lab.folder("nfs01", APPS).unwrap(), DiskSpec::new("Empty", 20 * GIB, 7)).unwrap();
    for route in ["local", "endpoint"] {
        let (copy, ..) = there_and_back(&mut lab, route, &disk);
        for key in ["read", "stored", "wire"] {
            assert!(bytes(&copy, key) < 16 << 10, "{copy}");
        }
        assert!(bytes(&copy, "zero") >= 20 * GIB, "{copy}");
    }
}

#[test]
fn every_extent_layout_restores_unchanged() {
    let mut lab = Lab::new(LAB).unwrap();
    let folder = lab.folder("nfs01", APPS).unwrap();
    let build = |stem: &str, create_type| {
        let spec = DiskSpec::new(stem, 40 * MIB + 512, 3).content(DiskContent::Plain { bytes: 3 * MIB });
        TestDisk::build(&folder, spec.create_type(create_type).sidecar(Sidecar::Json)).unwrap()
    };
    let disks = [
        build("Flat", CreateType::MonolithicFlat { offset: 128 }),
        build("Split", CreateType::TwoGbMaxExtentFlat { sectors: 20_000 }),
        build("C!23! !26! 報告", CreateType::Vmfs),
    ];
    assert_eq!(disks[1].extents().len(), 5);
    for route in ["local", "endpoint"] {
        for disk in &disks {
            let (.., restored) = there_and_back(&mut lab, route, disk);
            fs::remove_dir_all(restored).unwrap();
        }
    }
}
