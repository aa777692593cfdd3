//! What happens to jobs, as it happens: server-sent events. Each begins with where things stand, so that nothing is missed
//! between reading the list and listening.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::time::Duration;

use axum::Extension;
use axum::extract::State;
use axum::response::sse::{Event, Sse};
use futures_util::Stream;
use futures_util::stream::unfold;
use serde::Serialize;
use stackferry_catalog::{JobFilter, JobId, JobState};
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::{Interval, MissedTickBehavior};

use super::jobs::{list, stored};
use crate::http::ApiProblem;
use crate::http::{Caller, OpenStream, Web};
use stackferry_engine::jobs::{JobEvent, JobProgress};
use stackferry_problem::{Code, Problem};

/// How often progress is told.
const TICK: Duration = Duration::from_secs(1);

/// How far a running job is.
#[derive(Serialize)]
struct ProgressEvent {
    id: JobId,
    #[serde(flatten)]
    progress: JobProgress,
}

struct EventStream {
    web: Web,
    caller: Caller,
    events: Receiver<JobEvent>,
    ticks: Interval,
    ready: VecDeque<Event>,
    _one: OpenStream,
}

/// What happens to jobs, as server-sent events: `job` with the job as it stands when one changes, `progress` each second for each that runs, `missed`
/// when the caller was too slow and should read `/api/v1/jobs` anew
#[utoipa::path(
    get, path = "/api/v1/events", tag = "jobs",
    responses((status = 200, body = String, content_type = "text/event-stream"))
)]
pub(super) async fn events(
    State(web): State<Web>,
    Extension(caller): Extension<Caller>,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, ApiProblem> {
    let one = web.streams().open(&caller).ok_or_else(|| {
        Problem::new(Code::Overloaded, "as many callers watch already as may").hint("try again in a few seconds")
    })?;
    // Heard from before the list is read: what changes meanwhile is told twice rather than not at all.
    let events = web.app().jobs().subscribe();
    let mut ready = VecDeque::new();
    // Apart: thousands may wait, and what runs is not to be missed among them.
    for state in [JobState::Running, JobState::Queued] {
        let filter = JobFilter { states: vec![state], ..JobFilter::default() };
        ready.extend(list(&web.app(), &filter, 500).await?.iter().rev().filter_map(|job| event("job", job)));
    }
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let told = EventStream { web, caller, events, ticks, ready, _one: one };
    Ok(Sse::new(unfold(told, |mut told| async move {
        let event = told.next().await?;
        Some((Ok(event), told))
    })))
}

fn event(name: &str, data: &impl Serialize) -> Option<Event> {
    Event::default().event(name).json_data(data).ok()
}

impl EventStream {
    /// The next event; none when the service ends, or the caller's token was taken back.
    async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Some(event);
            }
            tokio::select! {
                heard = self.events.recv() => match heard {
                    Ok(heard) => self.tell_job(heard.id).await,
                    Err(RecvError::Lagged(_)) => self.ready.push_back(Event::default().event("missed").data("{}")),
                    Err(RecvError::Closed) => return None,
                },
                _ = self.ticks.tick() => {
                    if self.web.app().cancel().is_cancelled() || !self.may_go_on().await {
                        return None;
                    }
                    self.tell_progress().await;
                }
            }
        }
    }

    /// The job as it stands now, which may be further than when the event was sent. One that was forgotten is not told.
    async fn tell_job(&mut self, id: JobId) {
        let job = stored(&self.web.app(), id).await.ok();
        self.ready.extend(job.and_then(|job| event("job", &job)));
    }

    async fn tell_progress(&mut self) {
        let filter = JobFilter { states: vec![JobState::Running], ..JobFilter::default() };
        let Ok(running) = list(&self.web.app(), &filter, 500).await else { return };
        let progress = running.into_iter().filter_map(|job| Some((job.id, job.progress?)));
        self.ready.extend(progress.filter_map(|(id, progress)| event("progress", &ProgressEvent { id, progress })));
        if self.ready.is_empty() {
            // So that either side notices a connection that broke.
            self.ready.push_back(Event::default().comment("nothing runs"));
        }
    }

    async fn may_go_on(&mut self) -> bool {
        let Some(token) = self.caller.token.as_ref() else { return true };
        self.web.auth().again(token).await.is_ok_and(|caller| caller.is_some())
    }
}
