//! The way between: lines that break, bits that flip, host keys, clients that do not read.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::time::{Duration, Instant};

use russh::client;
use stackferry_https::Retry;
use stackferry_transfer::Timeouts;
use stackferry_transfer::known_hosts::HostKeys;
use stackferry_transfer::resume::resume;
use stackferry_transfer::ssh::{Connection, SshHost, SshLogin, load_key, new_key};
use stackferry_transfer::wire::block::{Codec, OpenRequest};
use stackferry_transfer::wire::frame::{FrameKind, encode, encode_json};
use stackferry_transfer::{FileCopy, TransferError};
use stackferry_volume::io::Cancel;

use crate::support::double::{Double, File, Script};
use crate::support::files::{MIB, blocks_of, sparse};
use crate::support::place::{DATASTORE, Place, Via, context, peer};
use crate::support::proxy::{Fault, proxy};
use crate::support::{Deadline, raw, wait_until};

const NAME: &str = "apps/a-flat.vmdk";

#[test]
fn a_copy_resumes_after_a_broken_or_corrupted_connection() {
    let _deadline = Deadline::seconds(120);
    let place = Place::new();
    sparse(&place.path(NAME), 100 * MIB, &[0..80 * MIB]);
    let source = std::fs::File::open(place.path(NAME)).unwrap();
    for (number, fault) in
        [Fault::Cut(40 * MIB), Fault::Flip(40 * MIB), Fault::Cut(100_000), Fault::Flip(3 * MIB)].into_iter().enumerate()
    {
        // The first connection asks, the second one copies.
        let through = proxy(place.address, fault, 1);
        let client = place.new_client(peer(through, &place.host_key));
        let sink = place.sink(&format!("out-{number}"), 100 * MIB);
        let error = client.copy(DATASTORE, place.file(NAME, &sink), &context(), &mut |_| {}).unwrap_err();
        // What arrives damaged does not pass the cipher's check, and the connection is not trusted any more.
        assert!(matches!(error, TransferError::Unreachable { .. }), "{fault:?}: {error:?}");
        assert_eq!(error.retry(), Retry::Transient);
        assert!(sink.lies.lock().unwrap().is_empty());
        let recorded = sink.records().len() as u64;
        let resumed = resume(&sink, None, 2, &Cancel::default()).unwrap();
        assert_eq!(resumed.taken, recorded);
        assert!(resumed.rejected.is_empty());
        if matches!(fault, Fault::Cut(at) | Fault::Flip(at) if at > 20 * MIB) {
            assert!(recorded >= 12, "{fault:?}: {recorded} blocks are recorded");
        }
        let copy = FileCopy { done: resumed.done, ..place.file(NAME, &sink) };
        let outcome = client.copy(DATASTORE, copy, &context(), &mut |_| {}).unwrap();
        assert_eq!(outcome.blocks, blocks_of(&source));
        assert_eq!(blocks_of(sink.file()), blocks_of(&source));
        assert_eq!(outcome.counts.read, (80 - recorded) * MIB);
        assert!(outcome.counts.wire < (81 - recorded) * MIB);
    }
}

#[test]
fn a_broken_control_connection_is_reopened() {
    let _deadline = Deadline::seconds(60);
    let place = Place::new();
    // The first connection breaks after its greeting and some answers.
    let through = proxy(place.address, Fault::Cut(5000), 0);
    let client = place.new_client(peer(through, &place.host_key));
    for _ in 0..100 {
        client.hello().unwrap();
    }
}

#[test]
fn missing_and_wrong_servers_are_reported() {
    let _deadline = Deadline::seconds(60);
    let place = Place::new();
    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let error = place.new_client(peer(gone, &place.host_key)).hello().unwrap_err();
    assert!(matches!(error, TransferError::Unreachable { .. }), "{error:?}");
    // One that takes connections and says nothing, and one that speaks something else.
    let mute = TcpListener::bind("127.0.0.1:0").unwrap();
    let began = Instant::now();
    let timeouts = Timeouts { login: Duration::from_secs(2), ..Timeouts::default() };
    let client = place.new_client(peer(mute.local_addr().unwrap(), &place.host_key)).with_timeouts(timeouts);
    let error = client.hello().unwrap_err();
    assert!(matches!(error, TransferError::Stalled { .. }), "{error:?}");
    assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
    let web = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = web.local_addr().unwrap();
    let answering = std::thread::spawn(move || {
        let (mut stream, _) = web.accept().unwrap();
        let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
        let _ = stream.read(&mut [0; 100]);
    });
    let error = place.new_client(peer(address, &place.host_key)).hello().unwrap_err();
    let known = matches!(error, TransferError::Protocol { .. } | TransferError::Unreachable { .. });
    assert!(known, "{error:?}");
    answering.join().unwrap();
}

#[test]
fn unknown_changed_and_unreadable_host_keys_are_three_errors() {
    let _deadline = Deadline::seconds(60);
    let home = tempfile::tempdir().unwrap();
    let file = File { content: vec![1; 100], mtime: jiff::Timestamp::UNIX_EPOCH };
    let double = Double::start(home.path(), file, Script::default());
    let key = load_key(double.key()).unwrap();
    let list = home.path().join("known_hosts");
    let open = |host_keys: HostKeys| {
        let peer = SshHost { host: "127.0.0.1".into(), port: double.address.port(), host_keys };
        double
            .runtime
            .block_on(Connection::open(
                &peer,
                "stackferry",
                &SshLogin::Key(key.clone()),
                4 << 20,
                Duration::from_secs(60),
            ))
            .map(|_| ())
    };
    let host = format!("[127.0.0.1]:{}", double.address.port());
    let other = new_key("").public_key().to_openssh().unwrap();

    std::fs::write(&list, format!("other.example.com {}\n127.0.0.1 {other}\n", double.host_key)).unwrap();
    let error = open(HostKeys::File(list.clone())).unwrap_err();
    let TransferError::HostKeyUnknown { key: line, fingerprint, .. } = &error else { panic!("{error:?}") };
    assert!(fingerprint.starts_with("SHA256:"));
    let line = format!("{line}\n");

    std::fs::write(&list, format!("{host} {other}\n")).unwrap();
    let error = open(HostKeys::File(list.clone())).unwrap_err();
    let TransferError::HostKeyChanged { place, .. } = &error else { panic!("{error:?}") };
    assert_eq!(*place, format!("{}:1", list.display()));
    let error = open(HostKeys::Line(other)).unwrap_err();
    assert!(matches!(error, TransferError::HostKeyChanged { .. }), "{error:?}");

    let missing = HostKeys::File(home.path().join("none"));
    std::fs::write(home.path().join("broken"), b"\xff\xfe").unwrap();
    let broken = HostKeys::File(home.path().join("broken"));
    for unusable in [missing, broken, HostKeys::Line("ssh-ed25519".into()), HostKeys::File(home.path().into())] {
        let error = open(unusable).unwrap_err();
        assert!(matches!(error, TransferError::KnownHosts { .. }), "{error:?}");
    }
    std::fs::write(&list, format!("{line}@revoked {host} {}\n", double.host_key)).unwrap();
    assert!(matches!(open(HostKeys::File(list.clone())), Err(TransferError::HostKeyRevoked { .. })));
    assert_eq!(double.logins(), 0, "no login was tried");

    // The line in the error is the one to add.
    std::fs::write(&list, line).unwrap();
    open(HostKeys::File(list)).unwrap();
    assert_eq!(double.logins(), 1);
}

#[test]
fn the_known_one_of_several_host_keys_is_requested() {
    let _deadline = Deadline::seconds(60);
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("ecdsa");
    let made = std::process::Command::new("/usr/bin/ssh-keygen")
        .args(["-q", "-t", "ecdsa", "-N", "", "-f"])
        .arg(&path)
        .status()
        .expect("these tests need OpenSSH's clients");
    assert!(made.success());
    let file = File { content: vec![1; 100], mtime: jiff::Timestamp::UNIX_EPOCH };
    let more_host_keys = vec![(*load_key(&path).unwrap()).clone()];
    let double = Double::start(home.path(), file, Script { more_host_keys, ..Script::default() });
    let key = load_key(double.key()).unwrap();
    let ecdsa = std::fs::read_to_string(path.with_extension("pub")).unwrap();
    let list = home.path().join("known_hosts");
    let host = format!("[127.0.0.1]:{}", double.address.port());
    std::fs::write(&list, format!("{host} {ecdsa}")).unwrap();
    for host_keys in [HostKeys::File(list), HostKeys::Line(ecdsa), HostKeys::Line(double.host_key.clone())] {
        let peer = SshHost { host: "127.0.0.1".into(), port: double.address.port(), host_keys };
        let login = SshLogin::Key(key.clone());
        double
            .runtime
            .block_on(Connection::open(&peer, "stackferry", &login, 4 << 20, Duration::from_secs(60)))
            .unwrap();
    }
}

#[test]
fn a_host_key_is_generated_once_and_kept() {
    use std::os::unix::fs::PermissionsExt;
    let place = Place::new();
    let path = place.home.path().join("host_key");
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    let key = load_key(&path).unwrap().public_key().to_openssh().unwrap();
    assert!(key.starts_with(&place.host_key), "{key}");
    let beside = std::fs::read_dir(place.home.path()).unwrap();
    let beside = beside.filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().starts_with("host_key"));
    assert_eq!(beside.count(), 1, "nothing is left beside it");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    assert!(matches!(load_key(&path), Err(TransferError::Key { .. })), "others may read it");
}

/// A client whose window is `window` bytes.
fn window(window: u32) -> client::Config {
    client::Config { window_size: window, maximum_packet_size: 32768, ..client::Config::default() }
}

fn read_request(id: u32, handle: &[u8], offset: u64, len: u32) -> Vec<u8> {
    let mut packet = vec![5];
    packet.extend_from_slice(&id.to_be_bytes());
    packet.extend_from_slice(&u32::try_from(handle.len()).unwrap().to_be_bytes());
    packet.extend_from_slice(handle);
    packet.extend_from_slice(&offset.to_be_bytes());
    packet.extend_from_slice(&len.to_be_bytes());
    [u32::try_from(packet.len()).unwrap().to_be_bytes().to_vec(), packet].concat()
}

/// Logs in, starts SFTP and opens the file; its handle is `1`.
async fn sftp(place: &Place, window_size: u32) -> (client::Handle<raw::Anybody>, russh::Channel<client::Msg>) {
    let credential = {
        let issuing = std::thread::scope(|scope| scope.spawn(|| place.credential(NAME)).join());
        issuing.unwrap()
    };
    let mut handle = raw::connect(place.address, window(window_size)).await;
    let secret = credential.password.expose();
    assert!(handle.authenticate_password(&credential.user, secret).await.unwrap().success());
    let mut channel = handle.channel_open_session().await.unwrap();
    channel.request_subsystem(true, "sftp").await.unwrap();
    assert!(raw::is_granted(&mut channel).await);
    channel.data_bytes(&[0, 0, 0, 5, 1, 0, 0, 0, 3][..]).await.unwrap();
    let mut open = vec![3, 0, 0, 0, 9];
    open.extend_from_slice(&u32::try_from(credential.path.len()).unwrap().to_be_bytes());
    open.extend_from_slice(credential.path.as_bytes());
    open.extend_from_slice(&[0, 0, 0, 1, 0, 0, 0, 0]);
    let open = [u32::try_from(open.len()).unwrap().to_be_bytes().to_vec(), open].concat();
    channel.data_bytes(open).await.unwrap();
    (handle, channel)
}

#[test]
fn thousands_of_pipelined_requests_are_all_answered() {
    // Each in a packet of its own: the window adjustments come after them all.
    let _deadline = Deadline::seconds(60);
    let place = Place::new();
    sparse(&place.path(NAME), 32 * MIB, &[0..32 * MIB]);
    place.runtime.block_on(async {
        let (_handle, channel) = sftp(&place, 100_000).await;
        let (mut read, write) = channel.split();
        let asking = async {
            for id in 0..2000u32 {
                write.data_bytes(read_request(id, b"1", u64::from(id) * 4096, 4096)).await.unwrap();
            }
            std::future::pending::<()>().await;
        };
        let hearing = async {
            let mut got = 0;
            while got < 2000 * 4096 {
                match read.wait().await.unwrap() {
                    russh::ChannelMsg::Data { data } => got += data.len(),
                    russh::ChannelMsg::Close => panic!("closed after {got} bytes"),
                    _ => {}
                }
            }
        };
        tokio::select! {
            () = asking => {}
            () = hearing => {}
        }
    });
}

#[test]
fn a_client_that_reads_no_answers_is_disconnected() {
    let _deadline = Deadline::seconds(60);
    let place = Place::new();
    sparse(&place.path(NAME), MIB, &[0..MIB]);
    place.runtime.block_on(async {
        // Its window has room for one byte, and the library never makes more of so little.
        let (_handle, channel) = sftp(&place, 1).await;
        let (mut read, write) = channel.split();
        let request = read_request(1, b"1", 0, 4096);
        let flood = bytes::Bytes::from(request.repeat(900));
        // Well over what is kept for it, and less than what makes SSH agree on new keys.
        let asking = async {
            for _ in 0..(64 << 20) / flood.len() {
                if write.data_bytes(flood.clone()).await.is_err() {
                    break;
                }
            }
            std::future::pending::<()>().await;
        };
        let hearing = async {
            loop {
                match read.wait().await {
                    Some(russh::ChannelMsg::Close) => return,
                    Some(_) => {}
                    None => panic!("the connection broke"),
                }
            }
        };
        let disconnected = async {
            tokio::select! {
                () = asking => {}
                () = hearing => {}
            }
        };
        tokio::time::timeout(Duration::from_secs(20), disconnected).await.expect("it is disconnected");
    });
    place.client().hello().unwrap();
}

#[test]
fn a_client_that_disconnects_without_reading_is_cleaned_up() {
    let _deadline = Deadline::seconds(60);
    let place = Place::new();
    sparse(&place.path(NAME), 64 * MIB, &[0..64 * MIB]);
    let threads = || std::fs::read_dir("/proc/self/task").unwrap().count();
    let credential = place.credential(NAME);
    let open_file = || {
        let open = std::fs::read_dir("/proc/self/fd").unwrap();
        let path = place.path(NAME);
        open.filter(|entry| {
            entry.as_ref().is_ok_and(|entry| std::fs::read_link(entry.path()).is_ok_and(|to| to == path))
        })
        .count()
    };
    place.runtime.block_on(async {
        let mut handle = raw::connect(place.address, window(300_000)).await;
        let secret = credential.password.expose();
        assert!(handle.authenticate_password(&credential.user, secret).await.unwrap().success());
        let mut channel = raw::blocks(&handle).await;
        let open = OpenRequest { protocol: 1, codecs: vec![Codec::None] };
        channel.data_bytes(encode_json(FrameKind::Open, &open).unwrap()).await.unwrap();
        channel.data_bytes(encode(FrameKind::Go, &[])).await.unwrap();
        while !matches!(channel.wait().await, Some(russh::ChannelMsg::Data { .. })) {}
        assert!(open_file() > 0, "it is being read ({} threads)", threads());
        handle.disconnect(russh::Disconnect::ByApplication, "", "").await.unwrap();
    });
    wait_until("the file is closed", || open_file() == 0);
    // One of SFTP's goes away while its answer waits for room in its window.
    place.runtime.block_on(async {
        let (handle, mut channel) = sftp(&place, 100).await;
        channel.data_bytes(read_request(1, b"1", 0, 256 << 10)).await.unwrap();
        let mut got = 0;
        while got < 1000 {
            if let Some(russh::ChannelMsg::Data { data }) = channel.wait().await {
                got += data.len();
            }
        }
        assert!(open_file() > 0, "it is being read");
        // Unread data would delay the disconnect.
        drop(channel);
        handle.disconnect(russh::Disconnect::ByApplication, "", "").await.unwrap();
    });
    wait_until("the file is closed", || open_file() == 0);
    let sink = place.sink("out", 64 * MIB);
    place.copy(Via::Endpoint, place.file(NAME, &sink), &context()).unwrap();
}
