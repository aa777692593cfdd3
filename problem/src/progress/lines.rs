//! Progress in plain lines, for logs and pipes: a thread that tells now and then how far each running task is. It ends
//! with the last clone of its reporter.

use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use crate::output::size;

type Tasks<T> = Arc<Mutex<Vec<Weak<T>>>>;

/// Calls back every so often with the tasks that run.
pub(super) struct Ticker<T> {
    tasks: Tasks<T>,
    /// Never sent to: its end is what ends the thread.
    _alive: Sender<()>,
}

impl<T: Send + Sync + 'static> Ticker<T> {
    pub(super) fn new(every: Duration, tell: impl Fn(&[Arc<T>]) + Send + 'static) -> Self {
        let tasks = Tasks::<T>::default();
        let (alive, ended) = mpsc::channel();
        let seen = tasks.clone();
        let run = move || {
            let mut next = Instant::now() + every;
            while let Err(RecvTimeoutError::Timeout) =
                ended.recv_timeout(next.saturating_duration_since(Instant::now()))
            {
                let running: Vec<Arc<T>> = locked(&seen).iter().filter_map(Weak::upgrade).collect();
                tell(&running);
                next = Instant::now() + every;
            }
        };
        // Without a thread there are the lines at start and end only.
        let _ = std::thread::Builder::new().name("progress".into()).spawn(run);
        Self { tasks, _alive: alive }
    }

    pub(super) fn add(&self, task: &Arc<T>) {
        locked(&self.tasks).push(Arc::downgrade(task));
    }

    pub(super) fn remove(&self, task: &Arc<T>) {
        locked(&self.tasks).retain(|one| !std::ptr::eq(one.as_ptr(), Arc::as_ptr(task)));
    }
}

fn locked<T>(tasks: &Tasks<T>) -> std::sync::MutexGuard<'_, Vec<Weak<T>>> {
    tasks.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How far a task is: `copying appstack/Office: 12.0 GiB of 20.0 GiB (60%), 310.0 MiB/s, 27 s left`.
pub(super) fn line(name: &str, done: u64, total: u64, took: Duration) -> String {
    if done == 0 {
        return format!("{name}: {}", size(total));
    }
    let percent = u128::from(done) * 100 / u128::from(total.max(1));
    let mut text = format!("{name}: {} of {} ({percent}%)", size(done), size(total));
    let millis = took.as_millis();
    let rate = u128::from(done) * 1000 / millis.max(1);
    if let Ok(rate) = u64::try_from(rate)
        && millis >= 1000
        && rate > 0
    {
        text.push_str(&format!(", {}/s", size(rate)));
        if total > done {
            text.push_str(&format!(", {} left", span((total - done) / rate)));
        }
    }
    text
}

/// Seconds as people read them.
fn span(seconds: u64) -> String {
    match seconds {
        0..=99 => format!("{seconds} s"),
        100..=5999 => format!("{} min", seconds / 60),
        _ => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_tells_how_far_and_how_fast() {
        let told = |done, seconds| line("copying appstack/Office", done, 20 << 30, Duration::from_secs(seconds));
        assert_eq!(told(0, 0), "copying appstack/Office: 20.0 GiB");
        assert_eq!(told(1 << 20, 0), "copying appstack/Office: 1.0 MiB of 20.0 GiB (0%)");
        assert_eq!(told(12 << 30, 40), "copying appstack/Office: 12.0 GiB of 20.0 GiB (60%), 307.1 MiB/s, 26 s left");
        assert_eq!(told(1 << 30, 600), "copying appstack/Office: 1.0 GiB of 20.0 GiB (5%), 1.7 MiB/s, 3 h 10 min left");
        assert_eq!(told(20 << 30, 60), "copying appstack/Office: 20.0 GiB of 20.0 GiB (100%), 341.3 MiB/s");
        assert_eq!(line("x", 1, 0, Duration::ZERO), "x: 1 B of 0 B (100%)");
    }
}
