//! Answers: a problem as `application/problem+json` (RFC 9457), and the headers that every answer has.

use axum::extract::Request;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use stackferry_problem::{Code, PROBLEMS, Problem};

/// A problem as the API tells it. `code`, `subject` and `hint` are those of the command line.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct ProblemBody {
    /// Where this kind of problem is described, relative to the service.
    #[serde(rename = "type")]
    kind: String,
    /// What this kind of problem is.
    title: &'static str,
    /// The HTTP status.
    status: u16,
    /// What happened and why.
    detail: String,
    /// The stable word for it.
    code: &'static str,
    /// What it happened to.
    subject: Option<String>,
    /// What to do about it.
    hint: Option<String>,
}

/// The HTTP status of a problem.
#[must_use]
pub fn status(code: Code) -> StatusCode {
    match code {
        Code::Usage => StatusCode::BAD_REQUEST,
        Code::Unauthorized => StatusCode::UNAUTHORIZED,
        Code::Forbidden => StatusCode::FORBIDDEN,
        Code::NoSuchVolume
        | Code::NoSuchVersion
        | Code::NoSuchFile
        | Code::NoSuchToken
        | Code::NoSuchJob
        | Code::NoSuchPage => StatusCode::NOT_FOUND,
        Code::AmbiguousVolume
        | Code::Busy
        | Code::LeaseLost
        | Code::Exists
        | Code::Deferred
        | Code::NotProtectable
        | Code::VersionProtected
        | Code::Refused => StatusCode::CONFLICT,
        Code::WrongMethod => StatusCode::METHOD_NOT_ALLOWED,
        Code::TooSlow => StatusCode::REQUEST_TIMEOUT,
        Code::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        Code::Overloaded | Code::Interrupted => StatusCode::SERVICE_UNAVAILABLE,
        Code::NoSpace => StatusCode::INSUFFICIENT_STORAGE,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// A problem as an answer of the API.
#[derive(Debug)]
pub(crate) struct ApiProblem(pub(crate) Problem);

impl<E: Into<Problem>> From<E> for ApiProblem {
    fn from(error: E) -> Self {
        Self(error.into())
    }
}

impl IntoResponse for ApiProblem {
    fn into_response(self) -> Response {
        let Self(problem) = self;
        let status = status(problem.code);
        if status.is_server_error() && !matches!(problem.code, Code::Overloaded | Code::Interrupted) {
            tracing::error!(code = %problem.code, subject = problem.subject, "a request failed: {}", problem.message);
        }
        let title = PROBLEMS.iter().find(|row| row.code == problem.code).map_or("", |row| row.meaning);
        let body = ProblemBody {
            kind: format!("/api/v1/problems#{}", problem.code),
            title,
            status: status.as_u16(),
            detail: problem.message,
            code: problem.code.as_str(),
            subject: problem.subject,
            hint: problem.hint,
        };
        let body = serde_json::to_string(&body).unwrap_or_default();
        let mut response = (status, [(header::CONTENT_TYPE, "application/problem+json")], body).into_response();
        if status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if problem.code == Code::Overloaded {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("2"));
        }
        response
    }
}

/// Nothing of another origin is loaded, nothing is framed, and nothing runs that is written into a page.
const POLICY: &str =
    "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; object-src 'none'";

/// Adds what makes a browser careful. No answer may be read by a page of another origin: there is no CORS here.
pub(crate) async fn harden(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "same-origin"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    // An answer is for its caller; assets that never change say otherwise themselves.
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}
