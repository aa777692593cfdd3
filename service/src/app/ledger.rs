//! Where route `esxi` writes down what it changes at hosts: in the catalog, before it is changed.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::ThreadId;

use serde_json::json;
use stackferry_catalog::{Catalog, Debt, DebtId, DebtKind};
use stackferry_transfer::TransferError;
use stackferry_transfer::esxi::{Ledger, Owed};
use tokio::runtime::Handle;

/// The debts of this process that are being worked on: the janitor leaves them alone. Those that the route made are over
/// with the copy on whose thread they were made.
#[derive(Default)]
pub(crate) struct Running(Mutex<HashMap<DebtId, Option<ThreadId>>>);

impl Running {
    /// A debt is being worked on, until it is said to have ended.
    pub(crate) fn begun(&self, id: DebtId) {
        self.lock().insert(id, None);
    }

    /// A debt is being worked on by the file copy on this thread.
    fn begun_here(&self, id: DebtId) {
        self.lock().insert(id, Some(std::thread::current().id()));
    }

    /// Nobody works on a debt any more.
    pub(crate) fn ended(&self, id: DebtId) {
        self.lock().remove(&id);
    }

    /// This thread's file copy is over: what it left is the janitor's.
    pub(crate) fn copy_is_over(&self) {
        let thread = std::thread::current().id();
        self.lock().retain(|_, own| *own != Some(thread));
    }

    /// Whether a copy works on it.
    pub(crate) fn has(&self, id: DebtId) -> bool {
        self.lock().contains_key(&id)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<DebtId, Option<ThreadId>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The catalog as the route's ledger.
pub(super) struct CatalogLedger {
    pub(super) catalog: Catalog,
    pub(super) runtime: Handle,
    pub(super) running: Arc<Running>,
}

impl Ledger for CatalogLedger {
    fn owe(&self, owed: &Owed) -> Result<u64, TransferError> {
        let debt = debt(owed);
        let id = self.runtime.block_on(self.catalog.owe(&debt)).map_err(|error| TransferError::Write {
            file: format!("the record of what is changed at {}", debt.subject),
            source: std::io::Error::other(error),
        })?;
        self.running.begun_here(id);
        Ok(id.number())
    }

    fn settle(&self, number: u64) {
        let Some(id) = DebtId::from_number(number) else { return };
        self.running.ended(id);
        if let Err(error) = self.runtime.block_on(self.catalog.settle(id)) {
            tracing::error!(error = %stackferry_transfer::describe(&error), "what was put back could not be recorded");
        }
    }
}

fn debt(owed: &Owed) -> Debt {
    match owed {
        Owed::Account { system, host_id, host_name, name } => Debt {
            what: DebtKind::Account,
            system: system.clone(),
            subject: format!("{host_name} {name}"),
            detail: json!({ "host_id": host_id, "host_name": host_name, "name": name }),
        },
        Owed::SshService { system, host_id, host_name } => Debt {
            what: DebtKind::SshService,
            system: system.clone(),
            subject: host_name.clone(),
            detail: json!({ "host_id": host_id, "host_name": host_name }),
        },
    }
}

/// What the catalog holds of a debt at a host, as the route knows it; none if it names no host.
pub(super) fn owed(debt: &Debt) -> Option<Owed> {
    let text = |key: &str| debt.detail.get(key).and_then(serde_json::Value::as_str).map(str::to_owned);
    let (system, host_id, host_name) = (debt.system.clone(), text("host_id")?, text("host_name")?);
    match debt.what {
        DebtKind::Account => Some(Owed::Account { system, host_id, host_name, name: text("name")? }),
        DebtKind::SshService => Some(Owed::SshService { system, host_id, host_name }),
        _ => None,
    }
}
