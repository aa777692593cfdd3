//! Looking at a stock host's folders, with SFTP and without.

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;

use stackferry_transfer::stock::StockHost;
use stackferry_volume::io::MAX_SMALL_READ;
use stackferry_volume::local::LocalFolder;
use stackferry_volume::{Entry, EntryKind, Folder, FolderError};

use crate::support::Deadline;
use crate::support::files::{MIB, noise, sparse};
use crate::support::host::{Has, Host};

const BOTH: [Has; 2] = [Has::All, Has::NoSftp];

fn by_name(entries: Vec<Entry>) -> BTreeMap<String, Entry> {
    entries.into_iter().map(|entry| (entry.name.clone(), entry)).collect()
}

/// As SFTP tells it.
fn without_details(entry: Entry) -> Entry {
    let mtime = jiff::Timestamp::from_second(entry.mtime.as_second()).unwrap();
    Entry { allocated: None, changed: None, inode: None, mtime, ..entry }
}

#[test]
fn a_folder_is_listed_as_it_is() {
    let _deadline = Deadline::seconds(120);
    for has in BOTH {
        let host = Host::new(has);
        for name in ["a b", "it's", "q\"q", "!5C!", "-rf", "ü", "$(id)", "tab\there", "line\nbreak", "\\", "*"] {
            std::fs::write(host.path("apps").join(name), name).unwrap();
        }
        std::fs::write(host.path("apps").join(std::ffi::OsStr::from_bytes(b"not\xffutf8")), "x").unwrap();
        sparse(&host.path("apps/thin-flat.vmdk"), 900 * MIB, &[0..MIB]);
        std::fs::create_dir(host.path("apps/folder")).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", host.path("apps/link")).unwrap();
        let client = host.client();
        let folder = client.folder();
        let local = LocalFolder::open(&host.path("")).unwrap();
        let mut expected = local.list("apps").unwrap();
        if has == Has::All {
            expected = expected.into_iter().map(without_details).collect();
        }
        // Both local and remote show the length of files only.
        let found = by_name(folder.list("apps").unwrap());
        let expected = by_name(expected);
        assert_eq!(found.len(), 15);
        for (name, entry) in &expected {
            // A list by `find` has no time of the last change of a file's record.
            let mut entry = Entry { changed: entry.changed.filter(|_| has != Has::NoSftp), ..entry.clone() };
            if entry.kind != EntryKind::File {
                entry.allocated = found[name].allocated;
            }
            assert_eq!(found[name], entry, "{has:?}");
        }
        for name in ["a b", "-rf", "thin-flat.vmdk", "folder", "link"] {
            let path = format!("apps/{name}");
            assert_eq!(folder.stat(&path).unwrap().as_ref(), Some(&found[name]), "{has:?}");
        }
        assert_eq!(folder.stat("apps/none").unwrap(), None);
        assert_eq!(folder.stat("none/none").unwrap(), None);
        assert_eq!(by_name(folder.list("").unwrap()).into_keys().collect::<Vec<_>>(), ["apps"]);
        assert!(matches!(folder.list("none"), Err(FolderError::NotFound { .. })), "{has:?}");
        assert!(matches!(folder.list("apps/it's"), Err(FolderError::Refused { .. })), "{has:?}");
        assert!(matches!(folder.list("apps/link"), Err(FolderError::Refused { .. })), "{has:?}");
        assert!(matches!(folder.list("apps/../.."), Err(FolderError::Refused { .. })), "{has:?}");
    }
}

#[test]
fn descriptors_are_read() {
    let _deadline = Deadline::seconds(120);
    for has in BOTH {
        let host = Host::new(has);
        let content = noise(7, 200_000);
        std::fs::write(host.path("apps/it's -a.vmdk"), &content).unwrap();
        std::fs::write(host.path("apps/empty"), "").unwrap();
        std::os::unix::fs::symlink("it's -a.vmdk", host.path("apps/link")).unwrap();
        let folder = host.client().folder();
        assert_eq!(folder.read("apps/it's -a.vmdk", usize::MAX).unwrap(), content[..MAX_SMALL_READ], "{has:?}");
        assert_eq!(folder.read("apps/it's -a.vmdk", 100).unwrap(), content[..100]);
        assert_eq!(folder.read("apps/empty", 100).unwrap(), b"");
        assert!(matches!(folder.read("apps/none", 10), Err(FolderError::NotFound { .. })), "{has:?}");
        assert!(matches!(folder.read("apps/link", 10), Err(FolderError::Refused { .. })), "{has:?}");
        assert!(matches!(folder.read("apps", 10), Err(FolderError::Refused { .. })), "{has:?}");
    }
}

#[test]
fn many_requests_by_sftp_take_two_logins() {
    let _deadline = Deadline::seconds(60);
    let host = Host::new(Has::All);
    for number in 0..300 {
        std::fs::write(host.path(&format!("apps/{number}.vmdk")), number.to_string()).unwrap();
    }
    let client = host.client();
    for _ in 0..3 {
        // A folder for each round, as the service has it.
        let folder = client.folder();
        assert_eq!(folder.list("apps").unwrap().len(), 300);
        for number in 0..20 {
            assert_eq!(folder.read(&format!("apps/{number}.vmdk"), 10).unwrap(), number.to_string().as_bytes());
        }
    }
    let log = host.log();
    assert_eq!(log.matches("Accepted publickey").count(), 2, "{log}");
    // The listing's login can open nothing: the forced command says so, and no other was used.
    assert_eq!(log.matches("Starting session: forced-command").count(), 2, "{log}");
}

#[test]
fn another_user_sees_what_that_user_may() {
    let _deadline = Deadline::seconds(60);
    let host = Host::new(Has::All);
    std::fs::write(host.path("apps/secret"), "x").unwrap();
    std::fs::set_permissions(host.path("apps/secret"), std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    std::fs::create_dir(host.path("closed")).unwrap();
    std::fs::set_permissions(host.path("closed"), std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    assert_eq!(host.path("closed").metadata().unwrap().uid(), 0);
    let folder = host.client_of(StockHost { user: "backup".to_owned(), ..host.stock_host() }).folder();
    assert_eq!(folder.list("apps").unwrap().len(), 1);
    assert!(matches!(folder.read("apps/secret", 10), Err(FolderError::Denied { .. })));
    assert!(matches!(folder.list("closed"), Err(FolderError::Denied { .. })));
}

#[test]
fn a_missing_datastore_is_unreachable() {
    let _deadline = Deadline::seconds(60);
    for has in BOTH {
        let host = Host::new(has);
        let root = host.home.path().join("unmounted");
        let folder = host.client_of(StockHost { root, ..host.stock_host() }).folder();
        let error = folder.list("apps").unwrap_err();
        assert!(matches!(error, FolderError::Unreachable { .. }), "{has:?}: {error}");
        let error = folder.read("apps/a.vmdk", 10).unwrap_err();
        assert!(matches!(error, FolderError::Unreachable { .. }), "{has:?}: {error}");
        let error = folder.stat("apps/a.vmdk").unwrap_err();
        assert!(matches!(error, FolderError::Unreachable { .. }), "{has:?}: {error}");
    }
}

#[test]
fn a_restarted_host_is_used_again() {
    let _deadline = Deadline::seconds(60);
    let host = Host::new(Has::All);
    let folder = host.client().folder();
    assert_eq!(folder.list("apps").unwrap().len(), 0);
    // The sessions end, the server goes on.
    let sessions = std::process::Command::new("pgrep").args(["-P", &host.server().to_string()]).output().unwrap();
    let sessions = String::from_utf8(sessions.stdout).unwrap();
    assert!(!sessions.trim().is_empty());
    for session in sessions.split_whitespace() {
        assert!(std::process::Command::new("kill").args(["-9", session]).status().unwrap().success());
    }
    assert_eq!(folder.list("apps").unwrap().len(), 0);
}
