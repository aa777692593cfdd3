//! What a person does in App Volumes after a version was put back: App Volumes knows nothing of the files yet, and an
//! import brings neither assignments nor the `CURRENT` marker back.
//!
//! Only words: nothing here asks or changes App Volumes. The calls that would do it are documented for packages of 4.x
//! only, and nobody should find an application assigned again that they did not ask for.

use stackferry_discover::app_volumes::StorageGroup;
use stackferry_volume::{Kind, Manifest};

/// The steps that follow, in their order.
#[must_use]
pub fn after_restore(manifest: &Manifest) -> Vec<String> {
    let place = &manifest.location;
    let put = format!(
        "Put all files of the folder together to {place}, the descriptor last: by the datastore browser, by scp, or by cp on \
         a machine that mounts it."
    );
    let mut steps = Vec::new();
    match manifest.kind {
        Kind::Writable => {
            let owner = manifest.owner.as_ref().map_or(manifest.name.as_str(), |owner| owner.name.as_str());
            steps.push(format!("See that {owner} is logged off, and disable the writable volume in App Volumes."));
            steps.push(put);
            steps.push(
                "If App Volumes still lists it: rescan writable volumes. If it does not: import writable volumes from that \
                 datastore and folder."
                    .to_owned(),
            );
            steps.push("Enable it, and let the user log on.".to_owned());
        }
        Kind::Package => {
            steps.push(put);
            steps.push(
                "If App Volumes still lists the package: rescan it. If it does not: import packages from that datastore and \
                 folder."
                    .to_owned(),
            );
            extras(manifest, &mut steps);
        }
        Kind::Appstack => {
            steps.push(put);
            steps.push(
                "If App Volumes still lists the AppStack: rescan AppStacks. If it does not: import AppStacks from that \
                 datastore and folder. Without its .metadata file it becomes a legacy one."
                    .to_owned(),
            );
            extras(manifest, &mut steps);
        }
        Kind::Template | Kind::Image => steps.push(put),
    }
    steps
}

/// What an import does not bring back.
fn extras(manifest: &Manifest, steps: &mut Vec<String>) {
    let Some(told) = &manifest.app_volumes else {
        steps.push(
            "Assign it again, and set its stage: the version was made without App Volumes being asked, so they are not known."
                .to_owned(),
        );
        return;
    };
    if let Some(stage) = &told.stage {
        steps.push(format!("Set its lifecycle stage to {stage}."));
    }
    if told.current == Some(true) {
        steps.push("Give it the CURRENT marker.".to_owned());
    }
    if told.assignments.is_empty() {
        steps.push("It was assigned to nobody.".to_owned());
    } else {
        steps.push(format!("Assign it again to: {}.", told.assignments.join("; ")));
    }
}

/// What storage groups do by themselves with what is put onto a datastore.
#[must_use]
pub fn groups(groups: &[StorageGroup], datastore: &str) -> Vec<String> {
    let own = groups.iter().filter(|group| group.members.iter().any(|member| member == datastore));
    let does = own.filter_map(|group| match (group.auto_import, group.auto_replicate) {
        (false, false) => None,
        (true, false) => Some((group, "imports")),
        (false, true) => Some((group, "replicates")),
        (true, true) => Some((group, "imports and replicates")),
    });
    does.map(|(group, what)| {
        format!(
            "Mind: storage group {} {what} what lies on {datastore} by itself, so a copy in one of its folders shows up as a \
             volume of its own.",
            group.name
        )
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_that_act_by_themselves_are_told() {
        let group = |name: &str, auto_import, auto_replicate| StorageGroup {
            name: name.to_owned(),
            auto_import,
            auto_replicate,
            members: vec!["nfs01".to_owned()],
        };
        let all = [group("quiet", false, false), group("grabs", true, false), group("spreads", true, true)];
        let told = groups(&all, "nfs01");
        assert_eq!(told.len(), 2, "{told:?}");
        assert!(told[0].contains("grabs imports what") && told[1].contains("imports and replicates"), "{told:?}");
        assert!(groups(&all, "nfs02").is_empty());
    }
}
