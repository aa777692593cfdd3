//! What every command works with: the configuration, the catalog, the vault, and the hosts that are asked.
//!
//! Each part is opened when it is first needed, so that a command does not fail for what it does not use.

mod adopt;
pub(crate) mod grants;
mod ledger;
mod refusals;
mod sources;
mod systems;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};

use jiff::Zoned;
use jiff::tz::TimeZone;
use stackferry_catalog::{Catalog, Clock};
use stackferry_config::{Config, Datastore, Esxi, EsxiAccess};
use stackferry_discover::DescriptorCache;
use stackferry_transfer::Throttle;
use stackferry_transfer::esxi::{Access, EsxiClient, EsxiDatastore};
use stackferry_transfer::remote::EndpointClient;
use stackferry_transfer::stock::{StockClient, StockHost};
use stackferry_vault::{Reserve, Vault, VaultOptions};
use stackferry_volume::io::Cancel;
use tokio::runtime::Handle;

use crate::jobs::Jobs;
use crate::metrics::Metrics;
use crate::problem::{Code, Problem};

use ledger::{CatalogLedger, Running};
use refusals::Refusals;
use systems::Systems;

pub use adopt::{Adopted, vault_volume, vault_volumes, version_row};
pub use sources::Source;
pub(crate) use sources::config_kind;
pub use systems::Told;

/// The program and its version, as it writes itself into manifests.
pub const PROGRAM: &str = concat!("stackferry ", env!("CARGO_PKG_VERSION"));

/// The parts that a command works with. Cheap to clone; all clones are one.
#[derive(Clone)]
pub struct App(Arc<Parts>);

struct Parts {
    config: Config,
    catalog: Catalog,
    runtime: Handle,
    vault: OnceLock<Vault>,
    endpoints: Mutex<BTreeMap<String, Arc<EndpointClient>>>,
    stock: Mutex<BTreeMap<String, Arc<StockClient>>>,
    descriptors: RwLock<DescriptorCache>,
    descriptors_loaded: AtomicBool,
    metrics: Metrics,
    jobs: Jobs,
    throttle: Option<Arc<Throttle>>,
    systems: Systems,
    refusals: Refusals,
    debts: Arc<Running>,
    esxi: Mutex<BTreeMap<String, Arc<EsxiClient>>>,
    install: String,
    clock: Clock,
    cancel: Cancel,
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
        let refusals = Refusals::read(&config, &catalog).await?;
        let metrics = Metrics::new(&config)?;
        let throttle = config.limits.bandwidth.map(|rate| Arc::new(Throttle::new(rate.as_bytes_per_second())));
        Ok(Self(Arc::new(Parts {
            jobs: Jobs::new(catalog.clone()),
            config,
            catalog,
            runtime: Handle::current(),
            vault: OnceLock::new(),
            endpoints: Mutex::new(BTreeMap::new()),
            stock: Mutex::new(BTreeMap::new()),
            descriptors: RwLock::new(DescriptorCache::default()),
            descriptors_loaded: AtomicBool::new(false),
            metrics,
            throttle,
            systems: Systems::default(),
            refusals,
            debts: Arc::default(),
            esxi: Mutex::default(),
            install,
            clock,
            cancel,
        })))
    }

    /// The configuration.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.0.config
    }

    /// The catalog.
    #[must_use]
    pub fn catalog(&self) -> &Catalog {
        &self.0.catalog
    }

    /// The runtime, for code on blocking threads that has to wait for the catalog.
    #[must_use]
    pub fn runtime(&self) -> &Handle {
        &self.0.runtime
    }

    /// Ends everything that runs.
    #[must_use]
    pub fn cancel(&self) -> &Cancel {
        &self.0.cancel
    }

    /// What is counted.
    #[must_use]
    pub fn metrics(&self) -> &Metrics {
        &self.0.metrics
    }

    /// What is to be done.
    #[must_use]
    pub fn jobs(&self) -> &Jobs {
        &self.0.jobs
    }

    /// The bandwidth limit of all transfers together.
    #[must_use]
    pub fn throttle(&self) -> Option<Arc<Throttle>> {
        self.0.throttle.clone()
    }

    /// The time of day, in the machine's zone.
    #[must_use]
    pub fn local_time(&self) -> Zoned {
        self.0.clock.now().to_zoned(TimeZone::system())
    }

    /// The vault, if it was opened.
    #[must_use]
    pub fn opened_vault(&self) -> Option<Vault> {
        self.0.vault.get().cloned()
    }

    /// Which debts copies of this process work on.
    pub(crate) fn running_debts(&self) -> &Running {
        &self.0.debts
    }

    /// The client of a datastore of ESXi hosts, one for each.
    ///
    /// # Errors
    /// There is no such `[[vsphere]]`, or its authorities can't be read; the catalog's.
    pub fn esxi(&self, datastore: &Datastore, settings: &Esxi) -> Result<Arc<EsxiClient>, Problem> {
        let name = format!("{}/{}", datastore.site.as_str(), datastore.name);
        let mut clients = self.0.esxi.lock().unwrap_or_else(PoisonError::into_inner);
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
            install: self.0.install.clone(),
        };
        let ledger = CatalogLedger {
            catalog: self.0.catalog.clone(),
            runtime: self.0.runtime.clone(),
            running: Arc::clone(&self.0.debts),
        };
        let client = Arc::new(EsxiClient::new(place, Arc::new(ledger), self.0.runtime.clone()));
        clients.insert(name, Arc::clone(&client));
        Ok(client)
    }

    /// The descriptors that were read before.
    pub(crate) fn descriptors(&self) -> &RwLock<DescriptorCache> {
        &self.0.descriptors
    }

    /// Whether this was asked before: the first one loads them.
    pub(crate) fn descriptors_loaded(&self) -> bool {
        self.0.descriptors_loaded.swap(true, Ordering::SeqCst)
    }

    /// The vault. At the first call it is opened, or made where the catalog knows none and the folder is empty; one that
    /// an empty catalog does not know is adopted: everything in it is taken into the catalog.
    ///
    /// # Errors
    /// The vault's and the catalog's; a configuration without `[vault]`.
    pub async fn vault(&self) -> Result<Vault, Problem> {
        if let Some(vault) = self.0.vault.get() {
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
        Ok(self.0.vault.get_or_init(|| vault).clone())
    }

    /// The client for a stock SSH host, one for each folder of it.
    ///
    /// # Errors
    /// The CA's key can't be used.
    pub fn stock(&self, settings: &stackferry_config::Ssh) -> Result<Arc<StockClient>, Problem> {
        let name =
            format!("{}@{} {} {}", settings.user, settings.host, settings.path.display(), settings.source_address);
        let mut stock = self.0.stock.lock().unwrap_or_else(PoisonError::into_inner);
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
        let client = Arc::new(StockClient::new(host, self.0.runtime.clone())?);
        stock.insert(name, Arc::clone(&client));
        Ok(client)
    }

    /// The client for an endpoint, one for each.
    ///
    /// # Errors
    /// The service's key can't be used.
    pub fn endpoint(&self, settings: &stackferry_config::Endpoint) -> Result<Arc<EndpointClient>, Problem> {
        let name = format!("{} {}", settings.host, settings.key.display());
        let mut endpoints = self.0.endpoints.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = endpoints.get(&name) {
            return Ok(Arc::clone(client));
        }
        let peer = sources::peer(&settings.host, &settings.trust);
        let client = Arc::new(EndpointClient::new(peer, &settings.key, self.0.runtime.clone())?);
        endpoints.insert(name, Arc::clone(&client));
        Ok(client)
    }
}

pub(crate) fn make_state_dir(config: &Config) -> Result<(), Problem> {
    use std::os::unix::fs::DirBuilderExt;
    let path = config.state_dir.to_path_buf();
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&path);
    made.map_err(|error| Problem::io("make the state folder", path.display(), &error))
}

fn reserve(reserve: stackferry_config::Reserve) -> Reserve {
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
