//! Requests that are generated from the OpenAPI document, valid and not, alone and in sequences that follow from each other.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;
use stackferry_tests::lab::RunningProcess;
use stackferry_tests::tools::{find, have};
use stackferry_web::api::ROUTES;

use crate::raw::{request, send};
use crate::setup::{LIMIT, Setup};

/// The generator: as `tests/run` sets it up below cargo's target folder, or the machine's own.
fn generator() -> Option<PathBuf> {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
    let own = target.join("tools/schemathesis/bin/schemathesis");
    own.is_file().then_some(own).or_else(|| find("schemathesis"))
}

/// One run of the generator as the bearer of a token. Every answer is held to all of its checks: no fault of the server, the
/// status, type and shape that the description tells, bad data refused, good data taken, no way past the token.
fn generate(setup: &Setup, program: &Path, role: &str, token: &str, cases: u32) {
    let folder = setup.lab.path(&format!("generated-{role}"));
    fs::create_dir(&folder).unwrap();
    // Names of what there is, so that not everything ends with 404.
    let version = setup.version("appstack/Office");
    let within = setup.root.join("a");
    let texts = json!([
        "appstack/Office",
        "Office",
        "R%20!26! @x",
        "CORP!5C!jdoe",
        "nfs01",
        version,
        within.to_str().unwrap(),
        "/",
        "..",
        ".",
        "1",
    ]);
    // Which folders may be restored to is more than the description can say.
    let config = format!(
        "[auth.openapi.token]\nbearer = \"${{STACKFERRY_TEST_TOKEN}}\"\n\
         [dictionaries.texts]\nvalues = {texts}\n\
         [dictionaries.kinds]\nvalues = [\"appstack\", \"writable\"]\n\
         [dictionaries.stems]\nvalues = [\"Office\", \"R%20!26! @x\", \"CORP!5C!jdoe\"]\n\
         [generation.dictionaries]\nstring = {{ dictionary = \"texts\", probability = 0.3 }}\n\
         [parameters]\n\"path.kind\" = {{ dictionary = \"kinds\", probability = 0.7 }}\n\
         \"path.stem\" = {{ dictionary = \"stems\", probability = 0.7 }}\n\
         \"path.version\" = {{ dictionary = \"versions\", probability = 0.7 }}\n\
         [dictionaries.versions]\nvalues = [\"{version}\"]\n\
         [[operations]]\ninclude-path = \"/api/v1/volumes/{{kind}}/{{stem}}/restore\"\n\
         checks.positive_data_acceptance.enabled = false\n"
    );
    let (status, document) = send(setup, &request(token, "GET", b"/api/v1/openapi.json", "", b""));
    assert_eq!(status, 200, "{document}");
    fs::write(folder.join("openapi.json"), document.split_once("\r\n\r\n").unwrap().1).unwrap();
    let file = folder.join("schemathesis.toml");
    fs::write(&file, config).unwrap();
    let mut command = Command::new(program);
    command
        .arg("--config-file")
        .arg(&file)
        .args(["run", "--no-color", "--seed", "1", "--workers", "1", "--continue-on-failure", "--no-shrink"])
        .args(["--generation-database", "none", "--request-timeout", "30", "--suppress-health-check", "all"])
        .args(["--phases", "examples,coverage,fuzzing,stateful"])
        .args(["--max-examples", &cases.to_string()])
        // Its answer has no end; `raw` reads it.
        .args(["--exclude-path", "/api/v1/events"])
        .args(["--url", &format!("http://{}", setup.address), "openapi.json"])
        .env("STACKFERRY_TEST_TOKEN", token)
        .env("LC_ALL", "C.UTF-8")
        .env("HOME", &folder)
        .env("NO_PROXY", "127.0.0.1")
        .current_dir(&folder);
    let answer = RunningProcess::start(format!("schemathesis as {role}"), command).unwrap().wait(LIMIT).unwrap();
    eprintln!("as {role}: {:.1} s", answer.seconds);
    assert_eq!(answer.code, 0, "as {role}: {}\n{}", answer.stdout, answer.stderr);
    let tested = format!("{} selected / {} total", ROUTES.len() - 1, ROUTES.len());
    assert!(answer.stdout.contains(&tested), "{}", answer.stdout);
    let made = answer.stdout.lines().find_map(|line| line.trim().split_once(" generated, ")?.0.parse::<u32>().ok());
    assert!(made > Some(300), "{}", answer.stdout);
}

#[test]
fn no_request_of_the_api_description_fails_the_service() {
    let program = generator();
    if !have(program.is_some(), "schemathesis (tests/run sets it up)").unwrap() {
        return;
    }
    let program = program.unwrap();
    let setup = Setup::new();
    let roles = [("viewer", 2), ("operator", 2), ("admin", 12)];
    let tokens = roles.map(|(role, _)| setup.token(role));
    for ((role, cases), token) in roles.into_iter().zip(&tokens) {
        generate(&setup, &program, role, token, cases);
    }
    setup.must_be_unharmed(&tokens.each_ref().map(String::as_str));
}
