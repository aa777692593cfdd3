//! `config show`, `config schema`.

use super::{Context, to_stdout};
use crate::cli::ConfigCommand;
use stackferry_problem::output::OutputFormat;
use stackferry_problem::{Exit, Problem};

pub(super) fn run(context: &Context, what: ConfigCommand) -> Result<Exit, Problem> {
    match what {
        ConfigCommand::Show => {
            let config = context.config()?;
            let text = match context.output() {
                OutputFormat::Table => config.show()?,
                OutputFormat::Json => {
                    let json = serde_json::to_string(&config);
                    json.map_err(|error| Problem::internal(format!("the configuration is no JSON: {error}")))? + "\n"
                }
            };
            to_stdout(|out| out.write_all(text.as_bytes()))
        }
        ConfigCommand::Schema => {
            let schema = stackferry_config::schema();
            to_stdout(|out| {
                serde_json::to_writer_pretty(&mut *out, &schema)?;
                out.write_all(b"\n")
            })
        }
    }
}
