//! The long lane: a thin AppStack of 20 GiB with 2 GiB in a real NTFS, by every route, judged by other programs too.

use std::path::Path;
use std::time::Instant;

use serde_json::Value;

use super::{LOCAL, REMOTE, expect, list, number, say, size, step, text};
use crate::check::{allocated_bytes, same_files};
use crate::disk::{Content, Disk, DiskSpec, Sidecar, mount_and_digest};
use crate::error::LabError;
use crate::lab::{Endpoint, Lab};
use crate::site::SitePlan;
use crate::tools::{available, qemu_img_compare};

/// What a copy and what a restored disk may take, beyond 1.01 times the source: file systems round up.
const ROUNDING: u64 = 64 << 10;

/// Copies and restores a large disk by every route.
///
/// # Errors
/// What went wrong, or a tool that is missing.
pub fn long(program: &Path, keep: Option<&Path>) -> Result<(), LabError> {
    let tools = available();
    for (there, what) in [
        (tools.qemu_img, "qemu-img"),
        (tools.makes_ntfs(), "mkntfs, and ntfs-3g or ntfscp to fill it"),
        (tools.mounts_ntfs(), "ntfs-3g, /dev/fuse and root"),
    ] {
        if !there {
            return Err(LabError::Missing(what));
        }
    }
    for route in ["local", "endpoint"] {
        let keep = keep.map(|folder| folder.join(route));
        let lab = match &keep {
            Some(folder) => Lab::keep(program, folder)?,
            None => Lab::new(program)?,
        };
        by_route(lab, route)?;
    }
    step("done");
    Ok(())
}

fn by_route(mut lab: Lab, route: &str) -> Result<(), LabError> {
    step(format_args!("by route {route}"));
    let plan = SitePlan::large();
    let datastore = if route == "local" { LOCAL } else { REMOTE };
    let folder = "cloudvolumes/apps";
    let spec = DiskSpec::new("Office", plan.office.bytes, plan.seed).sidecar(Sidecar::Metadata);
    let began = Instant::now();
    let disk = Disk::build(&lab.folder(datastore, folder)?, spec.content(Content::Ntfs { bytes: plan.office.data }))?;
    let source = disk.allocated()?;
    say(format_args!(
        "  a disk of {} with {} in an NTFS, made in {:.0} s",
        size(plan.office.bytes),
        size(source),
        began.elapsed().as_secs_f64()
    ));
    let mut endpoint: Option<Endpoint> = None;
    if route == "local" {
        lab.add_local(datastore)?;
    } else {
        let started = lab.serve(&[datastore])?;
        lab.add_endpoint(datastore, &started)?;
        endpoint = Some(started);
    }

    let answer = lab.run(&["copy", "appstack/Office"])?;
    let copy = answer.done()?;
    let bytes = copy.get("bytes").cloned().unwrap_or(Value::Null);
    say(format_args!(
        "  copied in {:.1} s ({}/s of data): read {}, zero {}, wire {}, stored {}",
        copy.get("seconds").and_then(Value::as_f64).unwrap_or_default(),
        size(per_second(number(&bytes, "read"), &copy)),
        size(number(&bytes, "read")),
        size(number(&bytes, "zero")),
        size(number(&bytes, "wire")),
        size(number(&bytes, "stored"))
    ));
    say(format_args!("  memory: the service took at most {}", size(answer.peak_memory)));
    if let Some(endpoint) = &mut endpoint {
        say(format_args!("  memory: the endpoint took at most {}", size(endpoint.peak_memory())));
    }
    expect(number(&bytes, "read") <= most(source), || {
        format!("more was read than the {source} bytes of data: {bytes}")
    })?;
    expect(number(&bytes, "wire") <= most(source), || {
        format!("more was sent than the {source} bytes of data: {bytes}")
    })?;

    let version = lab.vault_volume("appstack/Office").join(text(&copy, "version"));
    let to = lab.path("restored");
    let answer = lab.run(&["restore".as_ref(), "appstack/Office".as_ref(), "--to".as_ref(), to.as_os_str()])?;
    let restored = answer.done()?;
    say(format_args!(
        "  restored {} files in {:.1} s, with {} of memory at most",
        list(&restored, "files").len(),
        answer.seconds,
        size(answer.peak_memory)
    ));
    judge(&disk, &version, &to)?;
    if let Some(mut endpoint) = endpoint {
        endpoint.terminate()?.ends(0)?;
    }
    Ok(())
}

/// Whether what is stored and what came back are what they should be, in our eyes and in others'.
fn judge(disk: &Disk, version: &Path, to: &Path) -> Result<(), LabError> {
    same_files(&disk.files(), to)?;
    say("  every file came back byte for byte");
    let source = taken(disk, None)?;
    for (what, folder) in [("stored", version), ("restored", to)] {
        let bytes = taken(disk, Some(folder))?;
        expect(bytes <= most(source), || format!("{what} files take {bytes} bytes, their source {source}"))?;
        say(format_args!("  {what} files take {bytes} bytes on disk, their source {source}"));
    }
    let restored = to.join("Office.vmdk");
    expect(qemu_img_compare(&disk.path(), &restored)?, || "qemu-img finds them different".to_owned())?;
    say("  qemu-img finds both disks identical");
    let (before, after) = (mount_and_digest(&disk.path())?, mount_and_digest(&restored)?);
    expect(!before.is_empty() && before == after, || "the files in the NTFS differ".to_owned())?;
    say(format_args!("  mounted with ntfs-3g, all {} files are the same", after.len()));
    Ok(())
}

/// What the disk's files take where they are, or what their namesakes take in a folder.
fn taken(disk: &Disk, folder: Option<&Path>) -> Result<u64, LabError> {
    let files = disk.files().into_iter();
    let files =
        files.map(|file| folder.map_or(file.clone(), |folder| folder.join(file.file_name().unwrap_or_default())));
    files.map(|file| allocated_bytes(&file)).sum()
}

/// 1.01 times the source's allocated bytes, and a little.
fn most(source: u64) -> u64 {
    source + source / 100 + ROUNDING
}

fn per_second(bytes: u64, copy: &Value) -> u64 {
    let seconds = copy.get("seconds").and_then(Value::as_f64).unwrap_or_default();
    let millis = std::time::Duration::try_from_secs_f64(seconds).unwrap_or_default().as_millis();
    u64::try_from(u128::from(bytes) * 1000 / millis.max(1)).unwrap_or(u64::MAX)
}
