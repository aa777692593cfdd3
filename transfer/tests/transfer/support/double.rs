//! An endpoint that speaks the real protocol and follows its script: what a test does not change is right.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use russh::keys::PrivateKey;
use russh::server::{self, Auth, ChannelOpenHandle, Handler, Msg, Session, VerifiedPublicKey};
use russh::{Channel, ChannelId, ChannelMsg};
use serde_json::{Value, json};
use stackferry_transfer::Timeouts;
use stackferry_transfer::endpoint::issuer;
use stackferry_transfer::remote::EndpointClient;
use stackferry_transfer::ssh::new_key;
use stackferry_transfer::wire::block::{End, KnownBlocks, OpenResponse, Packer, encode_data, run_payload};
use stackferry_transfer::wire::frame::{FrameKind, FrameReader, encode, encode_json};
use stackferry_volume::block::is_zero;
use stackferry_volume::{BlockIndex, Digest, HoleMapSource};
use tokio::runtime::Runtime;

use super::files::MIB;
use super::place::{peer, runtime, service_key};

/// What the double does after GO.
pub(crate) enum Act {
    Send(Bytes),
    /// Sends the same again and again.
    Forever(Bytes),
    /// Says nothing more, but answers signs of life.
    Hang,
    /// Ends the connection.
    Cut,
}

/// What a request on the control subsystem gets: a whole frame, or none for the right answer.
type Answers = Box<dyn Fn(u64, &Value) -> Option<Vec<Bytes>> + Send + Sync>;
type Acts = Box<dyn Fn(&File, &KnownBlocks) -> Vec<Act> + Send + Sync>;

/// The file that it has.
pub(crate) struct File {
    pub(crate) content: Vec<u8>,
    pub(crate) mtime: jiff::Timestamp,
}

impl File {
    pub(crate) fn bytes(&self) -> u64 {
        self.content.len() as u64
    }

    pub(crate) fn block(&self, block: u64) -> &[u8] {
        let start = usize::try_from(block * MIB).unwrap();
        &self.content[start..self.content.len().min(start + (1 << 20))]
    }

    /// The right frame for a block.
    pub(crate) fn frame(&self, block: u64, zstd: bool) -> Bytes {
        let bytes = self.block(block);
        if is_zero(bytes) {
            return encode(FrameKind::Zero, &run_payload(BlockIndex(block), 1));
        }
        let (mut frame, mut packer) = (Vec::new(), Packer::new().unwrap());
        encode_data(BlockIndex(block), bytes, &Digest::of(bytes), zstd.then_some(&mut packer), &mut frame);
        Bytes::from(frame)
    }

    pub(crate) fn end(&self) -> End {
        let data = (0..self.bytes().div_ceil(MIB)).filter(|block| !is_zero(self.block(*block))).count();
        End { read: self.bytes(), bytes: self.bytes(), mtime: self.mtime, data_frames: data as u64 }
    }

    /// All the right frames, END among them.
    pub(crate) fn frames(&self) -> Vec<Bytes> {
        let blocks = self.bytes().div_ceil(MIB);
        let mut frames: Vec<_> = (0..blocks).map(|block| self.frame(block, block % 2 == 0)).collect();
        frames.push(encode_json(FrameKind::End, &self.end()).unwrap());
        frames
    }
}

/// How the double misbehaves.
pub(crate) struct Script {
    pub(crate) answers: Answers,
    /// The answer to OPEN, if it is not the right one.
    pub(crate) opened: Option<Bytes>,
    pub(crate) acts: Acts,
    /// Opens channels to its client as soon as it has logged in.
    pub(crate) opens_channels: bool,
    /// Host keys that it has beside its own of type Ed25519.
    pub(crate) more_host_keys: Vec<PrivateKey>,
}

impl Default for Script {
    fn default() -> Self {
        Self {
            answers: Box::new(|_, _| None),
            opened: None,
            acts: Box::new(|file, _| file.frames().into_iter().map(Act::Send).collect()),
            opens_channels: false,
            more_host_keys: Vec::new(),
        }
    }
}

struct Shared {
    script: Script,
    file: File,
    logins: AtomicUsize,
    revoked: Mutex<Vec<String>>,
}

pub(crate) struct Double {
    pub(crate) runtime: Runtime,
    pub(crate) address: SocketAddr,
    pub(crate) host_key: String,
    key: PathBuf,
    shared: Arc<Shared>,
}

impl Double {
    pub(crate) fn start(folder: &Path, file: File, script: Script) -> Self {
        let runtime = runtime();
        let key = folder.join("service_key");
        assert!(issuer::parse(&service_key(&key, "")).is_ok());
        let host_key = new_key("");
        let shown = host_key.public_key().to_openssh().unwrap();
        let keys = [vec![host_key], script.more_host_keys.clone()].concat();
        let shared = Arc::new(Shared { script, file, logins: AtomicUsize::new(0), revoked: Mutex::default() });
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let config =
            server::Config { keys, auth_rejection_time: std::time::Duration::ZERO, ..server::Config::default() };
        let (config, served) = (Arc::new(config), Arc::clone(&shared));
        runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let connection = Connection { shared: Arc::clone(&served), channel: None };
                if let Ok(running) = server::run_stream(Arc::clone(&config), stream, connection).await {
                    tokio::spawn(running);
                }
            }
        });
        Self { runtime, address, host_key: shown, key, shared }
    }

    pub(crate) fn client(&self, timeouts: Timeouts) -> EndpointClient {
        let peer = peer(self.address, &self.host_key);
        EndpointClient::new(peer, &self.key, self.runtime.handle().clone()).unwrap().with_timeouts(timeouts)
    }

    pub(crate) fn key(&self) -> &Path {
        &self.key
    }

    /// The number of login attempts.
    pub(crate) fn logins(&self) -> usize {
        self.shared.logins.load(Ordering::SeqCst)
    }

    pub(crate) fn revoked(&self) -> Vec<String> {
        self.shared.revoked.lock().unwrap().clone()
    }

    pub(crate) fn file(&self) -> &File {
        &self.shared.file
    }
}

struct Connection {
    shared: Arc<Shared>,
    channel: Option<Channel<Msg>>,
}

impl Handler for Connection {
    type Error = russh::Error;

    async fn auth_none(&mut self, _: &str) -> Result<Auth, russh::Error> {
        self.shared.logins.fetch_add(1, Ordering::SeqCst);
        Ok(Auth::reject())
    }

    async fn auth_password(&mut self, _: &str, _: &str) -> Result<Auth, russh::Error> {
        self.shared.logins.fetch_add(1, Ordering::SeqCst);
        Ok(Auth::Accept)
    }

    async fn auth_publickey(&mut self, _: &str, _: VerifiedPublicKey<'_>) -> Result<Auth, russh::Error> {
        self.shared.logins.fetch_add(1, Ordering::SeqCst);
        Ok(Auth::Accept)
    }

    async fn auth_succeeded(&mut self, session: &mut Session) -> Result<(), russh::Error> {
        if self.shared.script.opens_channels {
            for _ in 0..50 {
                session.channel_open_session()?;
                session.channel_open_agent()?;
                session.channel_open_forwarded_tcpip("127.0.0.1", 22, "127.0.0.1", 1)?;
                session.channel_open_direct_tcpip("127.0.0.1", 22, "127.0.0.1", 1)?;
                session.channel_open_x11("127.0.0.1", 1)?;
            }
        }
        Ok(())
    }

    async fn channel_open_session(
        &mut self,
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), russh::Error> {
        self.channel = Some(channel);
        reply.accept().await;
        Ok(())
    }

    async fn subsystem_request(
        &mut self,
        id: ChannelId,
        name: &str,
        session: &mut Session,
    ) -> Result<(), russh::Error> {
        session.channel_success(id)?;
        let channel = self.channel.take().unwrap();
        let shared = Arc::clone(&self.shared);
        match name {
            "stackferry-control" => tokio::spawn(control(channel, shared)),
            "stackferry-blocks" => {
                let handle = session.handle();
                tokio::spawn(async move {
                    if blocks(channel, shared).await {
                        let _ = handle.disconnect(russh::Disconnect::ByApplication, String::new(), String::new()).await;
                    }
                })
            }
            _ => panic!("{name}"),
        };
        Ok(())
    }
}

async fn control(mut channel: Channel<Msg>, shared: Arc<Shared>) {
    let mut reader = FrameReader::default();
    while let Some(message) = channel.wait().await {
        let ChannelMsg::Data { data } = message else { continue };
        reader.push(&data);
        while let Some(frame) = reader.next_frame().unwrap() {
            let request: Value = serde_json::from_slice(&frame.payload).unwrap();
            let id = request["id"].as_u64().unwrap();
            let right = || {
                let ok = match request["op"].as_str().unwrap() {
                    "hello" => json!({"protocol": 1, "program": "a double", "features": [], "datastores": []}),
                    "issue" => json!({"user": "sf-1", "password": "p", "seconds": 60, "path": "/ds/a"}),
                    "revoke" => {
                        shared.revoked.lock().unwrap().push(request["user"].as_str().unwrap().to_owned());
                        json!({})
                    }
                    other => panic!("{other}"),
                };
                vec![response(id, &ok)]
            };
            for bytes in (shared.script.answers)(id, &request).unwrap_or_else(right) {
                if channel.data_bytes(bytes).await.is_err() {
                    return;
                }
            }
        }
    }
}

/// A right answer.
pub(crate) fn response(id: u64, ok: &Value) -> Bytes {
    encode_json(FrameKind::Response, &json!({"id": id, "ok": ok})).unwrap()
}

/// Whether the connection is to be ended.
async fn blocks(channel: Channel<Msg>, shared: Arc<Shared>) -> bool {
    let (mut read, write) = channel.split();
    let mut reader = FrameReader::default();
    let mut known = KnownBlocks::new(shared.file.bytes());
    'asked: while let Some(message) = read.wait().await {
        let ChannelMsg::Data { data } = message else { continue };
        reader.push(&data);
        while let Some(frame) = reader.next_frame().unwrap() {
            match frame.kind {
                FrameKind::Open => {
                    let (bytes, mtime) = (shared.file.bytes(), shared.file.mtime);
                    let right = OpenResponse { protocol: 1, bytes, mtime, hole_map: HoleMapSource::Seek };
                    let right = encode_json(FrameKind::Opened, &right).unwrap();
                    let _ = write.data_bytes(shared.script.opened.clone().unwrap_or(right)).await;
                }
                FrameKind::Known => known.read(&frame.payload).unwrap(),
                FrameKind::Go => break 'asked,
                other => panic!("{other:?}"),
            }
        }
    }
    let draining = async {
        while read.wait().await.is_some() {}
        false
    };
    let acting = async {
        for act in (shared.script.acts)(&shared.file, &known) {
            match act {
                Act::Send(bytes) => {
                    let _ = write.data_bytes(bytes).await;
                }
                Act::Forever(bytes) => while write.data_bytes(bytes.clone()).await.is_ok() {},
                Act::Hang => std::future::pending().await,
                Act::Cut => return true,
            }
        }
        let _ = write.eof().await;
        let _ = write.close().await;
        false
    };
    tokio::select! {
        cut = acting => cut,
        cut = draining => cut,
    }
}
