//! A process of `stackferry serve`.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use toml::Value;

use super::{CommandOutput, LabConfig, RunningProcess, program};
use crate::error::{IoContext, LabError};

/// How long it may take to listen, or to end when it is asked to.
const LIMIT: Duration = Duration::from_secs(30);

/// An endpoint that listens on a port that the system chose.
#[derive(Debug)]
pub struct EndpointProcess {
    program: PathBuf,
    config: PathBuf,
    address: SocketAddr,
    host_key: String,
    running: Option<RunningProcess>,
}

impl EndpointProcess {
    /// Starts one with a folder for its state, the datastores that it serves, the keys that may ask it, and the datastores
    /// that may be restored to.
    pub(super) fn start(
        program: PathBuf,
        folder: &Path,
        datastores: &[(String, PathBuf)],
        issuers: &[String],
        restore: &[&str],
    ) -> Result<Self, LabError> {
        fs::create_dir_all(folder).at("make", folder)?;
        let mut config = LabConfig::bare(&folder.join("state"));
        config.set("serve.listen", "127.0.0.1:0");
        config.set("serve.issuers", issuers.iter().map(|line| Value::from(line.as_str())).collect::<Vec<_>>());
        for (name, path) in datastores {
            config.set(&format!("serve.datastores.{name}"), path.to_string_lossy().into_owned());
        }
        config.set("serve.restore", restore.iter().map(|name| Value::from(*name)).collect::<Vec<_>>());
        let path = folder.join("serve.toml");
        config.write(&path)?;
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut endpoint = Self { program, config: path, address: nowhere, host_key: String::new(), running: None };
        endpoint.restart()?;
        Ok(endpoint)
    }

    /// Starts it again, with the same host key on another port. One that still runs is killed.
    ///
    /// # Errors
    /// It does not begin to listen.
    pub fn restart(&mut self) -> Result<(), LabError> {
        self.running = None;
        let mut command = program(&self.program);
        command.env("STACKFERRY_LOG_FORMAT", "json").arg("--config").arg(&self.config).arg("serve");
        let mut running = RunningProcess::start("stackferry serve".to_owned(), command)?;
        let (address, host_key) = running.wait_line("an endpoint that listens", LIMIT, |line| {
            let line: serde_json::Value = serde_json::from_str(line).ok()?;
            let text = |key: &str| Some(line.get(key)?.as_str()?.to_owned());
            (text("message")? == "the endpoint listens").then_some(())?;
            Some((text("address")?.parse().ok()?, text("host_key")?))
        })?;
        self.address = address;
        self.host_key = host_key;
        self.running = Some(running);
        Ok(())
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

    /// What it has logged so far: lines of JSON.
    #[must_use]
    pub fn log(&self) -> String {
        self.running.as_ref().map_or_else(String::new, RunningProcess::stderr)
    }

    /// Its process id, while it runs.
    #[must_use]
    pub fn id(&self) -> Option<u32> {
        self.running.as_ref().map(RunningProcess::id)
    }

    /// The most memory that it was seen to take so far, in bytes.
    pub fn peak_memory(&mut self) -> u64 {
        self.running.as_mut().map_or(0, RunningProcess::peak_memory)
    }

    /// Ends it at once, as a crash does.
    ///
    /// # Errors
    /// The system's; or it does not run.
    pub fn kill(&mut self) -> Result<CommandOutput, LabError> {
        self.take()?.kill()
    }

    /// Asks it to end, and waits for that.
    ///
    /// # Errors
    /// It does not end in time; or it does not run.
    pub fn terminate(&mut self) -> Result<CommandOutput, LabError> {
        self.take()?.terminate(LIMIT)
    }

    fn take(&mut self) -> Result<RunningProcess, LabError> {
        self.running.take().ok_or(LabError::Missing("an endpoint that runs"))
    }
}
