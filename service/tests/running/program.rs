//! The program itself, as systemd runs it: signals, exit codes, and an address that is taken.

use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixDatagram;
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use stackferry_catalog::Outcome;

use crate::bench::{Bench, LONG, endings, free_port, sample, try_get, until};

const SLOW: &str = "[schedule]\nevery = \"1s\"\n[limits]\nbandwidth = \"1MB/s\"\n";

/// A program that is ended with the test.
pub(crate) struct Program {
    child: Child,
    /// What it has logged so far.
    log: Arc<Mutex<String>>,
    reading: Option<std::thread::JoinHandle<()>>,
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if let Some(reading) = self.reading.take() {
            let _ = reading.join();
        }
    }
}

pub(crate) fn command(bench: &Bench, port: u16, more: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_stackferry"));
    command.arg("--config").arg(bench.config_file(port, more)).arg("run");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

impl Program {
    pub(crate) fn start(mut command: Command) -> Self {
        let mut child = command.spawn().unwrap();
        let log = Arc::new(Mutex::new(String::new()));
        let (lines, kept) = (BufReader::new(child.stderr.take().unwrap()).lines(), Arc::clone(&log));
        let reading = std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let mut log = kept.lock().unwrap();
                log.push_str(&line);
                log.push('\n');
            }
        });
        Self { child, log, reading: Some(reading) }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Waits until it logs this, and gives the line.
    pub(crate) async fn logs(&self, text: &str) -> String {
        let line = || self.log.lock().unwrap().lines().find(|line| line.contains(text)).map(str::to_owned);
        until(text, async || line().is_some()).await;
        line().unwrap()
    }

    /// Waits for the end, and gives the exit code and what was logged.
    pub(crate) async fn end(mut self) -> (Option<i32>, String) {
        until("it ends", async || self.child.try_wait().unwrap().is_some()).await;
        self.reading.take().unwrap().join().unwrap();
        let log = self.log.lock().unwrap().clone();
        (self.child.wait().unwrap().code(), log)
    }
}

pub(crate) fn address(port: u16) -> SocketAddr {
    ([127, 0, 0, 1], port).into()
}

pub(crate) async fn runs_a_copy(port: u16) {
    until("a copy runs", async || {
        let metrics = try_get(address(port), "/metrics").map(|(_, text)| text).unwrap_or_default();
        sample(&metrics, "stackferry_transfers_running") == Some(1.0)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_in_mid_copy_loses_nothing() {
    let bench = Bench::new();
    let office = bench.appstack("Office", 32 << 20);
    let port = free_port();
    let socket = UnixDatagram::bind(bench.dir.path().join("notify")).unwrap();
    socket.set_read_timeout(Some(LONG)).unwrap();
    let told = || {
        let mut text = [0u8; 64];
        let length = socket.recv(&mut text).unwrap();
        String::from_utf8_lossy(&text[..length]).trim().to_owned()
    };
    let mut slow = command(&bench, port, SLOW);
    slow.env("NOTIFY_SOCKET", bench.dir.path().join("notify"));
    let program = Program::start(slow);
    assert_eq!(told(), "READY=1");
    assert_eq!(try_get(address(port), "/healthz").unwrap(), (200, "ok\n".to_owned()));
    runs_a_copy(port).await;
    let asked = Instant::now();
    program.signal(Signal::TERM);
    let (code, log) = program.end().await;
    assert_eq!(code, Some(0), "{log}");
    assert!(asked.elapsed() < Duration::from_secs(10), "it took {:?}", asked.elapsed());
    assert_eq!(told(), "STOPPING=1");
    let catalog = bench.catalog().await;
    assert_eq!(endings(&catalog, &office).await, [(Outcome::Failed, Some("interrupted".to_owned()))]);
    assert!(catalog.versions(&office).await.unwrap().is_empty());
    assert_eq!(bench.incoming(), 1, "what was copied is kept");
    assert!(catalog.leases().await.unwrap().iter().all(|lease| lease.released));

    let program = Program::start(command(&bench, port, "[schedule]\nevery = \"1s\"\n"));
    until("it is copied", async || !catalog.versions(&office).await.unwrap().is_empty()).await;
    program.signal(Signal::INT);
    let (code, log) = program.end().await;
    assert_eq!(code, Some(0), "{log}");
    assert_eq!(bench.incoming(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_service_leaves_nothing_that_stops_the_next() {
    let bench = Bench::new();
    let office = bench.appstack("Office", 32 << 20);
    let port = free_port();
    let program = Program::start(command(&bench, port, SLOW));
    runs_a_copy(port).await;
    drop(program);
    let catalog = bench.catalog().await;
    assert!(endings(&catalog, &office).await.is_empty(), "nobody ended the attempt");
    let program = Program::start(command(&bench, free_port(), "[schedule]\nevery = \"1s\"\n"));
    until("it is copied", async || !catalog.versions(&office).await.unwrap().is_empty()).await;
    program.signal(Signal::TERM);
    assert_eq!(program.end().await.0, Some(0));
    let ends = endings(&catalog, &office).await;
    assert_eq!(ends, [(Outcome::Copied, None), (Outcome::Failed, Some("interrupted".to_owned()))]);
}

fn refused(output: &Output) -> serde_json::Value {
    let last = String::from_utf8_lossy(&output.stderr).lines().last().unwrap_or_default().to_owned();
    serde_json::from_str::<serde_json::Value>(&last).unwrap()["error"].take()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_keeps_it_from_starting_is_said() {
    let bench = Bench::new();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let output = command(&bench, port, "").args(["--output", "json"]).output().unwrap();
    let error = refused(&output);
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert_eq!((&error["code"], &error["subject"]), (&"cannot_listen".into(), &format!("127.0.0.1:{port}").into()));
    assert!(error["hint"].as_str().unwrap().contains("http.listen"), "{error}");

    let tls = "tls = { cert = \"/etc/stackferry/cert.pem\", key = \"/etc/stackferry/key.pem\" }\n";
    let output = command(&bench, free_port(), tls).args(["--output", "json"]).output().unwrap();
    let error = refused(&output);
    assert_eq!(output.status.code(), Some(2), "{error}");
    assert_eq!((&error["code"], &error["subject"]), (&"bad_config".into(), &"http.tls.cert".into()));
}
