//! Services of a host, as the SSH server.

use std::sync::Arc;

use crate::error::VsphereError;
use crate::model::{Moid, ServiceState};
use crate::properties;
use crate::session::Session;

pub(crate) async fn state(session: Arc<Session>, host: &Moid, key: &str) -> Result<ServiceState, VsphereError> {
    let manager = manager(&session, host).await?;
    find(&session, &manager, host, key).await
}

/// Starts or stops a service that is not in that state yet.
pub(crate) async fn switch(session: Arc<Session>, host: &Moid, key: &str, on: bool) -> Result<(), VsphereError> {
    let manager = manager(&session, host).await?;
    if find(&session, &manager, host, key).await?.running == on {
        return Ok(());
    }
    let call = if on { "StartService" } else { "StopService" };
    match session.call(call, &manager, |writer| writer.text("id", key)).await {
        Ok(_) => Ok(()),
        // Somebody else was faster.
        Err(VsphereError::Fault { name, .. }) if name == "InvalidState" => {
            let now = find(&session, &manager, host, key).await?;
            if now.running == on { Ok(()) } else { Err(session.asked(call).bad("the service stays as it was")) }
        }
        Err(error) => Err(error),
    }
}

async fn find(session: &Session, manager: &Moid, host: &Moid, key: &str) -> Result<ServiceState, VsphereError> {
    let object = properties::of_one(session, manager, &["serviceInfo.service"]).await?;
    object.complete()?;
    let services = object.get("serviceInfo.service").map(|services| services.children.as_slice()).unwrap_or_default();
    let found = services.iter().find(|service| service.text_of("key") == Some(key));
    found
        .map(|service| ServiceState {
            key: key.to_owned(),
            running: service.is("running"),
            policy: service.text_of("policy").unwrap_or_default().to_owned(),
        })
        .ok_or_else(|| VsphereError::NotFound {
            system: session.system().to_owned(),
            what: format!("service {key} on host {host}"),
        })
}

async fn manager(session: &Session, host: &Moid) -> Result<Moid, VsphereError> {
    of_host(session, host, "configManager.serviceSystem", "serviceSystem").await
}

/// One of a host's own managers.
pub(crate) async fn of_host(
    session: &Session,
    host: &Moid,
    path: &str,
    call: &'static str,
) -> Result<Moid, VsphereError> {
    let object = properties::of_one(session, host, &[path]).await?;
    object.complete()?;
    object.moid(path).ok_or_else(|| session.asked(call).not_supported())
}
