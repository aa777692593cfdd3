//! The console in a real browser: what each role can do with it, and what it can't.

// A failed step has to stop its test with its cause; these lints are for the program itself.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_possible_wrap)]

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;
use stackferry_tests::browser::{self, Browser};
use stackferry_tests::check::same_files;
use stackferry_tests::lab::{Lab, RunningProcess, wait_for};
use stackferry_tests::site::{SitePlan, TestSite};
use stackferry_tests::tools::have;

const LAB: &str = env!("CARGO_BIN_EXE_stackferry-lab");
const LIMIT: Duration = Duration::from_secs(120);
const LOCKED: &str = "writable/CORP!5C!asmith";

/// A site with volumes of every sort, and a service that protects it.
struct Setup {
    lab: Lab,
    site: TestSite,
    url: String,
    root: PathBuf,
    service: Option<RunningProcess>,
}

impl Setup {
    fn new() -> Self {
        Self::with_bandwidth("1GB/s")
    }

    fn with_bandwidth(bandwidth: &str) -> Self {
        let mut lab = Lab::new(LAB).unwrap();
        let mut site = TestSite::build(&lab.path("site"), &SitePlan::small()).unwrap();
        site.lock("nfs01", "writable", "CORP!5C!asmith").unwrap();
        for name in ["nfs01", "nfs02"] {
            lab.config.local(name, &site.datastore(name));
        }
        let root = lab.path("restored");
        fs::create_dir(&root).unwrap();
        lab.config.set("restore.roots", vec![root.to_str().unwrap()]);
        lab.config.set("schedule.every", "2s");
        lab.config.set("limits.bandwidth", bandwidth);
        let mut service = lab.spawn(&["run"]).unwrap();
        let address = service
            .wait_line("the service's address", LIMIT, |line| {
                let plain: String = strip(line);
                let (_, rest) = plain.split_once("address=")?;
                rest.split_whitespace().next().map(str::to_owned)
            })
            .unwrap();
        let setup = Self { lab, site, url: format!("http://{address}"), root, service: Some(service) };
        wait_for("everything that can be copied is", LIMIT, || {
            let volumes = setup.lab.run_json(&["volumes"])?;
            let volumes = volumes.as_array().unwrap();
            let waits = |one: &Value| one["state"] == "ready" && one["versions"] == 0;
            Ok(volumes.len() > 10 && !volumes.iter().any(waits))
        })
        .unwrap();
        setup
    }

    fn token(&self, role: &str) -> String {
        let made = self.lab.run_json(&["token", "create", "--name", role, "--role", role]).unwrap();
        made["token"].as_str().unwrap().to_owned()
    }

    /// A browser that is logged in.
    fn login(&self, role: &str) -> Browser {
        let mut browser = Browser::start().unwrap();
        browser.open(&format!("{}/", self.url)).unwrap();
        browser.wait("the login", "document.querySelector('#token') !== null").unwrap();
        browser.fill("#token", &self.token(role)).unwrap();
        browser.press("Enter").unwrap();
        browser.wait("the overview", "document.querySelector('#now') !== null").unwrap();
        browser
    }

    fn open(&self, browser: &mut Browser, path: &str) {
        browser.open(&format!("{}{path}", self.url)).unwrap();
    }
}

impl Drop for Setup {
    fn drop(&mut self) {
        if let Some(service) = self.service.take() {
            let _ = service.terminate(LIMIT);
        }
    }
}

/// A line without what colours it.
fn strip(line: &str) -> String {
    let mut plain = String::new();
    let mut rest = line;
    while let Some((before, after)) = rest.split_once('\u{1b}') {
        plain.push_str(before);
        rest = after.split_once('m').map_or("", |(_, after)| after);
    }
    plain + rest
}

/// An element of the newest version's row.
fn newest(selector: &str) -> String {
    format!("section[aria-labelledby=versions] tbody tr:first-child {selector}")
}

#[test]
fn the_console_finds_copies_verifies_pins_and_restores() {
    if !have(browser::can_run(), "chromium").unwrap() {
        return;
    }
    let setup = Setup::new();
    let mut page = setup.login("admin");
    assert!(page.text(".cards").unwrap().contains("Protected"));
    assert!(
        page.text(".verdict").unwrap().contains("not supported: action needed"),
        "{}",
        page.text(".verdict").unwrap()
    );

    // From the overview to a volume that is left alone, and why.
    page.follow(".cards a[href*='state=deferred']").unwrap();
    let found = page.text("#found").unwrap();
    assert!(found.contains("CORP\\asmith") && found.contains("lock"), "{found}");
    // The list follows what is typed.
    setup.open(&mut page, "/volumes");
    page.fill("#text", "office").unwrap();
    page.wait("what was searched for", "document.querySelectorAll('#found tbody tr').length === 1").unwrap();
    assert!(page.evaluate("location.search").unwrap().as_str().unwrap().contains("text=office"));

    // A copy is watched until it is done.
    page.follow("#found tbody a").unwrap();
    assert_eq!(page.text("h1").unwrap(), "Office");
    let before = setup.lab.versions("appstack/Office").unwrap().len();
    page.follow("#copy").unwrap();
    assert!(page.text("[role=status]").unwrap().contains("in the queue"));
    // Once it ended, it is the only one that is job.
    let job = "[...document.querySelectorAll('#work [data-job]')].map(one => one.dataset.state + one.innerText)";
    let done = format!("(all => all.length === 1 && /^done.*by token admin/s.test(all[0]))({job})");
    page.wait("the copy is done, without loading the page anew", &done).unwrap();
    let versions = setup.lab.versions("appstack/Office").unwrap();
    assert_eq!(versions.len(), before + 1);
    setup.open(&mut page, "/volumes/appstack/Office");
    let newest_version = versions[0]["version"].as_str().unwrap().to_owned();
    assert_eq!(page.text(&newest("code")).unwrap(), newest_version);

    // Pinned with a note, and let go again.
    let unfold = format!("document.querySelector('{}').open = true", newest("details"));
    page.evaluate(&unfold).unwrap();
    page.fill(&newest("form.pin input[name=note]"), "before the update").unwrap();
    page.follow(&newest("form.pin button")).unwrap();
    assert_eq!(setup.lab.versions("appstack/Office").unwrap()[0]["pinned"], true);
    assert!(page.text(&newest("")).unwrap().contains("pinned"));
    page.follow(&newest("form[action$=unpin] button")).unwrap();
    assert_eq!(setup.lab.versions("appstack/Office").unwrap()[0]["pinned"], false);

    // Put back below the root, and nowhere else.
    page.evaluate(&unfold).unwrap();
    page.fill(&newest("form.restore input[name=folder]"), "office").unwrap();
    page.follow(&newest("form.restore button")).unwrap();
    page.wait(
        "the restore is done",
        "document.querySelector('#work [data-state=done]')?.innerText.includes('Restore')",
    )
    .unwrap();
    let office = setup.site.find("appstack", "Office").next().unwrap();
    same_files(&setup.site.files(&office.locations[0]), &setup.root.join("office")).unwrap();
    page.evaluate(&unfold).unwrap();
    page.fill(&newest("form.restore input[name=folder]"), "../elsewhere").unwrap();
    page.follow(&newest("form.restore button")).unwrap();
    assert!(page.text("main").unwrap().contains("without `..`"), "{}", page.text("main").unwrap());
    assert!(!setup.root.join("../elsewhere").exists());

    setup.open(&mut page, "/jobs");
    assert!(page.text("#jobs").unwrap().contains("token admin"));
    setup.open(&mut page, "/audit?action=restored");
    assert!(page.text("main").unwrap().contains("appstack/Office"));
    let refused: Vec<_> = page.complaints().iter().filter(|one| !one.contains("400 (Bad Request)")).collect();
    assert!(refused.is_empty(), "{refused:?}");
}

#[test]
fn a_viewer_sees_everything_and_changes_nothing() {
    if !have(browser::can_run(), "chromium").unwrap() {
        return;
    }
    let setup = Setup::new();
    let mut page = setup.login("viewer");
    setup.open(&mut page, "/volumes/appstack/Office");
    assert!(!page.text(&newest("code")).unwrap().is_empty());
    for selector in ["#copy", "#verify", "main form"] {
        assert!(!page.has(selector).unwrap(), "{selector}");
    }
    // A form that a viewer makes up is refused.
    let versions = setup.lab.versions("appstack/Office").unwrap();
    let forged = "(async () => { const word = document.querySelector('input[name=word]').value; \
                  const body = new URLSearchParams({ word }); \
                  return (await fetch('/volumes/appstack/Office/copy', { method: 'POST', body })).status; })()";
    assert_eq!(page.evaluate(forged).unwrap(), 403);
    assert_eq!(setup.lab.versions("appstack/Office").unwrap().len(), versions.len());
    // No script may send the session's cookie elsewhere.
    assert_eq!(page.evaluate("document.cookie").unwrap(), "");

    // By keyboard alone: the first stop leads past the menu.
    setup.open(&mut page, "/");
    page.press("Tab").unwrap();
    assert_eq!(page.evaluate("document.activeElement.className").unwrap(), "skip");
    let outline = "getComputedStyle(document.activeElement).outlineStyle";
    assert_eq!(page.evaluate(outline).unwrap(), "solid", "the focus is visible");
    page.press("Enter").unwrap();
    page.wait("the content has the focus", "document.activeElement.id === 'main'").unwrap();

    // Out, and not back in by the browser's memory.
    page.follow("form.who button").unwrap();
    assert!(page.has("#token").unwrap());
    setup.open(&mut page, "/settings");
    assert!(page.has("#token").unwrap());
}

#[test]
fn every_page_fits_desktop_and_phone() {
    if !have(browser::can_run(), "chromium").unwrap() {
        return;
    }
    let setup = Setup::with_bandwidth("3MB/s");
    let mut page = setup.login("admin");
    // Something that runs, to be seen while it does.
    setup.open(&mut page, "/volumes/appstack/Office");
    page.follow("#copy").unwrap();
    let job = "document.querySelector('#work [data-job]')";
    let begun = format!("(one => one.innerText.includes('by token admin') && one.dataset.state !== 'queued')({job})");
    page.wait("the copy has begun", &begun).unwrap();
    let pictures = std::env::var_os("STACKFERRY_TEST_SCREENSHOTS").map(PathBuf::from);
    if let Some(folder) = &pictures {
        fs::create_dir_all(folder).unwrap();
    }
    let locked = format!("/volumes/{}", LOCKED.replace('!', "%21"));
    let pages = [
        ("overview", "/"),
        ("volumes", "/volumes"),
        ("volume", "/volumes/appstack/Office"),
        ("deferred", &locked),
        ("jobs", "/jobs"),
        ("incidents", "/incidents"),
        ("audit", "/audit"),
        ("settings", "/settings"),
    ];
    for (name, path) in pages {
        for (width, height) in [(1280, 900), (390, 844)] {
            page.size(width, height).unwrap();
            for dark in [false, true] {
                page.dark(dark).unwrap();
                setup.open(&mut page, path);
                assert!(page.has("main h1").unwrap(), "{path}");
                assert!(!page.is_too_wide().unwrap(), "{path} at {width} pixels");
                if let Some(folder) = &pictures {
                    let scheme = if dark { "dark" } else { "light" };
                    page.picture(&Path::new(folder).join(format!("{name}-{width}-{scheme}.png"))).unwrap();
                }
            }
        }
    }
    page.size(1280, 900).unwrap();
    page.dark(false).unwrap();
    setup.open(&mut page, "/");
    page.follow("form.who button").unwrap();
    if let Some(folder) = &pictures {
        page.picture(&folder.join("login-1280-light.png")).unwrap();
    }
    assert!(page.complaints().is_empty(), "{:?}", page.complaints());
}
