//! One credential, one login, one file: and nothing else.

use std::net::TcpStream;
use std::os::unix::fs::symlink;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use russh::client;
use stackferry_https::Retry;
use stackferry_transfer::TransferError;
use stackferry_transfer::remote::{EndpointClient, EndpointFolder, IssuedCredential};
use stackferry_transfer::ssh::{Connection, SshLogin, load_key};
use stackferry_volume::{Folder, FolderError};

use crate::support::files::{MIB, sparse};
use crate::support::openssh::{OpenSsh, said};
use crate::support::place::{DATASTORE, Place, Via, context, service_key};
use crate::support::{Deadline, raw, wait_until};

const NAME: &str = "apps/a-flat.vmdk";

fn place() -> Place {
    let place = Place::new();
    sparse(&place.path(NAME), 3 * MIB, &[0..MIB]);
    sparse(&place.path("apps/b-flat.vmdk"), 3 * MIB, &[0..MIB]);
    place
}

fn logs_in(place: &Place, credential: &IssuedCredential) -> bool {
    place.runtime.block_on(raw::may_log_in(place.address, &credential.user, credential.password.expose()))
}

#[test]
fn each_file_is_opened_with_a_credential_of_its_own() {
    let _deadline = Deadline::seconds(60);
    let place = place();
    let mut users = Vec::new();
    for name in [NAME, "apps/b-flat.vmdk"] {
        let sink = place.sink(&name.replace('/', "-"), 3 * MIB);
        let mut passwords = Vec::new();
        let outcome = place
            .client()
            .copy(DATASTORE, place.file(name, &sink), &context(), &mut |credential| {
                passwords.push(credential.clone());
                users.push(credential.user.clone());
            })
            .unwrap();
        assert_eq!(outcome.credentials, 1);
        assert_eq!(passwords.len(), 1);
        assert!(!logs_in(&place, &passwords[0]), "it was used");
    }
    assert_eq!(users.len(), 2);
    assert_ne!(users[0], users[1]);
}

#[test]
fn a_credential_logs_in_once_by_any_method() {
    let _deadline = Deadline::seconds(60);
    let place = place();
    let credential = place.credential(NAME);
    assert!(logs_in(&place, &credential));
    assert!(!logs_in(&place, &credential));
    let answer = |credential: &IssuedCredential, answers: Vec<String>| {
        place.runtime.block_on(raw::may_answer(place.address, &credential.user, answers))
    };
    let credential = place.credential(NAME);
    let secret = credential.password.expose().to_owned();
    assert!(!answer(&credential, vec![]));
    assert!(!answer(&credential, vec!["wrong".to_owned()]));
    assert!(!answer(&credential, vec!["wrong".to_owned(), secret.clone()]));
    assert!(answer(&credential, vec![secret.clone()]));
    assert!(!answer(&credential, vec![secret]));
}

#[test]
fn only_one_of_many_simultaneous_logins_succeeds() {
    let _deadline = Deadline::seconds(60);
    let place = place();
    let credential = place.credential(NAME);
    let got_in = place.runtime.block_on(async {
        let mut logins = tokio::task::JoinSet::new();
        for _ in 0..8 {
            let (address, credential) = (place.address, credential.clone());
            logins.spawn(async move {
                // Kept until all have tried: an ended connection must not make the credential forgotten and new.
                let mut handle = raw::connect(address, client::Config::default()).await;
                let secret = credential.password.expose();
                let result = handle.authenticate_password(&credential.user, secret).await;
                (result.is_ok_and(|result| result.success()), handle)
            });
        }
        logins.join_all().await.into_iter().filter(|(got_in, _)| *got_in).count()
    });
    assert_eq!(got_in, 1);
}

#[test]
fn an_expired_credential_does_not_log_in() {
    let _deadline = Deadline::seconds(60);
    let place = place();
    let credentials: Vec<_> =
        (0..20).map(|_| place.client().issue(DATASTORE, NAME, Duration::from_secs(1)).unwrap()).collect();
    let issued = Instant::now();
    assert_eq!(credentials[0].life, Duration::from_secs(1));
    let mut credentials = credentials.iter();
    // Each try takes a fresh one, so that none is refused for being used.
    wait_until("a credential expires", || {
        issued.elapsed() >= Duration::from_millis(1000) && !logs_in(&place, credentials.next().unwrap())
    });
    assert!(credentials.len() >= 19, "the first one after its life is refused");
}

#[test]
fn validities_out_of_range_are_refused() {
    let _deadline = Deadline::seconds(60);
    let place = place();
    for life in [Duration::ZERO, Duration::from_millis(999), Duration::from_secs(3601)] {
        let error = place.client().issue(DATASTORE, NAME, life).unwrap_err();
        assert!(matches!(&error, TransferError::Refused { code, .. } if code == "bad_request"), "{error:?}");
    }
}

#[test]
fn revoking_a_credential_ends_its_connection() {
    let _deadline = Deadline::seconds(60);
    let place = place();
    let unused = place.credential(NAME);
    place.client().revoke(&unused.user).unwrap();
    assert!(!logs_in(&place, &unused));
    let error = place.client().revoke(&unused.user).unwrap_err();
    assert!(matches!(&error, TransferError::Refused { code, .. } if code == "not_found"), "{error:?}");
    let used = place.credential(NAME);
    let handle = place.runtime.block_on(raw::log_in(place.address, &used));
    assert!(!handle.is_closed());
    place.client().revoke(&used.user).unwrap();
    wait_until("the connection ends", || handle.is_closed());
}

#[test]
fn revoking_during_a_copy_ends_it() {
    let _deadline = Deadline::seconds(60);
    let place = Arc::new(Place::new());
    sparse(&place.path(NAME), 200 * MIB, &[0..200 * MIB]);
    let mut sink = place.sink("a", 200 * MIB);
    let user = Arc::new(std::sync::Mutex::new(String::new()));
    let (seen, revoker) = (Arc::clone(&user), Arc::clone(&place));
    sink.before_write = Some(Box::new(move |before| {
        if before == 10 * MIB {
            revoker.client().revoke(&seen.lock().unwrap()).unwrap();
        }
    }));
    let error = place
        .client()
        .copy(DATASTORE, place.file(NAME, &sink), &context(), &mut |credential| {
            *user.lock().unwrap() = credential.user.clone();
        })
        .unwrap_err();
    assert!(matches!(error, TransferError::Unreachable { .. }), "{error:?}");
    sink.before_write = None;
}

#[test]
fn another_service_with_the_same_name_can_not_revoke_it() {
    let _deadline = Deadline::seconds(60);
    let other = tempfile::tempdir().unwrap();
    let other_key = other.path().join("key");
    let other_line = service_key(&other_key, "stackferry@test");
    let place = Place::with_issuers(|line| vec![line.to_owned(), other_line]);
    sparse(&place.path(NAME), MIB, &[]);
    let credential = place.credential(NAME);
    let other = EndpointClient::new(place.peer(), &other_key, place.runtime.handle().clone()).unwrap();
    assert!(other.revoke(&credential.user).is_err());
    assert!(logs_in(&place, &credential));
}

#[test]
fn a_credential_opens_one_channel_for_one_request() {
    let _deadline = Deadline::seconds(60);
    let place = place();
    place.runtime.block_on(async {
        let handle = raw::log_in(place.address, &place_credential(&place).await).await;
        let mut channel = handle.channel_open_session().await.unwrap();
        assert!(handle.channel_open_session().await.is_err(), "a second channel");
        channel.request_shell(true).await.unwrap();
        assert!(!raw::is_granted(&mut channel).await, "a shell");
        channel.request_pty(true, "xterm", 80, 24, 0, 0, &[]).await.unwrap();
        assert!(!raw::is_granted(&mut channel).await, "a terminal");
        channel.set_env(true, "LD_PRELOAD", "x.so").await.unwrap();
        assert!(!raw::is_granted(&mut channel).await, "the environment");
        channel.request_x11(true, false, "MIT-MAGIC-COOKIE-1", "00", 0).await.unwrap();
        assert!(!raw::is_granted(&mut channel).await, "X11");
        channel.agent_forward(true).await.unwrap();
        assert!(!raw::is_granted(&mut channel).await, "an agent");
        for command in [
            "id",
            "sh",
            "scp -t /nfs01/apps/a-flat.vmdk",
            "scp -f /nfs01/apps/b-flat.vmdk",
            "scp -f /etc/passwd",
            "scp -f /nfs01/apps/a-flat.vmdk; id",
        ] {
            channel.exec(true, command).await.unwrap();
            assert!(!raw::is_granted(&mut channel).await, "{command}");
        }
        for subsystem in ["stackferry-control", "netconf", ""] {
            channel.request_subsystem(true, subsystem).await.unwrap();
            assert!(!raw::is_granted(&mut channel).await, "{subsystem}");
        }
        assert!(handle.channel_open_direct_tcpip("127.0.0.1", 22, "127.0.0.1", 1).await.is_err());
        assert!(handle.channel_open_direct_streamlocal("/run/docker.sock").await.is_err());
        // After all these refusals the one thing that it may do still works, once.
        channel.request_subsystem(true, "sftp").await.unwrap();
        assert!(raw::is_granted(&mut channel).await);
        channel.request_subsystem(true, "stackferry-blocks").await.unwrap();
        assert!(!raw::is_granted(&mut channel).await, "a second thing");
        channel.close().await.unwrap();
        assert!(handle.channel_open_session().await.is_err(), "a channel after the first");
    });
}

async fn place_credential(place: &Place) -> IssuedCredential {
    tokio::task::block_in_place(|| std::thread::scope(|scope| scope.spawn(|| place.credential(NAME)).join().unwrap()))
}

#[test]
fn nothing_is_forwarded_for_openssh() {
    let _deadline = Deadline::seconds(120);
    let place = place();
    let ssh = OpenSsh::new(&place);
    let target = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let to = target.local_addr().unwrap().to_string();
    let output = ssh.run("ssh", &["-W", &to, "HOST"], &place.credential(NAME), None);
    assert_eq!(output.status.code(), Some(255), "{}", said(&output));
    assert!(said(&output).contains("open failed"), "{}", said(&output));
    let reverse = format!("0:{to}");
    let arguments = ["-o", "ExitOnForwardFailure=yes", "-N", "-R", &reverse, "HOST"];
    let output = ssh.run("ssh", &arguments, &place.credential(NAME), None);
    assert_eq!(output.status.code(), Some(255), "{}", said(&output));
    assert!(said(&output).contains("forwarding failed"), "{}", said(&output));
    for arguments in [&["HOST"][..], &["-tt", "HOST"], &["HOST", "id"], &["-X", "HOST", "id"], &["-A", "HOST", "id"]] {
        let output = ssh.run("ssh", arguments, &place.credential(NAME), None);
        assert_ne!(output.status.code(), Some(0), "{arguments:?}: {}", said(&output));
        assert!(output.stdout.is_empty(), "{arguments:?}: {}", said(&output));
    }
    target.set_nonblocking(true).unwrap();
    assert!(target.accept().is_err(), "nothing was forwarded");
}

#[test]
fn a_service_login_transfers_no_file() {
    let _deadline = Deadline::seconds(60);
    let place = place();
    let key = load_key(&place.key).unwrap();
    for (subsystem, granted) in [("stackferry-control", true), ("stackferry-blocks", false), ("sftp", false)] {
        let result = place.runtime.block_on(async {
            let connection = Connection::open(
                &place.peer(),
                "stackferry",
                &SshLogin::Key(Arc::clone(&key)),
                4 << 20,
                Duration::from_secs(60),
            )
            .await
            .unwrap();
            connection.subsystem(subsystem).await.map(|_| ())
        });
        assert_eq!(result.is_ok(), granted, "{subsystem}");
    }
}

#[test]
fn unknown_services_and_addresses_are_refused() {
    let _deadline = Deadline::seconds(60);
    let place = place();
    let stranger = place.home.path().join("stranger");
    service_key(&stranger, "");
    let client = EndpointClient::new(place.peer(), &stranger, place.runtime.handle().clone()).unwrap();
    let error = client.hello().unwrap_err();
    let TransferError::LoginRefused { user, hint, .. } = &error else { panic!("{error:?}") };
    assert_eq!(user, "stackferry");
    assert!(hint.contains("issuers"), "{hint}");
    assert_eq!(error.retry(), Retry::Permanent);
    for (from, expected) in [("10.0.0.0/8", false), ("127.0.0.0/8", true), ("*,!127.0.0.1", false)] {
        let place = Place::with_issuers(|line| vec![format!("from=\"{from}\" {line}")]);
        let hello = place.client().hello();
        assert_eq!(hello.is_ok(), expected, "{from}: {hello:?}");
        if let Err(error) = hello {
            assert!(matches!(error, TransferError::LoginRefused { .. }), "{error:?}");
        }
    }
}

#[test]
fn wrong_passwords_delay_only_their_connection() {
    let _deadline = Deadline::seconds(60);
    let place = place();
    let credential = place.credential(NAME);
    let refused = Arc::new(AtomicUsize::new(0));
    place.runtime.block_on(async {
        let mut wrong = tokio::task::JoinSet::new();
        for _ in 0..8 {
            let (address, user, refused) = (place.address, credential.user.clone(), Arc::clone(&refused));
            wrong.spawn(async move {
                let mut handle = raw::connect(address, client::Config::default()).await;
                let began = Instant::now();
                let result = handle.authenticate_password(&user, "wrong").await;
                assert!(!result.unwrap().success());
                refused.fetch_add(1, Ordering::SeqCst);
                began.elapsed()
            });
        }
        let mut handle = raw::connect(place.address, client::Config::default()).await;
        let secret = credential.password.expose();
        assert!(handle.authenticate_password(&credential.user, secret).await.unwrap().success());
        assert_eq!(refused.load(Ordering::SeqCst), 0, "the right one did not wait for a wrong one's answer");
        for took in wrong.join_all().await {
            assert!(took >= Duration::from_millis(900), "a wrong one is answered after {took:?}");
        }
    });
}

#[test]
fn two_hundred_idle_connections_lock_nobody_out() {
    let _deadline = Deadline::seconds(60);
    let place = place();
    let knocking_began = Instant::now();
    let knocking: Vec<_> = (0..200).map(|_| TcpStream::connect(place.address).unwrap()).collect();
    let credential = place.credential(NAME);
    assert!(logs_in(&place, &credential));
    let sink = place.sink("a", 3 * MIB);
    place.copy(Via::Endpoint, place.file(NAME, &sink), &context()).unwrap();
    // The oldest are disconnected.
    let oldest = &knocking[0];
    oldest.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let mut rest = Vec::new();
    if let Err(error) = std::io::Read::read_to_end(&mut &*oldest, &mut rest) {
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "it was not disconnected");
    }
    assert!(knocking_began.elapsed() < Duration::from_secs(20), "before its time to log in was over");
}

#[test]
fn a_broken_connection_uses_its_credential_up() {
    let _deadline = Deadline::seconds(60);
    let place = place();
    let credential = place.credential(NAME);
    let handle = place.runtime.block_on(raw::log_in(place.address, &credential));
    drop(handle);
    for _ in 0..3 {
        assert!(!logs_in(&place, &credential));
    }
}

#[test]
fn only_plain_files_below_the_datastore_are_accessible() {
    let _deadline = Deadline::seconds(60);
    let place = place();
    let outside = place.home.path().join("outside");
    std::fs::write(&outside, "secret").unwrap();
    symlink("../../outside", place.path("apps/link")).unwrap();
    symlink("/", place.path("root")).unwrap();
    std::fs::create_dir(place.path("apps/folder")).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        place.path("apps/fifo"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR,
        0,
    )
    .unwrap();
    std::os::unix::net::UnixListener::bind(place.path("apps/socket")).unwrap();
    let client = Arc::new(place.new_client(place.peer()));
    let folder = EndpointFolder::new(Arc::clone(&client), DATASTORE);
    for path in [
        "..",
        "../outside",
        "apps/../../outside",
        "/etc/passwd",
        "apps/link",
        "root/etc/passwd",
        "apps/fifo",
        "apps/socket",
        "apps/folder",
        "apps",
        "",
        "apps/./a-flat.vmdk",
        "apps//a-flat.vmdk",
        "apps/a-flat.vmdk/",
        "apps/a-flat.vmdk\0",
    ] {
        let error = client.issue(DATASTORE, path, Duration::from_secs(60)).unwrap_err();
        assert!(matches!(error, TransferError::Refused { .. }), "issue {path:?}: {error:?}");
        if !path.contains("a-flat") {
            let error = folder.read(path, 10).unwrap_err();
            let refused = matches!(error, FolderError::Refused { .. } | FolderError::Io { .. });
            assert!(refused, "read {path:?}: {error:?}");
        }
    }
    for path in ["..", "apps/..", "/", "root", "root/etc", "apps/link", "apps/../.."] {
        let listed = folder.list(path);
        let stays = path == "apps/..";
        assert_eq!(listed.is_ok(), stays, "list {path:?}: {listed:?}");
    }
    assert!(
        matches!(client.issue("other", NAME, Duration::from_secs(1)), Err(TransferError::Refused { code, .. }) if code == "unreachable")
    );
    let other = EndpointFolder::new(client, "other");
    assert!(matches!(other.list(""), Err(FolderError::Unreachable { datastore, .. }) if datastore == "other"));
    assert!(matches!(folder.list("none"), Err(FolderError::NotFound { .. })));
    assert!(folder.stat("apps/none").unwrap().is_none());
    assert_eq!(folder.stat(NAME).unwrap().unwrap(), place.folder().stat(NAME).unwrap().unwrap());
    assert_eq!(folder.read(NAME, 7).unwrap(), place.folder().read(NAME, 7).unwrap());
    let sorted = |mut entries: Vec<stackferry_volume::Entry>| {
        entries.sort_by(|one, two| one.name.cmp(&two.name));
        entries
    };
    assert_eq!(folder.list("apps").unwrap(), sorted(place.folder().list("apps").unwrap()));
}

#[test]
fn a_folder_of_many_long_names_is_listed_whole() {
    let _deadline = Deadline::seconds(60);
    let place = place();
    std::fs::create_dir(place.path("many")).unwrap();
    // Control characters are six times as long in JSON: fewer of them fit into one answer.
    for at in 0..1500 {
        std::fs::write(place.path("many").join(format!("{at:04}{}", "\u{1}".repeat(240))), "").unwrap();
    }
    let folder = EndpointFolder::new(Arc::new(place.new_client(place.peer())), DATASTORE);
    let names: Vec<_> = folder.list("many").unwrap().into_iter().map(|entry| entry.name).collect();
    assert_eq!(names.len(), 1500);
    assert!(names.is_sorted());
}

#[test]
fn a_file_replaced_after_its_credential_is_not_sent() {
    let _deadline = Deadline::seconds(120);
    let place = place();
    let ssh = OpenSsh::new(&place);
    let out = place.home.path().join("out");
    let remote = format!("HOST:/{DATASTORE}/{NAME}");
    let (sftp, scp, blocks) = (place.credential(NAME), place.credential(NAME), place.credential(NAME));
    std::fs::rename(place.path("apps/b-flat.vmdk"), place.path(NAME)).unwrap();
    for (arguments, credential) in [(&[remote.as_str(), "OUT"][..], &sftp), (&["-O", remote.as_str(), "OUT"][..], &scp)]
    {
        let arguments: Vec<_> =
            arguments.iter().map(|word| if *word == "OUT" { out.to_str().unwrap() } else { word }).collect();
        let output = ssh.run("scp", &arguments, credential, None);
        assert_eq!(output.status.code(), Some(1), "{}", said(&output));
        assert!(!out.exists() || out.metadata().unwrap().len() == 0);
    }
    // The block subsystem reports it.
    use stackferry_transfer::wire::block::{Codec, ErrorPayload, OpenRequest};
    use stackferry_transfer::wire::frame::{FrameKind, FrameReader, encode_json};
    let code = place.runtime.block_on(async {
        let handle = raw::log_in(place.address, &blocks).await;
        let mut channel = raw::blocks(&handle).await;
        let open = OpenRequest { protocol: 1, codecs: vec![Codec::None] };
        channel.data_bytes(encode_json(FrameKind::Open, &open).unwrap()).await.unwrap();
        let (bytes, status) = raw::read_to_end(&mut channel).await;
        assert_eq!(status, Some(1));
        let mut reader = FrameReader::default();
        reader.push(&bytes);
        let frame = reader.next_frame().unwrap().unwrap();
        assert_eq!(frame.kind, FrameKind::Error);
        serde_json::from_slice::<ErrorPayload>(&frame.payload).unwrap().code
    });
    assert_eq!(code, "replaced");
}

#[test]
fn an_endpoint_reports_its_current_datastores() {
    let _deadline = Deadline::seconds(60);
    let place = place();
    let hello = place.client().hello().unwrap();
    assert_eq!(hello.protocol, 1);
    assert!(hello.program.starts_with("stackferry "));
    assert_eq!((hello.datastores.len(), hello.datastores[0].name.as_str()), (1, DATASTORE));
    assert!(hello.datastores[0].reachable);
    std::fs::rename(place.home.path().join("ds"), place.home.path().join("away")).unwrap();
    assert!(!place.client().hello().unwrap().datastores[0].reachable);
}
