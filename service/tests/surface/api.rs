//! The API's description: docs/openapi.json is the program's own, and every route of it has a least role.

use std::collections::BTreeSet;

use serde_json::Value;
use stackferry_web::api::{ROUTES, document};

/// `STACKFERRY_TEST_WRITE=1` writes the document anew.
#[test]
fn openapi_lies_in_docs() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/openapi.json");
    let text = serde_json::to_string_pretty(&document().unwrap()).unwrap() + "\n";
    if std::env::var_os("STACKFERRY_TEST_WRITE").is_some() {
        std::fs::write(path, &text).unwrap();
    }
    let written = std::fs::read_to_string(path).unwrap_or_default();
    assert!(written == text, "docs/openapi.json is out of date: run the tests with STACKFERRY_TEST_WRITE=1");
}

#[test]
fn every_route_has_a_least_role_and_says_who_is_refused() {
    let document = document().unwrap();
    let mut described = BTreeSet::new();
    for (path, operations) in document["paths"].as_object().unwrap() {
        for (method, operation) in operations.as_object().unwrap() {
            described.insert((method.to_uppercase(), path.clone()));
            for status in ["401", "403", "default"] {
                let body = &operation["responses"][status]["content"]["application/problem+json"]["schema"]["$ref"];
                assert_eq!(body, "#/components/schemas/ProblemBody", "{method} {path} {status}");
            }
            assert!(operation["x-least-role"].is_string(), "{method} {path}");
            assert!(operation["summary"].is_string(), "{method} {path}");
        }
    }
    let table: BTreeSet<_> = ROUTES.iter().map(|route| (route.method.to_owned(), route.path.to_owned())).collect();
    assert_eq!(described, table);
    assert_eq!(table.len(), ROUTES.len(), "a route stands twice in the table");
}

/// Every `$ref` leads somewhere.
#[test]
fn no_reference_is_broken() {
    fn walk(value: &Value, found: &mut Vec<String>) {
        match value {
            Value::Object(map) => {
                found.extend(map.get("$ref").and_then(Value::as_str).map(str::to_owned));
                map.values().for_each(|value| walk(value, found));
            }
            Value::Array(list) => list.iter().for_each(|value| walk(value, found)),
            _ => {}
        }
    }
    let document = document().unwrap();
    let mut found = Vec::new();
    walk(&document, &mut found);
    assert!(found.len() > 20);
    for reference in found {
        assert!(document.pointer(reference.trim_start_matches('#')).is_some(), "{reference}");
    }
}
