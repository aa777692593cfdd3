//! How fast copies are on this machine: the local route, an endpoint over loopback, and OpenSSH's `scp` from the same
//! endpoint, for a sparse file of 4 GiB with 1 GiB of data, a half of which compresses.
//!
//! `cargo run --release -p stackferry-transfer --example throughput [FOLDER]`; FOLDER needs some GiB and should be on
//! the disk that matters. The page cache is warm: what is measured is the program, not the disk.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::disallowed_methods, missing_docs)]

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::os::unix::fs::{FileExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use stackferry_transfer::endpoint::{EndpointConfig, EndpointServer};
use stackferry_transfer::known_hosts::HostKeys;
use stackferry_transfer::remote::EndpointClient;
use stackferry_transfer::ssh::{SshHost, new_key};
use stackferry_transfer::{CopyContext, FileCopy, FileOutcome, NoProgress, local};
use stackferry_volume::io::Cancel;
use stackferry_volume::local::{LocalFolder, SparseFile};
use stackferry_volume::{BlockIndex, BlockMap, BlockState, FileName, Folder, HoleMapSource, Sink, Source};

// As in the program itself: glibc's allocator gives each block's buffer back to the kernel.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const GIB: u64 = 1 << 30;
const NAME: &str = "a-flat.vmdk";

/// Writes, and records nothing.
struct Plain(SparseFile);

impl Source for Plain {
    fn bytes(&self) -> u64 {
        self.0.bytes()
    }
    fn next_data(&self, from: u64) -> io::Result<Option<Range<u64>>> {
        self.0.next_data(from)
    }
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        self.0.read_at(offset, buf)
    }
    fn hole_map(&self) -> HoleMapSource {
        HoleMapSource::Seek
    }
}

impl Sink for Plain {
    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<u64> {
        self.0.write_at(offset, data)
    }
    fn clear(&self, offset: u64, bytes: u64) -> io::Result<()> {
        self.0.clear(offset, bytes)
    }
    fn checkpoint(&self, _done: &[(BlockIndex, BlockState)]) -> io::Result<()> {
        Ok(())
    }
    fn recorded(&self) -> io::Result<BlockMap> {
        Ok(BlockMap::new(self.bytes()))
    }
}

fn main() {
    let folder = std::env::args_os().nth(1).unwrap_or_else(|| std::env::temp_dir().into());
    let home = tempfile::tempdir_in(folder).unwrap();
    let store = home.path().join("store");
    std::fs::create_dir(&store).unwrap();
    make(&store.join(NAME));

    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let key = home.path().join("key");
    let service = new_key("");
    let text = service.to_openssh(russh::keys::ssh_key::LineEnding::LF).unwrap();
    let mut file = std::fs::File::options().write(true).create_new(true).mode(0o600).open(&key).unwrap();
    io::Write::write_all(&mut file, text.as_bytes()).unwrap();
    let config = EndpointConfig {
        listen: "127.0.0.1:0".parse().unwrap(),
        host_key: home.path().join("host_key"),
        issuers: vec![service.public_key().to_openssh().unwrap()],
        datastores: BTreeMap::from([("ds".to_owned(), store.clone())]),
        restore: std::collections::BTreeSet::new(),
    };
    let endpoint = runtime.block_on(EndpointServer::bind(config)).unwrap();
    let address = endpoint.local_addr().unwrap();
    let host_key = endpoint.public_host_key();
    runtime.spawn(endpoint.run(std::future::pending()));
    let peer = SshHost { host: "127.0.0.1".into(), port: address.port(), host_keys: HostKeys::Line(host_key.clone()) };
    let client = EndpointClient::new(peer, &key, runtime.handle().clone()).unwrap();
    let datastore = LocalFolder::open(&store).unwrap();
    let context = CopyContext::new(Cancel::default(), Arc::new(NoProgress), 32 << 20);

    let copy = |what: &str, base: Option<&BlockMap>, run: &dyn Fn(FileCopy<'_>) -> FileOutcome| {
        let entry = datastore.stat(NAME).unwrap().unwrap();
        let name = FileName::new(&what.replace(' ', "-")).unwrap();
        let home = std::fs::File::open(home.path()).unwrap();
        let sink = Plain(SparseFile::create_new(&home, &name, entry.bytes, 0o600).unwrap());
        let done = BlockMap::new(entry.bytes);
        let (began, cpu) = (Instant::now(), cpu());
        let outcome = run(FileCopy { path: NAME, bytes: entry.bytes, mtime: entry.mtime, sink: &sink, done, base });
        report(what, began, cpu, Some(&outcome));
        outcome
    };
    let by_endpoint = |file: FileCopy<'_>| client.copy("ds", file, &context, &mut |_| {}).unwrap();
    let first = copy("local", None, &|file| local::copy(&datastore, file, &context).unwrap());
    copy("endpoint", None, &by_endpoint);
    copy("endpoint again", None, &by_endpoint);
    copy("endpoint unchanged", Some(&first.blocks), &by_endpoint);

    let credential = client.issue("ds", NAME, Duration::from_secs(60)).unwrap();
    let known = home.path().join("known_hosts");
    std::fs::write(&known, format!("[127.0.0.1]:{} {host_key}\n", address.port())).unwrap();
    let askpass = home.path().join("askpass");
    std::fs::write(&askpass, "#!/bin/sh\nexec cat \"$0.secret\"\n").unwrap();
    std::fs::set_permissions(&askpass, std::fs::Permissions::from_mode(0o700)).unwrap();
    std::fs::write(home.path().join("askpass.secret"), credential.password.expose()).unwrap();
    let (began, cpu) = (Instant::now(), cpu());
    let status = Command::new("scp")
        .args(["-q", "-F", "/dev/null", "-o", "PubkeyAuthentication=no", "-o", "BatchMode=no", "-o"])
        .arg(format!("UserKnownHostsFile={}", known.display()))
        .args(["-P", &address.port().to_string()])
        .arg(format!("{}@127.0.0.1:{}", credential.user, credential.path))
        .arg(home.path().join("scp"))
        .env("SSH_ASKPASS", &askpass)
        .env("SSH_ASKPASS_REQUIRE", "force")
        .stdin(Stdio::null())
        .status();
    match status {
        Ok(status) if status.success() => report("scp (its server alone)", began, cpu, None),
        other => println!("scp: {other:?}"),
    }
}

/// The CPU time of this process, in seconds (proc(5), stat: utime and stime, in ticks of 10 ms).
fn cpu() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields = stat.rsplit_once(')').unwrap().1;
    let ticks: u32 = fields.split_whitespace().skip(11).take(2).map(|field| field.parse::<u32>().unwrap()).sum();
    f64::from(ticks) / 100.0
}

fn report(what: &str, began: Instant, cpu_before: f64, outcome: Option<&FileOutcome>) {
    let wire = outcome.map_or(String::new(), |outcome| format!(", {} MiB on the wire", outcome.counts.wire >> 20));
    let (took, cpu) = (began.elapsed().as_secs_f64(), cpu() - cpu_before);
    println!("{what}: {took:.2} s, {cpu:.2} s of CPU{wire}");
}

/// 1 GiB in pieces of 64 MiB, one in each 256 MiB.
fn make(path: &Path) {
    let file = std::fs::File::options().write(true).create_new(true).open(path).unwrap();
    file.set_len(4 * GIB).unwrap();
    let mut state = 1u64;
    for piece in 0..16u64 {
        let mut bytes = Vec::with_capacity(64 << 20);
        while bytes.len() < 64 << 20 {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            let word = if piece % 2 == 0 { state } else { state & 0x0f0f_0000_00ff };
            bytes.extend_from_slice(&word.to_le_bytes());
        }
        file.write_all_at(&bytes, piece * (256 << 20) + 12_345).unwrap();
    }
    file.sync_all().unwrap();
}
