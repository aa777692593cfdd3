//! `grant VOLUME`: a one-time credential for a person.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::json;
use stackferry_catalog::{AuditAction, Direction, NewCredential};
use stackferry_config::Secret;
use stackferry_volume::manifest::FileRole;

use super::Context;
use crate::app::{Source, blocking};
use crate::engine::copy::choose;
use crate::engine::{find, inventory};
use crate::output::GrantView;
use crate::problem::{Code, Exit, Problem};

pub(super) async fn run(context: &Context, name: &str, file: Option<&str>, life: Duration) -> Result<Exit, Problem> {
    let app = context.app().await?;
    let round = inventory::look(&app).await?;
    let row = find::volume(&app, name).await?;
    let volume = round.inventory.volumes.into_iter().find(|volume| volume.id == row.id);
    let volume = volume.ok_or_else(|| {
        Problem::new(Code::SourceMissing, format!("{} is not at its source", row.id))
            .subject(&row.id)
            .hint(format!("put a version back instead: stackferry restore '{}' --to DIR", row.id))
    })?;
    let choosing = (app.clone(), volume.clone());
    let (place, source) = blocking(move || choose(&choosing.0, &choosing.1)).await??;
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
    let (client, datastore) = match source {
        Source::Endpoint { client, datastore } => (client, datastore),
        Source::Local(folder) => {
            return Err(Problem::new(Code::Refused, "the datastore is mounted here: no credential is needed")
                .subject(&volume.id)
                .hint(format!("copy the file: cp --sparse=always '{}/{path}' .", folder.path().display())));
        }
    };
    let asking = client.clone();
    let issued = blocking(move || asking.issue(&datastore, &path, life)).await??;
    let now = Timestamp::now();
    let expires = now.checked_add(issued.life).unwrap_or(now);
    let peer = client.peer();
    app.catalog()
        .credential_issued(&NewCredential {
            name: issued.user.clone(),
            volume: volume.id.clone(),
            file: wanted.name.to_string(),
            route: "endpoint".to_owned(),
            host: client.address(),
            direction: Direction::Read,
            standing: false,
            issued: now,
            expires,
        })
        .await?;
    let detail = json!({ "user": issued.user, "file": wanted.name.as_str(), "host": client.address() });
    app.catalog().audit(AuditAction::Grant, "command", &volume.id.to_string(), &detail).await?;
    let source = format!("{}@{}:{}", issued.user, peer.host, issued.path);
    let view = GrantView {
        volume: volume.id,
        file: wanted.name.to_string(),
        host: peer.host.clone(),
        port: peer.port,
        command: format!("scp -P {} {} .", peer.port, crate::problem::shell(source)),
        user: issued.user,
        password: Some(Secret::new(issued.password.expose().to_owned())),
        key_file: None,
        path: issued.path,
        expires,
    };
    context.print(&view)?;
    Ok(Exit::Done)
}
