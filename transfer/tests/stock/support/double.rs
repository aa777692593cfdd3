//! A stock host that speaks the real protocols and follows its script: what a test does not change is right. It has one
//! file, `apps/a` below `/ds`, and obeys the command that a certificate forces.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use russh::keys::Certificate;
use russh::server::{self, Auth, ChannelOpenHandle, Handler, Msg, Session};
use russh::{Channel, ChannelId, ChannelMsg, ChannelReadHalf, ChannelWriteHalf, Disconnect};
use stackferry_config::SourceAddress;
use stackferry_transfer::Timeouts;
use stackferry_transfer::known_hosts::HostKeys;
use stackferry_transfer::ssh::{SshHost, new_key};
use stackferry_transfer::stock::{StockClient, StockHost};
use tokio::runtime::Runtime;

use super::host::write_key;
use super::wire::{self, Attributes, FOLDER};

/// What the double does next.
pub(crate) enum Act {
    Send(Bytes),
    /// To the command's standard error.
    Complain(Bytes),
    /// Sends the same again and again.
    Forever(Bytes),
    ComplainForever(Bytes),
    /// Sends one byte after the other, with so much time between two.
    Drip(Bytes, Duration),
    /// Waits until the other side sends something.
    Await,
    /// Tells the exit status, if there is one, and closes the channel.
    Exit(Option<u32>),
    /// Says nothing more, but answers signs of life.
    Hang,
    /// Ends the connection.
    Cut,
}

/// A request of SFTP.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) kind: u8,
    pub(crate) id: u32,
    /// How many of this type came before it in the session.
    pub(crate) before: usize,
    pub(crate) path: String,
    pub(crate) offset: u64,
    pub(crate) bytes: u32,
}

/// How a login ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Entry {
    Granted,
    /// It is never answered.
    Hangs,
    /// It ends the connection.
    Cut,
    /// It is granted, and the connection ended at once with these words.
    Farewell(&'static str),
    /// It is granted, but no channel ever opens.
    NoChannel,
    /// A channel request is never answered.
    NoStart,
    /// Something is sent before that is answered.
    Early,
}

type Sftp = Box<dyn Fn(&Asked, &File) -> Option<Vec<Act>> + Send + Sync>;
type Runs = Box<dyn Fn(&str, &File) -> Option<Vec<Act>> + Send + Sync>;

/// How the double misbehaves: none for the right answer.
pub(crate) struct Script {
    pub(crate) sftp: Sftp,
    /// Is given the forced command.
    pub(crate) runs: Runs,
    pub(crate) has_sftp: bool,
    pub(crate) entry: Entry,
    pub(crate) banner: Option<String>,
    /// The window that it gives to the other side, in bytes.
    pub(crate) window: u32,
}

impl Default for Script {
    fn default() -> Self {
        Self {
            sftp: Box::new(|_, _| None),
            runs: Box::new(|_, _| None),
            has_sftp: true,
            entry: Entry::Granted,
            banner: None,
            window: 2 << 20,
        }
    }
}

/// The file that it has.
#[derive(Clone)]
pub(crate) struct File {
    pub(crate) content: Vec<u8>,
    pub(crate) mtime: u32,
}

impl File {
    pub(crate) fn bytes(&self) -> u64 {
        self.content.len() as u64
    }

    pub(crate) fn attributes(&self) -> Attributes {
        Attributes { bytes: Some(self.bytes()), mode: Some(0o100_644), mtime: Some(self.mtime) }
    }

    /// Up to `bytes` from `offset` on.
    pub(crate) fn part(&self, offset: u64, bytes: u32) -> &[u8] {
        let start = self.content.len().min(usize::try_from(offset).unwrap());
        &self.content[start..self.content.len().min(start + usize::try_from(bytes).unwrap())]
    }

    /// `T` and `C` as `scp -f -p` says them.
    pub(crate) fn times(&self) -> Bytes {
        Bytes::from(format!("T{} 0 {} 0\n", self.mtime, self.mtime))
    }

    pub(crate) fn header(&self) -> Bytes {
        Bytes::from(format!("C0644 {} a\n", self.bytes()))
    }

    /// All that the right answer to `scp -f -p` is.
    pub(crate) fn scp(&self) -> Vec<Act> {
        let content = Bytes::from(self.content.clone());
        let (times, header) = (Act::Send(self.times()), Act::Send(self.header()));
        let end = [Act::Send(Bytes::from_static(b"\0")), Act::Await, Act::Exit(Some(0))];
        [Act::Await, times, Act::Await, header, Act::Await, Act::Send(content)].into_iter().chain(end).collect()
    }

    /// A record of `find`.
    pub(crate) fn found(&self, depth: u32, name: &str) -> String {
        format!("{depth} f {} {} {}.0 9 {name}\0", self.bytes(), self.bytes() / 512, self.mtime)
    }

    fn run(&self, command: &str) -> Vec<Act> {
        let said = if command.starts_with("scp ") {
            return self.scp();
        } else if command.starts_with("python3 ") {
            format!("stackferry-map-1\n0 {0}\n-1 {0} {0} {1}\n", self.bytes(), self.mtime)
        } else if command.contains("-maxdepth 0") {
            // The datastore's own folder, or the file.
            let found =
                if command.contains("p='/ds/'") { "0 d 4096 8 7.0 2 ds\0".to_owned() } else { self.found(0, "a") };
            format!("{found}end 0\0")
        } else if command.contains("-maxdepth 1") {
            format!("0 d 4096 8 7.0 2 apps\0{}end 0\0", self.found(1, "a"))
        } else if command.contains("head -c") {
            let content = Bytes::from([self.part(0, 65536), b"stackferry-head-end"].concat());
            return vec![Act::Send(content), Act::Exit(Some(0))];
        } else {
            return vec![Act::Complain(Bytes::from_static(b"not found")), Act::Exit(Some(127))];
        };
        vec![Act::Send(Bytes::from(said)), Act::Exit(Some(0))]
    }

    fn answer(&self, asked: &Asked) -> Bytes {
        let id = asked.id;
        let of_path = match asked.path.trim_end_matches('/') {
            "/ds" | "/ds/apps" => Some(FOLDER),
            "/ds/apps/a" => Some(self.attributes()),
            _ => None,
        };
        match asked.kind {
            wire::INIT => wire::version(3),
            wire::REALPATH => wire::names(id, &[(asked.path.trim_end_matches('/').as_bytes(), Attributes::default())]),
            wire::LSTAT | wire::STAT => {
                of_path.map_or(wire::status(id, 2, "No such file"), |of| wire::attributes_reply(id, of))
            }
            wire::OPEN => wire::handle(id, b"f"),
            wire::OPENDIR => wire::handle(id, b"d"),
            wire::FSTAT => wire::attributes_reply(id, self.attributes()),
            wire::READ if asked.offset >= self.bytes() => wire::status(id, 1, "End of file"),
            wire::READ => wire::data(id, self.part(asked.offset, asked.bytes)),
            wire::READDIR if asked.before == 0 => {
                wire::names(id, &[(b".", FOLDER), (b"..", FOLDER), (b"a", self.attributes())])
            }
            wire::READDIR => wire::status(id, 1, "End of file"),
            wire::CLOSE => wire::status(id, 0, "Success"),
            _ => wire::status(id, 8, "Operation unsupported"),
        }
    }
}

struct Shared {
    script: Script,
    file: File,
    logins: Mutex<Vec<String>>,
}

pub(crate) struct Double {
    pub(crate) runtime: Runtime,
    pub(crate) address: SocketAddr,
    pub(crate) host_key: String,
    shared: Arc<Shared>,
}

impl Double {
    pub(crate) fn start(folder: &Path, file: File, script: Script) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        write_key(&folder.join("user_ca"), "ca");
        let host_key = new_key("");
        let shown = host_key.public_key().to_openssh().unwrap();
        let config = server::Config {
            keys: vec![host_key],
            auth_rejection_time: Duration::ZERO,
            window_size: script.window,
            ..server::Config::default()
        };
        let shared = Arc::new(Shared { script, file, logins: Mutex::default() });
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let (config, served) = (Arc::new(config), Arc::clone(&shared));
        runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let connection = Connection { shared: Arc::clone(&served), forced: String::new(), channel: None };
                if let Ok(running) = server::run_stream(Arc::clone(&config), stream, connection).await {
                    tokio::spawn(running);
                }
            }
        });
        Self { runtime, address, host_key: shown, shared }
    }

    /// A client of it, by way of this address.
    pub(crate) fn client(&self, folder: &Path, by: SocketAddr, timeouts: Timeouts) -> StockClient {
        let host = StockHost {
            peer: SshHost {
                host: by.ip().to_string(),
                port: by.port(),
                host_keys: HostKeys::Line(self.host_key.clone()),
            },
            user: "backup".to_owned(),
            root: "/ds".into(),
            ca_key: folder.join("user_ca"),
            source_address: SourceAddress::Connection,
        };
        StockClient::with_timeouts(host, self.runtime.handle().clone(), timeouts).unwrap()
    }

    /// The forced commands of all that logged in.
    pub(crate) fn logins(&self) -> Vec<String> {
        self.shared.logins.lock().unwrap().clone()
    }
}

struct Connection {
    shared: Arc<Shared>,
    forced: String,
    channel: Option<Channel<Msg>>,
}

impl Handler for Connection {
    type Error = russh::Error;

    async fn authentication_banner(&mut self) -> Result<Option<String>, russh::Error> {
        Ok(self.shared.script.banner.clone())
    }

    async fn auth_succeeded(&mut self, session: &mut Session) -> Result<(), russh::Error> {
        match self.shared.script.entry {
            Entry::Farewell(words) => session.disconnect(Disconnect::ByApplication, words, ""),
            _ => Ok(()),
        }
    }

    async fn auth_openssh_certificate(&mut self, _: &str, certificate: &Certificate) -> Result<Auth, russh::Error> {
        match self.shared.script.entry {
            Entry::Hangs => std::future::pending().await,
            Entry::Cut => return Err(russh::Error::Disconnect),
            _ => {}
        }
        self.forced = certificate.critical_options()["force-command"].clone();
        self.shared.logins.lock().unwrap().push(self.forced.clone());
        Ok(Auth::Accept)
    }

    async fn channel_open_session(
        &mut self,
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), russh::Error> {
        if self.shared.script.entry == Entry::NoChannel {
            std::future::pending::<()>().await;
        }
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
        assert_eq!(name, "sftp");
        if !self.shared.script.has_sftp {
            return session.channel_failure(id);
        }
        self.begin(id, session)
    }

    async fn exec_request(&mut self, id: ChannelId, _: &[u8], session: &mut Session) -> Result<(), russh::Error> {
        self.begin(id, session)
    }
}

impl Connection {
    fn begin(&mut self, id: ChannelId, session: &mut Session) -> Result<(), russh::Error> {
        match self.shared.script.entry {
            Entry::NoStart => return Ok(()),
            Entry::Early => session.data(id, Bytes::from_static(b"early"))?,
            _ => {}
        }
        session.channel_success(id)?;
        let (mut read, write) = self.channel.take().unwrap().split();
        let shared = Arc::clone(&self.shared);
        let (forced, handle) = (self.forced.clone(), session.handle());
        tokio::spawn(async move {
            let cut = if forced.starts_with("internal-sftp") {
                sftp(&shared, &mut read, &write).await
            } else {
                let acts = (shared.script.runs)(&forced, &shared.file).unwrap_or_else(|| shared.file.run(&forced));
                perform(acts, &mut read, &write).await == Flow::Cut
            };
            if cut {
                let _ = handle.disconnect(Disconnect::ByApplication, "\x1b[2Jgo".to_owned(), String::new()).await;
            }
        });
        Ok(())
    }
}

#[derive(PartialEq, Eq)]
enum Flow {
    Go,
    End,
    Cut,
}

async fn drain(read: &mut ChannelReadHalf) {
    while read.wait().await.is_some() {}
}

async fn perform(acts: Vec<Act>, read: &mut ChannelReadHalf, write: &ChannelWriteHalf<Msg>) -> Flow {
    for act in acts {
        let sent = match act {
            Act::Send(bytes) => write.data_bytes(bytes).await.is_ok(),
            Act::Complain(bytes) => write.extended_data_bytes(1, bytes).await.is_ok(),
            Act::Forever(bytes) => {
                let sending = async { while write.data_bytes(bytes.clone()).await.is_ok() {} };
                tokio::select! { () = sending => {}, () = drain(read) => {} }
                return Flow::End;
            }
            Act::ComplainForever(bytes) => {
                let sending = async { while write.extended_data_bytes(1, bytes.clone()).await.is_ok() {} };
                tokio::select! { () = sending => {}, () = drain(read) => {} }
                return Flow::End;
            }
            Act::Drip(bytes, between) => {
                let dripping = async {
                    for byte in bytes {
                        // Before, not after: what follows the last byte is no longer this act's to take.
                        tokio::time::sleep(between).await;
                        if write.data_bytes(vec![byte]).await.is_err() {
                            return;
                        }
                    }
                };
                tokio::select! { () = dripping => {}, () = drain(read) => {} }
                true
            }
            Act::Await => loop {
                match read.wait().await {
                    Some(ChannelMsg::Data { .. }) => break true,
                    Some(_) => {}
                    None => break false,
                }
            },
            Act::Exit(status) => {
                if let Some(status) = status {
                    let _ = write.exit_status(status).await;
                }
                let _ = write.eof().await;
                let _ = write.close().await;
                drain(read).await;
                return Flow::End;
            }
            Act::Hang => {
                drain(read).await;
                return Flow::End;
            }
            Act::Cut => return Flow::Cut,
        };
        if !sent {
            return Flow::End;
        }
    }
    Flow::Go
}

/// Whether the connection is to be cut.
async fn sftp(shared: &Shared, read: &mut ChannelReadHalf, write: &ChannelWriteHalf<Msg>) -> bool {
    let mut buffer = BytesMut::new();
    let mut counts: HashMap<u8, usize> = HashMap::new();
    while let Some(message) = read.wait().await {
        let ChannelMsg::Data { data } = message else { continue };
        buffer.extend_from_slice(&data);
        while buffer.len() >= 4 {
            let length = usize::try_from(u32::from_be_bytes(buffer[..4].try_into().unwrap())).unwrap();
            if buffer.len() < 4 + length {
                break;
            }
            buffer.advance(4);
            let mut asked = parse(buffer.split_to(length).freeze());
            let count = counts.entry(asked.kind).or_default();
            asked.before = *count;
            *count += 1;
            let right = || vec![Act::Send(shared.file.answer(&asked))];
            match perform((shared.script.sftp)(&asked, &shared.file).unwrap_or_else(right), read, write).await {
                Flow::Go => {}
                Flow::End => return false,
                Flow::Cut => return true,
            }
        }
    }
    false
}

fn parse(mut packet: Bytes) -> Asked {
    let (kind, id) = (packet.get_u8(), packet.get_u32());
    let mut asked = Asked { kind, id, before: 0, path: String::new(), offset: 0, bytes: 0 };
    if kind != wire::INIT {
        let length = usize::try_from(packet.get_u32()).unwrap();
        asked.path = String::from_utf8_lossy(&packet.split_to(length)).into_owned();
        if kind == wire::READ {
            (asked.offset, asked.bytes) = (packet.get_u64(), packet.get_u32());
        }
    }
    asked
}
