//! What this crate logs holds no secret, at any level. In a process of its own, for it listens to all of it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::disallowed_methods)]
// Ranges of data in a file are lists of ranges, of one as of several.
#![allow(clippy::single_range_in_vec_init)]

#[path = "transfer/support/mod.rs"]
#[allow(dead_code)]
mod support;

use std::io::Write;
use std::sync::{Arc, Mutex};

use stackferry_transfer::TransferError;
use support::Deadline;
use support::files::{MIB, sparse};
use support::openssh::{OpenSsh, said};
use support::place::{DATASTORE, Place, context};
use support::raw;

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn no_secret_is_in_a_log_or_an_error() {
    let _deadline = Deadline::seconds(120);
    let log = Log::default();
    let writer = log.clone();
    tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_writer(move || writer.clone()).init();
    let place = Place::new();
    let name = "apps/a-flat.vmdk";
    sparse(&place.path(name), 3 * MIB, &[0..MIB]);
    let mut secrets = Vec::new();
    let mut users = Vec::new();

    // A copy, one that is refused, and stock clients with a right and a used password.
    let sink = place.sink("out", 3 * MIB);
    place
        .client()
        .copy(DATASTORE, place.file(name, &sink), &context(), &mut |credential| {
            secrets.push(credential.password.expose().to_owned());
            users.push(credential.user.clone());
            assert!(!format!("{credential:?}").contains(credential.password.expose()));
        })
        .unwrap();
    let error = place
        .client()
        .copy(DATASTORE, place.file(name, &sink), &context(), &mut |credential| {
            secrets.push(credential.password.expose().to_owned());
            users.push(credential.user.clone());
            let used = raw::may_log_in(place.address, &credential.user, credential.password.expose());
            assert!(place.runtime.block_on(used));
        })
        .unwrap_err();
    assert!(matches!(error, TransferError::LoginRefused { .. }), "{error:?}");
    let mut shown = format!("{error:?} {}", stackferry_transfer::describe(&error));
    let credential = place.credential(name);
    let out = place.home.path().join("scp");
    let from = format!("HOST:/{DATASTORE}/{name}");
    for _ in 0..2 {
        shown += &said(&OpenSsh::new(&place).run("scp", &["-vv", &from, out.to_str().unwrap()], &credential, None));
    }
    secrets.push(credential.password.expose().to_owned());
    users.push(credential.user.clone());

    let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    for what in ["credential issued", "credential used", "credential refused"] {
        assert!(log.contains(what), "{what} is not in the log:\n{log}");
    }
    for user in &users {
        assert!(log.contains(user.as_str()), "the public name {user} is not in the log");
    }
    for secret in &secrets {
        assert_eq!(secret.len(), 64);
        assert!(!log.contains(secret.as_str()), "a secret is in the log");
        assert!(!shown.contains(secret.as_str()), "a secret is in an error");
    }
}
