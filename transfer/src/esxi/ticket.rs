//! Copying a file by tickets: parts of the file, a few at a time, each by one HTTPS request with a ticket of its own.
//!
//! The thread that copies acquires and reports the tickets; the workers request one from it at the start of each download,
//! so that no ticket expires while it waits. They read from the host that served the last file, or another one that mounts
//! the datastore, and through the system itself where no host works.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver as Queue, SyncSender, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use stackferry_volume::HoleMapSource;
use stackferry_volume::block::{BlockIndex, BlockMap, BlockState};
use stackferry_vsphere::{Datastore, Host, ServiceTicket, TicketMethod, Via, folder_path};

use super::location::authority;
use super::workers::{DownloadWorker, RemainingBlocks};
use super::{EsxiCredential, EsxiInner};
use crate::context::{CopyContext, FileCopy, FileOutcome};
use crate::error::TransferError;
use crate::receive::{Receiver, join};
use crate::wait::unless_cancelled;
use crate::writers::receive_into;

/// The most requests in flight: more than a host's disk and one connection's round trips need.
const MAX_WORKERS: u64 = 4;
/// The memory of one worker, in bytes: a block that is being assembled, and the HTTPS client's buffers.
const WORKER_BYTES: u64 = 8 << 20;
/// Longer than any ticket is valid: it is for one request that follows at once.
const TICKET_LIFE: Duration = Duration::from_secs(300);

/// A server from which a file can be read.
#[derive(Debug, Clone)]
pub(super) struct DownloadServer {
    /// The host; none: the system itself.
    pub(super) host: Option<Host>,
    /// As URLs have it.
    pub(super) authority: String,
    /// For errors.
    pub(super) label: String,
}

/// The servers from which a file can be read, in order, and which of them failed.
pub(super) struct DownloadServers {
    all: Vec<DownloadServer>,
    state: Mutex<FailedHosts>,
}

#[derive(Default)]
struct FailedHosts {
    /// The first that did not fail.
    at: usize,
    strikes: u32,
    /// Why the first failed: that is usually more useful than why the last did.
    first: Option<TransferError>,
}

/// How often a connection to a host may break without progress before the host counts as failed.
const MAX_STRIKES: u32 = 2;

impl DownloadServers {
    fn new(inner: &EsxiInner, hosts: Vec<Host>) -> Self {
        let mut all: Vec<DownloadServer> = Vec::new();
        for host in hosts {
            let address = host.addresses.first().unwrap_or(&host.name);
            let (authority, label) = (authority(address), format!("host {}", host.name));
            all.push(DownloadServer { host: Some(host), authority, label });
        }
        let good = inner.last_good();
        all.sort_by_key(|server| good.is_none() || server.host.as_ref().map(|host| &host.id) != good.as_ref());
        let system = &inner.datastore.vsphere;
        all.push(DownloadServer {
            host: None,
            authority: system.https().authority(),
            label: system.system().to_owned(),
        });
        Self { all, state: Mutex::default() }
    }

    /// The server to use now, and its number for [`DownloadServers::failed`].
    ///
    /// # Errors
    /// All failed: why the first did.
    pub(super) fn current(&self) -> Result<(usize, &DownloadServer), TransferError> {
        let mut tried = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match self.all.get(tried.at) {
            Some(server) => Ok((tried.at, server)),
            None => Err(tried.first.take().unwrap_or(TransferError::Cancelled)),
        }
    }

    /// Reports a failed server: permanently, or counted against [`MAX_STRIKES`].
    pub(super) fn failed(&self, number: usize, for_good: bool, error: TransferError) {
        let mut tried = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        // Another worker was faster.
        if tried.at != number {
            return;
        }
        tried.strikes += 1;
        if for_good || tried.strikes >= MAX_STRIKES {
            let label = self.all.get(number).map(|server| server.label.as_str()).unwrap_or_default();
            tracing::info!(host = label, error = crate::describe(&error), "this file is read from the next host");
            tried.at += 1;
            tried.strikes = 0;
            tried.first.get_or_insert(error);
        }
    }
}

/// A worker's message to the thread that copies.
pub(super) enum TicketRequest {
    /// A ticket for a `GET` of this address.
    Ticket { label: String, url: String, reply: SyncSender<Result<(ServiceTicket, String), TransferError>> },
    /// The ticket of this public name was used.
    Used(String),
}

pub(super) fn copy(
    inner: &EsxiInner,
    file: FileCopy<'_>,
    context: &CopyContext,
    issued: &mut dyn FnMut(&EsxiCredential),
) -> Result<FileOutcome, TransferError> {
    let receiver = Receiver::new(&file, context)?;
    let locating = unless_cancelled(&context.cancel, inner.location.hosts());
    let (datastore, hosts) = inner.runtime.block_on(locating)?;
    let hosts = DownloadServers::new(inner, hosts);
    let workers = workers(context);
    let remaining = Mutex::new(RemainingBlocks::new(&file.done, workers));
    let used = AtomicU64::new(0);
    receive_into(&receiver, &file, context, |feed| {
        let (tickets, requests) = sync_channel(1);
        std::thread::scope(|scope| {
            let workers: Vec<_> = (0..workers)
                .map(|_| {
                    let (tickets, receiver) = (tickets.clone(), &receiver);
                    let (remaining, hosts, datastore, file) = (&remaining, &hosts, &datastore, &file);
                    let throttle = context.throttle.as_deref();
                    let worker =
                        DownloadWorker { inner, file, receiver, feed, throttle, remaining, hosts, datastore, tickets };
                    scope.spawn(move || receiver.run(|| worker.work()))
                })
                .collect();
            drop(tickets);
            serve(inner, context, requests, &used, issued);
            join(workers);
        });
        Ok(())
    });
    let outcome = receiver.finish(HoleMapSource::None, used.load(Ordering::Relaxed))?;
    if let Ok((_, server)) = hosts.current() {
        inner.remember_good(server.host.as_ref().map(|host| &host.id));
    }
    // Each part's response had the right file length; only the time reveals a write meanwhile.
    inner.runtime.block_on(unless_cancelled(&context.cancel, inner.check_unchanged(&file)))?;
    Ok(outcome)
}

/// The number of workers that fit into the memory.
fn workers(context: &CopyContext) -> u64 {
    let memory = context.throttle.as_ref().map_or(context.memory, |throttle| throttle.bound(context.memory));
    (memory / WORKER_BYTES).clamp(1, MAX_WORKERS)
}

/// Acquires tickets for the workers until all have ended.
fn serve(
    inner: &EsxiInner,
    context: &CopyContext,
    requests: Queue<TicketRequest>,
    used: &AtomicU64,
    issued: &mut dyn FnMut(&EsxiCredential),
) {
    for ask in requests {
        match ask {
            TicketRequest::Used(name) => {
                used.fetch_add(1, Ordering::Relaxed);
                context.logged_in(&name);
            }
            TicketRequest::Ticket { label, url, reply } => {
                let asking = async { Ok(inner.datastore.vsphere.ticket(TicketMethod::Get, &url).await?) };
                let ticket = inner.runtime.block_on(unless_cancelled(&context.cancel, asking)).map(|ticket| {
                    let now = Timestamp::now();
                    let expires = now.checked_add(TICKET_LIFE).unwrap_or(now);
                    let name = inner.public_name();
                    issued(&EsxiCredential { name: name.clone(), host: label, expires, standing: false });
                    (ticket, name)
                });
                // A worker that does not wait any more has ended.
                let _ = reply.send(ticket);
            }
        }
    }
}

/// A file's URL at a server, and its path and query.
pub(super) fn address(server: &DownloadServer, datastore: &Datastore, file: &str) -> (String, String) {
    let via = if server.host.is_some() { Via::Host } else { Via::Server };
    let path = folder_path(datastore, file, via);
    (format!("https://{}{path}", server.authority), path)
}

/// The next run of blocks that are not known yet, at most so many.
pub(super) fn next_run(done: &BlockMap, from: u64, most: u64) -> Option<std::ops::Range<u64>> {
    let unknown = |block: &u64| done.get(BlockIndex(*block)) == BlockState::Unknown;
    let start = (from..done.blocks()).find(unknown)?;
    let end = (start..done.blocks().min(start.saturating_add(most))).take_while(unknown).last()?;
    Some(start..end + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_leave_out_done_blocks() {
        let mut done = BlockMap::new((9 << 20) + 5);
        done.set(BlockIndex(0), BlockState::Zero);
        done.set(BlockIndex(4), BlockState::Zero);
        let mut runs = Vec::new();
        let mut from = 0;
        while let Some(run) = next_run(&done, from, 3) {
            from = run.end;
            runs.push(run);
        }
        assert_eq!(runs, [1..4, 5..8, 8..10]);
        assert_eq!(next_run(&BlockMap::new(0), 0, 3), None);
    }
}
