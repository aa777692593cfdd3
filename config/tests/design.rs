//! The example configuration of the design, in the shape that is promised to stay.
#![allow(clippy::panic, clippy::unwrap_used, reason = "a helper that fails fails its test")]

use std::path::Path;
use std::time::Duration;

use stackferry_config::{
    Config, DayTime, DigestWhen, EsxiAccess, HostTrust, KindKey, Mail, MailTls, Notify, Overrides, PerVolume,
    ReserveSetting, Route, SecretRef, Site, SourceAddress, VaultKind, Webhook,
};

fn load(name: &str) -> Config {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    Config::load(&path, &Overrides::none()).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn every_key_of_the_design_arrives() {
    let config = load("tests/design.toml");
    assert_eq!(config.state_dir.as_ref(), Path::new("/var/lib/stackferry"));

    let vault = config.vault().unwrap();
    assert_eq!(vault.kind, VaultKind::Plain);
    assert_eq!(vault.path.as_ref(), Path::new("/srv/stackferry"));
    assert_eq!(vault.group.as_ref().unwrap().as_str(), "backup");
    assert_eq!(vault.reserve, ReserveSetting::percent(5).unwrap());
    assert_eq!(vault.lock.unwrap().duration(), Duration::from_secs(14 * 86_400));
    assert!(!vault.read_back && !vault.immutable);

    let names: Vec<&str> = config.datastores.iter().map(|datastore| datastore.name.as_str()).collect();
    assert_eq!(names, ["nfs01", "nfs02", "nfs03", "vmfs01"]);
    assert!(config.datastores.iter().all(|datastore| datastore.site.as_str() == "dc1"), "the only site is inherited");
    let site: Site = "dc1".parse().unwrap();

    let nfs01 = config.datastore(&site, "nfs01").unwrap();
    let Route::Local(local) = &nfs01.route else { panic!("{nfs01:?}") };
    assert_eq!(local.path.as_ref(), Path::new("/mnt/nfs01"));
    let folders: Vec<&str> = nfs01.folders.iter().map(|folder| folder.path.as_str()).collect();
    assert_eq!(folders, ["cloudvolumes/apps", "appvolumes/packages"]);

    let nfs02 = config.datastore(&site, "nfs02").unwrap();
    let Route::Endpoint(endpoint) = &nfs02.route else { panic!("{nfs02:?}") };
    assert_eq!((endpoint.host.host.as_str(), endpoint.host.port), ("stor2.example.com", 2222));
    assert!(matches!(&endpoint.trust, HostTrust::Key(key) if key.as_str().starts_with("ssh-ed25519 AAAA")));
    assert_eq!(endpoint.key.as_ref(), Path::new("/etc/stackferry/service_key"));
    let folders: Vec<&str> = nfs02.folders.iter().map(|folder| folder.path.as_str()).collect();
    let defaults = ["cloudvolumes/apps", "appvolumes/packages", "cloudvolumes/writable", "appvolumes/writables"];
    assert_eq!(folders, defaults);

    let nfs03 = config.datastore(&site, "nfs03").unwrap();
    let Route::Ssh(ssh) = &nfs03.route else { panic!("{nfs03:?}") };
    assert_eq!(ssh.host.to_string(), "openfiler.example.com:22");
    assert_eq!(ssh.user.as_str(), "backup");
    assert_eq!(ssh.path.as_ref(), Path::new("/mnt/nfs03"));
    assert!(matches!(&ssh.trust, HostTrust::KnownHosts(file) if file.ends_with("known_hosts")));
    assert_eq!(ssh.ca_key.as_ref(), Path::new("/etc/stackferry/user_ca"));
    assert_eq!(ssh.source_address, SourceAddress::Connection);

    let vmfs01 = config.datastore(&site, "vmfs01").unwrap();
    let Route::Esxi(esxi) = &vmfs01.route else { panic!("{vmfs01:?}") };
    assert_eq!((esxi.vsphere.as_str(), esxi.access, esxi.ssh_port), ("vc1", EsxiAccess::Ticket, 22));
    assert!(esxi.known_hosts.is_some());

    let manager = &config.app_volumes[0];
    assert_eq!((manager.name.as_str(), manager.username.as_str()), ("avm1", "CORP\\svc-stackferry"));
    assert!(!manager.guard);
    assert_eq!(manager.url.as_str(), "https://avm.example.com");
    assert!(matches!(&manager.password, SecretRef::File(path) if path.ends_with("avm.pass")));
    assert_eq!(manager.ca.as_deref(), Some(Path::new("/etc/stackferry/avm-ca.pem")));

    let vsphere = config.vsphere(&"vc1".parse().unwrap()).unwrap();
    assert_eq!(vsphere.password, SecretRef::Credential("vc1".to_owned()));
    assert_eq!(<[u8; 32]>::from(vsphere.fingerprint.unwrap())[..2], [0x9f, 0x86]);

    for kind in KindKey::ALL {
        let plan = config.schedule.of(kind);
        assert_eq!(plan.every.as_seconds(), 300);
        assert!(plan.settle.is_zero());
        assert_eq!(plan.windows[0].to_string(), "22:00-06:00");
        let max_age = (kind == KindKey::Writable).then_some(86_400);
        assert_eq!(plan.max_age.map(|age| age.as_seconds()), max_age, "{kind}");
        let keep = config.retention.of(kind).unwrap();
        assert_eq!((keep.last, keep.daily, keep.weekly, keep.monthly, keep.yearly), (7, 14, 8, 12, 0));
    }
    assert_eq!(config.verify.every.as_seconds(), 30 * 86_400);
    assert_eq!(config.verify.restore_test.as_seconds(), 30 * 86_400);
    assert_eq!(config.restore.roots[0].as_ref(), Path::new("/srv/restore"));
    assert_eq!(config.metrics.per_volume, PerVolume::All);
    assert_eq!((config.limits.transfers, config.limits.per_host), (2, 1));
    assert_eq!(config.limits.bandwidth.unwrap().as_bytes_per_second(), 200_000_000);
    assert_eq!(config.limits.memory.as_bytes(), 96 << 20);
    assert_eq!(config.http.listen.to_string(), "127.0.0.1:9812");
    assert!(config.http.tls.is_none());

    let serve = config.serve().unwrap();
    assert_eq!(serve.listen.to_string(), "0.0.0.0:2222");
    assert_eq!(serve.issuers.len(), 1);
    assert_eq!(serve.datastores[&"nfs02".parse().unwrap()].as_ref(), Path::new("/export/nfs02"));
    assert!(serve.restore.is_empty());
    assert_eq!(config.host_key().unwrap(), Path::new("/var/lib/stackferry/host_key"));
}

#[test]
fn what_is_shown_is_the_same_configuration() {
    for name in ["tests/design.toml", "tests/routes.toml", "examples/stackferry.toml"] {
        let config = load(name);
        let shown = config.show().unwrap();
        let again: Config = shown.parse().unwrap_or_else(|error| panic!("{error}\n{shown}"));
        assert_eq!(again, config, "{name}\n{shown}");
        assert_eq!(again.show().unwrap(), shown);
    }
}

#[test]
fn the_example_for_administrators_loads_and_says_the_defaults() {
    let config = load("examples/stackferry.toml");
    let defaults: Config = "".parse().unwrap();
    assert_eq!(config.state_dir, defaults.state_dir);
    assert_eq!(config.schedule, defaults.schedule);
    assert_eq!(config.verify, defaults.verify);
    assert_eq!(config.history, defaults.history);
    assert_eq!(config.metrics, defaults.metrics);
    assert_eq!(config.limits, defaults.limits);
    assert_eq!(config.http, defaults.http);
    assert!(config.notify.is_off() && config.notify == defaults.notify);
    assert!(config.vault().is_ok());
}

/// What is commented out in the example must be right too: an administrator only takes the `#` away.
#[test]
fn each_commented_part_of_the_example_is_right() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/stackferry.toml");
    let text = std::fs::read_to_string(path).unwrap();
    let uncommented: String = text
        .lines()
        .map(|line| {
            line.strip_prefix('#').filter(|rest| !rest.starts_with([' ', '#']) && !rest.is_empty()).unwrap_or(line)
        })
        .map(|line| format!("{line}\n"))
        .collect();
    assert_ne!(uncommented, text);
    let config: Config = uncommented.parse().unwrap_or_else(|error| panic!("{error}\n{uncommented}"));
    assert_eq!(config.datastores.len(), 4, "all four routes");
    assert_eq!(config.app_volumes.len(), 1);
    assert_eq!(config.vspheres.len(), 1);
    assert!(config.http.tls.is_some());
    assert!(config.serve().is_ok());
    assert!(config.catalog.is_some() && config.catalog_password.is_some());
    assert_eq!(config.notify, notify());
}

/// What the example says of notifications: beside secrets and addresses, the defaults.
fn notify() -> Notify {
    let file = |path: &str| SecretRef::File(path.parse().unwrap());
    Notify {
        webhook: Some(Webhook {
            url: None,
            secret_url: Some(file("/etc/stackferry/webhook.url")),
            token: Some(file("/etc/stackferry/webhook.token")),
            ca: None,
            fingerprint: None,
            at: None,
            when: DigestWhen::Always,
        }),
        mail: Some(Mail {
            server: "mail.example.com:587".parse().unwrap(),
            tls: MailTls::Starttls,
            ca: None,
            fingerprint: None,
            user: Some("stackferry".parse().unwrap()),
            password: Some(file("/etc/stackferry/mail.pass")),
            from: "stackferry@example.com".parse().unwrap(),
            to: vec!["vdi-team@example.com".parse().unwrap()],
            each: true,
            at: DayTime::default(),
            when: DigestWhen::Always,
        }),
        ..Notify::default()
    }
}

#[test]
fn a_minimal_mail_section_has_the_defaults() {
    let text = "[notify.mail]\nserver = \"mail.example.com\"\nfrom = \"a@b\"\nto = [\"c@d\"]";
    for (more, port) in [("", 587), ("tls = \"starttls\"", 587), ("tls = \"tls\"", 465)] {
        let config: Config = format!("{text}\n{more}").parse().unwrap();
        let mail = config.notify.mail.as_ref().unwrap();
        assert_eq!((mail.address().port, mail.each, mail.at.to_string().as_str()), (port, true, "07:00"), "{more}");
        assert!(!config.notify.is_off());
    }
    let local: Config = format!("{}\ntls = \"none\"", text.replace("mail.example.com", "[::1]")).parse().unwrap();
    assert_eq!(local.notify.mail.unwrap().address().to_string(), "[::1]:25");
}
