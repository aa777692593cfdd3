//! The service's web address: the HTTP API, the console, and what Prometheus scrapes.

pub mod api;
mod console;
pub mod http;
mod router;
pub mod scrape;
pub mod tokens;

pub use router::router;
