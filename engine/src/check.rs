//! Tries everything that the configuration names, and says for each what works and what to do about what does not.

use std::path::Path;

use jiff::Timestamp;
use stackferry_config::{AppVolumes, Config, EsxiAccess, Route, SecretRef};
use stackferry_vault::Vault;
use stackferry_volume::local::LocalFolder;
use stackferry_volume::{Entry, Folder as _, Kind};

use super::{path_conflicts, probe};
use crate::app::{App, catalog_path};
use crate::blocking::blocking;
use stackferry_problem::{Code, Problem};

/// One thing that was tried.
#[derive(Debug)]
pub struct CheckResult {
    /// What: a part of the configuration.
    pub subject: String,
    /// What works, or what is wrong.
    pub result: Result<String, Problem>,
}

impl CheckResult {
    /// What was tried, and what came of it.
    pub fn new(subject: impl Into<String>, result: Result<impl Into<String>, Problem>) -> Self {
        Self { subject: subject.into(), result: result.map(Into::into) }
    }
}

/// What can be tried without asking anybody: secrets resolve, key files can be used.
#[must_use]
pub fn local(config: &Config) -> Vec<CheckResult> {
    let mut findings = vec![CheckResult::new("configuration", Ok("it can be read, and every value is in its range"))];
    match path_conflicts::contradictions(config) {
        problems if problems.is_empty() => findings.push(CheckResult::new("paths", Ok("none lies where it must not"))),
        problems => {
            findings.extend(problems.into_iter().map(|problem| CheckResult::new("paths", Err::<String, _>(problem))))
        }
    }
    let secrets = config.app_volumes.iter().map(|one| (format!("password of app_volumes {}", one.name), &one.password));
    let secrets =
        secrets.chain(config.vspheres.iter().map(|one| (format!("password of vsphere {}", one.name), &one.password)));
    findings.extend(secrets.map(|(subject, secret)| CheckResult::new(subject, resolve(secret))));
    for datastore in &config.datastores {
        if let stackferry_config::Route::Endpoint(endpoint) = &datastore.route {
            findings.push(CheckResult::new(format!("key of datastore {}", datastore.name), key(&endpoint.key)));
        }
    }
    if let Ok(serve) = config.serve() {
        for (at, line) in serve.issuers.iter().enumerate() {
            let parsed = stackferry_transfer::endpoint::issuer::parse(line)
                .map(|issuer| format!("{} may ask for credentials", issuer.name));
            let bad = |why| {
                Problem::new(Code::BadConfig, why).hint("write a line as in authorized_keys: ssh-ed25519 AAAA… name")
            };
            findings.push(CheckResult::new(format!("serve.issuers, line {}", at + 1), parsed.map_err(bad)));
        }
    }
    findings
}

fn resolve(secret: &SecretRef) -> Result<&'static str, Problem> {
    secret.resolve()?;
    Ok("it is there")
}

fn key(path: &Path) -> Result<String, Problem> {
    let key = stackferry_transfer::ssh::load_key(path)?;
    let fingerprint = stackferry_transfer::ssh::public_line(&key);
    Ok(format!("it can be used; its public half is: {fingerprint}"))
}

/// What needs the catalog, the vault and other systems: those, the datastores, the endpoint's own folders.
pub async fn reachable(app: &App) -> Vec<CheckResult> {
    app.try_refused_again();
    let mut findings = Vec::new();
    findings.push(CheckResult::new("catalog", catalog(app).await));
    if app.config().serve().is_err() || app.config().vault().is_ok() {
        findings.push(CheckResult::new("vault", vault(app).await));
    }
    findings.extend(systems(app).await);
    // What they tell names folders of the datastores, too.
    let told = app.ask_systems().await;
    for (datastore, near) in told.unknown_datastores(app.config()) {
        let name = &datastore.name;
        let message =
            format!("no App Volumes Manager and no vSphere of site {} knows a datastore {name}", datastore.site);
        let hint = match near {
            Some(near) => format!("the nearest name is {near}: write name = \"{near}\" if that is meant"),
            None => "write its `name` as vSphere shows it; a datastore of another site needs its `site`".to_owned(),
        };
        let hint = format!("{hint}. Writables are not copied from a datastore of which nobody says what is attached");
        let problem = Problem::new(Code::SourceMissing, message).subject(name).hint(hint);
        findings.push(CheckResult::new(format!("name of datastore {name}"), Err::<String, _>(problem)));
    }
    // All at once: one that does not answer keeps no other waiting.
    let tried = app.config().datastores.iter().map(|datastore| {
        let (asking, trying) = (app.clone(), datastore.clone());
        let subject = format!("datastore {}", datastore.name);
        (subject, tokio::spawn(blocking(move || probe::datastore(&asking, &trying))))
    });
    for (subject, task) in tried.collect::<Vec<_>>() {
        let tried = app.unless_ended(&subject, task).await.and_then(|joined| {
            joined.map_err(|_| Problem::internal("a part of the program failed; its log says where"))
        });
        findings.push(CheckResult::new(subject, tried.and_then(|tried| tried).and_then(|tried| tried)));
    }
    if let Ok(serve) = app.config().serve() {
        for (name, path) in &serve.datastores {
            let (asking, serving) = (app.clone(), path.to_path_buf());
            let opened = blocking(move || {
                let (opening, pulse) = (serving.clone(), asking.pulse(&serving));
                asking.within(Some(&serving), move || {
                    LocalFolder::open_with(&opening, pulse).and_then(|folder| folder.list(""))
                })
            });
            let opened = opened.await.and_then(|opened| opened).and_then(|opened| Ok(opened?));
            let may = match serve.restore.iter().any(|one| one == name) {
                true => "may be restored to",
                false => "only read",
            };
            let opened =
                opened.map(|entries: Vec<Entry>| format!("{} entries at {}; {may}", entries.len(), path.display()));
            findings.push(CheckResult::new(format!("served datastore {name}"), opened));
        }
    }
    findings
}

/// Every App Volumes Manager and vSphere system, by looking at all that it tells.
async fn systems(app: &App) -> Vec<CheckResult> {
    let mut findings = Vec::new();
    for settings in &app.config().app_volumes {
        let subject = format!("app_volumes {}", settings.name);
        let tried = app.unless_ended(&subject, try_manager(app, settings)).await.and_then(|tried| tried);
        findings.push(CheckResult::new(subject, tried));
    }
    for settings in &app.config().vspheres {
        let subject = format!("vsphere {}", settings.name);
        let trying = try_vsphere(app, settings.name.as_str());
        let tried = app.unless_ended(&subject, trying).await.and_then(|tried| tried);
        findings.push(CheckResult::new(subject, tried));
    }
    if let Ok(owed) = app.catalog().pending_cleanups().await {
        for row in owed.into_iter().filter(|row| row.is_abandoned) {
            let text =
                format!("{} {} has to be put back since {}", row.cleanup.what.as_str(), row.cleanup.subject, row.since);
            let problem = Problem::new(Code::Failed, text)
                .subject(&row.cleanup.system)
                .hint("the next round of `stackferry run` tries it; its log says why it does not work");
            findings.push(CheckResult::new(format!("left at {}", row.cleanup.system), Err::<String, _>(problem)));
        }
    }
    findings
}

async fn try_manager(app: &App, settings: &AppVolumes) -> Result<String, Problem> {
    let report = app.manager(settings).await?.look(Timestamp::now()).await?;
    let count = |kind| report.volumes.iter().filter(|volume| volume.kind == kind).count();
    let mut text = format!(
        "App Volumes {}: {} AppStacks, {} packages, {} writables on {} datastores",
        report.version,
        count(Kind::Appstack),
        count(Kind::Package),
        count(Kind::Writable),
        report.datastores.len(),
    );
    for problem in &report.problems {
        text.push_str(&format!("; {}: {}", problem.subject, problem.text));
    }
    Ok(text)
}

async fn try_vsphere(app: &App, name: &str) -> Result<String, Problem> {
    let vsphere = app.vsphere(name)?;
    let about = vsphere.about().await?;
    let (datastores, hosts) = (vsphere.datastores().await?, vsphere.hosts().await?);
    let disks = vsphere.attached_disks().await?;
    let unreadable = disks.unreadable.len();
    let usable = hosts.iter().filter(|host| host.is_usable()).count();
    let mut text = format!(
        "{}: {} datastores, {usable} of {} hosts usable, {} disks of machines",
        about.full_name,
        datastores.len(),
        hosts.len(),
        disks.attached.len()
    );
    if let Some(first) = disks.unreadable.first() {
        text.push_str(&format!(
            "; the disks of {unreadable} machines can't be told ({}: {}): they may have any",
            first.name, first.why
        ));
    }
    let makes_accounts = app.config().datastores.iter().any(|datastore| {
        matches!(&datastore.route, Route::Esxi(esxi)
            if esxi.vsphere.as_str() == name && esxi.access == EsxiAccess::Account)
    });
    if makes_accounts {
        let install = app.catalog().install_id().await?;
        for host in hosts.iter().filter(|host| host.is_usable()) {
            // Not every host lists its accounts; that it does not is no trouble.
            let foreign = stackferry_transfer::esxi::foreign_accounts(&vsphere, &host.id.value, &install).await;
            if let Some(names) = foreign.ok().filter(|names| !names.is_empty()) {
                text.push_str(&format!(
                    "; {} has accounts of another installation, which are left alone: {}",
                    host.name,
                    names.join(", ")
                ));
            }
        }
    }
    Ok(text)
}

async fn catalog(app: &App) -> Result<String, Problem> {
    let path = catalog_path(app.config());
    if app.catalog().is_copy() && !path.exists() {
        can_be_made(&path)?;
        return Ok(format!("there is none yet at {}: the service makes it", path.display()));
    }
    app.catalog().quick_check().await?;
    if app.catalog().is_copy() {
        let message = format!("{} can be read, but not written", path.display());
        return Err(Problem::new(Code::CatalogUnusable, message)
            .path(&path)
            .hint("see who owns `state_dir`, whether its file system is full or mounted read-only"));
    }
    Ok(format!("{} is whole", path.display()))
}

/// That a file or folder which is not there yet could be made: nothing is made for it.
fn can_be_made(path: &Path) -> Result<(), Problem> {
    use rustix::fs::{Access, AtFlags, CWD};
    let there = path.ancestors().skip(1).find(|folder| folder.exists()).unwrap_or(Path::new("/"));
    rustix::fs::accessat(CWD, there, Access::WRITE_OK | Access::EXEC_OK, AtFlags::EACCESS)
        .map_err(|errno| Problem::io("make something in", there.display(), &errno.into()))
}

async fn vault(app: &App) -> Result<String, Problem> {
    let vault: Vault = match app.vault().await {
        Err(problem) if problem.code == Code::NoVault => {
            let path = app.config().vault()?.path.to_path_buf();
            // The folder itself may be there, and empty.
            can_be_made(&if path.exists() { path.join("volumes") } else { path.clone() })?;
            return Ok(format!("there is none yet at {}: the first copy makes it", path.display()));
        }
        other => other?,
    };
    vault.check_writable()?;
    let space = vault.space()?;
    vault.check_space(0)?;
    if !space.is_known() {
        return Ok(format!(
            "{} at {}: its file system does not tell how much is free",
            vault.id(),
            vault.path().display()
        ));
    }
    Ok(format!("{} at {}: {} of {} bytes free", vault.id(), vault.path().display(), space.free, space.total))
}
