//! Datastores that got another name in vSphere. Volumes are known by where they lie, and where that is has a name that a
//! person may change at any time; vSphere's URL of a datastore (`ds:///vmfs/volumes/<uuid>/`) stays.
//!
//! Which name each URL had is kept in the catalog. While the configuration still has the old name, a person is told; once it
//! has the new one, what is known of the old one moves along, before the round decides who is new and who is gone.

use std::collections::BTreeMap;

use serde_json::json;
use stackferry_catalog::AuditAction;
use stackferry_discover::{ProblemCode, ScanProblem};
use stackferry_volume::SiteName;

use crate::about::PROGRAM;
use crate::app::{App, SystemReports};
use stackferry_problem::Problem;

/// The catalog's note of the names: by site, then by URL.
const NOTE: &str = "datastore_urls";

type DatastoreNames = BTreeMap<String, BTreeMap<String, String>>;

/// Follows renamed datastores. Gives what a person has to do.
///
/// # Errors
/// The catalog's.
pub(super) async fn follow(app: &App, told: &SystemReports) -> Result<Vec<ScanProblem>, Problem> {
    let noted = app.catalog().marker(NOTE).await?;
    // A note that can't be read is one of a program that is newer: it is made anew.
    let before: DatastoreNames = noted.as_deref().and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
    let mut names = before.clone();
    let mut problems = Vec::new();
    for (site, url, now) in urls(told) {
        let known = names.entry(site.0.clone()).or_default();
        let is_anothers = known.iter().any(|(other, name)| *other != url && *name == now);
        match known.get(&url) {
            Some(old) if *old != now && is_anothers => {
                // Names that went round, or one that was used before: what lies under it is not this datastore's.
                tracing::warn!(
                    site = site.0,
                    from = old,
                    to = now,
                    "a datastore has the name that another one had: volumes without an id in App Volumes are taken for new there"
                );
            }
            Some(old) if *old != now => {
                let is_configured = |name: &str| app.config().datastores.iter().any(|one| is(one, &site, name));
                if is_configured(old) {
                    problems.push(ScanProblem {
                        code: ProblemCode::Notice,
                        subject: old.clone(),
                        text: format!("vSphere calls datastore {old} {now} now"),
                        hint: format!(
                            "write name = \"{now}\" at this [[datastore]]; its volumes and their versions stay what they are"
                        ),
                    });
                    continue;
                }
                app.catalog().rename_datastore(&site, old, &now).await?;
                let detail = json!({ "site": site.0, "name": now });
                app.catalog().audit(AuditAction::DatastoreRenamed, PROGRAM, old, &detail).await?;
                tracing::info!(
                    site = site.0,
                    from = old,
                    to = now,
                    "a datastore has another name; its volumes are the same"
                );
                app.forget_descriptors();
            }
            _ => {}
        }
        known.insert(url, now);
    }
    if names != before {
        let text = serde_json::to_string(&names).map_err(|error| Problem::internal(error.to_string()))?;
        app.catalog().set_marker(NOTE, Some(&text)).await?;
    }
    Ok(problems)
}

fn is(datastore: &stackferry_config::DatastoreConfig, site: &SiteName, name: &str) -> bool {
    datastore.site.as_str() == site.0 && datastore.name.as_str() == name
}

/// What vSphere tells of each datastore that has a URL of its own, and a name.
fn urls(told: &SystemReports) -> Vec<(SiteName, String, String)> {
    let mut found: BTreeMap<(String, String), Vec<&str>> = BTreeMap::new();
    for view in &told.vspheres {
        let Ok(inventory) = &view.inventory else { continue };
        for datastore in inventory.datastores.iter().filter(|one| !one.url.is_empty()) {
            found.entry((view.site.0.clone(), datastore.url.clone())).or_default().push(&datastore.name);
        }
    }
    // Two vCenters of a site may show one datastore, and call it differently: then nothing can be said of it.
    let single = found.into_iter().filter_map(|((site, url), names)| match &names[..] {
        [first, others @ ..] if others.iter().all(|name| name == first) => {
            Some((SiteName(site), url, (*first).to_owned()))
        }
        _ => None,
    });
    single.collect()
}
