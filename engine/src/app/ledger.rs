//! Where route `esxi` writes down what it changes at hosts: in the catalog, before it is changed.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::ThreadId;

use serde_json::json;
use stackferry_catalog::{Catalog, CatalogError, Cleanup, CleanupId, CleanupKind, PendingCleanup};
use stackferry_transfer::TransferError;
use stackferry_transfer::esxi::{CleanupLedger, HostCleanup};
use tokio::runtime::Handle;
use tokio::sync::RwLock;

/// The debts of this process that are being worked on: the janitor leaves them alone. Those that the route made are over
/// with the copy on whose thread they were made.
#[derive(Default)]
pub(crate) struct Running {
    debts: Mutex<HashMap<CleanupId, Option<ThreadId>>>,
    /// Read while a debt is written and taken in here, so that who looks at all of them never meets one that is not.
    writing: RwLock<()>,
}

impl Running {
    /// Writes a debt that is worked on until it is said to have ended.
    ///
    /// # Errors
    /// The catalog's: then the change must not be made.
    pub(crate) async fn owe(&self, catalog: &Catalog, debt: &Cleanup) -> Result<CleanupId, CatalogError> {
        self.owe_on(catalog, debt, None).await
    }

    async fn owe_on(
        &self,
        catalog: &Catalog,
        debt: &Cleanup,
        thread: Option<ThreadId>,
    ) -> Result<CleanupId, CatalogError> {
        let _writing = self.writing.read().await;
        let id = catalog.add_cleanup(debt).await?;
        self.lock().insert(id, thread);
        Ok(id)
    }

    /// All debts, of any process, and those of them that this one works on.
    ///
    /// # Errors
    /// The catalog's.
    pub(crate) async fn owed(
        &self,
        catalog: &Catalog,
    ) -> Result<(Vec<PendingCleanup>, HashSet<CleanupId>), CatalogError> {
        let _nobody_writes = self.writing.write().await;
        // First: what is settled after this is one that was worked on.
        let at_work = self.lock().keys().copied().collect();
        Ok((catalog.pending_cleanups().await?, at_work))
    }

    /// Nobody works on a debt any more.
    pub(crate) fn ended(&self, id: CleanupId) {
        self.lock().remove(&id);
    }

    /// This thread's file copy is over: what it left is the janitor's.
    pub(crate) fn copy_is_over(&self) {
        let thread = std::thread::current().id();
        self.lock().retain(|_, own| *own != Some(thread));
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<CleanupId, Option<ThreadId>>> {
        self.debts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The catalog as the route's ledger.
pub(super) struct CatalogLedger {
    pub(super) catalog: Catalog,
    pub(super) runtime: Handle,
    pub(super) running: Arc<Running>,
}

impl CleanupLedger for CatalogLedger {
    fn record(&self, cleanup: &HostCleanup) -> Result<u64, TransferError> {
        let debt = debt(cleanup);
        let here = std::thread::current().id();
        let owing = self.running.owe_on(&self.catalog, &debt, Some(here));
        let id = self.runtime.block_on(owing).map_err(|error| TransferError::Write {
            file: format!("the record of what is changed at {}", debt.subject),
            source: std::io::Error::other(error),
        })?;
        Ok(id.number())
    }

    fn resolve(&self, number: u64) {
        let Some(id) = CleanupId::from_number(number) else { return };
        if let Err(error) = self.runtime.block_on(self.catalog.end_cleanup(id)) {
            tracing::error!(error = %stackferry_transfer::describe(&error), "what was put back could not be recorded");
        }
        // Not before: the janitor would put it back once more, under who needs it next.
        self.running.ended(id);
    }
}

fn debt(cleanup: &HostCleanup) -> Cleanup {
    match cleanup {
        HostCleanup::Account { system, host_id, host_name, name } => Cleanup {
            what: CleanupKind::Account,
            system: system.clone(),
            subject: format!("{host_name} {name}"),
            detail: json!({ "host_id": host_id, "host_name": host_name, "name": name }),
        },
        HostCleanup::SshService { system, host_id, host_name } => Cleanup {
            what: CleanupKind::SshService,
            system: system.clone(),
            subject: host_name.clone(),
            detail: json!({ "host_id": host_id, "host_name": host_name }),
        },
    }
}

/// What the catalog holds of a debt at a host, as the route knows it; none if it names no host.
pub(super) fn owed(debt: &Cleanup) -> Option<HostCleanup> {
    let text = |key: &str| debt.detail.get(key).and_then(serde_json::Value::as_str).map(str::to_owned);
    let (system, host_id, host_name) = (debt.system.clone(), text("host_id")?, text("host_name")?);
    match debt.what {
        CleanupKind::Account => Some(HostCleanup::Account { system, host_id, host_name, name: text("name")? }),
        CleanupKind::SshService => Some(HostCleanup::SshService { system, host_id, host_name }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(host: usize) -> HostCleanup {
        HostCleanup::SshService {
            system: "vc1".to_owned(),
            host_id: format!("host-{host}"),
            host_name: "esx".to_owned(),
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn nobody_meets_a_debt_that_is_worked_on_and_not_known_to_be() {
        let dir = tempfile::tempdir().unwrap();
        let catalog = Catalog::open(&dir.path().join("catalog.db")).await.unwrap();
        let running = Arc::new(Running::default());
        let ledger =
            CatalogLedger { catalog: catalog.clone(), runtime: Handle::current(), running: Arc::clone(&running) };
        let copying = std::thread::spawn(move || {
            for host in 0..40 {
                let number = ledger.record(&service(host)).unwrap();
                if host % 2 == 0 {
                    ledger.resolve(number);
                }
            }
            ledger.running.copy_is_over();
        });
        let mut looks = 0;
        while !copying.is_finished() || looks == 0 {
            let (rows, at_work) = running.owed(&catalog).await.unwrap();
            // The last look may come when the copy is over.
            let all = rows.iter().all(|row| row.is_own && at_work.contains(&row.id));
            assert!(all || at_work.is_empty(), "{rows:?} {at_work:?}");
            looks += 1;
        }
        copying.join().unwrap();
        let (rows, at_work) = running.owed(&catalog).await.unwrap();
        assert_eq!((rows.len(), at_work.len()), (20, 0), "what was left is the janitor's");
        let id = running.owe(&catalog, &debt(&service(99))).await.unwrap();
        assert!(running.owed(&catalog).await.unwrap().1.contains(&id));
        running.ended(id);
        assert!(running.owed(&catalog).await.unwrap().1.is_empty());
    }
}
