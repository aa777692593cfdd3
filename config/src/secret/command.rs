//! Runs a program that prints a secret. There is no shell, no input, and a deadline; what the program writes to stderr is
//! dropped, since it may repeat the secret.

use std::io::{self, Read};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};
use zeroize::Zeroizing;

use super::{MAX_SECRET, Secret, SecretError};

/// How long a password command may take. Long enough for a vault over the network, short enough for a start of the service.
pub(super) const DEADLINE: Duration = Duration::from_secs(30);

/// Runs `argv` and takes its stdout as the secret.
pub(super) fn run(argv: &[String], deadline: Duration) -> Result<Secret, SecretError> {
    let (program, arguments) = match argv.split_first() {
        Some((program, arguments)) => (program.clone(), arguments),
        None => (String::new(), argv),
    };
    let failed = |source: io::Error| SecretError::Run { program: program.clone(), source };
    let mut child = Command::new(&program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .map_err(failed)?;
    let subject = format!("the output of the password command {program:?}");
    let outcome = collect(&mut child, Instant::now() + deadline);
    if !matches!(outcome, Ok(Some(Output::Ended(_)))) {
        // Not reaped yet, so the number still is this child's. It may have ended by itself: then there is nobody to kill.
        let _ = kill_process_group(Pid::from_child(&child), Signal::KILL);
    }
    let status = child.wait().map_err(failed)?;
    match outcome.map_err(failed)? {
        None => Err(SecretError::Late { program, seconds: deadline.as_secs() }),
        Some(Output::TooLong) => Err(SecretError::TooLong { subject }),
        Some(Output::Ended(_)) if !status.success() => Err(SecretError::Failed { program, status }),
        Some(Output::Ended(bytes)) => Secret::from_bytes(bytes, &subject),
    }
}

enum Output {
    Ended(Zeroizing<Vec<u8>>),
    TooLong,
}

/// Reads until the child has ended and its output is empty; none when the deadline passes first.
///
/// The end of the output alone does not count, nor does it have to come: a helper may leave a daemon behind that holds the
/// pipe open.
fn collect(child: &mut Child, deadline: Instant) -> io::Result<Option<Output>> {
    let ended = pidfd_open(Pid::from_child(child), PidfdFlags::empty())?;
    let mut stdout: Option<ChildStdout> = child.stdout.take();
    // One buffer that never moves, so that no copy stays behind in freed memory.
    let mut bytes = Zeroizing::new(vec![0_u8; MAX_SECRET + 1]);
    let mut filled = 0;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let mut watched = vec![PollFd::new(&ended, PollFlags::IN)];
        if let Some(stdout) = &stdout {
            watched.push(PollFd::new(stdout, PollFlags::IN));
        }
        match poll(&mut watched, Some(&timespec(left))) {
            Ok(0) => return Ok(None),
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => continue,
            Err(errno) => return Err(errno.into()),
        }
        let mut ready = watched.iter().map(|fd| !fd.revents().is_empty());
        let has_ended = ready.next().unwrap_or(false);
        let has_output = ready.next().unwrap_or(false);
        drop(ready);
        drop(watched);
        if has_output {
            let free = bytes.get_mut(filled..).unwrap_or_default();
            match stdout.as_mut().map_or(Ok(0), |stdout| stdout.read(free)) {
                Ok(0) => stdout = None,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
            if filled > MAX_SECRET {
                return Ok(Some(Output::TooLong));
            }
        } else if has_ended {
            bytes.truncate(filled);
            return Ok(Some(Output::Ended(bytes)));
        }
    }
}

fn timespec(time: Duration) -> Timespec {
    Timespec { tv_sec: i64::try_from(time.as_secs()).unwrap_or(i64::MAX), tv_nsec: i64::from(time.subsec_nanos()) }
}
