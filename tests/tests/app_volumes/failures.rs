//! Every failure of a manager: reported by name, with a hint, and never made worse.

use std::time::{Duration, Instant};

use stackferry_config::Secret;
use stackferry_discover::app_volumes::{Manager, ManagerError, RequestTimeouts, VolumeFamily};
use stackferry_https::{HttpsError, Retry};
use stackferry_tests::avm::{AvmFault, AvmVersion};
use stackferry_volume::SiteName;

use super::support::*;

#[test]
fn an_expired_session_costs_one_new_login() {
    for version in [AvmVersion::V2_17, AvmVersion::V4_15] {
        let whole = {
            let double = start(version);
            look(&manager(&double), 0);
            double.requests().len()
        };
        for after in 0..whole {
            let double = start(version);
            double.expire_after(after);
            let report = look(&manager(&double), 0);
            assert!(report.complete && report.problems.is_empty(), "{after}: {:?}", report.problems);
            assert!(double.logins().0 <= 2 && double.logins().1 == 0, "{after}: {:?}", double.logins());
        }
    }
}

#[test]
fn a_session_is_kept_between_scans_and_renewed_once() {
    let double = start(AvmVersion::V4_15);
    let manager = manager(&double);
    for minutes in 0..3 {
        look(&manager, minutes);
    }
    assert_eq!(double.logins(), (1, 0));
    double.expire();
    look(&manager, 4);
    assert_eq!(double.logins(), (2, 0));
}

#[test]
fn status_401_403_and_a_redirect_all_end_a_session() {
    for fault in [AvmFault::Denied, AvmFault::Unauthorized, AvmFault::Redirect] {
        let double = start(AvmVersion::V4_15);
        double.fail_times("/app_volumes/app_packages", fault, 1);
        let report = look(&manager(&double), 0);
        assert!(report.complete && report.problems.is_empty(), "{fault:?}: {:?}", report.problems);
        assert_eq!(double.logins(), (2, 0), "{fault:?}");
    }
}

#[test]
fn a_manager_that_always_refuses_gets_one_new_login() {
    for fault in [AvmFault::Denied, AvmFault::Unauthorized, AvmFault::Redirect] {
        let double = start(AvmVersion::V2_17);
        double.fail("/cv_api/appstacks", fault);
        let error = run_look(&manager(&double), 0).unwrap_err();
        let is_right = match fault {
            AvmFault::Redirect => matches!(error, ManagerError::Status { path: "/cv_api/appstacks", status: 302, .. }),
            _ => matches!(error, ManagerError::Denied { path: "/cv_api/appstacks", .. }),
        };
        assert!(is_right, "{error:?}");
        assert_eq!((double.logins(), error.retry()), ((2, 0), Retry::Permanent), "{fault:?}");
        assert_eq!(double.count("GET /cv_api/appstacks"), 2, "{fault:?}");
    }
}

#[test]
fn an_error_with_an_empty_list_is_not_an_empty_site() {
    for (version, path) in [(AvmVersion::V2_17, "/cv_api/writables"), (AvmVersion::V4_15, "/app_volumes/writables")] {
        let double = start(version);
        double.fail(path, AvmFault::ErrorBesideNothing);
        let error = run_look(&manager(&double), 0).unwrap_err();
        assert!(error.to_string().contains("Unable to reach vCenter"), "{error}");
    }
}

#[test]
fn a_byte_order_mark_is_accepted() {
    let double = start(AvmVersion::V4_15);
    for path in ["/cv_api/version", "/cv_api/sessions", "/app_volumes/writables"] {
        double.fail(path, AvmFault::ByteOrderMark);
    }
    assert_eq!(look(&manager(&double), 0).volumes.len(), 5);
}

#[test]
fn a_login_refused_with_http_200_is_not_retried() {
    let double = start(AvmVersion::V4_15);
    double.change(|site| site.refuses_with_200 = true);
    let manager = manager_with(&double, "wrong", RequestTimeouts::default());
    for minutes in 0..3 {
        let error = run_look(&manager, minutes).unwrap_err();
        assert!(matches!(error, ManagerError::LoginRefused { .. }), "{error:?}");
    }
    assert_eq!(double.logins(), (0, 1));
}

#[test]
fn a_wrong_password_is_not_retried_until_it_changes() {
    let double = start(AvmVersion::V4_15);
    let manager = manager_with(&double, "wrong", RequestTimeouts::default());
    for minutes in 0..3 {
        let error = run_look(&manager, minutes).unwrap_err();
        assert_eq!(
            error.to_string(),
            r"App Volumes avm1 refuses the login of CORP\svc-stackferry: Invalid user name or password"
        );
        assert_eq!(error.retry(), Retry::Permanent);
        assert!(error.hint().contains("DOMAIN\\user") && !format!("{error:?}{}", error.hint()).contains("wrong"));
    }
    assert_eq!(double.logins(), (0, 1));
    assert!(run(manager.is_refused()));
    assert!(run(manager.disable(&[1, 2])).iter().all(|(_, result)| result.is_err()));
    assert_eq!(double.logins(), (0, 1), "the guard does not try it either");
    run(manager.set_password(Secret::new("right".to_owned())));
    assert_eq!(look(&manager, 5).volumes.len(), 5);
    assert_eq!(double.logins(), (1, 1));
}

#[test]
fn a_login_that_fails_for_another_reason_is_retried() {
    for fault in [AvmFault::ServerError, AvmFault::Cut, AvmFault::WebPage] {
        let double = start(AvmVersion::V2_17);
        double.fail_times("/cv_api/sessions", fault, 1);
        let manager = manager(&double);
        // A web page has the cookie of nobody.
        assert!(run_look(&manager, 0).is_err(), "{fault:?}");
        assert!(!run(manager.is_refused()), "{fault:?}");
        assert_eq!(look(&manager, 1).volumes.len(), 4, "{fault:?}");
    }
}

#[test]
fn a_failed_new_login_is_not_retried_by_each_request() {
    let double = start(AvmVersion::V4_15);
    let manager = manager(&double);
    look(&manager, 0);
    double.expire();
    double.clear();
    double.fail("/cv_api/sessions", AvmFault::ServerError);
    let error = run_look(&manager, 1).unwrap_err();
    assert!(matches!(error, ManagerError::Status { path: "/cv_api/sessions", status: 500, .. }), "{error:?}");
    assert_eq!(double.count("POST /cv_api/sessions"), 1);
    double.heal();
    assert_eq!(look(&manager, 2).volumes.len(), 5);

    // The same while details are asked, four at once.
    double.clear();
    double.change(|site| site.storage("vmfs01", "VMFS", true).present = false);
    double.fail("/cv_api/appstacks/{id}", AvmFault::Denied);
    double.fail("/cv_api/sessions", AvmFault::ServerError);
    let report = look(&manager, 3);
    assert_eq!((report.problems.len(), report.complete), (1, true));
    assert_eq!(double.count("POST /cv_api/sessions"), 1);
}

#[test]
fn an_invalid_response_is_an_error_with_a_hint() {
    type Check = fn(&ManagerError) -> bool;
    let bad: [(AvmFault, Retry, Check); 7] = [
        (AvmFault::WebPage, Retry::Permanent, |error| matches!(error, ManagerError::WebPage { .. })),
        (
            AvmFault::Truncated,
            Retry::Transient,
            |error| matches!(error, ManagerError::InvalidResponse { why, .. } if why.contains("ends too early")),
        ),
        (
            AvmFault::Gzip,
            Retry::Transient,
            |error| matches!(error, ManagerError::InvalidResponse { why, .. } if why.contains("compressed (gzip)")),
        ),
        (AvmFault::ServerError, Retry::Transient, |error| matches!(error, ManagerError::Status { status: 500, .. })),
        (AvmFault::Redirect, Retry::Permanent, |error| matches!(error, ManagerError::Status { status: 302, .. })),
        (AvmFault::Cut, Retry::Transient, |error| {
            matches!(error, ManagerError::Https { source: HttpsError::Broken { .. }, .. })
        }),
        (AvmFault::Huge(70 << 20), Retry::Permanent, |error| {
            matches!(error, ManagerError::Https { source: HttpsError::TooLong { .. }, .. })
        }),
    ];
    for (version, path) in [(AvmVersion::V2_17, "/cv_api/writables"), (AvmVersion::V4_15, "/app_volumes/app_packages")]
    {
        let double = start(version);
        let manager = manager(&double);
        for (fault, retry, is_right) in bad {
            double.fail(path, fault);
            let error = run_look(&manager, 0).unwrap_err();
            assert!(is_right(&error), "{fault:?}: {error:?}");
            let cause = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
            let text = format!("{error} {cause}");
            assert!(text.contains("avm1") && text.contains(path), "{text}");
            assert!(!error.hint().is_empty() && error.retry() == retry, "{fault:?}: {}", error.hint());
            double.heal();
        }
        assert_eq!(look(&manager, 1).volumes.len(), if version.is_four() { 5 } else { 4 });
    }
}

#[test]
fn optional_data_may_be_missing_and_is_reported() {
    for path in [
        "/cv_api/storages",
        "/cv_api/datastores",
        "/cv_api/storage_groups",
        "/cv_api/storage_groups/{id}",
        "/cv_api/assignments",
        "/app_volumes/app_assignments",
    ] {
        let double = start(AvmVersion::V4_15);
        double.fail(path, AvmFault::ServerError);
        let report = look(&manager(&double), 0);
        assert_eq!((report.volumes.len(), report.complete), (5, true), "{path}");
        assert_eq!(report.problems.len(), 1, "{path}: {:?}", report.problems);
        let problem = &report.problems[0];
        assert!(problem.subject == "App Volumes avm1" && problem.text.contains("HTTP 500"), "{problem:?}");
        assert!(!problem.hint.is_empty());
        // What an older manager does not have is no problem.
        double.heal();
        double.fail(path, AvmFault::NotFound);
        assert!(look(&manager(&double), 0).problems.is_empty(), "{path}");
    }
}

#[test]
fn a_failed_detail_keeps_known_data_and_is_retried() {
    let double = start(AvmVersion::V2_17);
    let manager = manager(&double);
    double.fail("/cv_api/appstacks/{id}/files", AvmFault::ServerError);
    let report = look(&manager, 0);
    assert!(!report.complete, "nobody knows where its AppStacks lie");
    assert_eq!((report.volumes.len(), report.problems.len()), (4, 1));
    assert!(report.problems[0].text.contains("2 volumes"), "{:?}", report.problems);
    double.heal();
    let report = look(&manager, 1);
    assert!(report.complete && report.problems.is_empty());

    // Once known, it stays known when it can't be asked.
    double.fail("/cv_api/appstacks/{id}", AvmFault::Truncated);
    let report = look(&manager, 90);
    assert!(report.complete);
    assert_eq!(report.problems.len(), 1);
    assert_eq!(volume(&report, VolumeFamily::AppStack, "R&D <beta>").places.len(), 2);
}

#[test]
fn a_manager_whose_details_all_fail_gets_few_requests() {
    let double = start(AvmVersion::V2_17);
    double.change(|site| {
        for number in 0..50 {
            site.appstack(&format!("App {number}"), "nfs01", &format!("cloudvolumes/apps/{number}.vmdk"), "");
        }
    });
    double.fail("/cv_api/appstacks/{id}", AvmFault::ServerError);
    let report = look(&manager(&double), 0);
    assert_eq!((report.volumes.len(), report.complete), (54, false));
    assert!(double.details() <= 12, "{} details", double.details());
    assert!(report.problems[0].text.contains("52 volumes"), "{:?}", report.problems);
}

#[test]
fn a_volume_deleted_during_a_scan_is_skipped() {
    let double = start(AvmVersion::V4_15);
    double.fail("/app_volumes/app_packages/{id}/files", AvmFault::NotFound);
    double.fail("/app_volumes/app_packages/{id}", AvmFault::NotFound);
    double.fail("/cv_api/appstacks/{id}", AvmFault::NotFound);
    let report = look(&manager(&double), 0);
    assert_eq!((report.volumes.len(), report.complete, report.problems.len()), (2, true, 0));
}

#[test]
fn a_slow_manager_runs_into_a_timeout() {
    let double = start(AvmVersion::V2_17);
    let short = Duration::from_millis(300);
    let began = Instant::now();
    double.fail("/cv_api/writables", AvmFault::Slow(Duration::from_secs(60)));
    let manager = manager_with(&double, "right", RequestTimeouts { request: short, scan: Duration::from_secs(60) });
    let error = run_look(&manager, 0).unwrap_err();
    assert!(matches!(error, ManagerError::Https { source: HttpsError::Stalled { .. }, .. }), "{error:?}");
    assert_eq!(error.retry(), Retry::Transient);

    let manager = manager_with(&double, "right", RequestTimeouts { request: Duration::from_secs(60), scan: short });
    let error = run_look(&manager, 0).unwrap_err();
    assert!(matches!(error, ManagerError::Timeout { .. }), "{error:?}");
    assert!(began.elapsed() < Duration::from_secs(30));
}

#[test]
fn a_certificate_needs_its_fingerprint_or_authority() {
    let double = start(AvmVersion::V4_15);
    let folder = tempfile::tempdir().unwrap();
    let ca = folder.path().join("ca.pem");
    std::fs::write(&ca, double.ca_pem()).unwrap();
    let other = start(AvmVersion::V2_17);
    let other_ca = folder.path().join("other.pem");
    std::fs::write(&other_ca, other.ca_pem()).unwrap();
    let manager = |trust: serde_json::Value| {
        let entry = entry(&double, trust);
        let password = Secret::new("right".to_owned());
        Manager::new(&entry, SiteName("dc1".to_owned()), password, RequestTimeouts::default()).unwrap()
    };
    assert_eq!(look(&manager(serde_json::json!({ "ca": ca })), 0).volumes.len(), 5);
    double.clear();
    for trust in [
        serde_json::json!({}),
        serde_json::json!({ "ca": other_ca }),
        serde_json::json!({ "fingerprint": other.fingerprint() }),
    ] {
        let error = run_look(&manager(trust.clone()), 0).unwrap_err();
        assert!(
            matches!(error, ManagerError::Https { source: HttpsError::Certificate { .. }, .. }),
            "{trust}: {error:?}"
        );
        assert_eq!(error.retry(), Retry::Permanent);
        assert!(error.hint().contains("fingerprint"), "{}", error.hint());
    }
    assert!(double.requests().is_empty(), "nothing is sent to who is not known, a password least of all");
}

#[test]
fn an_unreachable_manager_is_reported_as_such() {
    let double = start(AvmVersion::V2_17);
    let manager = manager(&double);
    drop(double);
    let error = run_look(&manager, 0).unwrap_err();
    assert!(matches!(error, ManagerError::Https { source: HttpsError::Unreachable { .. }, .. }), "{error:?}");
    assert_eq!(error.retry(), Retry::Transient);
}
