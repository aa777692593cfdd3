//! A folder of a datastore: a path, or `{ path, kind }`.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::model::kind::KindKey;
use crate::value::FolderPath;

/// A folder of a datastore, and the kind of volumes in it where the folder's name does not tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatastoreFolder {
    /// Relative to the datastore's root.
    pub path: FolderPath,
    /// The kind of all volumes in it. None: the folder's name decides.
    pub kind: Option<KindKey>,
}

impl DatastoreFolder {
    /// The folders of App Volumes 2.x and 4.x.
    pub const DEFAULTS: [&str; 4] =
        ["cloudvolumes/apps", "appvolumes/packages", "cloudvolumes/writable", "appvolumes/writables"];
}

#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct FolderTable {
    /// The folder, relative to the datastore's root.
    path: FolderPath,
    /// The kind of all volumes in it.
    kind: KindKey,
}

impl Serialize for DatastoreFolder {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.kind {
            None => self.path.serialize(serializer),
            Some(kind) => FolderTable { path: self.path.clone(), kind }.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for DatastoreFolder {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct PathOrTable;
        impl<'de> Visitor<'de> for PathOrTable {
            type Value = DatastoreFolder;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a folder such as \"cloudvolumes/apps\"")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<DatastoreFolder, E> {
                text.parse().map(|path| DatastoreFolder { path, kind: None }).map_err(E::custom)
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<DatastoreFolder, A::Error> {
                FolderTable::deserialize(MapAccessDeserializer::new(map))
                    .map(|table| DatastoreFolder { path: table.path, kind: Some(table.kind) })
            }
        }
        deserializer.deserialize_any(PathOrTable)
    }
}

impl JsonSchema for DatastoreFolder {
    fn schema_name() -> Cow<'static, str> {
        "Folder".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        schemars::json_schema!({
            "description": "a folder of the datastore, with the kind of its volumes where its name does not tell",
            "anyOf": [generator.subschema_for::<FolderPath>(), generator.subschema_for::<FolderTable>()],
        })
    }
}
