//! Hosts that hold up or cheat a restore: what they say of a new file is not believed beyond what it can be.

use std::time::{Duration, Instant};

use bytes::Bytes;
use stackferry_transfer::{TransferError, describe};

use super::{BOUND, TIMEOUTS, is_protocol, is_silent, shows};
use crate::support::Deadline;
use crate::support::double::{Act, Double, File, Script};
use crate::support::host::context;
use crate::support::version::Version;

/// Restores a file of some MiB to a host whose program does this.
fn refused(acts: impl Fn() -> Vec<Act> + Send + Sync + 'static) -> TransferError {
    let home = tempfile::tempdir().unwrap();
    let runs = move |command: &str, _: &File| command.starts_with("set -- ").then(&acts);
    let script = Script { runs: Box::new(runs), ..Script::default() };
    let double = Double::start(home.path(), File { content: Vec::new(), mtime: 0 }, script);
    let client = double.client(home.path(), double.address, TIMEOUTS);
    let version = Version::new(home.path(), "version");
    let began = Instant::now();
    let result = client.write(&version.file("apps/a"), &context(), &mut |_| {});
    assert!(began.elapsed() < BOUND, "{:?}", began.elapsed());
    let error = result.map(|_| ()).expect_err("nothing of it was written");
    shows(&describe(&error));
    error
}

fn says(text: String) -> TransferError {
    let text = Bytes::from(text);
    refused(move || vec![Act::Send(text.clone()), Act::Hang])
}

/// Room enough.
const MADE: &str = "1 99999999999\n";

#[test]
fn endless_progress_lines_do_not_extend_the_timeout() {
    let _deadline = Deadline::seconds(240);
    let made = || Act::Send(Bytes::from_static(MADE.as_bytes()));
    let signs = Bytes::from("0\n".repeat(5000));
    is_protocol(&refused(move || vec![made(), Act::Forever(signs.clone())]), "output is invalid");
    let slow = Bytes::from("0\n".repeat(500));
    let step = Duration::from_millis(300);
    is_protocol(&refused(move || vec![made(), Act::Drip(slow.clone(), step)]), "output is invalid");
    let answer = Bytes::from(format!("2 {}\n", "a".repeat(64)));
    is_silent(&refused(move || vec![made(), Act::Drip(answer.clone(), step)]), "writing");
    is_silent(&refused(|| vec![Act::Hang]), "writing");
}

#[test]
fn an_unverifiable_map_is_not_trusted() {
    let _deadline = Deadline::seconds(240);
    let bytes = (9 << 20) + 5000;
    let digest = "a".repeat(64);
    let error = says(format!("{MADE}2 {digest} {bytes} 0\n"));
    assert!(matches!(error, TransferError::Arrived { .. }), "{error:?}");
    is_protocol(&says("3\n".to_owned()), "output is invalid");
    is_protocol(&says("1 much\n".to_owned()), "output is invalid");
    is_protocol(&says(format!("{MADE}\x1b[2J\n")), "output is invalid");
    is_protocol(&says("1".repeat(4000)), "output is invalid");
    let full = says("1 17\n".to_owned());
    assert!(matches!(full, TransferError::NoRoom { .. }), "{full:?}");
    let there = says(format!("{MADE}-1 17\n"));
    assert!(matches!(there, TransferError::Exists { .. }), "{there:?}");
}
