//! A stand-in of `tests/peers`: built from its source, started, and spoken with by lines of JSON. It ends when its stdin
//! closes.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Mutex;

use serde_json::Value;

/// Where Debian's packages put libraries for Go.
pub(crate) const LIBRARIES: &str = "/usr/share/gocode";

/// Whether what a stand-in needs is there; else tests may be left out, unless all are wanted.
pub(crate) fn have(present: bool, missing: &str) -> bool {
    if !present {
        assert!(std::env::var_os("STACKFERRY_TEST_ALL").is_none(), "this machine lacks {missing}");
        eprintln!("left out, since this machine lacks {missing}");
    }
    present
}

/// Builds the stand-in of this name.
pub(crate) fn build(name: &str) -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let program = target.join(name);
    // A name of our own: another run may build at the same time.
    let fresh = target.join(format!("{name}-{}", std::process::id()));
    let built = Command::new("go")
        .args(["build", "-trimpath", "-o"])
        .arg(&fresh)
        .arg(".")
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/peers").join(name))
        .env("GO111MODULE", "off")
        .env("GOPATH", LIBRARIES)
        .env("GOCACHE", target.join("go-cache"))
        .env("GOFLAGS", "")
        .env("CGO_ENABLED", "0")
        .stdin(Stdio::null())
        .status()
        .unwrap();
    assert!(built.success(), "the stand-in {name} can't be built");
    std::fs::rename(&fresh, &program).unwrap();
    program
}

/// A stand-in that runs.
pub(crate) struct Process {
    child: Child,
    talk: Mutex<(ChildStdin, BufReader<ChildStdout>)>,
    /// What it said first.
    pub(crate) ready: Value,
}

impl Process {
    pub(crate) fn start(program: &Path, config: &Value) -> Self {
        let mut child = Command::new(program).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let talk = Mutex::new((child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap())));
        let mut process = Self { child, talk, ready: Value::Null };
        process.ready = process.say(config);
        assert_eq!(process.ready["ready"], true, "{}", process.ready);
        process
    }

    fn say(&self, line: &Value) -> Value {
        let mut talk = self.talk.lock().unwrap();
        let (stdin, stdout) = &mut *talk;
        writeln!(stdin, "{line}").unwrap();
        let mut answer = String::new();
        stdout.read_line(&mut answer).unwrap();
        serde_json::from_str(&answer).unwrap()
    }

    /// Gives a command, which has to succeed.
    pub(crate) fn obey(&self, command: Value) -> Value {
        let answer = self.say(&command);
        assert!(answer.get("error").is_none(), "{command}: {answer}");
        answer
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Its stdin closes with us, but it need not be waited for long.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
