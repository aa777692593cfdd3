//! Cleaning up what an interrupted copy left at a host, and finding what other installations left there.

use stackferry_vsphere::{Moid, Vsphere, VsphereError};

use super::HostCleanup;
use crate::error::TransferError;

/// The key of a host's SSH service.
pub(super) const SSH_SERVICE: &str = "TSM-SSH";

/// A host by its id.
pub(super) fn host_moid(id: &str) -> Moid {
    Moid { kind: "HostSystem".to_owned(), value: id.to_owned() }
}

/// Undoes a change at a host. Succeeds where it was undone already, or never made. `vsphere` is the system that it names.
///
/// # Errors
/// `Vsphere`: then the cleanup is still pending.
pub async fn clean_up(cleanup: &HostCleanup, vsphere: &Vsphere) -> Result<(), TransferError> {
    let (HostCleanup::Account { host_id, host_name, .. } | HostCleanup::SshService { host_id, host_name, .. }) =
        cleanup;
    match undo(cleanup, vsphere, &host_moid(host_id)).await {
        // A host that was removed from the inventory and added again has another id.
        Err(error @ VsphereError::Gone { .. }) => {
            let hosts = vsphere.hosts().await?;
            let found = hosts.into_iter().find(|host| host.name == *host_name && host.id.value != *host_id);
            let host = found.ok_or(error)?;
            Ok(undo(cleanup, vsphere, &host.id).await?)
        }
        done => Ok(done?),
    }
}

async fn undo(cleanup: &HostCleanup, vsphere: &Vsphere, host: &Moid) -> Result<(), VsphereError> {
    match cleanup {
        HostCleanup::Account { name, .. } => vsphere.remove_account(host, name).await.map(|_| ()),
        HostCleanup::SshService { .. } => vsphere.stop_service(host, SSH_SERVICE).await,
    }
}

/// The accounts at a host (by its id) of other installations. They are shown, and never touched.
///
/// # Errors
/// `Vsphere`.
pub async fn foreign_accounts(vsphere: &Vsphere, host_id: &str, install: &str) -> Result<Vec<String>, TransferError> {
    let mut names = vsphere.accounts(&host_moid(host_id)).await?;
    names.retain(|name| installation(name).is_some_and(|other| other != install));
    Ok(names)
}

/// The installation id in the name of an account.
fn installation(name: &str) -> Option<&str> {
    let hexadecimal = |text: &str, len| text.len() == len && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let (install, number) = name.strip_prefix("sf-")?.split_once('-')?;
    (hexadecimal(install, 6) && hexadecimal(number, 8)).then_some(install)
}

#[cfg(test)]
mod tests {
    use super::installation;

    #[test]
    fn our_accounts_are_recognised() {
        assert_eq!(installation("sf-0a1b2c-00112233"), Some("0a1b2c"));
        for other in
            ["root", "sf-0a1b2c", "sf-0a1b2c-", "sf-0a1b2c-0011223", "sf-0a1b2x-00112233", "xsf-0a1b2c-00112233"]
        {
            assert_eq!(installation(other), None, "{other}");
        }
    }
}
