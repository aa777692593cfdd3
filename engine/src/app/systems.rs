//! The App Volumes Managers and vSphere systems of the configuration, and what they last told.
//!
//! Each is asked once in a round, all at the same time; one that does not answer keeps no other from being used.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use stackferry_catalog::Cleanup;
use stackferry_config::{AppVolumes, Config, DatastoreConfig};
use stackferry_discover::align::ConfiguredNames;
use stackferry_discover::app_volumes::{Manager, Report, RequestTimeouts};
use stackferry_discover::{ManagerView, ProblemCode, ScanProblem, VsphereInventory, VsphereView};
use stackferry_volume::SiteName;
use stackferry_volume::place::nearest_name;
use stackferry_vsphere::{MachineDisks, Vsphere};
use tokio::task::JoinSet;

use super::{App, ledger};
use crate::blocking::blocking;
use crate::metrics::{APP_VOLUMES, VSPHERE};
use stackferry_problem::{Code, Problem};

/// The clients, each made when it is first needed: their sessions are kept from round to round.
#[derive(Default)]
pub(super) struct Systems {
    managers: Mutex<BTreeMap<String, Arc<Manager>>>,
    vspheres: Mutex<BTreeMap<String, Vsphere>>,
    told: RwLock<Arc<SystemReports>>,
}

/// What all systems told in one round.
#[derive(Debug, Default)]
pub struct SystemReports {
    /// The App Volumes Managers.
    pub managers: Vec<ManagerView>,
    /// The vSphere systems.
    pub vspheres: Vec<VsphereView>,
    /// What a person should know.
    pub problems: Vec<ScanProblem>,
    /// When they were asked; none before the first round.
    pub asked: Option<Instant>,
}

impl SystemReports {
    /// How many systems did not answer.
    #[must_use]
    pub fn away(&self) -> usize {
        let managers = self.managers.iter().filter(|view| view.report.is_err()).count();
        managers + self.vspheres.iter().filter(|view| view.inventory.is_err()).count()
    }

    /// The configured datastores that no system of their site knows, each with the nearest name that one of them has. Sites of
    /// which no system told its datastores are left out.
    #[must_use]
    pub fn unknown_datastores<'a>(&'a self, config: &'a Config) -> Vec<(&'a DatastoreConfig, Option<&'a str>)> {
        let mut names: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for report in self.managers.iter().filter_map(|view| view.report.as_ref().ok()) {
            let places = report.volumes.iter().flat_map(|volume| &volume.places).map(|place| place.datastore.as_str());
            let listed = report.datastores.iter().map(|datastore| datastore.name.as_str());
            names.entry(report.site.0.as_str()).or_default().extend(places.chain(listed));
        }
        for view in &self.vspheres {
            let listed = view.inventory.iter().flat_map(|inventory| &inventory.datastores);
            names.entry(view.site.0.as_str()).or_default().extend(listed.map(|datastore| datastore.name.as_str()));
        }
        let of = |datastore: &'a DatastoreConfig| {
            let known = names.get(datastore.site.as_str()).filter(|known| !known.is_empty())?;
            let name = datastore.name.as_str();
            (!known.contains(name)).then(|| (datastore, nearest_name(name, known.iter().copied())))
        };
        config.datastores.iter().filter_map(of).collect()
    }

    /// What a manager told.
    #[must_use]
    pub fn report(&self, manager: &str) -> Option<&Report> {
        self.managers.iter().find(|view| view.name == manager)?.report.as_ref().ok()
    }

    /// A datastore's type, as vSphere knows it, or else App Volumes.
    #[must_use]
    pub fn datastore_type(&self, site: &SiteName, name: &str) -> Option<String> {
        let from_vsphere = self.vspheres.iter().find_map(|view| view.datastore(site, name)).map(|one| one.kind.clone());
        let reports = || {
            let own = self.managers.iter().filter(|view| view.site == *site);
            own.filter_map(|view| view.report.as_ref().ok())
        };
        from_vsphere.or_else(|| {
            let mut datastores = reports().flat_map(|report| &report.datastores);
            datastores.find(|one| one.name == name)?.kind.clone()
        })
    }
}

impl App {
    /// What the systems told last; nothing before the first round.
    #[must_use]
    pub fn told(&self) -> Arc<SystemReports> {
        Arc::clone(&self.setup.systems.told.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The client of a manager.
    ///
    /// # Errors
    /// Its password can't be had, or its authorities can't be read.
    pub async fn manager(&self, settings: &AppVolumes) -> Result<Arc<Manager>, Problem> {
        let name = settings.name.to_string();
        let known = self.setup.systems.managers.lock().unwrap_or_else(PoisonError::into_inner).get(&name).cloned();
        if let Some(manager) = known {
            return Ok(manager);
        }
        let refused_before = self.setup.refusals.has("app_volumes", &name);
        let settings = settings.clone();
        let made = blocking(move || {
            let password = settings.password.resolve().map_err(Problem::from)?;
            let site = SiteName(settings.site.as_str().to_owned());
            Manager::new(&settings, site, password, RequestTimeouts::default()).map_err(Problem::from)
        })
        .await??;
        let made = if refused_before { made.with_refused_login() } else { made };
        let mut managers = self.setup.systems.managers.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(Arc::clone(managers.entry(name).or_insert_with(|| Arc::new(made))))
    }

    /// The client of the manager of this name.
    ///
    /// # Errors
    /// It is not in the configuration; else as [`App::manager`].
    pub async fn manager_named(&self, name: &str) -> Result<Arc<Manager>, Problem> {
        let settings = self.config().app_volumes.iter().find(|one| one.name.as_str() == name);
        match settings {
            Some(settings) => self.manager(settings).await,
            None => Err(not_configured("app_volumes", name)),
        }
    }

    /// The client of the vSphere system of this name.
    ///
    /// # Errors
    /// It is not in the configuration, or its authorities can't be read.
    pub fn vsphere(&self, name: &str) -> Result<Vsphere, Problem> {
        let mut vspheres = self.setup.systems.vspheres.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(vsphere) = vspheres.get(name) {
            return Ok(vsphere.clone());
        }
        let settings = self.config().vspheres.iter().find(|one| one.name.as_str() == name);
        let vsphere = Vsphere::new(settings.ok_or_else(|| not_configured("vsphere", name))?)?;
        let vsphere = if self.setup.refusals.has("vsphere", name) { vsphere.with_refused_login() } else { vsphere };
        vspheres.insert(name.to_owned(), vsphere.clone());
        Ok(vsphere)
    }

    /// Tries logins again that were refused before: somebody looks, and wants to know. For the first asking only.
    pub fn try_refused_again(&self) {
        self.setup.refusals.forget();
    }

    /// Writes down whether a system refused our login, for the processes that come after.
    async fn note_refusal<T: Sync>(&self, table: &str, name: &str, answer: &Result<T, Problem>) {
        let refused = match answer {
            Ok(_) => false,
            Err(problem) if problem.code == Code::LoginRefused => true,
            Err(_) => return,
        };
        if let Err(error) = self.setup.refusals.tell(&self.shared.catalog, table, name, refused).await {
            tracing::error!(name, error = %stackferry_transfer::describe(&error), "whether a login was refused could not be recorded");
        }
    }

    /// Asks every system for all that it knows, and keeps it as what was told last. Once the end was asked for it is not waited
    /// for those that have not answered yet: they told nothing.
    pub async fn ask_systems(&self) -> Arc<SystemReports> {
        let asked = Some(Instant::now());
        let mut asking: JoinSet<Answer> = JoinSet::new();
        for (at, settings) in self.config().app_volumes.iter().enumerate() {
            let (app, settings) = (self.clone(), settings.clone());
            asking.spawn(async move {
                let site = SiteName(settings.site.as_str().to_owned());
                let report = match app.manager(&settings).await {
                    Ok(manager) => {
                        let look = manager.look(Timestamp::now());
                        in_time(async { look.await.map_err(Problem::from) }, settings.name.as_str()).await
                    }
                    Err(problem) => Err(problem),
                };
                app.metrics().sources().asked(APP_VOLUMES, settings.name.as_str(), report.as_ref().map(drop));
                app.note_refusal("app_volumes", settings.name.as_str(), &report).await;
                Answer::Manager(at, settings.name.to_string(), site, report)
            });
        }
        for (at, settings) in self.config().vspheres.iter().enumerate() {
            let (app, settings) = (self.clone(), settings.clone());
            asking.spawn(async move {
                let site = SiteName(settings.site.as_str().to_owned());
                let inventory = match app.vsphere(settings.name.as_str()) {
                    Ok(vsphere) => in_time(inventory(&vsphere), settings.name.as_str()).await,
                    Err(problem) => Err(problem),
                };
                app.metrics().sources().asked(VSPHERE, settings.name.as_str(), inventory.as_ref().map(drop));
                app.note_refusal("vsphere", settings.name.as_str(), &inventory).await;
                Answer::Vsphere(at, settings.name.to_string(), site, inventory)
            });
        }
        let mut problems = Vec::new();
        let names = self.configured_names();
        let (mut managers, mut vspheres) = self.silent();
        let interrupted = loop {
            let answer = match self.unless_ended("asking the systems", asking.join_next()).await {
                Ok(Some(answer)) => answer,
                Ok(None) => break false,
                Err(_) => break true,
            };
            match answer {
                Ok(Answer::Manager(at, name, site, mut report)) => {
                    if let Ok(report) = &mut report {
                        names.align_report(report);
                        problems.extend(report.problems.iter().cloned());
                    }
                    let report = report.map_err(|problem| away(&mut problems, "App Volumes Manager", &name, problem));
                    managers.insert(at, ManagerView { name, site, report });
                }
                Ok(Answer::Vsphere(at, name, site, mut inventory)) => {
                    if let Ok(inventory) = &mut inventory {
                        names.align_inventory(&site, inventory);
                    }
                    let inventory = inventory.map_err(|problem| away(&mut problems, "vSphere", &name, problem));
                    vspheres.insert(at, VsphereView { name, site, inventory });
                }
                // The panic is in the log; that system did not answer.
                Err(error) => tracing::error!(%error, "asking a system failed"),
            }
        };
        problems.sort_by(|one, two| (&one.subject, &one.text).cmp(&(&two.subject, &two.text)));
        let told = SystemReports {
            managers: managers.into_values().collect(),
            vspheres: vspheres.into_values().collect(),
            problems,
            asked,
        };
        let told = Arc::new(told);
        if interrupted {
            // What was told before stays: this is only who had answered when somebody did not want to wait any longer.
            return told;
        }
        *self.setup.systems.told.write().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&told);
        told
    }

    /// The names of the configured datastores, which those that systems tell are brought to.
    pub(crate) fn configured_names(&self) -> ConfiguredNames {
        let datastores = self.config().datastores.iter();
        datastores.map(|one| (SiteName(one.site.as_str().to_owned()), one.name.to_string())).collect()
    }

    /// Every system of the configuration as one that told nothing: who is not heard may know of anything.
    fn silent(&self) -> (BTreeMap<usize, ManagerView>, BTreeMap<usize, VsphereView>) {
        let site = |site: &str| SiteName(site.to_owned());
        let why = || "asking it failed; the program's log says where".to_owned();
        let managers = self.config().app_volumes.iter().enumerate().map(|(at, one)| {
            (at, ManagerView { name: one.name.to_string(), site: site(one.site.as_str()), report: Err(why()) })
        });
        let vspheres = self.config().vspheres.iter().enumerate().map(|(at, one)| {
            (at, VsphereView { name: one.name.to_string(), site: site(one.site.as_str()), inventory: Err(why()) })
        });
        (managers.collect(), vspheres.collect())
    }

    /// Puts back what a copy had changed at a host: removes its account, stops the SSH service.
    ///
    /// # Errors
    /// The record can't be read, or vSphere's: then it is still owed.
    pub async fn undo_at_host(&self, debt: &Cleanup) -> Result<(), Problem> {
        let owed = ledger::owed(debt).ok_or_else(|| {
            Problem::new(Code::CatalogDamaged, format!("what is owed to {} names no host", debt.subject))
        })?;
        let vsphere = self.vsphere(&debt.system)?;
        Ok(stackferry_transfer::esxi::clean_up(&owed, &vsphere).await?)
    }

    /// Ends all sessions, so that none is left at a system.
    pub async fn log_out(&self) {
        let managers: Vec<_> = {
            let managers = self.setup.systems.managers.lock().unwrap_or_else(PoisonError::into_inner);
            managers.values().cloned().collect()
        };
        let vspheres: Vec<_> = {
            let vspheres = self.setup.systems.vspheres.lock().unwrap_or_else(PoisonError::into_inner);
            vspheres.values().cloned().collect()
        };
        // All at once: one that does not answer keeps no other session open.
        let mut leaving = JoinSet::new();
        for manager in managers {
            leaving.spawn(async move {
                manager.logout().await.map_err(|error| stackferry_transfer::describe(&error).to_string())
            });
        }
        for vsphere in vspheres {
            leaving.spawn(async move {
                vsphere.logout().await.map_err(|error| stackferry_transfer::describe(&error).to_string())
            });
        }
        while let Some(left) = leaving.join_next().await {
            if let Ok(Err(error)) = left {
                tracing::debug!(error, "a session ends by itself");
            }
        }
    }
}

/// How long a round waits for one system. One that is slower counts as away, and the others are not held up by it.
const PATIENCE: Duration = Duration::from_secs(180);

async fn in_time<T>(asking: impl Future<Output = Result<T, Problem>>, name: &str) -> Result<T, Problem> {
    tokio::time::timeout(PATIENCE, asking).await.unwrap_or_else(|_| {
        Err(Problem::new(Code::Silent, format!("asking {name} was not done after {} seconds", PATIENCE.as_secs()))
            .subject(name)
            .hint("look at the load of that system; the next round tries again"))
    })
}

enum Answer {
    Manager(usize, String, SiteName, Result<Report, Problem>),
    Vsphere(usize, String, SiteName, Result<VsphereInventory, Problem>),
}

async fn inventory(vsphere: &Vsphere) -> Result<VsphereInventory, Problem> {
    let (datastores, hosts) = (vsphere.datastores().await?, vsphere.hosts().await?);
    let MachineDisks { attached, unreadable } = vsphere.attached_disks().await?;
    Ok(VsphereInventory { datastores, hosts, attached, unreadable })
}

/// Notes that a system did not answer; gives why in one line.
fn away(problems: &mut Vec<ScanProblem>, what: &str, name: &str, problem: Problem) -> String {
    let text = problem.message.clone();
    let hint = problem.hint.unwrap_or_else(|| "`stackferry check` tells what is wrong".to_owned());
    let code = ProblemCode::Unreachable;
    problems.push(ScanProblem { code, subject: format!("{what} {name}"), text: problem.message, hint });
    text
}

fn not_configured(table: &str, name: &str) -> Problem {
    Problem::new(Code::BadConfig, format!("there is no [[{table}]] named {name}"))
        .subject(name)
        .hint(format!("add a [[{table}]] with this name, or correct the name"))
}
