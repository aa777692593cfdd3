//! Stands before every route of the API: who calls, and may they?

use axum::Extension;
use axum::extract::{MatchedPath, Request, State};
use axum::http::header::ALLOW;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::{no_such_page, roles};
use crate::http::{ApiProblem, Peer, Web};
use stackferry_problem::{Code, Problem};

pub(super) async fn guard(
    State(web): State<Web>,
    Extension(peer): Extension<Peer>,
    path: Option<MatchedPath>,
    mut request: Request,
    next: Next,
) -> Response {
    let what = format!("{} {}", request.method(), request.uri().path());
    let caller = match web.auth().caller(peer, request.headers()).await {
        Ok(caller) => caller,
        Err(problem) => {
            if problem.code == Code::Unauthorized {
                web.auth().refused(peer, None, &what).await;
            }
            return ApiProblem(problem).into_response();
        }
    };
    let Some(path) = path else { return ApiProblem(no_such_page()).into_response() };
    let Some(least) = roles::least(request.method(), path.as_str()) else {
        let methods = roles::methods(path.as_str());
        return if methods.is_empty() { ApiProblem(no_such_page()).into_response() } else { wrong_method(&methods) };
    };
    if let Err(problem) = caller.may(least) {
        web.auth().refused(peer, Some(&caller), &what).await;
        return ApiProblem(problem).into_response();
    }
    request.extensions_mut().insert(caller);
    next.run(request).await
}

/// That something is there, which takes these methods only. The document tells the same to anybody.
fn wrong_method(methods: &[&str]) -> Response {
    let methods = methods.join(", ");
    let problem = Problem::new(Code::WrongMethod, format!("what is at this address takes only {methods}"))
        .hint("/api/v1/openapi.json lists what there is");
    ([(ALLOW, methods)], ApiProblem(problem)).into_response()
}
