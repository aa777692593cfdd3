//! Requests to a manager, and the parsing of its responses.

use stackferry_https::Response;

use super::error::ManagerError;
use super::list::{self, ResponseFault};
use super::requests::ManagerRequest;
use super::session::{ManagerOperation, ManagerSession};
use super::value::Fields;

/// Asks, and reads what comes.
pub(super) struct ManagerApi<'a> {
    pub(super) session: &'a ManagerSession,
    pub(super) run: ManagerOperation,
}

impl ManagerApi<'_> {
    /// Gives each entry of a list to `give`. True if the list was read whole.
    pub(super) async fn list(
        &self,
        ask: ManagerRequest,
        keys: &[&str],
        mut give: impl FnMut(Fields<'_>),
    ) -> Result<bool, ManagerError> {
        let answer = self.session.get(&self.run, ask).await?;
        if let Some(fault) = list::unexpected_content(&answer) {
            return Err(self.fault(ask, fault));
        }
        let listed = list::each(answer.body(), keys, &mut |entry| give(Fields(&entry)));
        listed.map(|listed| !listed.cut && listed.odd == 0 && !listed.failed).map_err(|fault| self.fault(ask, fault))
    }

    /// One object: the one below one of the keys, else the whole answer if it has the field `sign`.
    pub(super) async fn object<T>(
        &self,
        ask: ManagerRequest,
        keys: &[&str],
        sign: &str,
        read: impl FnOnce(Fields<'_>) -> T,
    ) -> Result<T, ManagerError> {
        let answer = self.session.get(&self.run, ask).await?;
        self.read_one(ask, &answer, keys, sign, read)
    }

    /// As [`object`](Self::object), without a login.
    pub(super) async fn object_without_login<T>(
        &self,
        ask: ManagerRequest,
        keys: &[&str],
        sign: &str,
        read: impl FnOnce(Fields<'_>) -> T,
    ) -> Result<T, ManagerError> {
        let answer = self.session.get_without_login(&self.run, ask).await?;
        self.read_one(ask, &answer, keys, sign, read)
    }

    fn read_one<T>(
        &self,
        ask: ManagerRequest,
        answer: &Response,
        keys: &[&str],
        sign: &str,
        read: impl FnOnce(Fields<'_>) -> T,
    ) -> Result<T, ManagerError> {
        if let Some(fault) = list::unexpected_content(answer) {
            return Err(self.fault(ask, fault));
        }
        let object = list::one(answer.body(), keys, sign).map_err(|fault| self.fault(ask, fault))?;
        Ok(read(Fields(&object)))
    }

    fn fault(&self, ask: ManagerRequest, fault: ResponseFault) -> ManagerError {
        self.session.fault(ask.template(), fault)
    }
}
