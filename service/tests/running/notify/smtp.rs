//! A real mail server as a child: Debian's python3-aiosmtpd.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use super::receiver::certificate;

/// Debian's own Python: another one on the path does not know its packages.
const PYTHON: &str = "/usr/bin/python3";
pub(super) const PASSWORD: &str = "correct horse";

pub(super) struct MailServer {
    child: Child,
    pub(super) port: u16,
    pub(super) certificate: PathBuf,
    told: Arc<Mutex<Vec<Value>>>,
}

impl Drop for MailServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Whether it can be run here.
pub(super) fn is_there() -> bool {
    let found = Command::new(PYTHON).args(["-c", "import aiosmtpd"]).stderr(Stdio::null()).status();
    let found = found.is_ok_and(|status| status.success());
    assert!(found || std::env::var_os("STACKFERRY_TEST_ALL").is_none(), "python3-aiosmtpd is missing");
    if !found {
        eprintln!("left out: python3-aiosmtpd is missing");
    }
    found
}

impl MailServer {
    /// `tls` is `starttls`, `tls` or `none`, as it is configured at this end; more options as the script has them.
    pub(super) fn start(folder: &Path, tls: &str, more: &Value) -> Self {
        let (cert, key, _) = certificate(folder, "mail");
        let script = folder.join("smtp.py");
        std::fs::write(&script, include_str!("smtp.py")).unwrap();
        let mut options = json!({ "tls": tls, "cert": cert, "key": key, "password": PASSWORD });
        options.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap_or_default());
        let mut child = Command::new(PYTHON)
            .arg(script)
            .arg(options.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let line = |line: String| serde_json::from_str::<Value>(&line).unwrap();
        let first = line(lines.next().unwrap().unwrap());
        let port = u16::try_from(first["port"].as_u64().unwrap()).unwrap();
        let told = Arc::<Mutex<Vec<Value>>>::default();
        let known = Arc::clone(&told);
        std::thread::spawn(move || {
            for text in lines.map_while(Result::ok) {
                known.lock().unwrap().push(line(text));
            }
        });
        Self { child, port, certificate: cert, told }
    }

    /// The section of the configuration, with the login, and more of it.
    pub(super) fn section(&self, more: &str) -> String {
        format!(
            "[notify.mail]\nserver = \"127.0.0.1:{}\"\nca = \"{}\"\nfrom = \"stackferry@example.com\"\n\
             to = [\"vdi@example.com\"]\nuser = \"stackferry\"\npassword = {{ env = \"STACKFERRY_TEST_MAIL\" }}\n{more}\n",
            self.port,
            self.certificate.display()
        )
    }

    /// What happened of this kind.
    pub(super) fn told(&self, event: &str) -> Vec<Value> {
        self.told.lock().unwrap().iter().filter(|told| told["event"] == event).cloned().collect()
    }

    /// The letters it took.
    pub(super) fn letters(&self) -> Vec<Letter> {
        self.told("letter").into_iter().map(Letter).collect()
    }
}

/// A letter as the server read it.
pub(super) struct Letter(pub(super) Value);

impl Letter {
    /// Every value of a header.
    pub(super) fn headers(&self, name: &str) -> Vec<&str> {
        let all = self.0["headers"].as_array().unwrap().iter();
        let own = all.filter(|header| header[0].as_str().unwrap().eq_ignore_ascii_case(name));
        own.map(|header| header[1].as_str().unwrap()).collect()
    }

    pub(super) fn subject(&self) -> &str {
        self.headers("subject")[0]
    }

    pub(super) fn body(&self) -> &str {
        self.0["body"].as_str().unwrap()
    }
}
