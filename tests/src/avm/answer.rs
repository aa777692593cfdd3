//! Answers requests.

use rand::RngExt as _;
use serde_json::{Value, json};

use super::shapes;
use super::site::{AvmList, AvmSite, AvmVersion};
use super::state::{RecordedRequest, World, Write};

/// A response, before a fault changes it.
#[derive(Debug)]
pub(super) struct AvmResponse {
    pub(super) status: u16,
    pub(super) body: String,
    pub(super) content_type: &'static str,
    pub(super) cookie: Option<String>,
}

/// A parsed request.
#[derive(Debug)]
pub(super) struct AvmRequest<'a> {
    pub(super) method: &'a str,
    /// With its query.
    pub(super) path: &'a str,
    pub(super) cookie: Option<&'a str>,
    pub(super) content_type: &'a str,
    pub(super) body: &'a [u8],
}

/// Records the request and answers it.
pub(super) fn answer(world: &mut World, request: &AvmRequest<'_>) -> AvmResponse {
    world.requests.push(RecordedRequest { method: request.method.to_owned(), path: request.path.to_owned() });
    let (path, query) = request.path.split_once('?').unwrap_or((request.path, ""));
    match (request.method, path) {
        ("POST", "/cv_api/sessions") => return login(world, request),
        ("POST", "/app_volumes/sessions") if world.site.version.is_four() => return login(world, request),
        ("GET", "/cv_api/version") => return json_reply(200, &world.site, shapes::version(&world.site)),
        ("GET", "/app_volumes/version") if world.site.version.is_four() => {
            return json_reply(200, &world.site, shapes::version(&world.site));
        }
        _ => {}
    }
    let token = request.cookie.and_then(session_of);
    let Some((token, user)) = token.and_then(|token| Some((token, *world.sessions.get(token)?))) else {
        return json_reply(403, &world.site, json!({ "error": "Session expired. Please login again." }));
    };
    if let Some(left) = world.expire_after.take() {
        match left.checked_sub(1) {
            None | Some(0) => world.sessions.clear(),
            Some(left) => world.expire_after = Some(left),
        }
    }
    let read_only = world.site.users.get(user).is_some_and(|user| user.read_only);
    match (request.method, path) {
        ("DELETE", "/cv_api/sessions") => {
            world.sessions.remove(token);
            json_reply(200, &world.site, json!({ "success": "Logged out" }))
        }
        // It works with GET, which is why nobody may crawl this server.
        ("GET", "/cleanup") => {
            world.site.volumes.iter_mut().for_each(|volume| volume.attached_to.clear());
            world.writes.push(Write::Cleanup);
            json_reply(200, &world.site, json!({ "success": "Ok" }))
        }
        ("GET", _) => get(&world.site, path, query),
        _ if read_only => {
            json_reply(403, &world.site, json!({ "error": "You do not have permission to perform this action." }))
        }
        ("POST", "/cv_api/writables/disable") => switch(world, query, false),
        ("POST", "/cv_api/writables/enable") => switch(world, query, true),
        _ => not_found(),
    }
}

fn session_of(cookies: &str) -> Option<&str> {
    cookies.split(';').find_map(|cookie| cookie.trim().strip_prefix("_session_id="))
}

fn login(world: &mut World, request: &AvmRequest<'_>) -> AvmResponse {
    let of_form = |name: &str| {
        let body = std::str::from_utf8(request.body).unwrap_or_default();
        let value = body.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
        value.map(|value| decoded(&value.replace('+', " ")))
    };
    let of_json = |name: &str| {
        let body: Value = serde_json::from_slice(request.body).ok()?;
        body.get(name)?.as_str().map(str::to_owned)
    };
    let is_json = request.content_type.starts_with("application/json");
    let field = |name: &str| if is_json { of_json(name) } else { of_form(name) };
    let (Some(name), Some(password)) = (field("username"), field("password")) else {
        world.refusals += 1;
        return json_reply(400, &world.site, json!({ "error": "User name is required" }));
    };
    let known = |user: &super::site::AvmUser| user.name.eq_ignore_ascii_case(&name) && user.password == password;
    let Some(user) = world.site.users.iter().position(known) else {
        world.refusals += 1;
        let (status, cookie) = match world.site.refuses_with_200 {
            true => (200, Some("_session_id=of-nobody; path=/; secure; HttpOnly".to_owned())),
            false => (400, None),
        };
        let refused = json_reply(status, &world.site, json!({ "error": "Invalid user name or password" }));
        return AvmResponse { cookie, ..refused };
    };
    let token = format!("{:032x}", rand::rng().random::<u128>());
    world.sessions.insert(token.clone(), user);
    world.logins += 1;
    let cookie = format!("_session_id={token}; path=/; secure; HttpOnly");
    AvmResponse { cookie: Some(cookie), ..json_reply(200, &world.site, json!({ "success": "Ok" })) }
}

/// `%5B` and its like.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let code = rest.strip_prefix('%').and_then(|hex| u8::from_str_radix(hex.get(..2)?, 16).ok());
        let used = if let Some(byte) = code {
            bytes.push(byte);
            3
        } else {
            bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            c.len_utf8()
        };
        rest = rest.get(used..).unwrap_or_default();
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Enables or disables the writables whose numbers are in the query.
fn switch(world: &mut World, query: &str, on: bool) -> AvmResponse {
    let ids = query.split('&').filter_map(|pair| decoded(pair).strip_prefix("volumes[]=")?.parse::<u64>().ok());
    let (mut done, mut errors) = (Vec::new(), Vec::new());
    for id in ids {
        let mut volumes = world.site.volumes.iter_mut();
        match volumes.find(|volume| volume.family == AvmList::Writable && volume.id == id) {
            Some(volume) => {
                if on { "enabled" } else { "disabled" }.clone_into(&mut volume.status);
                world.writes.push(if on { Write::Enable(id) } else { Write::Disable(id) });
                done.push(format!("{} volume {}", if on { "Enabled" } else { "Disabled" }, volume.name));
            }
            None => errors.push(format!("Volume {id} was not found")),
        }
    }
    json_reply(200, &world.site, json!({ "successes": done, "warnings": [], "errors": errors }))
}

fn get(site: &AvmSite, path: &str, query: &str) -> AvmResponse {
    let mut parts = path.trim_start_matches('/').split('/');
    let (area, list) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let (id, what) = (parts.next(), parts.next());
    let id = match id.map(str::parse::<u64>) {
        None => None,
        Some(Ok(id)) => Some(id),
        Some(Err(_)) => return not_found(),
    };
    let found = match area {
        "cv_api" => get_v2(site, list, id, what),
        "app_volumes" if site.version.is_four() => get_v4(site, list, id, what, query),
        _ => None,
    };
    match found {
        Some(value) => json_reply(200, site, value),
        None if area == "app_volumes" && list == "app_packages" => {
            let title = format!("Incorrect Package id {} passed", id.unwrap_or_default());
            json_reply(404, site, json!({ "errors": [{ "title": title, "meta": { "manager": { "title": title } } }] }))
        }
        None => not_found(),
    }
}

/// `cv_api/…`.
fn get_v2(site: &AvmSite, list: &str, id: Option<u64>, what: Option<&str>) -> Option<Value> {
    let version = site.version;
    let shows_appstacks = !version.is_four() || site.shows_appstacks != Some(false);
    Some(match (list, id, what) {
        ("appstacks", None, _) if shows_appstacks => {
            let all: Vec<Value> = site.of(AvmList::AppStack).map(|volume| shapes::appstack(version, volume)).collect();
            if version == AvmVersion::V2_6 { json!({ "currentappstacks": { "appstacks": all } }) } else { all.into() }
        }
        ("appstacks", Some(id), what) => {
            let volume = site.find(AvmList::AppStack, id)?;
            match what {
                None => shapes::appstack_detail(version, volume),
                Some("files") => shapes::files(version, volume),
                Some("assignments") => shapes::own_assignments(volume),
                Some(_) => return None,
            }
        }
        // The list of all came later than the list of one.
        ("assignments", None, _) if version != AvmVersion::V2_6 => shapes::all_assignments(site),
        ("writables", None, _) => {
            let all: Vec<Value> =
                site.of(AvmList::Writable).map(|volume| shapes::writable(version, volume, false)).collect();
            json!({ "datastores": { "writable_volumes": all, "total": all.len() } })
        }
        ("writables", Some(id), None) => shapes::writable_detail(version, site.find(AvmList::Writable, id)?, false),
        ("storages", None, _) => shapes::storages(site),
        ("datastores", None, _) => shapes::datastores(site),
        ("storage_groups", None, _) => shapes::groups(site),
        ("storage_groups", Some(id), None) => {
            let id = usize::try_from(id).ok()?;
            shapes::group_detail(id, site.groups.get(id.checked_sub(1)?)?)
        }
        ("settings", None, _) => shapes::settings(site),
        _ => return None,
    })
}

/// `app_volumes/…`.
fn get_v4(site: &AvmSite, list: &str, id: Option<u64>, what: Option<&str>, query: &str) -> Option<Value> {
    let include = query.split('&').find_map(|pair| pair.strip_prefix("include=")).map(decoded).unwrap_or_default();
    Some(match (list, id, what) {
        ("app_packages", None, _) => {
            let all: Vec<Value> =
                site.of(AvmList::Package).map(|volume| shapes::package(site, volume, &include)).collect();
            json!({ "data": all })
        }
        ("app_packages", Some(id), None) => {
            json!({ "data": shapes::package(site, site.find(AvmList::Package, id)?, &include) })
        }
        ("app_packages", Some(id), Some("files")) => {
            json!({ "data": shapes::files(site.version, site.find(AvmList::Package, id)?) })
        }
        ("app_products", None, _) => shapes::products(site),
        ("lifecycle_stages", None, _) => shapes::stages(),
        ("app_assignments", None, _) => shapes::package_assignments(site),
        ("writables", None, _) => {
            let all: Vec<Value> =
                site.of(AvmList::Writable).map(|volume| shapes::writable(site.version, volume, true)).collect();
            json!({ "data": all })
        }
        ("writables", Some(id), None) => shapes::writable_detail(site.version, site.find(AvmList::Writable, id)?, true),
        _ => return None,
    })
}

fn json_reply(status: u16, site: &AvmSite, value: Value) -> AvmResponse {
    // Before 2.9 the type of an answer said nothing.
    let content_type =
        if site.version == AvmVersion::V2_6 { "text/html; charset=utf-8" } else { "application/json; charset=utf-8" };
    AvmResponse { status, body: value.to_string(), content_type, cookie: None }
}

fn not_found() -> AvmResponse {
    let body = "<!DOCTYPE html><html><body><h1>The page you were looking for doesn't exist.</h1></body></html>";
    AvmResponse { status: 404, body: body.to_owned(), content_type: "text/html", cookie: None }
}
