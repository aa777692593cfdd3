//! What is made from the command line's description: the list of exit codes in the help, completions, manual pages.

use std::io::{self, Write};
use std::path::Path;

use clap::CommandFactory;
use clap_complete::Shell;

use super::Cli;
use stackferry_problem::Exit;

/// `text`, then the exit codes.
pub(super) fn exit_codes(text: &str) -> String {
    let mut text = format!("{text}Exit codes:\n");
    for exit in Exit::ALL {
        text.push_str(&format!("  {:>3}  {}\n", exit.code(), exit.meaning()));
    }
    text.push_str("\nErrors are explained in docs/troubleshooting.md, by the code below each message.");
    text
}

/// Prints the completion script for a shell.
///
/// # Errors
/// Those of `out`.
pub fn completions(shell: Shell, out: &mut dyn Write) -> io::Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "stackferry", &mut script);
    out.write_all(&script)
}

/// Prints the manual page of the program; with a folder, writes one page for it and each of its commands there.
///
/// # Errors
/// Those of `out` or of the folder.
pub fn man(dir: Option<&Path>, out: &mut dyn Write) -> io::Result<()> {
    match dir {
        Some(dir) => {
            std::fs::create_dir_all(dir)?;
            clap_mangen::generate_to(Cli::command(), dir)
        }
        None => clap_mangen::Man::new(Cli::command()).render(out),
    }
}
