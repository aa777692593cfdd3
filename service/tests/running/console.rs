//! The console of the running service: logging in and out, forms, and that every page can be made.

use std::net::SocketAddr;

use stackferry_catalog::Role;

use crate::api::{Answer, ask, token, token_of};
use crate::bench::{Bench, Service, until};
use crate::metrics::{many, telling};

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

    // Who loses his token is out.
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
    let (app, address) = telling(&bench, "").await;
    many(&app, 3).await;
    let browser = Browser::login(address, &token_of(&app, Role::Viewer).await).await;
    let overview = browser.get("/parts/overview").await;
    assert_eq!(overview.status, 200, "{}", overview.body);
    assert!(overview.body.contains("5\u{202f}500"), "{}", overview.body);
    assert!(overview.body.len() < 16 << 10, "{} bytes", overview.body.len());
    let began = std::time::Instant::now();
    browser.get("/parts/overview").await;
    println!("the overview of 5,500 volumes took {:?}", began.elapsed());
    let list = browser.get("/volumes?page=3").await.body;
    assert!(list.contains("101–150 of 5\u{202f}500") && list.matches("<tr>").count() == 51, "{list}");
}
