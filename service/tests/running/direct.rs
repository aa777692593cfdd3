//! Requests without a network: how long the service itself takes for an answer, and how many statements its catalog ran for
//! it.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, Request, StatusCode};
use hyper::service::Service;
use hyper_util::service::TowerToHyperService;
use stackferry_engine::app::App;
use stackferry_engine::health::Health;
use stackferry_web::http::Peer;
use tracing::span::{Attributes, Id};
use tracing::{Event, Instrument, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;

/// The span of a request. The catalog's threads work within the span of whoever asks.
const SPAN: &str = "asked";

/// Counts statements by the request that they are run for, whatever other tests of this process do meanwhile.
struct Counter(Arc<Mutex<HashMap<u64, u64>>>);

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Counter {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, _: Context<'_, S>) {
        if attributes.metadata().name() == SPAN {
            self.0.lock().unwrap().insert(id.into_u64(), 0);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        if event.metadata().target() != "sqlx::query" {
            return;
        }
        let Some(scope) = context.event_scope(event) else { return };
        for span in scope.filter(|span| span.name() == SPAN) {
            *self.0.lock().unwrap().entry(span.id().into_u64()).or_default() += 1;
        }
    }
}

static COUNTS: LazyLock<Arc<Mutex<HashMap<u64, u64>>>> = LazyLock::new(|| {
    let counts: Arc<Mutex<HashMap<u64, u64>>> = Arc::default();
    let layer = tracing_subscriber::registry().with(Counter(Arc::clone(&counts)));
    tracing::subscriber::set_global_default(layer).unwrap();
    counts
});

/// The service's pages.
pub(crate) struct Direct(TowerToHyperService<Router>);

pub(crate) struct Answered {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
    pub(crate) took: Duration,
    pub(crate) statements: u64,
}

impl Direct {
    pub(crate) fn new(app: &App) -> Self {
        let health = Health::new(Duration::from_secs(60)).into();
        Self(TowerToHyperService::new(stackferry_web::router(app.clone(), health)))
    }

    pub(crate) async fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Answered {
        let mut request = Request::builder().method(method).uri(path).header("Host", "stackferry");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut request = request.body(Body::from(body.to_owned())).unwrap();
        request.extensions_mut().insert(Peer::Tcp { from: ([127, 0, 0, 1], 1).into(), tls: false });
        let counts = Arc::clone(&COUNTS);
        let span = tracing::info_span!(SPAN);
        let id = span.id().unwrap().into_u64();
        let began = Instant::now();
        let answer = self.0.call(request).instrument(span.clone()).await.unwrap();
        let (head, body) = answer.into_parts();
        let body = to_bytes(body, 64 << 20).await.unwrap();
        let took = began.elapsed();
        let statements = counts.lock().unwrap()[&id];
        let body = String::from_utf8(body.to_vec()).unwrap();
        Answered { status: head.status, headers: head.headers, body, took, statements }
    }

    /// The cookie of a browser that logged in.
    pub(crate) async fn login(&self, token: &str) -> String {
        let form = [("Origin", "http://stackferry"), ("Content-Type", "application/x-www-form-urlencoded")];
        let answer = self.ask("POST", "/login", &form, &format!("token={token}")).await;
        assert_eq!(answer.status, StatusCode::SEE_OTHER, "{}", answer.body);
        answer.headers["set-cookie"].to_str().unwrap().split(';').next().unwrap().to_owned()
    }

    /// A page, asked for so often: the last answer with the least number of statements, and the median of the
    /// times.
    pub(crate) async fn page(&self, path: &str, headers: &[(&str, &str)], times: usize) -> (Answered, Duration) {
        let mut all = Vec::new();
        for _ in 0..times {
            let answer = self.ask("GET", path, headers, "").await;
            assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
            all.push(answer);
        }
        let mut took: Vec<Duration> = all.iter().map(|answer| answer.took).collect();
        took.sort_unstable();
        // A new connection to the database has statements of its own.
        let statements = all.iter().map(|answer| answer.statements).min().unwrap();
        (Answered { statements, ..all.pop().unwrap() }, took[took.len() / 2])
    }
}
