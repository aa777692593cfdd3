//! Failures before and during a transfer: greetings, logins, channels, broken connections.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use bytes::Bytes;
use stackferry_https::Retry;
use stackferry_transfer::TransferError;

use super::{copy, copy_by, fails, is_protocol, is_silent, no_map, sftp};
use crate::support::Deadline;
use crate::support::double::{Act, Entry, Script};
use crate::support::files::MIB;
use crate::support::host::context;
use crate::support::proxy::{Fault, proxy};
use crate::support::wire;

#[test]
fn a_host_that_accepts_any_certificate_is_copied_from() {
    let _deadline = Deadline::seconds(60);
    // The double takes every certificate, whoever signed it: what it sends is checked as ever.
    let copied = copy(Script { banner: Some("\x1b[2Jwelcome\n".repeat(500)), ..Script::default() });
    assert!(copied.result.is_ok());
    for command in copied.double.logins() {
        assert!(command.starts_with("internal-sftp -R") || command.starts_with("python3 -I -S"), "{command}");
    }
}

#[test]
fn hanging_logins_and_channels_are_noticed() {
    let _deadline = Deadline::seconds(180);
    for (entry, doing) in [
        (Entry::Hangs, "logging in"),
        (Entry::NoChannel, "starting a subsystem"),
        (Entry::NoStart, "starting a subsystem"),
    ] {
        is_silent(&fails(Script { entry, ..Script::default() }), doing);
    }
    let early = fails(Script { entry: Entry::Early, ..Script::default() });
    is_protocol(&early, "before it accepts the request");
    let cut = fails(Script { entry: Entry::Cut, ..Script::default() });
    assert!(matches!(cut, TransferError::Unreachable { .. }), "no refusal, which would be permanent: {cut:?}");
    let words = fails(Script { entry: Entry::Farewell("\x1b[2Jmaintenance\u{202e}"), ..Script::default() });
    assert!(matches!(words, TransferError::Unreachable { .. }), "{words:?}");
}

/// Something that listens, and is no SSH server.
fn imposter(says: impl Fn(&mut std::net::TcpStream) + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            says(&mut stream.unwrap());
        }
    });
    address
}

#[test]
fn servers_that_are_not_ssh_are_reported() {
    let _deadline = Deadline::seconds(180);
    let by = |says: fn(&mut std::net::TcpStream)| copy_by(no_map(), &context(), |_| imposter(says)).result.unwrap_err();
    is_protocol(&by(|stream| while stream.write_all(b"a line before the greeting\r\n").is_ok() {}), "version");
    is_protocol(&by(|stream| while stream.write_all(&[b'x'; 10_000]).is_ok() {}), "version");
    is_protocol(
        &by(|stream| drop(stream.write_all(b"HTTP/1.1 400 Bad Request\r\n".repeat(100).as_slice()))),
        "version",
    );
    let flood = by(|stream| {
        let _ = stream.write_all(b"SSH-2.0-x\r\n");
        while stream.write_all(&[0xff; 10_000]).is_ok() {}
    });
    assert!(matches!(flood, TransferError::Unreachable { .. } | TransferError::Protocol { .. }), "{flood:?}");
    let gone = by(|_| {});
    assert!(matches!(gone, TransferError::Unreachable { .. }), "{gone:?}");
    let mute = by(|stream| while matches!(stream.read(&mut [0; 100]), Ok(1..)) {});
    is_silent(&mute, "agreeing on keys");
}

/// Copies through a proxy; connection 0 stats, 1 requests the map in vain, 2 reads.
fn through(fault: Fault, connection: usize) -> Result<(), TransferError> {
    copy_by(no_map(), &context(), |address| proxy(address, fault, connection)).result.map(|_| ())
}

#[test]
fn connections_that_break_anywhere_are_transient_errors() {
    let _deadline = Deadline::seconds(180);
    for connection in [0, 1, 2] {
        for at in [0, 5, 100, 1000, 1500, 1700] {
            let error = through(Fault::Cut(at), connection).unwrap_err();
            assert!(matches!(error, TransferError::Unreachable { .. }), "{connection} {at}: {error:?}");
            assert_eq!(error.retry(), Retry::Transient);
        }
    }
    let error = through(Fault::Cut(6 * MIB), 2).unwrap_err();
    assert!(matches!(error, TransferError::Unreachable { .. }), "{error:?}");
}

#[test]
fn flipped_bits_are_detected_anywhere() {
    let _deadline = Deadline::seconds(240);
    let places = (0..1600).step_by(200).chain([5, 30]).flat_map(|at| [(0, at), (2, at)]);
    for (connection, at) in places.chain([(2, 3 * MIB)]) {
        let error = through(Fault::Flip(at), connection).unwrap_err();
        let is_detected = matches!(
            error,
            TransferError::Unreachable { .. }
                | TransferError::Protocol { .. }
                | TransferError::Stalled { .. }
                | TransferError::Unfit { .. }
                | TransferError::HostKeyUnknown { .. }
                | TransferError::HostKeyChanged { .. }
        );
        assert!(is_detected, "{connection} {at}: {error:?}");
        if at > MIB {
            assert_eq!(error.retry(), Retry::Transient, "{error:?}");
        }
    }
}

#[test]
fn stalled_and_slow_connections_are_noticed() {
    let _deadline = Deadline::seconds(240);
    is_silent(&through(Fault::Stall(0), 0).unwrap_err(), "agreeing on keys");
    is_silent(&through(Fault::Stall(3 * MIB), 2).unwrap_err(), "reading by SFTP");
    through(Fault::Slow(3 * MIB), 2).unwrap();
    // So slow that a block takes longer than a host has for one.
    is_silent(&through(Fault::Slow(MIB / 10), 2).unwrap_err(), "reading by SFTP");
}

#[test]
fn a_disconnect_in_the_middle_is_not_the_end_of_the_file() {
    let _deadline = Deadline::seconds(60);
    let error = fails(sftp(|asked, _| {
        (asked.kind == wire::READ && asked.before == 40).then(|| vec![Act::Send(Bytes::new()), Act::Cut])
    }));
    assert!(matches!(error, TransferError::Unreachable { .. }), "{error:?}");
    assert_eq!(error.retry(), Retry::Transient);
    let words = stackferry_transfer::describe(&error);
    assert!(words.contains("the host ended the connection: [2Jgo"), "{words}");
}

#[test]
fn a_slow_answer_that_completes_in_time_is_accepted() {
    let _deadline = Deadline::seconds(60);
    let slow = sftp(|asked, file| {
        (asked.kind == wire::FSTAT)
            .then(|| vec![Act::Drip(wire::attributes_reply(asked.id, file.attributes()), Duration::from_millis(5))])
    });
    assert!(copy(slow).result.is_ok());
}
