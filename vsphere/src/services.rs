//! Services of a host, such as its SSH server.

use std::sync::Arc;

use crate::error::VsphereError;
use crate::model::Moid;
use crate::properties;
use crate::session::Session;

pub(crate) async fn is_running(session: Arc<Session>, host: &Moid, key: &str) -> Result<bool, VsphereError> {
    let manager = manager(&session, host).await?;
    running(&session, &manager, host, key).await
}

/// Starts or stops a service, unless it is in that state already.
pub(crate) async fn set_running(session: Arc<Session>, host: &Moid, key: &str, on: bool) -> Result<(), VsphereError> {
    let manager = manager(&session, host).await?;
    if running(&session, &manager, host, key).await? == on {
        return Ok(());
    }
    let call = if on { "StartService" } else { "StopService" };
    match session.call(call, &manager, |writer| writer.text("id", key)).await {
        Ok(_) => Ok(()),
        // Somebody else has started or stopped it in the meantime.
        Err(VsphereError::Fault { name, .. }) if name == "InvalidState" => {
            if running(&session, &manager, host, key).await? == on {
                Ok(())
            } else {
                Err(session.context(call).invalid_response("the service did not change its state"))
            }
        }
        Err(error) => Err(error),
    }
}

async fn running(session: &Session, manager: &Moid, host: &Moid, key: &str) -> Result<bool, VsphereError> {
    let object = properties::of_object(session, manager, &["serviceInfo.service"]).await?;
    object.complete()?;
    let services = object.get("serviceInfo.service").map(|services| services.children.as_slice()).unwrap_or_default();
    let found = services.iter().find(|service| service.text_of("key") == Some(key));
    found.map(|service| service.is("running")).ok_or_else(|| VsphereError::NotFound {
        system: session.system().to_owned(),
        what: format!("service {key} on host {host}"),
    })
}

async fn manager(session: &Session, host: &Moid) -> Result<Moid, VsphereError> {
    of_host(session, host, "configManager.serviceSystem", "serviceSystem").await
}

/// One of a host's managers.
pub(crate) async fn of_host(
    session: &Session,
    host: &Moid,
    path: &str,
    call: &'static str,
) -> Result<Moid, VsphereError> {
    let object = properties::of_object(session, host, &[path]).await?;
    object.complete()?;
    object.moid(path).ok_or_else(|| session.context(call).not_supported())
}
