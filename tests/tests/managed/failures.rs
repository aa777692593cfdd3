//! A manager that can't be used: reported with a hint; its writables wait, and everything else continues.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use stackferry_tests::avm::{AppVolumesDouble, AvmFault, AvmList, AvmSite, AvmVersion};
use stackferry_tests::lab::{Lab, wait_for};

use super::support::*;

const WRONG: &str = "n0t-the-password";

/// How a manager was found.
struct Trouble {
    round: Round,
    checked: Checked,
    /// How often it was logged in at in the round, and in vain; none where it is gone.
    logins: Option<(usize, usize)>,
}

/// Two sites, each with an AppStack and a writable; `spoil` does something to the first one's manager or to the
/// configuration.
fn troubled(spoil: impl FnOnce(&mut Lab, AppVolumesDouble) -> Option<AppVolumesDouble>) -> Trouble {
    let mut lab = Lab::new(LAB).unwrap();
    let mut doubles = Vec::new();
    for (name, site) in [("avm1", "dc1"), ("avm2", "dc2")] {
        let mut managed = AvmSite::new(AvmVersion::V2_17);
        let (app, user) = (format!("App-{site}"), format!(r"CORP\user-{site}"));
        let at = [format!("cloudvolumes/apps/{app}.vmdk"), format!("cloudvolumes/writable/CORP!5C!user-{site}.vmdk")];
        managed.appstack(&app, "nfs01", &at[0], &guid(1));
        managed.writable(&user, "nfs01", &at[1], &guid(2));
        at.iter().for_each(|at| drop(build(&lab, &format!("{site}-nfs01"), at, 1)));
        let double = AppVolumesDouble::start(managed).unwrap();
        lab.add_local_at(site, "nfs01", &format!("{site}-nfs01")).unwrap();
        lab.add_app_volumes(name, Some(site), &double).unwrap();
        doubles.push(double);
    }
    let spoilt = spoil(&mut lab, doubles.remove(0));
    let round = Round::of(&lab);
    let logins = spoilt.as_ref().map(AppVolumesDouble::logins);
    round.is(
        3,
        &[
            ("appstack/App-dc1", "copied"),
            ("appstack/App-dc2", "copied"),
            ("writable/CORP!5C!user-dc1", "deferred attachment_unknown"),
            ("writable/CORP!5C!user-dc2", "copied"),
        ],
    );
    assert!(round.reason("writable/CORP!5C!user-dc1").contains("avm1"), "{}", round.answer);
    let answer = lab.run(&["check"]).unwrap().expect_code(1).unwrap();
    assert!(checked(&answer, "app_volumes avm2").ok, "the other one is well");
    // Whatever is wrong with it, it is no place for a secret.
    assert!(!answer.stdout.contains(WRONG) && !round.stderr.contains(WRONG));
    Trouble { checked: checked(&answer, "app_volumes avm1"), round, logins }
}

/// The same words in the round's warning and in `check`: both name the manager, and say what to do. Gives text and hint.
fn error_text(trouble: &Trouble, code: &str) -> (String, String) {
    let (text, hint) = trouble.round.warning("App Volumes Manager avm1");
    let Checked { ok, code: found, text: checked, hint: what_to_do } = &trouble.checked;
    assert_eq!((*ok, found.as_str(), checked, what_to_do), (false, code, &text, &hint));
    assert!(text.contains("avm1") && !hint.is_empty(), "{text}");
    (text, hint)
}

#[test]
fn one_run_tries_a_wrong_password_once() {
    let trouble = troubled(|lab, double| {
        std::fs::write(lab.path("avm1.pass"), format!("{WRONG}\n")).unwrap();
        Some(double)
    });
    let (text, hint) = error_text(&trouble, "login_refused");
    assert!(text.contains(r"refuses the login of CORP\svc-stackferry"), "{text}");
    assert!(hint.contains(r"DOMAIN\user"), "{hint}");
    assert_eq!(trouble.logins, Some((0, 1)), "an account may be locked after a few");
}

#[test]
fn an_untrusted_certificate_is_refused_and_shown() {
    let mut shown = String::new();
    let trouble = troubled(|lab, double| {
        lab.config.change_app_volumes("avm1", "fingerprint", None);
        double.fingerprint().clone_into(&mut shown);
        Some(double)
    });
    let (text, hint) = error_text(&trouble, "certificate_refused");
    assert!(text.contains("certificate"), "{text}");
    assert!(hint.contains(&shown), "{hint}");
    assert_eq!(trouble.logins, Some((0, 0)), "no password is shown to a stranger");
}

#[test]
fn a_web_page_is_not_accepted_as_a_manager() {
    let trouble = troubled(|_, double| {
        double.fail("/cv_api/version", AvmFault::WebPage);
        Some(double)
    });
    let (text, hint) = error_text(&trouble, "protocol");
    assert!(text.contains("web page") && hint.contains("url"), "{text} {hint}");
}

#[test]
fn appstacks_are_copied_while_a_manager_is_unreachable() {
    let (text, hint) = error_text(
        &troubled(|_, double| {
            drop(double);
            None
        }),
        "unreachable",
    );
    assert!(text.contains("unreachable") && hint.contains("address"), "{text} {hint}");
}

#[test]
fn a_partial_list_of_a_failing_manager_is_discarded() {
    for (fault, code) in
        [(AvmFault::ServerError, "refused"), (AvmFault::Truncated, "protocol"), (AvmFault::Cut, "protocol")]
    {
        let trouble = troubled(|_, double| {
            double.fail("/cv_api/writables", fault);
            Some(double)
        });
        let (text, _) = error_text(&trouble, code);
        assert!(text.contains("writables"), "{text}");
    }
}

/// A lab with one writable, which its manager knows.
fn with_a_writable() -> (Lab, AppVolumesDouble) {
    let mut site = AvmSite::new(AvmVersion::V4_15);
    site.writable(r"CORP\jdoe", "nfs01", JDOE_AT, &guid(2));
    let (_, lab, double) = place("local", site);
    build(&lab, "nfs01", JDOE_AT, 2);
    (lab, double)
}

#[test]
fn a_writable_waits_until_its_manager_reports_it_detached() {
    let (lab, double) = with_a_writable();
    for (word, expected) in [
        ("", "deferred attachment_unknown"),
        ("Getrennt", "deferred attachment_unknown"),
        ("Attaching", "deferred attached"),
        ("Attached (VDI-1)", "deferred attached"),
        ("Detached", "copied"),
    ] {
        double.change(|site| site.named(AvmList::Writable, r"CORP\jdoe").attached_word = Some(word.to_owned()));
        let round = Round::of(&lab);
        round.is(if expected == "copied" { 0 } else { 3 }, &[(JDOE, expected)]);
        assert!(expected == "copied" || round.reason(JDOE).contains("avm1"), "{}", round.answer);
    }
}

#[test]
fn check_names_a_datastore_unknown_to_vsphere_and_logs_out() {
    let (mut lab, double) = with_a_writable();
    for _ in 0..2 {
        let answer = lab.run(&["check"]).unwrap();
        assert!(!answer.stdout.contains("name of datastore"), "{}", answer.stdout);
        assert_eq!(double.sessions(), 0, "no session is left behind");
    }
    lab.add_local("NFS-01").unwrap();
    let checked = checked(&lab.run(&["check"]).unwrap().expect_code(1).unwrap(), "name of datastore NFS-01");
    assert!(!checked.ok && checked.hint.contains("nfs01"), "{}", checked.hint);
}

#[test]
fn an_interrupt_ends_every_wait_for_a_system() {
    const NEVER: Duration = Duration::from_secs(120);
    let (lab, double) = with_a_writable();
    let commands: [&[&str]; 4] = [&["discover"], &["check"], &["run", "--once"], &["copy", JDOE]];
    for (signal, args) in [Signal::INT, Signal::TERM].into_iter().cycle().zip(commands) {
        double.clear();
        double.fail("/cv_api/storages", AvmFault::Slow(NEVER));
        let mut running = lab.spawn(args).unwrap();
        wait_for("the question", LIMIT, || Ok(double.count("GET /cv_api/storages") > 0)).unwrap();
        let asked = Instant::now();
        running.signal(signal).unwrap();
        let answer = running.wait(LIMIT).unwrap();
        assert_eq!(answer.code, 130, "{args:?}: {}", answer.stderr);
        // It takes a second; a busy machine gets more.
        assert!(asked.elapsed() < Duration::from_secs(20), "{args:?} took {:?}", asked.elapsed());
        double.heal();
    }
}
