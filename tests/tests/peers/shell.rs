//! The whole lifecycle of an account, through vSphere and with OpenSSH's own client.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use stackferry_tests::lab::esxi::{Settings, Store, Vmkfstools};
use stackferry_tests::lab::vcenter::ServerKind;
use stackferry_tests::lab::{EsxiDouble, VCenter};

use super::soap::{Client, PASSWORD, can_run, site};

const USER: &str = "sf-3a5c01-00000001";
const SECRET: &str = "k7:Rz'9\"x #$ü";

fn can_login() -> bool {
    let there = stackferry_tests::lab::esxi::can_run() && stackferry_tests::tools::find("ssh").is_some();
    can_run()
        && stackferry_tests::tools::have(there, "root, OpenSSH, BusyBox, and the wrappers of NSS and PAM").unwrap()
}

/// OpenSSH's client, which answers a prompt with the password, once.
fn client(host: &EsxiDouble, program: &str, port_flag: &str, password: &str, args: &[&str]) -> Output {
    let folder = tempfile::tempdir().unwrap();
    let (askpass, known) = (folder.path().join("askpass"), folder.path().join("known_hosts"));
    std::fs::write(&askpass, "#!/bin/sh\nprintf '%s\\n' \"$STACKFERRY_TEST_ANSWER\"\n").unwrap();
    std::fs::set_permissions(&askpass, std::fs::Permissions::from_mode(0o700)).unwrap();
    std::fs::write(&known, host.known_hosts()).unwrap();
    Command::new(program)
        .args(["-F", "none", "-o", "StrictHostKeyChecking=yes", "-o", "NumberOfPasswordPrompts=1"])
        .args([
            "-o",
            "IdentityFile=none",
            "-o",
            "LogLevel=ERROR",
            "-o",
            &format!("UserKnownHostsFile={}", known.display()),
        ])
        .args(["-o", "ConnectTimeout=30"])
        .args([port_flag, &host.port().to_string()])
        .args(args)
        .env("SSH_ASKPASS", &askpass)
        .env("SSH_ASKPASS_REQUIRE", "force")
        .env("STACKFERRY_TEST_ANSWER", password)
        .env_remove("SSH_AUTH_SOCK")
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

fn ssh(host: &EsxiDouble, user: &str, password: &str, command: &str) -> Output {
    client(host, "ssh", "-p", password, &[&format!("{user}@{}", host.address()), command])
}

fn why(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn start(folder: &Path, mode: ServerKind) -> (EsxiDouble, VCenter) {
    let mut site = site(folder);
    site.mode = mode;
    let store = Store { name: "ds 1".to_owned(), uuid: "5f3c1a2b-0d4e6f80".to_owned(), dir: folder.to_owned() };
    let settings = Settings { root_password: PASSWORD.to_owned(), stores: vec![store], ..Settings::default() };
    let host = EsxiDouble::start(settings).unwrap();
    site.datacenters[0].hosts = vec![host.host("esx1")];
    site.datacenters[0].datastores = host.datastores();
    let server = VCenter::start(&site).unwrap();
    assert_eq!(server.host("esx1").unwrap().address, host.address());
    (host, server)
}

#[test]
fn an_account_ends_when_vsphere_removes_it() {
    if !can_login() {
        return;
    }
    for mode in [ServerKind::Vcenter, ServerKind::Esxi] {
        let folder = tempfile::tempdir().unwrap();
        let (host, server) = start(folder.path(), mode);
        let vsphere = Client::logged_in(&server);
        let refused = |why_not: &str| {
            let output = ssh(&host, USER, SECRET, "true");
            assert_eq!(output.status.code(), Some(255), "{output:?}");
            assert!(why(&output).contains(why_not), "{why_not}: {}\n{}", why(&output), host.activity().unwrap().log);
        };
        refused("Connection refused");
        assert_eq!(vsphere.ssh_service("StartService").status, 200);
        refused("Permission denied (publickey,keyboard-interactive)");
        assert_eq!(vsphere.create_user(USER, SECRET).status, 200);
        refused("Permission denied");
        assert_eq!(vsphere.make_admin(USER).status, 200);

        let command = "cat '/vmfs/volumes/ds 1/app/a-flat.vmdk'; ls /vmfs/volumes >&2; uname";
        let output = ssh(&host, USER, SECRET, command);
        assert!(output.status.success(), "{}", why(&output));
        let (content, system) = output.stdout.split_at(1 << 20);
        assert!(content == std::fs::read(folder.path().join("app/a-flat.vmdk")).unwrap());
        assert_eq!(system, b"VMkernel\n");
        assert_eq!(why(&output), "5f3c1a2b-0d4e6f80\nds 1\n");
        assert_eq!(host.activity().unwrap().commands, [command]);
        assert!(why(&ssh(&host, USER, "another", "true")).contains("Permission denied"));
        assert_eq!(ssh(&host, "root", PASSWORD, "true").status.code(), Some(0));

        server.set_lockdown("esx1", "lockdownNormal", &["root"]).unwrap();
        refused("Permission denied");
        assert_eq!(ssh(&host, "root", PASSWORD, "true").status.code(), Some(0), "it is excepted");
        server.set_lockdown("esx1", "lockdownDisabled", &[]).unwrap();

        assert_eq!(vsphere.remove_user(USER).status, 200);
        assert_eq!(host.activity().unwrap().accounts, ["root"]);
        refused("Permission denied");
        assert_eq!(vsphere.ssh_service("StopService").status, 200);
        assert!(!host.activity().unwrap().listens);
        refused("Connection refused");
        // Neither the one nor the other had a second try.
        assert!(host.activity().unwrap().logins.iter().all(|login| !login.locked));
    }
}

#[test]
fn vmkfstools_maps_a_disk_or_fails_as_configured() {
    if !can_login() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (host, _server) = start(folder.path(), ServerKind::Esxi);
    std::fs::write(folder.path().join("thin-flat.vmdk"), []).unwrap();
    let file = std::fs::OpenOptions::new().write(true).open(folder.path().join("thin-flat.vmdk")).unwrap();
    file.set_len(10 << 20).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, &[1; 8192], 4 << 20).unwrap();
    std::fs::write(
        folder.path().join("thin.vmdk"),
        "# Disk DescriptorFile\nRW 20480 VMFS \"thin-flat.vmdk\"\nddb.thinProvisioned = \"1\"\n",
    )
    .unwrap();
    host.set_service(true).unwrap();
    let run = || {
        let output = ssh(&host, "root", PASSWORD, "vmkfstools -t0 '/vmfs/volumes/ds 1/thin.vmdk'");
        (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned(), why(&output))
    };
    let (code, map, complaint) = run();
    assert_eq!(code, Some(0), "{complaint}");
    let lines: Vec<_> = map.lines().map(|line| line.split(" LVID").next().unwrap()).collect();
    assert_eq!(lines[0], "Mapping for file thin.vmdk (10485760 bytes in size):");
    assert!(lines[1].starts_with("[           0:     4194304] --> [NOMP -- :"), "{map}");
    assert_eq!(lines[2], "[     4194304:     1048576] --> [VMFS --");
    assert!(lines[3].starts_with("[     5242880:     5242880] --> [NOMP -- :"), "{map}");
    assert_eq!(lines.len(), 4, "{map}");
    host.set_vmkfstools(Vmkfstools::Lies).unwrap();
    assert!(!run().1.contains("VMFS"));
    host.set_vmkfstools(Vmkfstools::Short).unwrap();
    assert!(run().1.lines().count() < 4);
    host.set_vmkfstools(Vmkfstools::Garbage).unwrap();
    assert!(!run().1.contains("bytes in size):\n[  "));
    host.set_vmkfstools(Vmkfstools::Locked).unwrap();
    let (code, _, complaint) = run();
    assert_eq!((code, complaint.contains("Failed to lock the file")), (Some(255), true));
    host.set_vmkfstools(Vmkfstools::Absent).unwrap();
    let (code, _, complaint) = run();
    assert_eq!((code, complaint.contains("not found")), (Some(127), true));
}

#[test]
fn sftp_scp_and_programs_exist_as_configured() {
    if !can_login() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("file"), "content").unwrap();
    for there in [false, true] {
        let store = Store { name: "ds".to_owned(), uuid: "uuid".to_owned(), dir: folder.path().to_owned() };
        let settings = Settings {
            root_password: PASSWORD.to_owned(),
            stores: vec![store],
            sftp: there,
            scp: there,
            without: if there { Vec::new() } else { vec!["dd".to_owned()] },
            ..Settings::default()
        };
        let host = EsxiDouble::start(settings).unwrap();
        host.set_service(true).unwrap();
        let from = format!("root@{}:/vmfs/volumes/ds/file", host.address());
        for flag in ["-s", "-O"] {
            let got = tempfile::tempdir().unwrap();
            let to = got.path().join("file");
            let output = client(&host, "scp", "-P", PASSWORD, &[flag, &from, to.to_str().unwrap()]);
            assert_eq!(output.status.success(), there, "{flag}: {}", why(&output));
            assert_eq!(std::fs::read(&to).is_ok_and(|content| content == b"content"), there);
        }
        let dd = ssh(&host, "root", PASSWORD, "dd if=/vmfs/volumes/ds/file bs=1 skip=3 count=2 2>/dev/null");
        assert_eq!(dd.stdout, if there { b"te".as_slice() } else { b"" });
        assert!(!ssh(&host, "root", PASSWORD, "nice true").status.success(), "BusyBox there has no nice");
        let settings = ssh(&host, "root", PASSWORD, "id -u");
        assert_eq!(settings.stdout, b"0\n");
    }
}

#[test]
fn connections_can_be_cut_and_leave_nothing_behind() {
    if !can_login() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (host, server) = start(folder.path(), ServerKind::Vcenter);
    host.set_service(true).unwrap();
    let (address, port, hook) = (host.address().to_owned(), host.port(), host.hook().to_owned());
    std::thread::scope(|scope| {
        let session = scope.spawn(|| ssh(&host, "root", PASSWORD, "echo in; sleep 1000"));
        let deadline = Instant::now() + Duration::from_secs(60);
        while host.activity().unwrap().commands.is_empty() {
            assert!(!session.is_finished() && Instant::now() < deadline, "no session: {:?}", host.activity());
            std::thread::park_timeout(Duration::from_millis(5));
        }
        host.cut().unwrap();
        assert_eq!(session.join().unwrap().status.code(), Some(255));
    });
    assert!(ssh(&host, "root", PASSWORD, "true").status.success(), "the service runs again");
    drop((host, server));
    assert!(std::net::TcpStream::connect((address.as_str(), port)).is_err());
    assert!(!hook.parent().unwrap().exists());
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
    assert!(!mounts.contains("stackferry-esxi-"), "{mounts}");
}
