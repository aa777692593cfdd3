//! Running work, shown as it goes on. Counting is one atomic addition; drawing happens elsewhere.

use std::io::{self, IsTerminal, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use stackferry_transfer::Progress;

use super::lines::{Ticker, line};
use crate::output::escape;

/// How often a plain line is printed for what runs.
const LINE_EVERY: Duration = Duration::from_secs(10);
/// How often bars are drawn while nothing moves, so that a rate falls where a copy stalls.
const BAR_EVERY: Duration = Duration::from_millis(250);
const BAR: &str = "{prefix:32}  [{bar:24}] {percent:>3}%  {bytes}/{total_bytes}  {bytes_per_sec}  {eta}";

/// Shows work as it goes on. Cheap to clone; all clones are one.
#[derive(Clone)]
pub struct Reporter(Arc<Mode>);

enum Mode {
    Quiet,
    Bars(MultiProgress),
    Lines { out: Out, ticker: Ticker<TaskCounts> },
}

/// Where plain lines go.
type Out = Arc<Mutex<Box<dyn Write + Send>>>;

impl Reporter {
    /// Bars where stderr is a terminal, else plain lines; nothing if quiet.
    #[must_use]
    pub fn new(quiet: bool) -> Self {
        if quiet {
            Self::quiet()
        } else if io::stderr().is_terminal() {
            Self::bars(ProgressDrawTarget::stderr())
        } else {
            Self::lines(Box::new(io::stderr()), LINE_EVERY)
        }
    }

    /// Bars, one for each running task.
    #[must_use]
    pub fn bars(target: ProgressDrawTarget) -> Self {
        Self(Arc::new(Mode::Bars(MultiProgress::with_draw_target(target))))
    }

    /// Shows nothing.
    #[must_use]
    pub fn quiet() -> Self {
        Self(Arc::new(Mode::Quiet))
    }

    /// Plain lines: one at the start and the end of each task, and one for each running task every so often.
    #[must_use]
    pub fn lines(out: Box<dyn Write + Send>, every: Duration) -> Self {
        let out: Out = Arc::new(Mutex::new(out));
        let ticker = Ticker::new(every, {
            let out = out.clone();
            move |tasks: &[Arc<TaskCounts>]| {
                for task in tasks {
                    put(&out, &task.line());
                }
            }
        });
        Self(Arc::new(Mode::Lines { out, ticker }))
    }

    /// Begins to show a task: what is done, to what, and the bytes that there are to do.
    #[must_use]
    pub fn start(&self, verb: &str, name: &str, total: u64) -> Task {
        let name = format!("{verb} {}", escape(name));
        let bar = match &*self.0 {
            Mode::Bars(bars) => {
                let bar = bars.add(ProgressBar::new(total).with_prefix(name.clone()));
                if let Ok(style) = ProgressStyle::with_template(BAR) {
                    bar.set_style(style.progress_chars("=> "));
                }
                bar.enable_steady_tick(BAR_EVERY);
                Some(bar)
            }
            _ => None,
        };
        let counts = Arc::new(TaskCounts { name, total, done: AtomicU64::new(0), began: Instant::now(), bar });
        if let Mode::Lines { out, ticker } = &*self.0 {
            put(out, &counts.line());
            ticker.add(&counts);
        }
        Task { counts, reporter: self.clone(), told: false }
    }

    /// Tells something past the bars, in a line of its own. Nothing if quiet.
    pub fn say(&self, text: &str) {
        let text: Vec<String> = text.lines().map(escape).collect();
        let text = text.join("\n");
        match &*self.0 {
            Mode::Quiet => {}
            Mode::Bars(bars) => {
                bars.suspend(|| {
                    let _ = writeln!(io::stderr().lock(), "{text}");
                });
            }
            Mode::Lines { out, .. } => put(out, &text),
        }
    }

    /// The bars, which whoever else writes to the terminal has to put aside meanwhile.
    pub(super) fn drawn(&self) -> Option<&MultiProgress> {
        match &*self.0 {
            Mode::Bars(bars) => Some(bars),
            _ => None,
        }
    }
}

/// A lost line of progress is nothing to fail for.
fn put(out: &Out, text: &str) {
    let mut out = out.lock().unwrap_or_else(PoisonError::into_inner);
    let _ = writeln!(out, "{text}").and_then(|()| out.flush());
}

/// What a task has done so far.
pub(super) struct TaskCounts {
    name: String,
    total: u64,
    done: AtomicU64,
    began: Instant,
    bar: Option<ProgressBar>,
}

impl TaskCounts {
    pub(super) fn line(&self) -> String {
        line(&self.name, self.done.load(Ordering::Relaxed), self.total, self.began.elapsed())
    }

    fn set(&self, done: u64) {
        self.done.store(done, Ordering::Relaxed);
        if let Some(bar) = &self.bar {
            bar.set_position(done);
        }
    }
}

impl Progress for TaskCounts {
    fn done(&self, bytes: u64) {
        self.done.fetch_add(bytes, Ordering::Relaxed);
        if let Some(bar) = &self.bar {
            bar.inc(bytes);
        }
    }
}

/// Something that is shown while it runs. Dropped, it disappears; [`Task::finish`] leaves a last line.
pub struct Task {
    counts: Arc<TaskCounts>,
    reporter: Reporter,
    told: bool,
}

impl Task {
    /// For a copy, which adds the bytes that it has done.
    #[must_use]
    pub fn progress(&self) -> Arc<dyn Progress> {
        self.counts.clone()
    }

    /// Tells how many bytes are done in all.
    pub fn set(&self, done: u64) {
        self.counts.set(done);
    }

    /// Ends it with a last line: what it came to.
    pub fn finish(mut self, text: &str) {
        self.told = true;
        self.clear();
        self.reporter.say(&format!("{}: {text}", self.counts.name));
    }

    fn clear(&self) {
        if let Some(bar) = &self.counts.bar {
            bar.finish_and_clear();
            if let Some(bars) = self.reporter.drawn() {
                bars.remove(bar);
            }
        }
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        if !self.told {
            self.clear();
        }
        if let Mode::Lines { ticker, .. } = &*self.reporter.0 {
            ticker.remove(&self.counts);
        }
    }
}
