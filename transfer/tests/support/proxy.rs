//! A TCP proxy that cuts the line or flips a bit.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};

#[derive(Debug, Clone, Copy)]
pub(crate) enum Fault {
    /// The connection ends after so many bytes from the server.
    Cut(u64),
    /// One bit of the byte at this place from the server is another one.
    Flip(u64),
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
    let mut buffer = vec![0u8; 64 << 10];
    let mut passed = 0u64;
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
