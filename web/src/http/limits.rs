//! What callers together may cost: so many requests at once, so long each. Who opens a thousand connections gets a word,
//! not the machine.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use axum::extract::{FromRequest, Request, State};
use axum::http::{Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use tokio::sync::Semaphore;

use super::ApiProblem;
use super::Web;
use super::streams::Streams;
use stackferry_problem::{Code, Problem};

/// Requests that are answered at the same time. One takes a few milliseconds; the catalog has four connections.
const REQUESTS: usize = 64;
/// How long a client may take to send the body of a request.
const BODY: Duration = Duration::from_secs(15);
/// How long answering one request may take. What takes longer is a job, and is watched.
const ANSWER: Duration = Duration::from_secs(30);

pub(crate) struct RequestLimits {
    requests: Arc<Semaphore>,
    pub(crate) streams: Arc<Streams>,
}

impl Default for RequestLimits {
    fn default() -> Self {
        Self { requests: Arc::new(Semaphore::new(REQUESTS)), streams: Arc::default() }
    }
}

pub(crate) async fn limit(State(web): State<Web>, request: Request, next: Next) -> Response {
    let request = match whole(request).await {
        Ok(request) => request,
        Err(problem) => return ApiProblem(problem).into_response(),
    };
    let Ok(one) = Arc::clone(&web.0.limits.requests).try_acquire_owned() else {
        return overloaded("too many requests at once");
    };
    let is_order = !matches!(*request.method(), Method::GET | Method::HEAD);
    let work = async move {
        let _one = one;
        next.run(request).await
    };
    let seconds = ANSWER.as_secs();
    if !is_order {
        let answered = tokio::time::timeout(ANSWER, work).await;
        return answered.unwrap_or_else(|_| overloaded(&format!("it took longer than {seconds} s")));
    }
    // What changes something is done to its end, its record included, also when the caller hangs up or waits no longer.
    match tokio::time::timeout(ANSWER, tokio::spawn(work)).await {
        Ok(Ok(response)) => response,
        Ok(Err(error)) => ApiProblem(Problem::internal(format!("a request failed: {error}"))).into_response(),
        Err(_) => {
            let problem = Problem::new(Code::Overloaded, format!("it takes longer than {seconds} s, and goes on"));
            ApiProblem(problem.hint("check whether it is done before you ask again")).into_response()
        }
    }
}

/// The request with the whole of its body. A client that dawdles does so before its turn, so it takes nobody else's; what
/// it sends is bounded by the limit of bodies, and the number of such clients by that of connections.
async fn whole(request: Request) -> Result<Request, Problem> {
    if request.body().is_end_stream() {
        return Ok(request);
    }
    let (parts, body) = request.into_parts();
    let reading = Bytes::from_request(Request::from_parts(parts.clone(), body), &());
    let told = "docs/api.md says how long a request may be, and how long it may take";
    match tokio::time::timeout(BODY, reading).await {
        Ok(Ok(body)) => Ok(Request::from_parts(parts, Body::from(body))),
        Ok(Err(error)) if error.status() == StatusCode::PAYLOAD_TOO_LARGE => {
            Err(Problem::new(Code::TooLarge, error.body_text()).hint(told))
        }
        Ok(Err(error)) => Err(Problem::new(Code::Usage, error.body_text()).hint(told)),
        Err(_) => {
            let why = format!("the request's body did not arrive within {} s", BODY.as_secs());
            Err(Problem::new(Code::TooSlow, why).hint(told))
        }
    }
}

fn overloaded(why: &str) -> Response {
    let problem = Problem::new(Code::Overloaded, format!("the request could not be answered: {why}"));
    ApiProblem(problem.hint("try again in a few seconds")).into_response()
}
