//! Stand-ins that are Go programs of this repository: how they are built, and how one is talked with.
//!
//! A program is built once for its sources: its name holds their hash, so a change gives another program, and a build
//! that was broken off is never taken for a whole one.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::Value;

use crate::error::{IoContext, LabError};
use crate::tools::{failure, find, wait_until};

/// How long one answer may take.
const REPLY_TIMEOUT: Duration = Duration::from_secs(60);
/// How long it may take to end.
const EXIT_TIMEOUT: Duration = Duration::from_secs(10);
/// How much of its stderr is kept, in bytes.
const MAX_STDERR: usize = 1 << 20;
/// Where Debian puts the sources of Go libraries.
const LIBRARIES: &str = "/usr/share/gocode";
/// The library that the stand-in for vSphere is made of.
const SIMULATOR: &str = "/usr/share/gocode/src/github.com/vmware/govmomi/simulator";

/// Whether the stand-ins can be built: Go and the simulator's library are there.
#[must_use]
pub fn can_build() -> bool {
    find("go").is_some() && Path::new(SIMULATOR).is_dir()
}

/// The program of a folder in `tests/peers`, built if it has not been yet. What is built lies in the target folder.
///
/// # Errors
/// Go is missing, or refuses the sources.
pub fn build(name: &str) -> Result<PathBuf, LabError> {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("peers").join(name);
    let target = target()?.join("peers");
    fs::create_dir_all(&target).at("make", &target)?;
    let program = target.join(format!("{name}-{}", hash(&sources)?));
    let lock = target.join("lock");
    let lock_file = fs::OpenOptions::new().write(true).create(true).truncate(false).open(&lock).at("open", &lock)?;
    lock_file.lock().at("lock", &lock)?;
    if program.is_file() {
        return Ok(program);
    }
    let unfinished = program.with_extension("new");
    let go = find("go").ok_or(LabError::Missing("go"))?;
    let output = Command::new(go)
        .args(["build", "-trimpath", "-o"])
        .arg(&unfinished)
        .arg(".")
        .current_dir(&sources)
        .env("GO111MODULE", "off")
        .env("GOPATH", LIBRARIES)
        .env("GOCACHE", target.join("go-cache"))
        .env("GOFLAGS", "")
        .env("CGO_ENABLED", "0")
        .stdin(Stdio::null())
        .output()
        .map_err(|source| LabError::Start { tool: "go build".to_owned(), source })?;
    if !output.status.success() {
        return Err(failure("go build", &output));
    }
    fs::rename(&unfinished, &program).at("rename", &unfinished)?;
    Ok(program)
}

/// The folder that cargo builds into: the one above this program that is marked as a cache.
fn target() -> Result<PathBuf, LabError> {
    let own = std::env::current_exe().at("find", Path::new("this program"))?;
    let found = own.ancestors().find(|folder| folder.join("CACHEDIR.TAG").is_file()).map(Path::to_owned);
    Ok(found.unwrap_or_else(std::env::temp_dir))
}

fn hash(sources: &Path) -> Result<String, LabError> {
    let mut files: Vec<PathBuf> = fs::read_dir(sources)
        .at("list", sources)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "go"))
        .collect();
    files.sort();
    let mut hasher = blake3::Hasher::new();
    for file in files {
        hasher.update(file.as_os_str().as_encoded_bytes());
        hasher.update(&fs::read(&file).at("read", &file)?);
    }
    Ok(hasher.finalize().to_hex().chars().take(16).collect())
}

/// A stand-in that runs. It takes one line of JSON on stdin and answers with one on stdout, and it ends when its stdin
/// closes: so it never outlives us, however we end.
#[derive(Debug)]
pub struct PeerProcess {
    what: String,
    child: Child,
    pipes: Mutex<PeerPipes>,
    errors: Arc<Mutex<Vec<u8>>>,
}

#[derive(Debug)]
struct PeerPipes {
    stdin: Option<ChildStdin>,
    lines: Receiver<String>,
}

impl PeerProcess {
    /// Starts a command that talks so.
    ///
    /// # Errors
    /// It can't be started.
    pub fn start(what: &str, mut command: Command) -> Result<Self, LabError> {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|source| LabError::Start { tool: what.to_owned(), source })?;
        let (sender, lines) = channel();
        if let Some(stdout) = child.stdout.take() {
            std::thread::spawn(move || {
                for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                    if sender.send(line).is_err() {
                        break;
                    }
                }
            });
        }
        let errors = Arc::new(Mutex::new(Vec::new()));
        if let Some(mut stderr) = child.stderr.take() {
            let kept = Arc::clone(&errors);
            std::thread::spawn(move || {
                let mut part = vec![0; 4096];
                while let Ok(bytes) = stderr.read(&mut part) {
                    let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
                    match part.get(..bytes) {
                        Some(new) if bytes > 0 && kept.len() < MAX_STDERR => kept.extend_from_slice(new),
                        _ if bytes == 0 => break,
                        _ => {}
                    }
                }
            });
        }
        let pipes = Mutex::new(PeerPipes { stdin: child.stdin.take(), lines });
        Ok(Self { what: what.to_owned(), child, pipes, errors })
    }

    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it has written to stderr so far.
    #[must_use]
    pub fn stderr(&self) -> String {
        String::from_utf8_lossy(&self.errors.lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
    }

    /// Hands it a line, and gives its answer.
    ///
    /// # Errors
    /// It ended, says nothing in time, or refuses.
    pub fn request(&self, line: &Value) -> Result<Value, LabError> {
        let mut pipes = self.pipes.lock().unwrap_or_else(PoisonError::into_inner);
        let mut text = line.to_string();
        text.push('\n');
        let sent = pipes.stdin.as_mut().map(|stdin| stdin.write_all(text.as_bytes()).and_then(|()| stdin.flush()));
        let answer = match sent {
            Some(Ok(())) => pipes.lines.recv_timeout(REPLY_TIMEOUT).map_err(|_| self.no_reply())?,
            _ => return Err(self.no_reply()),
        };
        let answer: Value = serde_json::from_str(&answer)
            .map_err(|error| LabError::Wrong(format!("{} answered {answer:?}: {error}", self.what)))?;
        match answer.get("error").and_then(Value::as_str) {
            Some(error) => Err(LabError::Wrong(format!("{}: {error}", self.what))),
            None => Ok(answer),
        }
    }

    fn no_reply(&self) -> LabError {
        LabError::Tool { tool: self.what.clone(), status: "no answer".to_owned(), stderr: self.stderr() }
    }

    /// Closes its stdin, which is the sign to end, and waits for that.
    ///
    /// # Errors
    /// The system's.
    pub fn end(&mut self) -> Result<std::process::ExitStatus, LabError> {
        self.pipes.lock().unwrap_or_else(PoisonError::into_inner).stdin = None;
        self.child.wait().at("wait for", Path::new(&self.what))
    }
}

impl Drop for PeerProcess {
    /// It is given time to end what it has started itself.
    fn drop(&mut self) {
        self.pipes.lock().unwrap_or_else(PoisonError::into_inner).stdin = None;
        let child = &mut self.child;
        let ended = wait_until("the end of a stand-in", EXIT_TIMEOUT, || Ok(!matches!(child.try_wait(), Ok(None))));
        if ended.is_err() {
            let _ = self.child.kill();
        }
        let _ = self.child.wait();
    }
}
