//! A stock SSH server of Debian, with a datastore and a CA that two of its users trust.

use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use stackferry_config::SourceAddress;
use stackferry_transfer::known_hosts::HostKeys;
use stackferry_transfer::ssh::{SshHost, new_key};
use stackferry_transfer::stock::{IssuedCert, StockClient, StockHost};
use stackferry_transfer::{CopyContext, FileCopy, FileOutcome, NoProgress, TransferError};
use stackferry_volume::io::Cancel;
use stackferry_volume::{BlockMap, Folder};
use tempfile::TempDir;
use tokio::runtime::Runtime;

use super::sink::TestSink;
use super::wait_until;

/// What a host has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Has {
    /// SFTP and Python.
    All,
    /// SFTP, and no Python where the user's shell finds it.
    NoPython,
    /// Neither SFTP nor Python.
    NoSftp,
}

pub(crate) struct Host {
    pub(crate) home: TempDir,
    pub(crate) runtime: Runtime,
    pub(crate) port: u16,
    host_key: String,
    sshd: Child,
    /// Every certificate that was issued for a file.
    pub(crate) issued: Mutex<Vec<IssuedCert>>,
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = self.sshd.kill();
        let _ = self.sshd.wait();
    }
}

pub(super) fn write_key(path: &Path, comment: &str) -> String {
    let key = new_key(comment);
    std::fs::write(path, key.to_openssh(russh::keys::ssh_key::LineEnding::LF).unwrap().as_bytes()).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
    key.public_key().to_openssh().unwrap()
}

impl Host {
    pub(crate) fn new(has: Has) -> Self {
        Self::with_config(has, "")
    }

    /// With more lines in `sshd_config`.
    pub(crate) fn with_config(has: Has, more: &str) -> Self {
        let home = tempfile::tempdir().unwrap();
        // The user of one test is not root.
        std::fs::set_permissions(home.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        let at = |name: &str| home.path().join(name);
        std::fs::create_dir_all(at("ds/apps")).unwrap();
        std::fs::create_dir_all(at("keys")).unwrap();
        std::fs::create_dir_all(at("bin")).unwrap();
        for name in ["scp", "find", "head", "env", "cat", "printf"] {
            let real = Command::new("/bin/sh").args(["-c", &format!("command -v {name}")]).output().unwrap();
            let real = String::from_utf8(real.stdout).unwrap();
            // A shell's own commands need no file.
            if real.starts_with('/') {
                std::os::unix::fs::symlink(real.trim(), at("bin").join(name)).unwrap();
            }
        }
        let host_key = write_key(&at("host_key"), "host");
        let ca = write_key(&at("user_ca"), "ca");
        for user in ["root", "backup"] {
            let line = format!("cert-authority,restrict,principals=\"{user}\" {ca}\n");
            std::fs::write(at("keys").join(user), line).unwrap();
        }
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let (sshd, port) = start(home.path(), has, more);
        Self { home, runtime, port, host_key, sshd, issued: Mutex::default() }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.home.path().join("ds").join(name)
    }

    pub(crate) fn stock_host(&self) -> StockHost {
        let host_keys = HostKeys::Line(self.host_key.clone());
        StockHost {
            peer: SshHost { host: "127.0.0.1".to_owned(), port: self.port, host_keys },
            user: "root".to_owned(),
            root: self.home.path().join("ds"),
            ca_key: self.home.path().join("user_ca"),
            source_address: SourceAddress::Connection,
        }
    }

    pub(crate) fn client(&self) -> StockClient {
        self.client_of(self.stock_host())
    }

    pub(crate) fn client_of(&self, host: StockHost) -> StockClient {
        StockClient::new(host, self.runtime.handle().clone()).unwrap()
    }

    pub(crate) fn sink(&self, name: &str, bytes: u64) -> TestSink {
        TestSink::new(self.home.path(), name, bytes)
    }

    /// The file as discovery sees it now, by this client.
    pub(crate) fn file<'a>(&self, client: &StockClient, path: &'a str, sink: &'a TestSink) -> FileCopy<'a> {
        let entry = client.folder().stat(path).unwrap().unwrap();
        let done = BlockMap::new(entry.bytes);
        FileCopy { path, bytes: entry.bytes, mtime: entry.mtime, sink, done, base: None }
    }

    /// Copies, and notes the certificates.
    pub(crate) fn copy(
        &self,
        client: &StockClient,
        file: FileCopy<'_>,
        context: &CopyContext,
    ) -> Result<FileOutcome, TransferError> {
        client.copy(file, context, &mut |issued| self.issued.lock().unwrap().push(issued.clone()))
    }

    /// Names of certificates that were issued for files, and the host's log says that it took.
    pub(crate) fn taken(&self) -> Vec<(String, u64, String)> {
        let log = self.log();
        let issued = self.issued.lock().unwrap();
        let taken = |cert: &&IssuedCert| log.contains(&format!("ID {} (serial {})", cert.name, cert.serial));
        issued.iter().filter(taken).map(|cert| (cert.name.clone(), cert.serial, key_of(&log, &cert.name))).collect()
    }

    /// The server's own process.
    pub(crate) fn server(&self) -> u32 {
        self.sshd.id()
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.home.path().join("sshd.log")).unwrap_or_default()
    }
}

/// The fingerprint of the key with which a certificate was used, as in `Accepted publickey for root from 127.0.0.1 port
/// 1 ssh2: ED25519-CERT SHA256:… ID sf-… (serial 1) CA …`.
fn key_of(log: &str, name: &str) -> String {
    let line = log.lines().find(|line| line.starts_with("Accepted publickey") && line.contains(name)).unwrap();
    let key = line.split("-CERT ").nth(1).unwrap().split(' ').next().unwrap();
    assert!(key.starts_with("SHA256:"), "{line}");
    key.to_owned()
}

pub(crate) fn context() -> CopyContext {
    CopyContext::new(Cancel::default(), Arc::new(NoProgress), 32 << 20)
}

/// Starts the server on a port that is free. Another program may take the port in between: then another is tried.
fn start(home: &Path, has: Has, more: &str) -> (Child, u16) {
    for _ in 0..20 {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let home_text = home.display();
        let mut config = format!(
            "Port {port}\nListenAddress 127.0.0.1\nHostKey {home_text}/host_key\nPidFile none\nUsePAM no\nStrictModes no\n\
             AuthorizedKeysFile {home_text}/keys/%u\nPermitRootLogin prohibit-password\nPasswordAuthentication no\n\
             KbdInteractiveAuthentication no\nLogLevel VERBOSE\nMaxStartups 100\nPrintMotd no\n",
        );
        config += match has {
            Has::All | Has::NoPython => "Subsystem sftp internal-sftp\n",
            Has::NoSftp => "",
        };
        // Nothing that this machine's root has in its login scripts.
        config += &match has {
            Has::All => format!("SetEnv HOME={home_text}\n"),
            Has::NoPython | Has::NoSftp => format!("SetEnv HOME={home_text} PATH={home_text}/bin\n"),
        };
        config += more;
        std::fs::write(home.join("sshd_config"), config).unwrap();
        std::fs::create_dir_all("/run/sshd").unwrap();
        // It ends with the test, however that ends.
        let mut sshd = Command::new("setpriv")
            .args(["--pdeathsig", "TERM", "/usr/sbin/sshd"])
            .arg("-D")
            .arg("-f")
            .arg(home.join("sshd_config"))
            .arg("-E")
            .arg(home.join("sshd.log"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("these tests need setpriv and /usr/sbin/sshd");
        let mut ended = false;
        wait_until("sshd listens, or its port is taken", || {
            ended = sshd.try_wait().unwrap().is_some();
            let log = std::fs::read_to_string(home.join("sshd.log")).unwrap_or_default();
            ended || (log.contains("Server listening on") && TcpStream::connect(("127.0.0.1", port)).is_ok())
        });
        if !ended {
            return (sshd, port);
        }
        let log = std::fs::read_to_string(home.join("sshd.log")).unwrap_or_default();
        assert!(log.contains("Address already in use"), "sshd does not start: {log}");
        std::fs::remove_file(home.join("sshd.log")).unwrap();
    }
    panic!("no port is free");
}
