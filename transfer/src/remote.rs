//! The route `endpoint` on the service's side: control requests to an endpoint, copying a file from it, and writing a new
//! one.

pub(crate) mod client;
mod fetch;
mod folder;
mod upload;

pub use client::{EndpointClient, IssuedCredential};
pub use folder::EndpointFolder;
