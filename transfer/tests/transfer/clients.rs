//! Stock clients: `sftp`, `scp` and `scp -O` read the file, and can't do anything else.

use std::path::Path;

use crate::support::files::{MIB, noise, sparse};
use crate::support::openssh::{OpenSsh, said};
use crate::support::place::{DATASTORE, Place};
use crate::support::{Deadline, raw};

/// Names as App Volumes makes them, and as a shell would trip over them.
const NAMES: [&str; 4] =
    ["Office-flat.vmdk", "CORP!5C!jdoe-flat.vmdk", "with space and 'quotes' \"too\".vmdk", "$HOME;`id`&*[a].vmdk"];

fn same(one: &Path, two: &Path) -> bool {
    std::fs::read(one).unwrap() == std::fs::read(two).unwrap()
}

/// A path as OpenSSH's `sftp` wants it in a batch: in quotes, which take the meaning from pattern characters.
fn batch_word(path: &str) -> String {
    let escaped: String =
        path.chars().flat_map(|c| "\\\"".contains(c).then_some('\\').into_iter().chain([c])).collect();
    format!("\"{escaped}\"")
}

#[test]
fn sftp_and_scp_fetch_files_of_any_name() {
    let _deadline = Deadline::seconds(300);
    let place = Place::new();
    let ssh = OpenSsh::new(&place);
    for (number, name) in NAMES.iter().enumerate() {
        let name = format!("apps/{name}");
        let source = place.path(&name);
        sparse(&source, 3 * MIB + 4711, &[5000..MIB + 3, 3 * MIB..3 * MIB + 4711]);
        let path = format!("/{DATASTORE}/{name}");
        let out = |what: &str| place.home.path().join(format!("{number}-{what}"));

        let (listed, got) = (out("listed"), out("sftp"));
        let word = batch_word(&path);
        let batch =
            format!("pwd\ncd /{DATASTORE}\nls -l\ncd apps\nls -la\nstat {word}\nget {word} {}\n", got.display());
        // Not every version has `stat`; the others say so and go on.
        let batch = batch.replace("stat ", "-stat ");
        std::fs::write(&listed, batch).unwrap();
        let arguments = ["-b", listed.to_str().unwrap(), "HOST"];
        let output = ssh.run("sftp", &arguments, &place.credential(&name), None);
        assert_eq!(output.status.code(), Some(0), "sftp {name}: {}", said(&output));
        assert!(same(&source, &got), "sftp {name}");
        assert!(said(&output).contains("apps"), "{}", said(&output));

        let got = out("scp");
        let remote = format!("HOST:{}", path.replace(['[', '*'], "?").replace('\\', "?"));
        let output = ssh.run("scp", &[&remote, got.to_str().unwrap()], &place.credential(&name), None);
        assert_eq!(output.status.code(), Some(0), "scp {name}: {}", said(&output));
        assert!(same(&source, &got), "scp {name}");

        // With -O the path goes through a shell on a stock host, so people quote it; both forms are understood.
        let plain = format!("HOST:{path}");
        let quoted = format!("HOST:'{}'", path.replace('\'', "'\\''"));
        for (form, what) in [(plain, "scp-O"), (quoted, "scp-O-quoted")] {
            let got = out(what);
            let output =
                ssh.run("scp", &["-O", "-p", "-T", &form, got.to_str().unwrap()], &place.credential(&name), None);
            assert_eq!(output.status.code(), Some(0), "{what} {name}: {}", said(&output));
            assert!(same(&source, &got), "{what} {name}");
        }
    }
}

#[test]
fn keyboard_interactive_works_for_stock_clients() {
    let _deadline = Deadline::seconds(60);
    let place = Place::new();
    sparse(&place.path("apps/a"), MIB, &[0..MIB]);
    let out = place.home.path().join("out");
    let arguments = [
        "-o",
        "PreferredAuthentications=keyboard-interactive",
        &format!("HOST:/{DATASTORE}/apps/a"),
        out.to_str().unwrap(),
    ];
    let output = OpenSsh::new(&place).run("scp", &arguments, &place.credential("apps/a"), None);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    assert!(same(&place.path("apps/a"), &out));
}

#[test]
fn a_large_file_and_many_requests_ahead_arrive() {
    let _deadline = Deadline::seconds(120);
    let place = Place::new();
    sparse(&place.path("apps/a"), 64 * MIB + 1, &[0..64 * MIB + 1]);
    let out = place.home.path().join("out");
    let arguments = ["-R", "4096", "-B", "32768", &format!("HOST:/{DATASTORE}/apps/a"), out.to_str().unwrap()];
    let output = OpenSsh::new(&place).run("sftp", &arguments, &place.credential("apps/a"), None);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    assert!(same(&place.path("apps/a"), &out));
}

#[test]
fn replies_stay_below_the_clients_limits() {
    let _deadline = Deadline::seconds(120);
    let place = Place::new();
    sparse(&place.path("apps/a"), 4 * MIB + 1, &[0..4 * MIB + 1]);
    let ssh = OpenSsh::new(&place);
    // Without a size OpenSSH's client asks for the server's limits.
    for size in [None, Some("1000"), Some("261120"), Some("261121"), Some("262144"), Some("1048576")] {
        let out = place.home.path().join("out");
        let remote = format!("HOST:/{DATASTORE}/apps/a");
        let mut arguments = vec!["-vvv"];
        arguments.extend(size.iter().flat_map(|size| ["-B", size]));
        arguments.extend([remote.as_str(), out.to_str().unwrap()]);
        let output = ssh.run("sftp", &arguments, &place.credential("apps/a"), None);
        assert_eq!(output.status.code(), Some(0), "{size:?}: {}", said(&output));
        assert!(same(&place.path("apps/a"), &out), "{size:?}");
        if size.is_none() {
            assert!(said(&output).contains("buffer sizes 32768 / 261120; using 32768 / 261120"), "{}", said(&output));
        }
    }
}

#[test]
fn times_are_sent_where_a_client_requests_them() {
    let _deadline = Deadline::seconds(120);
    let place = Place::new();
    let ssh = OpenSsh::new(&place);
    // The first second of 1970 itself stands for a system that gives no time.
    for (number, seconds) in [1_709_287_200u64, 2_208_988_800, 1].into_iter().enumerate() {
        let name = format!("apps/{number}");
        sparse(&place.path(&name), 5000, &[0..5000]);
        let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(seconds);
        let file = std::fs::File::options().write(true).open(place.path(&name)).unwrap();
        file.set_times(std::fs::FileTimes::new().set_modified(time)).unwrap();
        let remote = format!("HOST:/{DATASTORE}/{name}");
        let out = place.home.path().join("out");
        for (program, options) in [("scp", &["-p"][..]), ("scp", &["-O", "-p"]), ("sftp", &["-p"])] {
            let arguments = [options, &[remote.as_str(), out.to_str().unwrap()]].concat();
            let output = ssh.run(program, &arguments, &place.credential(&name), None);
            assert_eq!(output.status.code(), Some(0), "{program} {options:?}: {}", said(&output));
            let kept = std::fs::metadata(&out).unwrap().modified().unwrap();
            assert_eq!(kept, time, "{program} {options:?} of {seconds}");
        }
    }
}

#[test]
fn nothing_is_written_renamed_or_removed() {
    let _deadline = Deadline::seconds(300);
    let place = Place::new();
    let ssh = OpenSsh::new(&place);
    sparse(&place.path("apps/a"), MIB, &[0..MIB]);
    let before = std::fs::read(place.path("apps/a")).unwrap();
    let evil = place.home.path().join("evil");
    std::fs::write(&evil, noise(9, 5000)).unwrap();
    let remote = format!("/{DATASTORE}/apps/a");
    for command in [
        format!("put {} {remote}", evil.display()),
        format!("put {} /{DATASTORE}/apps/new", evil.display()),
        format!("reput {} {remote}", evil.display()),
        format!("rm {remote}"),
        format!("rename {remote} /{DATASTORE}/apps/b"),
        format!("mkdir /{DATASTORE}/apps/new"),
        format!("rmdir /{DATASTORE}/apps"),
        format!("chmod 777 {remote}"),
        format!("ln -s /etc/passwd /{DATASTORE}/apps/new"),
        format!("ln {remote} /{DATASTORE}/apps/new"),
        format!("get /{DATASTORE}/apps/b {}", place.home.path().join("out").display()),
        format!("get /etc/passwd {}", place.home.path().join("out").display()),
        "ls /etc".to_owned(),
    ] {
        let batch = place.home.path().join("batch");
        std::fs::write(&batch, format!("{command}\n")).unwrap();
        let output = ssh.run("sftp", &["-b", batch.to_str().unwrap(), "HOST"], &place.credential("apps/a"), None);
        assert_eq!(output.status.code(), Some(1), "{command}: {}", said(&output));
    }
    for mode in [&["-O"][..], &["-s"]] {
        let to = format!("HOST:{remote}");
        let arguments = [mode, &[evil.to_str().unwrap(), &to]].concat();
        let output = ssh.run("scp", &arguments, &place.credential("apps/a"), None);
        assert_ne!(output.status.code(), Some(0), "{mode:?}: {}", said(&output));
    }
    assert!(!place.home.path().join("out").exists());
    assert_eq!(std::fs::read(place.path("apps/a")).unwrap(), before);
    let names: Vec<_> =
        std::fs::read_dir(place.path("apps")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["a"]);
}

#[test]
fn the_right_password_works_after_a_wrong_one() {
    let _deadline = Deadline::seconds(60);
    let place = Place::new();
    sparse(&place.path("apps/a"), MIB, &[0..MIB]);
    let ssh = OpenSsh::new(&place);
    let credential = place.credential("apps/a");
    let mut wrong = credential.clone();
    wrong.password = place.credential("apps/a").password;
    let out = place.home.path().join("out");
    let remote = format!("HOST:/{DATASTORE}/apps/a");
    let arguments = [remote.as_str(), out.to_str().unwrap()];
    let output = ssh.run("scp", &arguments, &wrong, None);
    assert_ne!(output.status.code(), Some(0));
    assert!(said(&output).contains("Permission denied"), "{}", said(&output));
    let output = ssh.run("scp", &arguments, &credential, None);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    let output = ssh.run("scp", &arguments, &credential, None);
    assert!(said(&output).contains("Permission denied"), "{}", said(&output));
}

#[test]
fn a_newline_in_a_name_does_not_reach_the_protocol() {
    let _deadline = Deadline::seconds(60);
    let place = Place::new();
    let name = "apps/a\nC0644 5 b";
    sparse(&place.path(name), MIB, &[0..MIB]);
    let credential = place.credential(name);
    place.runtime.block_on(async {
        let handle = raw::log_in(place.address, &credential).await;
        let mut channel = handle.channel_open_session().await.unwrap();
        channel.exec(true, format!("scp -f {}", credential.path)).await.unwrap();
        assert!(raw::is_granted(&mut channel).await);
        channel.data_bytes(&b"\0"[..]).await.unwrap();
        let (said, status) = raw::read_to_end(&mut channel).await;
        assert_eq!(said.first(), Some(&2), "an error of the protocol");
        assert_eq!(said.iter().filter(|byte| **byte == b'\n').count(), 1, "in one line");
        assert_eq!(status, Some(1));
    });
}

#[test]
fn broken_packets_end_only_their_connection() {
    let _deadline = Deadline::seconds(60);
    let place = Place::new();
    sparse(&place.path("apps/a"), MIB, &[0..MIB]);
    let init = [&[0, 0, 0, 5, 1][..], &[0, 0, 0, 3]].concat();
    for bad in [
        vec![0xff; 9],
        vec![0, 0, 0, 0],
        [&[0, 0, 0, 9, 3][..], &[0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff]].concat(),
        [&[0, 0, 0, 13, 17][..], &[0, 0, 0, 1, 0, 0, 0, 0, 9, 9, 9, 9]].concat(),
        [&[0, 0, 0, 1][..], &[99]].concat(),
    ] {
        let credential = place.credential("apps/a");
        place.runtime.block_on(async {
            let handle = raw::log_in(place.address, &credential).await;
            let mut channel = handle.channel_open_session().await.unwrap();
            channel.request_subsystem(true, "sftp").await.unwrap();
            assert!(raw::is_granted(&mut channel).await);
            channel.data_bytes(init.clone()).await.unwrap();
            channel.data_bytes(bad.clone()).await.unwrap();
            channel.eof().await.unwrap();
            let (_, status) = raw::read_to_end(&mut channel).await;
            assert!(status.is_some(), "{bad:?}");
        });
    }
    place.client().hello().unwrap();
}
