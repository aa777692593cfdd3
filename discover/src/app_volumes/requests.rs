//! Every address of a manager that is ever asked. Only numbers are put into one, so no other can be formed; `/cleanup`, which
//! detaches everything from everyone, is not among them and never may be.

/// Where logins and logouts go.
pub(super) const SESSIONS: &str = "/cv_api/sessions";
/// Disables the writables whose numbers follow.
pub(super) const DISABLE: &str = "/cv_api/writables/disable";
/// Enables the writables whose numbers follow.
pub(super) const ENABLE: &str = "/cv_api/writables/enable";

/// The longest list that is read, in bytes: 5,000 writables take about 6 MB.
const LIST_BYTES: u64 = 64 << 20;
/// The longest answer about one thing, in bytes.
const ONE_BYTES: u64 = 4 << 20;

/// Something that is asked with `GET`, which changes nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum ManagerRequest {
    Version,
    NewVersion,
    Settings,
    AppStacks,
    AppStack(u64),
    AppStackFiles(u64),
    AppStackAssignments(u64),
    Assignments,
    Writables,
    Writable(u64),
    Storages,
    Datastores,
    Groups,
    Group(u64),
    Packages,
    Package(u64),
    PackageFiles(u64),
    Products,
    Stages,
    PackageAssignments,
    NewWritables,
    NewWritable(u64),
}

impl ManagerRequest {
    /// The path, and the query where there is one.
    pub(super) fn path(self) -> String {
        match self.parts() {
            (path, None) => path.to_owned(),
            (path, Some(id)) => path.replace("{id}", &id.to_string()),
        }
    }

    /// The path with `{id}` where the number stands.
    pub(super) fn template(self) -> &'static str {
        self.parts().0
    }

    /// The longest answer that is read, in bytes.
    pub(super) fn limit(self) -> u64 {
        if self.parts().1.is_some() || matches!(self, Self::Version | Self::NewVersion) {
            ONE_BYTES
        } else {
            LIST_BYTES
        }
    }

    fn parts(self) -> (&'static str, Option<u64>) {
        match self {
            Self::Version => ("/cv_api/version", None),
            Self::NewVersion => ("/app_volumes/version", None),
            Self::Settings => ("/cv_api/settings", None),
            Self::AppStacks => ("/cv_api/appstacks", None),
            Self::AppStack(id) => ("/cv_api/appstacks/{id}", Some(id)),
            Self::AppStackFiles(id) => ("/cv_api/appstacks/{id}/files", Some(id)),
            Self::AppStackAssignments(id) => ("/cv_api/appstacks/{id}/assignments", Some(id)),
            Self::Assignments => ("/cv_api/assignments", None),
            Self::Writables => ("/cv_api/writables", None),
            Self::Writable(id) => ("/cv_api/writables/{id}", Some(id)),
            Self::Storages => ("/cv_api/storages", None),
            Self::Datastores => ("/cv_api/datastores", None),
            Self::Groups => ("/cv_api/storage_groups", None),
            Self::Group(id) => ("/cv_api/storage_groups/{id}", Some(id)),
            Self::Packages => ("/app_volumes/app_packages?include=app_markers,lifecycle_stage,app_product", None),
            Self::Package(id) => ("/app_volumes/app_packages/{id}", Some(id)),
            Self::PackageFiles(id) => ("/app_volumes/app_packages/{id}/files", Some(id)),
            Self::Products => ("/app_volumes/app_products", None),
            Self::Stages => ("/app_volumes/lifecycle_stages", None),
            Self::PackageAssignments => {
                ("/app_volumes/app_assignments?include=entities,filters,app_package,app_marker", None)
            }
            Self::NewWritables => ("/app_volumes/writables", None),
            Self::NewWritable(id) => ("/app_volumes/writables/{id}", Some(id)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const ALL: [ManagerRequest; 22] = [
        ManagerRequest::Version,
        ManagerRequest::NewVersion,
        ManagerRequest::Settings,
        ManagerRequest::AppStacks,
        ManagerRequest::AppStack(7),
        ManagerRequest::AppStackFiles(7),
        ManagerRequest::AppStackAssignments(7),
        ManagerRequest::Assignments,
        ManagerRequest::Writables,
        ManagerRequest::Writable(7),
        ManagerRequest::Storages,
        ManagerRequest::Datastores,
        ManagerRequest::Groups,
        ManagerRequest::Group(7),
        ManagerRequest::Packages,
        ManagerRequest::Package(7),
        ManagerRequest::PackageFiles(7),
        ManagerRequest::Products,
        ManagerRequest::Stages,
        ManagerRequest::PackageAssignments,
        ManagerRequest::NewWritables,
        ManagerRequest::NewWritable(7),
    ];

    #[test]
    fn nothing_dangerous_can_be_formed() {
        let mut paths: BTreeSet<String> = ALL.iter().map(|ask| ask.path()).collect();
        assert_eq!(paths.len(), ALL.len());
        paths.extend([SESSIONS, DISABLE, ENABLE].map(str::to_owned));
        for path in paths {
            assert!(path.starts_with("/cv_api/") || path.starts_with("/app_volumes/"), "{path}");
            for word in ["cleanup", "delete", "import", "replicate", "rescan", "logout", "{", "//", "..", " "] {
                assert!(!path.contains(word), "{path}");
            }
        }
        assert_eq!(ManagerRequest::AppStackFiles(7).path(), "/cv_api/appstacks/7/files");
        assert_eq!(ManagerRequest::AppStackFiles(7).template(), "/cv_api/appstacks/{id}/files");
    }
}
