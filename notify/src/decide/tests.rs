use jiff::SignedDuration;

use super::*;

/// A notifier with its memory and its clock.
struct Bench {
    settings: Notify,
    rows: BTreeMap<(String, String), ReportedProblem>,
    told: BTreeMap<String, Timestamp>,
    now: Timestamp,
}

fn settings(settle: &str, apart: &str) -> Notify {
    Notify { settle: settle.parse().unwrap(), apart: apart.parse().unwrap(), ..Notify::default() }
}

impl Bench {
    fn new(settle: &str, apart: &str) -> Self {
        let now = "2026-11-22T07:00:00Z".parse().unwrap();
        Self { settings: settings(settle, apart), rows: BTreeMap::new(), told: BTreeMap::new(), now }
    }

    fn pass(&mut self, minutes: i64) {
        self.now = self.now.checked_add(SignedDuration::from_mins(minutes)).unwrap();
    }

    /// A look that found these subjects of these troubles; what it tells, as `+code:subject` and `-code:subject`.
    fn look(&mut self, found: &[(Trouble, &str)], unknown: &[(Trouble, &str)]) -> Vec<String> {
        let one = |(trouble, subject): &(Trouble, &str)| FoundProblem {
            trouble: *trouble,
            subject: (*subject).to_owned(),
            name: (*subject).to_owned(),
            since: None,
            detail: None,
        };
        let look = SiteSnapshot {
            found: found.iter().map(one).collect(),
            unknown: unknown.iter().map(|(trouble, subject)| (*trouble, (*subject).to_owned())).collect(),
            ..SiteSnapshot::default()
        };
        // The memory is what a restarted program would read.
        let rows = self.rows.values().cloned().collect();
        let decided = decide(&self.settings, &look, rows, &self.told, self.now);
        for row in &decided.put {
            self.rows.insert((row.code.clone(), row.subject.clone()), row.clone());
        }
        for key in &decided.forget {
            self.rows.remove(key);
        }
        for code in decided.codes() {
            self.told.insert(code, self.now);
        }
        let words = |sign: char, kinds: &Kinds| {
            let rows = kinds.values().flatten();
            rows.map(|row| format!("{sign}{}:{}", row.code, row.subject)).collect::<Vec<_>>()
        };
        [words('+', &decided.new), words('-', &decided.over)].concat()
    }
}

use Trouble::{DatastoreAway, Held, Incident, Overdue, VersionDamaged};

#[test]
fn what_stays_wrong_is_told_once_and_its_end_once() {
    let mut bench = Bench::new("15m", "1h");
    let a = [(Overdue, "a")];
    assert!(bench.look(&a, &[]).is_empty(), "it may pass by itself");
    bench.pass(14);
    assert!(bench.look(&a, &[]).is_empty());
    bench.pass(1);
    assert_eq!(bench.look(&a, &[]), ["+overdue:a"]);
    for _ in 0..100 {
        bench.pass(60);
        assert!(bench.look(&a, &[]).is_empty(), "it was told");
    }
    assert!(bench.look(&[], &[]).is_empty(), "it may come back");
    bench.pass(10);
    assert!(bench.look(&a, &[]).is_empty(), "it came back");
    bench.pass(10);
    assert!(bench.look(&[], &[]).is_empty());
    bench.pass(15);
    assert_eq!(bench.look(&[], &[]), ["-overdue:a"]);
    assert!(bench.rows.is_empty());
    bench.pass(1000);
    assert!(bench.look(&[], &[]).is_empty());
}

#[test]
fn what_comes_and_goes_is_not_told() {
    let mut bench = Bench::new("15m", "1h");
    for _ in 0..10 {
        assert!(bench.look(&[(DatastoreAway, "nfs01")], &[]).is_empty());
        bench.pass(10);
        assert!(bench.look(&[], &[]).is_empty());
        assert!(bench.rows.is_empty());
        bench.pass(10);
    }
}

#[test]
fn what_can_not_wait_is_told_at_once() {
    let mut bench = Bench::new("15m", "1h");
    assert_eq!(bench.look(&[(Incident, "a"), (Overdue, "b")], &[]), ["+incident:a"]);
    assert_eq!(bench.look(&[(Incident, "a"), (VersionDamaged, "a")], &[]), ["+version_damaged:a"]);
    // Its end is so, too.
    assert_eq!(bench.look(&[(VersionDamaged, "a")], &[]), ["-incident:a"]);
}

#[test]
fn what_comes_one_by_one_is_told_together() {
    let mut bench = Bench::new("0s", "1h");
    assert_eq!(bench.look(&[(Overdue, "a")], &[]), ["+overdue:a"]);
    bench.pass(1);
    assert!(bench.look(&[(Overdue, "a"), (Overdue, "b")], &[]).is_empty());
    bench.pass(1);
    let all = [(Overdue, "a"), (Overdue, "b"), (Overdue, "c")];
    // Another kind does not wait for this one.
    assert_eq!(bench.look(&[all.as_slice(), &[(Held, "d")]].concat(), &[]), ["+held:d"]);
    bench.pass(58);
    assert_eq!(bench.look(&[all.as_slice(), &[(Held, "d")]].concat(), &[]), ["+overdue:b", "+overdue:c"]);
    // They become right one by one, too: the last one tells it for those that waited.
    bench.pass(1);
    assert!(bench.look(&[(Overdue, "b"), (Overdue, "c"), (Held, "d")], &[]).is_empty());
    bench.pass(1);
    assert!(bench.look(&[(Overdue, "c"), (Held, "d")], &[]).is_empty());
    bench.pass(1);
    assert_eq!(bench.look(&[(Held, "d")], &[]), ["-overdue:a", "-overdue:b", "-overdue:c"]);
    bench.pass(1);
    assert_eq!(bench.look(&[], &[]), ["-held:d"]);
}

#[test]
fn what_flaps_slowly_is_told_once_an_hour() {
    let mut bench = Bench::new("0s", "1h");
    let mut told = 0;
    for _ in 0..60 {
        told += bench.look(&[(Overdue, "a")], &[]).len();
        bench.pass(2);
        told += bench.look(&[], &[]).len();
        bench.pass(2);
    }
    assert!(told <= 9, "{told} in four hours");
}

#[test]
fn what_is_not_known_stays_as_it_was() {
    let mut bench = Bench::new("0s", "0s");
    assert_eq!(bench.look(&[(DatastoreAway, "nfs01")], &[]), ["+datastore_away:nfs01"]);
    // A restart: nothing was asked yet.
    for _ in 0..3 {
        bench.pass(60);
        assert!(bench.look(&[], &[(DatastoreAway, "nfs01")]).is_empty());
    }
    assert!(bench.look(&[(DatastoreAway, "nfs01")], &[]).is_empty(), "told before the restart");
    // Taken out of the configuration.
    assert_eq!(bench.look(&[], &[]), ["-datastore_away:nfs01"]);
}

#[test]
fn a_clock_that_is_set_keeps_nothing_from_being_told() {
    let mut bench = Bench::new("15m", "1h");
    bench.pass(60 * 24 * 365);
    bench.look(&[(Overdue, "a")], &[]);
    bench.told.insert("overdue".to_owned(), bench.now);
    bench.pass(-60 * 24 * 365);
    assert!(bench.look(&[(Overdue, "a")], &[]).is_empty());
    bench.pass(15);
    assert_eq!(bench.look(&[(Overdue, "a")], &[]), ["+overdue:a"]);
    bench.look(&[], &[]);
    bench.pass(-60 * 24 * 365);
    bench.look(&[], &[]);
    bench.pass(15);
    assert_eq!(bench.look(&[], &[]), ["-overdue:a"]);
}

#[test]
fn words_of_a_newer_program_are_forgotten() {
    let mut bench = Bench::new("0s", "0s");
    bench.look(&[(Overdue, "a")], &[]);
    let mut row = bench.rows.pop_first().unwrap().1;
    row.code = "of_tomorrow".to_owned();
    bench.rows.insert((row.code.clone(), row.subject.clone()), row);
    assert!(bench.look(&[], &[]).is_empty());
    assert!(bench.rows.is_empty());
}

#[test]
fn what_is_not_known_is_neither_told_nor_over_however_long() {
    let mut bench = Bench::new("15m", "0s");
    let a = [(Overdue, "a")];
    assert!(bench.look(&a, &[]).is_empty());
    bench.pass(5);
    assert!(bench.look(&[], &a).is_empty());
    bench.pass(15);
    assert!(bench.look(&[], &a).is_empty(), "it is not known whether it is there");
    assert!(bench.look(&a, &[]).is_empty(), "from here on it is counted");
    bench.pass(15);
    assert_eq!(bench.look(&a, &[]), ["+overdue:a"]);
    assert!(bench.look(&[], &[]).is_empty());
    bench.pass(2);
    assert!(bench.look(&[], &a).is_empty());
    bench.pass(15);
    assert!(bench.look(&[], &a).is_empty(), "nor whether it is over");
    assert!(bench.look(&[], &[]).is_empty());
    bench.pass(15);
    assert_eq!(bench.look(&[], &[]), ["-overdue:a"]);

    let mut bench = Bench::new("15m", "1h");
    assert_eq!(bench.look(&[(Incident, "a")], &[]), ["+incident:a"]);
    assert!(bench.look(&[(Incident, "a"), (Incident, "b")], &[]).is_empty(), "too soon after the first");
    bench.pass(60);
    assert!(bench.look(&[(Incident, "a")], &[(Incident, "b")]).is_empty());
    assert_eq!(bench.look(&[(Incident, "a"), (Incident, "b")], &[]), ["+incident:b"]);
}
