//! The command line: what can be asked for, and how. Nothing here does what is asked, opens a file or asks a system.
//!
//! Precedence of a setting: option, environment, configuration file.

mod args;
mod pages;
mod parse;

use std::path::PathBuf;

use clap::{ArgAction, Parser, Subcommand};
use clap_complete::Shell;
use stackferry_catalog::Role;
use stackferry_config::{Overrides, Period};

pub use args::{Target, VersionTarget};
pub use pages::{completions, man};
pub use parse::Stop;

use stackferry_problem::output::OutputFormat;
use stackferry_problem::progress::LOG_FORMAT;

const EXAMPLES: &str = "\
Examples:
  stackferry check                              try everything that is configured
  stackferry copy appstack/Office               copy one volume now
  stackferry versions 'writable/CORP!5C!jdoe'   what there is to restore
  stackferry restore appstack/Office --to /srv/restore

VOLUME is an id (appstack/Office, writable/CORP!5C!jdoe), or a name, owner or GUID that fits
exactly one volume. A version is added with @: appstack/Office@20261122T041500Z-3.

";

/// Protects VMware App Volumes disks: finds, copies, checks and restores AppStacks, packages and writable volumes.
#[derive(Debug, Clone, Parser)]
#[command(name = "stackferry", version, long_version = stackferry_engine::about::LONG_VERSION, after_help = pages::exit_codes(EXAMPLES))]
#[command(max_term_width = 100)]
pub struct Cli {
    /// What holds for every command.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What holds for every command.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Global options")]
pub struct Global {
    /// The configuration file
    #[arg(long, global = true, value_name = "FILE", env = "STACKFERRY_CONFIG", hide_env_values = true)]
    #[arg(default_value = "/etc/stackferry/stackferry.toml", display_order = 100)]
    pub config: PathBuf,
    /// How answers are printed on stdout, and errors on stderr
    #[arg(long, global = true, value_name = "FORMAT", value_enum, env = "STACKFERRY_OUTPUT", hide_env_values = true)]
    #[arg(default_value = "table", display_order = 101)]
    pub output: OutputFormat,
    /// The folder of the catalog and journals, instead of the configuration's `state_dir`
    #[arg(long, global = true, value_name = "DIR", display_order = 102)]
    pub state_dir: Option<PathBuf>,
    /// Log more: -v debug, -vv trace (STACKFERRY_LOG takes a filter, as `warn,stackferry_transfer=debug`)
    #[arg(short, long, global = true, action = ArgAction::Count, conflicts_with = "quiet", display_order = 103)]
    pub verbose: u8,
    /// No progress, and only errors in the log
    #[arg(short, long, global = true, display_order = 104)]
    pub quiet: bool,
}

impl Global {
    /// What goes before the configuration file: the environment as given, then the options.
    #[must_use]
    pub fn overrides(
        &self,
        environment: impl IntoIterator<Item = (std::ffi::OsString, std::ffi::OsString)>,
    ) -> Overrides {
        let settings = environment.into_iter().filter(|(name, _)| name != LOG_FORMAT);
        let overrides = Overrides::none().environment(settings);
        match &self.state_dir {
            Some(dir) => overrides.flag("--state-dir", "state_dir", &dir.to_string_lossy()),
            None => overrides,
        }
    }
}

/// What to do.
#[derive(Debug, Clone, Subcommand)]
pub enum Command {
    /// Try the configuration, every secret, system and route, and say what to do about what does not work
    #[command(after_help = "\
Examples:
  stackferry check                  before the service is started, and whenever something is wrong
  stackferry check --config-only    in a unit's ExecStartPre")]
    Check {
        /// Read the configuration and resolve its secrets only; ask no other system
        #[arg(long)]
        config_only: bool,
    },
    /// Look for volumes now, and list them with what can be copied and why the rest can't
    #[command(after_help = "\
Examples:
  stackferry discover
  stackferry discover --all                        what lies beside the volumes, too
  stackferry discover --output json | jq '.[] | select(.protectable | not) | {id, reason, remedy}'")]
    Discover {
        /// List what is no volume as well, as entries of kind `other` without an id
        #[arg(long)]
        all: bool,
    },
    /// Run the service: discover, copy what is due, verify, serve metrics
    #[command(after_help = "\
Examples:
  stackferry run           from a systemd unit; SIGTERM ends it
  stackferry run --once    from cron; exits 3 if a volume failed or was deferred")]
    Run {
        /// Do one full round and end
        #[arg(long)]
        once: bool,
    },
    /// Copy one volume now, whatever its schedule
    #[command(after_help = "\
Examples:
  stackferry copy appstack/Office
  stackferry copy 'CORP\\jdoe' --if-changed --wait 10m

Exits 3 if the volume is postponed, 11 if somebody else works on it for longer than --wait.")]
    Copy {
        /// Which volume: an id, or a name, owner or GUID that fits one
        #[arg(value_parser = args::volume)]
        volume: String,
        /// Make no version if the source equals the last one
        #[arg(long)]
        if_changed: bool,
        /// How long to wait while somebody else works on the volume
        #[arg(long, value_name = "DURATION", default_value = "60s")]
        wait: Period,
    },
    /// List the known volumes with how they are protected
    #[command(after_help = "\
Examples:
  stackferry volumes
  stackferry volumes --output json | jq -r '.[] | select(.versions == 0) | .id'")]
    Volumes,
    /// List the versions of a volume, newest first
    #[command(after_help = "\
Examples:
  stackferry versions appstack/Office")]
    Versions {
        /// Which volume: an id, or a name, owner or GUID that fits one
        #[arg(value_parser = args::volume)]
        volume: String,
    },
    /// Read versions back from the vault and check every digest
    #[command(after_help = "\
Examples:
  stackferry verify                                          everything
  stackferry verify appstack/Office                          all versions of one volume
  stackferry verify appstack/Office@20261122T041500Z-3       one version

Exits 14 if something is damaged.")]
    Verify {
        /// Which volume or version; default: all
        #[arg(value_name = "VOLUME[@VERSION]")]
        target: Option<Target>,
    },
    /// Put a version back as plain VMDK files, sparse, every block checked
    #[command(after_help = "\
Examples:
  stackferry restore appstack/Office --to /srv/restore
  stackferry restore 'CORP\\jdoe@20261122T041500Z-3' --to datastore:nfs01/restored

Exits 14 if the version is damaged; no file has a final name then.")]
    Restore {
        /// Which volume; the newest good version if none is named
        #[arg(value_name = "VOLUME[@VERSION]")]
        target: Target,
        /// The folder to put the files into; made if it is missing. Or datastore:NAME/FOLDER, of a datastore by route local, endpoint or ssh
        #[arg(long, value_name = "DIR")]
        to: PathBuf,
        /// Replace files of the same names
        #[arg(long)]
        overwrite: bool,
    },
    /// Make a one-time credential for one file, for a person with a stock sftp or scp client
    #[command(after_help = "\
Examples:
  stackferry grant appstack/Office                        its disk, for 10 minutes
  stackferry grant appstack/Office --file Office.vmdk --for 2m

The password is shown once. It opens this one file, for reading, a single time.")]
    Grant {
        /// Which volume: an id, or a name, owner or GUID that fits one
        #[arg(value_parser = args::volume)]
        volume: String,
        /// Which of its files; the disk's extent if left away
        #[arg(long, value_name = "NAME")]
        file: Option<String>,
        /// How long it can be used; at most 5m on route `ssh`
        #[arg(long = "for", value_name = "DURATION", default_value = "10m", value_parser = args::positive)]
        life: Period,
    },
    /// Run the endpoint: our SSH server on a machine that mounts datastores
    #[command(after_help = "\
Needs `state_dir` and [serve] of the configuration only. It writes nothing to a datastore.")]
    Serve,
    /// Make the catalog anew from the vault
    #[command(after_help = "\
Versions, pins and marks of damage are taken from the vault. History, audit and credentials of the catalog stay.")]
    Rebuild,
    /// Delete the versions that [retention] keeps no longer
    #[command(after_help = "\
Examples:
  stackferry prune --dry-run                    what would go, and what it takes
  stackferry prune appstack/Office --dry-run    each version of one volume, and which rule keeps it
  stackferry prune

The service does this by itself once an hour. The newest good version of each life of a volume,
what is pinned and what is locked are never deleted. Exits 3 if some version could not be deleted.")]
    Prune {
        /// Which volume: an id, or a name, owner or GUID that fits one; default: all
        #[arg(value_parser = args::volume)]
        volume: Option<String>,
        /// Delete nothing, only tell
        #[arg(long)]
        dry_run: bool,
        /// Delete nothing now, but say that the machine's clock is right: after it jumped forward by more than an hour
        /// nothing is deleted until somebody does
        #[arg(long, conflicts_with_all = ["dry_run", "volume"])]
        confirm_clock: bool,
    },
    /// List what waits and what runs
    #[command(after_help = "\
Examples:
  stackferry jobs
  stackferry jobs --all --output json | jq '.[] | select(.state == \"failed\") | {id, volume, error}'")]
    Jobs {
        /// Of this volume only: an id, or a name, owner or GUID that fits one
        #[arg(value_parser = args::volume)]
        volume: Option<String>,
        /// Those that ended, too
        #[arg(long)]
        all: bool,
        /// How many, the newest first
        #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=100_000))]
        last: u32,
    },
    /// Cancel a job; one that runs ends, and what it copied so far is kept
    Cancel {
        /// Its number, as `jobs` lists it
        #[arg(value_name = "JOB")]
        id: stackferry_catalog::JobId,
    },
    /// Pause scheduled copies, of one volume or of all; those that run go on
    #[command(after_help = "\
Examples:
  stackferry pause                      for work at the storage; `stackferry resume` ends it
  stackferry pause appstack/Office

What a person asks for (`copy`) is done all the same. It lasts over restarts.")]
    Pause {
        /// Which volume: an id, or a name, owner or GUID that fits one; default: all
        #[arg(value_parser = args::volume)]
        volume: Option<String>,
    },
    /// End a pause
    Resume {
        /// Which volume: an id, or a name, owner or GUID that fits one; default: all
        #[arg(value_parser = args::volume)]
        volume: Option<String>,
    },
    /// Keep a version whatever retention says
    #[command(after_help = "\
Examples:
  stackferry pin appstack/Office@20261122T041500Z-3 --note 'before the 2027 update'")]
    Pin {
        /// Which version
        #[arg(value_name = "VOLUME@VERSION")]
        target: VersionTarget,
        /// Why, for whoever reads it later
        #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
        note: String,
    },
    /// Let retention decide about a version again
    Unpin {
        /// Which version
        #[arg(value_name = "VOLUME@VERSION")]
        target: VersionTarget,
    },
    /// Show or check the record of what was done
    #[command(subcommand)]
    Audit(AuditCommand),
    /// Give and take back tokens for the API and the console
    #[command(subcommand)]
    Token(TokenCommand),
    /// Send a test notification
    #[command(subcommand)]
    Notify(NotifyCommand),
    /// Show the configuration in force, or its JSON Schema
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Print a completion script for a shell
    #[command(after_help = "\
Examples:
  stackferry completions bash > /etc/bash_completion.d/stackferry
  stackferry completions zsh > /usr/local/share/zsh/site-functions/_stackferry")]
    Completions {
        /// The shell
        #[arg(value_enum)]
        shell: Shell,
    },
    /// Print the manual page, or write the pages of all commands
    #[command(after_help = "\
Examples:
  stackferry man | man -l -
  stackferry man --dir /usr/local/share/man/man1")]
    Man {
        /// Write one page for each command into this folder instead
        #[arg(long, value_name = "DIR")]
        dir: Option<PathBuf>,
    },
}

/// What to do with the audit records.
#[derive(Debug, Clone, Subcommand)]
pub enum AuditCommand {
    /// Show the last records, newest first
    Show {
        /// How many
        #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=100_000))]
        last: u32,
    },
    /// Check that no record was changed, removed or put in between
    #[command(
        after_help = "Exits 14 if the chain is broken. Keep the printed head elsewhere to notice a chain made anew."
    )]
    Verify,
}

/// What to do with tokens.
#[derive(Debug, Clone, Subcommand)]
pub enum TokenCommand {
    /// Make a token, and show it once
    #[command(after_help = "\
Examples:
  stackferry token create --name helpdesk --role operator

A viewer reads; an operator also copies, verifies, cancels and pins; an admin also restores, unpins and sees tokens.
The token is shown once: who loses it is given a new one.")]
    Create {
        /// Who bears it, for the audit; no two tokens in use have one name
        #[arg(long)]
        name: String,
        /// What its bearer may do: viewer, operator or admin
        #[arg(long, value_parser = args::role)]
        role: Role,
    },
    /// List all tokens, without their secrets
    List,
    /// Take a token back: it opens nothing any more
    Revoke {
        /// Its name, or its id
        name: String,
    },
}

/// What to do with notifications.
#[derive(Debug, Clone, Copy, Subcommand)]
pub enum NotifyCommand {
    /// Send a test message by each way of [notify], and tell how each ended
    #[command(after_help = "\
Examples:
  stackferry notify test
  stackferry notify test --output json | jq '.sent[] | select(.ok | not)'

Exits 3 if one way works and another does not, 12 if a login was refused.")]
    Test,
}

/// What to do with the configuration.
#[derive(Debug, Clone, Copy, Subcommand)]
pub enum ConfigCommand {
    /// The configuration in force as TOML, defaults and overrides filled in, secrets by reference
    Show,
    /// The JSON Schema of the configuration file, for editors
    Schema,
}

impl Command {
    /// Whether it runs until it is told to end, and so logs as a service does.
    #[must_use]
    pub fn is_service(&self) -> bool {
        matches!(self, Command::Run { .. } | Command::Serve)
    }
}
