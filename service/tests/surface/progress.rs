//! Progress in plain lines, and the log with its cap.

use std::ffi::OsString;
use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use indicatif::{InMemoryTerm, ProgressDrawTarget};
use stackferry_problem::progress::{LogOptions, Reporter, subscriber};
use tracing_subscriber::fmt::MakeWriter;

/// Text that several threads write and a test waits for.
#[derive(Clone, Default)]
struct Page(Arc<(Mutex<String>, Condvar)>);

impl Page {
    fn text(&self) -> String {
        self.0.0.lock().unwrap().clone()
    }

    fn wait_for(&self, wanted: impl Fn(&str) -> bool) -> String {
        let deadline = Instant::now() + Duration::from_secs(20);
        let mut text = self.0.0.lock().unwrap();
        while !wanted(&text) {
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "it never came: {text}");
            text = self.0.1.wait_timeout(text, left).unwrap().0;
        }
        text.clone()
    }
}

impl Write for Page {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.0.lock().unwrap().push_str(std::str::from_utf8(bytes).unwrap());
        self.0.1.notify_all();
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Page {
    type Writer = Self;
    fn make_writer(&self) -> Self {
        self.clone()
    }
}

#[test]
fn each_running_task_is_told_now_and_then() {
    let page = Page::default();
    let reporter = Reporter::lines(Box::new(page.clone()), Duration::from_millis(5));
    let office = reporter.start("copying", "appstack/Office\u{1b}[2J", 4 << 20);
    let other = reporter.start("verifying", "image/x", 1 << 20);
    office.progress().done(1 << 20);
    office.progress().done(1 << 20);
    other.set(512 << 10);
    page.wait_for(|text| {
        text.contains("copying appstack/Office\\u{1b}[2J: 2.0 MiB of 4.0 MiB (50%)")
            && text.contains("verifying image/x: 512.0 KiB of 1.0 MiB (50%)")
    });
    office.finish("copied");
    drop(other);
    let text = page.text();
    assert!(text.starts_with("copying appstack/Office\\u{1b}[2J: 4.0 MiB\nverifying image/x: 1.0 MiB\n"), "{text}");
    assert!(text.contains("copying appstack/Office\\u{1b}[2J: copied\n"), "{text}");
    assert!(!text.contains('\u{1b}'));

    // Tasks that have ended are told no more: a third one is, in several rounds, and they are not.
    let third = reporter.start("copying", "image/third", 100);
    third.set(50);
    let from = page.text().len();
    let text = page.wait_for(|text| text[from..].matches("image/third: 50 B of 100 B").count() >= 3);
    let later = text[from..].split_once("image/third: 50 B").unwrap().1;
    assert!(!later.contains("appstack/Office") && !later.contains("image/x"), "{later}");
    drop(third);
}

#[test]
fn the_thread_that_tells_ends_with_its_reporter() {
    let page = Page::default();
    let reporter = Reporter::lines(Box::new(page.clone()), Duration::from_secs(3600));
    let task = reporter.start("copying", "image/x", 100);
    drop(reporter);
    drop(task);
    // The thread held the page; when it is gone this is the only one.
    let deadline = Instant::now() + Duration::from_secs(20);
    while Arc::strong_count(&page.0) > 1 {
        assert!(Instant::now() < deadline, "the thread still runs");
        std::thread::yield_now();
    }
}

#[test]
fn a_terminal_sees_a_bar_for_each_running_task() {
    let screen = InMemoryTerm::new(10, 120);
    let reporter = Reporter::bars(ProgressDrawTarget::term_like_with_hz(Box::new(screen.clone()), 255));
    let one = reporter.start("copying", "appstack/Office", 4 << 20);
    let other = reporter.start("copying", "image/x", 1 << 20);
    one.progress().done(1 << 20);
    other.set(1 << 19);
    let deadline = Instant::now() + Duration::from_secs(20);
    let shown = loop {
        let shown = screen.contents();
        if ["25%", "1.00 MiB/4.00 MiB", "50%"].iter().all(|part| shown.contains(part)) {
            break shown;
        }
        assert!(Instant::now() < deadline, "{shown}");
        std::thread::yield_now();
    };
    assert!(shown.contains("copying appstack/Office") && shown.contains("copying image/x"), "{shown}");
    drop(one);
    other.finish("copied");
    assert_eq!(screen.contents(), "", "a bar goes with its task");
}

#[test]
fn quiet_is_quiet() {
    let reporter = Reporter::quiet();
    let task = reporter.start("copying", "image/x", 100);
    task.progress().done(100);
    reporter.say("nothing");
    task.finish("copied");
}

fn options(variables: &[(&str, &str)]) -> Result<LogOptions, stackferry_problem::Problem> {
    LogOptions { service: true, ..LogOptions::default() }
        .environment(|name| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| OsString::from(value)))
}

fn logged(options: &LogOptions, speak: impl FnOnce()) -> String {
    let page = Page::default();
    tracing::subscriber::with_default(subscriber(options, false, page.clone()).unwrap(), speak);
    page.text()
}

fn speak() {
    tracing::trace!(target: "russh::client", "SECRET");
    tracing::debug!(target: "russh", "SECRET");
    tracing::debug!(target: "russh_sftp::client", "SECRET");
    tracing::trace!(target: "hyper::proto::h1", "SECRET");
    tracing::debug!(target: "hyper_util::client::legacy", "SECRET");
    tracing::debug!(target: "rustls::client::hs", "SECRET");
    tracing::trace!(target: "quick_xml", "SECRET");
    let span = tracing::debug_span!(target: "russh::client", "login", password = "SECRET");
    span.in_scope(|| tracing::info!(target: "russh::client", "info of russh"));
    tracing::warn!(target: "rustls", "warning of rustls");
    tracing::trace!(target: "hyperloop", "another library whose name begins so");
    tracing::trace!(target: "stackferry_transfer", "trace of ours");
    tracing::info!(target: "stackferry_service", "info of ours");
}

#[test]
fn libraries_that_see_secrets_are_capped_whatever_the_user_sets() {
    for filter in [
        "trace",
        "russh=trace,hyper=trace,rustls=trace,quick_xml=trace,russh_sftp=debug",
        "trace,russh::client[login]=trace",
    ] {
        let text = logged(&options(&[("STACKFERRY_LOG", filter)]).unwrap(), speak);
        assert!(!text.contains("SECRET"), "{filter}: {text}");
        assert!(text.contains("info of russh") && text.contains("warning of rustls"), "{filter}: {text}");
    }
    let all = logged(&LogOptions { verbose: 9, ..LogOptions::default() }, speak);
    assert!(!all.contains("SECRET"), "{all}");
    for text in ["another library", "trace of ours", "info of ours"] {
        assert!(all.contains(text), "{all}");
    }
    let json = logged(&options(&[("STACKFERRY_LOG", "trace"), ("STACKFERRY_LOG_FORMAT", "json")]).unwrap(), speak);
    assert!(!json.contains("SECRET"), "{json}");
    let lines: Vec<serde_json::Value> = json.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(lines.iter().any(|line| line["message"] == "info of ours" && line["level"] == "INFO"), "{json}");
}

/// russh and rustls speak through `log`: what they say passes the same cap.
#[test]
fn records_of_the_log_crate_are_capped_too() {
    // Another test of this process may have begun it: either way it is begun.
    let _ = tracing_log_begin();
    let options = options(&[("STACKFERRY_LOG", "trace,russh=trace")]).unwrap();
    let text = logged(&options, || {
        log::debug!(target: "russh::client", "SECRET");
        log::trace!(target: "rustls::msgs", "SECRET");
        log::info!(target: "russh::client", "info through log");
        log::debug!(target: "mio", "debug through log");
        tracing::info!("after it");
    });
    assert!(!text.contains("SECRET"), "{text}");
    for wanted in ["info through log", "debug through log", "after it"] {
        assert!(text.contains(wanted), "{text}");
    }
}

fn tracing_log_begin() -> Result<(), log::SetLoggerError> {
    let begun = tracing_log::LogTracer::init();
    log::set_max_level(log::LevelFilter::Trace);
    begun
}

#[test]
fn levels_follow_options_then_environment() {
    let levels = |options: &LogOptions| {
        let text = logged(options, || {
            tracing::error!("e1");
            tracing::warn!("w1");
            tracing::info!("i1");
            tracing::debug!("d1");
            tracing::trace!("t1");
        });
        ["e1", "w1", "i1", "d1", "t1"].iter().filter(|word| text.contains(**word)).count()
    };
    let of = |verbose, quiet, service, filter: Option<&str>| {
        levels(&LogOptions { verbose, quiet, service, filter: filter.map(str::to_owned), json: false })
    };
    assert_eq!(of(0, false, false, None), 2, "a command warns");
    assert_eq!(of(0, false, true, None), 3, "a service tells what it does");
    assert_eq!(of(1, false, false, None), 4);
    assert_eq!(of(2, false, false, None), 5);
    assert_eq!(of(0, true, true, None), 1);
    assert_eq!(of(0, false, true, Some("error")), 1, "the environment goes before the default");
    assert_eq!(of(1, false, true, Some("error")), 4, "an option goes before the environment");
}

#[test]
fn variables_that_make_no_sense_are_refused() {
    assert_eq!(options(&[("STACKFERRY_LOG_FORMAT", "xml")]).unwrap_err().code, "bad_config");
    let bad = options(&[("STACKFERRY_LOG", "stackferry=loud=er")]).unwrap();
    let problem = subscriber(&bad, false, io::sink).err().unwrap();
    assert_eq!((problem.code.as_str(), problem.subject.as_deref()), ("bad_config", Some("STACKFERRY_LOG")));
    assert!(options(&[("STACKFERRY_LOG", ""), ("STACKFERRY_LOG_FORMAT", "")]).unwrap().filter.is_none());
}

#[test]
fn a_log_line_can_not_be_forged() {
    let text = logged(&options(&[]).unwrap(), || {
        tracing::info!(name = "x\u{1b}[2J", "found \u{1b}]0;owned\u{7}");
    });
    assert!(!text.contains(['\u{1b}', '\u{7}']), "{text:?}");
}
