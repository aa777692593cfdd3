//! Which volumes wait for a free transfer, and which one is next: within `limits.transfers` in all, `limits.per_host` from
//! one host. The one whose last attempt is longest ago goes first, so that volumes that fail again and again do not keep
//! others waiting.

use std::collections::BTreeMap;

use jiff::Timestamp;
use stackferry_discover::Volume;
use stackferry_volume::VolumeId;

/// A volume that is due.
pub(super) struct Waiting {
    pub(super) volume: Volume,
    /// Where it would be read; none for disks that are mounted here, which only the cap of all transfers holds for.
    pub(super) host: Option<String>,
    /// When its last attempt began.
    pub(super) last_attempt: Option<Timestamp>,
}

/// What waits and what runs.
pub(super) struct Queue {
    most: usize,
    most_per_host: usize,
    waiting: Vec<Waiting>,
    running: BTreeMap<VolumeId, Option<String>>,
}

impl Queue {
    pub(super) fn new(most: usize, most_per_host: usize) -> Self {
        let (most, most_per_host) = (most.max(1), most_per_host.max(1));
        Self { most, most_per_host, waiting: Vec::new(), running: BTreeMap::new() }
    }

    /// What a round found due takes the place of what waited, but for volumes that the round did not decide about.
    pub(super) fn replace(&mut self, due: Vec<Waiting>, decided: impl Fn(&Volume) -> bool) {
        self.waiting.retain(|waiting| !decided(&waiting.volume));
        self.waiting.extend(due.into_iter().filter(|one| !self.running.contains_key(&one.volume.id)));
        self.waiting
            .sort_by(|one, other| (one.last_attempt, &one.volume.id).cmp(&(other.last_attempt, &other.volume.id)));
    }

    /// The next volume that may be copied now; it runs until [`Queue::ended`].
    pub(super) fn next(&mut self) -> Option<Waiting> {
        if self.running.len() >= self.most {
            return None;
        }
        let has_room = |host: &Option<String>| {
            host.is_none() || self.running.values().filter(|other| *other == host).count() < self.most_per_host
        };
        let at = self.waiting.iter().position(|waiting| has_room(&waiting.host))?;
        let next = self.waiting.remove(at);
        self.running.insert(next.volume.id.clone(), next.host.clone());
        Some(next)
    }

    /// A volume runs no more.
    pub(super) fn ended(&mut self, volume: &VolumeId) {
        self.running.remove(volume);
    }

    /// How many wait.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
    }
}

#[cfg(test)]
mod tests {
    use stackferry_discover::{State, Volume};
    use stackferry_volume::{FileName, Generation};

    use super::*;

    fn waiting(id: &str, host: Option<&str>, last_attempt: Option<&str>) -> Waiting {
        let id: VolumeId = id.parse().unwrap();
        let volume = Volume {
            kind: id.kind(),
            stem: FileName::new("x").unwrap(),
            name: id.to_string(),
            owner: None,
            guid: None,
            generation: Generation::FIRST,
            size_bytes: None,
            state: State::Ready,
            attached: None,
            protectable: true,
            reason: None,
            remedy: None,
            app_volumes: None,
            locations: Vec::new(),
            id,
        };
        let last_attempt = last_attempt.map(|text| text.parse().unwrap());
        Waiting { volume, host: host.map(str::to_owned), last_attempt }
    }

    fn all(queue: &mut Queue) -> Vec<String> {
        std::iter::from_fn(|| queue.next()).map(|next| next.volume.id.to_string()).collect()
    }

    #[test]
    fn caps_hold_for_all_and_for_each_host() {
        let mut queue = Queue::new(3, 1);
        let due = [("a", Some("h1")), ("b", Some("h1")), ("c", Some("h2")), ("d", None), ("e", None)];
        let due = due.map(|(stem, host)| waiting(&format!("appstack/{stem}"), host, None));
        queue.replace(due.into(), |_| true);
        assert_eq!(all(&mut queue), ["appstack/a", "appstack/c", "appstack/d"]);
        assert_eq!(queue.waiting(), 2);
        queue.ended(&"appstack/c".parse().unwrap());
        assert_eq!(all(&mut queue), ["appstack/e"], "h1 is still busy");
        queue.ended(&"appstack/a".parse().unwrap());
        assert_eq!(all(&mut queue), ["appstack/b"]);
        assert_eq!(queue.waiting(), 0);
    }

    #[test]
    fn who_was_tried_longest_ago_is_next() {
        let mut queue = Queue::new(9, 9);
        let due = vec![
            waiting("appstack/a", None, Some("2026-11-22T05:00:00Z")),
            waiting("appstack/b", None, Some("2026-11-22T04:00:00Z")),
            waiting("appstack/c", None, None),
        ];
        queue.replace(due, |_| true);
        assert_eq!(all(&mut queue), ["appstack/c", "appstack/b", "appstack/a"]);
    }

    #[test]
    fn a_round_replaces_what_it_decided_about() {
        let mut queue = Queue::new(1, 1);
        queue.replace(vec![waiting("appstack/a", None, None), waiting("writable/b", None, None)], |_| true);
        assert_eq!(queue.next().unwrap().volume.id.to_string(), "appstack/a");
        let due = vec![waiting("appstack/a", None, None), waiting("appstack/c", None, None)];
        queue.replace(due, |volume| volume.kind == stackferry_volume::Kind::Appstack);
        queue.ended(&"appstack/a".parse().unwrap());
        let next = |queue: &mut Queue| {
            let id = queue.next().unwrap().volume.id;
            queue.ended(&id);
            id.to_string()
        };
        assert_eq!([next(&mut queue), next(&mut queue)], ["appstack/c", "writable/b"], "what runs is not queued again");
        queue.replace(Vec::new(), |_| true);
        assert!(queue.next().is_none());
    }
}
