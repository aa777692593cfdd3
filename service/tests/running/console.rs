//! The console of the running service: logging in and out, forms, and that every page can be made.

use std::net::SocketAddr;

use jiff::{SignedDuration, Timestamp};
use stackferry_catalog::{InventoryRound, ObservedVolume, Role, StatusReason, VolumeState};
use stackferry_volume::manifest::Owner;
use stackferry_volume::{Generation, VersionId};

use crate::ask::{Answer, ask, token, token_of};
use crate::bench::{Bench, Service, until};
use crate::direct::Direct;
use crate::metrics::{many, telling, version_row, versions_of_each};

/// A browser: it keeps its cookie, and says where its forms come from.
struct Browser {
    address: SocketAddr,
    cookie: String,
}

const ORIGIN: (&str, &str) = ("Origin", "http://stackferry");
const FORM: (&str, &str) = ("Content-Type", "application/x-www-form-urlencoded");

impl Browser {
    async fn login(address: SocketAddr, token: &str) -> Self {
        let answer = ask(address, "POST", "/login", &[ORIGIN, FORM], &format!("token={token}")).await;
        assert_eq!((answer.status, answer.header("location")), (303, Some("/")), "{}", answer.body);
        let set = answer.header("set-cookie").unwrap();
        for flag in ["HttpOnly", "SameSite=Strict", "Path=/"] {
            assert!(set.contains(flag), "{set}");
        }
        Self { address, cookie: set.split(';').next().unwrap().to_owned() }
    }

    async fn get(&self, path: &str) -> Answer {
        ask(self.address, "GET", path, &[("Cookie", &self.cookie)], "").await
    }

    async fn post(&self, path: &str, body: &str) -> Answer {
        ask(self.address, "POST", path, &[("Cookie", &self.cookie), ORIGIN, FORM], body).await
    }

    /// The word that this session's forms carry.
    async fn word(&self) -> String {
        let page = self.get("/").await.body;
        let (_, rest) = page.split_once("name=\"word\" value=\"").unwrap();
        rest.split('"').next().unwrap().to_owned()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_logs_in_with_a_token_and_out_again() {
    let bench = Bench::new();
    let service = Service::start(&bench, "").await;
    let viewer = token(&service, Role::Viewer).await;
    for path in ["/", "/volumes", "/settings", "/volumes/appstack/Nothing"] {
        let answer = ask(service.address, "GET", path, &[], "").await;
        assert_eq!((answer.status, answer.header("location")), (303, Some("/login")), "{path}");
    }
    let part = ask(service.address, "GET", "/parts/overview", &[("HX-Request", "true")], "").await;
    assert_eq!((part.status, part.header("hx-redirect")), (401, Some("/login")));
    let wrong = ask(service.address, "POST", "/login", &[ORIGIN, FORM], "token=sf_x").await;
    assert_eq!((wrong.status, wrong.header("set-cookie")), (401, None));
    let foreign = [("Origin", "https://elsewhere.example"), FORM];
    let foreign = ask(service.address, "POST", "/login", &foreign, &format!("token={viewer}")).await;
    assert_eq!((foreign.status, foreign.header("set-cookie")), (401, None));

    let browser = Browser::login(service.address, &viewer).await;
    let page = browser.get("/").await;
    assert_eq!(page.status, 200, "{}", page.body);
    assert!(page.body.contains("token viewer"), "{}", page.body);
    assert_eq!(page.header("cache-control"), Some("no-store"));

    // A form that is not this session's changes nothing.
    assert_eq!(browser.post("/logout", "word=x").await.status, 403);
    assert_eq!(browser.post("/logout", "").await.status, 403);
    let word = browser.word().await;
    let elsewhere = [("Cookie", browser.cookie.as_str()), ("Origin", "https://elsewhere.example"), FORM];
    let body = format!("word={word}");
    assert_eq!(ask(service.address, "POST", "/logout", &elsewhere, &body).await.status, 403);
    let silent = [("Cookie", browser.cookie.as_str()), FORM];
    assert_eq!(ask(service.address, "POST", "/logout", &silent, &body).await.status, 403);
    assert_eq!(browser.get("/").await.status, 200);
    assert_eq!(browser.post("/logout", &body).await.status, 303);
    assert_eq!(browser.get("/").await.header("location"), Some("/login"));

    // A revoked token ends its sessions.
    let browser = Browser::login(service.address, &viewer).await;
    service.app.catalog().revoke_token("viewer", "test").await.unwrap();
    assert_eq!(browser.get("/").await.header("location"), Some("/login"));
    service.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_page_is_made_and_text_from_outside_stays_text() {
    let bench = Bench::new();
    let hostile = "<img src=x>&'";
    let volumes = [bench.appstack("Office", 1 << 20), bench.appstack(hostile, 1 << 20)];
    let service = Service::start(&bench, "").await;
    let viewer = token(&service, Role::Viewer).await;
    let browser = Browser::login(service.address, &viewer).await;
    let catalog = service.app.catalog();
    until("both are copied", async || {
        let mut copied = 0;
        for volume in &volumes {
            copied += catalog.versions(volume).await.unwrap().len();
        }
        copied == 2
    })
    .await;
    let volume = "/volumes/appstack/%3Cimg%20src%3Dx%3E%26%27";
    for path in
        ["/", "/parts/overview", "/volumes", "/volumes?text=img&page=1", "/incidents", "/audit", "/settings", volume]
    {
        let page = browser.get(path).await;
        assert_eq!(page.status, 200, "{path}: {}", page.body);
        assert_eq!(page.header("content-type"), Some("text/html; charset=utf-8"));
        assert!(!page.body.contains("<img src=x>"), "{path}");
    }
    let found = browser.get("/volumes?text=%3Cimg").await.body;
    assert!(found.contains("1–1 of 1") && found.contains(&format!("href=\"{volume}\"")), "{found}");
    assert!(browser.get("/volumes?text=nothing%20at%20all").await.body.contains("No volume fits."));
    assert_eq!(browser.get("/volumes/appstack/Nothing").await.status, 404);
    for (name, kind) in [("htmx.min.js", "text/javascript"), ("console.css", "text/css"), ("icon.svg", "image/svg+xml")]
    {
        let asset = ask(service.address, "GET", &format!("/assets/{name}"), &[], "").await;
        assert_eq!((asset.status, asset.header("content-type").unwrap().split(';').next()), (200, Some(kind)));
    }
    assert_eq!(ask(service.address, "GET", "/assets/..%2Fassets.rs", &[], "").await.status, 404);
    service.end().await;
}

/// What the first page costs does not grow with the site: the database counts, and one page of the list is read.
#[tokio::test(flavor = "multi_thread")]
async fn the_overview_of_5500_volumes_is_no_longer_than_that_of_a_few() {
    let bench = Bench::new();
    let (app, _) = telling(&bench, "").await;
    let console = Direct::new(&app);
    let cookie = console.login(&token_of(&app, Role::Viewer).await).await;
    let own = [("Cookie", cookie.as_str())];
    let (of_none, _) = console.page("/parts/overview", &own, 5).await;
    let versions = versions_of_each();
    many(&app, versions).await;
    let (overview, took) = console.page("/parts/overview", &own, 11).await;
    println!(
        "the overview of 5,500 volumes with {versions} versions each: {} statements, {took:?} at the server (median of 11)",
        overview.statements
    );
    // One more for the volume that is attached: since when, and whether waiting helps.
    assert_eq!(overview.statements, of_none.statements + 1, "what is asked does not grow with the site");
    assert!((1..=12).contains(&overview.statements), "{}", overview.statements);
    assert!(overview.body.contains("5\u{202f}500"), "{}", overview.body);
    assert!(overview.body.len() < 16 << 10, "{} bytes", overview.body.len());
    let (list, took) = console.page("/volumes?page=3", &own, 5).await;
    println!("a page of the list: {} statements, {took:?} at the server (median of 5)", list.statements);
    let list = list.body;
    assert!(list.contains("101–150 of 5\u{202f}500") && list.matches("<tr>").count() == 51, "{list}");
}

fn attached(id: &str, owner: &str, reason: &str) -> ObservedVolume {
    let stem = id.split_once('/').unwrap().1.to_owned();
    ObservedVolume {
        id: id.parse().unwrap(),
        name: stem.clone(),
        stem,
        owner: Some(Owner { name: owner.to_owned(), sid: None, upn: None }),
        guid: None,
        generation: Generation::FIRST,
        size_bytes: Some(10 << 30),
        state: VolumeState::Deferred,
        attached: Some(true),
        protectable: true,
        reason: Some(StatusReason { code: reason.to_owned(), text: "attached to VDI-017".to_owned() }),
        remedy: None,
        locations: vec![],
    }
}

/// A user who never logs off is never backed up: the overview says so, and what to do.
#[tokio::test(flavor = "multi_thread")]
async fn a_writable_that_stays_attached_is_shown_with_its_remedy() {
    let bench = Bench::new();
    let (app, address) = telling(&bench, "").await;
    let catalog = app.catalog();
    let now = Timestamp::now();
    let day = |days: i64| now - SignedDuration::from_hours(24 * days);
    let (held, never) = ("writable/CORP!5C!jdoe", "writable/CORP!5C!new");
    let old = vec![
        attached(held, r"CORP\jdoe", "attached"),
        attached(never, r"CORP\new", "attached"),
        attached("writable/CORP!5C!locked", r"CORP\locked", "locked"),
    ];
    let round = |at, volumes| InventoryRound { at, volumes, scanned: vec![], unreachable: vec![], complete: false };
    catalog.record_inventory(&round(day(5), old.clone())).await.unwrap();
    let version = VersionId::new(day(6), 4);
    catalog.add_version(&version_row(held.parse().unwrap(), version.clone(), day(6))).await.unwrap();
    // One who logged on this morning is worth waiting for.
    let fresh = attached("writable/CORP!5C!fresh", r"CORP\fresh", "attached");
    catalog.record_inventory(&round(now, [old, vec![fresh]].concat())).await.unwrap();

    let browser = Browser::login(address, &token_of(&app, Role::Viewer).await).await;
    let what_to_do =
        ["log off (to disconnect is not enough)", "Horizon Console", "maintenance window", "in the next round"];
    let overview = browser.get("/").await.body;
    let last = format!("Its last version is {version}, the state of 6 days ago.");
    let (_, panel) = overview.split_once("2 volumes are never free").unwrap();
    let (panel, _) = panel.split_once("</section>").unwrap();
    for part in what_to_do.into_iter().chain(["guard = true", &last, "attached for 5 days", "It has no good version."])
    {
        assert!(panel.contains(part), "{part}: {panel}");
    }
    assert!(panel.contains("CORP\\jdoe") && panel.contains("CORP\\new"), "{panel}");
    assert!(!panel.contains("fresh") && !panel.contains("locked"), "{panel}");

    let page = browser.get("/volumes/writable/CORP%215C%21jdoe").await.body;
    for part in what_to_do.into_iter().chain([last.as_str(), "Waiting does not help.", "Ask CORP\\jdoe to"]) {
        assert!(page.contains(part), "{part}: {page}");
    }
    let page = browser.get("/volumes/writable/CORP%215C%21new").await.body;
    assert!(page.contains("Ask CORP\\new to") && page.contains("It has no good version."), "{page}");
    for other in ["fresh", "locked"] {
        let page = browser.get(&format!("/volumes/writable/CORP%215C%21{other}")).await.body;
        assert!(page.contains("attached to VDI-017") && !page.contains("Waiting does not help."), "{page}");
    }

    // Once it was free and is copied, nothing is said any more.
    let free = ObservedVolume {
        state: VolumeState::Ready,
        attached: Some(false),
        reason: None,
        ..attached(held, r"CORP\jdoe", "attached")
    };
    catalog.record_inventory(&round(now, vec![free])).await.unwrap();
    let overview = browser.get("/").await.body;
    assert!(overview.contains("1 volume is never free") && !overview.contains(&last), "{overview}");
}

/// What a form offers, and what comes of it.
#[tokio::test(flavor = "multi_thread")]
async fn a_version_is_restored_onto_a_datastore_from_its_page() {
    let bench = Bench::new();
    let office = bench.appstack("Office", 1 << 20);
    let service = Service::start(&bench, "[restore]\ndatastores = [\"nfs01\"]\n").await;
    let catalog = service.app.catalog();
    until("it is copied", async || catalog.versions(&office).await.unwrap().len() == 1).await;
    let page = "/volumes/appstack/Office";
    let offers = "<option value=\"datastore:nfs01\">datastore nfs01</option>";
    let operator = Browser::login(service.address, &token(&service, Role::Operator).await).await;
    assert!(!operator.get(page).await.body.contains(offers), "it is not for operators");
    let form = async |browser: &Browser, root: &str, folder: &str| {
        let version = &catalog.versions(&office).await.unwrap()[0].version;
        let word = browser.word().await;
        let body = format!("word={word}&version={version}&root={root}&folder={folder}");
        browser.post(&format!("{page}/restore"), &body).await
    };
    assert_eq!(form(&operator, "datastore%3Anfs01", "restored").await.status, 403);
    let admin = Browser::login(service.address, &token(&service, Role::Admin).await).await;
    assert!(admin.get(page).await.body.contains(offers));
    let asked = form(&admin, "datastore%3Anfs01", "restored").await;
    assert_eq!(
        (asked.status, asked.header("location")),
        (303, Some(&*format!("{page}?said=restore"))),
        "{}",
        asked.body
    );
    let there = bench.dir.path().join("nfs01/restored/Office.vmdk");
    until("its descriptor, which comes last, is there", async || there.exists()).await;
    let disk =
        |folder: &str| std::fs::read(bench.dir.path().join("nfs01").join(folder).join("Office-flat.vmdk")).unwrap();
    assert!(disk("restored") == disk("cloudvolumes/apps"));
    for (root, folder) in
        [("datastore%3Anfs01", ""), ("datastore%3Anfs01", "..%2Fx"), ("datastore%3Anowhere", "x"), ("%2Ftmp", "x")]
    {
        let refused = form(&admin, root, folder).await;
        assert!(matches!(refused.status, 400 | 403), "{root} {folder}: {}", refused.status);
    }
    service.end().await;
}
