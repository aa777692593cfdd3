//! The route `endpoint`, as seen from the service: asking an endpoint, copying a file from it, and writing a new
//! one.

mod ask;
pub(crate) mod fetch;
mod put;

pub use ask::{EndpointClient, EndpointFolder, IssuedCredential, Patience};
