//! Every error that can reach a person has a code, an exit code and, where something can be done, a hint.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use stackferry_catalog::{CatalogError, LeaseBusy};
use stackferry_config::{Config, ConfigError, Overrides, SecretError};
use stackferry_problem::output::OutputFormat;
use stackferry_problem::{Code, Exit, PROBLEMS, Problem, Retry, troubleshooting};
use stackferry_transfer::DownloadFault;
use stackferry_transfer::TransferError;
use stackferry_transfer::endpoint::EndpointError;
use stackferry_vault::{Damage, VaultError, VaultId};
use stackferry_volume::descriptor::{DescriptorError, Flaw};
use stackferry_volume::{
    BlockIndex, FileName, FolderError, Generation, ManifestError, TransferId, VersionId, VolumeId,
};
use stackferry_vsphere::VsphereError;

fn office() -> VolumeId {
    "appstack/Office".parse().unwrap()
}

fn version() -> VersionId {
    "20261122T041500Z-3".parse().unwrap()
}

fn at() -> jiff::Timestamp {
    "2026-11-22T04:15:00Z".parse().unwrap()
}

fn denied() -> io::Error {
    io::Error::from_raw_os_error(13)
}

fn shown(problems: impl IntoIterator<Item = Problem>) -> String {
    let mut text = String::new();
    for problem in problems {
        text.push_str(&problem.to_text(false));
        text.push_str(&format!(
            "  exit: {}  retry: {:?}\n{}\n\n",
            problem.exit.code(),
            problem.retry,
            problem.to_json()
        ));
    }
    text
}

#[test]
fn configuration() {
    let path = PathBuf::from("/etc/stackferry/stackferry.toml");
    let parse = |text: &str| Config::parse(text, &path, &Overrides::none()).unwrap_err();
    let unwritable = <toml::ser::Error as serde::ser::Error>::custom("a value that TOML does not know");
    let text = shown(
        [
            ConfigError::Missing { path: path.clone() },
            ConfigError::Read { path: path.clone(), source: denied() },
            ConfigError::TooLarge { path: path.clone(), limit: 4 << 20 },
            parse("[vault]\npath = 'srv'\n"),
            parse("[limits]\ntransfer = 3\n"),
            ConfigError::NoSection { section: "serve", hint: "add [serve] to make this machine an endpoint" },
            ConfigError::Show { source: unwritable },
        ]
        .map(Problem::from),
    );
    insta::assert_snapshot!(text);
}

#[test]
fn secrets() {
    use std::os::unix::process::ExitStatusExt;
    let path = PathBuf::from("/etc/stackferry/avm.pass");
    let subject = "the password file /etc/stackferry/avm.pass".to_owned();
    let text = shown(
        [
            SecretError::Open { path: path.clone(), source: denied() },
            SecretError::Read { path: path.clone(), source: denied() },
            SecretError::NotAFile { path: path.clone() },
            SecretError::OpenToAll { path, mode: 0o644 },
            SecretError::NoCredentials { name: "avm".into() },
            SecretError::NoVariable { name: "AVM_PASSWORD".into() },
            SecretError::Run { program: "/usr/bin/pass".into(), source: denied() },
            SecretError::Failed { program: "/usr/bin/pass".into(), status: std::process::ExitStatus::from_raw(256) },
            SecretError::Late { program: "/usr/bin/pass".into(), seconds: 10 },
            SecretError::TooLong { subject: subject.clone() },
            SecretError::Empty { subject: subject.clone() },
            SecretError::NotText { subject, found: stackferry_config::text::Encoding::Utf16 },
        ]
        .map(Problem::from),
    );
    insta::assert_snapshot!(text);
}

#[test]
fn vault() {
    let path = PathBuf::from("/srv/stackferry");
    let (volume, version) = (office(), version());
    let id: VaultId = serde_json::from_str("\"6f1d2a04-9a35-4b7e-9d05-0a4f5e2b7c11\"").unwrap();
    let other: VaultId = serde_json::from_str("\"00000000-0000-4000-8000-000000000000\"").unwrap();
    let transfer: TransferId = "00000000000000ab".parse().unwrap();
    let busy = LeaseBusy {
        name: "volume/appstack/Office".into(),
        holder: "run".into(),
        host: "backup2".into(),
        pid: 812,
        since: at(),
        expires: at(),
    };
    let damage = Damage { file: "Office-flat.vmdk".into(), block: Some(17), why: "its digest does not match".into() };
    let text = shown(
        [
            VaultError::Missing { path: path.clone(), expected: id },
            VaultError::NoVault { path: path.clone() },
            VaultError::NotAVault { path: path.clone() },
            VaultError::OtherVault { path: path.clone(), found: other, expected: id },
            VaultError::NewerFormat { path: path.clone(), found: 7, known: 1 },
            VaultError::TwoFileSystems { one: path.join("volumes"), other: path.join("incoming") },
            VaultError::NoGroup { group: "backup".into(), source: None },
            VaultError::Denied { op: "make", path: path.join("incoming"), uid: 998, source: denied() },
            VaultError::ReadOnly { op: "pin a version" },
            VaultError::NoSpace { path: path.clone(), needed: 20 << 30, free: 30 << 30, reserve: 25 << 30 },
            VaultError::NoSpace { path: path.clone(), needed: 20 << 30, free: 3 << 30, reserve: 0 },
            VaultError::NoVolume { volume: volume.clone() },
            VaultError::NoVersion { volume: volume.clone(), version: version.clone() },
            VaultError::NoFile { volume: volume.clone(), version: version.clone(), file: "x.vmdk".into() },
            VaultError::RecordDamaged { path: path.join("stackferry-vault.json"), why: "it is cut".into() },
            VaultError::ManifestDamaged {
                volume: volume.clone(),
                version: version.clone(),
                source: ManifestError::Damaged("it is missing"),
            },
            VaultError::Damaged { volume: volume.clone(), version: version.clone(), damage: Box::new(damage) },
            VaultError::Busy { subject: "appstack/Office".into(), why: "it is being deleted" },
            VaultError::Pinned { volume: volume.clone(), version: version.clone() },
            VaultError::Locked { volume: volume.clone(), version: version.clone(), until: at() },
            VaultError::LastGood { volume: volume.clone(), version, generation: Generation(1) },
            VaultError::Conflict { volume, why: "its stem is Office, not Visio".into() },
            VaultError::Incomplete { transfer, why: "there is no descriptor".into() },
            VaultError::Fenced { transfer, source: Box::new(CatalogError::from(busy)) },
            VaultError::Exists { path: "/srv/restore/Office.vmdk".into() },
            VaultError::Cancelled { op: "restoring" },
            VaultError::Io { op: "write", path: path.clone(), source: io::Error::from_raw_os_error(28) },
            VaultError::Io { op: "sync", path, source: io::Error::from_raw_os_error(5) },
        ]
        .map(Problem::from),
    );
    insta::assert_snapshot!(text);
}

#[test]
fn catalog() {
    let path = PathBuf::from("/var/lib/stackferry/catalog.sqlite");
    let json = serde_json::from_str::<u8>("x").unwrap_err();
    let busy = LeaseBusy {
        name: "volume/appstack/Office".into(),
        holder: "copy".into(),
        host: "backup1".into(),
        pid: 12,
        since: at(),
        expires: at(),
    };
    let text = shown(
        [
            CatalogError::Create { path: path.clone(), source: denied() },
            CatalogError::Create { path: path.clone(), source: io::Error::from_raw_os_error(28) },
            CatalogError::Missing { path: path.clone() },
            CatalogError::Corrupt { path: path.clone(), why: "file is not a database".into() },
            CatalogError::TooNew { path: path.clone(), schema: 7, known: 1 },
            CatalogError::TooOld { path: path.clone() },
            CatalogError::Schema { path, why: "migration 2 failed".into() },
            CatalogError::Row {
                operation: "reading the volumes",
                subject: "the catalog".into(),
                column: "state",
                why: "`x` is no state".into(),
            },
            CatalogError::Range {
                operation: "adding a version",
                subject: "appstack/Office".into(),
                field: "bytes",
                value: 1 << 64,
            },
            CatalogError::Json {
                operation: "writing an audit record",
                subject: "grant".into(),
                field: "detail",
                source: json,
            },
            CatalogError::OtherVault { known: "one".into(), other: "other".into() },
            CatalogError::NoSuchVolume(office()),
            CatalogError::NoSuchVersion { volume: office(), version: version() },
            CatalogError::VersionExists { volume: office(), version: version() },
            CatalogError::Twice { operation: "rebuilding the catalog", subject: "appstack/Office".into() },
            CatalogError::DescriptorTooLong {
                datastore: "nfs01".into(),
                path: "cloudvolumes/apps/Office.vmdk".into(),
                bytes: 100_000,
                most: 65_536,
            },
            CatalogError::NoSuchCredential("sf-1a2b3c".into()),
            CatalogError::CredentialExists("sf-1a2b3c".into()),
            CatalogError::CredentialSpent { name: "sf-1a2b3c".into(), why: "was used" },
            CatalogError::LeaseBusy(busy),
            CatalogError::Process { pid: 12, file: "/proc/12/stat", source: denied() },
        ]
        .map(Problem::from),
    );
    insta::assert_snapshot!(text);
}

#[test]
fn transfer() {
    let host = || "stor2.example.com:2222".to_owned();
    let file = || "cloudvolumes/apps/Office-flat.vmdk".to_owned();
    let refused = |code: &str| TransferError::Refused { host: host(), code: code.into(), message: "it said no".into() };
    let text = shown(
        [
            TransferError::Read { file: file(), offset: 4096, source: io::Error::from_raw_os_error(5) },
            TransferError::Write { file: file(), source: io::Error::from_raw_os_error(28) },
            TransferError::Write { file: file(), source: io::Error::from_raw_os_error(5) },
            TransferError::Folder(FolderError::Denied { path: file() }),
            TransferError::SourceChanged { file: file(), what: "its time of last change is another".into() },
            TransferError::BlockMismatch { file: file(), block: BlockIndex(9), host: host() },
            TransferError::Protocol { host: host(), what: "a frame of 4 GiB".into() },
            refused("busy"),
            refused("denied"),
            refused("not_found"),
            refused("unreachable"),
            refused("too_many"),
            refused("refused"),
            refused("io"),
            TransferError::HostKeyUnknown {
                host: host(),
                key: "[stor2.example.com]:2222 ssh-ed25519 AAAAC3Nza".into(),
                fingerprint: "SHA256:abc".into(),
                listed: None,
            },
            TransferError::HostKeyUnknown {
                host: host(),
                key: "[stor2.example.com]:2222 ssh-ed25519 AAAAC3Nza".into(),
                fingerprint: "SHA256:abc".into(),
                listed: Some("another type of key is known of this host: ssh-rsa at known_hosts:3".into()),
            },
            TransferError::HostKeyRevoked {
                host: host(),
                fingerprint: "SHA256:abc".into(),
                place: "/etc/stackferry/known_hosts:12".into(),
            },
            TransferError::HostKeyChanged {
                host: host(),
                shown: "SHA256:new".into(),
                expected: "SHA256:old".into(),
                place: "/etc/stackferry/known_hosts:12".into(),
            },
            TransferError::KnownHosts {
                place: "/etc/stackferry/known_hosts:12".into(),
                why: "the line can't be read".into(),
            },
            TransferError::Key { path: "/etc/stackferry/service_key".into(), why: "it is encrypted".into() },
            TransferError::LoginRefused {
                host: host(),
                user: "backup".into(),
                hint: "it would take: publickey".into(),
            },
            TransferError::Unreachable { host: host(), source: io::Error::from_raw_os_error(111) },
            TransferError::Stalled { host: host(), doing: "waiting for blocks", after: Duration::from_secs(30) },
            TransferError::Exists { host: host(), file: file() },
            TransferError::NoRoom {
                host: host(),
                file: file(),
                message: "9 bytes are to be written, 5 are free".into(),
            },
            TransferError::NotAllowed { host: host(), datastore: "nfs02".into(), message: "it says no".into() },
            TransferError::Arrived { host: host(), file: file(), message: "it has another digest".into() },
            TransferError::VersionDamaged { file: file(), block: Some(BlockIndex(3)), why: "it is another".into() },
            TransferError::Cancelled,
            TransferError::Worker { file: file() },
        ]
        .map(Problem::from),
    );
    insta::assert_snapshot!(text);
}

#[test]
fn downloads() {
    let of = |fault| TransferError::Download {
        host: "host esx1.example.com".into(),
        file: "cloudvolumes/apps/Office-flat.vmdk".into(),
        fault,
    };
    let refused = VsphereError::LoginRefused { system: "vSphere vc1".into(), user: "svc@vsphere.local".into() };
    let faults = [
        DownloadFault::TicketRefused,
        DownloadFault::Denied(vec!["Datastore.FileManagement".into()]),
        DownloadFault::Denied(Vec::new()),
        DownloadFault::NotFound,
        DownloadFault::Locked,
        DownloadFault::NotReady(503),
        DownloadFault::Status(302),
        DownloadFault::WebPage,
        DownloadFault::NotPartial,
        DownloadFault::WrongPart("bytes 0-9/100".into()),
        DownloadFault::Short { got: 5, asked: 10 },
        DownloadFault::Long,
    ];
    let errors = faults.map(of).into_iter().chain([TransferError::Vsphere(refused)]);
    insta::assert_snapshot!(shown(errors.map(Problem::from)));
}

#[test]
fn sources_and_endpoints() {
    let path = || "cloudvolumes/apps".to_owned();
    let folders = [
        FolderError::NotFound { path: path() },
        FolderError::Refused { path: path(), why: "it is a symbolic link" },
        FolderError::TooMany { path: path(), most: 100_000 },
        FolderError::Unreachable { datastore: "nfs01".into(), why: "it is not mounted".into() },
        FolderError::Io { path: path(), source: io::Error::from_raw_os_error(116) },
    ];
    let file = FileName::new("Office.vmdk").unwrap();
    let descriptors = [
        DescriptorError { file: file.clone(), flaw: Box::new(Flaw::Empty) },
        DescriptorError { file, flaw: Box::new(Flaw::ExtentMissing { name: "Office-flat.vmdk".into() }) },
    ];
    let key = TransferError::Key { path: "/var/lib/stackferry/host_key".into(), why: "it is cut".into() };
    let endpoints = [
        EndpointError::Listen { address: "0.0.0.0:2222".parse().unwrap(), source: io::Error::from_raw_os_error(98) },
        EndpointError::HostKey(key),
        EndpointError::Issuer { number: 2, why: "it is no public key".into() },
    ];
    let all = folders.into_iter().map(Problem::from);
    let all = all.chain(descriptors.into_iter().map(Problem::from));
    let text = shown(all.chain(endpoints.into_iter().map(Problem::from)));
    insta::assert_snapshot!(text);
}

#[test]
fn the_service_itself() {
    let ids: Vec<VolumeId> =
        ["appstack/Office", "package/Office", "image/it's", "image/a", "image/b", "image/c", "image/d"]
            .map(|id| id.parse().unwrap())
            .into();
    let io_error = |number| io::Error::from_raw_os_error(number);
    let text = shown([
        Problem::usage("--last must be a number"),
        Problem::from("Offize".parse::<VolumeId>().unwrap_err()),
        Problem::no_such_volume("Offize", &[]),
        Problem::no_such_volume("Offize", &ids[..2]),
        Problem::ambiguous_volume("Office", &ids),
        Problem::no_such_version(&ids[2], Some(&version())),
        Problem::no_such_version(&ids[2], None),
        Problem::not_protectable(&ids[0], "it lies on vSAN only", Some("copy it to an NFS datastore")),
        Problem::not_protectable(&ids[0], "its descriptor is empty", None),
        Problem::deferred(&ids[0], "it is attached to VDI-017"),
        Problem::exists(Path::new("/srv/restore/Office.vmdk")),
        Problem::interrupted("the copy of appstack/Office"),
        Problem::internal("a worker panicked"),
        Problem::io("read", "/etc/x", &io_error(2)),
        Problem::io("write", "/etc/x", &io_error(30)),
        Problem::io("write", "/etc/x", &io_error(28)),
        Problem::io("write", "/etc/x", &io_error(5)),
    ]);
    insta::assert_snapshot!(text);
}

#[test]
fn hostile_texts_reach_no_terminal_and_leave_json_one_line() {
    let problem = Problem::new(Code::Protocol, "it said \u{1b}]0;owned\u{7}\r\nerror: forged")
        .subject("host\u{1b}[2J")
        .hint("look\nthere\u{202e}");
    let text = problem.to_text(false);
    assert!(!text.contains(['\u{1b}', '\u{7}', '\r', '\u{202e}']), "{text:?}");
    assert!(text.lines().skip(1).all(|line| line.starts_with("  ")), "no line looks like an error of its own: {text}");
    let mut json = Vec::new();
    problem.write(OutputFormat::Json, true, &mut json).unwrap();
    let json = String::from_utf8(json).unwrap();
    assert_eq!(json.matches('\n').count(), 1);
    assert!(json.ends_with('\n'));
    let value: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(value["error"]["code"], "protocol");
    assert_eq!(value["error"]["subject"], "host\u{1b}[2J");
}

#[test]
fn colours_are_for_terminals() {
    let problem = Problem::interrupted("the copy");
    assert!(problem.to_text(true).starts_with("\u{1b}[1;31merror:\u{1b}[0m the copy"));
    assert!(!problem.to_text(false).contains('\u{1b}'));
}

#[test]
fn codes_are_words_and_exit_codes_are_the_contracts() {
    let mut words: Vec<&str> = PROBLEMS.iter().map(|row| row.word).collect();
    let plain = |word: &str| word.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
    assert!(words.iter().all(|word| plain(word)), "{words:?}");
    words.sort_unstable();
    let count = words.len();
    words.dedup();
    assert_eq!(words.len(), count, "a word stands for two codes");
    for row in PROBLEMS {
        assert_eq!((row.code.as_str(), row.code.exit(), row.code.retry()), (row.word, row.exit, row.retry));
        assert!(!row.meaning.contains('|') && !row.fix.contains('|'), "{}: it would break the table", row.word);
    }
    let codes: Vec<u8> = Exit::ALL.iter().map(|exit| exit.code()).collect();
    assert_eq!(codes, [0, 1, 2, 3, 10, 11, 12, 13, 14, 15, 130]);
    assert_eq!(Problem::new(Code::Busy, "x").retry(Retry::Transient).retry, Retry::Transient);
}

/// `STACKFERRY_TEST_WRITE=1` writes the document anew.
#[test]
fn the_document_is_the_table() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/troubleshooting.md");
    if std::env::var_os("STACKFERRY_TEST_WRITE").is_some() {
        std::fs::write(&path, troubleshooting()).unwrap();
    }
    let document = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        document == troubleshooting(),
        "{} is out of date: run the tests with STACKFERRY_TEST_WRITE=1",
        path.display()
    );
}
