//! Sessions of browsers: in memory only, so that a restart ends them all. A session is known by the digest of its cookie,
//! and knows the token that it was begun with: when that is taken back, the session is over.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use stackferry_volume::Digest;
use subtle::ConstantTimeEq as _;

/// How long a session lasts, whatever is done in it.
pub(crate) const LIFE: Duration = Duration::from_secs(12 * 3600);
/// How long it lasts while nobody does anything. What a page asks for by itself does not count.
const IDLE: Duration = Duration::from_secs(3600);
/// How many there are at once; the one that was used longest ago makes room.
const MOST: usize = 256;
/// Of these, so many by one token: whoever logs in again and again logs out themselves, and nobody else.
const OF_ONE_TOKEN: usize = 8;

/// The sessions that there are.
#[derive(Default)]
pub(crate) struct Sessions(Mutex<HashMap<Digest, BrowserSession>>);

#[derive(Clone)]
struct BrowserSession {
    token: String,
    word: String,
    begun: Instant,
    used: Instant,
}

/// A session that was found.
pub(crate) struct FoundSession {
    /// The public id of the token that it was begun with.
    pub(crate) token: String,
    /// What every form of it carries.
    pub(crate) word: String,
}

impl Sessions {
    /// Begins a session for the bearer of a token. Gives the cookie's value.
    pub(crate) fn begin(&self, token: &str) -> String {
        let (cookie, word) = (random(), random());
        let now = Instant::now();
        let mut sessions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        sessions.retain(|_, session| session.is_alive(now));
        let own = sessions.values().filter(|session| session.token == token).count();
        if own >= OF_ONE_TOKEN || sessions.len() >= MOST {
            let may_go = |session: &BrowserSession| own < OF_ONE_TOKEN || session.token == token;
            let candidates = sessions.iter().filter(|(_, session)| may_go(session));
            if let Some(oldest) = candidates.min_by_key(|(_, session)| session.used).map(|(key, _)| *key) {
                sessions.remove(&oldest);
            }
        }
        let session = BrowserSession { token: token.to_owned(), word, begun: now, used: now };
        sessions.insert(Digest::of(cookie.as_bytes()), session);
        cookie
    }

    /// The session of a cookie. `by_hand`: somebody did something, so it is not idle.
    pub(crate) fn find(&self, cookie: &str, by_hand: bool) -> Option<FoundSession> {
        let now = Instant::now();
        let key = Digest::of(cookie.as_bytes());
        let mut sessions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let session = sessions.get_mut(&key)?;
        if !session.is_alive(now) {
            sessions.remove(&key);
            return None;
        }
        if by_hand {
            session.used = now;
        }
        Some(FoundSession { token: session.token.clone(), word: session.word.clone() })
    }

    /// Ends the session of a cookie.
    pub(crate) fn end(&self, cookie: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&Digest::of(cookie.as_bytes()));
    }
}

impl BrowserSession {
    fn is_alive(&self, now: Instant) -> bool {
        now.duration_since(self.begun) < LIFE && now.duration_since(self.used) < IDLE
    }
}

/// Whether a form carries its session's word. Takes as long whether it does or not.
pub(crate) fn is_word(told: &str, word: &str) -> bool {
    told.as_bytes().ct_eq(word.as_bytes()).into()
}

/// 256 bits of the system's generator, as text.
fn random() -> String {
    let mut bytes = [0_u8; 32];
    rand::fill(&mut bytes);
    URL_SAFE_NO_PAD.encode(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_ends_when_it_is_ended_idle_or_old() {
        let sessions = Sessions::default();
        let cookie = sessions.begin("0a0a0a0a");
        let found = sessions.find(&cookie, true).unwrap();
        assert_eq!(found.token, "0a0a0a0a");
        assert!(is_word(&found.word, &found.word) && !is_word("", &found.word) && !is_word(&cookie, &found.word));
        assert!(sessions.find("x", true).is_none());
        sessions.end(&cookie);
        assert!(sessions.find(&cookie, true).is_none());

        let shift = |cookie: &str, begun: Duration, used: Duration| {
            let mut all = sessions.0.lock().unwrap();
            let session = all.get_mut(&Digest::of(cookie.as_bytes())).unwrap();
            session.begun = session.begun.checked_sub(begun).unwrap();
            session.used = session.used.checked_sub(used).unwrap();
        };
        let idle = sessions.begin("x");
        shift(&idle, IDLE, IDLE - Duration::from_secs(5));
        assert!(sessions.find(&idle, false).is_some(), "a page that asks by itself");
        shift(&idle, IDLE, Duration::from_secs(6));
        assert!(sessions.find(&idle, true).is_none(), "does not keep it alive");
        let old = sessions.begin("x");
        shift(&old, LIFE, Duration::ZERO);
        assert!(sessions.find(&old, true).is_none());
    }

    #[test]
    fn sessions_are_bounded() {
        let sessions = Sessions::default();
        let (first, other) = (sessions.begin("x"), sessions.begin("other"));
        for _ in 0..MOST {
            sessions.begin("x");
        }
        assert_eq!(sessions.0.lock().unwrap().len(), OF_ONE_TOKEN + 1);
        assert!(sessions.find(&first, true).is_none());
        assert!(sessions.find(&other, true).is_some(), "nobody logs another one out");
        for number in 0..MOST {
            sessions.begin(&number.to_string());
        }
        assert_eq!(sessions.0.lock().unwrap().len(), MOST);
    }
}
