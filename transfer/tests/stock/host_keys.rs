//! Which host key is asked for, and what a list may hold beside it: as OpenSSH's own client has it.

use std::fmt::Write;
use std::process::Command;

use stackferry_transfer::TransferError;
use stackferry_transfer::known_hosts::HostKeys;
use stackferry_transfer::ssh::SshHost;
use stackferry_transfer::stock::StockHost;

use crate::support::Deadline;
use crate::support::host::{Has, Host};

/// A host that has an ECDSA key, too, and a certificate for its Ed25519 key.
struct Hosts {
    host: Host,
    keys: tempfile::TempDir,
    /// The public keys, as type and base64.
    ed25519: String,
    ecdsa: String,
    authority: String,
}

fn keygen(folder: &std::path::Path, arguments: &[&str]) {
    let output = Command::new("ssh-keygen").arg("-q").args(arguments).current_dir(folder).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {output:?}");
}

impl Hosts {
    fn new(has_certificate: bool) -> Self {
        let keys = tempfile::tempdir().unwrap();
        for (kind, name) in [("ecdsa", "ecdsa"), ("ed25519", "more"), ("ed25519", "authority")] {
            keygen(keys.path(), &["-t", kind, "-N", "", "-f", name]);
        }
        keygen(keys.path(), &["-s", "authority", "-I", "host", "-h", "-n", "127.0.0.1", "more.pub"]);
        let at = |name: &str| keys.path().join(name).display().to_string();
        let mut config = format!("HostKey {}\n", at("ecdsa"));
        if has_certificate {
            let _ = write!(config, "HostKey {}\nHostCertificate {}\n", at("more"), at("more-cert.pub"));
        }
        let host = Host::with_config(Has::All, &config);
        let public = |name: &str| {
            let text = std::fs::read_to_string(keys.path().join(name)).unwrap();
            text.split(' ').take(2).collect::<Vec<_>>().join(" ")
        };
        let HostKeys::Line(ed25519) = host.stock_host().peer.host_keys else { panic!("a line was expected") };
        let ed25519 = ed25519.split(' ').take(2).collect::<Vec<_>>().join(" ");
        let (ecdsa, authority) = (public("ecdsa.pub"), public("authority.pub"));
        Self { host, keys, ed25519, ecdsa, authority }
    }

    /// Whether it is let in with this list.
    fn probe(&self, list: &[u8]) -> Result<&'static str, TransferError> {
        let file = self.keys.path().join("known_hosts");
        std::fs::write(&file, list).unwrap();
        let real = self.host.stock_host();
        let peer = SshHost { host_keys: HostKeys::File(file), ..real.peer.clone() };
        self.host.client_of(StockHost { peer, ..real }).probe()
    }

    fn name(&self) -> String {
        format!("[127.0.0.1]:{}", self.host.port)
    }
}

#[test]
fn the_known_host_key_is_requested() {
    let _deadline = Deadline::seconds(120);
    let hosts = Hosts::new(false);
    let name = hosts.name();
    for known in [&hosts.ed25519, &hosts.ecdsa] {
        hosts.probe(format!("{name} {known}\n").as_bytes()).unwrap();
    }
    // A true key of a type that the host does not show is no sign of a man in the middle.
    let rsa = "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAAAgQC3";
    for other in [rsa, "ssh-dss AAAAB3NzaC1kc3M=", "ssh-new AAAA"] {
        let error = hosts.probe(format!("{name} {other}\n").as_bytes()).unwrap_err();
        assert!(matches!(error, TransferError::HostKeyUnknown { .. }), "{other}: {error:?}");
    }
    let wrong = hosts.ed25519.replace("AAAAC3NzaC1lZDI1NTE5AAAAI", "AAAAC3NzaC1lZDI1NTE5AAAAIA");
    let wrong = wrong.get(..hosts.ed25519.len()).unwrap();
    let error = hosts.probe(format!("{name} {wrong}\n").as_bytes()).unwrap_err();
    assert!(matches!(error, TransferError::HostKeyChanged { .. }), "{error:?}");
}

#[test]
fn one_bad_known_hosts_line_does_not_affect_the_others() {
    let _deadline = Deadline::seconds(120);
    let hosts = Hosts::new(false);
    let good = format!("{} {}\n", hosts.name(), hosts.ed25519);
    let latin = [b"other.example.test ".as_slice(), hosts.ecdsa.as_bytes(), b" caf\xe9\n"].concat();
    let broken = b"other ssh-ed25519\n@new x y z\nother ssh-ed25519 AAAA\n\xff\xfe\xe9\n";
    for before in [&latin[..], broken, b"\xef\xbb\xbf", b"\xef\xbb\xbf# list\r\n"] {
        hosts.probe(&[before, good.as_bytes()].concat()).unwrap();
    }
    let wide: Vec<u8> = good.encode_utf16().flat_map(u16::to_le_bytes).collect();
    match hosts.probe(&[b"\xff\xfe".as_slice(), &wide].concat()).unwrap_err() {
        TransferError::KnownHosts { why, .. } => assert!(why.contains("UTF-16"), "{why}"),
        other => panic!("{other:?}"),
    }
    let revoked = format!("{good}@revoked * {}\n", hosts.ed25519);
    assert!(matches!(hosts.probe(revoked.as_bytes()), Err(TransferError::HostKeyRevoked { .. })));
}

#[test]
fn a_host_is_known_by_the_authority_of_its_certificate() {
    let _deadline = Deadline::seconds(120);
    let hosts = Hosts::new(true);
    let (name, authority) = (hosts.name(), &hosts.authority);
    hosts.probe(format!("@cert-authority {name} {authority}\n").as_bytes()).unwrap();
    hosts.probe(format!("@cert-authority [127.*]:* {authority}\n").as_bytes()).unwrap();
    for (list, is_expected) in [
        (format!("@cert-authority other {authority}\n"), "unknown"),
        (format!("@cert-authority {name} {}\n", hosts.ed25519), "unknown"),
        (format!("@cert-authority {name} {authority}\n@revoked * {authority}\n"), "revoked"),
    ] {
        let error = hosts.probe(list.as_bytes()).unwrap_err();
        let is = match error {
            TransferError::HostKeyUnknown { .. } => "unknown",
            TransferError::HostKeyRevoked { .. } => "revoked",
            other => panic!("{list}: {other:?}"),
        };
        assert_eq!(is, is_expected, "{list}");
    }
}
