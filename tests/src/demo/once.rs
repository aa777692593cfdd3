//! One full demonstration: found, copied, verified, changed, restored, rebuilt.

use std::fs;
use std::path::Path;
use std::time::Instant;

use serde_json::Value;

use super::inventory::{copyable, judge_inventory, manifests, show_copies, show_inventory};
use super::listed::{expect, id_of, list, number, text, volume_on};
use super::manager::manager;
use super::print::{print, size, step};
use super::stage::{DemoStage, LOCAL, REMOTE};
use crate::check::{allocated_bytes, same_files};
use crate::error::{IoContext, LabError};
use crate::lab::Lab;
use crate::site::SitePlan;

/// Builds a small site, protects it, restores from it, and judges every step.
///
/// # Errors
/// What went wrong; a demonstration that ends without an error has shown what it says.
pub fn once(program: &Path, keep: Option<&Path>) -> Result<(), LabError> {
    let began = Instant::now();
    step("a small App Volumes site");
    let mut stage = DemoStage::build(program, keep, &SitePlan::small())?;
    let files: u64 = stage.site.volumes.iter().filter_map(|volume| Some(volume.bytes()?.1)).sum();
    print(format_args!(
        "  {} volumes on {LOCAL} (mounted here) and {REMOTE} (served by an endpoint at {}), {} of data",
        stage.site.volumes.len(),
        stage.endpoint.address(),
        size(files)
    ));

    check(&stage.lab)?;
    let listed = discover(&stage)?;
    first_round(&stage)?;
    second_round(&stage)?;
    verify(&stage.lab)?;
    change(&mut stage, &listed)?;
    restore(&stage, &listed)?;
    rebuild(&stage, &listed)?;
    manager(program)?;

    step("done");
    stage.endpoint.terminate()?.expect_code(0)?;
    stage.print_folder(keep);
    print(format_args!("everything was restored unchanged, in {:.1} s", began.elapsed().as_secs_f64()));
    Ok(())
}

fn check(lab: &Lab) -> Result<(), LabError> {
    step("stackferry check");
    let answer = lab.run_json(&["check"])?;
    for one in list(&answer, "checks") {
        let mark = if one.get("ok").and_then(Value::as_bool) == Some(true) { "ok" } else { "FAIL" };
        print(format_args!("  {mark:4} {}: {}", text(one, "subject"), text(one, "text")));
    }
    Ok(())
}

fn discover(stage: &DemoStage) -> Result<Vec<Value>, LabError> {
    step("stackferry discover");
    let answer = stage.lab.run_json(&["discover"])?;
    let listed = answer.as_array().cloned().unwrap_or_default();
    show_inventory(&listed);
    judge_inventory(&stage.site, &listed)?;
    Ok(listed)
}

fn first_round(stage: &DemoStage) -> Result<(), LabError> {
    step("stackferry run --once");
    let began = Instant::now();
    let answer = stage.lab.run_json(&["run", "--once"])?;
    let seconds = began.elapsed().as_secs_f64();
    let wanted = copyable(&stage.site);
    let copied = number(&answer, "copied");
    expect(copied == wanted, || format!("{copied} of {wanted} volumes were copied: {answer}"))?;
    let manifests = manifests(&stage.lab.vault())?;
    show_copies(&manifests);
    expect(manifests.len() as u64 == wanted, || format!("the vault holds {} versions", manifests.len()))?;
    for route in ["local", "endpoint"] {
        expect(manifests.iter().any(|one| text(one, "route") == route), || format!("nothing came by route {route}"))?;
    }
    print(format_args!("  {copied} copied, {} can't be, in {seconds:.1} s", number(&answer, "unprotectable")));
    Ok(())
}

fn second_round(stage: &DemoStage) -> Result<(), LabError> {
    step("stackferry run --once, again");
    let answer = stage.lab.run_json(&["run", "--once"])?;
    let (copied, unchanged) = (number(&answer, "copied"), number(&answer, "unchanged"));
    expect(copied == 0 && unchanged == copyable(&stage.site), || format!("a quiet round was not quiet: {answer}"))?;
    print(format_args!("  {copied} copied, {unchanged} unchanged"));
    Ok(())
}

fn verify(lab: &Lab) -> Result<(), LabError> {
    step("stackferry verify");
    let answer = lab.run_json(&["verify"])?;
    let (checked, ok) = (number(&answer, "checked"), number(&answer, "ok"));
    expect(checked > 0 && checked == ok, || format!("not every version is whole: {answer}"))?;
    print(format_args!("  {checked} versions read back, {ok} whole"));
    Ok(())
}

fn change(stage: &mut DemoStage, listed: &[Value]) -> Result<(), LabError> {
    let (kind, stem) = ("writable", "CORP!5C!asmith");
    let id = id_of(listed, volume_on(&stage.site, kind, stem, LOCAL)?.0)?;
    step(format_args!("{id} changes, then stackferry run --once"));
    if let Some(disk) = stage.site.disk_mut(LOCAL, kind, stem) {
        disk.append_file("report.docx", 7, 1 << 20)?;
    }
    let answer = stage.lab.run_json(&["run", "--once"])?;
    let copied: Vec<&str> = list(&answer, "volumes")
        .iter()
        .filter(|one| text(one, "outcome") == "copied")
        .map(|one| text(one, "volume"))
        .collect();
    expect(copied == [id.as_str()], || format!("{copied:?} were copied"))?;
    let versions = stage.lab.run_json(&["versions", &id])?;
    let count = versions.as_array().map_or(0, Vec::len);
    expect(count == 2, || format!("it has {count} versions"))?;
    print(format_args!("  1 copied, now it has {count} versions"));
    Ok(())
}

fn restore(stage: &DemoStage, listed: &[Value]) -> Result<(), LabError> {
    step("stackferry restore");
    let wanted = [
        ("appstack", "Office", LOCAL),
        ("writable", "CORP!5C!asmith", LOCAL),
        ("package", "Visio", REMOTE),
        ("writable", "CORP!5C!jdoe", REMOTE),
    ];
    for (number, (kind, stem, datastore)) in wanted.into_iter().enumerate() {
        let (volume, location) = volume_on(&stage.site, kind, stem, datastore)?;
        let id = id_of(listed, volume)?;
        let to = stage.lab.path(&format!("restored-{number}"));
        stage.lab.run_json(&["restore".as_ref(), id.as_ref(), "--to".as_ref(), to.as_os_str()])?;
        let bytes = same_files(&stage.site.files(location), &to)?;
        let taken = location.files.iter().map(|name| allocated_bytes(&to.join(name)));
        let taken: u64 = taken.collect::<Result<Vec<_>, _>>()?.into_iter().sum();
        print(format_args!(
            "  {id}: {} files, {}, byte for byte the same; on disk it takes {}",
            location.files.len(),
            size(bytes),
            size(taken)
        ));
    }
    Ok(())
}

fn rebuild(stage: &DemoStage, listed: &[Value]) -> Result<(), LabError> {
    step("the state folder is lost: stackferry rebuild");
    let ids: Vec<&str> = listed
        .iter()
        .filter(|one| one.get("protectable").and_then(Value::as_bool) == Some(true))
        .map(|one| text(one, "id"))
        .collect();
    let versions = || -> Result<Vec<Value>, LabError> {
        ids.iter().map(|id| Ok(without_history(stage.lab.run_json(&["versions", id])?))).collect()
    };
    let before = versions()?;
    let state = stage.lab.path("state");
    fs::remove_dir_all(&state).at("remove", &state)?;
    let answer = stage.lab.run_json(&["rebuild"])?;
    let after = versions()?;
    expect(before == after, || format!("the versions differ.\nbefore: {before:?}\nafter: {after:?}"))?;
    expect(number(&answer, "damaged") == 0, || format!("something is damaged: {answer}"))?;
    print(format_args!(
        "  {} volumes with {} versions, the same as before",
        number(&answer, "volumes"),
        number(&answer, "versions")
    ));
    let answer = stage.lab.run_json(&["run", "--once"])?;
    let (copied, unchanged) = (number(&answer, "copied"), number(&answer, "unchanged"));
    expect(copied == 0 && unchanged == copyable(&stage.site), || format!("volumes were not recognized: {answer}"))?;
    print(format_args!("  stackferry run --once recognizes all of them: {copied} copied, {unchanged} unchanged"));
    Ok(())
}

/// Versions without what only the catalog knows: when they were last read back.
fn without_history(mut versions: Value) -> Value {
    for one in versions.as_array_mut().into_iter().flatten() {
        if let Some(one) = one.as_object_mut() {
            one.remove("last_verified");
        }
    }
    versions
}
