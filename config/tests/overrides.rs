//! Flags go before the environment, and that before the file.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;

use stackferry_config::{Config, ConfigError, KindKey, Origin, Overrides, SecretRef};

const FILE: &str = "state_dir = \"/file\"\n[vault]\npath = \"/vault\"\n[limits]\ntransfers = 3\nper_host = 4\n";

fn environment(variables: &[(&str, &str)]) -> Overrides {
    Overrides::none().environment(variables.iter().map(|(name, value)| (OsString::from(name), OsString::from(value))))
}

fn parse(text: &str, overrides: &Overrides) -> Result<Config, ConfigError> {
    Config::parse(text, Path::new("/etc/x.toml"), overrides)
}

#[test]
fn flags_before_environment_before_file() {
    let variables = [("STACKFERRY_LIMITS__TRANSFERS", "5"), ("STACKFERRY_LIMITS__PER_HOST", "6"), ("HOME", "/root")];
    let overrides = environment(&variables).flag("--transfers", "limits.transfers", "7");
    let config = parse(FILE, &overrides).unwrap();
    assert_eq!((config.limits.transfers, config.limits.per_host), (7, 6));
    assert_eq!(config.state_dir.as_ref(), Path::new("/file"));
    assert_eq!(config.vault().unwrap().path.as_ref(), Path::new("/vault"));
}

#[test]
fn a_table_that_is_not_in_the_file_is_made() {
    let variables = [
        ("STACKFERRY_VAULT__PATH", "/srv/v"),
        ("STACKFERRY_SCHEDULE__WRITABLE__MAX_AGE", "2d"),
        ("STACKFERRY_STATE_DIR", "/env"),
    ];
    let config = parse("", &environment(&variables)).unwrap();
    assert_eq!(config.vault().unwrap().path.as_ref(), Path::new("/srv/v"));
    assert_eq!(config.schedule.of(KindKey::Writable).max_age.unwrap().as_seconds(), 2 * 86_400);
    assert_eq!(config.state_dir.as_ref(), Path::new("/env"));
}

#[test]
fn a_value_is_toml_where_the_key_takes_it_and_text_elsewhere() {
    let variables = [
        ("STACKFERRY_VAULT__GROUP", "100"),
        ("STACKFERRY_VAULT__READ_BACK", "true"),
        ("STACKFERRY_LIMITS__MEMORY", "33554432"),
        ("STACKFERRY_LIMITS__BANDWIDTH", "\"2MiB/s\""),
        ("STACKFERRY_SCHEDULE__WINDOWS", "[\"01:00-02:00\", '03:00-04:00']"),
        ("STACKFERRY_HTTP__TLS", "{ cert = \"/c\", key = \"/k\" }"),
        ("STACKFERRY_CATALOG", "postgres://db/x"),
        ("STACKFERRY_CATALOG_PASSWORD", "{ credential = \"db\" }"),
        ("STACKFERRY_DATASTORE", "[{ name = \"a\", route = \"local\", path = \"/mnt/a\" }]"),
    ];
    let config = parse(FILE, &environment(&variables)).unwrap();
    let vault = config.vault().unwrap();
    assert_eq!(vault.group.as_ref().unwrap().as_str(), "100");
    assert!(vault.read_back);
    assert_eq!(config.limits.memory.as_bytes(), 32 << 20);
    assert_eq!(config.limits.bandwidth.unwrap().as_bytes_per_second(), 2 << 20);
    assert_eq!(config.schedule.windows.len(), 2);
    assert_eq!(config.http.tls.as_ref().unwrap().cert.as_ref(), Path::new("/c"));
    assert_eq!(config.catalog_password, Some(SecretRef::Credential("db".to_owned())));
    assert_eq!(config.datastores.len(), 1);
}

#[test]
fn names_that_are_used_elsewhere_are_left_alone() {
    let variables = [
        ("STACKFERRY_CONFIG", "/x"),
        ("STACKFERRY_OUTPUT", "json"),
        ("STACKFERRY_LOG", "debug"),
        ("STACKFERRY_LAB_VCENTER", "1"),
        ("STACKFERRY_TEST_ANYTHING", "1"),
        ("STACKFERRY", "1"),
        ("stackferry_state_dir", "/lower"),
    ];
    let config = parse(FILE, &environment(&variables)).unwrap();
    assert_eq!(config, parse(FILE, &Overrides::none()).unwrap());
}

#[test]
fn a_variable_that_holds_a_password_is_no_setting() {
    let entry = "[[vsphere]]\nname = \"v\"\nurl = \"https://v\"\nusername = \"u\"\n";
    let text = format!("{entry}password = {{ env = \"STACKFERRY_VC_PASSWORD\" }}");
    let variables = [("STACKFERRY_VC_PASSWORD", "tulip")];
    assert!(parse(&text, &environment(&variables)).is_ok());
    let other = format!("{entry}password = {{ env = \"VC\" }}");
    let error = parse(&other, &environment(&variables)).unwrap_err();
    assert!(!format!("{error} {error:?}").contains("tulip"), "{error}");
}

#[test]
fn the_same_environment_gives_the_same_whatever_its_order() {
    let one = [("STACKFERRY_HTTP", "{ listen = \"127.0.0.1:1\" }"), ("STACKFERRY_HTTP__LISTEN", "127.0.0.1:2")];
    let other = [one[1], one[0]];
    let config = parse("", &environment(&one)).unwrap();
    assert_eq!(config.http.listen.to_string(), "127.0.0.1:2", "the key goes before its table");
    assert_eq!(parse("", &environment(&other)).unwrap(), config);
}

#[test]
fn errors_name_the_variable_or_flag_and_never_its_value() {
    let mut told = String::new();
    for (name, value) in [
        ("STACKFERRY_LIMITS__TRANSFER", "tulip"),
        ("STACKFERRY_LIMIT__TRANSFERS", "tulip"),
        ("STACKFERRY_VAULT_PATH", "/tulip"),
        ("STACKFERRY_", "tulip"),
        ("STACKFERRY_SOMETHING_ELSE", "tulip"),
        ("STACKFERRY_APP_VOLUMES__PASSWORD", "tulip"),
        ("STACKFERRY_DATASTORE__0__NAME", "tulip"),
        ("STACKFERRY_SERVE__DATASTORES__NFS01", "/tulip"),
        ("STACKFERRY_LIMITS__TRANSFERS__X", "tulip"),
        ("STACKFERRY_LIMITS__TRANSFERS", "tulip"),
        ("STACKFERRY_LIMITS__TRANSFERS", "100"),
        ("STACKFERRY_LIMITS", "tulip"),
        ("STACKFERRY_CATALOG_PASSWORD", "tulip"),
        ("STACKFERRY_CATALOG_PASSWORD", "{ tulip = \"tulip\" }"),
        ("STACKFERRY_CATALOG", "postgres://u:tulip@db/x"),
        ("STACKFERRY_HTTP__LISTEN", "0.0.0.0:80"),
        ("STACKFERRY_DATASTORE", "[{ name = \"a\", route = \"local\" }]"),
        ("STACKFERRY_RETENTION__LAST", ""),
    ] {
        let error = parse(FILE, &environment(&[(name, value)])).unwrap_err();
        assert!(!format!("{error} {error:?}").contains("tulip"), "{error:?}");
        assert!(
            matches!(&error, ConfigError::Invalid(invalid) if *invalid.origin() == Origin::Variable(name.to_owned()))
        );
        assert_eq!((error.line(), error.path()), (None, None));
        told.push_str(&format!("{error}\n"));
    }
    let flags = [
        ("--transfers", "limits.transfers", "x"),
        ("--no-such", "limits.no_such", "1"),
        ("--vault", "vault.path", "x"),
    ];
    for (option, key, value) in flags {
        let error = parse(FILE, &Overrides::none().flag(option, key, value)).unwrap_err();
        told.push_str(&format!("{error}\n"));
    }
    let inside = parse("limits = 3", &environment(&[("STACKFERRY_LIMITS__TRANSFERS", "1")])).unwrap_err();
    told.push_str(&format!("{inside}\n"));
    insta::assert_snapshot!("overrides", told);
}

#[test]
fn an_error_in_the_file_keeps_its_place_beside_overrides() {
    let text = format!("{FILE}bandwidth = \"x\"\n");
    let error = parse(&text, &environment(&[("STACKFERRY_STATE_DIR", "/env")])).unwrap_err();
    assert_eq!((error.line(), error.column()), (Some(7), Some(13)), "{error}");
    // At the very end of the text, next to where the variables' places begin.
    let error = parse("[vault]\npath =", &environment(&[("STACKFERRY_STATE_DIR", "/env")])).unwrap_err();
    assert_eq!(error.line(), Some(2), "{error}");
}

#[test]
fn bytes_that_are_no_text_are_refused() {
    let bad = OsString::from_vec(vec![b'x', 0xff]);
    let overrides = Overrides::none().environment([(OsString::from("STACKFERRY_STATE_DIR"), bad.clone())]);
    assert!(parse("", &overrides).unwrap_err().to_string().contains("STACKFERRY_STATE_DIR"));
    let mut name = OsString::from("STACKFERRY_");
    name.push(&bad);
    assert!(parse("", &Overrides::none().environment([(name, OsString::from("1"))])).is_err());
    // Another program's variable is nobody's business here.
    assert!(parse("", &Overrides::none().environment([(bad.clone(), bad)])).is_ok());
}

#[test]
fn overrides_print_names_only() {
    let overrides = environment(&[("STACKFERRY_CATALOG", "tulip")]).flag("--catalog", "catalog", "tulip");
    let printed = format!("{overrides:?}");
    assert!(printed.contains("STACKFERRY_CATALOG") && printed.contains("--catalog") && !printed.contains("tulip"));
}
