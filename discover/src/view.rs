//! What of a datastore is looked at, and what kind of volume lies in which folder.

use std::fmt;
use std::sync::Arc;

use jiff::SignedDuration;
use stackferry_volume::{Folder, Kind, Location, SiteName};

/// A folder to look through, with its sub-folders.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FolderSpec {
    /// The folder, relative to the datastore; empty for its root.
    pub path: String,
    /// The kind of all volumes in it; none: the folder's name decides.
    pub kind: Option<Kind>,
}

impl FolderSpec {
    /// A folder whose name tells the kind.
    #[must_use]
    pub fn new(path: &str) -> Self {
        Self { path: path.trim_matches('/').to_owned(), kind: None }
    }

    /// The folders that App Volumes 2.x and 4.x make on a datastore, for where nothing else is configured. Those for
    /// templates have had several names; the folder of App Volumes' own backups is looked at so that a person sees that
    /// these are not protected.
    #[must_use]
    pub fn defaults() -> Vec<Self> {
        [
            "cloudvolumes/apps",
            "cloudvolumes/writable",
            "appvolumes/packages",
            "appvolumes/writables",
            "cloudvolumes/app_templates",
            "cloudvolumes/apps_templates",
            "cloudvolumes/writable_templates",
            "appvolumes/packages_templates",
            "appvolumes/writables_templates",
            "appvolumes/writables_backup",
        ]
        .map(FolderSpec::new)
        .into()
    }
}

/// A datastore, as it is to be scanned.
#[derive(Clone)]
pub struct DatastoreView {
    /// The site it belongs to.
    pub site: SiteName,
    /// Its name, as vSphere calls it.
    pub name: String,
    /// Its place among the configured datastores: of several equal ones the first gives a volume its id.
    pub rank: usize,
    /// Its type (`NFS`, `VMFS`, …), as far as it is known.
    pub datastore_type: Option<String>,
    /// How its folders are read.
    pub folder: Arc<dyn Folder>,
    /// What to look through; empty: [`FolderSpec::defaults`].
    pub folders: Vec<FolderSpec>,
    /// A volume with a file younger than this is left alone.
    pub settle: SignedDuration,
}

impl DatastoreView {
    /// Where a file of this datastore lies.
    #[must_use]
    pub fn location(&self, path: String) -> Location {
        Location { site: self.site.clone(), datastore: self.name.clone(), path }
    }
}

impl fmt::Debug for DatastoreView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DatastoreView")
            .field("site", &self.site)
            .field("name", &self.name)
            .field("rank", &self.rank)
            .field("datastore_type", &self.datastore_type)
            .field("folders", &self.folders)
            .field("settle", &self.settle)
            .finish_non_exhaustive()
    }
}

/// What lies in a folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FolderContent {
    /// Volumes of this kind.
    Volumes(Kind),
    /// Backups that App Volumes itself makes of writables.
    AppVolumesBackups,
}

/// What lies in a folder by its name: that of App Volumes' folders, in any depth below them and in any case, since both
/// occur. A sub-folder of a package may be called anything, so App Volumes' own names win over `…templates`.
#[must_use]
pub fn folder_content(folder: &str) -> FolderContent {
    let lower = folder.to_lowercase();
    let parts: Vec<&str> = lower.split('/').collect();
    let known = parts.windows(2).rev().find_map(|pair| match *pair {
        ["cloudvolumes", "apps"] => Some(FolderContent::Volumes(Kind::Appstack)),
        ["appvolumes", "packages"] => Some(FolderContent::Volumes(Kind::Package)),
        ["cloudvolumes", "writable"] | ["appvolumes", "writables"] => Some(FolderContent::Volumes(Kind::Writable)),
        ["appvolumes", "writables_backup"] => Some(FolderContent::AppVolumesBackups),
        _ => None,
    });
    let template = || parts.iter().any(|part| part.ends_with("templates"));
    known.unwrap_or_else(|| FolderContent::Volumes(if template() { Kind::Template } else { Kind::Image }))
}

/// Whether a path is a folder or lies below it; the empty folder is the root.
#[must_use]
pub fn is_within(path: &str, folder: &str) -> bool {
    folder.is_empty() || path.strip_prefix(folder).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_tell_kinds() {
        for (folder, kind) in [
            ("cloudvolumes/apps", Kind::Appstack),
            ("AppVolumes/Packages/Office/2024", Kind::Package),
            ("appvolumes/packages/x_templates", Kind::Package),
            ("cloudvolumes/writable", Kind::Writable),
            ("lab/appvolumes/writables", Kind::Writable),
            ("cloudvolumes/app_templates", Kind::Template),
            ("appvolumes/writables_templates/de", Kind::Template),
            ("cloudvolumes", Kind::Image),
            ("golden images", Kind::Image),
            ("xcloudvolumes/apps", Kind::Image),
            ("", Kind::Image),
        ] {
            assert_eq!(folder_content(folder), FolderContent::Volumes(kind), "{folder}");
        }
        assert_eq!(folder_content("appvolumes/writables_backup/2026"), FolderContent::AppVolumesBackups);
    }

    #[test]
    fn a_folder_holds_itself_and_what_is_below_it() {
        assert!(is_within("a/b", "a") && is_within("a", "a") && is_within("a", ""));
        assert!(!is_within("ab", "a") && !is_within("a", "a/b"));
    }
}
