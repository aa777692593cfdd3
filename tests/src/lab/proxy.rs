//! A TCP proxy between a service and its endpoint that can be a bad network: slow, far away, cut, stalled, or one that
//! changes bits.
//!
//! Faults touch what comes from the endpoint, all connections together, counted from when they were set.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::error::{IoContext, LabError};

/// How much is passed on at a time, in bytes. Small, so that a throttle gives an even stream.
const CHUNK: usize = 16 << 10;

/// What is wrong with the network.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Faults {
    /// The bytes per second that it passes on.
    pub rate: Option<u64>,
    /// How much later everything arrives.
    pub delay: Option<Duration>,
    /// After so many bytes, once: the connection is cut.
    pub cut_after: Option<u64>,
    /// After so many bytes: nothing is passed on any more, until other faults are set.
    pub stall_after: Option<u64>,
    /// After so many bytes, once: a bit is changed.
    pub flip_after: Option<u64>,
}

/// A proxy on a port that the system chose.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<SharedProxy>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct SharedProxy {
    state: Mutex<ProxyState>,
    changed: Condvar,
}

#[derive(Debug)]
struct ProxyState {
    target: SocketAddr,
    faults: Faults,
    /// Bytes from the endpoint since the faults were set.
    passed: u64,
    /// Bytes from the endpoint in all.
    total: u64,
    /// When the throttle lets the next bytes through.
    free_at: Instant,
    connections: BTreeMap<u64, [TcpStream; 2]>,
    /// How many connections there were.
    accepted: u64,
    closed: bool,
}

impl SharedProxy {
    fn lock(&self) -> MutexGuard<'_, ProxyState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Proxy {
    /// A proxy that passes everything on.
    ///
    /// # Errors
    /// It can't listen.
    pub fn new(target: SocketAddr) -> Result<Self, LabError> {
        let subject = Path::new("127.0.0.1");
        let listener = TcpListener::bind(("127.0.0.1", 0)).at("listen on", subject)?;
        let address = listener.local_addr().at("inspect", subject)?;
        let state = ProxyState {
            target,
            faults: Faults::default(),
            passed: 0,
            total: 0,
            free_at: Instant::now(),
            connections: BTreeMap::new(),
            accepted: 0,
            closed: false,
        };
        let shared = Arc::new(SharedProxy { state: Mutex::new(state), changed: Condvar::new() });
        let accepting = Arc::clone(&shared);
        let thread = std::thread::spawn(move || accept(&listener, &accepting));
        Ok(Self { address, shared, thread: Some(thread) })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Sets what is wrong from now on.
    pub fn set(&self, faults: Faults) {
        let mut state = self.shared.lock();
        state.faults = faults;
        state.passed = 0;
        state.free_at = Instant::now();
        self.shared.changed.notify_all();
    }

    /// Passes new connections on to another address.
    pub fn redirect(&self, target: SocketAddr) {
        self.shared.lock().target = target;
    }

    /// The bytes that came from the endpoint so far, in all.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.shared.lock().total
    }

    /// The bytes that came from the endpoint since the faults were set.
    #[must_use]
    pub fn passed(&self) -> u64 {
        self.shared.lock().passed
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let connections = {
            let mut state = self.shared.lock();
            state.closed = true;
            std::mem::take(&mut state.connections)
        };
        self.shared.changed.notify_all();
        for connection in connections.into_values().flatten() {
            let _ = connection.shutdown(Shutdown::Both);
        }
        // Wakes the thread that accepts.
        let _ = TcpStream::connect(self.address);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn accept(listener: &TcpListener, shared: &Arc<SharedProxy>) {
    for client in listener.incoming() {
        let target = {
            let state = shared.lock();
            if state.closed {
                return;
            }
            state.target
        };
        let (Ok(client), Ok(server)) = (client, TcpStream::connect(target)) else { continue };
        let _ = client.set_nodelay(true).and_then(|()| server.set_nodelay(true));
        let (Ok(to_client), Ok(to_server)) = (client.try_clone(), server.try_clone()) else { continue };
        let (Ok(one), Ok(other)) = (client.try_clone(), server.try_clone()) else { continue };
        let number = {
            let mut state = shared.lock();
            state.accepted += 1;
            let number = state.accepted;
            state.connections.insert(number, [one, other]);
            number
        };
        std::thread::spawn(move || pass(client, to_server, |_| true));
        let shared = Arc::clone(shared);
        std::thread::spawn(move || {
            pass(server, to_client, |bytes| treat(&shared, bytes));
            shared.lock().connections.remove(&number);
        });
    }
}

/// Passes on what comes in, until `treat` says that the connection is cut.
fn pass(mut from: TcpStream, mut to: TcpStream, mut treat: impl FnMut(&mut [u8]) -> bool) {
    let mut buffer = vec![0; CHUNK];
    while let Ok(bytes @ 1..) = from.read(&mut buffer) {
        let Some(part) = buffer.get_mut(..bytes) else { break };
        if !treat(part) {
            let _ = from.shutdown(Shutdown::Both);
            break;
        }
        if to.write_all(part).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Both);
}

/// Does to some bytes what the network does to them. False if the connection is cut before them.
fn treat(shared: &SharedProxy, bytes: &mut [u8]) -> bool {
    let count = bytes.len() as u64;
    let mut state = shared.lock();
    let end = state.passed + count;
    if state.faults.cut_after.is_some_and(|after| end > after) {
        state.faults.cut_after = None;
        return false;
    }
    if let Some(at) = state.faults.flip_after.filter(|after| end > *after) {
        state.faults.flip_after = None;
        let index = usize::try_from(at.saturating_sub(state.passed)).unwrap_or(0);
        if let Some(byte) = bytes.get_mut(index) {
            *byte ^= 0x10;
        }
    }
    while !state.closed && state.faults.stall_after.is_some_and(|after| state.passed + count > after) {
        state = shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
    }
    state.passed += count;
    state.total += count;
    let now = Instant::now();
    let mut until = now + state.faults.delay.unwrap_or_default();
    if let Some(rate) = state.faults.rate {
        state.free_at =
            state.free_at.max(now) + Duration::from_nanos(count.saturating_mul(1_000_000_000) / rate.max(1));
        until = until.max(state.free_at);
    }
    while !state.closed && Instant::now() < until {
        let left = until.saturating_duration_since(Instant::now());
        state = shared.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
    }
    !state.closed
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server that sends so many bytes to whoever comes.
    fn server(bytes: usize) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let _ = client.unwrap().write_all(&vec![7; bytes]);
            }
        });
        address
    }

    fn fetch(proxy: &Proxy) -> Vec<u8> {
        let mut all = Vec::new();
        // A cut connection may end with an error; what arrived before counts.
        let _ = TcpStream::connect(proxy.address()).unwrap().read_to_end(&mut all);
        all
    }

    #[test]
    fn a_proxy_fault_fires_once_at_its_offset() {
        let proxy = Proxy::new(server(1 << 20)).unwrap();
        assert_eq!(fetch(&proxy), vec![7; 1 << 20]);
        proxy.set(Faults { flip_after: Some(500_000), ..Faults::default() });
        let changed = fetch(&proxy);
        let wrong: Vec<_> = changed.iter().enumerate().filter(|(_, byte)| **byte != 7).collect();
        assert_eq!(wrong, [(500_000, &(7 ^ 0x10))]);
        assert_eq!(fetch(&proxy), vec![7; 1 << 20]);
        proxy.set(Faults { cut_after: Some(500_000), ..Faults::default() });
        let cut = fetch(&proxy).len();
        assert!((500_000 - CHUNK..=500_000).contains(&cut), "{cut}");
        assert_eq!(fetch(&proxy), vec![7; 1 << 20]);
        assert!(proxy.total() >= 4 << 20);
    }

    #[test]
    fn the_proxy_limits_its_rate_and_stalls_until_resumed() {
        let proxy = Proxy::new(server(200_000)).unwrap();
        proxy.set(Faults { rate: Some(1_000_000), delay: Some(Duration::from_millis(1)), ..Faults::default() });
        let began = Instant::now();
        assert_eq!(fetch(&proxy).len(), 200_000);
        assert!(began.elapsed() >= Duration::from_millis(190), "{:?}", began.elapsed());
        proxy.set(Faults { stall_after: Some(100_000), ..Faults::default() });
        std::thread::scope(|scope| {
            let fetching = scope.spawn(|| fetch(&proxy).len());
            crate::tools::wait_until("a stall", Duration::from_secs(20), || Ok(proxy.passed() > 80_000)).unwrap();
            assert!(!fetching.is_finished());
            proxy.set(Faults::default());
            assert_eq!(fetching.join().unwrap(), 200_000);
        });
    }
}
