//! Streams of events: each is a connection that stays, so their number is bounded, for one caller and for all; and some are
//! left for administrators, whoever else watches.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use stackferry_catalog::Role;

use super::Caller;

/// Streams at the same time, in all.
const MAX_STREAMS: usize = 32;
/// Of these, so many of callers who are no administrators.
const MAX_OF_OTHERS: usize = 24;
/// Of one caller.
const MAX_OF_ONE: usize = 8;

/// The streams that are open.
#[derive(Debug, Default)]
pub(crate) struct Streams(Mutex<HashMap<Watcher, usize>>);

/// Who watches: by the token, or as whom the kernel knows.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Watcher {
    who: String,
    is_admin: bool,
}

/// A stream that is open: it counts until this is dropped.
#[derive(Debug)]
pub(crate) struct OpenStream {
    streams: Arc<Streams>,
    watcher: Watcher,
}

impl Streams {
    /// Opens a stream; none where there are as many as may be.
    pub(crate) fn open(self: &Arc<Self>, caller: &Caller) -> Option<OpenStream> {
        let who = caller.token.as_ref().unwrap_or(&caller.name).clone();
        let watcher = Watcher { who, is_admin: caller.role.covers(Role::Admin) };
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let all: usize = open.values().sum();
        let others: usize = open.iter().filter(|(one, _)| !one.is_admin).map(|(_, count)| count).sum();
        let own = open.get(&watcher).copied().unwrap_or(0);
        if all >= MAX_STREAMS || own >= MAX_OF_ONE || (!watcher.is_admin && others >= MAX_OF_OTHERS) {
            return None;
        }
        open.insert(watcher.clone(), own + 1);
        Some(OpenStream { streams: Arc::clone(self), watcher })
    }
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        let mut open = self.streams.0.lock().unwrap_or_else(PoisonError::into_inner);
        match open.get_mut(&self.watcher) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(open.remove(&self.watcher)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caller(token: usize, role: Role) -> Caller {
        Caller { name: "token".to_owned(), role, token: Some(token.to_string()) }
    }

    #[test]
    fn nobody_uses_up_the_streams_of_an_admin() {
        let streams = Arc::new(Streams::default());
        let open = |token, role| streams.open(&caller(token, role));
        let mut held: Vec<OpenStream> = (0..MAX_STREAMS).filter_map(|_| open(0, Role::Viewer)).collect();
        assert_eq!(held.len(), MAX_OF_ONE, "of one caller");
        held.extend((1..MAX_STREAMS).filter_map(|token| open(token, Role::Operator)));
        assert_eq!(held.len(), MAX_OF_OTHERS);
        let admin = open(99, Role::Admin);
        assert!(admin.is_some() && open(98, Role::Viewer).is_none());
        held.pop();
        assert!(open(98, Role::Viewer).is_some(), "one that ended leaves its place");
        drop((held, admin));
        assert!(streams.0.lock().unwrap().is_empty());
    }
}
