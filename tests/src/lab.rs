//! The harness: a folder of its own, configurations written into it, and real processes of the program that work with
//! them.
//!
//! It must leave nothing behind: processes end with the lab (and even if the lab itself is killed), the folder is
//! removed unless it is to be kept. Traffic stays on 127.0.0.1, on ports that the system chose.

use std::cell::OnceCell;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::Write;
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

mod config;
mod endpoint;
pub mod esxi;
pub mod fuse;
mod managed;
mod output;
pub mod peer;
mod process;
mod proxy;
mod sshd;
mod tmpfs;
pub mod vcenter;
mod watch;

pub use config::LabConfig;
pub use endpoint::EndpointProcess;
pub use esxi::EsxiDouble;
pub use fuse::FaultyMount;
pub use output::CommandOutput;
pub use process::{RunningProcess, exit_with_parent};
pub use proxy::{Faults, Proxy};
pub use sshd::{Offers, SSH_USER, Sshd, SshdLogin};
pub use tmpfs::Tmpfs;
pub use vcenter::VCenter;
pub use watch::FolderWatch;

use crate::error::{IoContext, LabError};
use crate::tools::wait_until;

/// The first argument that makes the lab's own program behave as `stackferry`.
pub const MULTI_CALL: &str = "stackferry";
/// How long one command may take before the lab treats it as hung.
pub const COMMAND_TIMEOUT: Duration = Duration::from_secs(600);

/// Whether the lab is asked to stop.
static STOP: AtomicBool = AtomicBool::new(false);

/// Makes everything that waits in the lab give up.
pub fn stop() {
    STOP.store(true, Ordering::Relaxed);
}

/// Whether the lab is asked to stop.
#[must_use]
pub fn is_stopped() -> bool {
    STOP.load(Ordering::Relaxed)
}

/// Lets the lab go on after it was stopped, to take down what it started.
pub fn resume() {
    STOP.store(false, Ordering::Relaxed);
}

/// Waits for a condition, at most for so long, and no longer than the lab is wanted.
///
/// # Errors
/// It did not come true in time, it could not be looked at, or the lab was stopped.
pub fn wait_for(
    what: &str,
    limit: Duration,
    mut holds: impl FnMut() -> Result<bool, LabError>,
) -> Result<(), LabError> {
    wait_until(what, limit, || if is_stopped() { Err(LabError::Stopped) } else { holds() })
}

/// The folder that everything is in.
#[derive(Debug)]
enum Root {
    Removed(tempfile::TempDir),
    Kept(PathBuf),
}

/// A place with one service: its configuration, state, vault, keys and datastores.
#[derive(Debug)]
pub struct Lab {
    root: Root,
    program: PathBuf,
    key: OnceCell<String>,
    /// The service's configuration. It is written anew for each command.
    pub config: LabConfig,
}

impl Lab {
    /// A lab in a temporary folder. `program` is the lab's own program, which can be `stackferry` too.
    ///
    /// # Errors
    /// The folder can't be made.
    pub fn new(program: impl Into<PathBuf>) -> Result<Self, LabError> {
        let root = tempfile::Builder::new().prefix("stackferry-lab-").tempdir();
        Self::at(Root::Removed(root.at("make a folder in", &std::env::temp_dir())?), program.into())
    }

    /// A lab in a folder that stays. The folder is made; it must not exist, or be empty.
    ///
    /// # Errors
    /// There is something in it, or it can't be made.
    pub fn keep(program: impl Into<PathBuf>, root: &Path) -> Result<Self, LabError> {
        fs::create_dir_all(root).at("make", root)?;
        if fs::read_dir(root).at("list", root)?.next().is_some() {
            return Err(LabError::Content { path: root.to_owned(), why: "it is not empty".to_owned() });
        }
        let root = fs::canonicalize(root).at("find", root)?;
        Self::at(Root::Kept(root), program.into())
    }

    fn at(root: Root, program: PathBuf) -> Result<Self, LabError> {
        let path = match &root {
            Root::Removed(folder) => folder.path().to_owned(),
            Root::Kept(path) => path.clone(),
        };
        let config = LabConfig::new(&path.join("state"), &path.join("vault"));
        Ok(Self { root, program, key: OnceCell::new(), config })
    }

    /// Runs this program from now on: the lab's own in another place, where other users can reach it.
    pub fn set_program(&mut self, program: &Path) {
        program.clone_into(&mut self.program);
    }

    /// The folder that everything is in.
    #[must_use]
    pub fn root(&self) -> &Path {
        match &self.root {
            Root::Removed(folder) => folder.path(),
            Root::Kept(path) => path,
        }
    }

    /// Something in it.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.root().join(name)
    }

    /// The vault.
    #[must_use]
    pub fn vault(&self) -> PathBuf {
        self.path("vault")
    }

    /// The folder of a volume in the vault.
    #[must_use]
    pub fn vault_volume(&self, id: &str) -> PathBuf {
        self.vault().join("volumes").join(id)
    }

    /// A datastore's folder, made if it is missing.
    ///
    /// # Errors
    /// It can't be made.
    pub fn folder(&self, datastore: &str, folder: &str) -> Result<PathBuf, LabError> {
        let path = self.path("site").join(datastore).join(folder);
        fs::create_dir_all(&path).at("make", &path)?;
        Ok(path)
    }

    /// The public half of the service's own key, which is made at the first call.
    ///
    /// # Errors
    /// The key can't be written.
    pub fn public_key(&self) -> Result<&str, LabError> {
        if self.key.get().is_none() {
            let public = new_key(&self.key_file(), "stackferry@lab")?;
            return Ok(self.key.get_or_init(|| public));
        }
        Ok(self.key.get().map_or("", String::as_str))
    }

    /// The file of the service's own key.
    #[must_use]
    pub fn key_file(&self) -> PathBuf {
        self.path("service_key")
    }

    /// Adds a datastore that is mounted here.
    ///
    /// # Errors
    /// Its folder can't be made.
    pub fn add_local(&mut self, name: &str) -> Result<(), LabError> {
        let path = self.folder(name, "")?;
        self.config.local(name, &path);
        Ok(())
    }

    /// Adds a datastore behind an endpoint.
    ///
    /// # Errors
    /// The service's key can't be made.
    pub fn add_endpoint(&mut self, name: &str, endpoint: &EndpointProcess) -> Result<(), LabError> {
        self.add_endpoint_at(name, &endpoint.address().to_string(), endpoint.host_key())
    }

    /// Adds a datastore behind an endpoint that is reached at another address, as through a proxy.
    ///
    /// # Errors
    /// The service's key can't be made.
    pub fn add_endpoint_at(&mut self, name: &str, address: &str, host_key: &str) -> Result<(), LabError> {
        self.public_key()?;
        let key = self.key_file();
        self.config.endpoint(name, address, host_key, &key);
        Ok(())
    }

    /// Starts an endpoint for datastores of this lab, which knows the service's key.
    ///
    /// # Errors
    /// It does not start to listen.
    pub fn serve(&self, datastores: &[&str]) -> Result<EndpointProcess, LabError> {
        let issuers = [self.public_key()?.to_owned()];
        self.serve_as("endpoint", datastores, &issuers)
    }

    /// Starts an endpoint for datastores of this lab, which lets new files be written to these.
    ///
    /// # Errors
    /// It does not start to listen.
    pub fn serve_for_restores(&self, datastores: &[&str], restore: &[&str]) -> Result<EndpointProcess, LabError> {
        let issuers = [self.public_key()?.to_owned()];
        let folders = self.folders(datastores)?;
        EndpointProcess::start(self.program.clone(), &self.path("endpoint"), &folders, &issuers, restore)
    }

    fn folders(&self, datastores: &[&str]) -> Result<Vec<(String, PathBuf)>, LabError> {
        datastores.iter().map(|datastore| Ok(((*datastore).to_owned(), self.folder(datastore, "")?))).collect()
    }

    /// Starts an endpoint with a name of its own (its keys are kept under it) and these issuers.
    ///
    /// # Errors
    /// It does not start to listen.
    pub fn serve_as(&self, name: &str, datastores: &[&str], issuers: &[String]) -> Result<EndpointProcess, LabError> {
        EndpointProcess::start(self.program.clone(), &self.path(name), &self.folders(datastores)?, issuers, &[])
    }

    /// The file of the key that signs certificates for stock SSH hosts, made at the first call, and its public half.
    ///
    /// # Errors
    /// The key can't be written.
    pub fn ca(&self) -> Result<(PathBuf, String), LabError> {
        let (key, public) = (self.path("user_ca"), self.path("user_ca.pub"));
        if !public.exists() {
            let line = new_key(&key, "stackferry")?;
            fs::write(&public, line).at("write", &public)?;
        }
        let line = fs::read_to_string(&public).at("read", &public)?;
        Ok((key, line))
    }

    /// Starts a stock SSH host for datastores of this lab, which trusts this service's CA. Its own files are kept under
    /// its name.
    ///
    /// # Errors
    /// It does not start to listen.
    pub fn sshd(&self, name: &str, offers: Offers, datastores: &[&str]) -> Result<Sshd, LabError> {
        self.sshd_with(name, offers, datastores, false)
    }

    /// The same, where the user may write to the folder `restored` of each datastore.
    ///
    /// # Errors
    /// It does not start to listen.
    pub fn sshd_for_restores(&self, name: &str, offers: Offers, datastores: &[&str]) -> Result<Sshd, LabError> {
        for datastore in datastores {
            let folder = self.folder(datastore, "restored")?;
            Sshd::make_writable(&folder)?;
        }
        self.sshd_with(name, offers, datastores, true)
    }

    fn sshd_with(&self, name: &str, offers: Offers, datastores: &[&str], is_writable: bool) -> Result<Sshd, LabError> {
        let folder = self.path(name);
        fs::create_dir_all(&folder).at("make", &folder)?;
        let sshd = Sshd::start(&folder, offers, &self.folders(datastores)?, is_writable)?;
        sshd.trust(Some(&self.ca()?.1))?;
        Ok(sshd)
    }

    /// Adds a datastore of a stock SSH host.
    ///
    /// # Errors
    /// The CA's key or the list of known hosts can't be written.
    pub fn add_ssh(&mut self, name: &str, host: &Sshd) -> Result<(), LabError> {
        self.add_ssh_at(name, host.address(), host.host_key())
    }

    /// Adds one that is reached at another address, as through a proxy.
    ///
    /// # Errors
    /// The CA's key or the list of known hosts can't be written.
    pub fn add_ssh_at(&mut self, name: &str, address: SocketAddr, host_key: &str) -> Result<(), LabError> {
        let known = self.path(&format!("known_hosts-{name}"));
        fs::write(&known, format!("[{}]:{} {host_key}\n", address.ip(), address.port())).at("write", &known)?;
        let (ca, _) = self.ca()?;
        self.config.ssh(name, &address.to_string(), &known, &ca);
        Ok(())
    }

    /// Writes the configuration, and gives its file.
    ///
    /// # Errors
    /// It can't be written.
    pub fn write_config(&self) -> Result<PathBuf, LabError> {
        let path = self.path("stackferry.toml");
        self.config.write(&path)?;
        Ok(path)
    }

    /// A command of the program with this lab's configuration and answers in JSON. Nothing is started yet.
    ///
    /// # Errors
    /// The configuration can't be written.
    pub fn command<S: AsRef<OsStr>>(&self, args: &[S]) -> Result<Command, LabError> {
        let config = self.write_config()?;
        let mut command = program(&self.program);
        command.arg("--config").arg(config).arg("--output").arg("json").args(args);
        Ok(command)
    }

    /// Starts a command.
    ///
    /// # Errors
    /// It can't be started.
    pub fn spawn<S: AsRef<OsStr>>(&self, args: &[S]) -> Result<RunningProcess, LabError> {
        RunningProcess::start(name(args), self.command(args)?)
    }

    /// Runs a command to its end, however it ends.
    ///
    /// # Errors
    /// It can't be started, or hangs.
    pub fn run<S: AsRef<OsStr>>(&self, args: &[S]) -> Result<CommandOutput, LabError> {
        self.spawn(args)?.wait(COMMAND_TIMEOUT)
    }

    /// Runs a command that must succeed, and returns its JSON.
    ///
    /// # Errors
    /// It failed, or its output is not JSON.
    pub fn run_json<S: AsRef<OsStr>>(&self, args: &[S]) -> Result<serde_json::Value, LabError> {
        self.run(args)?.json_ok()
    }

    /// The versions of a volume, newest first; none for a volume that is not known yet.
    ///
    /// # Errors
    /// The command failed in another way.
    pub fn versions(&self, id: &str) -> Result<Vec<serde_json::Value>, LabError> {
        let answer = self.run(&["versions", id])?;
        if answer.code == 10 && answer.error()?.get("code").is_some_and(|code| code == "no_such_volume") {
            return Ok(Vec::new());
        }
        Ok(answer.json_ok()?.as_array().cloned().unwrap_or_default())
    }

    /// Restores a volume, or one of its versions, into a folder of this name, and gives the folder.
    ///
    /// # Errors
    /// It failed.
    pub fn restore(&self, target: &str, name: &str) -> Result<PathBuf, LabError> {
        let to = self.path(name);
        self.run_json(&["restore".as_ref(), target.as_ref(), "--to".as_ref(), to.as_os_str()])?;
        Ok(to)
    }

    /// Runs a command that must fail with this exit code, and returns its error.
    ///
    /// # Errors
    /// It ended in another way, or its error is no JSON with message and hint.
    pub fn run_err<S: AsRef<OsStr>>(&self, args: &[S], code: i32) -> Result<serde_json::Value, LabError> {
        self.run(args)?.expect_code(code)?.error()
    }
}

/// A command that is `stackferry`, with an environment that holds nothing for it.
pub(crate) fn program(lab: &Path) -> Command {
    let mut command = Command::new(lab);
    command.arg(MULTI_CALL);
    for (name, _) in std::env::vars_os() {
        if name.as_encoded_bytes().starts_with(b"STACKFERRY_") {
            command.env_remove(name);
        }
    }
    process::tie_to_parent(&mut command);
    command
}

/// What a command is called in errors.
fn name<S: AsRef<OsStr>>(args: &[S]) -> String {
    let words = args.iter().map(|word| word.as_ref().to_string_lossy().into_owned());
    [MULTI_CALL.to_owned()].into_iter().chain(words).collect::<Vec<_>>().join(" ")
}

/// Makes a private key in OpenSSH's format that only its owner may read, and gives its public half.
///
/// # Errors
/// The file exists, or can't be written.
pub fn new_key(path: &Path, comment: &str) -> Result<String, LabError> {
    let key = stackferry_transfer::ssh::new_key(comment);
    let text = key
        .to_openssh(Default::default())
        .map_err(|error| LabError::Content { path: path.to_owned(), why: error.to_string() })?;
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).at("create", path)?;
    file.write_all(text.as_bytes()).at("write", path)?;
    Ok(stackferry_transfer::ssh::public_line(&key))
}

/// The arguments of a multi-call program that is to be `stackferry`; none if it is to be itself.
pub fn multi_call(args: impl IntoIterator<Item = OsString>) -> Option<Vec<OsString>> {
    let args: Vec<OsString> = args.into_iter().skip(1).collect();
    (args.first().map(OsString::as_os_str) == Some(OsStr::new(MULTI_CALL))).then_some(args)
}
