//! Leases: who may work on what, for 30 seconds at a time.
//!
//! A lease is a row with a fencing number that grows by one each time the lease is given to someone. Whoever holds it
//! renews it every 10 seconds, and asks [`Catalog::check_fence`] before the step that makes its work visible: one that
//! lost its lease without noticing (a stopped machine, a jumping clock) then knows. A lease's row is never deleted,
//! so that a number is never given twice.
//!
//! A lease is free when it was released, when it has expired, and at once when its holder is a process of this boot
//! that is dead. One whose holder is of another boot and that seems to live longer than a lease can was written under
//! a clock that has since been set back: it is free as well.

mod guard;

use jiff::{SignedDuration, Timestamp};

use crate::convert::{Operation, Row, stamp};
use crate::error::{CatalogError, LeaseBusy};
use crate::pool::Catalog;
use crate::process::{Liveness, Process};
use crate::session::DbSession;

pub use guard::LeaseGuard;

/// How long a lease lasts without being renewed.
pub const LEASE_LIFE: std::time::Duration = std::time::Duration::from_secs(30);
/// How often a lease is renewed.
pub const RENEW_EVERY: std::time::Duration = std::time::Duration::from_secs(10);

const LIFE: SignedDuration = SignedDuration::from_secs(30);

/// A lease that was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// What it is on.
    pub name: String,
    /// Its fencing number, from 1: a later holder's is larger.
    pub fence: u64,
    /// When it ends, unless it is renewed.
    pub expires: Timestamp,
}

/// A lease as it is in the catalog, held now or once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseInfo {
    /// What it is on.
    pub name: String,
    /// The fencing number of its last holder.
    pub fence: u64,
    /// What its last holder said that it is.
    pub holder: String,
    /// Its last holder's process.
    pub process: Process,
    /// Since when that holder has it.
    pub since: Timestamp,
    /// When it ends or ended.
    pub expires: Timestamp,
    /// Whether it was given back.
    pub released: bool,
}

impl LeaseInfo {
    /// Whether somebody else may take it at `now`, as seen by the process `here`.
    fn is_free(&self, here: &Process, now: Timestamp) -> bool {
        if self.released || now >= self.expires {
            return true;
        }
        match self.process.liveness(here) {
            Liveness::Dead => true,
            Liveness::OtherBoot => self.expires.duration_since(now) > LIFE,
            Liveness::Alive | Liveness::Unseen => false,
        }
    }
}

impl Catalog {
    /// Acquires a lease for this process, for 30 s. `holder` says to people what holds it (`service`, `copy`). One
    /// durable transaction.
    ///
    /// # Errors
    /// `LeaseBusy` while another holds it, `Process`, or `Database`.
    pub async fn acquire_lease(&self, name: &str, holder: &str) -> Result<Lease, CatalogError> {
        self.acquire_lease_as(name, holder, &Process::current()?).await
    }

    /// Acquires a lease for a process, which may be another than this.
    ///
    /// # Errors
    /// As [`Catalog::acquire_lease`].
    pub async fn acquire_lease_as(&self, name: &str, holder: &str, process: &Process) -> Result<Lease, CatalogError> {
        let here = Process::current()?;
        let mut tx = self.write("acquiring a lease", name).await?;
        let now = self.clock().now();
        let fence = match find(&mut tx, name).await? {
            None => 1,
            Some(lease) if lease.is_free(&here, now) => lease.fence.saturating_add(1),
            Some(lease) => {
                return Err(CatalogError::LeaseBusy(LeaseBusy {
                    name: lease.name,
                    holder: lease.holder,
                    host: lease.process.host,
                    pid: lease.process.pid,
                    since: lease.since,
                    expires: lease.expires,
                }));
            }
        };
        let expires = after(&tx, now)?;
        let statement = sqlx::query(
            "INSERT INTO leases (name, fence, holder, process, since, expires, released) \
             VALUES ($1, $2, $3, $4, $5, $6, FALSE) \
             ON CONFLICT (name) DO UPDATE SET fence = excluded.fence, holder = excluded.holder, \
               process = excluded.process, since = excluded.since, expires = excluded.expires, released = FALSE",
        )
        .bind(name)
        .bind(tx.number("fence", fence)?)
        .bind(holder)
        .bind(tx.json("process", process)?)
        .bind(stamp(now))
        .bind(stamp(expires));
        tx.execute(statement).await?;
        tx.commit().await?;
        Ok(Lease { name: name.to_owned(), fence, expires })
    }

    /// Makes a lease last 30 s from now. False if it was given to another, or released: then it is lost for ever. One
    /// that had expired and was not acquired by anybody else stays valid: nobody else can have worked under it. One durable
    /// transaction.
    ///
    /// # Errors
    /// `Database`; the lease is then as it was.
    pub async fn renew_lease(&self, lease: &mut Lease) -> Result<bool, CatalogError> {
        let mut tx = self.write("renewing a lease", &lease.name).await?;
        let expires = after(&tx, self.clock().now())?;
        let statement = sqlx::query("UPDATE leases SET expires = $3 WHERE name = $1 AND fence = $2 AND NOT released")
            .bind(&lease.name)
            .bind(tx.number("fence", lease.fence)?)
            .bind(stamp(expires));
        let done = tx.execute(statement).await?;
        tx.commit().await?;
        let held = done == 1;
        if held {
            lease.expires = expires;
        }
        Ok(held)
    }

    /// Releases a lease. False if it was no longer held. One durable transaction.
    ///
    /// # Errors
    /// `Database`.
    pub async fn release_lease(&self, lease: &Lease) -> Result<bool, CatalogError> {
        let mut tx = self.write("releasing a lease", &lease.name).await?;
        let statement =
            sqlx::query("UPDATE leases SET released = TRUE WHERE name = $1 AND fence = $2 AND NOT released")
                .bind(&lease.name)
                .bind(tx.number("fence", lease.fence)?);
        let done = tx.execute(statement).await?;
        tx.commit().await?;
        Ok(done == 1)
    }

    /// Whether this lease is still the current one of its name, and has not expired. To be asked right before the step
    /// that makes work visible.
    ///
    /// # Errors
    /// `Row`, or `Database`: then the answer must be taken as no.
    pub async fn check_fence(&self, lease: &Lease) -> Result<bool, CatalogError> {
        let mut session = self.session("checking a lease", &lease.name).await?;
        let found = find(&mut session, &lease.name).await?;
        let now = self.clock().now();
        Ok(found.is_some_and(|found| found.fence == lease.fence && !found.released && now < found.expires))
    }

    /// Who holds this lease now; none if somebody who asks for it would get it.
    ///
    /// # Errors
    /// `Process`, `Row`, or `Database`.
    pub async fn lease_holder(&self, name: &str) -> Result<Option<LeaseInfo>, CatalogError> {
        let here = Process::current()?;
        let mut session = self.session("reading who holds a lease", name).await?;
        let found = find(&mut session, name).await?;
        let now = self.clock().now();
        Ok(found.filter(|lease| !lease.is_free(&here, now)))
    }

    /// Every lease that was ever taken, by name.
    ///
    /// # Errors
    /// `Row`, or `Database`.
    pub async fn leases(&self) -> Result<Vec<LeaseInfo>, CatalogError> {
        let mut session = self.session("reading the leases", "the catalog").await?;
        session.all(sqlx::query("SELECT * FROM leases ORDER BY name"), info).await
    }
}

fn after(operation: &Operation, now: Timestamp) -> Result<Timestamp, CatalogError> {
    now.checked_add(LIFE).map_err(|error| operation.bad("expires", error))
}

async fn find(tx: &mut DbSession, name: &str) -> Result<Option<LeaseInfo>, CatalogError> {
    tx.optional(sqlx::query("SELECT * FROM leases WHERE name = $1").bind(name), info).await
}

fn info(row: &Row<'_>) -> Result<LeaseInfo, CatalogError> {
    Ok(LeaseInfo {
        name: row.text("name")?,
        fence: row.count("fence")?,
        holder: row.text("holder")?,
        process: row.json("process")?,
        since: row.time("since")?,
        expires: row.time("expires")?,
        released: row.flag("released")?,
    })
}
