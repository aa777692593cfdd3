//! The shape of the configuration as data: a JSON Schema made from the types, and a reader of it. The checks of `load` and
//! the names of environment variables come from here, so that they cannot differ from the types.

use schemars::generate::SchemaSettings;
use serde_json::{Map, Value};

use crate::model::Config;

/// The JSON Schema (draft 2020-12) of the configuration, for editors and for `config schema`.
pub fn schema() -> Value {
    let mut schema = SchemaSettings::draft2020_12().into_generator().into_root_schema_for::<Config>();
    schema.insert("title".to_owned(), Value::from("Stackferry configuration"));
    schema.to_value()
}

/// The same without references, for walking.
pub(crate) fn inlined() -> Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| settings.inline_subschemas = true);
    settings.into_generator().into_root_schema_for::<Config>().to_value()
}

/// What one key may hold, seen through every alternative that the schema gives.
#[derive(Debug, Clone)]
pub(crate) struct Shape<'a> {
    alternatives: Vec<&'a Map<String, Value>>,
}

impl<'a> Shape<'a> {
    pub(crate) fn new(schema: &'a Value) -> Self {
        let mut alternatives = Vec::new();
        collect(schema, &mut alternatives);
        Self { alternatives }
    }

    fn typed(&self, wanted: &str) -> impl Iterator<Item = &'a Map<String, Value>> {
        self.alternatives.iter().copied().filter(move |schema| match schema.get("type") {
            Some(Value::String(name)) => name == wanted,
            Some(Value::Array(names)) => names.iter().any(|name| name == wanted),
            _ => false,
        })
    }

    /// Whether a value of this JSON type may stand here.
    pub(crate) fn takes(&self, json_type: &str) -> bool {
        self.typed(json_type).next().is_some()
    }

    /// The one kind of table that may stand here. None when there is no or more than one; then serde decides.
    pub(crate) fn table(&self) -> Option<TableShape<'a>> {
        let mut tables = self.typed("object");
        let schema = tables.next()?;
        tables.next().is_none().then_some(TableShape { schema })
    }

    /// Whether several kinds of tables may stand here, as for a password.
    pub(crate) fn is_choice_of_tables(&self) -> bool {
        self.typed("object").count() > 1
    }

    /// What the items of a list are.
    pub(crate) fn items(&self) -> Option<Shape<'a>> {
        self.typed("array").find_map(|schema| schema.get("items")).map(Shape::new)
    }

    /// The words that may stand here, where only some may.
    pub(crate) fn words(&self) -> Vec<&'a str> {
        let mut words = Vec::new();
        for schema in self.typed("string") {
            match (schema.get("enum"), schema.get("const")) {
                (Some(Value::Array(values)), _) => words.extend(values.iter().filter_map(Value::as_str)),
                (_, Some(Value::String(word))) => words.push(word.as_str()),
                // One alternative takes any text.
                _ => return Vec::new(),
            }
        }
        words
    }

    /// The least and the largest whole number that may stand here.
    pub(crate) fn range(&self) -> (Option<i64>, Option<i64>) {
        let limit = |name: &str| self.typed("integer").find_map(|schema| schema.get(name)).and_then(Value::as_i64);
        (limit("minimum"), limit("maximum"))
    }

    /// What may stand here, as a person says it.
    pub(crate) fn describe(&self) -> String {
        let known = [
            ("string", "a text in quotes"),
            ("integer", "a whole number"),
            ("boolean", "true or false"),
            ("array", "a list in [ ]"),
            ("object", "a table"),
        ];
        let words: Vec<&str> = known.iter().filter_map(|(name, words)| self.takes(name).then_some(*words)).collect();
        words.join(" or ")
    }

    /// An example of a right value, if the type gives one.
    pub(crate) fn example(&self) -> Option<String> {
        self.alternatives
            .iter()
            .find_map(|schema| schema.get("examples"))
            .and_then(Value::as_array)
            .and_then(|examples| examples.first())
            .map(Value::to_string)
    }
}

fn collect<'a>(schema: &'a Value, into: &mut Vec<&'a Map<String, Value>>) {
    let Some(map) = schema.as_object() else { return };
    let inner = ["anyOf", "oneOf"].iter().filter_map(|key| map.get(*key)).filter_map(Value::as_array).flatten();
    let before = into.len();
    inner.for_each(|alternative| collect(alternative, into));
    if into.len() == before {
        into.push(map);
    }
}

/// One kind of table.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TableShape<'a> {
    schema: &'a Map<String, Value>,
}

impl<'a> TableShape<'a> {
    /// The keys it knows, in their order.
    pub(crate) fn keys(self) -> Vec<&'a str> {
        self.properties().map(|(key, _)| key.as_str()).collect()
    }

    pub(crate) fn properties(self) -> impl Iterator<Item = (&'a String, &'a Value)> {
        self.schema.get("properties").and_then(Value::as_object).into_iter().flatten()
    }

    /// What a key of it holds.
    pub(crate) fn key(self, name: &str) -> Option<Shape<'a>> {
        self.schema.get("properties").and_then(|properties| properties.get(name)).map(Shape::new)
    }

    /// What any key holds where names are free, as in `[serve] datastores`.
    pub(crate) fn free_keys(self) -> Option<Shape<'a>> {
        if let Some(schema @ Value::Object(_)) = self.schema.get("additionalProperties") {
            return Some(Shape::new(schema));
        }
        self.schema
            .get("patternProperties")
            .and_then(Value::as_object)
            .and_then(|patterns| patterns.values().next())
            .map(Shape::new)
    }

    /// The keys that must be there.
    pub(crate) fn required(self) -> impl Iterator<Item = &'a str> {
        self.schema.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str)
    }
}
