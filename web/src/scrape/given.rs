//! What is asked anew at each scrape: the configuration in use, the vault's disk, and the system.

use jiff::Timestamp;
use stackferry_config::{Config, Retention, Route};
use stackferry_vault::Space;

use super::process;
use super::text::MetricsText;
use stackferry_engine::metrics::{registry, unix_seconds};
use stackferry_engine::prune::PRUNE_EVERY;

/// What of the configuration other numbers are held against.
pub(super) fn settings(text: &mut MetricsText, config: &Config) {
    text.put(&registry::TRANSFERS_LIMIT, &[], config.limits.transfers as f64);
    let every = config.verify.every;
    if !every.is_zero() {
        text.put(&registry::VERIFY_INTERVAL, &[], every.duration().as_secs_f64());
    }
    if config.retention != Retention::default() {
        text.put(&registry::PRUNE_INTERVAL, &[], PRUNE_EVERY.as_secs_f64());
    }
    // Series that are known beforehand begin at 0, so that their first increase is one.
    let mut mismatches = stackferry_transfer::known_hosts::mismatches();
    for datastore in &config.datastores {
        match &datastore.route {
            Route::Endpoint(endpoint) => mismatches.entry(endpoint.host.to_string()).or_default(),
            Route::Ssh(ssh) => mismatches.entry(ssh.host.to_string()).or_default(),
            Route::Local(_) | Route::Esxi(_) => continue,
        };
    }
    for (host, count) in mismatches {
        text.put(&registry::HOSTKEY_MISMATCHES, &[&host], count as f64);
    }
}

/// What the system tells of the vault's disk and of this process.
pub(super) fn system(text: &mut MetricsText, config: &Config, space: Option<Space>) {
    text.put(&registry::CLOCK, &[], unix_seconds(Timestamp::now()));
    if let Some(space) = space.filter(|space| space.is_known()) {
        text.put(&registry::VAULT_FREE, &[], space.free as f64);
        text.put(&registry::VAULT_SIZE, &[], space.total as f64);
        if let Ok(vault) = config.vault() {
            text.put(
                &registry::VAULT_RESERVE,
                &[],
                stackferry_engine::app::reserve(vault.reserve).of(space.total) as f64,
            );
        }
    }
    let counts = [
        (&registry::PROCESS_MEMORY, process::resident_bytes()),
        (&registry::PROCESS_FDS, process::open_fds()),
        (&registry::PROCESS_MAX_FDS, process::max_fds()),
    ];
    for (family, count) in counts {
        if let Some(count) = count {
            text.put(family, &[], count as f64);
        }
    }
    if let Some(seconds) = process::cpu_seconds() {
        text.put(&registry::PROCESS_CPU, &[], seconds);
    }
}
