//! A read-only SFTP client: it lists folders and reads files, and has no request that changes anything. Its packets are
//! those of [`crate::sftp`], which says why they are our own.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use stackferry_volume::FolderError;

use super::folder::no_root;
use crate::channel::{CommandChannel, Pace};
use crate::error::TransferError;
use crate::sftp::{Attributes, MAX_REPLY, PacketBuilder, PacketError, PacketReader, SftpReply, code, kind};
use crate::ssh::Connection;
use crate::throttle::Throttle;

/// The protocol version: the only one that OpenSSH's servers support.
const VERSION: u32 = 3;
/// The waits' names in errors.
const STARTING: &str = "starting SFTP";
const READING: &str = "reading by SFTP";
/// The longest handle that the protocol allows, in bytes.
const MAX_HANDLE: usize = 256;

/// An SFTP session on a connection of its own.
pub(crate) struct Sftp {
    channel: CommandChannel,
    reader: PacketReader,
    next_number: u32,
    timeout: Duration,
    /// The datastore's path without symbolic links, once requested.
    true_root: Option<Bytes>,
}

/// Why a request failed.
#[derive(Debug)]
pub(crate) enum SftpError {
    /// The host reported this status.
    Status { code: u32, message: String },
    /// The connection or the protocol failed.
    Transfer(TransferError),
}

impl From<TransferError> for SftpError {
    fn from(error: TransferError) -> Self {
        Self::Transfer(error)
    }
}

impl SftpError {
    /// As the error of reading a folder.
    pub(crate) fn for_path(self, path: &str) -> Result<FolderError, TransferError> {
        let path = path.to_owned();
        match self {
            Self::Status { code: code::NO_SUCH_FILE, .. } => Ok(FolderError::NotFound { path }),
            Self::Status { code: code::DENIED, .. } => Ok(FolderError::Denied { path }),
            Self::Status { code, message } => {
                let source = std::io::Error::other(format!("the host says: {message} (SFTP status {code})"));
                Ok(FolderError::Io { path, source })
            }
            Self::Transfer(error) => Err(error),
        }
    }

    /// As the error of copying a file.
    pub(crate) fn for_file(self, path: &str) -> TransferError {
        self.for_path(path).map_or_else(|error| error, TransferError::Folder)
    }
}

/// An open file or folder at the host.
#[derive(Debug, Clone)]
pub(crate) struct OpenHandle(Bytes);

/// Turns a failure status into an error.
fn check_status(reply: SftpReply) -> Result<SftpReply, SftpError> {
    match reply {
        SftpReply::Status { code, message } if code != code::OK => Err(SftpError::Status { code, message }),
        other => Ok(other),
    }
}

impl Sftp {
    /// Starts SFTP on a connection. None where the host closes it at once: its server does not support the options in the
    /// certificate's command.
    ///
    /// # Errors
    /// `Refused` with code `no_subsystem` where the host has no SFTP.
    pub(crate) async fn start(
        connection: Connection,
        throttle: Option<Arc<Throttle>>,
        timeout: Duration,
        ended: &dyn Fn() -> bool,
    ) -> Result<Option<Self>, TransferError> {
        let channel = connection.subsystem("sftp").await?;
        let channel = CommandChannel::new(connection, channel, throttle);
        let mut sftp = Self { channel, reader: PacketReader::new(MAX_REPLY), next_number: 0, timeout, true_root: None };
        let pace = sftp.channel.pace();
        sftp.channel.send(PacketBuilder::new(kind::INIT, VERSION).finish(), timeout).await?;
        loop {
            match sftp.reader.next_reply().map_err(|error| sftp.packet_error(error))? {
                Some((_, SftpReply::Version(VERSION))) => return Ok(Some(sftp)),
                Some((_, SftpReply::Version(other))) => {
                    return Err(sftp
                        .channel
                        .protocol_error(format!("it speaks version {other} of SFTP, this program speaks 3")));
                }
                Some(_) => return Err(sftp.channel.protocol_error("SFTP without a version packet")),
                None => match sftp.channel.next(STARTING, timeout, ended).await? {
                    Some(data) => {
                        sftp.channel.keep_pace(&pace, STARTING, timeout)?;
                        sftp.reader.push(&data);
                    }
                    None => {
                        sftp.close().await;
                        return Ok(None);
                    }
                },
            }
        }
    }

    fn packet_error(&self, error: PacketError) -> TransferError {
        self.channel.protocol_error(error.to_string())
    }

    pub(crate) fn protocol_error(&self, what: impl Into<String>) -> TransferError {
        self.channel.protocol_error(what)
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.channel.is_closed()
    }

    pub(crate) fn pace(&self) -> Pace {
        self.channel.pace()
    }

    pub(crate) fn keep_pace(&self, pace: &Pace, timeout: Duration) -> Result<(), TransferError> {
        self.channel.keep_pace(pace, READING, timeout)
    }

    /// Bytes of the channel in both directions.
    pub(crate) fn wire(&self) -> u64 {
        self.channel.wire
    }

    fn number(&mut self) -> u32 {
        self.next_number = self.next_number.wrapping_add(1);
        self.next_number
    }

    /// Requests a part of a file without waiting. Returns the request's number.
    pub(crate) async fn send_read(
        &mut self,
        handle: &OpenHandle,
        offset: u64,
        bytes: u32,
    ) -> Result<u32, TransferError> {
        let number = self.number();
        let request = PacketBuilder::new(kind::READ, number).text(&handle.0).u64(offset).u32(bytes).finish();
        self.channel.send(request, self.timeout).await?;
        Ok(number)
    }

    /// The next reply to any request.
    pub(crate) async fn next_reply(
        &mut self,
        timeout: Duration,
        ended: &dyn Fn() -> bool,
    ) -> Result<(u32, SftpReply), TransferError> {
        let pace = self.channel.pace();
        loop {
            match self.reader.next_reply().map_err(|error| self.packet_error(error))? {
                Some((_, SftpReply::Version(_))) => {
                    return Err(self.channel.protocol_error("a second SFTP version packet"));
                }
                Some(reply) => return Ok(reply),
                None => match self.channel.next(READING, timeout, ended).await? {
                    Some(data) => {
                        // Also where data arrives, but never a whole packet.
                        self.keep_pace(&pace, timeout)?;
                        self.reader.push(&data);
                    }
                    None => {
                        let stderr = self.channel.stderr();
                        return Err(self
                            .channel
                            .protocol_error(format!("SFTP ended by itself. {stderr}").trim().to_owned()));
                    }
                },
            }
        }
    }

    /// Sends requests at once and waits for all replies, which may arrive in any order. Returns them in the requests' order.
    async fn exchange<const N: usize>(
        &mut self,
        requests: [(u32, PacketBuilder); N],
    ) -> Result<[SftpReply; N], TransferError> {
        let numbers = requests.each_ref().map(|(number, _)| *number);
        for (_, request) in requests {
            self.channel.send(request.finish(), self.timeout).await?;
        }
        let mut replies = [const { None }; N];
        while replies.iter().any(Option::is_none) {
            let (answered, reply) = self.next_reply(self.timeout, &|| false).await?;
            let mut pending = numbers.iter().zip(&mut replies);
            match pending.find(|(number, reply)| **number == answered && reply.is_none()) {
                Some((_, slot)) => *slot = Some(reply),
                None => {
                    return Err(self
                        .channel
                        .protocol_error(format!("a reply to request {answered}, which was not sent")));
                }
            }
        }
        let none = SftpReply::Status { code: u32::MAX, message: String::new() };
        Ok(replies.map(|reply| reply.unwrap_or_else(|| none.clone())))
    }

    async fn request(&mut self, number: u32, request: PacketBuilder) -> Result<SftpReply, SftpError> {
        let [reply] = self.exchange([(number, request)]).await?;
        check_status(reply)
    }

    fn unexpected(&self, doing: &str) -> SftpError {
        self.channel.protocol_error(format!("a reply of the wrong type to {doing}")).into()
    }

    /// The path without symbolic links, and the attributes of its end.
    async fn true_path_and_stat(&mut self, path: &str) -> Result<(Bytes, Attributes), SftpError> {
        let (one, two) = (self.number(), self.number());
        let real = PacketBuilder::new(kind::REALPATH, one).text(path.as_bytes());
        let stat = PacketBuilder::new(kind::LSTAT, two).text(path.as_bytes());
        let [real, stat] = self.exchange([(one, real), (two, stat)]).await?;
        let attributes = match check_status(stat)? {
            SftpReply::Attributes(attributes) => attributes,
            _ => return Err(self.unexpected("lstat")),
        };
        match check_status(real)? {
            SftpReply::Names(names) if names.len() == 1 => {
                let name = names.into_iter().next().map(|(name, _)| name).unwrap_or_default();
                Ok((name, attributes))
            }
            _ => Err(self.unexpected("realpath")),
        }
    }

    /// The attributes of a path of the host; none where it passes a symbolic link: its true path has to be the datastore's
    /// true path and the rest unchanged. Links that are created at the same moment may still lead to another file, but only
    /// to one that this user may read.
    pub(crate) async fn stat_below(&mut self, root: &str, path: &str) -> Result<Option<Attributes>, SftpError> {
        let true_root = match &self.true_root {
            Some(known) => known.clone(),
            None => {
                let requested = if root.is_empty() { "/" } else { root };
                let (found, _) = self.true_path_and_stat(requested).await.map_err(|error| match error {
                    SftpError::Status { code: code::NO_SUCH_FILE, .. } => {
                        TransferError::from(no_root(root, self.channel.address())).into()
                    }
                    other => other,
                })?;
                let found = found.strip_suffix(b"/").map_or_else(|| found.clone(), Bytes::copy_from_slice);
                self.true_root.insert(found).clone()
            }
        };
        if path == root || (root.is_empty() && path == "/") {
            // The datastore's own folder may be a link: the administrator configured it.
            return self.stat_folder(path).await.map(Some);
        }
        let (true_path, attributes) = self.true_path_and_stat(path).await?;
        let below = path.strip_prefix(root).unwrap_or_default();
        let plain = true_path.strip_prefix(&*true_root).is_some_and(|rest| rest == below.as_bytes());
        Ok(plain.then_some(attributes))
    }

    /// The attributes of a path; follows a symbolic link.
    async fn stat_folder(&mut self, path: &str) -> Result<Attributes, SftpError> {
        let number = self.number();
        match self.request(number, PacketBuilder::new(kind::STAT, number).text(path.as_bytes())).await? {
            SftpReply::Attributes(attributes) => Ok(attributes),
            _ => Err(self.unexpected("stat")),
        }
    }

    /// The attributes of a path; does not follow a symbolic link.
    pub(crate) async fn lstat(&mut self, path: &str) -> Result<Attributes, SftpError> {
        let number = self.number();
        match self.request(number, PacketBuilder::new(kind::LSTAT, number).text(path.as_bytes())).await? {
            SftpReply::Attributes(attributes) => Ok(attributes),
            _ => Err(self.unexpected("lstat")),
        }
    }

    pub(crate) async fn fstat(&mut self, handle: &OpenHandle) -> Result<Attributes, SftpError> {
        let number = self.number();
        match self.request(number, PacketBuilder::new(kind::FSTAT, number).text(&handle.0)).await? {
            SftpReply::Attributes(attributes) => Ok(attributes),
            _ => Err(self.unexpected("fstat")),
        }
    }

    /// Opens a file for reading.
    pub(crate) async fn open(&mut self, path: &str) -> Result<OpenHandle, SftpError> {
        const READ: u32 = 1;
        const NO_ATTRIBUTES: u32 = 0;
        let number = self.number();
        let request = PacketBuilder::new(kind::OPEN, number).text(path.as_bytes()).u32(READ).u32(NO_ATTRIBUTES);
        self.handle(number, request, "open").await
    }

    pub(crate) async fn open_folder(&mut self, path: &str) -> Result<OpenHandle, SftpError> {
        let number = self.number();
        self.handle(number, PacketBuilder::new(kind::OPENDIR, number).text(path.as_bytes()), "opendir").await
    }

    async fn handle(&mut self, number: u32, request: PacketBuilder, doing: &str) -> Result<OpenHandle, SftpError> {
        match self.request(number, request).await? {
            SftpReply::Handle(handle) if handle.len() <= MAX_HANDLE => Ok(OpenHandle(handle)),
            SftpReply::Handle(handle) => {
                let what = format!("a handle of {} bytes, where {MAX_HANDLE} are allowed", handle.len());
                Err(self.channel.protocol_error(what).into())
            }
            _ => Err(self.unexpected(doing)),
        }
    }

    /// The next entries of a folder; none at its end.
    pub(crate) async fn read_folder(
        &mut self,
        handle: &OpenHandle,
    ) -> Result<Option<Vec<(Bytes, Attributes)>>, SftpError> {
        let number = self.number();
        match self.request(number, PacketBuilder::new(kind::READDIR, number).text(&handle.0)).await {
            Ok(SftpReply::Names(names)) if !names.is_empty() => Ok(Some(names)),
            Ok(_) => Err(self.unexpected("readdir")),
            Err(SftpError::Status { code: code::EOF, .. }) => Ok(None),
            Err(other) => Err(other),
        }
    }

    /// Up to `bytes` of a file from `offset` on; empty at its end.
    pub(crate) async fn read(&mut self, handle: &OpenHandle, offset: u64, bytes: u32) -> Result<Bytes, SftpError> {
        let number = self.number();
        let request = PacketBuilder::new(kind::READ, number).text(&handle.0).u64(offset).u32(bytes);
        match self.request(number, request).await {
            Ok(SftpReply::Data(data))
                if !data.is_empty() && u32::try_from(data.len()).is_ok_and(|got| got <= bytes) =>
            {
                Ok(data)
            }
            Ok(_) => Err(self.unexpected("read")),
            Err(SftpError::Status { code: code::EOF, .. }) => Ok(Bytes::new()),
            Err(other) => Err(other),
        }
    }

    /// Closes a file or folder. A failure status makes no difference.
    pub(crate) async fn close_handle(&mut self, handle: OpenHandle) -> Result<(), TransferError> {
        let number = self.number();
        match self.request(number, PacketBuilder::new(kind::CLOSE, number).text(&handle.0)).await {
            Err(SftpError::Transfer(error)) => Err(error),
            _ => Ok(()),
        }
    }

    pub(crate) async fn close(self) {
        self.channel.close().await;
    }
}
