//! Waiting for a task of the server.

use std::time::Duration;

use tokio::time::Instant;

use crate::error::VsphereError;
use crate::model::Moid;
use crate::properties;
use crate::session::Session;
use crate::xml::XmlNode;

/// The pause before the first poll; it doubles up to the maximum.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const MAX_PAUSE: Duration = Duration::from_secs(2);

/// Waits until a task has ended, and returns its result.
pub(crate) async fn wait(
    session: &Session,
    call: &'static str,
    task: &Moid,
    timeout: Duration,
) -> Result<XmlNode, VsphereError> {
    let context = session.context(call);
    let deadline = Instant::now() + timeout;
    let mut pause = FIRST_PAUSE;
    loop {
        let mut object = properties::of_object(session, task, &["info"]).await?;
        let mut info = object.take("info").ok_or_else(|| context.invalid_response("its task has no info"))?;
        match info.text_of("state") {
            Some("success") => {
                let result = info.children.iter_mut().find(|child| &*child.name == "result");
                return Ok(result.map(std::mem::take).unwrap_or_default());
            }
            Some("error") => {
                let text = info.at(&["error", "localizedMessage"]).map(|text| text.text.clone()).unwrap_or_default();
                return Err(match info.at(&["error", "fault"]) {
                    Some(fault) => context.fault(fault, &text),
                    None => context.invalid_response("its task failed without a fault"),
                });
            }
            Some("queued" | "running") => {}
            _ => return Err(context.invalid_response("its task has an unknown state")),
        }
        if Instant::now() + pause > deadline {
            if let Err(error) = session.call("CancelTask", task, |_| {}).await {
                tracing::debug!(system = session.system(), %error, "failed to cancel a task that timed out");
            }
            let system = session.system().to_owned();
            return Err(VsphereError::Timeout { system, call, seconds: timeout.as_secs() });
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(MAX_PAUSE);
    }
}
