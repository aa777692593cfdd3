//! How long a planned job waits after a failure, by what failed: what passes by itself is tried soon and then less and less
//! often; what somebody has to put right is not hammered at.

use std::time::Duration;

use stackferry_problem::{Code, Exit, Problem, Retry};

const fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

/// A first wait, which doubles up to a last one.
struct Waits {
    first: Duration,
    last: Duration,
}

/// Another process works on it, and is soon done.
const BUSY: Waits = Waits { first: seconds(5), last: seconds(5 * 60) };
/// A broken connection, a host that restarts, a source that changed meanwhile.
const SHORT: Waits = Waits { first: seconds(5), last: seconds(15 * 60) };
/// Too little space, a failing disk: somebody has to do something, or retention does.
const LONG: Waits = Waits { first: seconds(5 * 60), last: seconds(3600) };
/// A login that is refused, a host key that is not the known one: each further try looks like an attack and may lock the
/// account. A change of the configuration ends the wait.
const HELD: Waits = Waits { first: seconds(3600), last: seconds(24 * 3600) };
/// Damage does not heal by trying.
const DAMAGED: Waits = Waits { first: seconds(24 * 3600), last: seconds(24 * 3600) };

/// How long to wait after the failure number `failures`, counted from 1.
#[must_use]
pub fn wait(problem: &Problem, failures: u64) -> Duration {
    let waits = of(problem);
    let doublings = u32::try_from(failures.saturating_sub(1)).unwrap_or(u32::MAX).min(16);
    waits.first.saturating_mul(1 << doublings).min(waits.last)
}

fn of(problem: &Problem) -> Waits {
    match (problem.exit, problem.retry) {
        (Exit::LoginRefused | Exit::HostKey | Exit::Usage, _) => HELD,
        (_, Retry::Busy) => BUSY,
        (_, Retry::Transient) => SHORT,
        (Exit::VerifyFailed, Retry::Permanent) => DAMAGED,
        (_, Retry::Permanent) if problem.code == Code::RecordDamaged => DAMAGED,
        (_, Retry::Permanent) => LONG,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waits(code: Code) -> Vec<u64> {
        let problem = Problem::new(code, "it failed");
        [1, 2, 3, 9, u64::MAX].map(|failures| wait(&problem, failures).as_secs()).into()
    }

    #[test]
    fn retries_come_soon_only_for_what_passes_by_itself() {
        assert_eq!(waits(Code::Unreachable), [5, 10, 20, 900, 900]);
        assert_eq!(waits(Code::SourceChanged), [5, 10, 20, 900, 900]);
        assert_eq!(waits(Code::Busy), [5, 10, 20, 300, 300]);
        assert_eq!(waits(Code::NoSpace), [300, 600, 1200, 3600, 3600]);
        assert_eq!(waits(Code::LoginRefused), [3600, 7200, 14400, 86400, 86400]);
        assert_eq!(waits(Code::HostKeyChanged), [3600, 7200, 14400, 86400, 86400]);
        assert_eq!(waits(Code::SecretUnavailable), [3600, 7200, 14400, 86400, 86400]);
        assert_eq!(waits(Code::Damaged), [86400; 5]);
        assert_eq!(waits(Code::BlockMismatch), [5, 10, 20, 900, 900], "it was damaged on its way only");
    }
}
