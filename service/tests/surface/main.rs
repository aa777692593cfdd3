//! What the program shows: errors, the command line, answers, progress and log.

mod cli;
mod output;
mod problem;
mod progress;
