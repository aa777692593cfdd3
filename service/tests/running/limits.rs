//! What a machine does not allow, and what a person saves or names otherwise than meant: each is an error of its own that says
//! what to do, and leaves nothing behind.

use std::path::Path;
use std::process::{Command, Output, Stdio};

use crate::bench::Bench;

const PROGRAM: &str = env!("CARGO_BIN_EXE_stackferry");

/// Runs the program after a command of the shell, as `ulimit -f 1024`.
fn under(shell: &str, config: &Path, args: &[&str]) -> Output {
    let mut command = Command::new("sh");
    command.arg("-c").arg(format!("{shell}; exec \"$0\" \"$@\"")).arg(PROGRAM).arg("--config").arg(config).args(args);
    command.stdin(Stdio::null()).output().unwrap()
}

fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

fn said(output: &Output) -> String {
    format!("{} {}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn a_file_that_is_too_long_is_an_error_and_leaves_nothing() {
    let bench = Bench::new();
    bench.appstack("Office", 8 << 20);
    let config = bench.config_file(0, "");
    // In units of 512 bytes or 1 KiB, as the shell likes it: less than the disk, and more than a database's pages.
    let refused = under("ulimit -f 4096", &config, &["copy", "appstack/Office"]);
    assert_eq!(refused.status.code(), Some(1), "{}", said(&refused));
    assert!(said(&refused).contains("file_too_long"), "{}", said(&refused));
    let copied = under("true", &config, &["copy", "appstack/Office"]);
    assert_eq!(copied.status.code(), Some(0), "{}", said(&copied));

    let to = bench.dir.path().join("out");
    let refused = under("ulimit -f 4096", &config, &["restore", "appstack/Office", "--to", to.to_str().unwrap()]);
    assert_eq!(refused.status.code(), Some(1), "{}", said(&refused));
    assert!(said(&refused).contains("file_too_long") && said(&refused).contains("FAT"), "{}", said(&refused));
    assert_eq!(names(&to), Vec::<String>::new());
}

#[test]
fn a_target_that_is_a_file_or_full_is_named() {
    let bench = Bench::new();
    bench.appstack("Office", 8 << 20);
    let config = bench.config_file(0, "");
    assert_eq!(under("true", &config, &["copy", "appstack/Office"]).status.code(), Some(0));
    let file = bench.dir.path().join("file");
    std::fs::write(&file, "x").unwrap();
    for to in [file.clone(), file.join("below")] {
        let refused = under("true", &config, &["restore", "appstack/Office", "--to", to.to_str().unwrap()]);
        assert_eq!(refused.status.code(), Some(2), "{}", said(&refused));
        assert!(said(&refused).contains(&format!("{} is no folder", file.display())), "{}", said(&refused));
    }
    if !rustix::process::geteuid().is_root() {
        return;
    }
    // In a mount namespace of its own, so that nothing is left mounted.
    let small = bench.dir.path().join("small");
    std::fs::create_dir(&small).unwrap();
    let script = format!(
        "mount -t tmpfs -o size=2m none {0} && \"{PROGRAM}\" --config {1} restore appstack/Office --to {0}/out; echo exit $?; \
         ls -A {0}/out",
        small.display(),
        config.display()
    );
    let output = Command::new("unshare").args(["--mount", "sh", "-c", &script]).output().unwrap();
    let said = said(&output);
    assert!(said.contains("exit 15") && said.contains("small/out"), "{said}");
    assert!(!said.contains("vault") && !said.contains(".vmdk"), "{said}");
}

#[test]
fn a_disk_of_520_extents_is_copied_and_restored() {
    const EXTENTS: usize = 520;
    let bench = Bench::new();
    bench.appstack("Office", 4096);
    let folder = bench.dir.path().join("nfs01/cloudvolumes/apps");
    let mut text = String::from(
        "# Disk DescriptorFile\nversion=1\nencoding=\"UTF-8\"\nCID=1234abcd\nparentCID=ffffffff\n\
         createType=\"twoGbMaxExtentFlat\"\n\n",
    );
    for number in 1..=EXTENTS {
        let name = format!("Office-f{number:03}.vmdk");
        std::fs::write(folder.join(&name), [7; 1024]).unwrap();
        text.push_str(&format!("RW 2 FLAT \"{name}\" 0\n"));
    }
    std::fs::remove_file(folder.join("Office-flat.vmdk")).unwrap();
    std::fs::write(folder.join("Office.vmdk"), text + "\nddb.adapterType = \"lsilogic\"\n").unwrap();
    let (config, to) = (bench.config_file(0, ""), bench.dir.path().join("out"));
    for args in [
        &["copy", "appstack/Office"][..],
        &["verify", "appstack/Office"],
        &["restore", "appstack/Office", "--to", to.to_str().unwrap()],
    ] {
        let done = under("ulimit -S -n 256", &config, args);
        assert_eq!(done.status.code(), Some(0), "{args:?}: {}", said(&done));
    }
    assert_eq!(names(&to).len(), EXTENTS + 1);
}

#[test]
fn a_configuration_is_read_in_utf_8_alone_and_others_are_named() {
    let bench = Bench::new();
    bench.appstack("Office", 4096);
    let config = bench.config_file(0, "");
    let text = std::fs::read_to_string(&config).unwrap();
    let utf16: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let check = |bytes: &[u8]| {
        std::fs::write(&config, bytes).unwrap();
        under("true", &config, &["check", "--config-only"])
    };
    let good = check(&[b"\xef\xbb\xbf", text.as_bytes()].concat());
    assert_eq!(good.status.code(), Some(0), "{}", said(&good));
    for (bytes, name) in [
        ([b"\xff\xfe", &utf16[..]].concat(), "UTF-16"),
        (utf16.clone(), "UTF-16"),
        ([text.as_bytes(), b"# M\xfcller\n"].concat(), "Windows-1252"),
    ] {
        let refused = check(&bytes);
        assert_eq!(refused.status.code(), Some(2), "{}", said(&refused));
        assert!(said(&refused).contains(name) && said(&refused).contains("save it as UTF-8"), "{}", said(&refused));
    }
}

#[test]
fn a_volume_whose_name_looks_like_a_version_is_reached() {
    let bench = Bench::new();
    bench.appstack("X", 4096);
    let odd = bench.appstack("X@20261128T040000Z-000001", 8192);
    let config = bench.config_file(0, "");
    for (volume, bytes) in [("appstack/X".to_owned(), "4096"), (odd.to_string(), "8192")] {
        let copied = under("true", &config, &["--output", "json", "copy", &volume]);
        assert_eq!(copied.status.code(), Some(0), "{}", said(&copied));
        let to = bench.dir.path().join(bytes);
        for args in [&["verify", &volume][..], &["restore", &volume, "--to", to.to_str().unwrap()]] {
            let done = under("true", &config, args);
            assert_eq!(done.status.code(), Some(0), "{args:?}: {}", said(&done));
        }
        let extent = names(&to).into_iter().find(|name| name.ends_with("-flat.vmdk")).unwrap();
        assert_eq!(std::fs::metadata(to.join(extent)).unwrap().len().to_string(), bytes);
    }
}

#[test]
fn paths_that_lie_in_each_other_start_no_service() {
    let bench = Bench::new();
    let more = format!("[restore]\nroots = [\"{}\"]\n", bench.dir.path().display());
    let config = bench.config_file(0, &more);
    let checked = under("true", &config, &["check", "--config-only"]);
    assert_ne!(checked.status.code(), Some(0), "{}", said(&checked));
    assert!(said(&checked).contains("lies in the restore root"), "{}", said(&checked));
    let refused = under("true", &config, &["run"]);
    assert_eq!(refused.status.code(), Some(2), "{}", said(&refused));
    assert!(said(&refused).contains("bad_config"), "{}", said(&refused));
}
