//! What a certificate says, read by OpenSSH; what it gives beyond its command, asked for by a client without manners;
//! and a host that has only an RSA key.

use std::process::Command;
use std::sync::Arc;

use jiff::Timestamp;
use jiff::civil::DateTime;
use russh::client::{self, Handle};
use russh::keys::PublicKeyOrCertificate;
use russh::{Channel, ChannelMsg};
use stackferry_transfer::TransferError;
use stackferry_transfer::known_hosts::HostKeys;
use stackferry_transfer::ssh::SshHost;
use stackferry_transfer::stock::certificate::{CertAuthority, CertificateRequest, CertifiedKey};
use stackferry_transfer::stock::{CERTIFICATE_LIFE, StockHost};

use crate::support::Deadline;
use crate::support::host::{Has, Host};

fn issue(host: &Host) -> CertifiedKey {
    let authority = CertAuthority::load(&host.home.path().join("user_ca")).unwrap();
    let source_address = Some("127.0.0.1");
    let (now, life) = (Timestamp::now(), CERTIFICATE_LIFE);
    authority.issue(&CertificateRequest { user: "root", command: "sleep 30", source_address, now, life }).unwrap()
}

#[test]
fn openssh_parses_the_certificates_limits() {
    let _deadline = Deadline::seconds(60);
    let host = Host::new(Has::All);
    let issued = issue(&host);
    let file = host.home.path().join("key-cert.pub");
    std::fs::write(&file, issued.certificate_line().unwrap()).unwrap();
    let output = Command::new("ssh-keygen").args(["-L", "-f"]).arg(&file).env("TZ", "UTC").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let times = text.lines().find_map(|line| line.trim().strip_prefix("Valid: from ")).unwrap();
    let (from, to) = times.split_once(" to ").unwrap();
    let seconds = |text: &str| text.parse::<DateTime>().unwrap().to_zoned(jiff::tz::TimeZone::UTC).unwrap().timestamp();
    assert_eq!(seconds(to).as_second() - seconds(from).as_second(), 300, "{text}");
    assert_eq!(seconds(to), issued.expires);
    assert!((239..=241).contains(&(seconds(to).as_second() - Timestamp::now().as_second())), "{text}");
    let lines: Vec<_> = text.lines().map(str::trim).collect();
    for line in ["Extensions: (none)", "force-command sleep 30", "source-address 127.0.0.1", "root"] {
        assert!(lines.contains(&line), "{line}: {text}");
    }
    assert!(text.contains(&format!("Key ID: \"{}\"", issued.name)) && text.contains(&issued.serial.to_string()));
    let principals = lines.iter().skip_while(|line| **line != "Principals:").skip(1);
    assert_eq!(principals.take_while(|line| !line.ends_with(':')).count(), 1, "{text}");
}

struct Anybody;

impl client::Handler for Anybody {
    type Error = russh::Error;
    async fn check_server_key(&mut self, _: &PublicKeyOrCertificate) -> Result<bool, russh::Error> {
        Ok(true)
    }
}

/// What was granted, of all that a session can ask for.
async fn granted(host: &Host, handle: Handle<Anybody>) -> Vec<&'static str> {
    let mut granted = Vec::new();
    let mut note = |what, is_granted: bool| granted.extend(is_granted.then_some(what));
    let mut session = handle.channel_open_session().await.unwrap();
    session.request_pty(true, "xterm", 80, 24, 0, 0, &[]).await.unwrap();
    note("terminal", yes(&mut session).await);
    session.agent_forward(true).await.unwrap();
    note("agent", yes(&mut session).await);
    session.request_x11(true, false, "MIT-MAGIC-COOKIE-1", "0123456789abcdef0123456789abcdef", 0).await.unwrap();
    note("X11", yes(&mut session).await);
    let target = u32::from(host.port);
    note("local", handle.channel_open_direct_tcpip("127.0.0.1", target, "127.0.0.1", 1).await.is_ok());
    let path = host.home.path().join(format!("local-{}", rand::random::<u32>()));
    let _listening = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let path = path.display().to_string();
    note("local socket", handle.channel_open_direct_streamlocal(path).await.is_ok());
    note("remote", handle.tcpip_forward("127.0.0.1", 0).await.is_ok());
    let path = host.home.path().join(format!("remote-{}", rand::random::<u32>())).display().to_string();
    note("remote socket", handle.streamlocal_forward(path).await.is_ok());
    granted
}

async fn yes(channel: &mut Channel<client::Msg>) -> bool {
    loop {
        match channel.wait().await {
            Some(ChannelMsg::Success) => return true,
            Some(ChannelMsg::Failure) | None => return false,
            Some(_) => {}
        }
    }
}

async fn connect(host: &Host) -> Handle<Anybody> {
    client::connect(Arc::default(), ("127.0.0.1", host.port), Anybody).await.unwrap()
}

#[test]
fn a_certificate_runs_only_its_command() {
    let _deadline = Deadline::seconds(120);
    // The host itself would allow all of it.
    let host = Host::with_config(Has::All, "X11Forwarding yes\nAllowStreamLocalForwarding yes\nPermitTTY yes\n");
    let issued = issue(&host);
    let plain = stackferry_transfer::ssh::public_line(&issued.key);
    let by_certificate = host.runtime.block_on(async {
        let mut handle = connect(&host).await;
        let login = handle.authenticate_openssh_cert("root", issued.key.clone(), issued.certificate.clone());
        assert!(login.await.unwrap().success());
        granted(&host, handle).await
    });
    assert_eq!(by_certificate, Vec::<&str>::new());
    // The same key without our line and certificate: that it is refused above is their doing.
    std::fs::write(host.home.path().join("keys/root"), plain + "\n").unwrap();
    let by_key = host.runtime.block_on(async {
        let mut handle = connect(&host).await;
        let key = russh::keys::PrivateKeyWithHashAlg::new(issued.key.clone(), None);
        assert!(handle.authenticate_publickey("root", key).await.unwrap().success());
        granted(&host, handle).await
    });
    for what in ["terminal", "agent", "local", "local socket", "remote", "remote socket"] {
        assert!(by_key.contains(&what), "{what}: {by_key:?}");
    }
}

#[test]
fn a_host_with_only_an_rsa_key_is_reported_or_read() {
    let _deadline = Deadline::seconds(60);
    let folder = tempfile::tempdir().unwrap();
    let key = folder.path().join("rsa");
    let made = Command::new("ssh-keygen").args(["-q", "-t", "rsa", "-b", "2048", "-N", "", "-f"]).arg(&key).status();
    assert!(made.unwrap().success());
    let more = format!("HostKey {}\nHostKeyAlgorithms rsa-sha2-512,rsa-sha2-256\n", key.display());
    let host = Host::with_config(Has::All, &more);
    let public = std::fs::read_to_string(folder.path().join("rsa.pub")).unwrap();
    let real = host.stock_host();
    let peer = SshHost { host_keys: HostKeys::Line(public.trim().to_owned()), ..real.peer.clone() };
    let probed = host.client_of(StockHost { peer, ..real }).probe();
    if cfg!(feature = "rsa") {
        assert_eq!(probed.unwrap(), "sftp");
        return;
    }
    match probed.unwrap_err() {
        TransferError::Unfit { what, hint, .. } => {
            assert!(what.contains("no type of host key that this program uses, only rsa-sha2-512"), "{what}");
            assert!(hint.contains("ssh-keygen -A") && hint.contains("feature `rsa`"), "{hint}");
        }
        other => panic!("{other:?}"),
    }
}
