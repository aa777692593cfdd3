//! The API's own description. What holds for every route (roles, refusals, the token) is said here once.

use axum::Json;
use serde_json::{Value, json};
use utoipa::OpenApi as _;

use super::roles::ROUTES;
use crate::http::{ApiProblem, ProblemBody};
use stackferry_problem::Problem;

#[derive(utoipa::OpenApi)]
#[openapi(
    info(
        title = "Stackferry",
        description = "What the command line answers, by HTTP. Every request needs a bearer token, or comes by the socket \
                       in the state folder. Objects only grow: keys are added, never changed or removed.",
        license(name = "Apache-2.0", identifier = "Apache-2.0"),
    ),
    tags(
        (name = "service", description = "The service itself"),
        (name = "volumes", description = "Volumes and their versions"),
        (name = "jobs", description = "What is to be done, is being done, and was done"),
        (name = "records", description = "Incidents and the audit"),
        (name = "words", description = "What the words in answers mean"),
    ),
    components(schemas(ProblemBody)),
)]
struct Document;

/// The OpenAPI document as JSON.
///
/// # Errors
/// It is no JSON, which is a defect.
pub fn document() -> Result<Value, Problem> {
    let (_, mut paths) = super::routes().split_for_parts();
    let mut whole = Document::openapi();
    // The program's version is not the API's: the document changes when the API does.
    "1".clone_into(&mut paths.info.version);
    whole.merge(paths);
    "1".clone_into(&mut whole.info.version);
    let mut whole = serde_json::to_value(whole)
        .map_err(|error| Problem::internal(format!("the OpenAPI document is no JSON: {error}")))?;
    if let Some(components) = whole.get_mut("components").and_then(Value::as_object_mut) {
        components.insert(
            "securitySchemes".to_owned(),
            json!({ "token": { "type": "http", "scheme": "bearer", "description": "made by `stackferry token create`" } }),
        );
    }
    for route in ROUTES {
        let operation = whole
            .get_mut("paths")
            .and_then(|paths| paths.get_mut(route.path))
            .and_then(|path| path.get_mut(route.method.to_lowercase()))
            .and_then(Value::as_object_mut);
        let Some(operation) = operation else { continue };
        operation.insert("x-least-role".to_owned(), json!(route.least));
        operation.insert("security".to_owned(), json!([{ "token": [] }]));
        if let Some(responses) = operation.get_mut("responses").and_then(Value::as_object_mut) {
            let refusals = [
                ("400", "The request can't be understood"),
                ("401", "No token that is in use was shown"),
                ("403", "The caller's role is too low, whether the named object exists or not"),
                ("default", "Any other problem"),
            ];
            for (status, description) in refusals {
                responses.entry(status).or_insert_with(|| {
                    let schema = json!({ "$ref": "#/components/schemas/ProblemBody" });
                    json!({ "description": description, "content": { "application/problem+json": { "schema": schema } } })
                });
            }
        }
    }
    Ok(whole)
}

/// This document
#[utoipa::path(get, path = "/api/v1/openapi.json", tag = "words", responses((status = 200, body = Object)))]
pub(super) async fn openapi() -> Result<Json<Value>, ApiProblem> {
    Ok(document().map(Json)?)
}
