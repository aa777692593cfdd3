//! What a manager knows: its volumes, datastores, groups and users. Plain data with helpers, so that a test says in a line
//! what it needs, before the start and in the middle of it.

use std::collections::BTreeMap;

/// Which manager it is, and so how it tells things.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AvmVersion {
    /// 2.6: `currentappstacks.appstacks`, dates ending with ` UTC`, numbers as texts, JSON that is called HTML.
    V2_6,
    /// 2.17, the last 2.x.
    V2_17,
    /// 4.15 (2410).
    V4_15,
}

impl AvmVersion {
    /// Whether it has packages.
    #[must_use]
    pub fn is_four(self) -> bool {
        self == Self::V4_15
    }
}

/// Which list a volume is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AvmList {
    /// `cv_api/appstacks`.
    AppStack,
    /// `app_volumes/app_packages`.
    Package,
    /// `…/writables`.
    Writable,
}

/// Where a copy of a volume lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AvmLocation {
    /// The datastore's name.
    pub datastore: String,
    /// The folder on it.
    pub folder: String,
    /// The file's name.
    pub file: String,
    /// Whether the manager misses it.
    pub missing: bool,
    /// Whether the manager reaches it.
    pub reachable: bool,
}

/// A volume of the manager.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AvmVolume {
    /// Its list.
    pub family: AvmList,
    /// Its number there.
    pub id: u64,
    /// Its name; of a writable its owner, as `DOMAIN\user`.
    pub name: String,
    /// The disk's id, without braces.
    pub guid: String,
    /// Where it lies; the first is the one that the lists tell.
    pub places: Vec<AvmLocation>,
    /// `enabled`, `disabled`, …
    pub status: String,
    /// The machines that it is attached to.
    pub attached_to: Vec<String>,
    /// How often it was mounted.
    pub mounts: u64,
    /// The size that is told, in MB.
    pub size_mb: u64,
    /// To whom it is assigned: type, distinguished name, prefix of machines or nothing.
    pub assignments: Vec<(String, String, String)>,
    /// How often it was captured or updated.
    pub captures: u64,
    /// Its application (packages).
    pub product: String,
    /// Its version text (packages).
    pub version: String,
    /// Its stage (packages).
    pub stage: String,
    /// Whether it carries the marker `CURRENT` (packages).
    pub current: bool,
    /// Whether it is being deleted (packages).
    pub deleting: bool,
    /// Whether it is being made (packages).
    pub provisioning: bool,
    /// Whether something is done to it (writables).
    pub busy: bool,
    /// What (writables): `Moving`.
    pub doing: Option<String>,
    /// What it says of its attachment instead of `Attached` and `Detached` (writables); an empty text is null.
    pub attached_word: Option<String>,
}

impl AvmVolume {
    /// Says that a copy of it lies there too.
    pub fn also_at(&mut self, datastore: &str, path: &str) -> &mut Self {
        self.places.push(place(datastore, path));
        self
    }

    /// Assigns it to somebody, on machines whose names begin with `prefix`, or on all.
    pub fn assign(&mut self, entity_type: &str, dn: &str, prefix: &str) -> &mut Self {
        self.assignments.push((entity_type.to_owned(), dn.to_owned(), prefix.to_owned()));
        self
    }

    /// Attaches it to a machine.
    pub fn attach(&mut self, machine: &str) -> &mut Self {
        self.attached_to.push(machine.to_owned());
        self.mounts += 1;
        self
    }

    /// Detaches it from all.
    pub fn detach(&mut self) -> &mut Self {
        self.attached_to.clear();
        self
    }
}

/// A datastore of the manager.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Storage {
    /// Its name.
    pub name: String,
    /// `VMFS`, `NFS41`, …
    pub kind: String,
    /// Whether volumes are attached from it.
    pub attachable: bool,
    /// Whether it is there.
    pub present: bool,
}

/// A storage group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AvmStorageGroup {
    /// Its name.
    pub name: String,
    /// The names of its members.
    pub members: Vec<String>,
    /// It imports.
    pub auto_import: bool,
    /// It replicates.
    pub auto_replicate: bool,
}

/// Who may log in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AvmUser {
    /// `DOMAIN\user`.
    pub name: String,
    /// The password.
    pub password: String,
    /// Whether it may only read.
    pub read_only: bool,
}

/// All that a manager knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AvmSite {
    /// Its version.
    pub version: AvmVersion,
    /// Whether `…/version` is nested, as in the reference, or flat, as managers give it.
    pub nested_version: bool,
    /// Whether a 4.x shows AppStacks, and whether its settings tell so.
    pub shows_appstacks: Option<bool>,
    /// Whether it refuses a login with HTTP 200, a cookie and an error.
    pub refuses_with_200: bool,
    /// Who may log in.
    pub users: Vec<AvmUser>,
    /// The volumes.
    pub volumes: Vec<AvmVolume>,
    /// The datastores.
    pub storages: Vec<Storage>,
    /// The groups.
    pub groups: Vec<AvmStorageGroup>,
    next_id: BTreeMap<AvmList, u64>,
}

impl AvmSite {
    /// A manager without volumes, and one administrator: `CORP\svc-stackferry` with the password `right`.
    #[must_use]
    pub fn new(version: AvmVersion) -> Self {
        let administrator =
            AvmUser { name: r"CORP\svc-stackferry".to_owned(), password: "right".to_owned(), read_only: false };
        Self {
            version,
            nested_version: false,
            shows_appstacks: Some(true),
            refuses_with_200: false,
            users: vec![administrator],
            volumes: Vec::new(),
            storages: Vec::new(),
            groups: Vec::new(),
            next_id: BTreeMap::new(),
        }
    }

    /// Adds an AppStack: `site.appstack("Office", "nfs01", "cloudvolumes/apps/Office.vmdk", guid)`.
    pub fn appstack(&mut self, name: &str, datastore: &str, path: &str, guid: &str) -> &mut AvmVolume {
        self.add(AvmList::AppStack, name, datastore, path, guid)
    }

    /// Adds a package of an application.
    pub fn package(&mut self, product: &str, name: &str, datastore: &str, path: &str, guid: &str) -> &mut AvmVolume {
        let volume = self.add(AvmList::Package, name, datastore, path, guid);
        product.clone_into(&mut volume.product);
        volume
    }

    /// Adds a writable of `DOMAIN\user`.
    pub fn writable(&mut self, owner: &str, datastore: &str, path: &str, guid: &str) -> &mut AvmVolume {
        self.add(AvmList::Writable, owner, datastore, path, guid)
    }

    fn add(&mut self, family: AvmList, name: &str, datastore: &str, path: &str, guid: &str) -> &mut AvmVolume {
        if !self.storages.iter().any(|known| known.name == datastore) {
            self.storage(datastore, "NFS41", true);
        }
        // Numbers are unique within a list only, as in App Volumes.
        let next = self.next_id.entry(family).or_insert(1);
        let id = *next;
        *next += 1;
        let volume = AvmVolume {
            family,
            id,
            name: name.to_owned(),
            guid: guid.to_owned(),
            places: vec![place(datastore, path)],
            status: "enabled".to_owned(),
            attached_to: Vec::new(),
            mounts: 0,
            size_mb: 78,
            assignments: Vec::new(),
            captures: 1,
            product: String::new(),
            version: "1.0".to_owned(),
            stage: "New".to_owned(),
            current: false,
            deleting: false,
            provisioning: false,
            busy: false,
            doing: None,
            attached_word: None,
        };
        self.volumes.push(volume);
        last(&mut self.volumes)
    }

    /// Adds a datastore, or says anew what is known of it.
    pub fn storage(&mut self, name: &str, kind: &str, attachable: bool) -> &mut Storage {
        self.storages.retain(|known| known.name != name);
        self.storages.push(Storage { name: name.to_owned(), kind: kind.to_owned(), attachable, present: true });
        last(&mut self.storages)
    }

    /// Adds a storage group.
    pub fn group(&mut self, name: &str, members: &[&str], auto_import: bool, auto_replicate: bool) {
        let members = members.iter().map(|member| (*member).to_owned()).collect();
        self.groups.push(AvmStorageGroup { name: name.to_owned(), members, auto_import, auto_replicate });
    }

    /// Adds a user.
    pub fn user(&mut self, name: &str, password: &str, read_only: bool) {
        self.users.push(AvmUser { name: name.to_owned(), password: password.to_owned(), read_only });
    }

    /// The volume of that number in a list.
    #[must_use]
    pub fn find(&self, family: AvmList, id: u64) -> Option<&AvmVolume> {
        self.volumes.iter().find(|volume| volume.family == family && volume.id == id)
    }

    /// The volume of that name in a list, to change it.
    ///
    /// # Panics
    /// There is none: a test that names it wrongly has to stop.
    pub fn named(&mut self, family: AvmList, name: &str) -> &mut AvmVolume {
        let mut all = self.volumes.iter_mut();
        match all.find(|volume| volume.family == family && volume.name == name) {
            Some(volume) => volume,
            None => unreachable!("the site has no {family:?} named {name}"),
        }
    }

    /// Takes a volume out.
    pub fn remove(&mut self, family: AvmList, name: &str) {
        self.volumes.retain(|volume| volume.family != family || volume.name != name);
    }

    /// Puts the marker `CURRENT` of its application on a package, and takes it from the others.
    pub fn mark_current(&mut self, name: &str) {
        let product = self.named(AvmList::Package, name).product.clone();
        for volume in
            self.volumes.iter_mut().filter(|volume| volume.family == AvmList::Package && volume.product == product)
        {
            volume.current = volume.name == name;
        }
    }

    /// The volumes of a list.
    pub fn of(&self, family: AvmList) -> impl Iterator<Item = &AvmVolume> {
        self.volumes.iter().filter(move |volume| volume.family == family)
    }

    /// The applications, in the order of their names. Their numbers are their places here, from 1.
    #[must_use]
    pub fn products(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.of(AvmList::Package).map(|volume| volume.product.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        names
    }
}

/// What was just added.
fn last<T>(list: &mut [T]) -> &mut T {
    match list.last_mut() {
        Some(last) => last,
        None => unreachable!("something was just added"),
    }
}

fn place(datastore: &str, path: &str) -> AvmLocation {
    let (folder, file) = path.rsplit_once('/').unwrap_or(("", path));
    AvmLocation {
        datastore: datastore.to_owned(),
        folder: folder.to_owned(),
        file: file.to_owned(),
        missing: false,
        reachable: true,
    }
}
