//! What a certificate is not good for, tried with OpenSSH's own programs; and hosts that do not let us in.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use stackferry_config::SourceAddress;
use stackferry_transfer::known_hosts::HostKeys;
use stackferry_transfer::ssh::SshHost;
use stackferry_transfer::stock::certificate::{CertAuthority, CertificateRequest, CertifiedKey};
use stackferry_transfer::stock::{CERTIFICATE_LIFE, StockHost};
use stackferry_transfer::{FileCopy, TransferError};
use stackferry_volume::{Folder, FolderError};

use crate::support::Deadline;
use crate::support::files::noise;
use crate::support::host::{Has, Host, context};
use crate::support::openssh::{run, run_for, said};

/// A host with two files, and certificates as copies have them.
struct Thief {
    host: Host,
    authority: CertAuthority,
    content: Vec<u8>,
}

impl Thief {
    fn new(has: Has) -> Self {
        let host = Host::new(has);
        let content = noise(1, 100_000);
        std::fs::write(host.path("apps/mine"), &content).unwrap();
        std::fs::write(host.path("apps/other"), noise(2, 1000)).unwrap();
        let authority = CertAuthority::load(&host.home.path().join("user_ca")).unwrap();
        Self { host, authority, content }
    }

    fn issue(&self, command: &str, change: impl FnOnce(&mut CertificateRequest<'_>)) -> CertifiedKey {
        let now = Timestamp::now();
        let mut order = CertificateRequest {
            user: "root",
            command,
            source_address: Some("127.0.0.1"),
            now,
            life: CERTIFICATE_LIFE,
        };
        change(&mut order);
        self.authority.issue(&order).unwrap()
    }

    /// The command that a copy by SCP has in its certificate.
    fn scp(&self) -> String {
        format!("scp -f -p -- '{}'", self.host.path("apps/mine").display())
    }

    fn at(&self, name: &str) -> String {
        self.host.home.path().join(name).display().to_string()
    }

    fn accepted(&self) -> usize {
        self.host.log().matches("Accepted publickey").count()
    }
}

#[test]
fn a_certificate_for_scp_gives_its_file_and_no_other() {
    let _deadline = Deadline::seconds(120);
    let thief = Thief::new(Has::All);
    let issued = thief.issue(&thief.scp(), |_| {});
    let asked = format!("HOST:{}", thief.host.path("apps/other").display());
    let output = run(&thief.host, "root", "scp", &["-O", "-p", &asked, &thief.at("got")], &issued);
    // The client asks for another file and is given the one; a careful client does not even take it.
    let got = std::fs::read(thief.at("got")).unwrap_or_default();
    assert!(got.is_empty() || got == thief.content, "{}", said(&output));
    // For sure, without a client's care: the bytes are those of the one file, whatever is asked for.
    for asked in ["cat /etc/passwd", "scp -f /etc/passwd", "scp -t /tmp/x", "internal-sftp", "/bin/sh"] {
        let output = run(&thief.host, "root", "ssh", &["HOST", asked], &issued);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(!text.contains("root:"), "{asked}: {}", said(&output));
    }
    assert!(thief.accepted() >= 6, "each was accepted, and got nothing that it requested");
}

#[test]
fn a_certificate_does_not_write_open_a_shell_or_forward() {
    let _deadline = Deadline::seconds(120);
    let thief = Thief::new(Has::All);
    let mine = thief.host.path("apps/mine");
    std::fs::write(thief.at("evil"), "evil").unwrap();
    for command in [thief.scp(), "internal-sftp -R".to_owned()] {
        let issued = thief.issue(&command, |_| {});
        for scp in [&["-O"][..], &[]] {
            let to = format!("HOST:{}", mine.display());
            let new = format!("HOST:{}", thief.host.path("apps/new").display());
            for target in [to, new] {
                let evil = thief.at("evil");
                let arguments = [scp, &[&evil, &target]].concat();
                // Where the host sends instead of receiving, both wait for the other.
                let output = run_for(5, &thief.host, "root", "scp", &arguments, &issued);
                assert!(!output.status.success(), "{command}: {}", said(&output));
            }
        }
        assert_eq!(std::fs::read(&mine).unwrap(), thief.content);
        assert!(!thief.host.path("apps/new").exists());
        // A shell, with and without a terminal.
        for terminal in ["-T", "-tt"] {
            let output = run(&thief.host, "root", "ssh", &[terminal, "HOST", "id"], &issued);
            assert!(!String::from_utf8_lossy(&output.stdout).contains("uid="), "{}", said(&output));
        }
        // Forwarding in both directions. More of it is in `a_certificate_runs_only_its_command`.
        let local = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        local.set_nonblocking(true).unwrap();
        let target = format!("127.0.0.1:{}", local.local_addr().unwrap().port());
        let output = run(&thief.host, "root", "ssh", &["-W", &target, "HOST"], &issued);
        assert!(!output.status.success(), "{}", said(&output));
        assert!(local.accept().is_err(), "no connection was made");
        let output = run(&thief.host, "root", "ssh", &["-N", "-R", &format!("0:{target}"), "HOST"], &issued);
        assert!(!output.status.success(), "{}", said(&output));
    }
    // What SFTP refuses, it refuses by itself, too.
    let issued = thief.issue("internal-sftp -R", |_| {});
    let batch = thief.at("batch");
    for line in ["rm", "chmod 777", "ln -s /etc/passwd"] {
        std::fs::write(&batch, format!("{line} {}\n", mine.display())).unwrap();
        let output = run(&thief.host, "root", "sftp", &["-b", &batch, "HOST"], &issued);
        assert!(!output.status.success(), "{line}: {}", said(&output));
    }
    assert_eq!(std::fs::read(&mine).unwrap(), thief.content);
}

#[test]
fn discoverys_listing_login_can_not_open_files() {
    let _deadline = Deadline::seconds(60);
    let thief = Thief::new(Has::All);
    let issued = thief.issue("internal-sftp -R -p realpath,stat,lstat,opendir,readdir,close", |_| {});
    let batch = thief.at("batch");
    std::fs::write(&batch, format!("ls {}\n", thief.host.path("apps").display())).unwrap();
    let output = run(&thief.host, "root", "sftp", &["-b", &batch, "HOST"], &issued);
    assert!(output.status.success() && said(&output).contains("other"), "{}", said(&output));
    std::fs::write(&batch, format!("get {} {}\n", thief.host.path("apps/mine").display(), thief.at("got"))).unwrap();
    let output = run(&thief.host, "root", "sftp", &["-b", &batch, "HOST"], &issued);
    assert!(!output.status.success(), "{}", said(&output));
    assert_eq!(std::fs::read(thief.at("got")).unwrap_or_default(), b"");
}

#[test]
fn a_certificate_is_refused_late_elsewhere_and_to_others() {
    let _deadline = Deadline::seconds(60);
    let thief = Thief::new(Has::All);
    let refused = |issued: &CertifiedKey, user: &str, why: &str| {
        let before = thief.accepted();
        let output = run(&thief.host, user, "ssh", &["HOST"], issued);
        assert_eq!(output.status.code(), Some(255), "{why}: {}", said(&output));
        assert!(said(&output).contains("Permission denied"), "{why}: {}", said(&output));
        assert_eq!(thief.accepted(), before, "{why}");
    };
    let ago = |seconds| Timestamp::now() - SignedDuration::from_secs(seconds);
    let good = thief.issue(&thief.scp(), |order| order.now = ago(200));
    assert_ne!(run(&thief.host, "root", "ssh", &["HOST"], &good).status.code(), Some(255), "it lives for a while");
    refused(&thief.issue(&thief.scp(), |order| order.now = ago(242)), "root", "after its five minutes");
    refused(&thief.issue(&thief.scp(), |order| order.now = ago(-120)), "root", "before its time");
    refused(&thief.issue(&thief.scp(), |order| order.source_address = Some("127.0.0.2")), "root", "from elsewhere");
    refused(&thief.issue(&thief.scp(), |_| {}), "backup", "as another user");
    let mine = thief.issue(&thief.scp(), |_| {});
    let elsewhere = run(&thief.host, "root", "ssh", &["-b", "127.0.0.2", "HOST"], &mine);
    assert_eq!(elsewhere.status.code(), Some(255), "a thief at another address: {}", said(&elsewhere));
    assert!(thief.host.log().contains("not from a permitted source address (127.0.0.2)"));
    refused(
        &thief.issue(&thief.scp(), |order| order.user = "backup"),
        "root",
        "as another user than the certificate has",
    );
    let log = thief.host.log();
    for words in
        ["expired", "not yet valid", "not from a permitted source address", "not contain an authorized principal"]
    {
        assert!(log.contains(words), "{words}: {log}");
    }
}

#[test]
fn a_host_that_does_not_trust_the_ca_says_what_to_do() {
    let _deadline = Deadline::seconds(60);
    let host = Host::new(Has::All);
    std::fs::write(host.path("apps/a"), "a").unwrap();
    let line = host.client().authorized_keys_line();
    let trusted = std::fs::read_to_string(host.home.path().join("keys/root")).unwrap();
    assert_eq!(line.split(' ').take(3).collect::<Vec<_>>(), trusted.split_whitespace().take(3).collect::<Vec<_>>());
    std::fs::write(host.home.path().join("keys/root"), "").unwrap();
    let client = host.client();
    match client.probe().unwrap_err() {
        TransferError::LoginRefused { host: named, user, hint } => {
            assert_eq!(named, format!("127.0.0.1:{}", host.port));
            assert!(user.starts_with("root with certificate sf-"), "{user}");
            assert!(hint.contains(&line) && hint.contains("clocks"), "{hint}");
        }
        other => panic!("{other:?}"),
    }
    match client.folder().list("apps").unwrap_err() {
        FolderError::Unreachable { why, .. } => assert!(why.contains("authorized_keys of root"), "{why}"),
        other => panic!("{other:?}"),
    }
    // With what it says, it works.
    std::fs::write(host.home.path().join("keys/root"), line + "\n").unwrap();
    assert_eq!(client.probe().unwrap(), "sftp");
}

#[test]
fn a_translated_address_is_reported() {
    let _deadline = Deadline::seconds(60);
    let host = Host::new(Has::All);
    let given = |list: &str| StockHost { source_address: SourceAddress::Given(list.to_owned()), ..host.stock_host() };
    assert!(matches!(host.client_of(given("10.1.2.3")).probe(), Err(TransferError::LoginRefused { .. })));
    assert!(host.client_of(given("10.0.0.0/8,127.0.0.0/8")).probe().is_ok());
    assert!(host.client_of(StockHost { source_address: SourceAddress::Any, ..host.stock_host() }).probe().is_ok());
}

#[test]
fn a_host_with_another_key_gets_no_certificate() {
    let _deadline = Deadline::seconds(60);
    let host = Host::new(Has::All);
    std::fs::write(host.path("apps/a"), "a").unwrap();
    let real = host.stock_host();
    let known = host.client();
    let sink = host.sink("a", 1);
    let file = host.file(&known, "apps/a", &sink);
    let other = stackferry_transfer::ssh::public_line(&stackferry_transfer::ssh::new_key("other"));
    let peer = SshHost { host_keys: HostKeys::Line(other), ..real.peer.clone() };
    let client = host.client_of(StockHost { peer, ..real });
    let error = host.copy(&client, file, &context()).unwrap_err();
    assert!(matches!(error, TransferError::HostKeyChanged { .. }), "{error:?}");
    assert!(host.issued.lock().unwrap().is_empty());
}

#[test]
fn a_host_with_neither_sftp_nor_scp_is_named_so() {
    let _deadline = Deadline::seconds(60);
    let host = Host::new(Has::NoSftp);
    std::fs::write(host.path("apps/a"), "a").unwrap();
    let client = host.client();
    let sink = host.sink("a", 1);
    let file = host.file(&client, "apps/a", &sink);
    std::fs::remove_file(host.home.path().join("bin/scp")).unwrap();
    match host.copy(&client, file, &context()).unwrap_err() {
        TransferError::Unfit { what, hint, .. } => {
            assert!(what.contains("neither SFTP nor scp"), "{what}");
            assert!(hint.contains("Subsystem sftp"), "{hint}");
        }
        other => panic!("{other:?}"),
    }
    std::fs::remove_file(host.home.path().join("bin/find")).unwrap();
    match client.folder().list("apps").unwrap_err() {
        FolderError::Unreachable { why, .. } => assert!(why.contains("GNU find"), "{why}"),
        other => panic!("{other:?}"),
    }
}

/// The hint of a login that this host refuses.
fn hint_of(host: &Host, stock: StockHost) -> String {
    match host.client_of(stock).probe().unwrap_err() {
        TransferError::LoginRefused { hint, .. } => hint,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_refusal_lists_the_hosts_answer_and_every_cause() {
    let _deadline = Deadline::seconds(240);
    let banner = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(banner.path(), "authorised use only\x1b[2J\n").unwrap();
    let banner = format!("Banner {}\n", banner.path().display());
    let cases: [(&str, &str, &[&str]); 4] = [
        (
            "Match User root\nAuthenticationMethods publickey,password\nPasswordAuthentication yes\n",
            "as it is",
            &["second factor", "password", "AuthenticationMethods publickey"],
        ),
        (
            "Match User root\nPubkeyAuthentication no\nPasswordAuthentication yes\n",
            "as it is",
            &["does not accept keys", "would accept: password"],
        ),
        (&banner, "another address", &["authorised use only", "10.1.2.3 only (`source_address`)"]),
        ("", "another address", &["10.1.2.3 only (`source_address`)"]),
    ];
    for (config, source, words) in cases {
        let host = Host::with_config(Has::All, config);
        let stock = host.stock_host();
        let source_address = match source {
            "another address" => SourceAddress::Given("10.1.2.3".to_owned()),
            _ => stock.source_address.clone(),
        };
        let hint = hint_of(&host, StockHost { source_address, ..stock });
        let always = ["authorized_keys of root", "cert-authority,restrict", "the clocks", "PubkeyAcceptedAlgorithms"];
        let more = ["`principals`", "expired or locked", "source_address", "its SSH server: OpenSSH"];
        for word in words.iter().chain(&always).chain(&more) {
            let is_given = *word == "source_address" && source == "as it is";
            assert!(hint.contains(word) || is_given, "{config}: {word} is not in {hint}");
        }
        assert!(!hint.contains('\x1b'), "{hint}");
    }
}

#[test]
fn a_host_without_ed25519_gets_ecdsa() {
    let _deadline = Deadline::seconds(120);
    // As in FIPS mode.
    let host = Host::with_config(
        Has::All,
        "PubkeyAcceptedAlgorithms ecdsa-sha2-nistp256,ecdsa-sha2-nistp256-cert-v01@openssh.com\n",
    );
    let content = noise(9, 100_000);
    std::fs::write(host.path("apps/a"), &content).unwrap();
    let client = host.client();
    let sink = host.sink("a", content.len() as u64);
    let file = host.file(&client, "apps/a", &sink);
    host.copy(&client, file, &context()).unwrap();
    assert_eq!(std::fs::read(host.home.path().join("a")).unwrap(), content);
    assert_eq!(host.issued.lock().unwrap().len(), 1, "what it takes is remembered");
    let log = host.log();
    assert_eq!(log.matches("Accepted publickey").count(), log.matches("ECDSA-CERT SHA256").count());
    assert!(log.contains("ECDSA-CERT SHA256"), "{log}");
    // Its copy is the first login of this client: both attempts are reported.
    let first = host.client();
    let sink = host.sink("b", content.len() as u64);
    host.copy(&first, FileCopy { sink: &sink, ..host.file(&client, "apps/a", &sink) }, &context()).unwrap();
    assert_eq!(host.issued.lock().unwrap().len(), 2);
}

#[test]
fn a_refusing_host_gets_a_second_key_type_once() {
    let _deadline = Deadline::seconds(120);
    let host = Host::new(Has::All);
    std::fs::write(host.home.path().join("keys/root"), "").unwrap();
    let client = host.client();
    for _ in 0..3 {
        assert!(matches!(client.probe(), Err(TransferError::LoginRefused { .. })));
    }
    // Each login asks for the key without a signature, and is one line of the log: two for the first, one for each other.
    let tries = host.log().lines().filter(|line| line.starts_with("Connection closed by authenticating user")).count();
    assert!(tries <= 4, "{}", host.log());
}

#[test]
fn a_shells_message_instead_of_a_listing_is_reported() {
    let _deadline = Deadline::seconds(240);
    for (command, seen, shell) in [
        ("/bin/true", "exit status 0: it wrote nothing", "/bin/true, fish"),
        ("echo welcome", "it wrote: welcome", ""),
        ("printf 'end 0\\0'", "exit status 0", ""),
        ("echo 'if: Expression Syntax.' >&2; exit 1", "exit status 1: if: Expression Syntax.", "a C shell"),
        ("echo 'Illegal variable name.' >&2; exit 1", "exit status 1: Illegal variable name.", "a C shell"),
        ("/bin/false", "exit status 1: it wrote nothing", "/bin/false"),
        ("echo 'fish: Unknown command' >&2; exit 127", "exit status 127: fish:", "fish, which is no POSIX shell"),
        ("echo 'rbash: restricted' >&2; exit 1", "rbash: restricted", "a restricted shell"),
        ("echo 'This account is currently not available.'; exit 1", "it wrote: This account", "nologin"),
    ] {
        // It wins over the certificate's own command.
        let host = Host::with_config(Has::NoSftp, &format!("ForceCommand {command}\n"));
        match host.client().probe().unwrap_err() {
            TransferError::Unfit { what, hint, .. } => {
                assert!(
                    what.contains("`find` prints no list") && what.contains(seen) && what.contains(shell),
                    "{what}"
                );
                assert!(hint.contains("POSIX shell"), "{hint}");
            }
            other => panic!("{command}: {other:?}"),
        }
        for error in [
            host.client().folder().list("apps").unwrap_err(),
            host.client().folder().stat("apps/a").unwrap_err(),
            host.client().folder().list("none").unwrap_err(),
        ] {
            assert!(
                matches!(&error, FolderError::Unreachable { why, .. } if why.contains(seen)),
                "{command}: {error:?}"
            );
        }
    }
}

#[test]
fn a_grant_gives_a_person_one_file_by_scp() {
    let _deadline = Deadline::seconds(60);
    let host = Host::new(Has::All);
    let content = noise(3, 50_000);
    std::fs::write(host.path("apps/it's a"), &content).unwrap();
    let grant = host.client().grant("apps/it's a", Duration::from_secs(3600), Some("127.0.0.1")).unwrap();
    assert!(grant.expires <= Timestamp::now() + SignedDuration::from_secs(241), "five minutes at most");
    assert!(!format!("{grant:?}").contains("PRIVATE"));
    let folder = tempfile::tempdir().unwrap();
    let key = folder.path().join("key");
    std::fs::write(&key, grant.key.expose()).unwrap();
    std::fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    std::fs::write(folder.path().join("key-cert.pub"), grant.certificate + "\n").unwrap();
    let got = folder.path().join("got");
    let output = std::process::Command::new("scp")
        .args(["-O", "-F", "/dev/null", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"])
        .args(["-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes", "-i"])
        .arg(&key)
        .args([
            "-P",
            &host.port.to_string(),
            &format!("root@127.0.0.1:{}", grant.path.replace('\'', "\\'").replace(' ', "\\ ")),
        ])
        .arg(&got)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", said(&output));
    assert_eq!(std::fs::read(&got).unwrap(), content);
}
