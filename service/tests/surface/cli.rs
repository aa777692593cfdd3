//! The command line: its help, what it refuses, and how.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use clap::CommandFactory;
use stackferry_config::{Config, Overrides};
use stackferry_problem::Exit;
use stackferry_problem::output::OutputFormat;
use stackferry_service::cli::{AuditCommand, Cli, Command, Stop, completions, man};

fn read_with(arguments: &[&str], environment: Option<&str>) -> Result<Cli, Stop> {
    let arguments = ["stackferry"].iter().chain(arguments).map(OsString::from);
    Cli::read_from(arguments, environment.map(OsStr::new))
}

fn read(arguments: &[&str]) -> Cli {
    read_with(arguments, None).unwrap_or_else(|stop| panic!("{arguments:?}: {stop:?}"))
}

#[test]
fn help() {
    fn paths(command: &clap::Command, path: &[String], all: &mut Vec<Vec<String>>) {
        all.push(path.to_vec());
        for command in command.get_subcommands().filter(|command| command.get_name() != "help") {
            paths(command, &[path, &[command.get_name().to_owned()]].concat(), all);
        }
    }
    let mut all = Vec::new();
    paths(&Cli::command(), &["stackferry".to_owned()], &mut all);
    let mut text = String::new();
    for path in all {
        let arguments = path.iter().map(String::as_str).chain(["--help"]);
        let help = Cli::command().term_width(100).try_get_matches_from(arguments).unwrap_err();
        text.push_str(&format!("===== {} --help\n{}\n", path.join(" "), help.render()));
    }
    assert!(text.lines().all(|line| line.chars().count() <= 120), "a line is too long for a terminal");
    insta::assert_snapshot!(text);
}

#[test]
fn the_description_holds_together() {
    Cli::command().debug_assert();
}

#[test]
fn options_and_targets_are_read() {
    let cli = read(&["copy", r"CORP\jdoe", "--if-changed", "--wait", "1h30m", "--output", "json", "-vv"]);
    assert_eq!((cli.global.output, cli.global.verbose, cli.global.quiet), (OutputFormat::Json, 2, false));
    assert_eq!(cli.global.config, PathBuf::from("/etc/stackferry/stackferry.toml"));
    let Command::Copy { volume, if_changed: true, wait } = cli.command else { panic!("{:?}", cli.command) };
    assert_eq!((volume.as_str(), wait.as_seconds()), (r"CORP\jdoe", 5400));

    let Command::Copy { wait, if_changed: false, .. } = read(&["copy", "x"]).command else { panic!() };
    assert_eq!(wait.as_seconds(), 60);
    let Command::Grant { life, file: None, .. } = read(&["grant", "x"]).command else { panic!() };
    assert_eq!(life.as_seconds(), 600);

    let restore = read(&["restore", "jdoe@corp.example@20261122T041500Z-3", "--to", "/srv/r"]);
    let Command::Restore { target, to, overwrite: false } = restore.command else { panic!() };
    assert_eq!((target.volume.as_str(), to), ("jdoe@corp.example", PathBuf::from("/srv/r")));
    assert_eq!(target.version.as_ref().unwrap().to_string(), "20261122T041500Z-3");
    assert_eq!(target.to_string(), "jdoe@corp.example@20261122T041500Z-3");

    let Command::Verify { target: Some(target) } = read(&["verify", "image/a@0011aabb"]).command else { panic!() };
    assert_eq!((target.volume.as_str(), target.version), ("image/a@0011aabb", None));
    assert!(matches!(read(&["verify"]).command, Command::Verify { target: None }));

    let Command::Pin { target, note } = read(&["pin", "appstack/Office@20261122T041500Z-3"]).command else { panic!() };
    assert_eq!((target.volume.as_str(), note.as_str()), ("appstack/Office", ""));
    assert!(matches!(read(&["audit", "show", "--last", "5"]).command, Command::Audit(AuditCommand::Show { last: 5 })));
    assert!(read(&["run", "--once"]).command.is_service());
    assert!(!read(&["volumes"]).command.is_service());
}

#[test]
fn the_state_folder_goes_before_file_and_environment() {
    let state_dir = |arguments: &[&str]| {
        // The second is of the log, and no setting.
        let environment = [("STACKFERRY_STATE_DIR", "/from/environment"), ("STACKFERRY_LOG_FORMAT", "json")];
        let environment = environment.map(|(name, value)| (OsString::from(name), OsString::from(value)));
        let overrides: Overrides = read(arguments).global.overrides(environment);
        let text = "state_dir = '/from/file'\n";
        let config = Config::parse(text, &PathBuf::from("x.toml"), &overrides).unwrap();
        config.state_dir.to_string()
    };
    assert_eq!(state_dir(&["volumes", "--state-dir", "/from/option"]), "/from/option");
    assert_eq!(state_dir(&["volumes"]), "/from/environment");
}

/// Each with its message as a person sees it, and as a script does.
#[test]
fn mistakes() {
    let mut text = String::new();
    for arguments in [
        &[][..],
        &["frobnicate"],
        &["copie", "x"],
        &["copy"],
        &["copy", ""],
        &["copy", "x", "--wait", "soon"],
        &["copy", "x", "--iff-changed"],
        &["restore", "x"],
        &["grant", "x", "--for", "0s"],
        &["pin", "appstack/Office"],
        &["audit", "show", "--last", "0"],
        &["volumes", "-q", "-v"],
        &["volumes", "--output", "yaml"],
        &["completions", "tcsh"],
    ] {
        let told = read_with(arguments, None).unwrap_err();
        assert_eq!(told.exit(), Exit::Usage, "{arguments:?}");
        let Stop::Text(error) = told else { panic!("{arguments:?}: {told:?}") };
        text.push_str(&format!("$ stackferry {}\n{}", arguments.join(" "), error.render()));
        let told = read_with(arguments, Some("json")).unwrap_err();
        assert_eq!(told.exit(), Exit::Usage, "{arguments:?}");
        let Stop::Json(problem) = told else { panic!("{arguments:?}: {told:?}") };
        let json = problem.to_json();
        assert!(!json.contains('\n') && problem.code == "usage", "{json}");
        text.push_str(&format!("{json}\n\n"));
    }
    insta::assert_snapshot!(text);
}

#[test]
fn a_mistake_is_told_in_the_format_that_was_asked_for() {
    let is_json =
        |arguments: &[&str], environment| matches!(read_with(arguments, environment).unwrap_err(), Stop::Json(_));
    assert!(is_json(&["--output", "json", "copy"], None));
    assert!(is_json(&["copy", "--output=json"], None));
    assert!(is_json(&["copy"], Some("json")));
    assert!(!is_json(&["copy", "--output", "table"], Some("json")));
    assert!(!is_json(&["copy", "--output"], None));
    assert!(!is_json(&["copy", "--", "x", "--output=json"], None), "that is no option");
    assert!(!is_json(&["copy"], None));
}

#[test]
fn help_and_version_are_no_mistakes() {
    for arguments in [&["--help"][..], &["copy", "--help"], &["help", "copy"], &["--version"]] {
        let stop = read_with(arguments, Some("json")).unwrap_err();
        assert_eq!(stop.exit(), Exit::Done, "{arguments:?}");
        assert!(matches!(stop, Stop::Text(_)));
    }
}

#[test]
fn the_version_says_what_it_was_built_from() {
    let text = |argument: &str| match read_with(&[argument], None).unwrap_err() {
        Stop::Text(text) => text.to_string(),
        _ => panic!("{argument} is refused"),
    };
    let short = text("-V");
    assert_eq!(short.trim_end(), format!("stackferry {}", env!("CARGO_PKG_VERSION")));
    let long = text("--version");
    let rest = long.trim_end().strip_prefix(short.trim_end()).unwrap();
    let (revision, rustc) = rest.strip_prefix(" (revision ").unwrap().split_once(", rustc ").unwrap();
    assert!(revision == "unknown" || revision.len() == 12 && revision.chars().all(|c| c.is_ascii_hexdigit()), "{long}");
    assert!(rustc.starts_with("1.") && rustc.ends_with(')') && !long.trim_end().contains('\n'), "{long}");
    // Built from a checkout, it knows from which.
    if std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../.git").exists() {
        assert_ne!(revision, "unknown");
    }
}

#[test]
fn completions_and_pages_know_the_commands() {
    for shell in ["bash", "zsh", "fish"] {
        let Command::Completions { shell } = read(&["completions", shell]).command else { panic!() };
        let mut script = Vec::new();
        completions(shell, &mut script).unwrap();
        let script = String::from_utf8(script).unwrap();
        assert!(script.contains("rebuild") && script.contains("if-changed"), "{script}");
    }
    let mut page = Vec::new();
    man(None, &mut page).unwrap();
    let page = String::from_utf8(page).unwrap();
    assert!(page.contains(".TH stackferry") && page.contains("Exit codes"), "{page}");

    let dir = tempfile::tempdir().unwrap();
    man(Some(&dir.path().join("man1")), &mut Vec::new()).unwrap();
    let page = std::fs::read_to_string(dir.path().join("man1/stackferry-restore.1")).unwrap();
    assert!(page.contains("overwrite"), "{page}");
}
