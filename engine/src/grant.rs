//! Issues a one-time credential for one file to a person.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::json;
use stackferry_catalog::{AuditAction, Direction, NewCredential};
use stackferry_config::{RouteKind, Secret};
use stackferry_transfer::remote::EndpointClient;
use stackferry_transfer::stock::StockClient;
use stackferry_volume::VolumeId;
use stackferry_volume::manifest::FileRole;

use crate::app::{App, DatastoreAccess};
use crate::blocking::blocking;
use crate::copy::choose;
use crate::key_files;
use crate::views::GrantView;
use crate::{find, inventory};
use stackferry_problem::{Code, Problem, shell};

/// Issues a credential that reads one file of the volume `name` once, within `life`: the file of this name, else the
/// disk itself.
///
/// # Errors
/// `no_such_volume`, `source_missing`, `no_such_file`; `refused` where the route gives no such credential; the host's and
/// the catalog's.
pub async fn grant(
    app: &App,
    name: &str,
    file: Option<&str>,
    life: Duration,
    actor: &str,
) -> Result<GrantView, Problem> {
    let round = inventory::look(app).await?;
    let row = find::looked_for(app, &round, name).await?;
    let volume = round.inventory.volumes.into_iter().find(|volume| volume.id == row.id);
    let volume = volume.ok_or_else(|| {
        Problem::new(Code::SourceMissing, format!("{} is not at its source", row.id))
            .subject(&row.id)
            .hint(format!("put a version back instead: stackferry restore '{}' --to DIR", row.id))
    })?;
    let choosing = (app.clone(), volume.clone());
    let (place, source) = blocking(move || choose(&choosing.0, &choosing.1, &[])).await??;
    let wanted = match file {
        Some(name) => place.files.iter().find(|one| one.name.as_str() == name),
        None => place.files.iter().find(|one| one.role == FileRole::Extent),
    };
    let wanted = wanted.ok_or_else(|| {
        let names: Vec<_> = place.files.iter().map(|one| one.name.as_str()).collect();
        Problem::new(Code::NoSuchFile, format!("{} has no file {}", volume.id, file.unwrap_or("of its disk")))
            .subject(&volume.id)
            .hint(format!("it has: {}", names.join(", ")))
    })?;
    let path = place.location.sibling(wanted.name.as_str());
    let request = GrantRequest { app, volume: &volume.id, file: wanted.name.as_str(), path: &path, life };
    let view = match source {
        DatastoreAccess::Endpoint { client, datastore } => request.at_endpoint(client, datastore).await?,
        DatastoreAccess::Ssh(client) => request.at_stock_host(client).await?,
        DatastoreAccess::Esxi(client) => {
            return Err(Problem::new(Code::Refused, "a host of vSphere gives a person no credential for one file")
                .subject(&volume.id)
                .hint(format!(
                    "download {path} in the datastore browser of {}, or restore a version with `stackferry restore`",
                    client.datastore().system
                )));
        }
        DatastoreAccess::Local(folder) => {
            let file = folder.path().join(&path);
            return Err(Problem::new(Code::Refused, "the datastore is mounted here: no credential is needed")
                .subject(&volume.id)
                .hint(format!("copy the file: cp --sparse=always {} .", stackferry_problem::shell(file.display()))));
        }
    };
    let detail = json!({ "user": view.user, "file": view.file, "host": view.host });
    app.catalog().audit(AuditAction::Grant, actor, &volume.id.to_string(), &detail).await?;
    Ok(view)
}

/// What a person is to be given.
struct GrantRequest<'a> {
    app: &'a App,
    volume: &'a VolumeId,
    file: &'a str,
    path: &'a str,
    life: Duration,
}

impl GrantRequest<'_> {
    async fn note(
        &self,
        name: &str,
        route: RouteKind,
        host: String,
        standing: bool,
        expires: Timestamp,
    ) -> Result<(), Problem> {
        let new = NewCredential {
            name: name.to_owned(),
            volume: self.volume.clone(),
            file: self.file.to_owned(),
            route: route.as_str().to_owned(),
            host,
            direction: Direction::Read,
            standing,
            issued: Timestamp::now(),
            expires,
        };
        Ok(self.app.catalog().credential_issued(&new).await?)
    }

    async fn at_endpoint(&self, client: Arc<EndpointClient>, datastore: String) -> Result<GrantView, Problem> {
        let (asking, path, life) = (Arc::clone(&client), self.path.to_owned(), self.life);
        let issued = blocking(move || asking.issue(&datastore, &path, life)).await??;
        let now = Timestamp::now();
        let expires = now.checked_add(issued.life).unwrap_or(now);
        self.note(&issued.user, RouteKind::Endpoint, client.address(), false, expires).await?;
        let peer = client.peer();
        let source = shell(format!("{}@{}:{}", issued.user, bracketed(&peer.host), issued.path));
        Ok(GrantView {
            volume: self.volume.clone(),
            file: self.file.to_owned(),
            host: peer.host.clone(),
            port: peer.port,
            // An agent's keys would use up the tries before the password is asked for.
            command: format!(
                "scp -o PubkeyAuthentication=no -o PreferredAuthentications=password -P {} {source} .",
                peer.port
            ),
            user: issued.user,
            password: Some(Secret::new(issued.password.expose().to_owned())),
            key_file: None,
            path: issued.path,
            expires,
        })
    }

    /// The key lies in a file of its own, with the certificate beside it, where `ssh` looks for one.
    async fn at_stock_host(&self, client: Arc<StockClient>) -> Result<GrantView, Problem> {
        let granted = client.grant(self.path, self.life, None)?;
        let host = client.host();
        self.note(&granted.name, RouteKind::Ssh, client.address(), true, granted.expires).await?;
        let key_file = key_files::write(self.app.config(), &granted)?;
        let source = shell(format!("{}@{}:{}", host.user, bracketed(&host.peer.host), granted.path));
        Ok(GrantView {
            volume: self.volume.clone(),
            file: self.file.to_owned(),
            host: host.peer.host.clone(),
            port: host.peer.port,
            command: format!(
                "scp -O -o IdentitiesOnly=yes -o PreferredAuthentications=publickey -i {} -P {} {source} .",
                shell(key_file.display()),
                host.peer.port
            ),
            user: host.user.clone(),
            password: None,
            key_file: Some(key_file),
            path: granted.path,
            expires: granted.expires,
        })
    }
}

/// A host as scp takes it: an IPv6 address stands in brackets.
fn bracketed(host: &str) -> String {
    if host.contains(':') { format!("[{host}]") } else { host.to_owned() }
}
