use super::*;
use russh::keys::PrivateKey;
use russh::keys::ssh_key::certificate::Builder;
use russh::keys::ssh_key::private::Ed25519Keypair;

/// A host's RSA key, as `ssh-keygen -t rsa` makes it.
const RSA: &str = "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABAQDd";

fn private(seed: u8) -> PrivateKey {
    PrivateKey::from(Ed25519Keypair::from_seed(&[seed; 32]))
}

fn key(seed: u8) -> PublicKey {
    private(seed).public_key().clone()
}

fn line(hosts: &str, seed: u8) -> String {
    format!("{hosts} {}\n", key(seed).to_openssh().unwrap())
}

/// An ECDSA key, for a type that is another one than [`key`]'s.
fn ecdsa() -> &'static str {
    "ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBHwf2HMM5TRXvo2SQJjsNkiDD5KqiiNjrGVv3UUh+mMT5RHxiRtOnlqvjhQtBq0VpmpCV/PwUdhOig4vkbqAcEc="
}

fn known(content: &[u8], name: &str) -> Result<KnownHost, TransferError> {
    let lines = lines::parse(content, "known_hosts")
        .map_err(|why| TransferError::KnownHosts { place: "known_hosts".to_owned(), why })?;
    KnownHost::of_lines(&lines, "known_hosts", name.to_owned(), vec![name.to_owned()])
}

fn verdict_on(content: &[u8], host: &str, port: u16, seed: u8) -> Result<(), TransferError> {
    known(content, &listed_name(host, port)).and_then(|known| known.verdict(&key(seed)))
}

fn word(verdict: Result<(), TransferError>) -> &'static str {
    match verdict {
        Ok(()) => "known",
        Err(TransferError::HostKeyUnknown { listed: None, .. }) => "unknown",
        Err(TransferError::HostKeyUnknown { .. }) => "unknown, with a word of the list",
        Err(TransferError::HostKeyChanged { place, .. }) => {
            assert!(place.starts_with("known_hosts:"));
            "changed"
        }
        Err(TransferError::HostKeyRevoked { .. }) => "revoked",
        Err(TransferError::KnownHosts { .. }) => "list",
        Err(other) => panic!("{other}"),
    }
}

fn verdict(text: &str, host: &str, port: u16, seed: u8) -> &'static str {
    word(verdict_on(text.as_bytes(), host, port, seed))
}

#[test]
fn known_unknown_and_changed_keys_are_told_apart() {
    let text = line("stor1.example.com,10.0.0.1", 1) + &line("[stor2.example.com]:2222", 2);
    assert_eq!(verdict(&text, "stor1.example.com", 22, 1), "known");
    assert_eq!(verdict(&text, "10.0.0.1", 22, 1), "known");
    assert_eq!(verdict(&text, "stor1.example.com", 22, 9), "changed");
    assert_eq!(verdict(&text, "stor1.example.com", 2222, 1), "unknown");
    assert_eq!(verdict(&text, "stor2.example.com", 2222, 2), "known");
    assert_eq!(verdict(&text, "stor2.example.com", 22, 2), "unknown");
}

#[test]
fn a_key_of_another_type_is_unknown_and_not_changed() {
    let text = format!("a {}\n", ecdsa());
    match verdict_on(text.as_bytes(), "a", 22, 1).unwrap_err() {
        TransferError::HostKeyUnknown { listed: Some(listed), key: line, .. } => {
            assert!(listed.contains("ecdsa-sha2-nistp256 at known_hosts:1"), "{listed}");
            assert_eq!(line, format!("a {}", key(1).to_openssh().unwrap()));
        }
        other => panic!("{other:?}"),
    }
    // Beside another key of its own type it is changed, and with its own it is known.
    assert_eq!(verdict(&(text.clone() + &line("a", 2)), "a", 22, 1), "changed");
    assert_eq!(verdict(&(line("a", 1) + &text), "a", 22, 1), "known");
    // What the configuration has as one line is no other than a list.
    let keys = HostKeys::Line(ecdsa().to_owned());
    assert_eq!(word(check(&keys, "types.example.com", 22, &key(1))), "unknown, with a word of the list");
    assert_eq!(mismatches().get("types.example.com:22"), Some(&0));
}

#[test]
fn changed_keys_are_counted_by_host() {
    let known = HostKeys::Line(key(1).to_openssh().unwrap());
    let count = || mismatches().get("counted.example.com:22").copied();
    check(&known, "counted.example.com", 22, &key(1)).unwrap();
    assert_eq!(count(), Some(0));
    for expected in 1..=2 {
        check(&known, "counted.example.com", 22, &key(2)).unwrap_err();
        assert_eq!(count(), Some(expected));
    }
}

#[test]
fn wildcards_negations_markers_and_comments_are_supported() {
    let text = format!("# comment\n\n{}{}", line("*.example.com,!bad.example.com", 1), line("@revoked *", 3));
    assert_eq!(verdict(&text, "a.example.com", 22, 1), "known");
    assert_eq!(verdict(&text, "A.EXAMPLE.com", 22, 1), "known");
    assert_eq!(verdict(&text, "bad.example.com", 22, 1), "unknown");
    assert_eq!(verdict(&text, "bad.example.com", 22, 3), "revoked");
    // Wherever it stands, and though another line knows it.
    assert_eq!(verdict(&(line("a", 3) + &text), "a", 22, 3), "revoked");
    assert_eq!(verdict(&line("@cert-authority *", 1), "a", 22, 1), "unknown");
}

#[test]
fn an_unreadable_line_does_not_affect_the_others() {
    let good = line("good", 1);
    let key_text = key(2).to_openssh().unwrap();
    for bad in [
        &b"other ssh-ed25519 caf\xe9"[..],
        b"\xe9\xff ssh-ed25519 AAAA",
        b"bad ssh-rsa AAAAbroken",
        b"bad ssh-rsa",
        b"bad",
        b"@revoked",
        b"@new good ssh-ed25519 AAAA",
        b"bad ssh-new AAAA",
        b"bad ssh-dss AAAAB3NzaC1kc3MAAACB",
        b"<html>\xa0 not a list </html>",
        RSA.as_bytes(),
    ] {
        for content in [[bad, b"\n", good.as_bytes()].concat(), [good.as_bytes(), bad].concat()] {
            let shown = String::from_utf8_lossy(&content).into_owned();
            assert_eq!(word(verdict_on(&content, "good", 22, 1)), "known", "{shown}");
            assert_eq!(word(verdict_on(&content, "good", 22, 2)), "changed", "{shown}");
        }
    }
    // Blanks, tabs, line ends and comments in any bytes, as OpenSSH has them.
    for content in [
        format!("  good\t {key_text} \t caf\u{e9} # x\r\n").into_bytes(),
        [b"good ".as_slice(), key_text.as_bytes(), b" caf\xe9\n"].concat(),
        [b"good,\xe9\xff ".as_slice(), key_text.as_bytes()].concat(),
        [b"\xef\xbb\xbfgood ".as_slice(), key_text.as_bytes()].concat(),
    ] {
        assert_eq!(word(verdict_on(&content, "good", 22, 2)), "known", "{}", String::from_utf8_lossy(&content));
    }
}

#[test]
fn the_unreadable_line_of_the_host_is_reported() {
    for text in ["# x\ngood ssh-rsa AAAAbroken", "\ngood ssh-new AAAA", "\ngood,b x"] {
        match verdict_on(text.as_bytes(), "good", 22, 1).unwrap_err() {
            TransferError::HostKeyUnknown { listed: Some(listed), .. } => {
                assert!(listed.starts_with("known_hosts:2 is for it, but "), "{listed}");
            }
            other => panic!("{text}: {other:?}"),
        }
    }
    // What revokes a key of this host must not be overlooked.
    let text = line("good", 1) + "@revoked good ssh-ed25519 AAAAbroken\n";
    match verdict_on(text.as_bytes(), "good", 22, 1).unwrap_err() {
        TransferError::KnownHosts { place, .. } => assert_eq!(place, "known_hosts:2"),
        other => panic!("{other:?}"),
    }
    assert_eq!(verdict(&text.replace("@revoked good", "@revoked other"), "good", 22, 1), "known");
}

#[test]
fn a_utf_16_list_is_reported_as_such() {
    let text = line("good", 1);
    let wide = |begin: &[u8], big: bool| {
        let units = text.encode_utf16().flat_map(|unit| if big { unit.to_be_bytes() } else { unit.to_le_bytes() });
        begin.iter().copied().chain(units).collect::<Vec<u8>>()
    };
    for content in [wide(b"\xff\xfe", false), wide(b"\xfe\xff", true), wide(b"", false)] {
        match verdict_on(&content, "good", 22, 1).unwrap_err() {
            TransferError::KnownHosts { why, .. } => assert!(why.contains("UTF-16"), "{why}"),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_certificate_counts_by_its_authority_name_and_time() {
    const NOW: u64 = 1_800_000_000;
    let issue = |change: &dyn Fn(&mut Builder)| {
        let mut builder = Builder::new([7; 32], private(2).public_key(), NOW - 60, NOW + 60).unwrap();
        builder.serial(1).unwrap().key_id("host").unwrap();
        change(&mut builder);
        builder.sign(&private(9)).unwrap()
    };
    let host = |builder: &mut Builder, name: &str| {
        builder.cert_type(CertType::Host).unwrap().valid_principal(name).unwrap();
    };
    let authority = line("@cert-authority *.example.com", 9);
    let name = "[a.example.com]:2222";
    let judge = |text: &str, certificate: &Certificate, now: u64| {
        word(known(text.as_bytes(), name).and_then(|known| known.verdict_on_certificate(certificate, now)))
    };
    let good = issue(&|builder| host(builder, "a.example.com"));
    assert_eq!(judge(&authority, &good, NOW), "known");
    assert_eq!(judge(&authority, &issue(&|builder| host(builder, "*.example.com")), NOW), "known");
    assert_eq!(judge(&authority, &good, NOW + 60), "unknown", "too late");
    assert_eq!(judge(&authority, &good, NOW - 61), "unknown", "too early");
    assert_eq!(judge(&authority, &issue(&|builder| host(builder, "b.example.com")), NOW), "unknown");
    let user = issue(&|builder| {
        builder.cert_type(CertType::User).unwrap().valid_principal("a.example.com").unwrap();
    });
    assert_eq!(judge(&authority, &user, NOW), "unknown");
    let bound = issue(&|builder| {
        host(builder, "a.example.com");
        builder.critical_option("new", "option").unwrap();
    });
    assert_eq!(judge(&authority, &bound, NOW), "unknown", "an option that nobody knows");
    assert_eq!(judge(&line("@cert-authority *", 8), &good, NOW), "unknown", "another authority");
    assert_eq!(judge(&line("*", 9), &good, NOW), "changed", "a host's own key signs nothing");
    assert_eq!(judge(&(authority.clone() + &line("@revoked *", 9)), &good, NOW), "revoked");
    assert_eq!(judge(&(authority.clone() + &line("@revoked *", 2)), &good, NOW), "revoked");
    // The key in a certificate of no authority of ours may be known itself.
    assert_eq!(judge(&line(name, 2), &good, NOW + 600), "known");
    assert_eq!(judge(&line(name, 3), &good, NOW), "changed");
}

#[test]
fn the_known_key_types_are_requested() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let text = format!("a {}\n{}{}", ecdsa(), line("@cert-authority b", 1), line("@revoked a", 2)) + &line("b", 3);
    std::fs::write(file.path(), text).unwrap();
    let types = |host: &str| known_types(&HostKeys::File(file.path().to_owned()), host, 22);
    let (a, b, c) = (types("a"), types("b"), types("c"));
    assert_eq!((a.keys.len(), a.has_authority), (1, false));
    assert!(matches!(a.keys[0], Algorithm::Ecdsa { .. }));
    assert_eq!((b.keys, b.has_authority), (vec![Algorithm::Ed25519], true));
    assert_eq!(c, KnownTypes::default());
    assert_eq!(known_types(&HostKeys::File("/nonexistent".into()), "a", 22), KnownTypes::default());
}
