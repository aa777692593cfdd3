//! What the tests share: a datastore with disks, a configuration for it, a service in this process, an HTTP client.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use stackferry_catalog::{Catalog, Clock, Outcome};
use stackferry_config::{Config, Overrides};
use stackferry_engine::app::App;
use stackferry_problem::progress::Reporter;
use stackferry_service::daemon::Daemon;
use stackferry_volume::VolumeId;
use stackferry_volume::io::Cancel;
use tempfile::TempDir;
use tokio::task::JoinHandle;

/// Longer than anything that is waited for takes on a machine that is busy.
pub(crate) const LONG: Duration = Duration::from_secs(60);

pub(crate) struct Bench {
    pub(crate) dir: TempDir,
}

/// A service that runs in this process. Dropped, it ends with the test's runtime.
pub(crate) struct Service {
    pub(crate) app: App,
    pub(crate) address: SocketAddr,
    cancel: Cancel,
    task: JoinHandle<()>,
}

impl Service {
    pub(crate) async fn start(bench: &Bench, more: &str) -> Self {
        Self::start_at(bench, more, Clock::system()).await
    }

    pub(crate) async fn start_at(bench: &Bench, more: &str, clock: Clock) -> Self {
        let cancel = Cancel::default();
        let app = App::open_with(bench.config(0, more), cancel.clone(), clock).await.unwrap();
        let daemon = Daemon::bind(&app, &Reporter::quiet()).await.unwrap();
        let address = daemon.address();
        Self { app, address, cancel, task: tokio::spawn(daemon.run()) }
    }

    pub(crate) async fn end(self) {
        self.cancel.cancel();
        self.task.await.unwrap();
    }

    /// The value of a series, as `name{labels}`.
    pub(crate) async fn sample(&self, series: &str) -> Option<f64> {
        let (status, text) = get(self.address, "/metrics").await;
        assert_eq!(status, 200, "{text}");
        sample(&text, series)
    }
}

pub(crate) fn sample(text: &str, series: &str) -> Option<f64> {
    text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok())
}

impl Bench {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("nfs01/cloudvolumes/apps")).unwrap();
        Self { dir }
    }

    /// Puts an AppStack there whose disk has so many bytes, none of them zeros.
    pub(crate) fn appstack(&self, stem: &str, bytes: usize) -> VolumeId {
        let folder = self.dir.path().join("nfs01/cloudvolumes/apps");
        let mut state = 0x9e37_79b9_7f4a_7c15_u64 ^ bytes as u64 ^ (stem.len() as u64) << 32;
        let data: Vec<u8> = std::iter::repeat_with(|| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()
        })
        .take(bytes / 8)
        .flatten()
        .collect();
        std::fs::write(folder.join(format!("{stem}-flat.vmdk")), data).unwrap();
        let descriptor = format!(
            "# Disk DescriptorFile\nversion=1\nencoding=\"UTF-8\"\nCID=1234abcd\nparentCID=ffffffff\ncreateType=\"vmfs\"\n\n\
             RW {} VMFS \"{stem}-flat.vmdk\"\n\nddb.adapterType = \"lsilogic\"\n",
            bytes / 512
        );
        std::fs::write(folder.join(format!("{stem}.vmdk")), descriptor).unwrap();
        id(&format!("appstack/{stem}"))
    }

    /// Writes a configuration that listens at this port, and more of it.
    pub(crate) fn config_file(&self, port: u16, more: &str) -> PathBuf {
        let root = self.dir.path().display();
        let text = format!(
            "state_dir = \"{root}/state\"\n[vault]\npath = \"{root}/vault\"\nreserve = \"0B\"\n\
             [[datastore]]\nname = \"nfs01\"\nroute = \"local\"\npath = \"{root}/nfs01\"\n\
             [http]\nlisten = \"127.0.0.1:{port}\"\n{more}\n"
        );
        let path = self.dir.path().join(format!("stackferry-{port}.toml"));
        std::fs::write(&path, text).unwrap();
        path
    }

    pub(crate) fn config(&self, port: u16, more: &str) -> Config {
        Config::load(&self.config_file(port, more), &Overrides::none()).unwrap()
    }

    /// The catalog, as another process would open it.
    pub(crate) async fn catalog(&self) -> Catalog {
        Catalog::open(&self.dir.path().join("state/catalog.sqlite")).await.unwrap()
    }

    /// The same before any program ran.
    pub(crate) async fn catalog_of_a_new_folder(&self) -> Catalog {
        use std::os::unix::fs::DirBuilderExt;
        let state = self.dir.path().join("state");
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(state).unwrap();
        self.catalog().await
    }

    /// The folders of copies that were begun and not committed.
    pub(crate) fn incoming(&self) -> usize {
        std::fs::read_dir(self.dir.path().join("vault/incoming")).map_or(0, Iterator::count)
    }
}

pub(crate) fn id(text: &str) -> VolumeId {
    text.parse().unwrap()
}

/// How the attempts on a volume ended, newest first, and why those did that have a reason.
pub(crate) async fn endings(catalog: &Catalog, volume: &VolumeId) -> Vec<(Outcome, Option<String>)> {
    let attempts = catalog.attempts(volume, 100).await.unwrap();
    let ends = attempts.into_iter().filter_map(|attempt| attempt.end);
    ends.map(|end| (end.outcome, end.error.map(|error| error.code))).collect()
}

/// A port that nobody used a moment ago.
pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Waits for a condition.
pub(crate) async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + LONG;
    while !holds().await {
        assert!(Instant::now() < deadline, "{what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Status and body of a GET.
pub(crate) async fn get(address: SocketAddr, path: &str) -> (u16, String) {
    let path = path.to_owned();
    tokio::task::spawn_blocking(move || try_get(address, &path).unwrap()).await.unwrap()
}

pub(crate) fn try_get(address: SocketAddr, path: &str) -> std::io::Result<(u16, String)> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(LONG))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    let (head, body) = text.split_once("\r\n\r\n").ok_or(std::io::ErrorKind::UnexpectedEof)?;
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    Ok((status.ok_or(std::io::ErrorKind::InvalidData)?, body.to_owned()))
}
