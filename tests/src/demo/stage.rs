//! What every demonstration begins with.

use std::path::Path;

use super::print::print;
use crate::error::LabError;
use crate::lab::{EndpointProcess, Lab};
use crate::site::{SitePlan, TestSite};

/// The datastore that is mounted here.
pub(super) const LOCAL: &str = "nfs01";
/// The datastore behind the endpoint.
pub(super) const REMOTE: &str = "nfs02";

/// What all demonstrations begin with.
pub(super) struct DemoStage {
    // Before the lab, so that its process ends before the lab's folder goes.
    pub(super) endpoint: EndpointProcess,
    pub(super) site: TestSite,
    pub(super) lab: Lab,
}

impl DemoStage {
    /// Builds a site whose first datastore is mounted here, and whose second is served by an endpoint.
    pub(super) fn build(program: &Path, keep: Option<&Path>, plan: &SitePlan) -> Result<Self, LabError> {
        let mut lab = match keep {
            Some(folder) => Lab::keep(program, folder)?,
            None => Lab::new(program)?,
        };
        let site = TestSite::build(&lab.path("site"), plan)?;
        let endpoint = lab.serve(&[REMOTE])?;
        lab.add_local(LOCAL)?;
        lab.add_endpoint(REMOTE, &endpoint)?;
        Ok(Self { endpoint, site, lab })
    }

    pub(super) fn print_folder(&self, keep: Option<&Path>) {
        if keep.is_some() {
            print(format_args!("everything is kept in {}", self.lab.root().display()));
        }
    }
}
