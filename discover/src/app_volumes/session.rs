//! A login at a manager, kept for as long as the manager keeps it.
//!
//! It ends a session by itself after some idle time and says so with HTTP 403 or 401, or sends us to its login page. Then,
//! once in a run, there is one new login and the request goes out again. A login that was refused, by a status or by an error
//! in an answer of success, is never tried again with the same password: five wrong ones lock an account in most directories.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use futures_util::lock::Mutex;
use serde::Serialize;
use stackferry_config::Secret;
use stackferry_https::{HttpsClient, HttpsError, Method, Request, Response};

use super::error::ManagerError;
use super::list::{self, ResponseFault, error_in, said_in};
use super::requests::{ManagerRequest, SESSIONS};

/// The cookie that is the session.
const SESSION_COOKIE: &str = "_session_id";
/// The longest cookies that are kept, in bytes in all. A balancer before the manager may add its own.
const MAX_COOKIES: usize = 16 << 10;

/// A user's way into one manager.
pub(super) struct ManagerSession {
    https: HttpsClient,
    username: String,
    state: Mutex<ManagerSessionState>,
}

struct ManagerSessionState {
    password: Secret,
    /// The value of the `Cookie` header of the session that is open.
    cookie: Option<Secret>,
    /// Counts logins.
    login: u64,
    /// What the manager said when it refused the password.
    refused: Option<String>,
}

/// Something that is done at one go: a look, or a call of the guard.
pub(super) struct ManagerOperation {
    /// The longest that one answer may take.
    request: Duration,
    /// The longest that all of it may take.
    whole: Duration,
    began: Instant,
    logged_in_again: AtomicBool,
    /// Why a login failed. Those who waited for it share its failure instead of trying one after the other.
    login_failed: OnceLock<ManagerError>,
}

impl ManagerOperation {
    pub(super) fn new(request: Duration, whole: Duration) -> Self {
        Self {
            request,
            whole,
            began: Instant::now(),
            logged_in_again: AtomicBool::new(false),
            login_failed: OnceLock::new(),
        }
    }
}

/// The body of a login. Never printed.
#[derive(Serialize)]
struct LoginBody<'a> {
    username: &'a str,
    password: &'a str,
}

impl ManagerSession {
    pub(super) fn new(https: HttpsClient, username: String, password: Secret) -> Self {
        Self {
            https,
            username,
            state: Mutex::new(ManagerSessionState { password, cookie: None, login: 0, refused: None }),
        }
    }

    /// What errors call the manager.
    pub(super) fn system(&self) -> &str {
        self.https.system()
    }

    /// Takes another password and forgets that one was refused.
    pub(super) async fn set_password(&self, password: Secret) {
        let mut state = self.state.lock().await;
        state.password = password;
        state.refused = None;
    }

    /// Takes it that the password was refused before.
    pub(super) fn refused_before(&mut self) {
        self.state.get_mut().refused = Some("it was refused before".to_owned());
    }

    /// Whether the password was refused.
    pub(super) async fn is_refused(&self) -> bool {
        self.state.lock().await.refused.is_some()
    }

    /// Logs in, unless there is a session.
    pub(super) async fn open(&self, run: &ManagerOperation) -> Result<(), ManagerError> {
        self.cookie(run, None).await.map(|_| ())
    }

    /// Asks without a login, which `…/version` does not need.
    pub(super) async fn get_without_login(
        &self,
        run: &ManagerOperation,
        ask: ManagerRequest,
    ) -> Result<Response, ManagerError> {
        let request = Request::get(ask.path()).limit(ask.limit());
        let answer = self.send(run, request, ask.template()).await?;
        self.check_status(answer, ask.template())
    }

    /// Asks for something.
    pub(super) async fn get(&self, run: &ManagerOperation, ask: ManagerRequest) -> Result<Response, ManagerError> {
        self.call(run, ask.template(), &|| Request::get(ask.path()).limit(ask.limit())).await
    }

    /// Posts something that has no body; `query` begins with `?`.
    pub(super) async fn post(
        &self,
        run: &ManagerOperation,
        path: &'static str,
        query: &str,
    ) -> Result<Response, ManagerError> {
        self.call(run, path, &|| Request::new(Method::POST, format!("{path}{query}"))).await
    }

    /// Ends the session at the manager, if there is one. Without a session there is nothing to do.
    pub(super) async fn logout(&self, run: &ManagerOperation) -> Result<(), ManagerError> {
        let Some(cookie) = self.state.lock().await.cookie.take() else { return Ok(()) };
        let request = Request::new(Method::DELETE, SESSIONS).header("cookie", cookie.expose());
        let answer = self.send(run, request, SESSIONS).await?;
        // Who is not logged in any more is logged out.
        if is_session_expired(&answer) { Ok(()) } else { self.check_status(answer, SESSIONS).map(|_| ()) }
    }

    async fn call(
        &self,
        run: &ManagerOperation,
        path: &'static str,
        request: &(dyn Fn() -> Request + Sync),
    ) -> Result<Response, ManagerError> {
        let (mut cookie, mut login) = self.cookie(run, None).await?;
        let mut answer = self.send(run, request().header("cookie", cookie.expose()), path).await?;
        if is_session_expired(&answer) {
            let again = self.cookie(run, Some(login)).await?;
            if again.1 == login {
                return Err(self.denied(&answer, path));
            }
            (cookie, login) = again;
            answer = self.send(run, request().header("cookie", cookie.expose()), path).await?;
            if is_session_expired(&answer) {
                return Err(self.denied(&answer, path));
            }
        }
        let answer = self.check_status(answer, path)?;
        if answer.cookies().next().is_some() {
            let mut state = self.state.lock().await;
            if state.login == login
                && let Some(newer) = state.cookie.as_ref().and_then(|old| cookies(Some(old), &answer))
            {
                state.cookie = Some(newer);
            }
        }
        Ok(answer)
    }

    /// The session's cookie, and which login it is of. With `ended`, the login whose session the manager does not know any
    /// more: then there is a new one, unless this run had its new login already, which gives back the old.
    async fn cookie(&self, run: &ManagerOperation, ended: Option<u64>) -> Result<(Secret, u64), ManagerError> {
        // SkipReason during the login: whoever comes meanwhile takes its cookie.
        let mut state = self.state.lock().await;
        if let Some(cookie) = &state.cookie {
            let current = (cookie.clone(), state.login);
            if ended != Some(state.login) || run.logged_in_again.swap(true, Ordering::Relaxed) {
                return Ok(current);
            }
            tracing::debug!(system = self.system(), "the session ended: logging in again");
        }
        if let Some(error) = run.login_failed.get() {
            return Err(error.clone());
        }
        let cookie = match self.login(run, &mut state).await {
            Ok(cookie) => cookie,
            Err(error) => return Err(run.login_failed.get_or_init(|| error).clone()),
        };
        state.login += 1;
        state.cookie = Some(cookie.clone());
        Ok((cookie, state.login))
    }

    async fn login(&self, run: &ManagerOperation, state: &mut ManagerSessionState) -> Result<Secret, ManagerError> {
        let refused = |said: &str| ManagerError::LoginRefused {
            system: self.system().to_owned(),
            username: self.username.clone(),
            said: said.to_owned(),
        };
        if let Some(said) = &state.refused {
            return Err(refused(said));
        }
        state.cookie = None;
        let login = LoginBody { username: &self.username, password: state.password.expose() };
        // Room for the worst case, in which each byte is escaped: a buffer that grows leaves its old bytes behind.
        let mut body = Vec::with_capacity(6 * (login.username.len() + login.password.len()) + 64);
        serde_json::to_writer(&mut body, &login).map_err(|error| self.invalid_response(SESSIONS, error.to_string()))?;
        let request = Request::post(SESSIONS, "application/json", body).header("accept", "application/json");
        let answer = self.send(run, request, SESSIONS).await?;
        let said = said_in(answer.body());
        let is_refusal = match answer.status() {
            401 => true,
            // Nothing there, too slow, too many: these say nothing of the password.
            404 | 408 | 429 => false,
            // A cookie comes with an answer of success whether the login is one or not.
            200..300 => error_in(answer.body()).is_some(),
            status => (400..500).contains(&status) && said.is_some(),
        };
        if is_refusal {
            let said = said.unwrap_or_else(|| format!("HTTP {}", answer.status()));
            let error = refused(&said);
            state.refused = Some(said);
            return Err(error);
        }
        let answer = self.check_status(answer, SESSIONS)?;
        if let Some(fault) = list::unexpected_content(&answer) {
            return Err(self.fault(SESSIONS, fault));
        }
        cookies(None, &answer).ok_or_else(|| {
            let why = said.unwrap_or_else(|| format!("a login without the cookie {SESSION_COOKIE}"));
            self.invalid_response(SESSIONS, why)
        })
    }

    async fn send(
        &self,
        run: &ManagerOperation,
        request: Request,
        path: &'static str,
    ) -> Result<Response, ManagerError> {
        let too_slow = || ManagerError::Timeout { system: self.system().to_owned(), seconds: run.whole.as_secs() };
        let left = run.whole.checked_sub(run.began.elapsed()).filter(|left| !left.is_zero()).ok_or_else(too_slow)?;
        match self.https.send(request.timeout(run.request.min(left))).await {
            Ok(answer) => Ok(answer),
            Err(HttpsError::Stalled { .. }) if left < run.request => Err(too_slow()),
            Err(source) => Err(ManagerError::Https { path, source }),
        }
    }

    /// Why something is refused in a session that was just begun.
    fn denied(&self, answer: &Response, path: &'static str) -> ManagerError {
        let (system, said) = (self.system().to_owned(), said_in(answer.body()));
        match answer.status() {
            status @ 300..400 => ManagerError::Status { system, path, status, said: said.unwrap_or_default() },
            _ => {
                let said = said.unwrap_or_else(|| "no reason was given".to_owned());
                ManagerError::Denied { system, path, said }
            }
        }
    }

    /// An answer that is no error.
    fn check_status(&self, answer: Response, path: &'static str) -> Result<Response, ManagerError> {
        if answer.is_success() {
            return Ok(answer);
        }
        let said = said_in(answer.body()).unwrap_or_default();
        Err(ManagerError::Status { system: self.system().to_owned(), path, status: answer.status(), said })
    }

    /// As an error: an answer that can't be read.
    pub(super) fn fault(&self, path: &'static str, fault: ResponseFault) -> ManagerError {
        match fault {
            ResponseFault::WebPage => ManagerError::WebPage { system: self.system().to_owned(), path },
            ResponseFault::Compressed(how) => self.invalid_response(
                path,
                format!("it is compressed ({how}), which nobody asked for; a proxy before it may do that"),
            ),
            ResponseFault::Empty => self.invalid_response(path, "it is empty".to_owned()),
            ResponseFault::Json(error) if error.is_eof() => {
                self.invalid_response(path, format!("it ends too early: the rest of its JSON is missing ({error})"))
            }
            ResponseFault::Json(error) => self.invalid_response(path, format!("it is no JSON ({error})")),
            ResponseFault::Without(Some(said)) => self.invalid_response(path, said),
            ResponseFault::Without(None) => self.invalid_response(path, "what was asked for is not in it".to_owned()),
        }
    }

    pub(super) fn invalid_response(&self, path: &'static str, why: String) -> ManagerError {
        ManagerError::InvalidResponse { system: self.system().to_owned(), path, why }
    }
}

/// Whether a manager does not know the session any more. A manager before which a portal stands sends us to its login page
/// instead of saying so.
fn is_session_expired(answer: &Response) -> bool {
    matches!(answer.status(), 401 | 403 | 301 | 302 | 303 | 307 | 308)
}

/// The value of the `Cookie` header after an answer; none without the session's own cookie in it.
fn cookies(before: Option<&Secret>, answer: &Response) -> Option<Secret> {
    let set = answer.cookies().filter_map(|set| set.split(';').next()?.split_once('='));
    let mut jar: Vec<(&str, &str)> =
        before.map_or("", Secret::expose).split("; ").filter_map(|pair| pair.split_once('=')).collect();
    for (name, value) in set {
        let name = name.trim();
        jar.retain(|(known, _)| *known != name);
        jar.push((name, value.trim()));
    }
    let has_session = jar.iter().any(|(name, value)| *name == SESSION_COOKIE && !value.is_empty());
    let text: Vec<String> = jar.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let text = text.join("; ");
    (has_session && text.len() <= MAX_COOKIES).then(|| Secret::new(text))
}
