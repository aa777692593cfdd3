//! The long lane: a thin AppStack of 20 GiB with 2 GiB in a real NTFS, by every route, judged by other programs too.

use std::fs;
use std::path::Path;
use std::time::Instant;

use serde_json::Value;

use super::listed::{expect, list, number, text};
use super::print::{print, size, step};
use super::stage::LOCAL;
use crate::check::{allocated_bytes, same_files};
use crate::disk::{DiskContent, DiskSpec, Sidecar, TestDisk, mount_and_digest};
use crate::error::{IoContext, LabError};
use crate::lab::{EndpointProcess, Lab, Offers, Sshd};
use crate::site::SitePlan;
use crate::tools::{available, qemu_img_compare};

/// What a copy and what a restored disk may take, beyond 1.01 times the source: file systems round up.
const ROUNDING: u64 = 64 << 10;
/// The most memory that the service may take, in bytes: its default budget for transfers is 96 MiB.
const MAX_MEMORY: u64 = 160 << 20;

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
    let mut lab = match keep {
        Some(folder) => Lab::keep(program, folder)?,
        None => Lab::new(program)?,
    };
    step("the disk");
    let plan = SitePlan::large();
    let spec = DiskSpec::new("Office", plan.office.bytes, plan.seed).sidecar(Sidecar::Metadata);
    let spec = spec.content(DiskContent::Ntfs { bytes: plan.office.data });
    let began = Instant::now();
    let disk = TestDisk::build(&lab.folder(LOCAL, "cloudvolumes/apps")?, spec)?;
    print(format_args!(
        "  {} with {} in an NTFS, made in {:.0} s",
        size(plan.office.bytes),
        size(disk.allocated()?),
        began.elapsed().as_secs_f64()
    ));
    let mut lines = Vec::new();
    for route in LongRoute::ALL {
        if matches!(route, LongRoute::Ssh(_)) && !Sshd::possible() {
            return Err(LabError::Missing("sshd, setpriv, unshare, and the right to mount"));
        }
        lines.push(by_route(&mut lab, &disk, route, keep.is_some())?);
    }
    step("in short");
    for line in lines {
        print(line);
    }
    Ok(())
}

/// A way to read a datastore.
#[derive(Debug, Clone, Copy)]
enum LongRoute {
    Local,
    Endpoint,
    Ssh(Offers),
}

impl LongRoute {
    const ALL: [Self; 5] =
        [Self::Local, Self::Endpoint, Self::Ssh(Offers::All), Self::Ssh(Offers::NoPython), Self::Ssh(Offers::NoSftp)];

    fn name(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Endpoint => "endpoint",
            Self::Ssh(Offers::All) => "ssh, SFTP and hole map",
            Self::Ssh(Offers::NoPython) => "ssh, SFTP",
            Self::Ssh(Offers::NoSftp) => "ssh, scp -f",
        }
    }

    fn key(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Endpoint => "endpoint",
            Self::Ssh(_) => "ssh",
        }
    }

    /// Whether holes are known, and so not read.
    fn knows_holes(self) -> bool {
        !matches!(self, Self::Ssh(Offers::NoPython | Offers::NoSftp))
    }
}

/// What runs on the other side.
enum RoutePeer {
    None,
    Endpoint(EndpointProcess),
    Host(Sshd),
}

/// Points the lab's service at the disk's datastore, with a state and a vault of its own.
fn set_up_route(lab: &mut Lab, route: LongRoute) -> Result<(RoutePeer, String), LabError> {
    let name: String = route.name().chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    let state = lab.path(&format!("state-{name}"));
    let vault = lab.path(&format!("vault-{name}"));
    lab.config.set("state_dir", state.to_string_lossy().into_owned());
    lab.config.set("vault.path", vault.to_string_lossy().into_owned());
    let peer = match route {
        LongRoute::Local => {
            lab.add_local(LOCAL)?;
            RoutePeer::None
        }
        LongRoute::Endpoint => {
            let endpoint = lab.serve(&[LOCAL])?;
            lab.add_endpoint(LOCAL, &endpoint)?;
            RoutePeer::Endpoint(endpoint)
        }
        LongRoute::Ssh(offers) => {
            let host = lab.sshd(&format!("host-{name}"), offers, &[LOCAL])?;
            lab.add_ssh(LOCAL, &host)?;
            RoutePeer::Host(host)
        }
    };
    Ok((peer, name))
}

/// Copies, restores and judges; gives a line that sums it up.
fn by_route(lab: &mut Lab, disk: &TestDisk, route: LongRoute, keep: bool) -> Result<String, LabError> {
    step(format_args!("by route {}", route.name()));
    let source = disk.allocated()?;
    let (mut peer, name) = set_up_route(lab, route)?;
    let answer = lab.run(&["copy", "appstack/Office"])?;
    let copy = answer.json_ok()?;
    let bytes = copy.get("bytes").cloned().unwrap_or(Value::Null);
    let [read, zero, wire, stored] = ["read", "zero", "wire", "stored"].map(|key| number(&bytes, key));
    let seconds = copy.get("seconds").and_then(Value::as_f64).unwrap_or_default();
    print(format_args!(
        "  copied in {seconds:.1} s ({}/s of data) with {} credentials: read {}, zero {}, wire {}, stored {}",
        size(per_second(source, &copy)),
        number(&copy, "credentials"),
        size(read),
        size(zero),
        size(wire),
        size(stored)
    ));
    print(format_args!("  memory: the service took at most {}", size(answer.peak_memory)));
    if let RoutePeer::Endpoint(endpoint) = &mut peer {
        print(format_args!("  memory: the endpoint took at most {}", size(endpoint.peak_memory())));
    }
    expect(text(&copy, "route") == route.key(), || format!("it came by another route: {copy}"))?;
    let (logical, mapped) = (number(&bytes, "logical"), route.knows_holes());
    let most_read = if mapped { limit(source) } else { logical };
    expect(read <= most_read, || format!("more was read than {most_read} bytes: {bytes}"))?;
    let most_wire = if mapped { limit(source) } else { limit(logical) };
    expect(wire <= most_wire, || format!("more was sent than {most_wire} bytes: {bytes}"))?;
    expect(stored <= source, || format!("more was stored than the {source} bytes of data: {bytes}"))?;
    expect(answer.peak_memory <= MAX_MEMORY, || format!("the service took {} bytes", answer.peak_memory))?;

    let vault = lab.path(&format!("vault-{name}"));
    let version = vault.join("volumes").join("appstack/Office").join(text(&copy, "version"));
    let to = lab.path(&format!("restored-{name}"));
    let restoring = lab.run(&["restore".as_ref(), "appstack/Office".as_ref(), "--to".as_ref(), to.as_os_str()])?;
    let restored = restoring.json_ok()?;
    print(format_args!(
        "  restored {} files in {:.1} s, with {} of memory at most",
        list(&restored, "files").len(),
        restoring.seconds,
        size(restoring.peak_memory)
    ));
    let kept = judge(disk, &version, &to)?;
    match peer {
        RoutePeer::None => {}
        RoutePeer::Endpoint(mut endpoint) => drop(endpoint.terminate()?.expect_code(0)?),
        RoutePeer::Host(mut host) => host.kill()?,
    }
    if !keep {
        for folder in [&vault, &to] {
            fs::remove_dir_all(folder).at("remove", folder)?;
        }
    }
    let percent = |bytes: u64| (bytes * 1000).checked_div(source).unwrap_or(0);
    let ratio = |bytes: u64| format!("{}.{}%", percent(bytes) / 10, percent(bytes) % 10);
    Ok(format!(
        "  {:24}{seconds:>7.1} s   of the source's bytes on disk: read {}, wire {}, kept on disk {}; memory {}",
        route.name(),
        ratio(read),
        ratio(wire),
        ratio(kept),
        size(answer.peak_memory)
    ))
}

/// Whether what is stored and what came back are what they should be, in our eyes and in others'. Gives the bytes that
/// the version takes on disk.
fn judge(disk: &TestDisk, version: &Path, to: &Path) -> Result<u64, LabError> {
    same_files(&disk.files(), to)?;
    print("  every file was restored byte for byte");
    let source = taken(disk, None)?;
    for (what, folder) in [("stored", version), ("restored", to)] {
        let bytes = taken(disk, Some(folder))?;
        expect(bytes <= limit(source), || format!("{what} files take {bytes} bytes, their source {source}"))?;
        print(format_args!("  {what} files take {bytes} bytes on disk, their source {source}"));
    }
    let restored = to.join("Office.vmdk");
    expect(qemu_img_compare(&disk.path(), &restored)?, || "qemu-img finds them different".to_owned())?;
    print("  qemu-img finds both disks identical");
    let (before, after) = (mount_and_digest(&disk.path())?, mount_and_digest(&restored)?);
    expect(!before.is_empty() && before == after, || "the files in the NTFS differ".to_owned())?;
    print(format_args!("  mounted with ntfs-3g, all {} files are the same", after.len()));
    taken(disk, Some(version))
}

/// What the disk's files take where they are, or what their namesakes take in a folder.
fn taken(disk: &TestDisk, folder: Option<&Path>) -> Result<u64, LabError> {
    let files = disk.files().into_iter();
    let files =
        files.map(|file| folder.map_or(file.clone(), |folder| folder.join(file.file_name().unwrap_or_default())));
    files.map(|file| allocated_bytes(&file)).sum()
}

/// 1.01 times the source's allocated bytes, and a little.
fn limit(source: u64) -> u64 {
    source + source / 100 + ROUNDING
}

fn per_second(bytes: u64, copy: &Value) -> u64 {
    let seconds = copy.get("seconds").and_then(Value::as_f64).unwrap_or_default();
    let millis = std::time::Duration::try_from_secs_f64(seconds).unwrap_or_default().as_millis();
    u64::try_from(u128::from(bytes) * 1000 / millis.max(1)).unwrap_or(u64::MAX)
}
