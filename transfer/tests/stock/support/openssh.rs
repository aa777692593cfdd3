//! OpenSSH's own programs with a certificate that was made here, as who stole it would use it.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use stackferry_transfer::stock::certificate::CertifiedKey;

use super::host::Host;

/// Runs `ssh`, `scp` or `sftp` with a key and its certificate. `HOST` in the arguments stands for `user@127.0.0.1`.
pub(crate) fn run(host: &Host, user: &str, program: &str, arguments: &[&str], issued: &CertifiedKey) -> Output {
    run_for(60, host, user, program, arguments, issued)
}

/// The same, ended after so many seconds.
pub(crate) fn run_for(
    seconds: u32,
    host: &Host,
    user: &str,
    program: &str,
    arguments: &[&str],
    issued: &CertifiedKey,
) -> Output {
    let folder = tempfile::tempdir_in(host.home.path()).unwrap();
    let key = folder.path().join("key");
    std::fs::write(&key, issued.key_text().unwrap().expose()).unwrap();
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
    std::fs::write(folder.path().join("key-cert.pub"), issued.certificate_line().unwrap() + "\n").unwrap();
    let known = folder.path().join("known_hosts");
    let public = russh::keys::PrivateKey::from_openssh(std::fs::read(host.home.path().join("host_key")).unwrap())
        .unwrap()
        .public_key()
        .to_openssh()
        .unwrap();
    std::fs::write(&known, format!("[127.0.0.1]:{} {public}\n", host.port)).unwrap();
    let mut command = Command::new("/usr/bin/timeout");
    command.args(["-k", "5", &seconds.to_string()]).arg(Path::new("/usr/bin").join(program)).args(["-F", "/dev/null"]);
    for option in [
        &format!("UserKnownHostsFile={}", known.display()),
        &format!("IdentityFile={}", key.display()),
        "IdentitiesOnly=yes",
        "GlobalKnownHostsFile=/dev/null",
        "StrictHostKeyChecking=yes",
        "BatchMode=yes",
        "ConnectTimeout=10",
        "ExitOnForwardFailure=yes",
    ] {
        command.args(["-o", option]);
    }
    command.arg(if program == "ssh" { "-p" } else { "-P" }).arg(host.port.to_string());
    command.args(arguments.iter().map(|argument| argument.replace("HOST", &format!("{user}@127.0.0.1"))));
    command.env_remove("SSH_AUTH_SOCK").env("LC_ALL", "C");
    command.stdin(Stdio::null()).output().unwrap()
}

/// What a program said, for a failed assertion.
pub(crate) fn said(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    format!("{:?}: {} {}", output.status.code(), text(&output.stdout), text(&output.stderr))
}
