//! Waits for a task of the server.

use std::time::Duration;

use tokio::time::Instant;

use crate::error::VsphereError;
use crate::model::Moid;
use crate::properties;
use crate::session::Session;
use crate::xml::Node;

/// How long to wait before the first and at most before each later look.
const FIRST: Duration = Duration::from_millis(50);
const LATER: Duration = Duration::from_secs(2);

/// Waits until a task has ended, and gives its result.
pub(crate) async fn wait(
    session: &Session,
    call: &'static str,
    task: &Moid,
    limit: Duration,
) -> Result<Node, VsphereError> {
    let asked = session.asked(call);
    let deadline = Instant::now() + limit;
    let mut pause = FIRST;
    loop {
        let mut object = properties::of_one(session, task, &["info"]).await?;
        let mut info = object.take("info").ok_or_else(|| asked.bad("its task tells nothing"))?;
        match info.text_of("state") {
            Some("success") => {
                let result = info.children.iter_mut().find(|child| &*child.name == "result");
                return Ok(result.map(std::mem::take).unwrap_or_default());
            }
            Some("error") => {
                let text = info.at(&["error", "localizedMessage"]).map(|text| text.text.clone()).unwrap_or_default();
                return Err(match info.at(&["error", "fault"]) {
                    Some(fault) => asked.fault(fault, &text),
                    None => asked.bad("its task failed without saying why"),
                });
            }
            Some("queued" | "running") => {}
            _ => return Err(asked.bad("its task is in no state")),
        }
        if Instant::now() + pause > deadline {
            if let Err(error) = session.call("CancelTask", task, |_| {}).await {
                tracing::debug!(system = session.system(), %error, "a task that took too long can't be cancelled");
            }
            let system = session.system().to_owned();
            return Err(VsphereError::Timeout { system, call, seconds: limit.as_secs() });
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LATER);
    }
}
