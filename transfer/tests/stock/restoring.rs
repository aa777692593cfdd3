//! Writing new files onto a stock host: by a command that makes the one file, checked by reading it again there.

use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;

use stackferry_transfer::restore::{Checked, FileRestore, Written, finish};
use stackferry_transfer::stock::{Purpose, StockClient};
use stackferry_transfer::{TransferError, describe};
use stackferry_volume::Digest;
use stackferry_volume::block::{BlockIndex, BlockState};

use crate::support::host::{Has, Host, context};
use crate::support::version::{MIB, Version, names};
use crate::support::{Deadline, wait_until};

fn write<'c>(host: &Host, client: &'c StockClient, file: &FileRestore<'_>) -> Result<Written<'c>, TransferError> {
    client.write(file, &context(), &mut |issued| host.issued.lock().unwrap().push(issued.clone()))
}

fn wait_empty(path: &Path) {
    wait_until("discarded files are gone", || names(path).is_empty());
}

#[test]
fn files_are_restored_sparse_each_with_its_own_certificate() {
    let _deadline = Deadline::seconds(120);
    let host = Host::new(Has::All);
    let client = host.client();
    let version = Version::new(host.home.path(), "version");
    let small = Version::of(host.home.path(), "small", b"# Disk DescriptorFile".to_vec());
    let empty = Version::of(host.home.path(), "empty", Vec::new());
    let extent = write(&host, &client, &version.file("restored/it's $(deep)/a-flat.vmdk")).unwrap();
    let there = host.path("restored/it's $(deep)");
    let before = names(&there);
    assert!(before.len() == 1 && before[0].starts_with(".stackferry-restore-"), "{before:?}");
    let side = write(&host, &client, &empty.file("restored/it's $(deep)/a.vmdk.metadata")).unwrap();
    let descriptor = write(&host, &client, &small.file("restored/it's $(deep)/a.vmdk")).unwrap();
    assert_eq!(extent.checked, Checked::HostDigest);
    let (_, data) = version.blocks.data_blocks();
    assert!(extent.stored < data && extent.wire < data + (64 << 10), "zeros were sent: {}", extent.wire);
    finish(vec![extent.placed, side.placed, descriptor.placed]).unwrap();
    assert_eq!(names(&there), ["a-flat.vmdk", "a.vmdk", "a.vmdk.metadata"]);
    assert_eq!(std::fs::read(there.join("a-flat.vmdk")).unwrap(), version.bytes);
    assert_eq!(std::fs::read(there.join("a.vmdk")).unwrap(), small.bytes);
    let found = std::fs::metadata(there.join("a-flat.vmdk")).unwrap();
    assert_eq!((found.mtime(), found.mtime_nsec(), found.nlink()), (1_767_323_045, 678_000_000, 1));
    assert!(found.blocks() * 512 <= 3 * MIB + (64 << 10), "{} bytes on disk", found.blocks() * 512);
    let issued = host.issued.lock().unwrap().clone();
    assert!(issued.len() == 3 && issued.iter().all(|cert| cert.purpose == Purpose::Write), "{issued:?}");
    let mut keys: Vec<_> = host.taken().into_iter().map(|(_, _, key)| key).collect();
    keys.sort();
    keys.dedup();
    assert_eq!(keys.len(), 3, "each has a key of its own");
}

#[test]
fn nothing_is_overwritten_and_aborted_files_are_removed() {
    let _deadline = Deadline::seconds(120);
    let host = Host::new(Has::All);
    let client = host.client();
    let version = Version::new(host.home.path(), "version");
    let there = host.path("apps");
    std::fs::write(there.join("a.vmdk"), "old").unwrap();
    let refused = write(&host, &client, &version.file("apps/a.vmdk")).unwrap_err();
    assert!(matches!(refused, TransferError::Exists { .. }), "{}", describe(&refused));
    assert_eq!(std::fs::read_to_string(there.join("a.vmdk")).unwrap(), "old");
    std::fs::remove_file(there.join("a.vmdk")).unwrap();
    drop(write(&host, &client, &version.file("apps/a.vmdk")).unwrap());
    wait_empty(&there);
    let one = write(&host, &client, &version.file("apps/a-flat.vmdk")).unwrap();
    let two = write(&host, &client, &version.file("apps/a.vmdk")).unwrap();
    std::fs::write(there.join("a.vmdk"), "came meanwhile").unwrap();
    let refused = finish(vec![one.placed, two.placed]).unwrap_err();
    assert!(matches!(refused, TransferError::Exists { .. }), "{}", describe(&refused));
    wait_until("only the other file exists", || names(&there) == ["a.vmdk"]);
    assert_eq!(std::fs::read_to_string(there.join("a.vmdk")).unwrap(), "came meanwhile");
}

#[test]
fn no_link_is_followed_and_crashed_restores_are_removed() {
    let _deadline = Deadline::seconds(120);
    let host = Host::new(Has::All);
    let client = host.client();
    let version = Version::new(host.home.path(), "version");
    let outside = host.home.path().join("outside");
    std::fs::create_dir(&outside).unwrap();
    symlink("../outside", host.path("link")).unwrap();
    symlink(outside.join("new"), host.path("apps/dangling")).unwrap();
    for bad in ["link/a", "link/new/a", "apps/dangling", "../outside/a", "/a", "apps//a"] {
        assert!(write(&host, &client, &version.file(bad)).is_err(), "{bad}");
    }
    assert!(names(&outside).is_empty());
    assert_eq!(names(&host.path("apps")), ["dangling"]);
    std::fs::remove_file(host.path("apps/dangling")).unwrap();
    let (left, foreign) = (".stackferry-restore-00000000000000aa-x", ".stackferry-restore-other");
    for name in [left, foreign] {
        std::fs::write(host.path("apps").join(name), "x").unwrap();
    }
    let one = write(&host, &client, &version.file("apps/one")).unwrap();
    let two = write(&host, &client, &version.file("apps/two")).unwrap();
    finish(vec![one.placed, two.placed]).unwrap();
    assert_eq!(names(&host.path("apps")), [foreign, "one", "two"]);
}

#[test]
fn impossible_writes_leave_nothing() {
    let _deadline = Deadline::seconds(120);
    let host = Host::new(Has::All);
    let client = host.client();
    let mut version = Version::new(host.home.path(), "version");
    let file = FileRestore { needed: u64::MAX, ..version.file("apps/a") };
    let refused = write(&host, &client, &file).unwrap_err();
    assert!(matches!(refused, TransferError::NoRoom { .. }), "{}", describe(&refused));
    wait_empty(&host.path("apps"));
    version.blocks.set(BlockIndex(2), BlockState::Data(Digest::of(b"something else")));
    let refused = write(&host, &client, &version.file("apps/a")).unwrap_err();
    assert!(matches!(refused, TransferError::VersionDamaged { .. }), "{}", describe(&refused));
    wait_empty(&host.path("apps"));
}

#[test]
fn a_host_without_python_is_reported() {
    let _deadline = Deadline::seconds(120);
    let host = Host::new(Has::NoPython);
    let client = host.client();
    let version = Version::new(host.home.path(), "version");
    let refused = write(&host, &client, &version.file("apps/a")).unwrap_err();
    assert!(matches!(refused, TransferError::Unfit { .. }), "{}", describe(&refused));
    assert!(describe(&refused).contains("python3"), "{}", describe(&refused));
    assert!(names(&host.path("apps")).is_empty());
}
