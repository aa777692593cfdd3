//! What a request says, or the problem with it.

use axum::extract::rejection::{JsonRejection, PathRejection, QueryRejection};
use axum::extract::{FromRequest, FromRequestParts, Json, Path, Query, Request};
use axum::http::StatusCode;
use axum::http::request::Parts;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use stackferry_volume::VolumeId;

use crate::http::ApiProblem;
use stackferry_problem::{Code, Problem};

/// The query of a request.
pub(super) struct QueryParams<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for QueryParams<T> {
    type Rejection = ApiProblem;
    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiProblem> {
        let asked: Result<Query<T>, QueryRejection> = Query::from_request_parts(parts, state).await;
        Ok(asked.map(|Query(asked)| Self(asked)).map_err(|error| wrong(error.body_text(), error.status()))?)
    }
}

/// The parameters of a request's path.
pub(super) struct PathParams<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for PathParams<T> {
    type Rejection = ApiProblem;
    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiProblem> {
        let named: Result<Path<T>, PathRejection> = Path::from_request_parts(parts, state).await;
        Ok(named.map(|Path(named)| Self(named)).map_err(|error| wrong(error.body_text(), error.status()))?)
    }
}

/// The JSON of a request's body. It has to be declared as JSON: a form of another page can't be.
pub(super) struct JsonBody<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for JsonBody<T> {
    type Rejection = ApiProblem;
    async fn from_request(request: Request, state: &S) -> Result<Self, ApiProblem> {
        let told: Result<Json<T>, JsonRejection> = Json::from_request(request, state).await;
        Ok(told.map(|Json(told)| Self(told)).map_err(|error| wrong(error.body_text(), error.status()))?)
    }
}

/// The JSON of a request's body, or what holds where there is none.
pub(super) struct OptionalJson<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned + Default> FromRequest<S> for OptionalJson<T> {
    type Rejection = ApiProblem;
    async fn from_request(request: Request, state: &S) -> Result<Self, ApiProblem> {
        use axum::body::HttpBody as _;
        if request.body().is_end_stream() {
            return Ok(Self(T::default()));
        }
        JsonBody::from_request(request, state).await.map(|JsonBody(told)| Self(told))
    }
}

fn wrong(why: String, status: StatusCode) -> Problem {
    let code = if status == StatusCode::PAYLOAD_TOO_LARGE { Code::TooLarge } else { Code::Usage };
    Problem::new(code, why).hint("docs/api.md and /api/v1/openapi.json say what each route takes")
}

/// A number as the document's `int64` with a minimum of 0: from 0 to 2^63 - 1.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(try_from = "u64")]
pub(super) struct Natural(pub(super) u64);

impl TryFrom<u64> for Natural {
    type Error = String;
    fn try_from(number: u64) -> Result<Self, String> {
        i64::try_from(number).map(|_| Self(number)).map_err(|_| format!("{number} is more than {}", i64::MAX))
    }
}

/// The volume that a path names by kind and stem. One whose id can't be one does not exist.
pub(crate) fn volume_id(kind: &str, stem: &str) -> Result<VolumeId, Problem> {
    let text = format!("{kind}/{stem}");
    text.parse().map_err(|_| Problem::no_such_volume(&text, &[]))
}
