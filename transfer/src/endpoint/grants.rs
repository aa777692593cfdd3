//! Grants: the right to read one file, or to write a new one, and its credential.
//!
//! A successful login uses a credential up: whatever happens to the connection, it never logs in again. Expiry uses the
//! monotonic clock, so that setting the clock neither ends nor prolongs a grant.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use crate::credential::{OneTimeCredential, SecretHash};

/// The most grants waiting for their login; beyond it the service has to wait.
pub(crate) const MAX_GRANTS: usize = 4096;

/// The file of a grant. A grant is bound to the file itself, not to its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct GrantTarget {
    pub(crate) datastore: String,
    pub(crate) path: String,
    /// Device and inode; none for a new file.
    pub(crate) identity: Option<(u64, u64)>,
}

impl GrantTarget {
    /// The file's path in SFTP and SCP.
    pub(crate) fn shown_path(&self) -> String {
        format!("/{}/{}", self.datastore, self.path)
    }
}

struct Grant {
    secret: SecretHash,
    target: GrantTarget,
    issuer: String,
    expires: Instant,
    used: bool,
    /// True once the connection has to end.
    ended: watch::Sender<bool>,
}

/// A logged-in credential.
#[derive(Debug, Clone)]
pub(crate) struct Granted {
    pub(crate) user: String,
    pub(crate) target: GrantTarget,
    pub(crate) ended: watch::Receiver<bool>,
}

/// All grants of an endpoint.
#[derive(Default)]
pub(crate) struct Grants(Mutex<HashMap<String, Grant>>);

/// Too many grants are waiting for their login.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TooMany;

impl Grants {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Grant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Issues a credential for a file.
    pub(crate) fn issue(
        &self,
        target: GrantTarget,
        issuer: &str,
        life: Duration,
    ) -> Result<OneTimeCredential, TooMany> {
        self.issue_at(target, issuer, life, Instant::now())
    }

    fn issue_at(
        &self,
        target: GrantTarget,
        issuer: &str,
        life: Duration,
        now: Instant,
    ) -> Result<OneTimeCredential, TooMany> {
        let mut grants = self.lock();
        grants.retain(|user, grant| {
            let expired = !grant.used && grant.expires <= now;
            if expired {
                tracing::info!(target: "audit", user, path = grant.target.shown_path(), "credential expired");
            }
            !expired
        });
        if grants.values().filter(|grant| !grant.used).count() >= MAX_GRANTS {
            return Err(TooMany);
        }
        let credential = OneTimeCredential::fresh();
        tracing::info!(target: "audit", user = credential.user, path = target.shown_path(), issuer, seconds = life.as_secs(), "credential issued");
        let grant = Grant {
            secret: SecretHash::of(&credential.secret),
            target,
            issuer: issuer.to_owned(),
            expires: now + life,
            used: false,
            ended: watch::Sender::new(false),
        };
        grants.insert(credential.user.clone(), grant);
        Ok(credential)
    }

    /// Uses a credential up. None where it is wrong, used, expired or revoked; the other side does not learn which.
    pub(crate) fn log_in(&self, user: &str, secret: &str) -> Option<Granted> {
        self.log_in_at(user, secret, Instant::now())
    }

    fn log_in_at(&self, user: &str, secret: &str, now: Instant) -> Option<Granted> {
        let mut grants = self.lock();
        let verdict = match grants.get_mut(user) {
            None => Err("unknown"),
            Some(grant) if !grant.secret.matches(secret) => Err("wrong"),
            Some(grant) if grant.used => Err("used"),
            Some(grant) if grant.expires <= now => Err("expired"),
            Some(grant) => {
                grant.used = true;
                Ok(Granted { user: user.to_owned(), target: grant.target.clone(), ended: grant.ended.subscribe() })
            }
        };
        match verdict {
            Ok(granted) => {
                tracing::info!(target: "audit", user, path = granted.target.shown_path(), "credential used");
                Some(granted)
            }
            Err(why) => {
                tracing::warn!(target: "audit", user = user.chars().take(64).collect::<String>(), why, "credential refused");
                None
            }
        }
    }

    /// Ends a credential of this issuer and the connection made with it. False where there is none.
    pub(crate) fn revoke(&self, user: &str, issuer: &str) -> bool {
        let mut grants = self.lock();
        match grants.get(user) {
            Some(grant) if grant.issuer == issuer => {
                tracing::info!(target: "audit", user, path = grant.target.shown_path(), "credential revoked");
                grant.ended.send_replace(true);
                grants.remove(user);
                true
            }
            _ => false,
        }
    }

    /// Removes a credential whose connection has ended.
    pub(crate) fn done(&self, user: &str) {
        self.lock().remove(user);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target() -> GrantTarget {
        GrantTarget { datastore: "nfs01".into(), path: "a/b.vmdk".into(), identity: Some((1, 2)) }
    }

    #[test]
    fn a_credential_logs_in_once() {
        let grants = Grants::default();
        let one = grants.issue(target(), "svc", Duration::from_secs(60)).unwrap();
        let two = grants.issue(target(), "svc", Duration::from_secs(60)).unwrap();
        assert!(grants.log_in(&one.user, two.secret.expose()).is_none());
        assert!(grants.log_in(&two.user, "").is_none());
        assert!(grants.log_in("root", one.secret.expose()).is_none());
        assert_eq!(grants.log_in(&one.user, one.secret.expose()).unwrap().target, target());
        assert!(grants.log_in(&one.user, one.secret.expose()).is_none());
        assert!(grants.log_in(&two.user, two.secret.expose()).is_some(), "wrong attempts do not use it up");
    }

    #[test]
    fn a_credential_expires_exactly_on_time() {
        let grants = Grants::default();
        let now = Instant::now();
        let life = Duration::from_secs(60);
        let one = grants.issue_at(target(), "svc", life, now).unwrap();
        assert!(grants.log_in_at(&one.user, one.secret.expose(), now + life).is_none());
        assert!(grants.log_in_at(&one.user, one.secret.expose(), now + life - Duration::from_nanos(1)).is_some());
    }

    #[test]
    fn only_its_issuer_revokes_a_credential_and_its_connection() {
        let grants = Grants::default();
        let one = grants.issue(target(), "svc", Duration::from_secs(60)).unwrap();
        let session = grants.log_in(&one.user, one.secret.expose()).unwrap();
        assert!(!grants.revoke(&one.user, "other"));
        assert!(!*session.ended.borrow());
        assert!(grants.revoke(&one.user, "svc"));
        assert!(*session.ended.borrow());
        let two = grants.issue(target(), "svc", Duration::from_secs(60)).unwrap();
        assert!(grants.revoke(&two.user, "svc"));
        assert!(grants.log_in(&two.user, two.secret.expose()).is_none());
    }

    #[test]
    fn grants_are_limited_and_expired_ones_free_their_place() {
        let grants = Grants::default();
        let now = Instant::now();
        for _ in 0..MAX_GRANTS {
            grants.issue_at(target(), "svc", Duration::from_secs(1), now).unwrap();
        }
        assert!(grants.issue_at(target(), "svc", Duration::from_secs(1), now).is_err());
        assert!(grants.issue_at(target(), "svc", Duration::from_secs(1), now + Duration::from_secs(2)).is_ok());
    }
}
