//! SFTP version 3, for stock clients: a file system that holds one file, for reading. It sends an exit status, whose absence
//! `scp` takes for a failure, and ends after a packet that it can't read.

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use jiff::Timestamp;
use stackferry_volume::Source;
use stackferry_volume::local::LocalSource;

use super::EndpointState;
use super::channel::ServerChannel;
use super::grants::{GrantTarget, Granted};
use super::send::open;
use crate::sftp::{Attributes, PacketBuilder, PacketReader, SftpRequest, code, kind};

/// The longest packet that is taken: requests to read are some hundred bytes long.
pub(crate) const MAX_PACKET: usize = 34_000;
/// The most bytes given for one request to read, as OpenSSH's own server: with what stands before them they stay below
/// 256 KiB, beyond which the clients of OpenSSH and Go end the session.
pub(crate) const MAX_READ: u32 = 255 << 10;
/// By this name a client asks for these limits.
const LIMITS: &str = "limits@openssh.com";
/// The most bytes of one request to write, as clients see it; nothing can be written.
const MAX_WRITE: u64 = 32 << 10;
/// The version that is spoken.
const VERSION: u32 = 3;
/// The only flag with which a file is opened.
const OPEN_READ: u32 = 1;
/// What stands before the data of a DATA packet.
const DATA_HEADER: usize = 4 + 1 + 4 + 4;
/// The most handles at a time.
pub(crate) const MAX_HANDLES: usize = 16;

pub(super) async fn serve(mut channel: ServerChannel, shared: Arc<EndpointState>, granted: Granted) {
    let mut server = SftpServer { shared, target: granted.target, handles: Vec::new(), next: 0 };
    let mut reader = PacketReader::new(MAX_PACKET);
    let status = loop {
        match reader.next_request() {
            Err(_) => break 1,
            Ok(Some((id, request))) => {
                if channel.send(server.answer(id, request).await).await.is_err() {
                    break 1;
                }
            }
            Ok(None) => match channel.next().await {
                Some(data) => reader.push(&data),
                None => break 0,
            },
        }
    };
    channel.finish(status).await;
}

enum ServedHandle {
    File(Arc<LocalSource>),
    /// A folder, and whether it was read.
    Folder {
        path: String,
        read: bool,
    },
}

struct SftpServer {
    shared: Arc<EndpointState>,
    target: GrantTarget,
    handles: Vec<(String, ServedHandle)>,
    next: u64,
}

fn status(id: u32, code: u32, message: &str) -> Bytes {
    PacketBuilder::new(kind::STATUS, id).u32(code).text(message.as_bytes()).text(b"en").finish()
}

fn attributes(id: u32, attributes: &Attributes) -> Bytes {
    PacketBuilder::new(kind::ATTRS, id).attributes(attributes).finish()
}

fn name(id: u32, name: &str, attributes: &Attributes) -> Bytes {
    let long = long_name(name, attributes);
    let packet = PacketBuilder::new(kind::NAME, id).u32(1).text(name.as_bytes()).text(long.as_bytes());
    packet.attributes(attributes).finish()
}

/// The entry as clients show it in a long listing, like `ls -l` does.
fn long_name(name: &str, attributes: &Attributes) -> String {
    let mode = if attributes.is_folder() { "dr-xr-xr-x" } else { "-r--------" };
    let time = Timestamp::from_second(attributes.mtime.unwrap_or(0).into()).unwrap_or_default();
    format!("{mode}    1 0        0        {:>8} {} {name}", attributes.bytes.unwrap_or(0), time.strftime("%b %e %Y"))
}

/// An absolute path without `.`, `..` and doubled slashes.
fn normal(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            other => parts.push(other),
        }
    }
    format!("/{}", parts.join("/"))
}

impl SftpServer {
    /// The reply as it goes out.
    async fn answer(&mut self, id: u32, request: SftpRequest) -> Bytes {
        match request {
            SftpRequest::Init => PacketBuilder::new(kind::VERSION, VERSION).text(LIMITS.as_bytes()).text(b"1").finish(),
            SftpRequest::Read { handle, offset, bytes } => self.read(id, &handle, offset, bytes).await,
            SftpRequest::RealPath { path } => name(id, &normal(&path), &Attributes::default()),
            SftpRequest::Stat { path } => match self.stat(id, &path).await {
                Ok(found) => attributes(id, &found),
                Err(status) => status,
            },
            SftpRequest::Fstat { handle } => match self.handle(&handle) {
                Some(ServedHandle::File(source)) => attributes(id, &file_attributes(source)),
                Some(ServedHandle::Folder { .. }) => attributes(id, &FOLDER),
                None => status(id, code::FAILURE, "no such handle"),
            },
            SftpRequest::Open { path, flags: OPEN_READ } => self.open(id, &path).await,
            SftpRequest::Open { .. } => status(id, code::DENIED, "this credential only reads"),
            SftpRequest::OpenFolder { path } => {
                let path = normal(&path);
                if self.is_folder(&path) {
                    self.keep(id, ServedHandle::Folder { path, read: false })
                } else {
                    status(id, code::NO_SUCH_FILE, "no such folder")
                }
            }
            SftpRequest::ReadFolder { handle } => self.read_folder(id, &handle).await,
            SftpRequest::Close { handle } => {
                self.handles.retain(|(own, _)| *own != handle);
                status(id, code::OK, "")
            }
            SftpRequest::Extended { name } if name == LIMITS => {
                let limits = [MAX_PACKET as u64, MAX_READ.into(), MAX_WRITE, MAX_HANDLES as u64];
                let packet = PacketBuilder::new(kind::EXTENDED_REPLY, id);
                limits.into_iter().fold(packet, PacketBuilder::u64).finish()
            }
            SftpRequest::Extended { .. } => status(id, code::UNSUPPORTED, "no extensions"),
            SftpRequest::Other => status(id, code::DENIED, "this credential only reads one file"),
        }
    }

    fn handle(&self, handle: &str) -> Option<&ServedHandle> {
        self.handles.iter().find(|(own, _)| own == handle).map(|(_, served)| served)
    }

    fn keep(&mut self, id: u32, served: ServedHandle) -> Bytes {
        if self.handles.len() >= MAX_HANDLES {
            return status(id, code::FAILURE, "too many open handles");
        }
        self.next += 1;
        let handle = self.next.to_string();
        self.handles.push((handle.clone(), served));
        PacketBuilder::new(kind::HANDLE, id).text(handle.as_bytes()).finish()
    }

    /// Whether a path is a folder above the file.
    fn is_folder(&self, path: &str) -> bool {
        let file = self.target.shown_path();
        path == "/" || file.strip_prefix(path).is_some_and(|rest| rest.starts_with('/'))
    }

    async fn source(&self) -> Option<LocalSource> {
        let (shared, target) = (Arc::clone(&self.shared), self.target.clone());
        tokio::task::spawn_blocking(move || open(&shared, &target)).await.ok()?.ok()
    }

    /// The attributes, or the status to send instead.
    async fn stat(&self, id: u32, path: &str) -> Result<Attributes, Bytes> {
        let path = normal(path);
        if self.is_folder(&path) {
            return Ok(FOLDER);
        }
        if path != self.target.shown_path() {
            return Err(status(id, code::NO_SUCH_FILE, "this credential knows one file"));
        }
        let source = self.source().await;
        source
            .map(|source| file_attributes(&source))
            .ok_or_else(|| status(id, code::FAILURE, "the file can't be opened"))
    }

    async fn open(&mut self, id: u32, path: &str) -> Bytes {
        if normal(path) != self.target.shown_path() {
            return status(id, code::DENIED, "this credential is for another file");
        }
        match self.source().await {
            Some(source) => self.keep(id, ServedHandle::File(Arc::new(source))),
            None => status(id, code::FAILURE, "the file can't be opened"),
        }
    }

    /// A DATA packet, read right into its place; or a status.
    async fn read(&self, id: u32, handle: &str, offset: u64, len: u32) -> Bytes {
        let Some(ServedHandle::File(source)) = self.handle(handle) else {
            return status(id, code::FAILURE, "no such handle");
        };
        let left = source.bytes().saturating_sub(offset).min(len.min(MAX_READ).into());
        let left = u32::try_from(left).unwrap_or(MAX_READ);
        if left == 0 {
            return status(id, code::EOF, "");
        }
        let source = Arc::clone(source);
        let reading = tokio::task::spawn_blocking(move || {
            // Length of what follows, type, the request's number, length of the data (draft 02, section 7).
            let whole = DATA_HEADER + usize::try_from(left).unwrap_or(0);
            let mut packet = BytesMut::with_capacity(whole);
            packet.put_u32(left + 9);
            packet.put_u8(kind::DATA);
            packet.put_u32(id);
            packet.put_u32(left);
            packet.resize(whole, 0);
            let data = packet.get_mut(DATA_HEADER..).unwrap_or_default();
            source.read_at(offset, data).map(|()| packet.freeze())
        });
        match reading.await {
            Ok(Ok(packet)) => packet,
            _ => status(id, code::FAILURE, "reading failed"),
        }
    }

    async fn read_folder(&mut self, id: u32, handle: &str) -> Bytes {
        let file = self.target.shown_path();
        let found = self.handles.iter_mut().find(|(own, _)| own == handle);
        let Some((_, ServedHandle::Folder { path, read })) = found else {
            return status(id, code::FAILURE, "no such handle");
        };
        if std::mem::replace(read, true) {
            return status(id, code::EOF, "");
        }
        let below = if path == "/" { file.strip_prefix('/') } else { file.strip_prefix(&format!("{path}/")) };
        let own = below.and_then(|below| below.split('/').next()).unwrap_or_default().to_owned();
        let full = format!("{}/{own}", path.trim_end_matches('/'));
        match self.stat(id, &full).await {
            Ok(found) => name(id, &own, &found),
            Err(status) => status,
        }
    }
}

const FOLDER: Attributes = Attributes { bytes: None, mode: Some(0o040_555), mtime: None };

/// With the time of last change, where the protocol has room for it.
fn file_attributes(source: &LocalSource) -> Attributes {
    let mtime = source.stamp().ok().and_then(|(stamp, _)| u32::try_from(stamp.mtime.as_second()).ok());
    Attributes { bytes: Some(source.bytes()), mode: Some(0o100_400), mtime }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_normalised() {
        for (path, expected) in [("", "/"), (".", "/"), ("/a/../../b/./c//", "/b/c"), ("a", "/a")] {
            assert_eq!(normal(path), expected);
        }
    }
}
