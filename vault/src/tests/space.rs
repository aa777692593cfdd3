//! A file system of its own, small enough to be filled. Mounting needs root, as all tests here do.

use super::*;
use rustix::mount::{MountFlags, UnmountFlags};

struct Mounted(PathBuf);

impl Mounted {
    fn at(path: PathBuf, size: &str) -> Self {
        std::fs::create_dir_all(&path).unwrap();
        let options = std::ffi::CString::new(format!("size={size}")).unwrap();
        rustix::mount::mount("none", &path, "tmpfs", MountFlags::empty(), Some(options.as_c_str())).unwrap();
        Self(path)
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        rustix::mount::unmount(&self.0, UnmountFlags::DETACH).unwrap();
    }
}

#[test]
fn a_full_vault_says_so_keeps_what_it_has_and_can_be_freed() {
    let home = tempfile::tempdir().unwrap();
    let mounted = Mounted::at(home.path().join("vault"), "10m");
    let vault = Vault::open(&mounted.0, &options()).unwrap();
    let one = put(&vault, 1, 1, &disk(1)).unwrap();
    put(&vault, 2, 1, &disk(2)).unwrap();
    vault.lock_until(&volume(), &one, at("2020-01-01T00:00:00Z")).unwrap();
    let incoming = vault.begin(&incoming_spec(&volume(), 3), now()).unwrap();
    let bytes = vec![7u8; 16 << 20];
    let file = incoming.file(&FileName::new(EXTENT).unwrap(), bytes.len() as u64).unwrap();
    let mut full = None;
    for (at, chunk) in bytes.chunks(4096).enumerate() {
        if let Err(error) = file.write_at(at as u64 * 4096, chunk) {
            full = Some(VaultError::system("write", file.path(), error));
            break;
        }
    }
    let error = full.unwrap();
    assert!(error.is_no_space() && error.hint().is_some(), "{error:?}");
    assert!(vault.check_space(1 << 20).unwrap_err().is_no_space());
    // Nothing can be recorded any more, and the record stays as it is.
    assert!(vault.pin(&volume(), &one, &"x".repeat(1 << 20), now()).unwrap_err().is_no_space());
    assert!(vault.volume(&volume()).unwrap().pins.is_empty());
    // Where space is needed most nothing is written before space is freed.
    vault.delete(&volume(), &one, now()).unwrap();
    assert!(vault.volume(&volume()).unwrap().locks.is_empty());
    drop(file);
    incoming.discard().unwrap();
    put(&vault, 4, 1, &disk(4)).unwrap();
    assert_eq!(vault.versions(&volume()).unwrap().iter().filter(|entry| entry.is_good()).count(), 2);
}

#[test]
fn what_running_copies_still_need_is_not_given_away() {
    let home = tempfile::tempdir().unwrap();
    let mounted = Mounted::at(home.path().join("vault"), "10m");
    let vault = Vault::open(&mounted.0, &options()).unwrap();
    vault.ensure_volume(&spec(&volume(), 1)).unwrap();
    const MIB: u64 = 1 << 20;
    let begin = |number| vault.begin(&incoming_spec(&volume(), number), now()).unwrap();
    let is_full = |result: Result<(), VaultError>| result.is_err_and(|error| error.is_no_space());
    let (one, two) = (begin(1), begin(2));
    one.reserve(5 * MIB).unwrap();
    assert!(is_full(two.reserve(5 * MIB)), "both would fit alone");
    let name = FileName::new(EXTENT).unwrap();
    let file = one.file(&name, 8 * MIB).unwrap();
    file.write_at(0, &vec![7u8; 4 << 20]).unwrap();
    assert!(is_full(two.reserve(5 * MIB)), "one needs a MiB more");
    two.reserve(3 * MIB).unwrap();
    drop((one, file));
    two.discard().unwrap();
    let again = vault.resumable(&volume(), &fingerprint(), now()).unwrap().unwrap();
    again.reserve(9 * MIB).unwrap();
    assert!(is_full(again.reserve(11 * MIB)), "only what is there already is left out");
}

#[test]
fn a_restore_without_room_does_not_begin() {
    let bench = bench();
    let version = put(&bench.vault, 1, 1, &disk(1)).unwrap();
    let mounted = Mounted::at(bench.path.parent().unwrap().join("small"), "1m");
    let version = bench.vault.version(&volume(), &version).unwrap();
    let error = version.restore(&mounted.0, false, &mut |_| {}, &Cancel::default()).unwrap_err();
    assert!(matches!(error, VaultError::NoSpace { reserve: 0, .. }));
    assert!(names(&mounted.0).is_empty());
}

#[test]
fn a_file_system_that_does_not_tell_its_size_is_not_full() {
    let home = tempfile::tempdir().unwrap();
    // Without a limit this one tells nothing, as some of those in user space and over a network do.
    let mounted = Mounted::at(home.path().join("vault"), "0");
    let vault = Vault::open(&mounted.0, &VaultOptions { reserve: crate::Reserve::default(), ..options() }).unwrap();
    assert!(!vault.space().unwrap().is_known());
    vault.check_space(1 << 40).unwrap();
    let version = put(&vault, 1, 1, &disk(1)).unwrap();
    let to = mounted.0.join("out");
    vault.version(&volume(), &version).unwrap().restore(&to, false, &mut |_| {}, &Cancel::default()).unwrap();
}

#[test]
fn a_time_that_can_not_be_set_loses_no_restore() {
    let bench = bench();
    let version = put(&bench.vault, 1, 1, &disk(1)).unwrap();
    let version = bench.vault.version(&volume(), &version).unwrap();
    let to = bench.path.parent().unwrap().join("out");
    let refusing = crate::steps::Trace::refusing("set the time of");
    let report = version.restore(&to, false, &mut |_| {}, &Cancel::default()).unwrap();
    drop(refusing);
    assert_eq!((report.untimed, names(&to).len()), (report.files, report.files));
}

#[test]
fn a_target_that_is_a_file_is_named() {
    let bench = bench();
    let version = put(&bench.vault, 1, 1, &disk(1)).unwrap();
    let version = bench.vault.version(&volume(), &version).unwrap();
    let file = bench.path.parent().unwrap().join("file");
    std::fs::write(&file, "x").unwrap();
    for to in [file.clone(), file.join("a/b")] {
        let error = version.restore(&to, false, &mut |_| {}, &Cancel::default()).unwrap_err();
        assert!(matches!(&error, VaultError::NotAFolder { path } if *path == file), "{error:?}");
    }
}

#[test]
fn parts_on_two_file_systems_are_refused_and_both_are_named() {
    let bench = bench();
    let _mounted = Mounted::at(bench.path.join("incoming"), "1m");
    let error = Vault::open(&bench.path, &options()).unwrap_err();
    let text = error.to_string();
    assert!(matches!(error, VaultError::TwoFileSystems { .. }));
    assert!(text.contains("/incoming") && text.contains("/volumes"), "{text}");
}

#[test]
fn a_bind_mount_of_the_same_device_is_refused_too() {
    let bench = bench();
    let trash = bench.path.join("trash");
    rustix::mount::mount_bind(&trash, &trash).unwrap();
    let _mounted = Mounted(trash);
    assert!(matches!(Vault::open(&bench.path, &options()), Err(VaultError::TwoFileSystems { .. })));
}

#[test]
fn a_vault_that_is_not_writable_says_who_may_not() {
    let home = tempfile::tempdir().unwrap();
    let mounted = Mounted::at(home.path().join("vault"), "10m");
    let version = put(&Vault::open(&mounted.0, &options()).unwrap(), 1, 1, &disk(1)).unwrap();
    rustix::mount::mount_remount(&mounted.0, MountFlags::RDONLY, "").unwrap();
    let error = Vault::open(&mounted.0, &options()).unwrap_err();
    assert!(matches!(error, VaultError::Denied { uid: 0, .. }), "{error}");
    assert!(error.hint().unwrap().contains("read-only"));
    let reader = Vault::open_read_only(&mounted.0, None).unwrap();
    assert_whole(&reader.version(&volume(), &version).unwrap(), &disk(1));
}
