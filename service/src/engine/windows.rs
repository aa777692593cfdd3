//! The times of day in which copies that nobody asked for may run.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use jiff::civil::Time;
use stackferry_catalog::Reason;
use stackferry_config::Window;
use stackferry_discover::ReasonCode;
use stackferry_volume::Kind;
use stackferry_volume::io::Cancel;
use tokio::task::JoinHandle;

use crate::app::{App, config_kind};

/// How often a running copy looks whether its window is over: it has to end within 30 s of that.
const LOOK: Duration = Duration::from_secs(1);

/// Why volumes of this kind are left alone now; none while a copy may run.
#[must_use]
pub fn closed(app: &App, kind: Kind) -> Option<Reason> {
    let windows = app.config().schedule.of(config_kind(kind)).windows;
    if is_open(windows, app.local_time().time()) {
        return None;
    }
    let times: Vec<String> = windows.iter().map(ToString::to_string).collect();
    let text = format!("it is copied between {} only", times.join(" and "));
    Some(Reason { code: ReasonCode::OutsideWindow.to_string(), text })
}

fn is_open(windows: &[Window], now: Time) -> bool {
    windows.is_empty() || windows.iter().any(|window| window.contains(now))
}

/// Ends a copy when its window ends. Dropped, it looks no more.
pub(super) struct Watch {
    over: Arc<AtomicBool>,
    task: JoinHandle<()>,
}

impl Watch {
    pub(super) fn start(app: &App, kind: Kind, cancel: &Cancel) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let (app, cancel, told) = (app.clone(), cancel.clone(), Arc::clone(&over));
        let task = tokio::spawn(async move {
            while closed(&app, kind).is_none() {
                tokio::time::sleep(LOOK).await;
            }
            told.store(true, Ordering::SeqCst);
            cancel.cancel();
        });
        Self { over, task }
    }

    /// Whether it ended the copy.
    pub(super) fn is_over(&self) -> bool {
        self.over.load(Ordering::SeqCst)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_windows_it_is_always_open() {
        let noon: Time = "12:00".parse().unwrap();
        let windows = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<Window>>();
        assert!(is_open(&[], noon));
        assert!(is_open(&windows(&["22:00-06:00", "11:30-12:30"]), noon));
        assert!(!is_open(&windows(&["22:00-06:00", "12:01-13:00"]), noon));
    }
}
