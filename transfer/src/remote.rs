//! The route `endpoint`, as seen from the service: asking an endpoint, and copying a file from it.

mod ask;
pub(crate) mod fetch;

pub use ask::{EndpointClient, EndpointFolder, IssuedCredential, Patience};
