//! Which role may call which route: one table. A route that is missing here is refused to everybody, and a test holds the
//! table against the OpenAPI document.

use axum::http::Method;
use stackferry_catalog::Role;

/// A route and the least role that may call it.
#[derive(Debug, Clone, Copy)]
pub struct ApiRoute {
    /// The method.
    pub method: &'static str,
    /// The path, its parameters in braces.
    pub path: &'static str,
    /// The least role.
    pub least: Role,
}

const fn route(method: &'static str, path: &'static str, least: Role) -> ApiRoute {
    ApiRoute { method, path, least }
}

/// Every route of the API.
pub const ROUTES: &[ApiRoute] = &[
    route("GET", "/api/v1/whoami", Role::Viewer),
    route("GET", "/api/v1/status", Role::Viewer),
    route("GET", "/api/v1/settings", Role::Viewer),
    route("GET", "/api/v1/reasons", Role::Viewer),
    route("GET", "/api/v1/problems", Role::Viewer),
    route("GET", "/api/v1/openapi.json", Role::Viewer),
    route("GET", "/api/v1/tokens", Role::Admin),
    route("GET", "/api/v1/volumes", Role::Viewer),
    route("GET", "/api/v1/volumes/{kind}/{stem}", Role::Viewer),
    route("GET", "/api/v1/volumes/{kind}/{stem}/versions", Role::Viewer),
    route("GET", "/api/v1/volumes/{kind}/{stem}/attempts", Role::Viewer),
    route("GET", "/api/v1/prune", Role::Admin),
    route("POST", "/api/v1/prune", Role::Admin),
    route("POST", "/api/v1/volumes/{kind}/{stem}/copy", Role::Operator),
    route("POST", "/api/v1/volumes/{kind}/{stem}/verify", Role::Operator),
    route("POST", "/api/v1/volumes/{kind}/{stem}/versions/{version}/verify", Role::Operator),
    route("POST", "/api/v1/verify", Role::Operator),
    route("POST", "/api/v1/volumes/{kind}/{stem}/restore", Role::Admin),
    route("PUT", "/api/v1/volumes/{kind}/{stem}/versions/{version}/pin", Role::Operator),
    route("DELETE", "/api/v1/volumes/{kind}/{stem}/versions/{version}/pin", Role::Admin),
    route("GET", "/api/v1/jobs", Role::Viewer),
    route("GET", "/api/v1/jobs/{id}", Role::Viewer),
    route("POST", "/api/v1/jobs/{id}/cancel", Role::Operator),
    route("GET", "/api/v1/events", Role::Viewer),
    route("GET", "/api/v1/pauses", Role::Viewer),
    route("PUT", "/api/v1/pause", Role::Operator),
    route("DELETE", "/api/v1/pause", Role::Operator),
    route("PUT", "/api/v1/volumes/{kind}/{stem}/pause", Role::Operator),
    route("DELETE", "/api/v1/volumes/{kind}/{stem}/pause", Role::Operator),
    route("GET", "/api/v1/incidents", Role::Viewer),
    route("GET", "/api/v1/audit", Role::Viewer),
];

/// The least role for a request; none if there is no such route.
pub(super) fn least(method: &Method, path: &str) -> Option<Role> {
    // What answers GET answers HEAD.
    let method = if method == Method::HEAD { "GET" } else { method.as_str() };
    ROUTES.iter().find(|route| route.method == method && route.path == path).map(|route| route.least)
}

/// The methods that a path takes; none if nothing is there.
pub(super) fn methods(path: &str) -> Vec<&'static str> {
    let methods = ROUTES.iter().filter(|route| route.path == path).map(|route| route.method);
    methods.flat_map(|method| if method == "GET" { vec!["GET", "HEAD"] } else { vec![method] }).collect()
}
