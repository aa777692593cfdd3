//! Making the site's files, and the list of what they are.

use std::fs;
use std::path::{Path, PathBuf};

use super::{DATASTORES, DiskSize, FOLDERS, SiteLocation, SitePlan, SiteVolume, Stray, TestSite};
use crate::check::{new_file, write_new};
use crate::disk::content::derive;
use crate::disk::foreign::Made;
use crate::disk::{Broken, DiskContent, DiskSpec, Foreign, Sidecar, TestDisk};
use crate::error::{IoContext, LabError};
use crate::expect::Expect;

const NFS01: &str = "nfs01";
const NFS02: &str = "nfs02";

pub(super) fn build(root: &Path, plan: &SitePlan) -> Result<TestSite, LabError> {
    fs::create_dir_all(root).at("make", root)?;
    for datastore in DATASTORES {
        let path = root.join(datastore);
        fs::create_dir(&path).at("make", &path)?;
        for folder in FOLDERS {
            let path = path.join(folder);
            fs::create_dir_all(&path).at("make", &path)?;
        }
    }
    let mut builder = Builder {
        site: TestSite { root: root.to_owned(), plan: *plan, volumes: Vec::new(), strays: Vec::new() },
        plan: *plan,
    };
    builder.applications()?;
    builder.writables()?;
    builder.templates()?;
    builder.odd_disks()?;
    builder.strays()?;
    Ok(builder.site)
}

struct Builder {
    site: TestSite,
    plan: SitePlan,
}

impl Builder {
    fn applications(&mut self) -> Result<(), LabError> {
        let apps = "cloudvolumes/apps";
        let office = self.spec(NFS01, apps, "Office", self.plan.office, Sidecar::Metadata);
        let content = if self.plan.tools { DiskContent::best(self.plan.office.data) } else { office.content };
        self.disk("appstack", NFS01, apps, office.content(content), "the same on both datastores")?;
        self.replica("appstack", "Office", NFS02)?;

        let size = self.plan.application;
        let chrome = self.spec(NFS01, apps, "Google!20!Chrome", size, Sidecar::Metadata);
        self.disk("appstack", NFS01, apps, chrome, "an encoded name")?;

        let packages = "appvolumes/packages";
        let app = self.spec(NFS01, packages, "App", size, Sidecar::Json);
        self.disk("package", NFS01, packages, app, "with its App_workstation.vmdk")?;
        let companion = DiskSize { bytes: 16 << 20, data: 128 << 10 };
        let companion = self.spec(NFS01, packages, "App_workstation", companion, Sidecar::None);
        let companion = TestDisk::build(&self.folder(NFS01, packages), companion)?;
        if let Some(app) = self.site.volumes.last_mut().and_then(|app| app.locations.last_mut()) {
            app.files.extend(names(&companion.files()));
        }

        let mut update = self.spec(NFS01, packages, "Notepad!2B!!2B!-update", size, Sidecar::Json);
        update.crlf = true;
        self.disk("package", NFS01, packages, update, "CR LF in the descriptor")?;
        let visio = self.spec(NFS02, packages, "Visio", size, Sidecar::Json);
        self.disk("package", NFS02, packages, visio, "")
    }

    fn writables(&mut self) -> Result<(), LabError> {
        let size = self.plan.writable;
        for (datastore, folder, stem, note) in [
            (NFS01, "cloudvolumes/writable", "CORP!5C!jdoe", "two volumes of one name"),
            (NFS02, "cloudvolumes/writable", "CORP!5C!jdoe", "two volumes of one name"),
            (NFS01, "cloudvolumes/writable", "CORP!5C!asmith", ""),
            (NFS01, "appvolumes/writables", "CORP!5C!mkeller", ""),
        ] {
            let spec = self.spec(datastore, folder, stem, size, Sidecar::Metadata);
            self.disk("writable", datastore, folder, spec, note)?;
        }
        for number in 0..self.plan.more_writables {
            let spec =
                self.spec(NFS01, "cloudvolumes/writable", &format!("CORP!5C!user{number:05}"), size, Sidecar::None);
            self.disk("writable", NFS01, "cloudvolumes/writable", spec, "")?;
        }
        let folder = "appvolumes/writables_backup";
        let backup = self.spec(NFS01, folder, "CORP!5C!jdoe", size, Sidecar::None);
        self.disk("writable", NFS01, folder, backup, "App Volumes' own backup")?;
        if let Some(volume) = self.site.volumes.last_mut() {
            volume.expect = Expect::OWN_BACKUP;
        }
        Ok(())
    }

    fn templates(&mut self) -> Result<(), LabError> {
        for (folder, stem) in
            [("cloudvolumes/apps_templates", "template"), ("appvolumes/writables_templates", "template_uia_only")]
        {
            let spec = self.spec(NFS01, folder, stem, self.plan.writable, Sidecar::None);
            self.disk("template", NFS01, folder, spec, "")?;
        }
        Ok(())
    }

    fn odd_disks(&mut self) -> Result<(), LabError> {
        let (seed, tools) = (self.plan.seed, self.plan.tools);
        let bytes = 64 << 20;
        let apps = self.folder(NFS01, "cloudvolumes/apps");
        let made = Foreign::StreamOptimized.build(&apps, "Exported", bytes, seed, tools)?;
        self.add("appstack", NFS01, "cloudvolumes/apps", "Exported", &made, "streamOptimized");
        let made = Broken::Truncated.build(&apps, "Damaged", bytes, seed)?;
        self.add("appstack", NFS01, "cloudvolumes/apps", "Damaged", &made, "a cut-off descriptor");
        let packages = self.folder(NFS02, "appvolumes/packages");
        let made = Foreign::Vsan.build(&packages, "OnVsan", bytes, seed, tools)?;
        self.add("package", NFS02, "appvolumes/packages", "OnVsan", &made, "its bytes are on vSAN");

        let apps = self.folder(NFS02, "cloudvolumes/apps");
        let (path, flat) = (apps.join("Lost.vmdk"), apps.join("Lost-flat.vmdk"));
        new_file(&flat)?.set_len(bytes).at("size", &flat)?;
        let made = Made { path, files: vec![flat], expect: Expect::MISSING };
        self.add("appstack", NFS02, "cloudvolumes/apps", "Lost", &made, "an extent without its descriptor");
        Ok(())
    }

    fn strays(&mut self) -> Result<(), LabError> {
        let file = |this: &mut Self, datastore, path: &str, text: &str, note| -> Result<(), LabError> {
            write_new(&this.site.datastore(datastore).join(path), text.as_bytes())?;
            this.site.strays.push(Stray { datastore, path: path.to_owned(), note });
            Ok(())
        };
        file(
            self,
            NFS01,
            "cloudvolumes/apps/.nfs00000000000012ab00000001",
            "gone",
            "a dot-file: removed while it was open",
        )?;
        file(
            self,
            NFS01,
            "cloudvolumes/apps/.hidden.vmdk",
            "Mac OS X\n",
            "a dot-file with a disk's name and no descriptor in it",
        )?;
        file(self, NFS01, "appvolumes/packages/readme.txt", "Do not touch.\r\n", "a note to colleagues")?;
        let path = "cloudvolumes/apps/Old.vmdk.lck";
        let folder = self.site.datastore(NFS01).join(path);
        fs::create_dir(&folder).at("make", &folder)?;
        file(self, NFS01, "cloudvolumes/apps/Old.vmdk.lck/M10042.lck", "lock", "Workstation's lock, in a folder")?;
        self.site.strays.push(Stray {
            datastore: NFS01,
            path: path.to_owned(),
            note: "Workstation's lock, left behind",
        });
        Ok(())
    }

    fn folder(&self, datastore: &str, folder: &str) -> PathBuf {
        self.site.datastore(datastore).join(folder)
    }

    /// A disk whose seed is its own, from where it lies.
    fn spec(&self, datastore: &str, folder: &str, stem: &str, size: DiskSize, sidecar: Sidecar) -> DiskSpec {
        let seed = derive(self.plan.seed, &format!("{datastore}/{folder}/{stem}"));
        let label = if folder.contains("writable") { "CVWritable" } else { "CVApps" };
        let spec =
            DiskSpec::new(stem, size.bytes, seed).content(DiskContent::Plain { bytes: size.data }).sidecar(sidecar);
        DiskSpec { label, ..spec }
    }

    fn disk(
        &mut self,
        kind: &'static str,
        datastore: &'static str,
        folder: &str,
        spec: DiskSpec,
        note: &'static str,
    ) -> Result<(), LabError> {
        let disk = TestDisk::build(&self.folder(datastore, folder), spec)?;
        let stem = disk.spec().stem.clone();
        let made = Made { path: disk.path(), files: disk.files(), expect: Expect::Protectable };
        self.add(kind, datastore, folder, &stem, &made, note);
        if let Some(location) = self.site.volumes.last_mut().and_then(|volume| volume.locations.last_mut()) {
            location.disk = Some(disk);
        }
        Ok(())
    }

    fn add(
        &mut self,
        kind: &'static str,
        datastore: &'static str,
        folder: &str,
        stem: &str,
        made: &Made,
        note: &'static str,
    ) {
        let files = names(&made.files).collect();
        let location = SiteLocation { datastore, path: format!("{folder}/{stem}.vmdk"), files, disk: None };
        let stem = stem.to_owned();
        self.site.volumes.push(SiteVolume { kind, stem, locations: vec![location], expect: made.expect, note });
    }

    /// Puts an equal copy of a volume onto another datastore.
    fn replica(&mut self, kind: &str, stem: &str, datastore: &'static str) -> Result<(), LabError> {
        let root = self.site.root.clone();
        for volume in self.site.volumes.iter_mut().filter(|volume| volume.kind == kind && volume.stem == stem) {
            let Some(SiteLocation { path, files, disk: Some(disk), .. }) = volume.locations.first().cloned() else {
                continue;
            };
            let target = root.join(datastore).join(&path);
            let copy = disk.replicate(target.parent().unwrap_or(&root))?;
            volume.locations.push(SiteLocation { datastore, path, files, disk: Some(copy) });
        }
        Ok(())
    }
}

fn names(files: &[PathBuf]) -> impl Iterator<Item = String> {
    files.iter().filter_map(|file| Some(file.file_name()?.to_string_lossy().into_owned()))
}
