//! The Debian package: what is in it, whether systemd takes its units, and whether the program runs from it.

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
