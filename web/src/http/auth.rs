//! Who calls, and what they may do: a bearer of a token, or somebody on this machine whom the kernel vouches for.
//!
//! A token is looked up by its public id; its secret is compared by digest, in constant time. What is refused is audited,
//! but not more often than every few seconds: a stranger must not be able to fill the disk with records.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::http::{HeaderMap, header};
use serde_json::json;
use stackferry_catalog::{AuditAction, Catalog, Role, TokenRow};

use crate::tokens::Shown;
use stackferry_engine::audit;
use stackferry_problem::{Code, Problem};

/// How often the use of one token is written down.
const NOTE_EVERY: Duration = Duration::from_secs(60);
/// How often a refusal is audited; those between are counted.
const AUDIT_EVERY: Duration = Duration::from_secs(10);

/// The most characters of what was asked for that a record of a refusal keeps.
const MOST_SUBJECT: usize = 200;

/// The other end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    /// A client over TCP.
    Tcp {
        /// Its address.
        from: SocketAddr,
        /// Whether the connection is encrypted.
        tls: bool,
    },
    /// A process on this machine, by the socket.
    Local {
        /// Its user, as the kernel says.
        uid: Option<u32>,
    },
}

impl Peer {
    /// Where a caller is, for the audit.
    pub(crate) fn place(self) -> String {
        match self {
            Peer::Tcp { from, .. } => from.ip().to_string(),
            Peer::Local { uid: Some(uid) } => format!("socket, user {uid}"),
            Peer::Local { uid: None } => "socket".to_owned(),
        }
    }
}

/// Somebody who may do something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// The name in the audit: `token NAME`, `root`, `user 991`.
    pub name: String,
    /// The role.
    pub role: Role,
    /// The public id of the token; none for one whom the kernel vouches for.
    pub token: Option<String>,
}

impl Caller {
    /// That the role is at least this.
    ///
    /// # Errors
    /// `forbidden`.
    pub fn may(&self, least: Role) -> Result<(), Problem> {
        if self.role.covers(least) {
            return Ok(());
        }
        Err(Problem::new(
            Code::Forbidden,
            format!("this needs the role {least}; {} has the role {}", self.name, self.role),
        )
        .subject(&self.name)
        .hint(format!("ask an administrator for a token with the role {least}")))
    }
}

impl From<TokenRow> for Caller {
    fn from(row: TokenRow) -> Self {
        Self { name: row.actor(), role: row.role, token: Some(row.id) }
    }
}

/// Knows callers.
pub(crate) struct Auth {
    catalog: Catalog,
    own: u32,
    noted: Mutex<HashMap<String, Instant>>,
    /// By the token that was shown; all strangers are one. So nobody's refusals hide another's.
    refused: Mutex<HashMap<Option<String>, Refused>>,
}

#[derive(Default)]
struct Refused {
    told: Option<Instant>,
    since: u64,
}

impl Auth {
    pub(super) fn new(catalog: Catalog) -> Self {
        let own = rustix::process::geteuid().as_raw();
        Self { catalog, own, noted: Mutex::default(), refused: Mutex::default() }
    }

    /// Who makes a request. A token goes before what the kernel says, so that root can try what a token may do.
    ///
    /// # Errors
    /// `unauthorized`; the catalog's.
    pub(crate) async fn caller(&self, peer: Peer, headers: &HeaderMap) -> Result<Caller, Problem> {
        if let Some(value) = headers.get(header::AUTHORIZATION) {
            let token = value.to_str().ok().and_then(bearer).ok_or_else(unauthorized)?;
            return self.bearer(token).await?.ok_or_else(unauthorized);
        }
        match peer {
            Peer::Local { uid: Some(0) } => Ok(Caller { name: "root".to_owned(), role: Role::Admin, token: None }),
            Peer::Local { uid: Some(uid) } if uid == self.own => {
                Ok(Caller { name: format!("user {uid}"), role: Role::Admin, token: None })
            }
            _ => Err(unauthorized()),
        }
    }

    /// Who bears this token; none if nobody does, or no longer.
    ///
    /// # Errors
    /// The catalog's.
    pub(crate) async fn bearer(&self, token: &str) -> Result<Option<Caller>, Problem> {
        let Some(shown) = Shown::read(token) else { return Ok(None) };
        let Some(row) = self.catalog.token(&shown.id).await? else { return Ok(None) };
        if !shown.has(&row.digest) || row.revoked.is_some() {
            return Ok(None);
        }
        self.note(&row.id).await;
        Ok(Some(row.into()))
    }

    /// The bearer of a token that was shown before; none if it was taken back since.
    ///
    /// # Errors
    /// The catalog's.
    pub(crate) async fn again(&self, id: &str) -> Result<Option<Caller>, Problem> {
        let row = self.catalog.token(id).await?.filter(|row| row.revoked.is_none());
        if row.is_some() {
            self.note(id).await;
        }
        Ok(row.map(Into::into))
    }

    /// A use that can't be written down is no reason to refuse it.
    async fn note(&self, id: &str) {
        {
            let mut noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
            if noted.get(id).is_some_and(|at| at.elapsed() < NOTE_EVERY) {
                return;
            }
            noted.insert(id.to_owned(), Instant::now());
        }
        if let Err(error) = self.catalog.token_used(id).await {
            tracing::warn!(error = %stackferry_transfer::describe(&error), "the use of a token could not be noted");
        }
    }

    /// Writes down that somebody was refused.
    pub(crate) async fn refused(&self, peer: Peer, who: Option<&Caller>, what: &str) {
        let before = {
            let mut all = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
            let refused = all.entry(who.and_then(|who| who.token.clone())).or_default();
            if refused.told.is_some_and(|at| at.elapsed() < AUDIT_EVERY) {
                refused.since = refused.since.saturating_add(1);
                return;
            }
            refused.told = Some(Instant::now());
            std::mem::take(&mut refused.since)
        };
        let actor = who.map_or_else(|| peer.place(), |who| who.name.clone());
        let detail = json!({ "from": peer.place(), "others_not_told": before });
        // A stranger chooses what they ask for, and no record is ever deleted.
        let what: String = what.chars().take(MOST_SUBJECT).collect();
        audit::record(&self.catalog, AuditAction::AccessDenied, &actor, &what, &detail).await;
    }
}

/// The token of an `Authorization` header; the scheme's case does not matter (RFC 9110, 11.1).
fn bearer(value: &str) -> Option<&str> {
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

fn unauthorized() -> Problem {
    Problem::new(Code::Unauthorized, "no token that is in use was shown")
        .hint("send `Authorization: Bearer TOKEN`; an administrator makes one with `stackferry token create`")
}
