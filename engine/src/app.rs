//! What every command works with: the configuration, the catalog, the vault, and the hosts that are asked.
//!
//! Each part is opened when it is first needed, so that a command does not fail for what it does not use.

mod ending;
mod ledger;
pub(crate) mod mounts;
mod refusals;
mod room;
mod sources;
mod systems;

use crate::blocking::blocking;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};

use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};
use stackferry_catalog::{Catalog, CatalogError, Clock};
use stackferry_config::{Config, DatastoreConfig, EsxiAccess, EsxiRoute};
use stackferry_discover::DescriptorCache;
use stackferry_transfer::Throttle;
use stackferry_transfer::esxi::{EsxiClient, EsxiDatastore, HostAccess};
use stackferry_transfer::remote::EndpointClient;
use stackferry_transfer::stock::{StockClient, StockHost};
use stackferry_vault::{Reserve, Vault, VaultOptions};
use stackferry_volume::ids::split_version;
use stackferry_volume::io::Cancel;
use stackferry_volume::local::Pulse;
use tokio::runtime::Handle;

use crate::jobs::Jobs;
use crate::metrics::ProcessCounters;
use crate::windows;
use stackferry_problem::{Code, Problem};

use ledger::{CatalogLedger, Running};
use refusals::Refusals;
use systems::Systems;

pub use room::Room;
pub use sources::DatastoreAccess;
pub use systems::SystemReports;

/// The parts that a command works with. Cheap to clone; all clones are one, but for what ends them and for the
/// configuration that they work by: what runs keeps its own when the service is given another.
#[derive(Clone)]
pub struct App {
    shared: Arc<Shared>,
    setup: Arc<Setup>,
    cancel: Cancel,
    /// The end of the program, where `cancel` may be that of one piece of work.
    ending: Cancel,
}

/// What outlives a configuration.
struct Shared {
    catalog: Catalog,
    runtime: Handle,
    vault: OnceLock<Vault>,
    descriptors: RwLock<Arc<DescriptorCache>>,
    /// The calls to each mount that have not returned.
    mounts: Mutex<BTreeMap<PathBuf, Arc<Pulse>>>,
    descriptors_loaded: AtomicBool,
    metrics: ProcessCounters,
    jobs: Jobs,
    throttle: Arc<Throttle>,
    debts: Arc<Running>,
    install: String,
    clock: Clock,
    /// What the command that this is opened for only reads; none where it may write.
    reading: Option<Reading>,
    /// The configuration of the last change.
    latest: RwLock<Arc<Setup>>,
}

/// A configuration, and the hosts that are asked by it.
struct Setup {
    config: Config,
    endpoints: Mutex<BTreeMap<String, Arc<EndpointClient>>>,
    stock: Mutex<BTreeMap<String, Arc<StockClient>>>,
    esxi: Mutex<BTreeMap<String, Arc<EsxiClient>>>,
    systems: Systems,
    refusals: Refusals,
}

impl Setup {
    async fn new(config: Config, catalog: &Catalog) -> Result<Arc<Self>, Problem> {
        let refusals = Refusals::read(&config, catalog).await?;
        Ok(Arc::new(Self {
            config,
            endpoints: Mutex::default(),
            stock: Mutex::default(),
            esxi: Mutex::default(),
            systems: Systems::default(),
            refusals,
        }))
    }
}

/// The catalog's file below `state_dir`.
#[must_use]
pub fn catalog_path(config: &Config) -> PathBuf {
    config.state_dir.join("catalog.sqlite")
}

impl App {
    /// Opens the catalog, making it and the state folder where they are missing.
    ///
    /// # Errors
    /// The catalog's.
    pub async fn open(config: Config, cancel: Cancel) -> Result<Self, Problem> {
        Self::open_with(config, cancel, Clock::system()).await
    }

    /// Opens what a command needs that only reads: where the catalog can't be written to, or can't be had at all, a copy of
    /// it that nothing lasts of; the vault perhaps for reading only. What would be recorded is then skipped, with one
    /// warning.
    ///
    /// # Errors
    /// The catalog's, where it can't be read for another reason.
    pub async fn open_to_read(config: Config, cancel: Cancel, reading: Reading) -> Result<Self, Problem> {
        let path = catalog_path(&config);
        let why = if !reading.may_make && !path.exists() {
            None
        } else {
            match Self::open_parts(config.clone(), cancel.clone(), Clock::system(), Some(reading.clone()), None).await {
                Ok(app) => return Ok(app),
                Err((problem, true)) => Some(problem),
                Err((problem, false)) => return Err(problem),
            }
        };
        let copy = Catalog::open_copy(&path).await?;
        let app = Self::open_parts(config, cancel, Clock::system(), Some(reading), Some(copy)).await;
        let app = app.map_err(|(problem, _)| problem)?;
        if let Some(problem) = why {
            app.warn_not_recorded("in the catalog", &path.display().to_string(), &problem.message);
        }
        Ok(app)
    }

    /// The same, with another clock for the windows in which copies may run.
    ///
    /// # Errors
    /// The catalog's.
    pub async fn open_with(config: Config, cancel: Cancel, clock: Clock) -> Result<Self, Problem> {
        Self::open_parts(config, cancel, clock, None, None).await.map_err(|(problem, _)| problem)
    }

    /// The parts, with the catalog that is given, else with the one in the state folder. An error tells whether that folder
    /// could not be written to.
    async fn open_parts(
        config: Config,
        cancel: Cancel,
        clock: Clock,
        reading: Option<Reading>,
        copy: Option<Catalog>,
    ) -> Result<Self, (Problem, bool)> {
        let other = |problem| (problem, false);
        if config.catalog.is_some() {
            let problem = Problem::new(Code::BadConfig, "a catalog in PostgreSQL is not supported by this version")
                .subject("catalog")
                .hint("take `catalog` out of the configuration: the catalog is then a file in state_dir");
            return Err(other(problem));
        }
        let catalog = match copy {
            Some(copy) => copy,
            None => {
                make_state_dir(&config).map_err(|problem| (problem, true))?;
                crate::key_files::sweep(&config);
                let failed = |error: CatalogError| {
                    let not_writable = error.is_not_writable();
                    (Problem::from(error), not_writable)
                };
                let catalog = Catalog::open(&catalog_path(&config)).await.map_err(failed)?;
                if reading.is_some() {
                    // Whether anything can be recorded is known before much is read.
                    catalog.set_marker(LAST_READ, Some(&clock.now().to_string())).await.map_err(failed)?;
                }
                catalog
            }
        };
        let install = catalog.install_id().await.map_err(|error| other(error.into()))?;
        let metrics = ProcessCounters::new(&config).map_err(other)?;
        let throttle = Arc::new(Throttle::unlimited());
        let setup = Setup::new(config, &catalog).await.map_err(other)?;
        let shared = Shared {
            jobs: Jobs::new(catalog.clone()),
            catalog,
            runtime: Handle::current(),
            vault: OnceLock::new(),
            descriptors: RwLock::default(),
            mounts: Mutex::default(),
            descriptors_loaded: AtomicBool::new(false),
            metrics,
            throttle,
            debts: Arc::default(),
            install,
            clock,
            reading,
            latest: RwLock::new(Arc::clone(&setup)),
        };
        let app = Self { shared: Arc::new(shared), setup, ending: cancel.clone(), cancel };
        app.set_bandwidth();
        Ok(app)
    }

    /// Says, once, that what is only read leaves no record, and why.
    fn warn_not_recorded(&self, place: &str, subject: &str, why: &str) {
        if let Some(reading) = &self.shared.reading
            && !reading.warned.swap(true, Ordering::SeqCst)
        {
            tracing::warn!(subject, why, "nothing is recorded {place} of what this command does: it only reads");
        }
    }

    /// What became of recording what was read: a command that only reads goes on without, and says so once.
    ///
    /// # Errors
    /// The same, for others.
    pub(crate) fn recorded<E: Into<Problem>>(&self, subject: &str, result: Result<(), E>) -> Result<(), Problem> {
        let Err(problem) = result.map_err(Into::into) else { return Ok(()) };
        if self.shared.reading.is_none() {
            return Err(problem);
        }
        self.warn_not_recorded("for this version", subject, &problem.message);
        Ok(())
    }

    /// The same parts, ended by another `cancel`: for one piece of work that can be ended by itself.
    #[must_use]
    pub fn with_cancel(&self, cancel: Cancel) -> Self {
        Self { cancel, ..self.clone() }
    }

    /// The same parts by the configuration of the last change: what begins now works by that.
    #[must_use]
    pub fn latest(&self) -> Self {
        let setup = Arc::clone(&self.shared.latest.read().unwrap_or_else(PoisonError::into_inner));
        Self { setup, ..self.clone() }
    }

    /// From now on [`App::latest`] works by this configuration; what runs goes on by its own. Who calls it asked whether
    /// only what can change did.
    ///
    /// # Errors
    /// The catalog's; then nothing changes.
    pub async fn reconfigure(&self, config: Config) -> Result<Self, Problem> {
        let setup = Setup::new(config, &self.shared.catalog).await?;
        *self.shared.latest.write().unwrap_or_else(PoisonError::into_inner) = setup;
        let app = self.latest();
        app.set_bandwidth();
        Ok(app)
    }

    /// The configuration.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.setup.config
    }

    /// The catalog.
    #[must_use]
    pub fn catalog(&self) -> &Catalog {
        &self.shared.catalog
    }

    /// The runtime, for code on blocking threads that has to wait for the catalog.
    #[must_use]
    pub fn runtime(&self) -> &Handle {
        &self.shared.runtime
    }

    /// Ends everything that runs.
    #[must_use]
    pub fn cancel(&self) -> &Cancel {
        &self.cancel
    }

    /// What is counted.
    #[must_use]
    pub fn metrics(&self) -> &ProcessCounters {
        &self.shared.metrics
    }

    /// What is to be done.
    #[must_use]
    pub fn jobs(&self) -> &Jobs {
        &self.shared.jobs
    }

    /// The bandwidth limit of all transfers together; none where the configuration knows of none.
    #[must_use]
    pub fn throttle(&self) -> Option<Arc<Throttle>> {
        let limits = &self.config().limits;
        (limits.bandwidth.is_some() || !limits.timetable.is_empty()).then(|| Arc::clone(&self.shared.throttle))
    }

    /// Makes the bandwidth what the configuration says for this time of day. Gives it in bytes per second; none: unlimited.
    pub fn set_bandwidth(&self) -> Option<u64> {
        let rate = windows::bandwidth(&self.config().limits, &self.local_time());
        self.shared.throttle.set_rate(rate);
        rate
    }

    /// The time now, by the clock that windows go by.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.shared.clock.now()
    }

    /// The time of day, in the machine's zone.
    #[must_use]
    pub fn local_time(&self) -> Zoned {
        self.shared.clock.now().to_zoned(TimeZone::system())
    }

    /// The vault, if it was opened.
    #[must_use]
    pub fn opened_vault(&self) -> Option<Vault> {
        self.shared.vault.get().cloned()
    }

    /// Which debts copies of this process work on.
    pub(crate) fn running_debts(&self) -> &Running {
        &self.shared.debts
    }

    /// The client of a datastore of ESXi hosts, one for each.
    ///
    /// # Errors
    /// There is no such `[[vsphere]]`, or its authorities can't be read; the catalog's.
    pub fn esxi(&self, datastore: &DatastoreConfig, settings: &EsxiRoute) -> Result<Arc<EsxiClient>, Problem> {
        let name = format!("{}/{}", datastore.site.as_str(), datastore.name);
        let mut clients = self.setup.esxi.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = clients.get(&name) {
            return Ok(Arc::clone(client));
        }
        let access = match (settings.access, &settings.known_hosts) {
            (EsxiAccess::Ticket, _) => HostAccess::Ticket,
            (EsxiAccess::Account, Some(known_hosts)) => {
                HostAccess::Account { known_hosts: known_hosts.to_path_buf(), ssh_port: settings.ssh_port }
            }
            (EsxiAccess::Account, None) => {
                return Err(Problem::new(Code::BadConfig, "access by account needs `known_hosts`")
                    .subject(&datastore.name)
                    .hint("name the file with the hosts' keys, as known_hosts = \"/etc/stackferry/known_hosts\""));
            }
        };
        let place = EsxiDatastore {
            vsphere: self.vsphere(settings.vsphere.as_str())?,
            system: settings.vsphere.to_string(),
            name: datastore.name.to_string(),
            access,
            install: self.shared.install.clone(),
        };
        let ledger = CatalogLedger {
            catalog: self.shared.catalog.clone(),
            runtime: self.shared.runtime.clone(),
            running: Arc::clone(&self.shared.debts),
        };
        let (runtime, ending) = (self.shared.runtime.clone(), self.ending.clone());
        let client = Arc::new(EsxiClient::new(place, Arc::new(ledger), runtime, ending));
        clients.insert(name, Arc::clone(&client));
        Ok(client)
    }

    /// The descriptors that were read before.
    pub(crate) fn descriptors(&self) -> Arc<DescriptorCache> {
        Arc::clone(&self.shared.descriptors.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Changes what is known of descriptors. A scan that hangs keeps what it began with.
    pub(crate) fn change_descriptors(&self, change: impl FnOnce(&mut DescriptorCache)) {
        change(Arc::make_mut(&mut self.shared.descriptors.write().unwrap_or_else(PoisonError::into_inner)));
    }

    /// They lie under other names now: they are loaded again.
    pub(crate) fn forget_descriptors(&self) {
        *self.shared.descriptors.write().unwrap_or_else(PoisonError::into_inner) = Arc::default();
        self.shared.descriptors_loaded.store(false, Ordering::SeqCst);
    }

    /// Whether this was asked before: the first one loads them.
    pub(crate) fn descriptors_loaded(&self) -> bool {
        self.shared.descriptors_loaded.swap(true, Ordering::SeqCst)
    }

    /// The vault. At the first call it is opened, or made where the catalog knows none and the folder is empty; one that
    /// an empty catalog does not know is adopted: everything in it is taken into the catalog.
    ///
    /// # Errors
    /// The vault's and the catalog's; a configuration without `[vault]`.
    pub async fn vault(&self) -> Result<Vault, Problem> {
        if let Some(vault) = self.shared.vault.get() {
            return Ok(vault.clone());
        }
        let known = self.catalog().vault_id().await?;
        let expect = match &known {
            Some(text) => Some(text.parse().map_err(|_| {
                Problem::new(Code::CatalogDamaged, format!("the catalog says that its vault is `{text}`"))
                    .hint("move the catalog's file away and run `stackferry rebuild`")
            })?),
            None => None,
        };
        let settings = self.config().vault()?;
        if settings.immutable {
            // Better no copy than versions that somebody believes to be protected in a way that they are not.
            return Err(Problem::new(Code::BadConfig, "`vault.immutable` is not supported by this version")
                .subject("vault.immutable")
                .hint("take it out; `vault.lock` keeps versions from being deleted by stackferry itself"));
        }
        let owner = stackferry_volume::local::owner_of(&self.config().state_dir).ok().flatten();
        let reading = self.shared.reading.as_ref();
        let options = VaultOptions {
            expect,
            // A copy of the catalog may know less than there is: a folder that is empty is perhaps not mounted.
            allow_create: expect.is_none()
                && !self.catalog().is_copy()
                && reading.is_none_or(|reading| reading.may_make),
            owner: owner.map(|(uid, gid)| (uid.as_raw(), gid.as_raw())),
            group: settings.group.as_ref().map(|group| group.as_str().to_owned()),
            reserve: reserve(settings.reserve),
            program: crate::about::PROGRAM.to_owned(),
        };
        let path = settings.path.to_path_buf();
        // Opened for writing it is brought in order.
        let makes_nothing = reading.is_some_and(|reading| !reading.may_make);
        let vault = {
            let (path, options) = (path.clone(), options.clone());
            let open = move || match makes_nothing {
                true => Vault::open_read_only_with(&path, &options),
                false => Vault::open(&path, &options),
            };
            blocking(open).await?
        };
        let vault = match vault {
            Err(error) if reading.is_some() && error.is_not_writable() => {
                let why = stackferry_transfer::describe(&error);
                self.warn_not_recorded("in the vault", &path.display().to_string(), &why);
                blocking(move || Vault::open_read_only_with(&path, &options)).await??
            }
            other => other?,
        };
        if known.is_none() && !makes_nothing {
            let only = reading.filter(|_| self.catalog().is_copy()).and_then(|reading| reading.only.as_deref());
            crate::adopt::adopt(self.catalog(), &vault, only).await?;
        }
        Ok(self.shared.vault.get_or_init(|| vault).clone())
    }

    /// The client for a stock SSH host, one for each folder of it.
    ///
    /// # Errors
    /// The CA's key can't be used.
    pub fn stock(&self, settings: &stackferry_config::SshRoute) -> Result<Arc<StockClient>, Problem> {
        let name =
            format!("{}@{} {} {}", settings.user, settings.host, settings.path.display(), settings.source_address);
        let mut stock = self.setup.stock.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = stock.get(&name) {
            return Ok(Arc::clone(client));
        }
        let host = StockHost {
            peer: sources::peer(&settings.host, &settings.trust),
            user: settings.user.as_str().to_owned(),
            root: settings.path.to_path_buf(),
            ca_key: settings.ca_key.to_path_buf(),
            source_address: settings.source_address.clone(),
        };
        let client = Arc::new(StockClient::new(host, self.shared.runtime.clone())?);
        stock.insert(name, Arc::clone(&client));
        Ok(client)
    }

    /// The client for an endpoint, one for each.
    ///
    /// # Errors
    /// The service's key can't be used.
    pub fn endpoint(&self, settings: &stackferry_config::EndpointRoute) -> Result<Arc<EndpointClient>, Problem> {
        let name = format!("{} {}", settings.host, settings.key.display());
        let mut endpoints = self.setup.endpoints.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = endpoints.get(&name) {
            return Ok(Arc::clone(client));
        }
        let peer = sources::peer(&settings.host, &settings.trust);
        let client = Arc::new(EndpointClient::new(peer, &settings.key, self.shared.runtime.clone())?);
        endpoints.insert(name, Arc::clone(&client));
        Ok(client)
    }
}

/// What a command needs that only reads.
#[derive(Debug, Clone, Default)]
pub struct Reading {
    /// Whether the catalog and the vault are made where there are none, so that the next command finds them.
    may_make: bool,
    /// The volume that is meant, where it is only one.
    only: Option<String>,
    /// Whether it was said that nothing is recorded.
    warned: Arc<AtomicBool>,
}

impl Reading {
    /// For commands that look at all, or at the volume (and version) of this text.
    #[must_use]
    pub fn of(text: Option<&str>) -> Self {
        let only = text.map(|text| split_version(text).0.to_owned());
        Self { may_make: true, only, ..Self::default() }
    }

    /// For commands that make nothing at all.
    #[must_use]
    pub fn without_making() -> Self {
        Self::default()
    }
}

/// When a command last read by the catalog.
const LAST_READ: &str = "last_read";

/// Makes the state folder, for its owner only, where it is missing.
///
/// # Errors
/// The system's.
pub fn make_state_dir(config: &Config) -> Result<(), Problem> {
    use std::os::unix::fs::DirBuilderExt;
    let path = config.state_dir.to_path_buf();
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&path);
    made.map_err(|error| Problem::io("make the state folder", path.display(), &error))
}

/// How much of the vault's disk stays free, by the configuration.
#[must_use]
pub fn reserve(reserve: stackferry_config::ReserveSetting) -> Reserve {
    match reserve {
        stackferry_config::ReserveSetting::Percent(percent) => Reserve::Percent(percent.get()),
        stackferry_config::ReserveSetting::Size(size) => Reserve::Bytes(size.as_bytes()),
    }
}
