//! HTTPS to a system whose certificate is known by its authority or by its fingerprint.
//!
//! One [`HttpsClient`] talks to one system and reuses its connections. Every wait has a timeout and every response a size
//! limit. Redirects are not followed and no proxy is used: a password or ticket is sent to the configured system or
//! nowhere. Header values and bodies never appear in an error or in `Debug` output.

mod client;
mod error;
mod refusal;
mod request;
mod response;
mod retry;
#[cfg(test)]
mod tests;
mod thumbprint;
mod timeouts;
mod trust;

pub use client::HttpsClient;
pub use error::{HttpsError, tls_error};
pub use request::Request;
pub use reqwest::Method;
pub use response::{Response, StreamingResponse, UnexpectedContent};
pub use retry::Retry;
pub use thumbprint::Thumbprint;
pub use timeouts::{CONNECT, IDLE};
pub use trust::{Trust, tls_config};
