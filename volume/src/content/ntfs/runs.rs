//! Where the content of a file is: runs of clusters.

/// The maximum number of runs of one part of a file: a record of 64 KiB holds fewer.
const MAX_RUNS: usize = 64 << 10;

/// The maximum number of runs of a file that are kept: some hundred thousand pieces are the worst that is known of real disks.
const MAX_ALL_RUNS: usize = 512 << 10;

/// ClusterRuns of clusters, by the cluster of the file that each begins with.
#[derive(Default)]
pub(super) struct ClusterRuns(Vec<ClusterRun>);

#[derive(Clone, Copy)]
struct ClusterRun {
    /// The first cluster of the file that is in it.
    start: u64,
    clusters: u64,
    /// The first cluster of the file system; none for a hole.
    place: Option<u64>,
}

impl ClusterRuns {
    /// One run, from the file's start.
    pub(super) fn one(place: u64, clusters: u64) -> Self {
        Self(vec![ClusterRun { start: 0, clusters, place: Some(place) }])
    }

    /// Reads mapping pairs: each a byte with the lengths of two numbers, then the run's length and its distance from the one
    /// before. `start` is the cluster of the file that they begin with; the file system has `most` clusters.
    pub(super) fn read(mut pairs: &[u8], start: u64, most: u64) -> Result<Self, &'static str> {
        let (mut runs, mut start, mut place) = (Vec::new(), start, 0i64);
        loop {
            let Some((head, rest)) = pairs.split_first() else { return Err("its list of runs has no end") };
            if *head == 0 {
                return Ok(Self(runs));
            }
            let (length, distance) = (usize::from(head & 15), usize::from(head >> 4));
            let Some((number, rest)) = rest.split_at_checked(length) else { return Err("its list of runs is cut") };
            let Some((by, rest)) = rest.split_at_checked(distance) else { return Err("its list of runs is cut") };
            let clusters = signed(number).and_then(|length| u64::try_from(length).ok()).filter(|length| *length > 0);
            let Some(clusters) = clusters else { return Err("it has a run without length") };
            let at = match signed(by).filter(|_| distance > 0) {
                None if distance == 0 => None,
                None => return Err("it has a run at no place"),
                Some(by) => {
                    place = place.checked_add(by).ok_or("it has a run at no place")?;
                    let first = u64::try_from(place)
                        .ok()
                        .filter(|first| first.checked_add(clusters).is_some_and(|end| end <= most));
                    Some(first.ok_or("it has a run beyond the end of the file system")?)
                }
            };
            if runs.len() == MAX_RUNS {
                return Err("it has more runs than a record can hold");
            }
            runs.push(ClusterRun { start, clusters, place: at });
            start = start.checked_add(clusters).ok_or("it is longer than a file can be")?;
            pairs = rest;
        }
    }

    /// Adds a later part of the same file. False where there would be more runs than are kept.
    #[must_use]
    pub(super) fn append(&mut self, later: Self) -> bool {
        let ordered = self.0.last().zip(later.0.first()).is_none_or(|(last, first)| last.start <= first.start);
        self.0.extend(later.0);
        if !ordered {
            self.0.sort_by_key(|run| run.start);
        }
        self.0.len() <= MAX_ALL_RUNS
    }

    /// Where a cluster of the file lies (none for a hole), and how many of its run are left from there. None where no run
    /// holds it.
    pub(super) fn place(&self, cluster: u64) -> Option<(Option<u64>, u64)> {
        let after = self.0.partition_point(|run| run.start <= cluster);
        let run = self.0.get(after.checked_sub(1)?)?;
        let within = cluster - run.start;
        let left = run.clusters.checked_sub(within).filter(|left| *left > 0)?;
        Some((run.place.map(|place| place.saturating_add(within)), left))
    }
}

/// A little-endian number with a sign, of at most eight bytes.
fn signed(bytes: &[u8]) -> Option<i64> {
    let last = bytes.last()?;
    let mut all = [if last & 0x80 == 0 { 0 } else { 0xff }; 8];
    all.get_mut(..bytes.len())?.copy_from_slice(bytes);
    Some(i64::from_le_bytes(all))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_read_with_holes_and_backward_steps() {
        // 24 clusters at 0x5634; a hole of 5; 3 clusters 0x20 before the first run's start.
        let runs = ClusterRuns::read(&[0x21, 0x18, 0x34, 0x56, 0x01, 5, 0x11, 3, 0xe0, 0], 100, 1 << 20).unwrap();
        assert_eq!(runs.place(100), Some((Some(0x5634), 24)));
        assert_eq!(runs.place(123), Some((Some(0x5634 + 23), 1)));
        assert_eq!(runs.place(124), Some((None, 5)));
        assert_eq!(runs.place(131), Some((Some(0x5614 + 2), 1)));
        assert_eq!((runs.place(99), runs.place(132)), (None, None));
    }

    #[test]
    fn runs_that_can_not_be_are_refused() {
        for pairs in [&[0x21, 1][..], &[0x11, 0, 1, 0], &[0x11, 1, 0xff, 0], &[0x11, 1, 100, 0], &[0x91], &[0x19]] {
            assert!(ClusterRuns::read(pairs, 0, 50).is_err(), "{pairs:?}");
        }
    }
}
