//! Whether a datastore can be reached, and what is there.

use stackferry_config::DatastoreConfig;
use stackferry_problem::{Code, Problem};

use crate::app::{App, DatastoreAccess, mounts};

/// Tries all that reading a datastore needs, and says what was found, or that it does not answer. Blocks.
pub(crate) fn datastore(app: &App, datastore: &DatastoreConfig) -> Result<String, Problem> {
    let (asking, trying) = (app.clone(), datastore.clone());
    app.within(mounts::mount(datastore), move || try_datastore(&asking, &trying))?
}

fn try_datastore(app: &App, datastore: &DatastoreConfig) -> Result<String, Problem> {
    let source = app.source(datastore)?;
    let mut restore = match &source {
        DatastoreAccess::Local(folder) => match folder.is_writable() {
            true => "may be restored to",
            false => "can't be restored to by this user",
        },
        // Whether the user may write there is seen at the first restore.
        DatastoreAccess::Ssh(_) => "may be restored to, as far as its user may write there",
        _ => "can't be restored to: restore into a folder, and copy from there",
    };
    if let DatastoreAccess::Endpoint { client, datastore } = &source {
        let hello = client.hello()?;
        if hello.datastores.iter().any(|info| info.name == *datastore && info.restore) {
            restore = "may be restored to";
        } else {
            restore = "not to be restored to: `restore` of [serve] there does not name it";
        }
        if !hello.datastores.iter().any(|info| info.name == *datastore) {
            let has: Vec<_> = hello.datastores.iter().map(|info| info.name.as_str()).collect();
            let message =
                format!("the endpoint {} has no datastore {datastore}; it has: {}", client.address(), has.join(", "));
            return Err(Problem::new(Code::Refused, message)
                .subject(datastore)
                .hint("name it in `datastores` of [serve] on that machine, or correct `name` here"));
        }
    }
    if let DatastoreAccess::Ssh(client) = &source {
        client.probe()?;
    }
    let folder = source.folder();
    let mut found = Vec::new();
    // Those of the configuration, and those that App Volumes names.
    let folders = app.view(0, datastore, &app.told()).folders;
    for one in &folders {
        match folder.list(&one.path) {
            Ok(entries) => found.push(format!("{} ({} entries)", one.path, entries.len())),
            Err(stackferry_volume::FolderError::NotFound { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    if found.is_empty() {
        let names: Vec<_> = folders.iter().map(|one| one.path.as_str()).collect();
        return Err(Problem::new(Code::SourceMissing, format!("none of its folders is there: {}", names.join(", ")))
            .subject(&datastore.name)
            .hint("is it mounted? Correct `path` or `folders`"));
    }
    Ok(format!("by route {}: {}; {restore}", source.route(), found.join(", ")))
}
