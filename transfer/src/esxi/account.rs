//! Copying a file by accounts: SSH to a host that mounts the datastore, one account and one channel for each connection.
//!
//! First the disk's map is requested where that is worthwhile; then the file is read, by SFTP where the host supports it,
//! else by `dd`, block by block, else by `scp -f`. What the map calls a hole is sampled before it is trusted.

use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::Duration;

use stackferry_volume::block::{BlockIndex, BlockMap, BlockState};
use stackferry_volume::holes::HoleMap;
use stackferry_volume::{FolderError, HoleMapSource};
use stackferry_vsphere::{Datastore, Host, Lockdown, VsphereError};

use super::host_session::{OneTimeAccount, ServiceUse};
use super::{EsxiCredential, EsxiInner, dd, mapping};
use crate::channel::CommandChannel;
use crate::context::{CopyContext, FileCopy, FileOutcome};
use crate::error::TransferError;
use crate::known_hosts::HostKeys;
use crate::receive::Receiver;
use crate::ssh::{Connection, LOGIN_TIMEOUT, SshHost, SshLogin};
use crate::stock::command::scp;
use crate::stock::fetch::{self, MAP_FROM, SftpHost};
use crate::stock::scp::receive;
use crate::stock::sftp::Sftp;
use crate::wait::unless_cancelled;

/// How long a host may take to answer a request.
pub(super) const ANSWER: Duration = Duration::from_secs(30);
/// How long it may take to send the next part of a file.
pub(super) const STALL: Duration = Duration::from_secs(120);

/// The pause before the SSH service is retried after its start: at first, and at most.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// The pauses before the further logins of a new account. ESXi locks an account at the fifth failure.
const LOGIN_PAUSES: [Duration; 3] = [Duration::from_millis(500), Duration::from_secs(1), Duration::from_secs(3)];

/// One copy at one host.
pub(super) struct HostSession<'a, 'f> {
    pub(super) inner: &'a EsxiInner,
    pub(super) host: &'a Host,
    peer: &'a SshHost,
    /// The datastore's folder on the host, and the file's path there.
    root: &'a str,
    pub(super) path: &'a str,
    pub(super) file: &'a FileCopy<'f>,
    pub(super) context: &'a CopyContext,
    pub(super) receiver: &'a Receiver<'f>,
}

/// The result of a copy at one host.
enum HostResult {
    /// The host did not start to send the file.
    NotStarted(TransferError),
    /// It started; the receiver has the outcome, unless it ended before the first block.
    Started(Result<HoleMapSource, TransferError>),
}

pub(super) fn copy(
    inner: &EsxiInner,
    known_hosts: &Path,
    port: u16,
    file: FileCopy<'_>,
    context: &CopyContext,
    issued: &mut dyn FnMut(&EsxiCredential),
) -> Result<FileOutcome, TransferError> {
    let receiver = Receiver::new(&file, context)?;
    if is_known(&file.done) {
        return receiver.finish(HoleMapSource::None, 0);
    }
    let locating = unless_cancelled(&context.cancel, inner.location.hosts());
    let (datastore, mut hosts) = inner.runtime.block_on(locating)?;
    let good = inner.last_good();
    hosts.sort_by_key(|host| good.as_ref() != Some(&host.id));
    let all = hosts.len();
    hosts.retain(|host| host.lockdown == Lockdown::Disabled);
    if hosts.is_empty() {
        return Err(no_usable_host(inner, all));
    }
    let mut first = None;
    let mut used = 0;
    for host in &hosts {
        let peer = peer(host, known_hosts, port);
        let root = root(&datastore, host);
        let path = format!("{root}/{}", file.path);
        if path.contains(['\0', '\n', '\r']) {
            let why = "the path can't be put into a command";
            return Err(FolderError::Refused { path: file.path.escape_debug().to_string(), why }.into());
        }
        let (peer, root, path) = (&peer, &root, &path);
        let visit = HostSession { inner, host, peer, root, path, file: &file, context, receiver: &receiver };
        match visit.go(&mut used, issued) {
            HostResult::NotStarted(error) if another_may_do(&error) => {
                tracing::info!(
                    host = host.name,
                    error = crate::describe(&error),
                    "this file is read from the next host"
                );
                first.get_or_insert(error);
            }
            HostResult::NotStarted(error) => return Err(error),
            HostResult::Started(ended) => {
                let source = ended?;
                let outcome = receiver.finish(source, used)?;
                inner.remember_good(Some(&host.id));
                inner.runtime.block_on(unless_cancelled(&context.cancel, inner.check_unchanged(&file)))?;
                return Ok(outcome);
            }
        }
    }
    Err(first.unwrap_or_else(|| no_usable_host(inner, all)))
}

fn is_known(done: &BlockMap) -> bool {
    (0..done.blocks()).all(|block| done.get(BlockIndex(block)) != BlockState::Unknown)
}

/// The error where no host can be used.
fn no_usable_host(inner: &EsxiInner, usable: usize) -> TransferError {
    let host = format!("datastore {}", inner.datastore.name);
    if usable == 0 {
        return TransferError::Unfit {
            host,
            what: "no host that mounts it is connected, powered on and out of maintenance".to_owned(),
            hint: "check its hosts in vSphere".to_owned(),
        };
    }
    TransferError::Unfit {
        host,
        what: "every host that mounts it is in lockdown mode, which refuses local accounts".to_owned(),
        hint: "read it by tickets (`access = \"ticket\"`), which work in lockdown mode".to_owned(),
    }
}

fn another_may_do(error: &TransferError) -> bool {
    match error {
        TransferError::Unreachable { .. } | TransferError::Stalled { .. } | TransferError::LoginRefused { .. } => true,
        TransferError::Vsphere(error) => {
            matches!(error, VsphereError::Fault { .. } | VsphereError::NotFound { .. } | VsphereError::Gone { .. })
        }
        _ => false,
    }
}

/// The host's SSH server. Its key is known by the name that vSphere has for the host, or by its address.
fn peer(host: &Host, known_hosts: &Path, port: u16) -> SshHost {
    let address = host.addresses.first().unwrap_or(&host.name);
    let mut names = vec![host.name.clone()];
    names.extend(host.addresses.iter().filter(|address| **address != host.name).cloned());
    SshHost { host: address.clone(), port, host_keys: HostKeys::Names(known_hosts.to_owned(), names) }
}

/// Where a host has the datastore.
fn root(datastore: &Datastore, host: &Host) -> String {
    let mounted = datastore.mounts.iter().find(|mount| mount.host == host.id).and_then(|mount| mount.path.as_deref());
    let path =
        mounted.or_else(|| datastore.url.strip_prefix("ds://")).filter(|path| path.starts_with("/vmfs/volumes/"));
    path.map_or_else(|| format!("/vmfs/volumes/{}", datastore.name), |path| path.trim_end_matches('/').to_owned())
}

impl HostSession<'_, '_> {
    fn go(&self, used: &mut u64, issued: &mut dyn FnMut(&EsxiCredential)) -> HostResult {
        // Declared first, so that it is dropped last.
        let _service = match ServiceUse::begin(self.inner, self.host) {
            Ok(service) => service,
            Err(error) => return HostResult::NotStarted(error),
        };
        let map = match self.ask_for_map(used, issued) {
            Ok(map) => map,
            Err(error) => return HostResult::NotStarted(error),
        };
        if !self.inner.lacks_sftp(&self.host.id) {
            match self.by_sftp(map.clone(), used, issued) {
                Ok(Some(ended)) => return HostResult::Started(ended),
                Ok(None) => self.inner.remember_no_sftp(&self.host.id),
                Err(error) => return HostResult::NotStarted(error),
            }
        }
        match self.by_dd(map, used, issued) {
            Ok(Some(source)) => return HostResult::Started(Ok(source)),
            Ok(None) => {}
            Err(error) => return HostResult::NotStarted(error),
        }
        match self.by_scp(used, issued) {
            Ok(source) => HostResult::Started(Ok(source)),
            Err(error) => HostResult::NotStarted(error),
        }
    }

    /// Creates an account and passes its connection to `work`, which closes it.
    pub(super) fn with_account<T>(
        &self,
        issued: &mut dyn FnMut(&EsxiCredential),
        work: impl FnOnce(Connection) -> Result<T, TransferError>,
    ) -> Result<T, TransferError> {
        let cancel = &self.context.cancel;
        if cancel.is_cancelled() {
            return Err(TransferError::Cancelled);
        }
        let throttle = self.context.throttle.as_ref();
        let memory = throttle.map_or(self.context.memory, |throttle| throttle.bound(self.context.memory));
        // No account is created on a host that is unreachable or has the wrong key.
        let mut connection = self.connect(memory)?;
        let account = OneTimeAccount::create_new(self.inner, self.host, issued)?;
        let login = SshLogin::Interactive(account.password.clone());
        let mut pauses = LOGIN_PAUSES.iter();
        while let Err(error) =
            self.inner.runtime.block_on(unless_cancelled(cancel, connection.log_in(&account.name, &login)))
        {
            self.inner.runtime.block_on(connection.close());
            // A host may take a moment until it accepts a new account.
            let pause = pauses.next().filter(|_| matches!(error, TransferError::LoginRefused { .. }));
            let Some(pause) = pause else { return Err(explain(error)) };
            tracing::debug!(host = self.host.name, "the new account may not log in yet: the login is retried");
            self.pause(*pause)?;
            connection = self.connect(memory)?;
        }
        self.context.logged_in(&account.name);
        work(connection)
    }

    /// Connects to the host. An SSH service that was just started gets time until it accepts connections.
    fn connect(&self, memory: u64) -> Result<Connection, TransferError> {
        let mut pause = FIRST_PAUSE;
        loop {
            let connecting =
                unless_cancelled(&self.context.cancel, Connection::connect(self.peer, memory, LOGIN_TIMEOUT));
            match self.inner.runtime.block_on(connecting) {
                Err(error @ (TransferError::Unreachable { .. } | TransferError::Stalled { .. }))
                    if ServiceUse::is_starting(self.inner, self.host) =>
                {
                    let error = crate::describe(&error);
                    tracing::debug!(
                        host = self.host.name,
                        error,
                        "its SSH service was just started: the connection is retried"
                    );
                }
                Ok(connection) => {
                    ServiceUse::is_up(self.inner, self.host);
                    return Ok(connection);
                }
                Err(error) => return Err(error),
            }
            self.pause(pause)?;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    fn pause(&self, pause: Duration) -> Result<(), TransferError> {
        let pausing = async {
            tokio::time::sleep(pause).await;
            Ok(())
        };
        self.inner.runtime.block_on(unless_cancelled(&self.context.cancel, pausing))
    }

    /// The disk's map, where the host provides one that is trusted.
    fn ask_for_map(
        &self,
        used: &mut u64,
        issued: &mut dyn FnMut(&EsxiCredential),
    ) -> Result<Option<HoleMap>, TransferError> {
        if self.file.bytes < MAP_FROM {
            return Ok(None);
        }
        let Some(command) = mapping::command(self.path) else { return Ok(None) };
        let (output, wire) = self.with_account(issued, |connection| self.run(connection, &command))?;
        *used += 1;
        self.receiver.counters.wire.fetch_add(wire, Ordering::Relaxed);
        match mapping::parse(&output, self.file.bytes) {
            Ok(map) => Ok(Some(map)),
            Err(why) => {
                let host = &self.host.name;
                tracing::info!(host, path = self.path, why, "the disk's map is not trusted: the whole disk is read");
                Ok(None)
            }
        }
    }

    /// Runs a command and returns its output, up to a limit.
    fn run(&self, connection: Connection, command: &str) -> Result<(Vec<u8>, u64), TransferError> {
        let cancel = &self.context.cancel;
        let running = async {
            let channel = connection.exec(command).await?;
            let mut channel = CommandChannel::new(connection, channel, None);
            let mut output = Vec::new();
            let ended = loop {
                match channel.next("reading a disk's map", ANSWER, &|| cancel.is_cancelled()).await {
                    Ok(Some(data)) if output.len() + data.len() <= mapping::MAX_BYTES => {
                        output.extend_from_slice(&data)
                    }
                    Ok(_) => break Ok(()),
                    Err(error) => break Err(error),
                }
            };
            let wire = channel.wire;
            channel.close().await;
            ended.map(|()| (output, wire))
        };
        self.inner.runtime.block_on(running)
    }

    /// None where the host has no SFTP.
    fn by_sftp(
        &self,
        map: Option<HoleMap>,
        used: &mut u64,
        issued: &mut dyn FnMut(&EsxiCredential),
    ) -> Result<Option<Result<HoleMapSource, TransferError>>, TransferError> {
        let runtime = &self.inner.runtime;
        let cancelled = || self.context.cancel.is_cancelled();
        self.with_account(issued, |connection| {
            let starting = Sftp::start(connection, self.context.throttle.clone(), ANSWER, &cancelled);
            let mut sftp = match runtime.block_on(starting) {
                Ok(Some(sftp)) => sftp,
                Ok(None) => return Ok(None),
                Err(TransferError::Refused { code, .. }) if code == "no_subsystem" => return Ok(None),
                Err(error) => return Err(error),
            };
            *used += 1;
            let address = self.peer.address();
            let host = SftpHost { runtime, address: &address, root: self.root, stall: STALL };
            let (path, receiver) = (self.path, self.receiver);
            let ended = fetch::receive(&host, path, self.file, self.context, receiver, map, &mut sftp);
            receiver.counters.wire.fetch_add(sftp.wire(), Ordering::Relaxed);
            runtime.block_on(sftp.close());
            Ok(Some(ended))
        })
    }

    /// None where the host has no `dd`.
    fn by_dd(
        &self,
        map: Option<HoleMap>,
        used: &mut u64,
        issued: &mut dyn FnMut(&EsxiCredential),
    ) -> Result<Option<HoleMapSource>, TransferError> {
        if let Some(map) = &map {
            let units = dd::sampled(map);
            let samples = dd::samples(self.path, &units);
            let (output, wire) = self.with_account(issued, |connection| self.run(connection, &samples))?;
            *used += 1;
            let counters = &self.receiver.counters;
            counters.wire.fetch_add(wire, Ordering::Relaxed);
            counters.read.fetch_add(output.len() as u64, Ordering::Relaxed);
            if !dd::are_zero(&output, &units, map) {
                let host = &self.host.name;
                tracing::warn!(host, path = self.path, "the disk's map calls data a hole: it is not used");
                return self.by_dd(None, used, issued);
            }
        }
        let read = self.with_account(issued, |connection| dd::copy(self, connection, map.as_ref()))?;
        *used += u64::from(read.is_some());
        Ok(read)
    }

    /// SCP can't seek: an interrupted copy reads the file from its start again.
    fn by_scp(&self, used: &mut u64, issued: &mut dyn FnMut(&EsxiCredential)) -> Result<HoleMapSource, TransferError> {
        let runtime = &self.inner.runtime;
        let (file, context) = (self.file, self.context);
        self.with_account(issued, |connection| {
            let command = scp(self.path);
            let channel = runtime.block_on(unless_cancelled(&context.cancel, connection.exec(&command)))?;
            let channel = CommandChannel::new(connection, channel, context.throttle.clone());
            *used += 1;
            receive(runtime, STALL, channel, file, context, self.receiver)
        })?;
        Ok(HoleMapSource::None)
    }
}

/// Adds what to check where a new account may not log in.
fn explain(error: TransferError) -> TransferError {
    match error {
        TransferError::LoginRefused { host, user, hint } => {
            let hint = format!(
                "{hint}; is the host in lockdown mode, or does its SSH server accept neither keyboard-interactive nor \
                 password logins?"
            );
            TransferError::LoginRefused { host, user, hint }
        }
        other => other,
    }
}
