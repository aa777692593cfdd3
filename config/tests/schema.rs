//! The JSON Schema is made from the types: it knows every promised key and refuses others.
#![allow(clippy::panic, clippy::unwrap_used, reason = "a helper that fails fails its test")]

use serde_json::Value;
use stackferry_config::schema;

/// Follows references and takes the alternative that is no `null`.
fn resolve<'a>(root: &'a Value, schema: &'a Value) -> &'a Value {
    if let Some(reference) = schema.get("$ref").and_then(Value::as_str) {
        let pointer = reference.strip_prefix('#').unwrap();
        return resolve(root, root.pointer(pointer).unwrap());
    }
    let alternatives = schema.get("anyOf").and_then(Value::as_array);
    match alternatives.and_then(|all| all.iter().find(|one| one["type"] != "null")) {
        Some(alternative) => resolve(root, alternative),
        None => schema,
    }
}

/// Every key of a TOML table is in the schema's table, all the way down.
fn covers(root: &Value, schema: &Value, table: &toml::Table, at: &str) {
    let schema = resolve(root, schema);
    if schema.get("oneOf").is_some() {
        return;
    }
    for (key, value) in table {
        let at = format!("{at}.{key}");
        let known =
            schema["properties"].get(key).or_else(|| schema.get("additionalProperties").filter(|any| any.is_object()));
        let known = known.unwrap_or_else(|| panic!("{at} is not in the schema: {schema:#}"));
        match value {
            toml::Value::Table(inner) => covers(root, known, inner, &at),
            toml::Value::Array(items) => {
                let item = resolve(root, known)["items"].clone();
                for inner in items.iter().filter_map(toml::Value::as_table).filter(|_| !at.ends_with(".folders")) {
                    covers(root, &item, inner, &at);
                }
            }
            _ => {}
        }
    }
}

#[test]
fn the_schema_knows_every_key_in_use() {
    let schema = schema();
    for text in [include_str!("design.toml"), include_str!("routes.toml"), include_str!("../examples/stackferry.toml")]
    {
        covers(&schema, &schema, &text.parse().unwrap(), "");
    }
}

#[test]
fn every_table_refuses_unknown_keys_and_explains_its_own() {
    fn walk(value: &Value, tables: &mut usize) {
        if let Some(properties) = value.get("properties").and_then(Value::as_object) {
            *tables += 1;
            assert_eq!(value["additionalProperties"], Value::Bool(false), "{value:#}");
            for (key, property) in properties {
                assert!(property.get("description").is_some(), "{key} says nothing: {property:#}");
            }
        }
        match value {
            Value::Object(map) => map.values().for_each(|value| walk(value, tables)),
            Value::Array(items) => items.iter().for_each(|value| walk(value, tables)),
            _ => {}
        }
    }
    let mut tables = 0;
    walk(&schema(), &mut tables);
    assert!(tables >= 15, "{tables}");
}

#[test]
fn the_schema_tells_defaults_and_ranges() {
    let schema = schema();
    let limits = resolve(&schema, &schema["properties"]["limits"]);
    assert_eq!(limits["properties"]["transfers"]["maximum"], 64);
    assert_eq!(limits["properties"]["transfers"]["default"], 2);
    assert_eq!(limits["properties"]["memory"]["default"], "96MiB");
    assert_eq!(schema["properties"]["state_dir"]["default"], "/var/lib/stackferry");
    assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
}
