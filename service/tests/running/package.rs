//! The Debian package: what is in it, whether systemd takes its units, and whether the program runs from it.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::bench::{Bench, free_port, until};
use crate::program::Program;

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

/// The standard output of a command that has to succeed.
fn run(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{command:?}: {out}{err}");
    out.trim().to_owned()
}

fn is_there(tool: &str) -> bool {
    let found = Command::new(tool).arg("--version").output().is_ok();
    assert!(found || std::env::var_os("STACKFERRY_TEST_ALL").is_none(), "{tool} is missing");
    if !found {
        eprintln!("left out: {tool} is missing");
    }
    found
}

/// The package, laid out in a folder of its own.
fn unpacked(to: &Path) -> PathBuf {
    let build = format!("{ROOT}/packaging/debian/build");
    let package = run(Command::new(build).arg(env!("CARGO_BIN_EXE_stackferry")).arg(to));
    let tree = to.join("tree");
    run(Command::new("dpkg-deb").arg("--extract").arg(&package).arg(&tree));
    run(Command::new("dpkg-deb").arg("--control").arg(&package).arg(to.join("control")));
    tree
}

/// A unit whose program lies in the tree.
fn unit(tree: &Path, name: &str, to: &Path) -> (PathBuf, String) {
    let text = std::fs::read_to_string(tree.join("usr/lib/systemd/system").join(name)).unwrap();
    let here = tree.join("usr/bin/stackferry").display().to_string();
    let text = text.replace("/usr/bin/stackferry", &here);
    let path = to.join(name);
    std::fs::write(&path, &text).unwrap();
    (path, text)
}

/// What the documents of the package point to is in it.
fn links_lead_somewhere(folder: &Path) {
    let files: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    let mut links = 0;
    for file in files.iter().filter(|file| file.extension().is_some_and(|end| end == "md")) {
        for rest in std::fs::read_to_string(file).unwrap().split("](").skip(1) {
            let target = rest.split([')', '#']).next().unwrap();
            if !target.is_empty() && !target.starts_with("http") {
                assert!(folder.join(target).is_file(), "{} leads to {target}", file.display());
                links += 1;
            }
        }
    }
    assert!(links > 30, "{links} links");
}

/// A root with nothing but a shell, in which the package's scripts run as dpkg runs them. What they ask systemd for is written
/// down.
struct Root(tempfile::TempDir);

impl Root {
    fn new(busybox: &Path) -> Self {
        let root = Self(tempfile::tempdir().unwrap());
        for folder in ["bin", "dev", "etc", "run", "var/lib/stackferry", "srv/stackferry"] {
            std::fs::create_dir_all(root.path(folder)).unwrap();
        }
        std::fs::copy(busybox, root.path("bin/busybox")).unwrap();
        for name in ["sh", "mkdir", "chown", "chmod", "grep"] {
            std::os::unix::fs::symlink("busybox", root.path("bin").join(name)).unwrap();
        }
        for name in ["systemctl", "systemd-sysusers"] {
            root.program(name, &format!("echo {name} \"$*\" >>/asked"));
        }
        root.program("getent", "grep \"^$2:\" \"/etc/$1\"");
        std::fs::write(root.path("etc/passwd"), "root:x:0:0::/:/bin/sh\n").unwrap();
        std::fs::write(root.path("dev/null"), "").unwrap();
        std::fs::write(root.path("etc/group"), "root:x:0:\nstackferry:x:1234:\n").unwrap();
        std::fs::write(root.path("var/lib/stackferry/catalog.sqlite"), "a catalog").unwrap();
        std::fs::write(root.path("srv/stackferry/stackferry-vault.json"), "a vault").unwrap();
        root
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn program(&self, name: &str, text: &str) {
        let path = self.path("bin").join(name);
        std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// Runs a script; gives what it asked for.
    fn script(&self, name: &str, args: &[&str]) -> Vec<String> {
        let text = std::fs::read_to_string(format!("{ROOT}/packaging/debian/{name}")).unwrap();
        std::fs::write(self.path("script"), text).unwrap();
        let shell = ["/bin/busybox", "env", "PATH=/bin", "/bin/sh", "/script"];
        run(Command::new("chroot").arg(self.0.path()).args(shell).args(args));
        let asked = std::fs::read_to_string(self.path("asked")).unwrap_or_default();
        let _ = std::fs::remove_file(self.path("asked"));
        asked.lines().map(str::to_owned).collect()
    }
}

/// What dpkg calls when, is Debian's policy: https://www.debian.org/doc/debian-policy/ch-maintainerscripts.html
#[test]
fn an_upgrade_goes_on_and_nothing_that_was_made_is_taken_away() {
    let Some(busybox) = ["/bin/busybox", "/usr/bin/busybox"].map(PathBuf::from).into_iter().find(|path| path.is_file())
    else {
        assert!(std::env::var_os("STACKFERRY_TEST_ALL").is_none(), "busybox is missing");
        eprintln!("left out: busybox is missing");
        return;
    };
    let root = Root::new(&busybox);
    std::fs::create_dir_all(root.path("run/systemd/system")).unwrap();
    let restart = "systemctl try-restart stackferry.service stackferry-endpoint.service";
    let installed = ["systemd-sysusers stackferry.conf", "systemctl daemon-reload", restart];
    assert_eq!(root.script("postinst", &["configure", ""]), installed);
    let etc = std::fs::metadata(root.path("etc/stackferry")).unwrap();
    assert_eq!((etc.mode() & 0o7777, etc.uid(), etc.gid()), (0o750, 0, 1234));
    std::fs::write(root.path("etc/stackferry/stackferry.toml"), "a configuration").unwrap();

    assert_eq!(root.script("prerm", &["upgrade", "0.2.0"]), [""; 0], "what runs is not stopped, much less disabled");
    assert_eq!(root.script("postrm", &["upgrade", "0.2.0"]), ["systemctl daemon-reload"]);
    assert_eq!(root.script("postinst", &["configure", "0.1.0"]), installed);
    // An upgrade that dpkg takes back.
    assert_eq!(root.script("postinst", &["abort-upgrade", "0.2.0"]), [""; 0]);

    let stopped = ["systemctl disable --now stackferry.service stackferry-endpoint.service"];
    assert_eq!(root.script("prerm", &["remove"]), stopped);
    assert_eq!(root.script("postrm", &["remove"]), ["systemctl daemon-reload"]);
    assert_eq!(root.script("postrm", &["purge"]), ["systemctl daemon-reload"]);
    for (file, content) in [
        ("etc/stackferry/stackferry.toml", "a configuration"),
        ("var/lib/stackferry/catalog.sqlite", "a catalog"),
        ("srv/stackferry/stackferry-vault.json", "a vault"),
    ] {
        assert_eq!(std::fs::read_to_string(root.path(file)).unwrap(), content);
    }

    // Where systemd is not: in a container. The user is made another way, once.
    std::fs::remove_dir_all(root.path("run/systemd")).unwrap();
    std::fs::remove_file(root.path("bin/systemd-sysusers")).unwrap();
    root.program("useradd", "echo useradd \"$*\" >>/asked; echo stackferry:x:1234:1234::/:/bin/sh >>/etc/passwd");
    let made = root.script("postinst", &["configure", ""]);
    assert_eq!(made.len(), 1, "{made:?}");
    assert!(made[0].starts_with("useradd --system --home-dir /var/lib/stackferry "), "{made:?}");
    assert_eq!(root.script("postinst", &["configure", "0.1.0"]), [""; 0]);
    for (script, args) in [("prerm", ["remove"]), ("postrm", ["purge"])] {
        assert_eq!(root.script(script, &args), [""; 0]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_complete_systemd_takes_it_and_it_runs_from_it() {
    if !is_there("dpkg-deb") || !is_there("systemd-analyze") {
        return;
    }
    let bench = Bench::new();
    let folder = bench.dir.path();
    let tree = unpacked(&folder.join("package"));
    for file in [
        "usr/bin/stackferry",
        "usr/share/man/man1/stackferry.1.gz",
        "usr/share/man/man1/stackferry-restore.1.gz",
        "usr/share/bash-completion/completions/stackferry",
        "usr/share/zsh/vendor-completions/_stackferry",
        "usr/share/fish/vendor_completions.d/stackferry.fish",
        "usr/lib/sysusers.d/stackferry.conf",
        "usr/share/doc/stackferry/examples/stackferry.toml",
        "usr/share/doc/stackferry/examples/stackferry.schema.json",
        "usr/share/doc/stackferry/operations.md",
        "usr/share/stackferry/dashboards/overview.json",
        "usr/share/stackferry/dashboards/rules/alerts.yml",
    ] {
        assert!(tree.join(file).is_file(), "{file} is missing");
    }
    links_lead_somewhere(&tree.join("usr/share/doc/stackferry"));
    let schema = std::fs::read(tree.join("usr/share/doc/stackferry/examples/stackferry.schema.json")).unwrap();
    let schema: serde_json::Value = serde_json::from_slice(&schema).unwrap();
    assert!(schema["properties"]["vault"].is_object(), "{schema}");
    for script in ["postinst", "prerm", "postrm"] {
        let path = folder.join("package/control").join(script);
        run(Command::new("sh").arg("-n").arg(&path));
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(!text.contains("rm -"), "{script} deletes something");
    }
    let mut commands = Vec::new();
    for (name, most) in [("stackferry.service", "20"), ("stackferry-endpoint.service", "25")] {
        let (path, text) = unit(&tree, name, folder);
        run(Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(&path));
        // How exposed it is, in tenths: systemd's own measure, 100 is a service without any protection.
        let threshold = format!("--threshold={most}");
        run(Command::new("systemd-analyze").args(["security", "--offline=true", &threshold]).arg(&path));
        let lines =
            text.lines().filter_map(|line| line.strip_prefix("ExecStart=").or(line.strip_prefix("ExecStartPre=")));
        commands.extend(lines.map(str::to_owned));
    }

    // As the unit does it: first the check, then the service.
    let office = bench.appstack("Office", 1 << 20);
    let config = bench.config_file(free_port(), "[schedule]\nevery = \"1s\"\n");
    let command = |line: &str| {
        let mut words = line.split(' ');
        let mut command = Command::new(words.next().unwrap());
        command.args(words).env("STACKFERRY_CONFIG", &config);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    };
    run(&mut command(&commands[0]));
    let program = Program::start(command(&commands[1]));
    let catalog = bench.catalog_of_a_new_folder().await;
    until("the volume is protected", async || !catalog.versions(&office).await.unwrap().is_empty()).await;
    drop(program);
    // What the package put there goes; what the service made stays.
    std::fs::remove_dir_all(&tree).unwrap();
    let version = catalog.versions(&office).await.unwrap()[0].version.to_string();
    assert!(folder.join("vault/volumes/appstack/Office").join(version).join("Office-flat.vmdk").is_file());
}
