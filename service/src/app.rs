//! What every command works with: the configuration, the catalog, the vault, and the hosts that are asked.
//!
//! Each part is opened when it is first needed, so that a command does not fail for what it does not use.

mod adopt;
pub(crate) mod grants;
mod ledger;
mod refusals;
mod room;
mod sources;
mod systems;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};

use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};
use stackferry_catalog::{AuditAction, Catalog, Clock};
use stackferry_config::{Config, Datastore, Esxi, EsxiAccess};
use stackferry_discover::DescriptorCache;
use stackferry_transfer::Throttle;
use stackferry_transfer::esxi::{Access, EsxiClient, EsxiDatastore};
use stackferry_transfer::remote::EndpointClient;
use stackferry_transfer::stock::{StockClient, StockHost};
use stackferry_vault::{Reserve, Vault, VaultOptions};
use stackferry_volume::io::Cancel;
use tokio::runtime::Handle;

use crate::engine::windows;
use crate::jobs::Jobs;
use crate::metrics::Metrics;
use crate::problem::{Code, Problem};

use ledger::{CatalogLedger, Running};
use refusals::Refusals;
use systems::Systems;

pub use adopt::{Adopted, vault_volume, vault_volumes, version_row};
pub(crate) use room::Room;
pub use sources::Source;
pub(crate) use sources::config_kind;
pub use systems::Told;

/// The program and its version, as it writes itself into manifests.
pub const PROGRAM: &str = concat!("stackferry ", env!("CARGO_PKG_VERSION"));
/// The revision that the program was built from, as 12 hexadecimal digits; `unknown` where that could not be told.
pub const REVISION: &str = env!("BUILT_FROM_REVISION");
/// The version of the compiler that built it; `unknown` where that could not be told.
pub const RUSTC: &str = env!("BUILT_BY_RUSTC");

/// The parts that a command works with. Cheap to clone; all clones are one, but for what ends them and for the
/// configuration that they work by: what runs keeps its own when the service is given another.
#[derive(Clone)]
pub struct App {
    shared: Arc<Shared>,
    setup: Arc<Setup>,
    cancel: Cancel,
}

/// What outlives a configuration.
struct Shared {
    catalog: Catalog,
    runtime: Handle,
    vault: OnceLock<Vault>,
    descriptors: RwLock<DescriptorCache>,
    descriptors_loaded: AtomicBool,
    metrics: Metrics,
    jobs: Jobs,
    throttle: Arc<Throttle>,
    debts: Arc<Running>,
    install: String,
    clock: Clock,
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

    /// The same, with another clock for the windows in which copies may run.
    ///
    /// # Errors
    /// The catalog's.
    pub async fn open_with(config: Config, cancel: Cancel, clock: Clock) -> Result<Self, Problem> {
        if config.catalog.is_some() {
            return Err(Problem::new(Code::BadConfig, "a catalog in PostgreSQL is not supported by this version")
                .subject("catalog")
                .hint("take `catalog` out of the configuration: the catalog is then a file in state_dir"));
        }
        make_state_dir(&config)?;
        grants::sweep(&config);
        let catalog = Catalog::open(&catalog_path(&config)).await.map_err(Problem::from)?;
        let install = catalog.install_id().await?;
        let metrics = Metrics::new(&config)?;
        let throttle = Arc::new(Throttle::unlimited());
        let setup = Setup::new(config, &catalog).await?;
        let shared = Shared {
            jobs: Jobs::new(catalog.clone()),
            catalog,
            runtime: Handle::current(),
            vault: OnceLock::new(),
            descriptors: RwLock::default(),
            descriptors_loaded: AtomicBool::new(false),
            metrics,
            throttle,
            debts: Arc::default(),
            install,
            clock,
            latest: RwLock::new(Arc::clone(&setup)),
        };
        let app = Self { shared: Arc::new(shared), setup, cancel };
        app.set_bandwidth();
        Ok(app)
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
    pub fn metrics(&self) -> &Metrics {
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
    pub fn esxi(&self, datastore: &Datastore, settings: &Esxi) -> Result<Arc<EsxiClient>, Problem> {
        let name = format!("{}/{}", datastore.site.as_str(), datastore.name);
        let mut clients = self.setup.esxi.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = clients.get(&name) {
            return Ok(Arc::clone(client));
        }
        let access = match (settings.access, &settings.known_hosts) {
            (EsxiAccess::Ticket, _) => Access::Ticket,
            (EsxiAccess::Account, Some(known_hosts)) => {
                Access::Account { known_hosts: known_hosts.to_path_buf(), ssh_port: settings.ssh_port }
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
        let client = Arc::new(EsxiClient::new(place, Arc::new(ledger), self.shared.runtime.clone()));
        clients.insert(name, Arc::clone(&client));
        Ok(client)
    }

    /// The descriptors that were read before.
    pub(crate) fn descriptors(&self) -> &RwLock<DescriptorCache> {
        &self.shared.descriptors
    }

    /// They lie under other names now: they are loaded again.
    pub(crate) fn forget_descriptors(&self) {
        *self.shared.descriptors.write().unwrap_or_else(PoisonError::into_inner) = DescriptorCache::default();
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
        let options = VaultOptions {
            expect,
            allow_create: expect.is_none(),
            group: settings.group.as_ref().map(|group| group.as_str().to_owned()),
            reserve: reserve(settings.reserve),
            program: PROGRAM.to_owned(),
        };
        let path = settings.path.to_path_buf();
        let vault = blocking(move || Vault::open(&path, &options)).await??;
        if known.is_none() {
            adopt::adopt(self.catalog(), &vault).await?;
        }
        Ok(self.shared.vault.get_or_init(|| vault).clone())
    }

    /// The client for a stock SSH host, one for each folder of it.
    ///
    /// # Errors
    /// The CA's key can't be used.
    pub fn stock(&self, settings: &stackferry_config::Ssh) -> Result<Arc<StockClient>, Problem> {
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
            source_address: sources::source_address(&settings.source_address),
        };
        let client = Arc::new(StockClient::new(host, self.shared.runtime.clone())?);
        stock.insert(name, Arc::clone(&client));
        Ok(client)
    }

    /// The client for an endpoint, one for each.
    ///
    /// # Errors
    /// The service's key can't be used.
    pub fn endpoint(&self, settings: &stackferry_config::Endpoint) -> Result<Arc<EndpointClient>, Problem> {
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

/// Writes an audit record of what has happened already: one that can't be written undoes nothing, and is logged.
pub(crate) async fn note(
    catalog: &Catalog,
    action: AuditAction,
    actor: &str,
    subject: &str,
    detail: &serde_json::Value,
) {
    if let Err(error) = catalog.audit(action, actor, subject, detail).await {
        let error = stackferry_transfer::describe(&error);
        tracing::error!(action = action.as_str(), subject, error, "an audit record could not be written");
    }
}

pub(crate) fn make_state_dir(config: &Config) -> Result<(), Problem> {
    use std::os::unix::fs::DirBuilderExt;
    let path = config.state_dir.to_path_buf();
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&path);
    made.map_err(|error| Problem::io("make the state folder", path.display(), &error))
}

pub(crate) fn reserve(reserve: stackferry_config::Reserve) -> Reserve {
    match reserve {
        stackferry_config::Reserve::Percent(percent) => Reserve::Percent(percent.get()),
        stackferry_config::Reserve::Size(size) => Reserve::Bytes(size.as_bytes()),
    }
}

/// Runs blocking work on a thread for it. A panic there is a problem of that work only.
///
/// # Errors
/// The work panicked.
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Problem> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|_| Problem::internal("a part of the program failed; its log says where"))
}
