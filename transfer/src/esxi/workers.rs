//! A worker requests a ticket for the next part of the file and reads the part into blocks, until none is left.
//!
//! A broken download is requested again from the last whole block on, with a new ticket. When a host does not serve the
//! file, the next one is used.

use std::ops::Range;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use stackferry_https::{HttpsError, StreamingResponse};
use stackferry_volume::block::{BlockIndex, BlockMap};
use stackferry_vsphere::{Datastore, ServiceTicket, VsphereError, privilege};

use super::EsxiInner;
use super::download::{PartRequest, unless_ended};
use super::ticket::{DownloadServer, DownloadServers, TicketRequest, address, next_run};
use crate::context::FileCopy;
use crate::error::{DownloadFault, TransferError};
use crate::receive::Receiver;
use crate::throttle::Throttle;
use crate::writers::{Feed, FullBlock};

/// The longest part of one request, in blocks: a ticket costs a round trip, and a broken block is lost …
const MAX_BLOCKS: u64 = 64;
/// … and the shortest, for small files.
const LEAST_BLOCKS: u64 = 8;
/// How long one block may take, even if a host sends a byte now and then.
const STALL: Duration = Duration::from_secs(120);

/// The pauses before further tickets after a host refused one.
const TICKET_PAUSES: [Duration; 4] =
    [Duration::ZERO, Duration::from_millis(200), Duration::from_millis(600), Duration::from_millis(1800)];

/// The blocks that are still to be read.
pub(super) struct RemainingBlocks<'a> {
    done: &'a BlockMap,
    next: u64,
    most: u64,
}

impl<'a> RemainingBlocks<'a> {
    pub(super) fn new(done: &'a BlockMap, workers: u64) -> Self {
        let most = done.blocks().div_ceil(workers.max(1)).clamp(LEAST_BLOCKS, MAX_BLOCKS);
        Self { done, next: 0, most }
    }

    fn take(&mut self) -> Option<Range<u64>> {
        let run = next_run(self.done, self.next, self.most)?;
        self.next = run.end;
        Some(run)
    }
}

pub(super) struct DownloadWorker<'a, 't> {
    pub(super) inner: &'a EsxiInner,
    pub(super) file: &'a FileCopy<'a>,
    pub(super) receiver: &'a Receiver<'a>,
    pub(super) feed: &'a Feed,
    pub(super) throttle: Option<&'a Throttle>,
    pub(super) remaining: &'a Mutex<RemainingBlocks<'t>>,
    pub(super) hosts: &'a DownloadServers,
    pub(super) datastore: &'a Datastore,
    pub(super) tickets: SyncSender<TicketRequest>,
}

/// What to do after a failed request.
enum Reaction {
    /// The copy fails.
    Fail,
    /// Retry the same host, if it does not happen too often.
    Retry,
    /// Use the next host.
    NextHost,
}

impl DownloadWorker<'_, '_> {
    pub(super) fn work(&self) -> Result<(), TransferError> {
        while let Some(blocks) = self.take() {
            self.read(blocks)?;
        }
        Ok(())
    }

    fn take(&self) -> Option<Range<u64>> {
        self.remaining.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Reads these blocks, by as many requests as it takes.
    fn read(&self, mut blocks: Range<u64>) -> Result<(), TransferError> {
        let mut refused = 0;
        while !blocks.is_empty() {
            if self.receiver.ended() {
                return Err(TransferError::Cancelled);
            }
            let (number, server) = self.hosts.current()?;
            let before = blocks.start;
            let Err(error) = self.request(server, &mut blocks) else { continue };
            let gained = blocks.start > before;
            match judge(&error, server) {
                Reaction::Fail => return Err(self.explain(error)),
                // It made progress, so it gets another ticket.
                Reaction::Retry if gained => {}
                Reaction::Retry => {
                    // A ticket may have expired on the way, or its host does not know it yet. Several refusals in a row
                    // have another cause.
                    let ticket = matches!(error, TransferError::Download { fault: DownloadFault::TicketRefused, .. });
                    match TICKET_PAUSES.get(refused).filter(|_| ticket) {
                        Some(pause) => {
                            refused += 1;
                            self.pause(*pause)?;
                        }
                        None => {
                            refused = 0;
                            self.hosts.failed(number, ticket, error);
                        }
                    }
                }
                Reaction::NextHost => self.hosts.failed(number, true, error),
            }
        }
        Ok(())
    }

    fn pause(&self, pause: Duration) -> Result<(), TransferError> {
        let pausing = async {
            tokio::time::sleep(pause).await;
            Ok(())
        };
        self.inner.runtime.block_on(unless_ended(&|| self.receiver.ended(), pausing))
    }

    /// One request, for all of these blocks. Removes the complete ones from the front of `blocks`.
    fn request(&self, server: &DownloadServer, blocks: &mut Range<u64>) -> Result<(), TransferError> {
        let part = BlockIndex(blocks.start).offset()..BlockIndex(blocks.end).offset().min(self.file.bytes);
        let (url, path) = address(server, self.datastore, self.file.path);
        let (ticket, name) = self.ticket(server, url)?;
        let web = match &server.host {
            Some(_) => self.inner.web(&server.label, &server.authority, &ticket)?,
            None => self.inner.datastore.vsphere.https().clone(),
        };
        let request = PartRequest { host: &server.label, file: self.file.path, part, bytes: self.file.bytes };
        let ended = || self.receiver.ended();
        let cookie = ticket.cookie();
        let starting = request.begin(&web, &path, cookie.expose());
        let mut streaming = self.inner.runtime.block_on(unless_ended(&ended, starting))?;
        // Sending fails only where the copy has ended.
        let _ = self.tickets.send(TicketRequest::Used(name));
        self.inner.runtime.block_on(self.take_body(&request, &mut streaming, blocks))
    }

    fn ticket(&self, server: &DownloadServer, url: String) -> Result<(ServiceTicket, String), TransferError> {
        let (reply, ticket) = sync_channel(1);
        let ask = TicketRequest::Ticket { label: server.label.clone(), url, reply };
        self.tickets.send(ask).map_err(|_| TransferError::Cancelled)?;
        ticket.recv().map_err(|_| TransferError::Cancelled)?
    }

    async fn take_body(
        &self,
        request: &PartRequest<'_>,
        streaming: &mut StreamingResponse,
        blocks: &mut Range<u64>,
    ) -> Result<(), TransferError> {
        let ended = || self.receiver.ended();
        let counters = &self.receiver.counters;
        let mut got = 0;
        let mut filled = 0;
        let mut bytes = Vec::new();
        let mut since = Instant::now();
        loop {
            let chunk_read = async { streaming.chunk().await.map_err(|error| request.web(error)) };
            let Some(mut chunk) = unless_ended(&ended, chunk_read).await? else { break };
            let length = chunk.len() as u64;
            got += length;
            counters.wire.fetch_add(length, Ordering::Relaxed);
            counters.read.fetch_add(length, Ordering::Relaxed);
            if let Some(throttle) = self.throttle {
                // While the throttle holds us, the host can't be blamed for its silence.
                since += throttle.acquire_async(length, &ended).await;
            }
            while !chunk.is_empty() {
                if blocks.is_empty() {
                    return Err(request.fault(DownloadFault::Long));
                }
                let block = BlockIndex(blocks.start);
                let len = block.len_in(self.file.bytes);
                if filled == 0 {
                    bytes = self.feed.buffer(len);
                }
                let piece = chunk.split_to(chunk.len().min(len - filled));
                if let Some(place) = bytes.get_mut(filled..filled + piece.len()) {
                    place.copy_from_slice(&piece);
                }
                filled += piece.len();
                if filled == len {
                    self.feed.send(FullBlock { block, bytes: std::mem::take(&mut bytes) })?;
                    blocks.start += 1;
                    filled = 0;
                    since = Instant::now();
                }
            }
            if since.elapsed() > STALL {
                let system = request.host.to_owned();
                return Err(VsphereError::from(HttpsError::Stalled { system, seconds: STALL.as_secs() }).into());
            }
        }
        if blocks.is_empty() {
            return Ok(());
        }
        Err(request.fault(DownloadFault::Short { got, asked: request.part.end - request.part.start }))
    }

    /// Adds which privileges are missing, where vSphere reports it.
    fn explain(&self, error: TransferError) -> TransferError {
        const NEEDED: [&str; 2] = [privilege::BROWSE, privilege::FILES];
        let TransferError::Download { host, file, fault: DownloadFault::Denied(known) } = error else { return error };
        let asking = self.inner.datastore.vsphere.missing_privileges(&self.datastore.id, &NEEDED);
        let missing = self.inner.wait(async { Ok(asking.await?) }).unwrap_or(known);
        TransferError::Download { host, file, fault: DownloadFault::Denied(missing) }
    }
}

fn judge(error: &TransferError, server: &DownloadServer) -> Reaction {
    match error {
        TransferError::Download { fault, .. } => match fault {
            DownloadFault::TicketRefused | DownloadFault::Short { .. } => Reaction::Retry,
            // Every host checks with the same vSphere.
            DownloadFault::Denied(_) => Reaction::Fail,
            _ => Reaction::NextHost,
        },
        // vSphere itself issues no ticket; it would issue none for another host either.
        TransferError::Vsphere(VsphereError::Https(error)) if error.system() != server.label => Reaction::Fail,
        TransferError::Vsphere(VsphereError::Https(HttpsError::Broken { .. } | HttpsError::Stalled { .. })) => {
            Reaction::Retry
        }
        TransferError::Vsphere(VsphereError::Https(_) | VsphereError::Fault { .. } | VsphereError::Gone { .. }) => {
            Reaction::NextHost
        }
        _ => Reaction::Fail,
    }
}
