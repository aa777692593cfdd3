//! What a person sees while something runs: bars on a terminal, plain lines elsewhere, and the log. All of it goes to
//! stderr; stdout belongs to answers.

mod harmless;
mod lines;
mod log;
mod task;

pub use log::{LOG_FORMAT, LogOptions, LogWriter, init, is_capped, subscriber};
pub use task::{Reporter, Task};
