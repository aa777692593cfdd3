//! Starts the stand-in of `tests/peers/vcenter`, tells it what to do, and ends it.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Mutex, OnceLock};

use serde_json::{Value, json};
use stackferry_vsphere::Vsphere;

const LIBRARIES: &str = "/usr/share/gocode";

/// The program, built once per run; none where Go or the library is missing and tests may be left out.
fn program() -> Option<&'static Path> {
    static PROGRAM: OnceLock<Option<PathBuf>> = OnceLock::new();
    PROGRAM
        .get_or_init(|| {
            let library = Path::new(LIBRARIES).join("src/github.com/vmware/govmomi/simulator");
            let go = Command::new("go").arg("version").stdout(Stdio::null()).stderr(Stdio::null()).status();
            if !library.is_dir() || !go.is_ok_and(|status| status.success()) {
                let missing = "Go or govmomi's simulator (golang-go, golang-github-vmware-govmomi-dev)";
                assert!(std::env::var_os("STACKFERRY_TEST_ALL").is_none(), "this machine lacks {missing}");
                eprintln!("left out, since this machine lacks {missing}");
                return None;
            }
            let target = Path::new(env!("CARGO_TARGET_TMPDIR"));
            let program = target.join("vcenter");
            // A name of our own: another run may build at the same time.
            let fresh = target.join(format!("vcenter-{}", std::process::id()));
            let built = Command::new("go")
                .args(["build", "-trimpath", "-o"])
                .arg(&fresh)
                .arg(".")
                .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/peers/vcenter"))
                .env("GO111MODULE", "off")
                .env("GOPATH", LIBRARIES)
                .env("GOCACHE", target.join("go-cache"))
                .env("GOFLAGS", "")
                .env("CGO_ENABLED", "0")
                .stdin(Stdio::null())
                .status()
                .unwrap();
            assert!(built.success(), "the stand-in can't be built");
            std::fs::rename(&fresh, &program).unwrap();
            Some(program)
        })
        .as_deref()
}

/// A stand-in that runs. It ends when its stdin closes.
pub(crate) struct Peer {
    child: Child,
    talk: Mutex<(ChildStdin, BufReader<ChildStdout>)>,
    /// What it said first: where it listens, by which certificate.
    pub(crate) ready: Value,
}

impl Peer {
    /// None where this machine can't run it.
    pub(crate) fn start(config: &Value) -> Option<Self> {
        let mut child = Command::new(program()?).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let talk = Mutex::new((child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap())));
        let mut peer = Self { child, talk, ready: Value::Null };
        peer.ready = peer.say(config);
        assert_eq!(peer.ready["ready"], true);
        Some(peer)
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

    pub(crate) fn text(&self, key: &str) -> String {
        self.ready[key].as_str().unwrap().to_owned()
    }

    /// How many logins were tried.
    pub(crate) fn logins(&self) -> usize {
        self.obey(json!({ "do": "logins" }))["logins"].as_array().map_or(0, Vec::len)
    }

    /// A client that knows the certificate.
    pub(crate) fn client(&self, user: &str, password_file: &Path) -> Vsphere {
        let fingerprint = format!("sha256:{}", self.text("sha256"));
        client(&self.text("url"), user, password_file, &json!({ "fingerprint": fingerprint }))
    }
}

/// A client with some more keys in its configuration.
pub(crate) fn client(url: &str, user: &str, password_file: &Path, more: &Value) -> Vsphere {
    let mut config = json!({ "name": "vc1", "url": url, "username": user, "password": { "file": password_file } });
    config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    Vsphere::new(&serde_json::from_value(config).unwrap()).unwrap()
}

impl Drop for Peer {
    fn drop(&mut self) {
        // Its stdin closes with us, but it need not be waited for long.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
