//! A lease that renews itself while it is held, and says when it was lost.

use std::time::Duration;

use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::{LEASE_LIFE, Lease, RENEW_EVERY};
use crate::error::CatalogError;
use crate::pool::Catalog;

/// After a renewal that failed, the next try comes this much sooner than usual.
const HURRY: u32 = 5;
/// How often a lease that another holds is tried again.
const RETRY_INTERVAL: Duration = Duration::from_millis(500);

/// A lease that a task renews every 10 s. Dropped, that task releases it a little later; where the program
/// ends before that, the lease is free because its process is dead.
#[derive(Debug)]
pub struct LeaseGuard {
    lease: Lease,
    catalog: Catalog,
    lost: watch::Receiver<bool>,
    // Dropped, the task ends.
    stop: Option<oneshot::Sender<()>>,
    task: Option<JoinHandle<Result<bool, CatalogError>>>,
}

impl Catalog {
    /// Acquires a lease, waiting up to `wait` for another to release it, and keeps it.
    ///
    /// # Errors
    /// As [`Catalog::acquire_lease`].
    pub async fn hold_lease(&self, name: &str, holder: &str, wait: Duration) -> Result<LeaseGuard, CatalogError> {
        let deadline = Instant::now() + wait;
        loop {
            // The lease's duration counts from before the catalog was asked: it may end earlier for us than for others.
            let asked = Instant::now();
            match self.acquire_lease(name, holder).await {
                Ok(lease) => return Ok(LeaseGuard::start(self.clone(), lease, asked, RENEW_EVERY)),
                Err(CatalogError::LeaseBusy(busy)) if Instant::now() >= deadline => return Err(busy.into()),
                Err(CatalogError::LeaseBusy(_)) => {
                    tokio::time::sleep_until(deadline.min(Instant::now() + RETRY_INTERVAL)).await;
                }
                Err(error) => return Err(error),
            }
        }
    }
}

impl LeaseGuard {
    fn start(catalog: Catalog, lease: Lease, taken: Instant, every: Duration) -> Self {
        let (stop, stopped) = oneshot::channel();
        let (signal, lost) = watch::channel(false);
        let task = tokio::spawn(keep(catalog.clone(), lease.clone(), taken, every, stopped, signal));
        Self { lease, catalog, lost, stop: Some(stop), task: Some(task) }
    }

    /// The lease's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.lease.name
    }

    /// The lease's fencing number.
    #[must_use]
    pub fn fence(&self) -> u64 {
        self.lease.fence
    }

    /// Whether the lease is known to be lost. To be sure that it isn't, ask [`LeaseGuard::check`].
    #[must_use]
    pub fn is_lost(&self) -> bool {
        *self.lost.borrow()
    }

    /// Turns true, once, when the lease is lost: another has it, or it could not be renewed in time.
    #[must_use]
    pub fn lost(&self) -> watch::Receiver<bool> {
        self.lost.clone()
    }

    /// Whether the lease is still held: the fence's check before a commit. See [`Catalog::check_fence`].
    ///
    /// # Errors
    /// As there.
    pub async fn check(&self) -> Result<bool, CatalogError> {
        Ok(!self.is_lost() && self.catalog.check_fence(&self.lease).await?)
    }

    /// Releases the lease, and waits until that is on disk. False if it was no longer held.
    ///
    /// # Errors
    /// `Database`; the lease then expires by itself.
    pub async fn release(mut self) -> Result<bool, CatalogError> {
        drop(self.stop.take());
        match self.task.take() {
            Some(task) => match task.await {
                Ok(released) => released,
                // The task was ended with its runtime, or panicked: it is done here.
                Err(_) => self.catalog.release_lease(&self.lease).await,
            },
            None => Ok(false),
        }
    }
}

/// Renews the lease until it is stopped, then releases it; ends when the lease is lost.
async fn keep(
    catalog: Catalog,
    mut lease: Lease,
    taken: Instant,
    every: Duration,
    mut stopped: oneshot::Receiver<()>,
    lost: watch::Sender<bool>,
) -> Result<bool, CatalogError> {
    let mut ends = taken + LEASE_LIFE;
    let mut next = taken + every;
    loop {
        tokio::select! {
            _ = &mut stopped => return catalog.release_lease(&lease).await,
            () = tokio::time::sleep_until(next) => {}
        }
        let asked = Instant::now();
        let why = match tokio::time::timeout_at(ends, catalog.renew_lease(&mut lease)).await {
            Ok(Ok(true)) => {
                ends = asked + LEASE_LIFE;
                next = asked + every;
                continue;
            }
            Ok(Err(error)) if Instant::now() < ends => {
                tracing::warn!(lease = lease.name, error = &error as &dyn std::error::Error, "a lease was not renewed");
                next = Instant::now() + every / HURRY;
                continue;
            }
            Ok(Ok(false)) => "another process has taken it",
            Ok(Err(_)) | Err(_) => "it could not be renewed in time",
        };
        tracing::error!(lease = lease.name, fence = lease.fence, "a lease was lost: {why}");
        lost.send_replace(true);
        return Ok(false);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicI64, Ordering};

    use jiff::{SignedDuration, Timestamp};

    use super::*;
    use crate::{Clock, Process};

    const SOON: Duration = Duration::from_secs(20);

    struct Bench {
        _dir: tempfile::TempDir,
        catalog: Catalog,
        seconds: Arc<AtomicI64>,
    }

    async fn bench() -> Bench {
        let dir = tempfile::tempdir().unwrap();
        let seconds = Arc::new(AtomicI64::new(1_800_000_000));
        let clock_seconds = seconds.clone();
        let clock = Clock::from_fn(move || Timestamp::from_second(clock_seconds.load(Ordering::SeqCst)).unwrap());
        let catalog = Catalog::open_with(&dir.path().join("catalog.sqlite"), clock).await.unwrap();
        Bench { _dir: dir, catalog, seconds }
    }

    async fn guard(bench: &Bench) -> LeaseGuard {
        let lease = bench.catalog.acquire_lease("v", "copy").await.unwrap();
        LeaseGuard::start(bench.catalog.clone(), lease, Instant::now(), Duration::from_millis(10))
    }

    async fn until<F: Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> F) {
        let deadline = Instant::now() + SOON;
        while !holds().await {
            assert!(Instant::now() < deadline, "{what}");
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn it_renews_and_gives_back() {
        let bench = bench().await;
        let guard = guard(&bench).await;
        bench.seconds.fetch_add(20, Ordering::SeqCst);
        let due = bench.catalog.clock().now() + SignedDuration::from_secs(30);
        until("the lease is renewed", async || bench.catalog.leases().await.unwrap()[0].expires == due).await;
        assert!(guard.check().await.unwrap());
        assert!(guard.release().await.unwrap());
        assert!(bench.catalog.leases().await.unwrap()[0].released);
    }

    #[tokio::test]
    async fn dropped_it_gives_back_too() {
        let bench = bench().await;
        drop(guard(&bench).await);
        until("the lease is given back", async || bench.catalog.leases().await.unwrap()[0].released).await;
    }

    #[tokio::test]
    async fn it_says_when_another_took_the_lease() {
        let bench = bench().await;
        let lease = bench.catalog.acquire_lease("v", "copy").await.unwrap();
        let first = LeaseGuard::start(bench.catalog.clone(), lease.clone(), Instant::now(), Duration::from_millis(10));
        // Another machine meets an expired lease: this one's renewals stood still meanwhile.
        let other = Process { host: "other".into(), boot_id: "other".into(), ..Process::current().unwrap() };
        until("the other gets it", async || {
            bench.seconds.fetch_add(31, Ordering::SeqCst);
            bench.catalog.acquire_lease_as("v", "copy", &other).await.is_ok()
        })
        .await;
        let mut lost = first.lost();
        tokio::time::timeout(SOON, lost.wait_for(|lost| *lost)).await.unwrap().unwrap();
        assert!(first.is_lost());
        assert!(!first.check().await.unwrap());
        assert!(!first.release().await.unwrap(), "the other's lease is not touched");
        let [row] = &bench.catalog.leases().await.unwrap()[..] else { panic!() };
        assert_eq!((row.fence, row.released), (lease.fence + 1, false));
    }

    #[tokio::test]
    async fn it_says_when_it_could_not_be_renewed_in_time() {
        let bench = bench().await;
        let lease = bench.catalog.acquire_lease("v", "copy").await.unwrap();
        bench.catalog.clone().close().await;
        let taken = Instant::now().checked_sub(LEASE_LIFE - Duration::from_millis(100)).unwrap();
        let guard = LeaseGuard::start(bench.catalog.clone(), lease, taken, Duration::from_millis(10));
        let mut lost = guard.lost();
        tokio::time::timeout(SOON, lost.wait_for(|lost| *lost)).await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn a_held_lease_is_waited_for() {
        let bench = bench().await;
        let first = guard(&bench).await;
        let error = bench.catalog.hold_lease("v", "copy", Duration::ZERO).await.unwrap_err();
        assert!(error.is_busy());
        let catalog = bench.catalog.clone();
        let second = tokio::spawn(async move { catalog.hold_lease("v", "copy", SOON).await });
        first.release().await.unwrap();
        let second = second.await.unwrap().unwrap();
        assert_eq!(second.fence(), 2);
    }
}
