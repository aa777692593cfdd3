use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use super::*;

fn parse(toml: &str) -> Result<SecretRef, toml::de::Error> {
    #[derive(Deserialize)]
    struct Holder {
        password: SecretRef,
    }
    toml::from_str::<Holder>(toml).map(|holder| holder.password)
}

fn command(argv: &[&str]) -> SecretRef {
    SecretRef::Command(argv.iter().map(|part| (*part).to_owned()).collect())
}

/// A file with these bytes and permissions.
fn file_with(bytes: &[u8], mode: u32) -> (tempfile::TempDir, SecretRef) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("secret");
    std::fs::write(&path, bytes).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
    let reference = SecretRef::File(path.to_str().unwrap().parse().unwrap());
    (folder, reference)
}

#[test]
fn a_file_gives_its_text_without_one_newline() {
    for (bytes, secret) in [
        (&b"tulip"[..], "tulip"),
        (b"tulip\n", "tulip"),
        (b"tulip\r\n", "tulip"),
        (b"tulip\n\n", "tulip\n"),
        (b" tulip ", " tulip "),
    ] {
        let (_folder, reference) = file_with(bytes, 0o640);
        assert_eq!(reference.resolve().unwrap().expose(), secret);
    }
}

#[test]
fn a_file_open_to_everybody_is_refused_with_its_fix() {
    for mode in [0o604, 0o602, 0o601, 0o644] {
        let (_folder, reference) = file_with(b"tulip", mode);
        let error = reference.resolve().unwrap_err();
        assert!(matches!(error, SecretError::OpenToAll { mode: found, .. } if found == mode), "{error}");
        assert!(error.hint().contains("chmod o-rwx"), "{}", error.hint());
    }
}

#[test]
fn what_is_no_secret_is_refused() {
    let (_folder, empty) = file_with(b"\n", 0o600);
    assert!(matches!(empty.resolve(), Err(SecretError::Empty { .. })));
    let (_folder, binary) = file_with(b"\xff\xfe", 0o600);
    assert!(matches!(binary.resolve(), Err(SecretError::NotText { .. })));
    let (_folder, long) = file_with(&vec![b'x'; MAX_SECRET + 1], 0o600);
    assert!(matches!(long.resolve(), Err(SecretError::TooLong { .. })));
    let (_folder, longest) = file_with(&vec![b'x'; MAX_SECRET], 0o600);
    assert_eq!(longest.resolve().unwrap().expose().len(), MAX_SECRET);
    let folder = tempfile::tempdir().unwrap();
    let folder_itself = SecretRef::File(folder.path().to_str().unwrap().parse().unwrap());
    assert!(matches!(folder_itself.resolve(), Err(SecretError::NotAFile { .. })));
    let missing = SecretRef::File("/nowhere/at/all".parse().unwrap());
    assert!(matches!(missing.resolve(), Err(SecretError::Open { .. })));
}

#[test]
fn a_pipe_without_a_writer_does_not_block() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pipe");
    rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, rustix::fs::Mode::from_raw_mode(0o600), 0)
        .unwrap();
    let reference = SecretRef::File(path.to_str().unwrap().parse().unwrap());
    assert!(matches!(reference.resolve(), Err(SecretError::NotAFile { .. })));
}

#[test]
fn a_credential_lies_in_systemds_folder() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("avm"), "tulip\n").unwrap();
    let directory = folder.path().as_os_str().to_owned();
    let reference = parse("password = { credential = 'avm' }").unwrap();
    let environment = |name: &str| (name == CREDENTIALS_DIRECTORY).then(|| directory.clone());
    assert_eq!(reference.resolve_with(&environment).unwrap().expose(), "tulip");
    assert!(matches!(reference.resolve_with(&|_| None), Err(SecretError::NoCredentials { .. })));
}

#[test]
fn a_variable_is_read_by_its_name() {
    let reference = parse("password = { env = 'AVM' }").unwrap();
    let environment = |name: &str| (name == "AVM").then(|| OsString::from("tulip"));
    assert_eq!(reference.resolve_with(&environment).unwrap().expose(), "tulip");
    assert!(matches!(reference.resolve_with(&|_| None), Err(SecretError::NoVariable { .. })));
}

#[test]
fn a_command_runs_without_a_shell() {
    let reference = command(&["printf", "%s\\n", "$HOME; tulip"]);
    assert_eq!(reference.resolve().unwrap().expose(), "$HOME; tulip");
}

#[test]
fn a_command_that_fails_is_told_without_its_output() {
    let error = command(&["sh", "-c", "echo tulip; echo tulip >&2; exit 3"]).resolve().unwrap_err();
    assert!(matches!(error, SecretError::Failed { .. }), "{error}");
    assert!(!format!("{error} {error:?} {}", error.hint()).contains("tulip"));
    assert!(matches!(command(&["/no/such/program"]).resolve(), Err(SecretError::Run { .. })));
    assert!(matches!(command(&["true"]).resolve(), Err(SecretError::Empty { .. })));
}

#[test]
fn a_command_that_prints_without_end_is_stopped() {
    assert!(matches!(command(&["yes", "tulip"]).resolve(), Err(SecretError::TooLong { .. })));
}

#[test]
fn a_command_that_hangs_is_killed_with_its_children() {
    let folder = tempfile::tempdir().unwrap();
    let pid_file = folder.path().join("pid");
    // The grandchild holds the pipe open; the child waits for it.
    let script = format!("sleep 600 & echo $! > '{}'; wait", pid_file.display());
    let argv = ["sh", "-c", &script].map(str::to_owned);
    let error = command::run(&argv, Duration::from_secs(1)).unwrap_err();
    assert!(matches!(error, SecretError::Late { .. }), "{error}");
    let pid = std::fs::read_to_string(&pid_file).unwrap();
    let status = format!("/proc/{}/stat", pid.trim());
    let deadline = Instant::now() + Duration::from_secs(10);
    // A killed orphan is gone, or a zombie until its new parent fetches it.
    while std::fs::read_to_string(&status).is_ok_and(|stat| !stat.contains(") Z ")) {
        assert!(Instant::now() < deadline, "the grandchild still runs");
        std::thread::yield_now();
    }
}

#[test]
fn a_helper_that_leaves_a_daemon_behind_is_not_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("pipe");
    // The daemon keeps the command's stdout open and ends when the test opens the other end of the named pipe.
    let script = format!("mkfifo '{0}'; (read line < '{0}') & echo tulip", pipe.display());
    let secret = command(&["sh", "-c", &script]).resolve().unwrap();
    assert_eq!(secret.expose(), "tulip");
    std::fs::write(&pipe, "end\n").unwrap();
}

#[test]
fn a_bare_password_is_refused_and_never_repeated() {
    for toml in [
        "password = 'tulip'",
        "password = 7771234",
        "password = { file = 'tulip' }",
        "password = { file = ['tulip'] }",
        "password = { tulip = 'tulip' }",
        "password = { command = 'echo tulip' }",
        "password = { command = [7771234] }",
        "password = { command = [] }",
        "password = { credential = '../tulip' }",
        "password = { credential = '..' }",
        "password = { env = 'tulip=7771234' }",
        "password = { file = '/a', env = 'tulip' }",
        "password = {}",
    ] {
        let message = parse(toml).unwrap_err().message().to_owned();
        assert!(!message.contains("tulip") && !message.contains("7771234"), "{toml}: {message}");
    }
    assert!(parse("password = 'x'").unwrap_err().message().contains("passwords are given by reference: { file = "));
}

#[test]
fn a_secret_prints_as_such() {
    let secret = Secret::new("tulip".to_owned());
    assert_eq!(format!("{secret} {secret:?} {secret:#?}"), "<secret> <secret> <secret>");
}

#[test]
fn a_reference_is_written_as_it_is_read() {
    #[derive(Serialize)]
    struct Holder {
        password: SecretRef,
    }
    for reference in [
        SecretRef::File("/etc/x".parse().unwrap()),
        SecretRef::Credential("avm".to_owned()),
        command(&["pass", "show", "avm"]),
        SecretRef::Env("AVM".to_owned()),
    ] {
        let toml = toml::to_string(&Holder { password: reference.clone() }).unwrap();
        assert_eq!(parse(&toml).unwrap(), reference, "{toml}");
    }
}
