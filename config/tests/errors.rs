//! What an administrator reads when something is wrong: the text, the place and the advice.

use std::error::Error;
use std::fmt::Write;
use std::path::Path;

use proptest::prelude::*;
use stackferry_config::{Config, ConfigError, Overrides};

const VALID_KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGZha2Vmb3J0ZXN0c2Zha2Vmb3J0ZXN0c2Zha2Vm";
const ROUTES: &str = include_str!("routes.toml");
const DESIGN: &str = include_str!("design.toml");

/// Wrong configurations, each with one thing wrong.
const CASES: &[(&str, &str)] = &[
    ("a syntax error", "state_dir = \"/x\"\n[vault\npath = \"/y\""),
    ("a text that does not end", "[vault]\npath = \"/srv"),
    ("a key twice", "[vault]\npath = \"/a\"\npath = \"/b\""),
    ("a misspelt key in a list", "[[datastore]]\nname = \"a\"\nroute = \"local\"\n    pth = \"/mnt\""),
    ("a misspelt table", "[limit]\ntransfers = 3"),
    ("a key that is far from any", "[vault]\npath = \"/a\"\ncolour = 1"),
    ("a key in the wrong place", "transfers = 3"),
    ("a strange key", "\"a\\u001b[31m b\" = 3"),
    ("a misspelt kind", "[schedule.writables]\nmax_age = \"1d\""),
    ("a misspelt key behind wide letters", "[vault]\npath = \"/äöü\"\n[http]\ntls = { cert = \"/ä€𝄞\", kye = \"/k\" }"),
    ("a text for a number", "[limits]\ntransfers = \"two\""),
    ("a number for a text", "[schedule]\nevery = 5"),
    ("a time without quotes", "[schedule]\nwindows = [22:00:00]"),
    ("a fraction", "[limits]\nper_host = 1.5"),
    ("a list for a text", "[vault]\npath = [\"/a\"]"),
    ("a text for a list", "[restore]\nroots = \"/srv/restore\""),
    ("a table for a list of tables", "[datastore]\nname = \"a\""),
    ("too many transfers", "[limits]\ntransfers = 65"),
    ("no transfers", "[limits]\ntransfers = 0"),
    ("a negative number", "[retention]\nlast = -1"),
    ("an enormous number", "[retention]\nlast = 99999999999999999999"),
    ("a wrong port", "[[datastore]]\nname = \"a\"\nroute = \"esxi\"\nvsphere = \"v\"\nssh_port = 70000"),
    ("port 0", "[[datastore]]\nname = \"a\"\nroute = \"esxi\"\nvsphere = \"v\"\nssh_port = 0"),
    ("a misspelt word", "[metrics]\nper_volume = \"problem\""),
    ("an unknown word", "[[datastore]]\nname = \"a\"\nroute = \"nfs\""),
    ("a vault kind of the future", "[vault]\nkind = \"packed\"\npath = \"/v\""),
    ("a missing key of a table", "[vault]\nreserve = \"5%\""),
    ("a missing key of a list", "[[datastore]]\nroute = \"local\"\npath = \"/x\""),
    ("a missing key inside of a line", "[http]\ntls = { cert = \"/c\" }"),
    ("a wrong length of time", "[schedule]\nevery = \"5 minutes\""),
    ("a wrong length of time for one kind", "[schedule.image]\nmax_age = \"1 day\""),
    ("a wrong size", "[limits]\nmemory = \"96M\""),
    ("a wrong rate", "[limits]\nbandwidth = \"1Gbit/s\""),
    ("too slow a rate", "[limits]\nbandwidth = \"1kB/s\""),
    ("a wrong reserve", "[vault]\npath = \"/v\"\nreserve = \"95%\""),
    ("a wrong window", "[schedule]\nwindows = [\"08:00-09:00\", \"22-6\"]"),
    ("a relative vault", "[vault]\npath = \"srv/stackferry\""),
    ("a relative state folder", "state_dir = \"state\""),
    ("a relative root", "[restore]\nroots = [\"/a\", \"b\"]"),
    ("an absolute folder", "[[datastore]]\nname = \"a\"\nroute = \"local\"\npath = \"/x\"\nfolders = [\"a\", \"/b\"]"),
    (
        "a folder that leaves",
        "[[datastore]]\nname = \"a\"\nroute = \"local\"\npath = \"/x\"\nfolders = [{ path = \"a/../b\", kind = \"image\" }]",
    ),
    (
        "a folder of no kind",
        "[[datastore]]\nname = \"a\"\nroute = \"local\"\npath = \"/x\"\nfolders = [{ path = \"b\", kind = \"disk\" }]",
    ),
    ("a folder twice", "[[datastore]]\nname = \"a\"\nroute = \"local\"\npath = \"/x\"\nfolders = [\"b\", \"b\"]"),
    ("no folder", "[[datastore]]\nname = \"a\"\nroute = \"local\"\npath = \"/x\"\nfolders = []"),
    ("a wrong host", "[[datastore]]\nname = \"a\"\nroute = \"ssh\"\nhost = \"fe80::1\""),
    ("a wrong listener", "[http]\nlisten = \"localhost:80\""),
    (
        "a wrong fingerprint",
        "[[vsphere]]\nname = \"v\"\nurl = \"https://v\"\nusername = \"u\"\npassword = { env = \"V\" }\nfingerprint = \"sha256:12:34\"",
    ),
    ("plain http", "[[vsphere]]\nname = \"v\"\nurl = \"http://v\"\nusername = \"u\"\npassword = { env = \"V\" }"),
    ("a password", "[[vsphere]]\nname = \"v\"\nurl = \"https://v\"\nusername = \"u\"\npassword = \"tulip\""),
    (
        "a password in a table",
        "[[vsphere]]\nname = \"v\"\nurl = \"https://v\"\nusername = \"u\"\n[vsphere.password]\nsecret = \"tulip\"",
    ),
    (
        "a command as one text",
        "[[vsphere]]\nname = \"v\"\nurl = \"https://v\"\nusername = \"u\"\npassword = { command = \"echo tulip\" }",
    ),
    (
        "two references",
        "[[vsphere]]\nname = \"v\"\nurl = \"https://v\"\nusername = \"u\"\npassword = { env = \"V\", file = \"/v\" }",
    ),
    (
        "a password in an address",
        "[[vsphere]]\nname = \"v\"\nurl = \"https://u:tulip@v\"\nusername = \"u\"\npassword = { env = \"V\" }",
    ),
    ("a password in the catalog's address", "catalog = \"postgres://u:tulip@db/x\""),
    ("a catalog password without catalog", "catalog_password = { env = \"X\" }"),
    ("local without path", "[[datastore]]\nname = \"a\"\nroute = \"local\""),
    ("a key of another route", "[[datastore]]\nname = \"a\"\nroute = \"local\"\npath = \"/x\"\nuser = \"backup\""),
    ("an endpoint with path", "[[datastore]]\nname = \"a\"\nroute = \"endpoint\"\nhost = \"h\"\npath = \"/x\""),
    ("an endpoint without trust", "[[datastore]]\nname = \"a\"\nroute = \"endpoint\"\nhost = \"h\"\nkey = \"/k\""),
    (
        "ssh without user",
        "[[datastore]]\nname = \"a\"\nroute = \"ssh\"\nhost = \"h\"\nknown_hosts = \"/k\"\npath = \"/x\"\nca_key = \"/c\"",
    ),
    (
        "a source address that is a name",
        "[[datastore]]\nname = \"a\"\nroute = \"ssh\"\nsource_address = \"nat.example.com\"",
    ),
    (
        "a source address with bits beyond its length",
        "[[datastore]]\nname = \"a\"\nroute = \"ssh\"\nsource_address = \"192.0.2.7/24\"",
    ),
    ("a source address for an endpoint", "[[datastore]]\nname = \"a\"\nroute = \"endpoint\"\nsource_address = \"any\""),
    (
        "esxi by account without known_hosts",
        "[[datastore]]\nname = \"a\"\nroute = \"esxi\"\nvsphere = \"v\"\naccess = \"account\"",
    ),
    ("esxi without vsphere", "[[datastore]]\nname = \"a\"\nroute = \"esxi\""),
    (
        "an unknown vsphere",
        "[[datastore]]\nname = \"a\"\nroute = \"esxi\"\nvsphere = \"vc2\"\n[[vsphere]]\nname = \"vc1\"\nurl = \"https://v\"\nusername = \"u\"\npassword = { env = \"V\" }",
    ),
    (
        "a vsphere of another site",
        "[[datastore]]\nname = \"a\"\nsite = \"one\"\nroute = \"esxi\"\nvsphere = \"v\"\n[[vsphere]]\nname = \"v\"\nsite = \"two\"\nurl = \"https://v\"\nusername = \"u\"\npassword = { env = \"V\" }",
    ),
    (
        "a datastore twice",
        "[[datastore]]\nname = \"a\"\nroute = \"local\"\npath = \"/x\"\n\n[[datastore]]\nname = \"a\"\nroute = \"local\"\npath = \"/y\"",
    ),
    (
        "several sites and one without",
        "[[datastore]]\nname = \"a\"\nsite = \"one\"\nroute = \"local\"\npath = \"/x\"\n[[datastore]]\nname = \"b\"\nsite = \"two\"\nroute = \"local\"\npath = \"/y\"\n[[datastore]]\nname = \"c\"\nroute = \"local\"\npath = \"/z\"",
    ),
    ("an empty site", "[[datastore]]\nname = \"a\"\nsite = \"\"\nroute = \"local\"\npath = \"/x\""),
    (
        "the vault in a datastore",
        "[vault]\npath = \"/mnt/a/vault\"\n[[datastore]]\nname = \"a\"\nroute = \"local\"\npath = \"/mnt/a\"",
    ),
    (
        "a datastore in the vault",
        "[vault]\npath = \"/srv\"\n[[datastore]]\nname = \"a\"\nroute = \"local\"\npath = \"/srv/a\"",
    ),
    (
        "the vault in a served datastore",
        "[vault]\npath = \"/export/a\"\n[serve]\nissuers = [\"KEY\"]\ndatastores = { a = \"/export/a\" }",
    ),
    ("the API in the open", "[http]\nlisten = \"0.0.0.0:9812\""),
    ("discovery without a pause", "[schedule.package]\nevery = \"0s\""),
    ("retention of nothing", "[retention]\nlast = 0"),
    ("retention of nothing for one kind", "[retention]\nlast = 3\n[retention.writable]\nlast = 0"),
    ("too little memory", "[limits]\nmemory = \"1MiB\""),
    ("an endpoint for nobody", "[serve]\nissuers = []\ndatastores = { a = \"/a\" }"),
    ("an endpoint of nothing", "[serve]\nissuers = [\"KEY\"]\ndatastores = {}"),
    ("a wrong issuer", "[serve]\nissuers = [\"KEY\", \"tulip\"]\ndatastores = { a = \"/a\" }"),
    (
        "a private key as issuer",
        "[serve]\nissuers = [\"-----BEGIN OPENSSH PRIVATE KEY----- tulip\"]\ndatastores = { a = \"/a\" }",
    ),
    ("a relative served path", "[serve]\nissuers = [\"KEY\"]\ndatastores = { a = \"a\" }"),
    (
        "restoring to what is not served",
        "[serve]\nissuers = [\"KEY\"]\ndatastores = { nfs01 = \"/a\" }\nrestore = [\"nfs02\"]",
    ),
    ("a webhook without an address", "[notify.webhook]\ntoken = { env = \"T\" }"),
    ("a webhook with two addresses", "[notify.webhook]\nurl = \"https://h\"\nsecret_url = { env = \"U\" }"),
    ("a webhook over plain http", "[notify.webhook]\nurl = \"http://hooks.example.com/x\""),
    ("a webhook address with its secret", "[notify.webhook]\nurl = \"https://h/x?sig=tulip\""),
    ("a webhook token in plain text", "[notify.webhook]\nurl = \"https://h\"\ntoken = \"tulip\""),
    (
        "mail without encryption",
        "[notify.mail]\nserver = \"mail.example.com\"\nfrom = \"a@b\"\nto = [\"c@d\"]\ntls = \"none\"",
    ),
    (
        "a misspelt encryption",
        "[notify.mail]\nserver = \"mail.example.com\"\nfrom = \"a@b\"\nto = [\"c@d\"]\ntls = \"startls\"",
    ),
    (
        "mail with a user and no password",
        "[notify.mail]\nserver = \"mail.example.com\"\nfrom = \"a@b\"\nto = [\"c@d\"]\nuser = \"u\"",
    ),
    (
        "mail with a password and no user",
        "[notify.mail]\nserver = \"mail.example.com\"\nfrom = \"a@b\"\nto = [\"c@d\"]\npassword = { env = \"P\" }",
    ),
    ("mail to nobody", "[notify.mail]\nserver = \"mail.example.com\"\nfrom = \"a@b\"\nto = []\n"),
    ("mail to a name", "[notify.mail]\nserver = \"mail.example.com\"\nfrom = \"a@b\"\nto = [\"Team <c@d>\"]\n"),
    ("mail to two lines", "[notify.mail]\nserver = \"mail.example.com\"\nfrom = \"a@b\"\nto = [\"c@d\\nBcc: x@y\"]\n"),
    (
        "a digest at no time of day",
        "[notify.mail]\nserver = \"mail.example.com\"\nfrom = \"a@b\"\nto = [\"c@d\"]\nat = \"24:00\"",
    ),
    (
        "two trusts for mail",
        "[notify.mail]\nserver = \"mail.example.com\"\nfrom = \"a@b\"\nto = [\"c@d\"]\nca = \"/c\"\nfingerprint = \"sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08\"",
    ),
];

fn parse(text: &str) -> Result<Config, ConfigError> {
    Config::parse(&text.replace("KEY\"", &format!("{VALID_KEY}\"")), Path::new("/etc/x.toml"), &Overrides::none())
}

#[test]
fn errors_say_what_is_wrong_where_and_what_to_do() {
    let mut told = String::new();
    for (name, text) in CASES {
        let error = parse(text).err().map(|error| {
            assert!(error.source().is_none() || !error.to_string().contains(&error.source().unwrap().to_string()));
            assert!(!format!("{error:?}").contains("tulip"), "{name} leaks");
            format!("{error}\n    about: {}", error.subject().unwrap_or("-"))
        });
        writeln!(told, "{name}\n    {}\n", error.as_deref().unwrap_or("TAKEN AS RIGHT")).unwrap();
    }
    assert!(!told.contains("TAKEN AS RIGHT"), "{told}");
    insta::assert_snapshot!("errors", told);
}

#[test]
fn an_error_has_its_parts() {
    let error = parse("[[datastore]]\nname = \"nfs01\"\nroute = \"local\"\n  pth = \"/mnt\"").unwrap_err();
    assert_eq!(error.path(), Some(Path::new("/etc/x.toml")));
    assert_eq!((error.line(), error.column()), (Some(4), Some(3)));
    assert_eq!(error.subject(), Some("datastore[nfs01].pth"));
    assert_eq!(error.hint(), Some("did you mean `path`?"));
    assert_eq!(error.to_string(), "/etc/x.toml:4:3: unknown key `pth` in [[datastore]]; did you mean `path`?");
}

#[test]
fn a_file_that_is_missing_or_no_configuration() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("none.toml");
    let error = Config::load(&path, &Overrides::none()).unwrap_err();
    let text = error.to_string();
    assert!(matches!(error, ConfigError::Missing { .. }));
    assert!(text.contains(path.to_str().unwrap()) && text.contains("--config") && text.contains("STACKFERRY_CONFIG"));

    let error = Config::load(folder.path(), &Overrides::none()).unwrap_err();
    assert!(matches!(error, ConfigError::Read { .. }), "{error}");
    assert!(error.source().is_some());

    std::fs::write(&path, [0xff, 0xfe, 0x00]).unwrap();
    assert!(matches!(Config::load(&path, &Overrides::none()), Err(ConfigError::Encoding { .. })));

    std::fs::write(&path, vec![b'#'; usize::try_from(stackferry_config::MAX_FILE).unwrap() + 1]).unwrap();
    assert!(matches!(Config::load(&path, &Overrides::none()), Err(ConfigError::TooLarge { .. })));
}

#[test]
fn what_a_command_needs_is_told_when_it_is_missing() {
    let config = parse("").unwrap();
    let error = config.vault().unwrap_err();
    assert_eq!(error.subject(), Some("vault"));
    insta::assert_snapshot!(error, @r#"the configuration has no [vault]; add [vault] with path = "/srv/stackferry", the folder where versions are to live"#);
    assert_eq!(config.serve().unwrap_err().subject(), Some("serve"));
    assert!(config.host_key().is_err());
}

#[test]
fn an_endpoint_needs_nothing_but_its_own_table() {
    let config = parse(
        "state_dir = \"/srv/state\"\n[serve]\nissuers = [\"KEY\"]\ndatastores = { a = \"/a\" }\nrestore = [\"a\"]",
    );
    let config = config.unwrap();
    assert_eq!(config.serve().unwrap().listen.to_string(), "0.0.0.0:2222");
    assert_eq!(config.host_key().unwrap(), Path::new("/srv/state/host_key"));
}

/// What is nested without end is refused, and neither the parser nor the checks overflow the stack.
#[test]
fn depth_is_limited() {
    const DEEP: usize = 100_000;
    for text in [
        format!("a = {}", "[".repeat(DEEP)),
        format!("a = {}{}", "[".repeat(DEEP), "]".repeat(DEEP)),
        format!("a = {}1{}", "{ a = ".repeat(DEEP), " }".repeat(DEEP)),
        format!("a{} = 1", ".a".repeat(DEEP)),
        format!("[a{}]\n", ".a".repeat(DEEP)),
        format!("[[a{}]]\n", ".a".repeat(DEEP)),
    ] {
        assert!(text.parse::<Config>().is_err());
    }
}

/// A whole configuration with one place spoilt.
fn spoilt() -> impl Strategy<Value = String> {
    let cut = (prop_oneof![Just(DESIGN), Just(ROUTES)], any::<prop::sample::Index>(), 0_usize..12, ".{0,6}");
    cut.prop_map(|(text, at, length, instead)| {
        let mut chars: Vec<char> = text.chars().collect();
        let start = at.index(chars.len());
        let end = (start + length).min(chars.len());
        chars.splice(start..end, instead.chars());
        chars.into_iter().collect()
    })
}

proptest! {
    /// Whatever is spoilt: no panic, and an error points into the text.
    #[test]
    fn a_spoilt_configuration_gives_an_error_with_a_place(text in spoilt()) {
        match text.parse::<Config>() {
            Ok(config) => {
                let shown = config.show().unwrap();
                prop_assert_eq!(shown.parse::<Config>().unwrap(), config);
            }
            Err(error) => {
                let lines: Vec<&str> = text.split('\n').collect();
                if let (Some(line), Some(column)) = (error.line(), error.column()) {
                    prop_assert!(line <= lines.len(), "{} of {}: {}", line, lines.len(), error);
                    prop_assert!(column <= lines[line - 1].chars().count() + 1, "{}", error);
                }
            }
        }
    }

    #[test]
    fn any_text_is_taken_or_refused(text in ".{0,200}") {
        let _ = text.parse::<Config>();
    }
}
