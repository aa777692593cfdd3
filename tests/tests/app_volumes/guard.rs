//! The calls that change something: each has its own result, and no others are made.

use stackferry_discover::app_volumes::ManagerError;
use stackferry_tests::avm::{AvmList, AvmVersion, Write};

use super::support::*;

#[test]
fn each_disabled_or_enabled_writable_has_its_own_result() {
    for version in [AvmVersion::V2_17, AvmVersion::V4_15] {
        let double = start(version);
        let manager = manager(&double);
        let results = run(manager.disable(&[2, 99, 1]));
        assert_eq!(results.iter().map(|(id, _)| *id).collect::<Vec<_>>(), [2, 99, 1]);
        assert!(results[0].1.is_ok() && results[2].1.is_ok());
        let error = results[1].1.as_ref().unwrap_err();
        assert!(matches!(error, ManagerError::NotApplied { id: 99, .. }), "{error:?}");
        assert_eq!(
            error.to_string(),
            "App Volumes avm1 did not do /cv_api/writables/disable for volume 99: Volume 99 was not found"
        );
        assert!(run(manager.enable(&[2])).iter().all(|(_, result)| result.is_ok()));
        assert_eq!(double.writes(), [Write::Disable(2), Write::Disable(1), Write::Enable(2)]);
        let asked: Vec<_> = double.write_requests().into_iter().map(|asked| asked.path).collect();
        assert_eq!(asked[0], "/cv_api/writables/disable?volumes%5B%5D=2");
        assert_eq!(asked.len(), 4);
        let statuses =
            double.change(|site| site.of(AvmList::Writable).map(|volume| volume.status.clone()).collect::<Vec<_>>());
        assert_eq!(statuses, ["disabled", "enabled"]);
    }
}

#[test]
fn a_read_only_user_is_reported_after_one_new_login() {
    let double = start(AvmVersion::V4_15);
    double.change(|site| site.users[0].read_only = true);
    let manager = manager(&double);
    look(&manager, 0);
    double.clear();
    let results = run(manager.disable(&[1, 2]));
    for (_, result) in &results {
        let error = result.as_ref().unwrap_err();
        assert!(matches!(error, ManagerError::Denied { .. }), "{error:?}");
        assert!(error.to_string().contains("do not have permission"), "{error}");
        assert!(error.hint().contains("role"));
    }
    assert_eq!((double.logins(), double.writes()), ((1, 0), vec![]));
    assert_eq!(
        double.write_requests().len(),
        2,
        "once before the new login, once after it, and not for the second volume"
    );
    // Reading goes on.
    assert_eq!(look(&manager, 1).volumes.len(), 5);
}

#[test]
fn an_expired_session_does_not_stop_the_guard() {
    let double = start(AvmVersion::V2_17);
    let manager = manager(&double);
    look(&manager, 0);
    double.expire();
    assert!(run(manager.disable(&[1])).iter().all(|(_, result)| result.is_ok()));
    assert_eq!((double.writes(), double.logins().0), (vec![Write::Disable(1)], 2));
}

#[test]
fn the_guard_logs_out_at_the_end() {
    let double = start(AvmVersion::V2_17);
    let manager = manager(&double);
    run(manager.logout()).unwrap();
    assert!(double.requests().is_empty(), "without a session nothing is asked");
    look(&manager, 0);
    assert_eq!(double.sessions(), 1);
    run(manager.logout()).unwrap();
    assert_eq!((double.sessions(), double.count("DELETE /cv_api/sessions")), (0, 1));
    // One that ended by itself is no trouble.
    look(&manager, 1);
    double.expire();
    run(manager.logout()).unwrap();
}
