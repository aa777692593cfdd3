//! A lab beside App Volumes Managers: which of them know of its datastores, and at which site each lies.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;

use toml::{Table, Value};

use super::Lab;
use crate::avm::AppVolumesDouble;
use crate::error::{IoContext, LabError};

impl Lab {
    /// Adds an App Volumes Manager whose certificate is known, with the password of its administrator; at the only site
    /// there is, or at this one.
    ///
    /// # Errors
    /// The password's file can't be written.
    pub fn add_app_volumes(
        &mut self,
        name: &str,
        site: Option<&str>,
        manager: &AppVolumesDouble,
    ) -> Result<(), LabError> {
        let path = self.path(&format!("{name}.pass"));
        let mut open = std::fs::OpenOptions::new();
        let mut file = open.write(true).create(true).truncate(true).mode(0o600).open(&path).at("create", &path)?;
        file.write_all(b"right\n").at("write", &path)?;
        let password = Table::from_iter([("file".to_owned(), Value::from(path.to_string_lossy().into_owned()))]);
        self.config.app_volumes(
            name,
            [
                ("url", manager.url().into()),
                ("username", r"CORP\svc-stackferry".into()),
                ("password", password.into()),
                ("fingerprint", manager.fingerprint().into()),
            ],
        );
        if let Some(site) = site {
            self.config.change_app_volumes(name, "site", Some(site.into()));
        }
        Ok(())
    }

    /// Adds a datastore of a site that is mounted here, as the folder of another name: sites may have datastores of one
    /// name.
    ///
    /// # Errors
    /// Its folder can't be made.
    pub fn add_local_at(&mut self, site: &str, name: &str, folder: &str) -> Result<(), LabError> {
        let path = self.folder(folder, "")?.to_string_lossy().into_owned();
        self.config.datastore(name, [("route", "local".into()), ("path", path.into()), ("site", site.into())]);
        Ok(())
    }
}
