//! What callers together may cost: so many requests at once, so long each. Who opens a thousand connections gets a word,
//! not the machine.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use tokio::sync::Semaphore;

use super::Web;
use crate::problem::{Code, Problem};

/// Requests that are answered at the same time. One takes a few milliseconds; the catalog has four connections.
const REQUESTS: usize = 64;
/// Streams of events at the same time: each is a connection that stays.
const STREAMS: usize = 32;
/// How long one request may take, its body included. What takes longer is a job, and is watched.
const ANSWER: Duration = Duration::from_secs(30);

pub(super) struct Limits {
    requests: Semaphore,
    pub(super) streams: Arc<Semaphore>,
}

impl Default for Limits {
    fn default() -> Self {
        Self { requests: Semaphore::new(REQUESTS), streams: Arc::new(Semaphore::new(STREAMS)) }
    }
}

pub(super) async fn limit(State(web): State<Web>, request: Request, next: Next) -> Response {
    let Ok(_one) = web.0.limits.requests.try_acquire() else {
        return overloaded("too many requests at once");
    };
    match tokio::time::timeout(ANSWER, next.run(request)).await {
        Ok(response) => response,
        Err(_) => overloaded(&format!("it took longer than {} s", ANSWER.as_secs())),
    }
}

fn overloaded(why: &str) -> Response {
    Problem::new(Code::Overloaded, format!("the request could not be answered: {why}"))
        .hint("try again in a few seconds")
        .into_response()
}
