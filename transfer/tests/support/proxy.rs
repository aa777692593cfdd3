//! A TCP proxy that cuts the line, flips a bit, stalls or is slow.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

#[derive(Debug, Clone, Copy)]
pub(crate) enum Fault {
    /// The connection ends after so many bytes from the server.
    Cut(u64),
    /// One bit of the byte at this place from the server is another one.
    Flip(u64),
    /// After so many bytes from the server nothing passes any more, in this direction; the connection stays.
    #[allow(dead_code, reason = "not every test program has it")]
    Stall(u64),
    /// No more than so many bytes from the server pass in a second.
    #[allow(dead_code, reason = "not every test program has it")]
    Slow(u64),
}

/// Listens in front of `server`. The fault happens on the connection of this number, from 0; the others are left alone.
pub(crate) fn proxy(server: SocketAddr, fault: Fault, connection: usize) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    // The threads end with the connections, and the listener with the test program.
    std::thread::spawn(move || {
        for (number, client) in listener.incoming().enumerate() {
            let (Ok(client), Ok(server)) = (client, TcpStream::connect(server)) else { return };
            let fault = (number == connection).then_some(fault);
            let (from, to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
            std::thread::spawn(move || forward(from, to, None));
            std::thread::spawn(move || forward(server, client, fault));
        }
    });
    address
}

fn forward(mut from: TcpStream, mut to: TcpStream, fault: Option<Fault>) {
    let size = if let Some(Fault::Slow(rate)) = fault { usize::try_from(rate / 20 + 1).unwrap() } else { 64 << 10 };
    let mut buffer = vec![0u8; size.min(64 << 10)];
    let (began, mut passed) = (Instant::now(), 0u64);
    while let Ok(got @ 1..) = from.read(&mut buffer) {
        let mut piece = &mut buffer[..got];
        let end = passed + got as u64;
        match fault {
            Some(Fault::Flip(at)) if (passed..end).contains(&at) => {
                piece[usize::try_from(at - passed).unwrap()] ^= 4;
            }
            Some(Fault::Cut(at)) if end > at => {
                piece = &mut piece[..usize::try_from(at.saturating_sub(passed)).unwrap()];
            }
            Some(Fault::Stall(at)) if end > at => {
                // What comes is taken and thrown away, until one side goes.
                while let Ok(1..) = from.read(&mut buffer) {}
                break;
            }
            Some(Fault::Slow(rate)) => {
                let due = Duration::from_secs_f64(end as f64 / rate as f64);
                let (_keep, nothing) = channel::<()>();
                let _ = nothing.recv_timeout(due.saturating_sub(began.elapsed()));
            }
            _ => {}
        }
        let cut = piece.len() < got;
        if to.write_all(piece).is_err() || cut {
            break;
        }
        passed = end;
    }
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}
