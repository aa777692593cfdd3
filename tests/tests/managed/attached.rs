//! An attached writable is never copied, whenever it was attached; and the guard that prevents logons meanwhile is always
//! removed again.

use stackferry_tests::avm::{AppVolumesDouble, AvmList, AvmSite, AvmVersion, Write};
use stackferry_tests::check::same_files;
use stackferry_tests::lab::{Lab, wait_for};

use super::support::*;

/// A manager that knows one writable, of `CORP\jdoe`, and an AppStack.
fn site(version: AvmVersion) -> AvmSite {
    let mut site = AvmSite::new(version);
    site.appstack("Office", "nfs01", OFFICE_AT, &guid(1));
    site.writable(r"CORP\jdoe", "nfs01", JDOE_AT, &guid(2));
    site
}

fn attach(double: &AppVolumesDouble, machine: &str) {
    double.change(|site| {
        site.named(AvmList::Writable, r"CORP\jdoe").attach(machine);
    });
}

fn detach(double: &AppVolumesDouble) {
    double.change(|site| {
        site.named(AvmList::Writable, r"CORP\jdoe").detach();
    });
}

fn status(double: &AppVolumesDouble, owner: &str) -> String {
    double.change(|site| site.named(AvmList::Writable, owner).status.clone())
}

#[test]
fn a_writable_is_copied_after_its_user_logs_off() {
    for (route, version) in [("local", AvmVersion::V2_17), ("endpoint", AvmVersion::V4_15)] {
        let (_endpoint, lab, double) = place(route, site(version));
        build(&lab, "nfs01", OFFICE_AT, 1);
        let jdoe = build(&lab, "nfs01", JDOE_AT, 2);
        attach(&double, r"CORP\VDI-7$");
        let round = Round::of(&lab);
        round.is(3, &[(OFFICE, "copied"), (JDOE, "deferred attached")]);
        assert!(round.reason(JDOE).contains("avm1"), "{}", round.reason(JDOE));
        let known = volume(&lab, JDOE);
        assert_eq!((&known["attached"], &known["state"]), (&true.into(), &"deferred".into()));
        assert!(known["remedy"].as_str().unwrap().contains("logged off"), "{known}");
        let copy = lab.run(&["copy", JDOE]).unwrap().expect_code(3).unwrap().json().unwrap();
        assert_eq!((&copy["outcome"], &copy["reason"]["code"]), (&"deferred".into(), &"attached".into()));

        detach(&double);
        Round::of(&lab).is(0, &[(OFFICE, "unchanged"), (JDOE, "copied")]);
        same_files(&jdoe.files(), &lab.restore(JDOE, "restored").unwrap()).unwrap();
        assert!(double.write_requests().is_empty(), "{:?}", double.write_requests());
    }
}

#[test]
fn a_writable_attached_during_its_copy_gets_no_version() {
    for route in ["local", "endpoint"] {
        let (_endpoint, mut lab, double) = place(route, site(AvmVersion::V4_15));
        build(&lab, "nfs01", OFFICE_AT, 1);
        Round::of(&lab).is(3, &[(OFFICE, "copied"), (JDOE, "deferred missing")]);
        let jdoe = build(&lab, "nfs01", JDOE_AT, 2);
        lab.config.set("limits.bandwidth", SLOW);
        let mut round = start(&lab);
        wait_for("a copy in its middle", LIMIT, || Ok(round.has_ended()? || is_under_way(&lab.vault(), &jdoe)))
            .unwrap();
        assert_eq!(double.count("GET /app_volumes/writables/{id}"), 1, "it is asked again right before the copy");
        attach(&double, "VDI-7");
        let round = Round::from(round.wait(LIMIT).unwrap());
        round.is(3, &[(OFFICE, "unchanged"), (JDOE, "deferred attached")]);
        assert_eq!(double.count("GET /app_volumes/writables/{id}"), 2);
        assert!(lab.versions(JDOE).unwrap().is_empty());
        assert!(incoming(&lab.vault()).is_empty(), "{:?}", incoming(&lab.vault()));
        detach(&double);
        lab.config.set("limits.bandwidth", "10GB/s");
        Round::of(&lab).is(0, &[(OFFICE, "unchanged"), (JDOE, "copied")]);
    }
}

#[test]
fn the_guard_disables_and_reenables_only_copied_writables() {
    for version in [AvmVersion::V2_17, AvmVersion::V4_15] {
        let mut site = site(version);
        let path = |name: &str| format!("cloudvolumes/writable/CORP!5C!{name}.vmdk");
        "disabled".clone_into(&mut site.writable(r"CORP\asmith", "nfs01", &path("asmith"), &guid(3)).status);
        site.writable(r"CORP\bob", "nfs01", &path("bob"), &guid(4)).attach("VDI-9");
        let (_endpoint, mut lab, double) = place("local", site);
        lab.config.change_app_volumes("avm1", "guard", Some(true.into()));
        for (number, at) in [OFFICE_AT, JDOE_AT, &path("asmith"), &path("bob")].into_iter().enumerate() {
            build(&lab, "nfs01", at, number as u64);
        }
        let (asmith, bob) = ("writable/CORP!5C!asmith", "writable/CORP!5C!bob");
        Round::of(&lab).is(3, &[(OFFICE, "copied"), (asmith, "copied"), (bob, "deferred attached"), (JDOE, "copied")]);
        assert_eq!(double.writes(), [Write::Disable(1), Write::Enable(1)]);
        assert_eq!(status(&double, r"CORP\asmith"), "disabled", "an administrator had disabled it");
        Round::of(&lab)
            .is(3, &[(OFFICE, "unchanged"), (asmith, "unchanged"), (bob, "deferred attached"), (JDOE, "unchanged")]);
        assert_eq!(double.writes().len(), 2, "what is not copied is not guarded");
        lab.run(&["check"]).unwrap().expect_code(0).unwrap();
    }
}

/// Kills a guarded copy in its middle.
fn kill_guarded(lab: &mut Lab, double: &AppVolumesDouble) {
    lab.config.set("limits.bandwidth", SLOW);
    let mut round = start(lab);
    wait_for("a guarded copy in its middle", LIMIT, || {
        Ok(round.has_ended()? || (!double.writes().is_empty() && !incoming(&lab.vault()).is_empty()))
    })
    .unwrap();
    assert_eq!(round.kill().unwrap().code, 128 + 9);
    assert_eq!(double.writes(), [Write::Disable(1)]);
    lab.config.set("limits.bandwidth", "10GB/s");
}

#[test]
fn the_next_round_reenables_what_a_killed_copy_left_disabled() {
    let mut site = AvmSite::new(AvmVersion::V2_17);
    site.writable(r"CORP\jdoe", "nfs01", JDOE_AT, &guid(2));
    let (_endpoint, mut lab, double) = place("local", site);
    lab.config.change_app_volumes("avm1", "guard", Some(true.into()));
    let jdoe = build(&lab, "nfs01", JDOE_AT, 2);
    kill_guarded(&mut lab, &double);
    assert_eq!(status(&double, r"CORP\jdoe"), "disabled");
    let left = checked(&lab.run(&["check"]).unwrap().expect_code(1).unwrap(), "left at avm1");
    assert!(!left.ok && left.text.contains("put back") && left.hint.contains("stackferry run"), "{left:?}");
    assert_eq!(double.writes(), [Write::Disable(1)], "a check only looks");

    Round::of(&lab).is(0, &[(JDOE, "copied")]);
    // Enabled first, and then guarded again for its copy.
    assert_eq!(double.writes(), [Write::Disable(1), Write::Enable(1), Write::Disable(1), Write::Enable(1)]);
    assert_eq!(status(&double, r"CORP\jdoe"), "enabled");
    lab.run(&["check"]).unwrap().expect_code(0).unwrap();
    same_files(&jdoe.files(), &lab.restore(JDOE, "restored").unwrap()).unwrap();
}

/// What can't be enabled yet stays owed, also where it would not be copied any more.
#[test]
fn a_cleanup_stays_pending_while_its_manager_is_unreachable() {
    let mut site = AvmSite::new(AvmVersion::V4_15);
    site.writable(r"CORP\jdoe", "nfs01", JDOE_AT, &guid(2));
    let (_endpoint, mut lab, double) = place("local", site);
    lab.config.change_app_volumes("avm1", "guard", Some(true.into()));
    build(&lab, "nfs01", JDOE_AT, 2);
    kill_guarded(&mut lab, &double);
    lab.config.change_app_volumes("avm1", "guard", Some(false.into()));
    double.fail("/cv_api/writables/enable", stackferry_tests::avm::AvmFault::ServerError);
    let round = Round::of(&lab);
    assert!(round.stderr.contains("could not be put back"), "{}", round.stderr);
    assert!(!checked(&lab.run(&["check"]).unwrap().expect_code(1).unwrap(), "left at avm1").ok);
    double.heal();
    Round::of(&lab).is(0, &[(JDOE, "unchanged")]);
    // The first time only the answer was lost: it is done again until the manager says that it is done.
    assert_eq!(double.writes(), [Write::Disable(1), Write::Enable(1), Write::Enable(1)]);
    lab.run(&["check"]).unwrap().expect_code(0).unwrap();
}
