//! The service's web address: the HTTP API, the console, and what Prometheus scrapes.

pub mod api;
mod console;
pub mod http;
pub mod scrape;
pub mod tokens;
