//! The demonstration: real processes build, protect and restore a site, and every step is judged.
//!
//! What it prints is for a person; its exit code says whether it succeeded, too.

mod chaos;
mod inventory;
mod listed;
mod long;
mod manager;
mod once;
mod print;
mod soak;
mod stage;
mod stay;

pub use chaos::chaos;
pub use long::long;
pub use once::once;
pub use soak::soak;
pub use stay::stay;
