//! What Prometheus scrapes. State comes from the catalog at each scrape, so that it is right after a restart and whoever made
//! the change; counters are this process's own.
//!
//! Nothing here may fail or slow down what it counts: a sample that can't be taken is left out.

mod given;
mod process;
mod state;
mod text;

use prometheus::{Encoder, TextEncoder};
use stackferry_catalog::{Channel, CleanupKind, JobState};
use stackferry_config::Config;
use stackferry_engine::app::App;
use stackferry_engine::metrics::{ProcessCounters, SourceCounters, registry, unix_seconds};
use stackferry_engine::{cleanups, prune};
use stackferry_problem::Problem;
use stackferry_vault::Space;

use text::MetricsText;

/// The content type of what [`render`] gives.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Every metric, in Prometheus' text format. `space` is what the vault's disk says; none leaves its families out.
///
/// # Errors
/// The catalog's.
pub async fn render(app: &App, space: Option<Space>) -> Result<String, Problem> {
    // Of the configuration that is in use now: it may have been read again since the address was taken.
    let app = &app.latest();
    let (catalog, config, metrics) = (app.catalog(), app.config(), app.metrics());
    let fleet = catalog.fleet().await?;
    let credentials = catalog.outstanding_credentials().await?;
    let (owed, unpaid) = cleanups::standing(app).await?;
    let jobs = catalog.job_counts().await?;
    // A note that can't be read freezes it, too.
    let frozen = app.jobs().prune_frozen().await.map_or(true, |frozen| frozen.is_some());
    let mut text = MetricsText::default();
    state::volumes(&mut text, config, &fleet, metrics.sources().last_scans(config));
    drop(fleet);
    state::running(&mut text, &metrics.running_copies());
    sources(&mut text, metrics.sources(), config);
    text.put(&registry::CREDENTIALS_OUTSTANDING, &[], credentials.len() as f64);
    if let Some(oldest) = credentials.iter().map(|credential| credential.issued.issued).min() {
        text.put(&registry::CREDENTIALS_OLDEST, &[], unix_seconds(oldest));
    }
    for what in CleanupKind::ALL {
        for (family, rows) in [(&registry::OWED, &owed), (&registry::OWED_UNPAID, &unpaid)] {
            let count = rows.iter().filter(|row| row.cleanup.what == *what).count();
            text.put(family, &[what.as_str()], count as f64);
        }
    }
    for state in JobState::ALL {
        text.put(&registry::JOBS, &[state.as_str()], jobs.get(state.as_str()).copied().unwrap_or_default() as f64);
    }
    let messages = catalog.waiting_messages().await?;
    for channel in Channel::ALL {
        let waiting = messages.get(channel.as_str()).copied().unwrap_or_default();
        text.put(&registry::NOTIFICATIONS_WAITING, &[channel.as_str()], waiting as f64);
    }
    text.put(&registry::PRUNE_FROZEN, &[], f64::from(frozen));
    if let Some(at) = prune::last(app).await? {
        text.put(&registry::PRUNE_LAST_SUCCESS, &[], unix_seconds(at));
    }
    given::settings(&mut text, config);
    given::system(&mut text, config, space);
    counters(&mut text, metrics).map_err(|error| Problem::internal(format!("metrics can't be written: {error}")))?;
    Ok(text.finish())
}

fn sources(text: &mut MetricsText, sources: &SourceCounters, config: &Config) {
    let schedule = &config.schedule;
    let kinds = stackferry_config::KindKey::ALL.into_iter().map(|kind| schedule.of(kind).every.duration());
    let every = kinds.fold(schedule.every.duration(), std::time::Duration::min);
    text.put(&registry::DISCOVERY_INTERVAL, &[], every.as_secs_f64());
    for (label, counts) in sources.datastores(config) {
        text.put(&registry::DISCOVERY_UP, &[&label], f64::from(counts.up));
        text.put(&registry::DISCOVERY_ROUNDS, &[&label], counts.rounds as f64);
        text.put(&registry::DISCOVERY_FAILURES, &[&label], counts.failures as f64);
    }
    for (product, name, counts) in sources.systems(config) {
        let labels = [product, name.as_str()];
        text.put(&registry::SYSTEM_UP, &labels, f64::from(counts.up));
        text.put(&registry::SYSTEM_ROUNDS, &labels, counts.rounds as f64);
        text.put(&registry::SYSTEM_FAILURES, &labels, counts.failures as f64);
        if let Some(at) = counts.last {
            text.put(&registry::SYSTEM_LAST_SUCCESS, &labels, unix_seconds(at));
        }
    }
}

fn counters(text: &mut MetricsText, metrics: &ProcessCounters) -> Result<(), prometheus::Error> {
    for family in metrics.gather() {
        let mut encoded = Vec::new();
        let name = family.name().to_owned();
        TextEncoder::new().encode(&[family], &mut encoded)?;
        text.add(&name, &String::from_utf8_lossy(&encoded));
    }
    Ok(())
}
