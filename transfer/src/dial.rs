//! TCP connections by name. A name may have several addresses, and one of them may be dead: a stale record, an interface
//! that is down, IPv6 without a route. So they are tried in parallel (RFC 8305): each attempt starts a moment after the
//! last, or at once when one fails; the first that answers is used, and all share one deadline.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// How long one address may take before the next one is tried, too.
const HEAD_START: Duration = Duration::from_millis(250);
/// The most addresses of a name that are tried: as many as start within ten seconds.
const MAX_ADDRESSES: usize = 40;

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// The name has no address, or every address failed. The text names each of several.
    #[error(transparent)]
    Failed(#[from] io::Error),
    /// None answered in time.
    #[error("no answer in time from {}", list(.0))]
    NoAnswer(Vec<SocketAddr>),
}

fn list(addresses: &[SocketAddr]) -> String {
    let names: Vec<String> = addresses.iter().map(|address| address.ip().to_string()).collect();
    if names.is_empty() { "the name service".to_owned() } else { names.join(", ") }
}

/// Connects to a host by its name or address, which may be IPv6 with a zone (`fe80::1%eth0`).
///
/// # Errors
/// [`DialError`].
pub async fn dial(host: &str, port: u16, limit: Duration) -> Result<TcpStream, DialError> {
    let deadline = Instant::now() + limit;
    let found = tokio::time::timeout_at(deadline, tokio::net::lookup_host((host, port))).await;
    let addresses = in_turns(found.map_err(|_| DialError::NoAnswer(Vec::new()))??);
    first_of(&addresses, deadline).await
}

/// IPv6 and IPv4 alternately, starting with the family that the system puts first; each address once.
fn in_turns(found: impl Iterator<Item = SocketAddr>) -> Vec<SocketAddr> {
    let mut all: Vec<SocketAddr> = Vec::new();
    for address in found {
        if !all.contains(&address) {
            all.push(address);
        }
    }
    let is_v6 = all.first().is_some_and(SocketAddr::is_ipv6);
    let (first, second): (Vec<SocketAddr>, Vec<SocketAddr>) = all.iter().partition(|one| one.is_ipv6() == is_v6);
    let mut turns = Vec::with_capacity(all.len());
    let (mut first, mut second) = (first.into_iter(), second.into_iter());
    loop {
        let pair = (first.next(), second.next());
        turns.extend(pair.0);
        turns.extend(pair.1);
        if pair == (None, None) {
            turns.truncate(MAX_ADDRESSES);
            return turns;
        }
    }
}

async fn first_of(addresses: &[SocketAddr], deadline: Instant) -> Result<TcpStream, DialError> {
    let mut waiting = addresses.iter().copied();
    let mut trying = JoinSet::new();
    let mut failed: Vec<(SocketAddr, io::Error)> = Vec::new();
    loop {
        // Attempts that are still running when this returns are aborted with the set.
        let more = match waiting.next() {
            Some(address) => {
                trying.spawn(async move { (address, TcpStream::connect(address).await) });
                true
            }
            None => false,
        };
        let until = if more { deadline.min(Instant::now() + HEAD_START) } else { deadline };
        match tokio::time::timeout_at(until, trying.join_next()).await {
            Ok(Some(Ok((_, Ok(stream))))) => return Ok(stream),
            Ok(Some(Ok((address, Err(error))))) => failed.push((address, error)),
            Ok(Some(Err(_))) => {}
            Ok(None) => return Err(explain(failed)),
            Err(_) if Instant::now() < deadline => {}
            Err(_) => {
                let is_failed = |address: &SocketAddr| failed.iter().any(|(other, _)| other == address);
                return Err(DialError::NoAnswer(addresses.iter().copied().filter(|one| !is_failed(one)).collect()));
            }
        }
    }
}

/// One address fails with its own error, several with a list of errors.
fn explain(mut failed: Vec<(SocketAddr, io::Error)>) -> DialError {
    let kind = failed.first().map_or(io::ErrorKind::NotFound, |(_, error)| error.kind());
    if failed.len() == 1
        && let Some((_, error)) = failed.pop()
    {
        return error.into();
    }
    let each: Vec<String> = failed.iter().map(|(address, error)| format!("{}: {error}", address.ip())).collect();
    let text = if each.is_empty() { "the name has no address".to_owned() } else { each.join("; ") };
    io::Error::new(kind, text).into()
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    fn addresses(list: &[&str]) -> Vec<SocketAddr> {
        list.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn families_take_turns_and_no_address_comes_twice() {
        let found = addresses(&["[::1]:1", "[::2]:1", "[::1]:1", "10.0.0.1:1", "10.0.0.2:1", "10.0.0.3:1"]);
        let expected = addresses(&["[::1]:1", "10.0.0.1:1", "[::2]:1", "10.0.0.2:1", "10.0.0.3:1"]);
        assert_eq!(in_turns(found.into_iter()), expected);
        assert_eq!(in_turns(addresses(&["10.0.0.1:1"]).into_iter()).len(), 1);
        let many = (0..100).map(|port| SocketAddr::from(([10, 0, 0, 1], port)));
        assert_eq!(in_turns(many).len(), MAX_ADDRESSES);
    }

    /// A listener whose queue is full, so that it does not answer.
    struct Dead {
        _listener: rustix::fd::OwnedFd,
        _queue: Vec<rustix::fd::OwnedFd>,
        address: SocketAddr,
    }

    impl Dead {
        fn new(ip: [u8; 4]) -> Self {
            use rustix::net::{
                AddressFamily, SocketFlags, SocketType, bind, connect, getsockname, listen, socket_with,
            };
            let socket = || socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::NONBLOCK, None).unwrap();
            let listener = socket();
            bind(&listener, &SocketAddr::from((ip, 0))).unwrap();
            listen(&listener, 0).unwrap();
            let address = SocketAddr::try_from(getsockname(&listener).unwrap()).unwrap();
            let queue = (0..4).map(|_| {
                let client = socket();
                let _ = connect(&client, &address);
                client
            });
            Self { _queue: queue.collect(), _listener: listener, address }
        }
    }

    #[tokio::test]
    async fn a_dead_address_does_not_delay_the_next_one() {
        let dead = [Dead::new([127, 0, 0, 2]), Dead::new([127, 0, 0, 4])];
        let good = TcpListener::bind("127.0.0.3:0").unwrap();
        let refusing = TcpListener::bind("127.0.0.5:0").unwrap().local_addr().unwrap();
        let list = [dead[0].address, refusing, dead[1].address, good.local_addr().unwrap()];
        let deadline = Instant::now() + Duration::from_secs(60);
        let stream = first_of(&list, deadline).await.unwrap();
        assert_eq!(stream.peer_addr().unwrap(), good.local_addr().unwrap());
        assert!(Instant::now() < deadline - Duration::from_secs(30), "the dead ones were waited for");
    }

    #[tokio::test]
    async fn the_error_lists_each_address() {
        let closed = |ip: &str| TcpListener::bind((ip, 0)).unwrap().local_addr().unwrap();
        let soon = Instant::now() + Duration::from_secs(60);
        let both = [closed("127.0.0.6"), closed("127.0.0.7")];
        let error = first_of(&both, soon).await.unwrap_err().to_string();
        assert!(error.contains("127.0.0.6: ") && error.contains("127.0.0.7: "), "{error}");
        let one = first_of(&both[..1], soon).await.unwrap_err();
        assert!(matches!(&one, DialError::Failed(error) if error.raw_os_error().is_some()), "{one:?}");
        let dead = Dead::new([127, 0, 0, 8]);
        let list = [both[0], dead.address];
        let late = first_of(&list, Instant::now() + Duration::from_millis(600)).await.unwrap_err();
        assert_eq!(late.to_string(), "no answer in time from 127.0.0.8");
        assert!(dial("127.0.0.1", both[0].port(), Duration::from_secs(60)).await.is_err());
    }
}
