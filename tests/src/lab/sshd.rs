//! A stock SSH host: Debian's own sshd, set up as in `docs/hosts.md`.
//!
//! It runs in a mount namespace of its own: there `backup` is a user with a shell and a home, and the datastores
//! are mounted (read-only, but for restores) below `/mnt`. Nothing of that is visible outside, and all of it ends with the server. The user
//! may read the datastores and nothing else of the lab.

use std::collections::BTreeMap;
use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::{RunningProcess, Tmpfs, new_key, wait_for};
use crate::error::{IoContext, LabError};
use crate::tools::find;

/// The user that the service logs in as.
pub const SSH_USER: &str = "backup";
/// That user's number, as Debian has it; nobody else's rights come with it.
const UID: u32 = 34;
/// How long it may take to listen.
const LIMIT: Duration = Duration::from_secs(30);
/// How often another port is tried if one was taken meanwhile.
const TRIES: u32 = 20;
/// What a host without Python still has.
const PATH_PROGRAMS: [&str; 5] = ["scp", "find", "head", "env", "sh"];
/// Sets up the mount namespace, then runs the server. Arguments: passwd, home, configuration, log, `ro` or `rw`, then
/// name and folder of each datastore.
const NAMESPACE: &str = r#"set -e
mount --bind "$1" /etc/passwd
mount -t tmpfs -o mode=0755 lab /mnt
mkdir /mnt/home
mount --bind "$2" /mnt/home
config=$3 log=$4 mode=$5
shift 5
while [ $# -gt 0 ]; do
  mkdir "/mnt/$1"
  mount --bind -o "$mode" "$2" "/mnt/$1"
  shift 2
done
exec /usr/sbin/sshd -D -f "$config" -E "$log""#;

/// What a host has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Offers {
    /// SFTP and Python.
    All,
    /// SFTP, and no Python where the user's shell looks for it.
    NoPython,
    /// `scp` and `find`, neither SFTP nor Python.
    NoSftp,
}

/// A login in the host's log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SshdLogin {
    /// The certificate's name.
    pub name: String,
    /// Its serial number.
    pub serial: u64,
    /// The fingerprint of its key.
    pub key: String,
    /// The forced command that was run; none without a session.
    pub command: Option<String>,
}

/// A stock SSH server.
#[derive(Debug)]
pub struct Sshd {
    folder: PathBuf,
    offers: Offers,
    datastores: Vec<(String, PathBuf)>,
    is_writable: bool,
    host_key: String,
    address: SocketAddr,
    running: Option<RunningProcess>,
}

impl Sshd {
    /// Whether this machine can run one: root, mounts, and the tools of Debian's packages.
    #[must_use]
    pub fn possible() -> bool {
        Tmpfs::possible() && ["sshd", "setpriv", "unshare", "mount"].into_iter().all(|tool| find(tool).is_some())
    }

    /// Starts one with a folder for what is its own, and these datastores. It trusts no CA yet.
    pub(super) fn start(
        folder: &Path,
        offers: Offers,
        datastores: &[(String, PathBuf)],
        is_writable: bool,
    ) -> Result<Self, LabError> {
        let home = folder.join("home");
        for folder in [home.join(".ssh"), home.join("bin")] {
            fs::create_dir_all(&folder).at("make", &folder)?;
        }
        for name in PATH_PROGRAMS {
            let real = find(name).ok_or(LabError::Missing(name))?;
            let link = home.join("bin").join(name);
            symlink(real, &link).at("link", &link)?;
        }
        let host_key = new_key(&folder.join("host_key"), "host")?;
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut sshd = Self {
            folder: folder.to_owned(),
            offers,
            datastores: datastores.to_vec(),
            is_writable,
            host_key,
            address: nowhere,
            running: None,
        };
        sshd.write_passwd()?;
        sshd.trust(None)?;
        sshd.restart()?;
        Ok(sshd)
    }

    /// Makes a folder of a datastore writable for the user that the service logs in as.
    pub(super) fn make_writable(folder: &Path) -> Result<(), LabError> {
        chown(folder, Some(UID), Some(UID)).at("change the owner of", folder)
    }

    /// Trusts the certificates of a CA, by the line of the documentation; with none it trusts no CA.
    ///
    /// # Errors
    /// The file can't be written.
    pub fn trust(&self, ca: Option<&str>) -> Result<(), LabError> {
        let home = self.folder.join("home");
        let file = home.join(".ssh").join("authorized_keys");
        let line = ca.map(|key| format!("cert-authority,restrict,principals=\"{SSH_USER}\" {key}\n"));
        fs::write(&file, line.unwrap_or_default()).at("write", &file)?;
        for (path, mode) in [(&home, 0o755), (&home.join(".ssh"), 0o700), (&file, 0o600)] {
            chown(path, Some(UID), Some(UID)).at("change the owner of", path)?;
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).at("set the mode of", path)?;
        }
        Ok(())
    }

    /// The machine's own list of users, where ours has a shell.
    fn write_passwd(&self) -> Result<(), LabError> {
        let all = fs::read_to_string("/etc/passwd").at("read", Path::new("/etc/passwd"))?;
        let others = all.lines().filter(|line| !line.starts_with(&format!("{SSH_USER}:")));
        let ours = format!("{SSH_USER}:x:{UID}:{UID}:{SSH_USER}:/mnt/home:/bin/sh");
        let lines: Vec<&str> = others.chain([ours.as_str()]).collect();
        let path = self.folder.join("passwd");
        fs::write(&path, lines.join("\n") + "\n").at("write", &path)
    }

    /// Starts it again, with the same host key on another port. One that still runs is killed.
    ///
    /// # Errors
    /// It does not start to listen.
    pub fn restart(&mut self) -> Result<(), LabError> {
        self.kill()?;
        // The server's own folder, which Debian's unit makes.
        let own = Path::new("/run/sshd");
        fs::create_dir_all(own).at("make", own)?;
        for _ in 0..TRIES {
            if self.try_start()? {
                return Ok(());
            }
        }
        Err(LabError::Missing("a port for sshd"))
    }

    /// False where the port was taken by another program in between.
    fn try_start(&mut self) -> Result<bool, LabError> {
        let loopback = Path::new("127.0.0.1");
        let listener = TcpListener::bind(("127.0.0.1", 0)).at("listen on", loopback)?;
        let address = listener.local_addr().at("inspect", loopback)?;
        drop(listener);
        let config = self.folder.join("sshd_config");
        fs::write(&config, self.config(address.port())).at("write", &config)?;
        let before = self.log().len();
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "TERM", "unshare", "--mount", "/bin/sh", "-c", NAMESPACE, "sshd"]);
        command.args([self.folder.join("passwd"), self.folder.join("home"), config, self.log_file()]);
        command.arg(if self.is_writable { "rw" } else { "ro" });
        for (name, folder) in &self.datastores {
            command.arg(name).arg(folder);
        }
        let mut running = RunningProcess::start("sshd".to_owned(), command)?;
        let mut ended = false;
        wait_for("sshd listens", LIMIT, || {
            ended = running.has_ended()?;
            let log = self.log();
            let said = log.get(before..).unwrap_or_default().contains("Server listening on");
            Ok(ended || (said && TcpStream::connect(address).is_ok()))
        })?;
        if !ended {
            self.address = address;
            self.running = Some(running);
            return Ok(true);
        }
        let log = self.log();
        let said = log.get(before..).unwrap_or_default();
        if said.contains("Address already in use") {
            return Ok(false);
        }
        let stderr = format!("{}{said}", running.stderr());
        Err(LabError::Tool { tool: "sshd".to_owned(), status: "no sign that it listens".to_owned(), stderr })
    }

    fn config(&self, port: u16) -> String {
        let key = self.folder.join("host_key");
        let mut config = format!(
            "Port {port}\nListenAddress 127.0.0.1\nHostKey {}\nPidFile none\nUsePAM no\nUseDNS no\nLogLevel VERBOSE\n\
             PasswordAuthentication no\nKbdInteractiveAuthentication no\nPrintMotd no\n",
            key.display()
        );
        if self.offers != Offers::NoSftp {
            config.push_str("Subsystem sftp internal-sftp\n");
        }
        if self.offers != Offers::All {
            config.push_str("SetEnv PATH=/mnt/home/bin\n");
        }
        config
    }

    /// Whether it was started and not ended since.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.running.is_some()
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its host key, as a line for a configuration.
    #[must_use]
    pub fn host_key(&self) -> &str {
        &self.host_key
    }

    /// Where it has a datastore.
    #[must_use]
    pub fn path(datastore: &str) -> PathBuf {
        Path::new("/mnt").join(datastore)
    }

    fn log_file(&self) -> PathBuf {
        self.folder.join("sshd.log")
    }

    /// What it has logged so far, over all its starts.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read(self.log_file()).map(|log| String::from_utf8_lossy(&log).into_owned()).unwrap_or_default()
    }

    /// The logins with a certificate in its log, in order.
    #[must_use]
    pub fn logins(&self) -> Vec<SshdLogin> {
        logins(&self.log())
    }

    /// Kills it with all its connections, like a host that crashes. Does nothing if it does not run.
    ///
    /// # Errors
    /// The system's.
    pub fn kill(&mut self) -> Result<(), LabError> {
        let Some(mut running) = self.running.take() else { return Ok(()) };
        // Stopped, it starts no process while those that it started are searched.
        running.signal(Signal::STOP)?;
        loop {
            let children = descendants(running.id());
            if children.is_empty() {
                break;
            }
            for child in children {
                if let Some(pid) = Pid::from_raw(child) {
                    // It may have ended by itself.
                    let _ = kill_process(pid, Signal::KILL);
                }
            }
        }
        running.kill().map(drop)
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        let _ = self.kill();
    }
}

/// The processes that a process started, and those that they started, but for those that have ended.
fn descendants(root: u32) -> Vec<i32> {
    let mut parents: BTreeMap<i32, i32> = BTreeMap::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else { continue };
        let Ok(stat) = fs::read_to_string(entry.path().join("stat")) else { continue };
        // The name in brackets may hold anything; after it come the state and the parent.
        let mut words = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
        let (state, parent) = (words.next(), words.next().and_then(|word| word.parse().ok()));
        if let (Some(parent), true) = (parent, state != Some("Z")) {
            parents.insert(pid, parent);
        }
    }
    let mut found = Vec::new();
    let mut level: Vec<i32> = i32::try_from(root).into_iter().collect();
    while !level.is_empty() {
        level = parents.iter().filter(|(_, parent)| level.contains(parent)).map(|(pid, _)| *pid).collect();
        found.extend(&level);
    }
    found
}

/// Reads `Accepted publickey for U from A port P ssh2: ED25519-CERT KEY ID NAME (serial N) CA …`, and `Starting session:
/// forced-command (…) 'COMMAND' for U from A port P id 0`.
fn logins(log: &str) -> Vec<SshdLogin> {
    let mut found: Vec<(String, SshdLogin)> = Vec::new();
    let after = |line: &str, mark: &str| -> Option<String> {
        Some(line.split(mark).nth(1)?.split([' ', ')']).next()?.to_owned())
    };
    for line in log.lines() {
        let Some(port) = after(line, " port ") else { continue };
        if line.starts_with("Accepted publickey for ") {
            let login = (|| {
                Some(SshdLogin {
                    name: after(line, " ID ")?,
                    serial: after(line, "(serial ")?.parse().ok()?,
                    key: after(line, "-CERT ")?,
                    command: None,
                })
            })();
            found.extend(login.map(|login| (port, login)));
        } else if let Some(rest) = line.strip_prefix("Starting session: forced-command ") {
            let port = rest.rsplit_once(" port ").and_then(|(_, rest)| rest.split(' ').next()).unwrap_or_default();
            let command = rest.split_once(" '").and_then(|(_, rest)| rest.rsplit_once("' for ")).map(|(text, _)| text);
            let login = found.iter_mut().rev().find(|(of, _)| of == port);
            if let (Some((_, login)), Some(command)) = (login, command) {
                login.command = Some(command.to_owned());
            }
        }
    }
    found.into_iter().map(|(_, login)| login).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_names_certificate_user_and_command() {
        let log = "Server listening on 127.0.0.1 port 1.\n\
            Accepted certificate ID \"sf-0123456789abcdef\" (serial 7) signed by ED25519 CA SHA256:x via /k\n\
            Accepted publickey for backup from 127.0.0.1 port 41 ssh2: ED25519-CERT SHA256:aa ID sf-0123456789abcdef (serial 7) CA ED25519 SHA256:x\n\
            Accepted publickey for backup from 127.0.0.1 port 42 ssh2: ED25519-CERT SHA256:bb ID sf-2 (serial 8) CA ED25519 SHA256:x\n\
            Starting session: forced-command (key-option) 'scp -f -p -- '/mnt/a for b'' for backup from 127.0.0.1 port 41 id 0\n";
        let expected = [
            SshdLogin {
                name: "sf-0123456789abcdef".to_owned(),
                serial: 7,
                key: "SHA256:aa".to_owned(),
                command: Some("scp -f -p -- '/mnt/a for b'".to_owned()),
            },
            SshdLogin { name: "sf-2".to_owned(), serial: 8, key: "SHA256:bb".to_owned(), command: None },
        ];
        assert_eq!(logins(log), expected);
    }

    #[test]
    fn descendants_of_a_process_are_found() {
        let mut command = Command::new("sh");
        command.args(["-c", "sh -c 'sleep 600; true' & wait; true"]);
        let mut shell = command.spawn().unwrap();
        let id = shell.id();
        wait_for("two processes below it", LIMIT, || Ok(descendants(id).len() >= 2)).unwrap();
        for child in descendants(id) {
            let _ = kill_process(Pid::from_raw(child).unwrap(), Signal::KILL);
        }
        shell.wait().unwrap();
        assert!(descendants(id).is_empty());
    }
}
