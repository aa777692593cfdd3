//! OpenSSH's own clients, fed with a one-time password.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use stackferry_transfer::remote::IssuedCredential;

use super::place::Place;

/// What one program of OpenSSH is given: known hosts, and a way to the password that is no argument.
pub(crate) struct OpenSsh {
    folder: PathBuf,
    port: u16,
}

impl OpenSsh {
    pub(crate) fn new(place: &Place) -> Self {
        let folder = place.home.path().join("openssh");
        if !folder.exists() {
            std::fs::create_dir(&folder).unwrap();
            let port = place.address.port();
            std::fs::write(folder.join("known_hosts"), format!("[127.0.0.1]:{port} {}\n", place.host_key)).unwrap();
            let askpass = folder.join("askpass");
            std::fs::write(&askpass, "#!/bin/sh\nexec cat \"$0.secret\"\n").unwrap();
            std::fs::set_permissions(&askpass, std::fs::Permissions::from_mode(0o700)).unwrap();
        }
        Self { folder, port: place.address.port() }
    }

    /// Runs `ssh`, `scp` or `sftp` with a credential. In `arguments`, `HOST` stands for `user@127.0.0.1`.
    pub(crate) fn run(
        &self,
        program: &str,
        arguments: &[&str],
        credential: &IssuedCredential,
        input: Option<&str>,
    ) -> Output {
        let path = Path::new("/usr/bin").join(program);
        assert!(path.exists(), "{} is missing: these tests need OpenSSH's clients", path.display());
        std::fs::write(self.folder.join("askpass.secret"), credential.password.expose()).unwrap();
        let host = format!("{}@127.0.0.1", credential.user);
        let mut command = Command::new("/usr/bin/timeout");
        command.args(["-k", "5", "60"]).arg(path).args(["-F", "/dev/null"]);
        for option in [
            &format!("UserKnownHostsFile={}", self.folder.join("known_hosts").display()),
            "GlobalKnownHostsFile=/dev/null",
            "StrictHostKeyChecking=yes",
            "BatchMode=no",
            "PubkeyAuthentication=no",
            "NumberOfPasswordPrompts=1",
            "ConnectTimeout=10",
        ] {
            command.args(["-o", option]);
        }
        command.arg(if program == "ssh" { "-p" } else { "-P" }).arg(self.port.to_string());
        command.args(arguments.iter().map(|argument| argument.replace("HOST", &host)));
        command.env("SSH_ASKPASS", self.folder.join("askpass")).env("SSH_ASKPASS_REQUIRE", "force");
        command.env_remove("SSH_AUTH_SOCK").env("LC_ALL", "C");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        if let Some(input) = input {
            // A program that refused may be gone already.
            let _ = std::io::Write::write_all(&mut stdin, input.as_bytes());
        }
        drop(stdin);
        child.wait_with_output().unwrap()
    }
}

/// What a program said, for a failed assertion.
pub(crate) fn said(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    format!("{:?}: {} {}", output.status.code(), text(&output.stdout), text(&output.stderr))
}
