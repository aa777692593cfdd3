//! Volumes: what `discover` and `volumes` print.

use jiff::Timestamp;
use serde::Serialize;
use stackferry_catalog::{LocationRow, StatusReason, VolumeRow, VolumeState};
use stackferry_problem::output::{Grid, Side, Style, View, none, or_none, size, yes};
use stackferry_volume::content::ContentState;
use stackferry_volume::{Generation, Kind, VersionId, VolumeId};

use crate::inventory::OtherEntry;

/// A word for scripts and a sentence for people.
#[derive(utoipa::ToSchema)]
#[allow(dead_code, reason = "it describes the JSON of a reason; nothing makes one")]
pub struct ReasonBody {
    /// The word.
    code: String,
    /// The sentence.
    text: String,
}

/// Where one copy of a volume lies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct LocationView {
    /// The site.
    pub site: String,
    /// The datastore's name.
    pub datastore: String,
    /// The descriptor's path on it, folder included.
    pub path: String,
    /// The datastore's type, where it is known.
    #[serde(rename = "type")]
    pub datastore_type: Option<String>,
    /// Whether its bytes can be read from here.
    pub reachable: bool,
}

impl From<&LocationRow> for LocationView {
    fn from(row: &LocationRow) -> Self {
        Self {
            site: row.location.site.0.clone(),
            datastore: row.location.datastore.clone(),
            path: row.location.path.clone(),
            datastore_type: row.datastore_type.clone(),
            reachable: row.reachable,
        }
    }
}

/// A volume as the last discovery round saw it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct VolumeView {
    /// Its id.
    #[schema(value_type = String)]
    pub id: VolumeId,
    /// Its kind.
    #[schema(value_type = String)]
    pub kind: Kind,
    /// Its name as a person reads it.
    pub name: String,
    /// Whose disk it is.
    pub owner: Option<String>,
    /// App Volumes' own id of the disk.
    pub guid: Option<String>,
    /// Which life of the volume this is.
    #[schema(value_type = u32)]
    pub generation: Generation,
    /// Where it lies.
    pub locations: Vec<LocationView>,
    /// The lengths of its files together, in bytes.
    pub size_bytes: Option<u64>,
    /// How it stands.
    #[schema(value_type = String)]
    pub state: VolumeState,
    /// Whether it is attached to a machine; none where nobody knows.
    pub attached: Option<bool>,
    /// Whether it can be copied at all.
    pub protectable: bool,
    /// Why it isn't copied.
    #[schema(value_type = Option<ReasonBody>)]
    pub reason: Option<StatusReason>,
    /// What a person can do about it.
    pub remedy: Option<String>,
    /// Since when its reason has been the one that it is.
    pub deferred_since: Option<Timestamp>,
}

impl From<&VolumeRow> for VolumeView {
    fn from(row: &VolumeRow) -> Self {
        Self {
            id: row.id.clone(),
            kind: row.id.kind(),
            name: row.name.clone(),
            owner: row.owner.as_ref().map(|owner| owner.name.clone()),
            guid: row.guid.clone(),
            generation: row.generation,
            locations: row.locations.iter().map(LocationView::from).collect(),
            size_bytes: row.size_bytes,
            state: row.state,
            attached: row.attached,
            protectable: row.protectable,
            reason: row.reason.clone(),
            remedy: row.remedy.clone(),
            deferred_since: row.deferred_since,
        }
    }
}

impl VolumeView {
    /// The first location that can be read, else the first, and how many others there are.
    fn place(&self) -> String {
        let first = self.locations.iter().find(|place| place.reachable).or(self.locations.first());
        let Some(first) = first else { return none() };
        let more = match self.locations.len() {
            1 => String::new(),
            count => format!(" (+{})", count - 1),
        };
        let away = if first.reachable { "" } else { " (unreachable)" };
        format!("[{}] {}{away}{more}", first.datastore, first.path)
    }

    fn why(&self) -> String {
        match (&self.reason, &self.remedy) {
            (Some(reason), Some(remedy)) => format!("{}; {remedy}", reason.text),
            (Some(reason), None) => reason.text.clone(),
            (None, _) => none(),
        }
    }

    fn attached(&self) -> String {
        self.attached.map_or_else(|| "?".to_owned(), yes)
    }
}

/// What `discover` prints: an array of volumes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct DiscoverView(pub Vec<DiscoverItem>);

/// One entry of what `discover` prints.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum DiscoverItem {
    /// A volume.
    Volume(Box<VolumeView>),
    /// Something on a datastore that is none.
    Other(OtherView),
}

/// Something on a datastore that is no volume, with the keys that a volume has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct OtherView {
    /// None: it has no id.
    pub id: Option<VolumeId>,
    /// `other`.
    pub kind: &'static str,
    /// Its name.
    pub name: String,
    /// None.
    pub owner: Option<String>,
    /// Where it lies.
    pub locations: Vec<LocationView>,
    /// Its length in bytes; none for a folder.
    pub size_bytes: Option<u64>,
    /// None: it is neither ready nor anything else.
    pub state: Option<VolumeState>,
    /// None.
    pub attached: Option<bool>,
    /// False.
    pub protectable: bool,
    /// What it is.
    pub reason: Option<StatusReason>,
}

impl DiscoverView {
    /// The volumes of these rows, in their order.
    #[must_use]
    pub fn new(rows: &[VolumeRow]) -> Self {
        Self(rows.iter().map(|row| DiscoverItem::Volume(Box::new(row.into()))).collect())
    }

    /// Adds what is no volume.
    pub fn add_others(&mut self, others: &[OtherEntry]) {
        self.0.extend(others.iter().map(|other| {
            let place = LocationView {
                site: other.location.site.0.clone(),
                datastore: other.location.datastore.clone(),
                path: other.location.path.clone(),
                datastore_type: other.datastore_type.clone(),
                reachable: true,
            };
            DiscoverItem::Other(OtherView {
                id: None,
                kind: "other",
                name: other.location.file().to_owned(),
                owner: None,
                locations: vec![place],
                size_bytes: other.entry.bytes,
                state: None,
                attached: None,
                protectable: false,
                reason: Some(StatusReason { code: "not_a_volume".to_owned(), text: other.entry.what.clone() }),
            })
        }));
    }
}

impl View for DiscoverView {
    fn table(&self, _style: &Style) -> String {
        let mut grid = Grid::new(&[
            ("ID", Side::Left),
            ("NAME", Side::Left),
            ("OWNER", Side::Left),
            ("SIZE", Side::Right),
            ("STATE", Side::Left),
            ("ATTACHED", Side::Left),
            ("LOCATION", Side::Left),
            ("WHY", Side::Left),
        ]);
        for item in &self.0 {
            let volume = match item {
                DiscoverItem::Volume(volume) => volume,
                DiscoverItem::Other(other) => {
                    let place = other.locations.first().map(|place| format!("[{}] {}", place.datastore, place.path));
                    grid.row([
                        none(),
                        other.name.clone(),
                        none(),
                        other.size_bytes.map_or_else(none, size),
                        other.kind.to_owned(),
                        none(),
                        place.unwrap_or_else(none),
                        other.reason.as_ref().map_or_else(none, |reason| reason.text.clone()),
                    ]);
                    continue;
                }
            };
            grid.row([
                volume.id.to_string(),
                volume.name.clone(),
                or_none(volume.owner.as_ref()),
                volume.size_bytes.map_or_else(none, size),
                volume.state.to_string(),
                volume.attached(),
                volume.place(),
                volume.why(),
            ]);
        }
        grid.finish()
    }
}

/// A volume with how it is protected.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct ProtectedView {
    /// The volume.
    #[serde(flatten)]
    pub volume: VolumeView,
    /// How many versions it has, damaged ones too.
    pub versions: u64,
    /// How many of them are damaged.
    pub damaged_versions: u64,
    /// Its newest version.
    #[schema(value_type = Option<String>)]
    pub last_version: Option<VersionId>,
    /// What the disk of the newest version of its present life holds: `healthy`, `not_looked_into`, `not_recognised`,
    /// `damaged`; none where it was never inspected.
    #[schema(value_type = Option<String>)]
    pub content: Option<ContentState>,
    /// When the source was last found equal to a committed version.
    pub last_success: Option<Timestamp>,
    /// Why the last failed attempt failed, if none succeeded since.
    #[schema(value_type = Option<ReasonBody>)]
    pub last_error: Option<StatusReason>,
}

impl From<&VolumeRow> for ProtectedView {
    fn from(row: &VolumeRow) -> Self {
        Self {
            volume: row.into(),
            versions: row.versions,
            damaged_versions: row.damaged_versions,
            last_version: row.last_version.clone(),
            content: row.content,
            last_success: row.last_success,
            last_error: row.last_error.clone(),
        }
    }
}

/// What `volumes` prints: an array of volumes with how they are protected.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct VolumesView(pub Vec<ProtectedView>);

impl VolumesView {
    /// The volumes of these rows, in their order.
    #[must_use]
    pub fn new(rows: &[VolumeRow]) -> Self {
        Self(rows.iter().map(ProtectedView::from).collect())
    }
}

impl View for VolumesView {
    fn table(&self, style: &Style) -> String {
        let mut grid = Grid::new(&[
            ("ID", Side::Left),
            ("NAME", Side::Left),
            ("OWNER", Side::Left),
            ("SIZE", Side::Right),
            ("STATE", Side::Left),
            ("VERSIONS", Side::Right),
            ("LAST VERSION", Side::Left),
            ("LAST SUCCESS", Side::Left),
            ("PROBLEM", Side::Left),
        ]);
        for row in &self.0 {
            let problem = match &row.last_error {
                Some(error) => format!("{}: {}", error.code, error.text),
                None => match row.content {
                    Some(state) if row.volume.reason.is_none() && state > ContentState::NotInspected => {
                        format!("its disk's content is {}", state.text())
                    }
                    _ => row.volume.why(),
                },
            };
            grid.row([
                row.volume.id.to_string(),
                row.volume.name.clone(),
                or_none(row.volume.owner.as_ref()),
                row.volume.size_bytes.map_or_else(none, size),
                row.volume.state.to_string(),
                row.versions.to_string(),
                or_none(row.last_version.as_ref()),
                style.maybe_time(row.last_success),
                problem,
            ]);
        }
        grid.finish()
    }
}
