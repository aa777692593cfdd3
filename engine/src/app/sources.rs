//! The configured datastores, and how each is looked at and read.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use jiff::SignedDuration;
use stackferry_config::{DatastoreConfig, HostPort, HostTrust, Route, RouteKind};
use stackferry_discover::view::is_within;
use stackferry_discover::{DatastoreView, FolderSpec};
use stackferry_transfer::esxi::EsxiClient;
use stackferry_transfer::known_hosts::HostKeys;
use stackferry_transfer::remote::{EndpointClient, EndpointFolder};
use stackferry_transfer::ssh::SshHost;
use stackferry_transfer::stock::StockClient;
use stackferry_volume::local::LocalFolder;
use stackferry_volume::{Entry, Folder, FolderError, Kind, SiteName};

use super::{App, SystemReports, mounts};
use stackferry_problem::Problem;

/// How one datastore's bytes are reached.
#[derive(Clone)]
pub enum DatastoreAccess {
    /// It is mounted here.
    Local(Arc<LocalFolder>),
    /// An endpoint has it, under this name.
    Endpoint {
        /// The endpoint.
        client: Arc<EndpointClient>,
        /// The datastore's name there.
        datastore: String,
    },
    /// A stock SSH server mounts it.
    Ssh(Arc<StockClient>),
    /// ESXi hosts mount it.
    Esxi(Arc<EsxiClient>),
}

impl DatastoreAccess {
    /// The route's word in manifests and JSON.
    #[must_use]
    pub fn route(&self) -> RouteKind {
        match self {
            DatastoreAccess::Local(_) => RouteKind::Local,
            DatastoreAccess::Endpoint { .. } => RouteKind::Endpoint,
            DatastoreAccess::Ssh(_) => RouteKind::Ssh,
            DatastoreAccess::Esxi(_) => RouteKind::Esxi,
        }
    }

    /// The datastore, to be looked at.
    #[must_use]
    pub fn folder(&self) -> Arc<dyn Folder> {
        match self {
            DatastoreAccess::Local(folder) => Arc::<LocalFolder>::clone(folder),
            DatastoreAccess::Endpoint { client, datastore } => {
                Arc::new(EndpointFolder::new(Arc::clone(client), datastore))
            }
            DatastoreAccess::Ssh(client) => Arc::new(client.folder()),
            DatastoreAccess::Esxi(client) => Arc::new(client.folder()),
        }
    }

    /// The host that is read from, for caps per host.
    #[must_use]
    pub fn host(&self) -> String {
        match self {
            DatastoreAccess::Local(_) => "local".to_owned(),
            DatastoreAccess::Endpoint { client, .. } => client.address(),
            DatastoreAccess::Ssh(client) => client.address(),
            DatastoreAccess::Esxi(client) => client.datastore().system.clone(),
        }
    }

    fn datastore_type(&self) -> Option<String> {
        match self {
            DatastoreAccess::Local(folder) => Some(if folder.is_nfs() { "NFS" } else { "OTHER" }.to_owned()),
            DatastoreAccess::Endpoint { client, datastore } => {
                let hello = client.hello().ok()?;
                hello.datastores.into_iter().find(|info| info.name == *datastore).map(|info| info.kind)
            }
            // Nothing there tells what the folder lies on; of the other, vSphere told already.
            DatastoreAccess::Ssh(_) | DatastoreAccess::Esxi(_) => None,
        }
    }
}

/// A datastore that can't be looked at, and why. Scanning it gives just that.
struct Unreachable {
    datastore: String,
    why: String,
}

impl Unreachable {
    fn error(&self) -> FolderError {
        FolderError::Unreachable { datastore: self.datastore.clone(), why: self.why.clone() }
    }
}

impl Folder for Unreachable {
    fn list(&self, _path: &str) -> Result<Vec<Entry>, FolderError> {
        Err(self.error())
    }
    fn stat(&self, _path: &str) -> Result<Option<Entry>, FolderError> {
        Err(self.error())
    }
    fn read(&self, _path: &str, _limit: usize) -> Result<Vec<u8>, FolderError> {
        Err(self.error())
    }
}

/// A host as the transfer wants it.
pub(crate) fn peer(host: &HostPort, trust: &HostTrust) -> SshHost {
    let host_keys = match trust {
        HostTrust::Key(key) => HostKeys::Line(key.as_str().to_owned()),
        HostTrust::KnownHosts(path) => HostKeys::File(PathBuf::from(&**path)),
    };
    SshHost { host: host.host.clone(), port: host.port, host_keys }
}

impl App {
    /// How a datastore is reached. Blocks.
    ///
    /// # Errors
    /// It is not mounted, or its host can't be asked at all.
    pub fn source(&self, datastore: &DatastoreConfig) -> Result<DatastoreAccess, Problem> {
        match &datastore.route {
            Route::Local(local) => {
                self.answers(&local.path, mounts::NO_ANSWER)?;
                Ok(DatastoreAccess::Local(Arc::new(LocalFolder::open_with(&local.path, self.pulse(&local.path))?)))
            }
            Route::Endpoint(endpoint) => Ok(DatastoreAccess::Endpoint {
                client: self.endpoint(endpoint)?,
                datastore: datastore.name.to_string(),
            }),
            Route::Ssh(ssh) => Ok(DatastoreAccess::Ssh(self.stock(ssh)?)),
            Route::Esxi(esxi) => Ok(DatastoreAccess::Esxi(self.esxi(datastore, esxi)?)),
        }
    }

    /// A configured datastore as discovery wants it; one that can't be reached is looked at all the same, and says so.
    /// Blocks.
    #[must_use]
    pub fn view(&self, rank: usize, datastore: &DatastoreConfig, told: &SystemReports) -> DatastoreView {
        self.view_of(rank, datastore, told, self.source(datastore))
    }

    /// The same for a datastore that was asked already, or does not answer.
    #[must_use]
    pub(crate) fn view_of(
        &self,
        rank: usize,
        datastore: &DatastoreConfig,
        told: &SystemReports,
        source: Result<DatastoreAccess, Problem>,
    ) -> DatastoreView {
        let (folder, datastore_type): (Arc<dyn Folder>, _) = match source {
            Ok(source) => (source.folder(), source.datastore_type()),
            Err(problem) => {
                let why = problem.message;
                (Arc::new(Unreachable { datastore: datastore.name.to_string(), why }), None)
            }
        };
        let site = SiteName(datastore.site.as_str().to_owned());
        let told_type = told.datastore_type(&site, datastore.name.as_str());
        let folders = folders(datastore, &site, told);
        DatastoreView {
            site,
            name: datastore.name.to_string(),
            rank,
            datastore_type: told_type.or(datastore_type),
            folder,
            folders,
            settle: SignedDuration::try_from(self.config().schedule.settle.duration()).unwrap_or(SignedDuration::ZERO),
        }
    }

    /// The configured datastore of this site and name.
    #[must_use]
    pub fn datastore(&self, site: &SiteName, name: &str) -> Option<&DatastoreConfig> {
        self.config()
            .datastores
            .iter()
            .find(|datastore| datastore.site.as_str() == site.0 && datastore.name.as_str() == name)
    }
}

/// The folders of a datastore that are looked through: those of the configuration, those that App Volumes keeps volumes in
/// by default, and those where it says that volumes lie. App Volumes' word for what lies in one wins over its name.
fn folders(datastore: &DatastoreConfig, site: &SiteName, told: &SystemReports) -> Vec<FolderSpec> {
    let configured = datastore.folders.iter();
    let mut specs: Vec<FolderSpec> = configured
        .map(|folder| FolderSpec {
            path: folder.path.as_str().to_owned(),
            kind: folder.kind.map(crate::kinds::from_config),
        })
        .collect();
    let reports = told.managers.iter().filter(|view| view.site == *site).filter_map(|view| view.report.as_ref().ok());
    let mut named: BTreeMap<String, BTreeSet<Kind>> = BTreeMap::new();
    for report in reports {
        let is_known = report.datastores.iter().any(|one| one.name == datastore.name.as_str());
        for (folder, kind) in report.folders.iter().filter(|_| is_known) {
            named.entry(folder.trim_matches('/').to_owned()).or_default().insert(*kind);
        }
        for volume in &report.volumes {
            for place in volume.places.iter().filter(|place| place.datastore == datastore.name.as_str()) {
                named.entry(place.folder.trim_matches('/').to_owned()).or_default().insert(volume.kind);
            }
        }
    }
    for (path, kinds) in named {
        // Where several kinds lie side by side, each volume's own is told by App Volumes.
        let mut kinds = kinds.into_iter();
        let kind = kinds.next().filter(|_| kinds.next().is_none());
        // A sub-folder of one that is looked through comes with it.
        let comes_along = specs.iter().any(|spec| spec.kind == kind && is_within(&path, &spec.path));
        match specs.iter_mut().find(|spec| spec.path == path) {
            Some(spec) => spec.kind = spec.kind.or(kind),
            None if comes_along => {}
            None => specs.push(FolderSpec { path, kind }),
        }
    }
    specs
}
