//! One process of the program: its output, its exit, and its guaranteed end.
//!
//! It never outlives its owner: dropped, it is killed and waited for. If the owner itself is killed, the kernel ends
//! it on its own request.

use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, getppid, kill_process, set_parent_process_death_signal};

use super::{CommandOutput, wait_for};
use crate::error::{IoContext, LabError};

/// Names the process that the program must not outlive.
const PARENT: &str = "STACKFERRY_LAB_PARENT";
/// What is kept of each stream, in bytes: a program that talks without end must not fill our memory.
const MAX_OUTPUT: usize = 64 << 20;

/// Lets a command know whom it must not outlive. It gets a process group of its own: Ctrl-C is for us, who then end it.
pub(super) fn tie_to_parent(command: &mut Command) {
    command.env(PARENT, std::process::id().to_string()).process_group(0);
}

/// In a process that the lab started: asks the kernel to be ended when the thread that started it ends. False if that
/// is so already.
#[must_use]
pub fn exit_with_parent() -> bool {
    let Some(parent) = std::env::var(PARENT).ok().and_then(|text| text.parse::<i32>().ok()) else { return true };
    set_parent_process_death_signal(Some(Signal::KILL)).is_ok() && getppid() == Pid::from_raw(parent)
}

/// A process that was started.
#[derive(Debug)]
pub struct RunningProcess {
    what: String,
    child: Child,
    out: Collector,
    err: Collector,
    began: Instant,
    peak: u64,
}

impl RunningProcess {
    /// Starts a command, without input.
    ///
    /// # Errors
    /// It can't be started.
    pub fn start(what: String, mut command: Command) -> Result<Self, LabError> {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|source| LabError::Start { tool: what.clone(), source })?;
        let (out, err) = (Collector::of(child.stdout.take()), Collector::of(child.stderr.take()));
        Ok(Self { what, child, out, err, began: Instant::now(), peak: 0 })
    }

    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it has written to stdout so far.
    #[must_use]
    pub fn stdout(&self) -> String {
        self.out.text()
    }

    /// What it has written to stderr so far.
    #[must_use]
    pub fn stderr(&self) -> String {
        self.err.text()
    }

    /// Sends it a signal. One that has ended is not asked.
    ///
    /// # Errors
    /// The system's.
    pub fn signal(&mut self, signal: Signal) -> Result<(), LabError> {
        if self.has_ended()? {
            return Ok(());
        }
        kill_process(Pid::from_child(&self.child), signal).at("send a signal to", Path::new(&self.what))
    }

    /// Whether it has ended.
    ///
    /// # Errors
    /// The system's.
    pub fn has_ended(&mut self) -> Result<bool, LabError> {
        self.sample_memory();
        Ok(self.child.try_wait().at("wait for", Path::new(&self.what))?.is_some())
    }

    /// The most memory that it was seen to take so far, in bytes.
    pub fn peak_memory(&mut self) -> u64 {
        self.sample_memory();
        self.peak
    }

    /// The kernel keeps the high-water mark, so looking now and then misses only growth in the last moment.
    fn sample_memory(&mut self) {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap_or_default();
        let kib = status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB"));
        let bytes = kib.and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0) << 10;
        self.peak = self.peak.max(bytes);
    }

    /// Waits for a line on stderr that `find` takes something from.
    ///
    /// # Errors
    /// None comes in time, or the process ends first.
    pub fn wait_line<T>(
        &mut self,
        what: &str,
        limit: Duration,
        find: impl Fn(&str) -> Option<T>,
    ) -> Result<T, LabError> {
        let mut found = None;
        wait_for(what, limit, || {
            let ended = self.has_ended()?;
            found = self.err.text().lines().find_map(&find);
            if ended && found.is_none() {
                return Err(LabError::Tool {
                    tool: self.what.clone(),
                    status: format!("no sign of {what}"),
                    stderr: self.err.text(),
                });
            }
            Ok(found.is_some())
        })?;
        found.ok_or_else(|| LabError::Timeout { what: what.to_owned(), seconds: limit.as_secs() })
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// It does not end in time.
    pub fn wait(mut self, limit: Duration) -> Result<CommandOutput, LabError> {
        let what = format!("the end of `{}`", self.what);
        wait_for(&what, limit, || self.has_ended())?;
        let status = self.child.wait().at("wait for", Path::new(&self.what))?;
        let seconds = self.began.elapsed().as_secs_f64();
        Ok(CommandOutput {
            what: self.what.clone(),
            code: status.code().or_else(|| Some(128 + status.signal()?)).unwrap_or(-1),
            stdout: self.out.end(),
            stderr: self.err.end(),
            peak_memory: self.peak,
            seconds,
        })
    }

    /// Ends it at once, as a crash does.
    ///
    /// # Errors
    /// The system's.
    pub fn kill(mut self) -> Result<CommandOutput, LabError> {
        self.child.kill().at("kill", Path::new(&self.what))?;
        self.wait(Duration::from_secs(60))
    }

    /// Asks it to end, and waits for that.
    ///
    /// # Errors
    /// It does not end in time.
    pub fn terminate(mut self, limit: Duration) -> Result<CommandOutput, LabError> {
        self.signal(Signal::TERM)?;
        self.wait(limit)
    }
}

impl Drop for RunningProcess {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Reads a stream on a thread of its own, so that the process never waits for us.
#[derive(Debug)]
struct Collector {
    text: Arc<Mutex<Vec<u8>>>,
    thread: Option<JoinHandle<()>>,
}

impl Collector {
    fn of(stream: Option<impl Read + Send + 'static>) -> Self {
        let text = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&text);
        let thread = stream.map(|stream| {
            std::thread::spawn(move || {
                let mut stream = BufReader::new(stream);
                let mut line = Vec::new();
                while stream.read_until(b'\n', &mut line).is_ok_and(|bytes| bytes > 0) {
                    let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
                    if kept.len() < MAX_OUTPUT {
                        kept.append(&mut line);
                    }
                    line.clear();
                }
            })
        });
        Self { text, thread }
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.text.lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
    }

    /// All of it, once the process has ended.
    fn end(&mut self) -> String {
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        self.text()
    }
}
