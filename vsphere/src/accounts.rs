//! Local accounts of a host, and the privileges of the user.
//!
//! In vCenter each host has its own managers (vSphere API 6.0). A standalone host has them too, and older ones for what
//! they lack.

use std::sync::Arc;

use stackferry_config::Secret;

use crate::error::VsphereError;
use crate::model::Moid;
use crate::services::of_host;
use crate::session::Session;
use crate::soap;

/// The role Administrator; its id is the same everywhere.
const ADMINISTRATOR: &str = "-1";

pub(crate) async fn create(
    session: Arc<Session>,
    host: &Moid,
    name: &str,
    password: &Secret,
    description: &str,
) -> Result<(), VsphereError> {
    let manager = account_manager(&session, host).await?;
    session
        .call("CreateUser", &manager, |writer| {
            writer.within(r#"user xsi:type="HostPosixAccountSpec""#, |writer| {
                writer.text("id", name);
                writer.text("password", password.expose());
                writer.text("description", description);
                // Newer hosts have this setting per account; its default is undocumented.
                writer.text("shellAccess", "true");
            });
        })
        .await
        .map(|_| ())
}

pub(crate) async fn grant_admin(session: Arc<Session>, host: &Moid, name: &str) -> Result<(), VsphereError> {
    match change_access_mode(&session, host, name, "accessAdmin").await {
        Err(error) if error.is_not_supported() && !session.about().is_vcenter => set_permission(&session, name).await,
        outcome => outcome,
    }
}

pub(crate) async fn remove(session: Arc<Session>, host: &Moid, name: &str) -> Result<bool, VsphereError> {
    // Otherwise the entry would stay in the host's access list for ever. It does not matter whether there is one.
    let revoked = match change_access_mode(&session, host, name, "accessNone").await {
        Err(error) if error.is_not_supported() && !session.about().is_vcenter => {
            remove_permission(&session, name).await
        }
        outcome => outcome,
    };
    if let Err(error) = revoked {
        if error.is_expired() {
            return Err(error);
        }
        tracing::debug!(system = session.system(), %error, "failed to revoke the permissions of {name} before removing it");
    }
    let manager = account_manager(&session, host).await?;
    match session.call("RemoveUser", &manager, |writer| writer.text("userName", name)).await {
        Ok(_) => Ok(true),
        Err(VsphereError::NotFound { .. }) => Ok(false),
        Err(error) => Err(error),
    }
}

pub(crate) async fn list(session: Arc<Session>, host: &Moid) -> Result<Vec<String>, VsphereError> {
    let found = match access_entries(&session, host).await {
        Err(error) if error.is_not_supported() && !session.about().is_vcenter => local_users(&session).await,
        outcome => outcome,
    };
    found.map(|mut names| {
        names.sort();
        names.dedup();
        names
    })
}

async fn access_entries(session: &Session, host: &Moid) -> Result<Vec<String>, VsphereError> {
    let call = "RetrieveHostAccessControlEntries";
    let manager = access_manager(session, host, call).await?;
    let response = session.call(call, &manager, |_| {}).await?;
    Ok(response
        .all("returnval")
        .filter(|entry| !entry.is("group"))
        .filter_map(|entry| entry.text_of("principal"))
        .map(str::to_owned)
        .collect())
}

async fn local_users(session: &Session) -> Result<Vec<String>, VsphereError> {
    let call = "RetrieveUserGroups";
    let directory = session.content().users.as_ref().ok_or_else(|| session.context(call).not_supported())?;
    let response = session
        .call(call, directory, |writer| {
            writer.text("searchStr", "");
            writer.text("exactMatch", "false");
            writer.text("findUsers", "true");
            writer.text("findGroups", "false");
        })
        .await?;
    Ok(response
        .all("returnval")
        .filter(|user| !user.is("group"))
        .filter_map(|user| user.text_of("principal"))
        .map(str::to_owned)
        .collect())
}

async fn change_access_mode(session: &Session, host: &Moid, name: &str, mode: &str) -> Result<(), VsphereError> {
    let call = "ChangeAccessMode";
    let manager = access_manager(session, host, call).await?;
    session
        .call(call, &manager, |writer| {
            writer.text("principal", name);
            writer.text("isGroup", "false");
            writer.text("accessMode", mode);
        })
        .await
        .map(|_| ())
}

async fn set_permission(session: &Session, name: &str) -> Result<(), VsphereError> {
    let call = "SetEntityPermissions";
    let content = session.content();
    let manager = content.authorization.as_ref().ok_or_else(|| session.context(call).not_supported())?;
    session
        .call(call, manager, |writer| {
            writer.object("entity", &content.root.kind, &content.root.value);
            writer.within("permission", |writer| {
                writer.text("principal", name);
                writer.text("group", "false");
                writer.text("roleId", ADMINISTRATOR);
                writer.text("propagate", "true");
            });
        })
        .await
        .map(|_| ())
}

async fn remove_permission(session: &Session, name: &str) -> Result<(), VsphereError> {
    let call = "RemoveEntityPermission";
    let content = session.content();
    let manager = content.authorization.as_ref().ok_or_else(|| session.context(call).not_supported())?;
    session
        .call(call, manager, |writer| {
            writer.object("entity", &content.root.kind, &content.root.value);
            writer.text("user", name);
            writer.text("isGroup", "false");
        })
        .await
        .map(|_| ())
}

async fn account_manager(session: &Session, host: &Moid) -> Result<Moid, VsphereError> {
    let found = of_host(session, host, "configManager.accountManager", "accountManager").await;
    match (found, &session.content().accounts) {
        (Err(error), Some(own)) if error.is_not_supported() && !session.about().is_vcenter => Ok(own.clone()),
        (found, _) => found,
    }
}

async fn access_manager(session: &Session, host: &Moid, call: &'static str) -> Result<Moid, VsphereError> {
    of_host(session, host, "configManager.hostAccessManager", call).await
}

pub(crate) async fn missing_privileges(
    session: Arc<Session>,
    entity: &Moid,
    privileges: &[&str],
) -> Result<Vec<String>, VsphereError> {
    let call = "HasPrivilegeOnEntities";
    let context = session.context(call);
    let manager = session.content().authorization.as_ref().ok_or_else(|| context.not_supported())?;
    let response = session
        .call(call, manager, |writer| {
            writer.object("entity", &entity.kind, &entity.value);
            writer.text("sessionId", session.key());
            privileges.iter().for_each(|privilege| writer.text("privId", privilege));
        })
        .await?;
    let report = response
        .all("returnval")
        .find(|report| report.get("entity").and_then(soap::moid).as_ref() == Some(entity))
        .ok_or_else(|| context.invalid_response("it is about another object"))?;
    let granted: Vec<&str> = report
        .all("privAvailability")
        .filter(|each| each.is("isGranted"))
        .filter_map(|each| each.text_of("privId"))
        .collect();
    Ok(privileges
        .iter()
        .filter(|privilege| !granted.contains(privilege))
        .map(|missing| (*missing).to_owned())
        .collect())
}
