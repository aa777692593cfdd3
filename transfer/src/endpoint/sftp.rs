//! SFTP version 3, for stock clients: a file system that holds one file, for reading.
//!
//! The packets are russh-sftp's. Its server is not used: it would send no exit status, which `scp` takes for a failure,
//! and it goes on after a packet that it could not read.

use std::sync::Arc;

use bytes::{Buf, Bytes, BytesMut};
use russh_sftp::protocol::{
    Attrs, ExtendedReply, File, FileAttributes, Handle, Name, OpenFlags, Packet, Status, StatusCode, Version,
};
use stackferry_volume::Source;
use stackferry_volume::local::LocalSource;

use super::Shared;
use super::grants::{Granted, Target};
use super::line::Line;
use super::send::open;

/// The longest packet that is taken: requests to read are some hundred bytes long.
pub(crate) const MOST_PACKET: usize = 34_000;
/// The most bytes given for one request to read, as OpenSSH's own server: with what stands before them they stay below
/// 256 KiB, beyond which the clients of OpenSSH and Go end the session.
pub(crate) const MOST_READ: u32 = 255 << 10;
/// By this name a client asks for these limits.
const LIMITS: &str = "limits@openssh.com";
/// The most bytes of one request to write, as it is told to clients; nothing can be written.
const MOST_WRITE: u64 = 32 << 10;
/// What stands before the data of a DATA packet.
const DATA_HEADER: usize = 4 + 1 + 4 + 4;
/// The most handles at a time.
pub(crate) const MOST_HANDLES: usize = 16;

pub(super) async fn serve(mut line: Line, shared: Arc<Shared>, granted: Granted) {
    let mut server = Server { shared, target: granted.target, handles: Vec::new(), next: 0 };
    let mut buffer = BytesMut::new();
    let status = loop {
        match take_packet(&mut buffer) {
            Err(()) => break 1,
            Ok(Some(mut packet)) => {
                let Ok(request) = Packet::try_from(&mut packet) else { break 1 };
                let Some(reply) = server.reply(request).await else { break 1 };
                if line.put(reply).await.is_err() {
                    break 1;
                }
            }
            Ok(None) => match line.next().await {
                Some(data) => buffer.extend_from_slice(&data),
                None => break 0,
            },
        }
    };
    line.finish(status).await;
}

/// The next whole packet without its length; none while it is not here; an error if it is too long.
fn take_packet(buffer: &mut BytesMut) -> Result<Option<Bytes>, ()> {
    let Some(length) = buffer.first_chunk::<4>().copied() else { return Ok(None) };
    let length = usize::try_from(u32::from_be_bytes(length)).map_err(|_| ())?;
    if length == 0 || length > MOST_PACKET {
        return Err(());
    }
    if buffer.len() < 4 + length {
        return Ok(None);
    }
    buffer.advance(4);
    Ok(Some(buffer.split_to(length).freeze()))
}

enum Opened {
    File(Arc<LocalSource>),
    /// A folder, and whether it was read.
    Folder {
        path: String,
        read: bool,
    },
}

struct Server {
    shared: Arc<Shared>,
    target: Target,
    handles: Vec<(String, Opened)>,
    next: u64,
}

fn status(id: u32, code: StatusCode, message: &str) -> Packet {
    Packet::Status(Status { id, status_code: code, error_message: message.to_owned(), language_tag: "en".to_owned() })
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

impl Server {
    /// The reply as it goes out; none where it can't be written down.
    async fn reply(&mut self, request: Packet) -> Option<Bytes> {
        let answer = match request {
            Packet::Read(request) => match self.read(request.id, &request.handle, request.offset, request.len).await {
                Ok(data) => return Some(data),
                Err(status) => status,
            },
            other => self.answer(other).await,
        };
        Bytes::try_from(answer).ok()
    }

    async fn answer(&mut self, request: Packet) -> Packet {
        match request {
            Packet::Init(_) => {
                let mut version = Version::new();
                version.extensions.insert(LIMITS.to_owned(), "1".to_owned());
                Packet::Version(version)
            }
            Packet::RealPath(request) => {
                Packet::Name(Name { id: request.id, files: vec![File::dummy(normal(&request.path))] })
            }
            Packet::Stat(request) => self.stat(request.id, &request.path).await,
            Packet::Lstat(request) => self.stat(request.id, &request.path).await,
            Packet::Fstat(request) => match self.handle(&request.handle) {
                Some(Opened::File(source)) => {
                    Packet::Attrs(Attrs { id: request.id, attrs: file_attributes(source.bytes(), mtime(source)) })
                }
                Some(Opened::Folder { .. }) => Packet::Attrs(Attrs { id: request.id, attrs: folder_attributes() }),
                None => status(request.id, StatusCode::Failure, "no such handle"),
            },
            Packet::Open(request) if request.pflags.bits() == OpenFlags::READ.bits() => {
                self.open(request.id, &request.filename).await
            }
            Packet::Open(request) => status(request.id, StatusCode::PermissionDenied, "this credential only reads"),
            Packet::OpenDir(request) => {
                let path = normal(&request.path);
                if self.is_folder(&path) {
                    self.keep(request.id, Opened::Folder { path, read: false })
                } else {
                    status(request.id, StatusCode::NoSuchFile, "no such folder")
                }
            }
            Packet::ReadDir(request) => self.read_folder(request.id, &request.handle).await,
            Packet::Close(request) => {
                self.handles.retain(|(handle, _)| *handle != request.handle);
                status(request.id, StatusCode::Ok, "")
            }
            Packet::Extended(request) if request.request == LIMITS => {
                let limits = [MOST_PACKET as u64, MOST_READ.into(), MOST_WRITE, MOST_HANDLES as u64];
                let data = limits.iter().flat_map(|limit| limit.to_be_bytes()).collect();
                Packet::ExtendedReply(ExtendedReply { id: request.id, data })
            }
            Packet::Extended(request) => status(request.id, StatusCode::OpUnsupported, "no extensions"),
            other => {
                status(other.get_request_id(), StatusCode::PermissionDenied, "this credential only reads one file")
            }
        }
    }

    fn handle(&self, handle: &str) -> Option<&Opened> {
        self.handles.iter().find(|(own, _)| own == handle).map(|(_, opened)| opened)
    }

    fn keep(&mut self, id: u32, opened: Opened) -> Packet {
        if self.handles.len() >= MOST_HANDLES {
            return status(id, StatusCode::Failure, "too many open handles");
        }
        self.next += 1;
        let handle = self.next.to_string();
        self.handles.push((handle.clone(), opened));
        Packet::Handle(Handle { id, handle })
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

    async fn stat(&self, id: u32, path: &str) -> Packet {
        let path = normal(path);
        if self.is_folder(&path) {
            return Packet::Attrs(Attrs { id, attrs: folder_attributes() });
        }
        if path != self.target.shown_path() {
            return status(id, StatusCode::NoSuchFile, "this credential knows one file");
        }
        match self.source().await {
            Some(source) => Packet::Attrs(Attrs { id, attrs: file_attributes(source.bytes(), mtime(&source)) }),
            None => status(id, StatusCode::Failure, "the file can't be opened"),
        }
    }

    async fn open(&mut self, id: u32, path: &str) -> Packet {
        if normal(path) != self.target.shown_path() {
            return status(id, StatusCode::PermissionDenied, "this credential is for another file");
        }
        match self.source().await {
            Some(source) => self.keep(id, Opened::File(Arc::new(source))),
            None => status(id, StatusCode::Failure, "the file can't be opened"),
        }
    }

    /// A DATA packet, read right into its place; or the status to send instead.
    async fn read(&self, id: u32, handle: &str, offset: u64, len: u32) -> Result<Bytes, Packet> {
        let Some(Opened::File(source)) = self.handle(handle) else {
            return Err(status(id, StatusCode::Failure, "no such handle"));
        };
        let left = source.bytes().saturating_sub(offset).min(len.min(MOST_READ).into());
        let left = u32::try_from(left).unwrap_or(MOST_READ);
        if left == 0 {
            return Err(status(id, StatusCode::Eof, ""));
        }
        let source = Arc::clone(source);
        let reading = tokio::task::spawn_blocking(move || {
            // Length of what follows, SSH_FXP_DATA, the request's number, length of the data (draft 02, section 7).
            let mut packet = Vec::with_capacity(DATA_HEADER + usize::try_from(left).unwrap_or(0));
            packet.extend_from_slice(&(left + 9).to_be_bytes());
            packet.push(103);
            packet.extend_from_slice(&id.to_be_bytes());
            packet.extend_from_slice(&left.to_be_bytes());
            packet.resize(DATA_HEADER + usize::try_from(left).unwrap_or(0), 0);
            let data = packet.get_mut(DATA_HEADER..).unwrap_or_default();
            source.read_at(offset, data).map(|()| Bytes::from(packet))
        });
        match reading.await {
            Ok(Ok(packet)) => Ok(packet),
            _ => Err(status(id, StatusCode::Failure, "reading failed")),
        }
    }

    async fn read_folder(&mut self, id: u32, handle: &str) -> Packet {
        let file = self.target.shown_path();
        let found = self.handles.iter_mut().find(|(own, _)| own == handle);
        let Some((_, Opened::Folder { path, read })) = found else {
            return status(id, StatusCode::Failure, "no such handle");
        };
        if std::mem::replace(read, true) {
            return status(id, StatusCode::Eof, "");
        }
        let below = if path == "/" { file.strip_prefix('/') } else { file.strip_prefix(&format!("{path}/")) };
        let name = below.and_then(|below| below.split('/').next()).unwrap_or_default().to_owned();
        let full = format!("{}/{name}", path.trim_end_matches('/'));
        let attrs = match self.stat(id, &full).await {
            Packet::Attrs(found) => found.attrs,
            other => return other,
        };
        Packet::Name(Name { id, files: vec![File::new(name, attrs)] })
    }
}

/// The time of last change, where the protocol can tell it.
fn mtime(source: &LocalSource) -> Option<u32> {
    source.stamp().ok().and_then(|(stamp, _)| u32::try_from(stamp.mtime.as_second()).ok())
}

fn folder_attributes() -> FileAttributes {
    let mut attributes = FileAttributes::empty();
    attributes.set_dir(true);
    attributes.permissions = Some(0o040_555);
    attributes
}

fn file_attributes(bytes: u64, mtime: Option<u32>) -> FileAttributes {
    let mut attributes = FileAttributes::empty();
    attributes.size = Some(bytes);
    attributes.permissions = Some(0o100_400);
    attributes.atime = mtime;
    attributes.mtime = mtime;
    attributes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_made_plain() {
        for (path, expected) in [("", "/"), (".", "/"), ("/a/../../b/./c//", "/b/c"), ("a", "/a")] {
            assert_eq!(normal(path), expected);
        }
    }
}
