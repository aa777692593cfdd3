//! Fills in what depends on other keys, and checks what several keys say together.

use std::collections::BTreeSet;

use crate::load::near::nearest;
use crate::load::place::{Issue, PathStep};
use crate::model::{Config, KindKey, Limits, Mail, MailTls, Route, Schedule};
use crate::value::{AbsPath, Name, Site, check_key_line};

/// Completes and checks a configuration that has the right shape.
pub(crate) fn complete(mut config: Config) -> Result<Config, Issue> {
    sites(&mut config)?;
    config.schedule.writable.max_age.get_or_insert(Schedule::WRITABLE_MAX_AGE);
    catalog(&config)?;
    systems(&config)?;
    datastores(&config)?;
    vault(&config)?;
    schedule(&config)?;
    retention(&config)?;
    restore(&config)?;
    limits(&config)?;
    http(&config)?;
    serve(&config)?;
    notify(&config)?;
    Ok(config)
}

/// The path of a key, from keys and places in lists.
macro_rules! path {
    ($($step:expr),+ $(,)?) => { vec![$(PathStep::from($step)),+] };
}

impl From<&str> for PathStep {
    fn from(key: &str) -> Self {
        Self::key(key)
    }
}

impl From<usize> for PathStep {
    fn from(at: usize) -> Self {
        Self::Item(at)
    }
}

/// An entry that names no site belongs to the only one there is.
fn sites(config: &mut Config) -> Result<(), Issue> {
    let entries = config
        .datastores
        .iter_mut()
        .map(|entry| &mut entry.site)
        .enumerate()
        .map(|(at, site)| ("datastore", at, site))
        .chain(config.app_volumes.iter_mut().enumerate().map(|(at, entry)| ("app_volumes", at, &mut entry.site)))
        .chain(config.vspheres.iter_mut().enumerate().map(|(at, entry)| ("vsphere", at, &mut entry.site)));
    let entries: Vec<_> = entries.collect();
    let named: BTreeSet<Site> =
        entries.iter().filter(|(_, _, site)| !site.is_unset()).map(|(_, _, site)| (**site).clone()).collect();
    let only = match named.len() {
        0 => Some(Site::only()),
        1 => named.first().cloned(),
        _ => None,
    };
    for (list, at, site) in entries {
        if site.is_unset() {
            *site = only.clone().ok_or_else(|| {
                let names: Vec<String> = named.iter().map(|site| format!("\"{site}\"")).collect();
                Issue::at(path![list, at], format!("this [[{list}]] names no site, and there are several"))
                    .with_hint(format!("add site = one of {}", names.join(", ")))
            })?;
        }
    }
    Ok(())
}

fn catalog(config: &Config) -> Result<(), Issue> {
    if config.catalog_password.is_some() && config.catalog.is_none() {
        return Err(Issue::at(path!["catalog_password"], "`catalog_password` is given without `catalog`")
            .with_hint("SQLite takes no password: remove it, or name the PostgreSQL database"));
    }
    Ok(())
}

fn unique<'a>(list: &str, names: impl Iterator<Item = &'a Name>) -> Result<(), Issue> {
    let mut seen = BTreeSet::new();
    for (at, name) in names.enumerate() {
        if !seen.insert(name) {
            return Err(Issue::at(path![list, at, "name"], format!("there are two [[{list}]] named \"{name}\""))
                .with_hint("give each a name of its own"));
        }
    }
    Ok(())
}

fn systems(config: &Config) -> Result<(), Issue> {
    unique("app_volumes", config.app_volumes.iter().map(|entry| &entry.name))?;
    unique("vsphere", config.vspheres.iter().map(|entry| &entry.name))?;
    let managers = config
        .app_volumes
        .iter()
        .enumerate()
        .map(|(at, entry)| ("app_volumes", at, &entry.url, entry.ca.is_some(), entry.fingerprint.is_some()));
    let vspheres = config
        .vspheres
        .iter()
        .enumerate()
        .map(|(at, entry)| ("vsphere", at, &entry.url, entry.ca.is_some(), entry.fingerprint.is_some()));
    for (list, at, url, has_ca, has_fingerprint) in managers.chain(vspheres) {
        if has_ca && has_fingerprint {
            return Err(Issue::at(path![list, at, "fingerprint"], "`ca` and `fingerprint` are both given")
                .with_hint("keep the one that is to decide"));
        }
        if !url.is_https() && (has_ca || has_fingerprint) {
            return Err(Issue::at(path![list, at, "url"], "a certificate is given, but the address is plain http")
                .with_hint("write https://"));
        }
    }
    Ok(())
}

fn datastores(config: &Config) -> Result<(), Issue> {
    let mut seen = BTreeSet::new();
    for (at, datastore) in config.datastores.iter().enumerate() {
        if !seen.insert((&datastore.site, &datastore.name)) {
            let text =
                format!("there are two [[datastore]] named \"{}\" in site \"{}\"", datastore.name, datastore.site);
            return Err(
                Issue::at(path!["datastore", at, "name"], text).with_hint("join them, or give them different sites")
            );
        }
        let Route::Esxi(route) = &datastore.route else { continue };
        let Some(vsphere) = config.vsphere(&route.vsphere) else {
            let names = config.vspheres.iter().map(|entry| entry.name.as_str());
            let hint = match nearest(&route.vsphere, names.clone()) {
                Some(near) => format!("did you mean \"{near}\"?"),
                None => "add [[vsphere]] with this name".to_owned(),
            };
            return Err(Issue::at(
                path!["datastore", at, "vsphere"],
                format!("there is no [[vsphere]] named \"{}\"", route.vsphere),
            )
            .with_hint(hint));
        };
        if vsphere.site != datastore.site {
            let text = format!(
                "[[vsphere]] \"{}\" belongs to site \"{}\", this datastore to \"{}\"",
                vsphere.name, vsphere.site, datastore.site
            );
            return Err(Issue::at(path!["datastore", at, "vsphere"], text).with_hint("give both the same site"));
        }
    }
    Ok(())
}

/// A vault in a datastore would be found as volumes and copied into itself; a datastore in the vault would be kept as one.
fn vault(config: &Config) -> Result<(), Issue> {
    let Some(vault) = &config.vault else { return Ok(()) };
    let mounted = config.datastores.iter().filter_map(|datastore| match &datastore.route {
        Route::Local(route) => Some((&datastore.name, &route.path)),
        Route::Endpoint(_) | Route::Ssh(_) | Route::Esxi(_) => None,
    });
    let served = config.serve.iter().flat_map(|serve| serve.datastores.iter());
    for (name, path) in mounted.chain(served) {
        if vault.path.overlaps(path) {
            return Err(Issue::at(path!["vault", "path"], said(&vault.path, name, path))
                .with_hint("choose a folder that holds nothing else"));
        }
    }
    Ok(())
}

fn said(vault: &AbsPath, name: &Name, path: &AbsPath) -> String {
    if vault.starts_with(path) {
        format!("the vault {vault} lies inside of datastore \"{name}\" ({path})")
    } else {
        format!("datastore \"{name}\" ({path}) lies inside of the vault {vault}")
    }
}

fn restore(config: &Config) -> Result<(), Issue> {
    for (at, name) in config.restore.datastores.iter().enumerate() {
        if !config.datastores.iter().any(|datastore| datastore.name == *name) {
            let text = format!("no [[datastore]] is named \"{name}\"");
            return Err(Issue::at(path!["restore", "datastores", at], text).with_hint("name one of the configuration"));
        }
    }
    Ok(())
}

fn schedule(config: &Config) -> Result<(), Issue> {
    let too_often = |path: Vec<PathStep>| {
        Issue::at(path, "discovery cannot run without a pause").with_hint("take at least \"1s\", usually \"5m\"")
    };
    if config.schedule.every.is_zero() {
        return Err(too_often(path!["schedule", "every"]));
    }
    for kind in KindKey::ALL {
        if config.schedule.keys(kind).every.is_some_and(|every| every.is_zero()) {
            return Err(too_often(path!["schedule", kind.as_str(), "every"]));
        }
    }
    Ok(())
}

fn retention(config: &Config) -> Result<(), Issue> {
    for kind in KindKey::ALL {
        if config.retention.of(kind).is_some_and(|keep| keep.keeps_nothing()) {
            return Err(Issue::at(
                path!["retention", kind.as_str()],
                format!("retention keeps no version of kind `{kind}`"),
            )
            .with_hint("set at least last = 1, or leave [retention] out to keep all"));
        }
    }
    Ok(())
}

fn limits(config: &Config) -> Result<(), Issue> {
    if config.limits.memory < Limits::MIN_MEMORY {
        return Err(Issue::at(path!["limits", "memory"], format!("memory {} is too small", config.limits.memory))
            .with_hint(format!("take at least \"{}\"", Limits::MIN_MEMORY)));
    }
    Ok(())
}

/// Tokens travel over this address, so it is encrypted wherever another machine can listen.
fn http(config: &Config) -> Result<(), Issue> {
    if config.http.listen.is_loopback() || config.http.tls.is_some() {
        return Ok(());
    }
    Err(Issue::at(path!["http", "listen"], format!("{} is open to other machines without TLS", config.http.listen))
        .with_hint("add tls = { cert = \"…\", key = \"…\" }, or listen on \"127.0.0.1:9812\""))
}

fn serve(config: &Config) -> Result<(), Issue> {
    let Some(serve) = &config.serve else { return Ok(()) };
    if serve.issuers.is_empty() {
        return Err(Issue::at(path!["serve", "issuers"], "nobody may ask this endpoint for credentials")
            .with_hint("add the public key of the service's own key"));
    }
    for (at, line) in serve.issuers.iter().enumerate() {
        check_key_line(line)
            .map_err(|error| Issue::at(path!["serve", "issuers", at], error.text()).with_hint(error.hint()))?;
    }
    if serve.datastores.is_empty() {
        return Err(Issue::at(path!["serve", "datastores"], "this endpoint serves no datastore")
            .with_hint("add one, as datastores = { nfs02 = \"/export/nfs02\" }"));
    }
    for (at, name) in serve.restore.iter().enumerate() {
        if !serve.datastores.contains_key(name) {
            let hint = match nearest(name, serve.datastores.keys().map(Name::as_str)) {
                Some(near) => format!("did you mean \"{near}\"?"),
                None => "name one of [serve] datastores".to_owned(),
            };
            return Err(
                Issue::at(path!["serve", "restore", at], format!("\"{name}\" is not served here")).with_hint(hint)
            );
        }
    }
    Ok(())
}

/// Messages name volumes and their owners, and logins send a password: neither travels where another machine can listen.
fn notify(config: &Config) -> Result<(), Issue> {
    let both = |table: &str| {
        Issue::at(path!["notify", table, "fingerprint"], "`ca` and `fingerprint` are both given")
            .with_hint("keep the one that is to decide")
    };
    if let Some(webhook) = &config.notify.webhook {
        match (&webhook.url, &webhook.secret_url) {
            (Some(_), Some(_)) => {
                return Err(Issue::at(path!["notify", "webhook", "secret_url"], "the address is given twice")
                    .with_hint("keep `url`, or `secret_url` where whoever knows the address may post there"));
            }
            (None, None) => {
                return Err(Issue::at(path!["notify", "webhook"], "the webhook has no address").with_hint(
                    "add url = \"https://…\", or secret_url = { file = \"…\" } where the address itself is a secret",
                ));
            }
            _ => {}
        }
        if webhook.ca.is_some() && webhook.fingerprint.is_some() {
            return Err(both("webhook"));
        }
        if webhook.url.as_ref().is_some_and(|url| !url.is_https())
            && (webhook.ca.is_some() || webhook.fingerprint.is_some())
        {
            let text = "a certificate is given, but the address is plain http";
            return Err(Issue::at(path!["notify", "webhook", "url"], text).with_hint("write https://"));
        }
    }
    let Some(mail) = &config.notify.mail else { return Ok(()) };
    let issue = |key: &str, text: &str, hint: &str| {
        Err(Issue::at(path!["notify", "mail", key], text.to_owned()).with_hint(hint.to_owned()))
    };
    if mail.ca.is_some() && mail.fingerprint.is_some() {
        return Err(both("mail"));
    }
    if mail.tls == MailTls::None {
        if !mail.server.is_loopback() {
            let text = format!("mail to {} would go over the network without encryption", mail.server);
            return issue("tls", &text, "take \"starttls\" or \"tls\"; \"none\" is for a mail server on this machine");
        }
        if mail.ca.is_some() || mail.fingerprint.is_some() {
            return issue("tls", "a certificate is given, but the connection is not encrypted", "take \"starttls\"");
        }
    }
    match (&mail.user, &mail.password) {
        (Some(_), None) => {
            return issue("user", "`user` is given without `password`", "add password = { file = \"…\" }");
        }
        (None, Some(_)) => return issue("password", "`password` is given without `user`", "add user = \"…\""),
        _ => {}
    }
    match mail.to.len() {
        0 => issue("to", "nobody gets the mail", "add an address, as to = [\"vdi@example.com\"]"),
        1..=Mail::MOST_TO => Ok(()),
        _ => issue("to", "there are more than 50 addresses", "name a mailing list of your mail server"),
    }
}
