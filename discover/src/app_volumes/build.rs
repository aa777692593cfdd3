//! One look: the lists, then the details that are due, then the report.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::stream::{self, StreamExt};
use jiff::Timestamp;
use stackferry_volume::{Kind, SiteName};

use super::api::ManagerApi;
use super::assignments::AssignmentsByVolume;
use super::detail::{DetailRequest, DetailResult, apply, request_detail};
use super::detail_cache::{DetailCache, DetailKey, datastores_digest};
use super::error::ManagerError;
use super::report::{ManagedDatastore, ManagedVolume, Report, StorageGroup, VolumeFamily, VolumeRef};
use super::requests::ManagerRequest;
use super::storage::{Datastores, folders, group, shows_appstacks};
use super::version::{ManagerGeneration, ManagerVersion, version};
use super::volumes::{ListedVolume, listed_volume};
use crate::problem::{ProblemCode, ScanProblem};

/// How many requests are under way at once: a manager has few processes, and its users come first.
const AT_ONCE: usize = 4;
/// After so many details that failed in one look the rest is left for the next: the manager has other troubles.
const MAX_FAILURES: usize = 8;
/// The most storage groups that are looked into.
const MAX_GROUPS: usize = 1000;

const APPSTACKS: [&str; 3] = ["currentappstacks", "appstacks", "data"];
const WRITABLES: [&str; 3] = ["datastores", "writable_volumes", "data"];
const PACKAGES: [&str; 2] = ["data", "app_packages"];

/// A look under way.
pub(super) struct ReportBuilder<'a> {
    api: &'a ManagerApi<'a>,
    details: &'a mut DetailCache,
    now: Timestamp,
    complete: bool,
    problems: Vec<ScanProblem>,
    volumes: BTreeMap<VolumeRef, ListedVolume>,
}

impl<'a> ReportBuilder<'a> {
    pub(super) fn new(api: &'a ManagerApi<'a>, details: &'a mut DetailCache, now: Timestamp) -> Self {
        Self { api, details, now, complete: true, problems: Vec::new(), volumes: BTreeMap::new() }
    }

    pub(super) async fn make(mut self, name: &str, site: &SiteName) -> Result<Report, ManagerError> {
        let version = self.version().await?;
        // A login that fails is the end of the look, also where the first list is one that may be missing.
        self.api.session.open(&self.api.run).await?;
        let (datastores, folders) = self.datastores().await?;
        let stores = datastores_digest(&datastores);
        let groups = self.groups(stores).await?;
        let writables = match version.generation {
            ManagerGeneration::Two => {
                self.list(ManagerRequest::AppStacks, &APPSTACKS, VolumeFamily::AppStack).await?;
                ManagerRequest::Writables
            }
            ManagerGeneration::Four => {
                self.appstacks_of_four().await?;
                self.list(ManagerRequest::Packages, &PACKAGES, VolumeFamily::Package).await?;
                ManagerRequest::NewWritables
            }
        };
        self.list(writables, &WRITABLES, VolumeFamily::Writable).await?;
        let assigned = self.name_and_assign().await?;
        self.request_details(version.generation, stores, !assigned).await?;
        let volumes = self.finish_volumes();
        Ok(Report {
            manager: name.to_owned(),
            site: site.clone(),
            version: version.text,
            observed: self.now,
            complete: self.complete,
            volumes,
            datastores,
            groups,
            folders,
            problems: self.problems,
        })
    }

    async fn version(&self) -> Result<ManagerVersion, ManagerError> {
        let keys = ["version", "data"];
        let mut read = self.api.object_without_login(ManagerRequest::Version, &keys, "version", version).await;
        if read.as_ref().is_err_and(ManagerError::is_not_found) {
            read = self.api.object_without_login(ManagerRequest::NewVersion, &keys, "version", version).await;
        }
        if let Err(ManagerError::Status { status: 401 | 403, .. }) = read {
            read = self.api.object(ManagerRequest::Version, &keys, "version", version).await;
        }
        read?.map_err(|version| ManagerError::UnknownVersion { system: self.api.session.system().to_owned(), version })
    }

    async fn datastores(&mut self) -> Result<(Vec<ManagedDatastore>, Vec<(String, Kind)>), ManagerError> {
        let mut stores = Datastores::default();
        let read = self.api.list(ManagerRequest::Storages, &["storages", "data"], |entry| stores.storage(entry)).await;
        self.optional(read, "its storages")?;
        let read = self.api.object(ManagerRequest::Datastores, &["data"], "datastores", |top| {
            top.objects("datastores").for_each(|entry| stores.datastore(entry));
            folders(top)
        });
        let read = read.await;
        let folders = self.optional(read, "its datastores")?.unwrap_or_default();
        Ok((stores.finish(), folders))
    }

    async fn groups(&mut self, datastores: u64) -> Result<Vec<StorageGroup>, ManagerError> {
        let mut listed: BTreeMap<u64, (DetailKey, StorageGroup)> = BTreeMap::new();
        let read = self.api.list(ManagerRequest::Groups, &["storage_groups", "data"], |entry| {
            if let (Some(id), Some(group)) = (entry.number("id"), group(entry)) {
                listed.insert(id, (DetailKey { entry: entry.digest(), in_use: false, datastores }, group));
            }
        });
        let read = read.await;
        self.optional(read, "its storage groups")?;
        let mut groups = Vec::with_capacity(listed.len());
        for (id, (key, known)) in listed.iter().take(MAX_GROUPS) {
            if let Some(kept) = self.details.group(*id, *key, self.now) {
                groups.push(kept.clone());
                continue;
            }
            let read = self.api.object(ManagerRequest::Group(*id), &["storage_group", "data"], "id", group).await;
            match self.optional(read, &format!("the members of storage group {}", known.name))?.flatten() {
                Some(told) => {
                    self.details.keep_group(*id, *key, self.now, told.clone());
                    groups.push(told);
                }
                None => groups.push(known.clone()),
            }
        }
        self.details.retain(|_| true, |id| listed.contains_key(&id));
        Ok(groups)
    }

    /// A manager of 4.x shows AppStacks only where it was told to; one that does not has no such list, or an empty one.
    async fn appstacks_of_four(&mut self) -> Result<(), ManagerError> {
        let read = self
            .api
            .object(ManagerRequest::Settings, &["data"], "setting", |settings| shows_appstacks(settings.0))
            .await;
        // Not everybody who may read volumes may read settings, so that is no problem to tell.
        let shown = match read {
            Ok(shown) => shown,
            Err(error @ (ManagerError::LoginRefused { .. } | ManagerError::Timeout { .. })) => return Err(error),
            Err(_) => None,
        };
        if shown == Some(false) {
            return Ok(());
        }
        match self.list(ManagerRequest::AppStacks, &APPSTACKS, VolumeFamily::AppStack).await {
            Err(error) if error.is_not_found() => Ok(()),
            Err(error @ (ManagerError::Status { .. } | ManagerError::Denied { .. })) if shown.is_none() => {
                self.complete = false;
                self.add_error("the AppStacks of 2.x, if it has any, can't be read", &error);
                Ok(())
            }
            other => other,
        }
    }

    /// Reads a list of volumes.
    async fn list(&mut self, ask: ManagerRequest, keys: &[&str], family: VolumeFamily) -> Result<(), ManagerError> {
        let mut nameless = 0usize;
        let volumes = &mut self.volumes;
        let whole = self.api.list(ask, keys, |entry| match listed_volume(family, entry) {
            Some(volume) => drop(volumes.insert(volume.volume.at, volume)),
            None => nameless += 1,
        });
        if !whole.await? || nameless > 0 {
            self.complete = false;
            self.add_problem(
                format!("{} was not read whole: it is too long, {nameless} entries can't be read, or an error stands beside it", ask.template()),
                "What is not in it may be known to App Volumes all the same; look at the list in App Volumes."
                    .to_owned(),
            );
        }
        Ok(())
    }

    /// Names stages and applications where the lists only give numbers, and says to whom volumes are assigned. False if that
    /// has to be asked of each AppStack.
    async fn name_and_assign(&mut self) -> Result<bool, ManagerError> {
        let has = |family, volumes: &BTreeMap<VolumeRef, ListedVolume>| volumes.keys().any(|at| at.family == family);
        if has(VolumeFamily::Package, &self.volumes) {
            let unnamed = self.volumes.values().any(|one| one.stage_id.is_some() && one.volume.stage.is_none());
            let stages = if unnamed {
                self.names(ManagerRequest::Stages, "its lifecycle stages").await?
            } else {
                BTreeMap::new()
            };
            let unnamed = self.volumes.values().any(|one| one.product_id.is_some() && one.volume.product.is_none());
            let products =
                if unnamed { self.names(ManagerRequest::Products, "its applications").await? } else { BTreeMap::new() };
            let mut assigned = AssignmentsByVolume::default();
            let read =
                self.api.list(ManagerRequest::PackageAssignments, &["data"], |entry| assigned.new_style(entry)).await;
            self.optional(read, "to whom packages are assigned")?;
            for (at, one) in self.volumes.iter_mut().filter(|(at, _)| at.family == VolumeFamily::Package) {
                let name = |names: &BTreeMap<u64, String>, id: Option<u64>| names.get(&id?).cloned();
                one.volume.stage = one.volume.stage.take().or_else(|| name(&stages, one.stage_id));
                one.volume.product = one.volume.product.take().or_else(|| name(&products, one.product_id));
                one.volume.assignments = assigned.take(at.id);
            }
            self.report_cut_assignments(&assigned);
        }
        if !has(VolumeFamily::AppStack, &self.volumes) {
            return Ok(true);
        }
        let mut assigned = AssignmentsByVolume::default();
        let read =
            self.api.list(ManagerRequest::Assignments, &["assignments", "data"], |entry| assigned.old(entry)).await;
        if read.as_ref().is_err_and(ManagerError::is_not_found) {
            return Ok(false);
        }
        self.optional(read, "to whom AppStacks are assigned")?;
        for (at, one) in self.volumes.iter_mut().filter(|(at, _)| at.family == VolumeFamily::AppStack) {
            one.volume.assignments = assigned.take(at.id);
        }
        self.report_cut_assignments(&assigned);
        Ok(true)
    }

    fn report_cut_assignments(&mut self, assigned: &AssignmentsByVolume) {
        if assigned.cut {
            self.add_problem(
                "a volume is assigned to more than are kept".to_owned(),
                "Assign it to groups; what is kept with its versions is not all.".to_owned(),
            );
        }
    }

    async fn names(&mut self, ask: ManagerRequest, what: &str) -> Result<BTreeMap<u64, String>, ManagerError> {
        let mut names = BTreeMap::new();
        let read = self.api.list(ask, &["data"], |entry| {
            if let (Some(id), Some(name)) = (entry.number("id"), entry.text("name")) {
                names.insert(id, name);
            }
        });
        let read = read.await;
        self.optional(read, what)?;
        Ok(names)
    }

    /// Asks what is due of single volumes, and keeps it.
    async fn request_details(
        &mut self,
        generation: ManagerGeneration,
        datastores: u64,
        assignments: bool,
    ) -> Result<(), ManagerError> {
        let requests: Vec<DetailRequest> =
            self.volumes.values().filter_map(|one| self.want(one, datastores, assignments)).collect();
        let (api, failures) = (self.api, &AtomicUsize::new(0));
        let told: Vec<(DetailRequest, Option<DetailResult>)> = stream::iter(requests)
            .map(|want| async move {
                if failures.load(Ordering::Relaxed) >= MAX_FAILURES {
                    return (want, None);
                }
                let told = request_detail(api, generation, &want).await;
                if told.is_err() {
                    failures.fetch_add(1, Ordering::Relaxed);
                }
                (want, Some(told))
            })
            .buffer_unordered(AT_ONCE)
            .collect()
            .await;
        let (mut untold, mut first) = (0usize, None);
        for (want, told) in told {
            match told {
                Some(Ok(Some(detail))) => self.details.keep(want.at, want.key, self.now, detail),
                Some(Ok(None)) => drop(self.volumes.remove(&want.at)),
                Some(Err(error @ ManagerError::LoginRefused { .. })) => return Err(error),
                other => {
                    untold += 1;
                    first = first.or(other.and_then(Result::err));
                    self.complete &= self.details.of(want.at).is_some();
                }
            }
        }
        if let Some(error) = first {
            self.add_error(&format!("where {untold} volumes lie could not be asked"), &error);
        }
        Ok(())
    }

    fn want(&self, one: &ListedVolume, datastores: u64, assignments: bool) -> Option<DetailRequest> {
        let at = one.volume.at;
        let key = DetailKey { entry: one.digest, in_use: one.volume.attached == Some(true), datastores };
        let detail = at.family == VolumeFamily::AppStack || one.needs_detail;
        let asks = detail || at.family == VolumeFamily::Package;
        (asks && self.details.is_due(at, key, self.now)).then(|| DetailRequest {
            at,
            key,
            detail,
            assignments: assignments && at.family == VolumeFamily::AppStack,
            own: one.volume.places.first().cloned(),
        })
    }

    fn finish_volumes(&mut self) -> Vec<ManagedVolume> {
        let seen: BTreeSet<VolumeRef> = self.volumes.keys().copied().collect();
        self.details.retain(|at| seen.contains(&at), |_| true);
        let volumes = std::mem::take(&mut self.volumes).into_values().map(|one| {
            let mut volume = one.volume;
            if let Some(detail) = self.details.of(volume.at) {
                apply(&mut volume, detail);
            }
            volume
        });
        volumes.collect()
    }

    /// What only adds to the report may be missing in it. An address that an older manager does not have is no problem.
    fn optional<T>(&mut self, read: Result<T, ManagerError>, what: &str) -> Result<Option<T>, ManagerError> {
        match read {
            Ok(read) => Ok(Some(read)),
            Err(error @ (ManagerError::LoginRefused { .. } | ManagerError::Timeout { .. })) => Err(error),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => {
                self.add_error(&format!("{what} can't be read"), &error);
                Ok(None)
            }
        }
    }

    fn add_error(&mut self, what: &str, error: &ManagerError) {
        let cause = std::error::Error::source(error).map(|cause| format!(": {cause}")).unwrap_or_default();
        self.add_problem(format!("{what}: {error}{cause}"), error.hint());
    }

    fn add_problem(&mut self, text: String, hint: String) {
        let code = ProblemCode::Notice;
        self.problems.push(ScanProblem { code, subject: self.api.session.system().to_owned(), text, hint });
    }
}
