//! The long lane: a thin AppStack of 20 GiB with 2 GiB in a real NTFS, by every route, judged by other programs too.

use std::fs;
use std::path::Path;
use std::time::Instant;

use serde_json::Value;

use super::{LOCAL, expect, list, number, say, size, step, text};
use crate::check::{allocated_bytes, same_files};
use crate::disk::{Content, Disk, DiskSpec, Sidecar, mount_and_digest};
use crate::error::{At, LabError};
use crate::lab::{Endpoint, Lab, Offers, Sshd};
use crate::site::SitePlan;
use crate::tools::{available, qemu_img_compare};

/// What a copy and what a restored disk may take, beyond 1.01 times the source: file systems round up.
const ROUNDING: u64 = 64 << 10;
/// The most memory that the service may take, in bytes: its default budget for transfers is 96 MiB.
const MOST_MEMORY: u64 = 160 << 20;

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
    let spec = spec.content(Content::Ntfs { bytes: plan.office.data });
    let began = Instant::now();
    let disk = Disk::build(&lab.folder(LOCAL, "cloudvolumes/apps")?, spec)?;
    say(format_args!(
        "  {} with {} in an NTFS, made in {:.0} s",
        size(plan.office.bytes),
        size(disk.allocated()?),
        began.elapsed().as_secs_f64()
    ));
    let mut lines = Vec::new();
    for way in Way::ALL {
        if matches!(way, Way::Ssh(_)) && !Sshd::possible() {
            return Err(LabError::Missing("sshd, setpriv, unshare, and the right to mount"));
        }
        lines.push(by_route(&mut lab, &disk, way, keep.is_some())?);
    }
    step("in short");
    for line in lines {
        say(line);
    }
    Ok(())
}

/// A way to read a datastore.
#[derive(Debug, Clone, Copy)]
enum Way {
    Local,
    Endpoint,
    Ssh(Offers),
}

impl Way {
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

    fn route(self) -> &'static str {
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
enum Peer {
    None,
    Endpoint(Endpoint),
    Host(Sshd),
}

/// Points the lab's service at the disk's datastore, with a state and a vault of its own.
fn take(lab: &mut Lab, way: Way) -> Result<(Peer, String), LabError> {
    let name: String = way.name().chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    let state = lab.path(&format!("state-{name}"));
    let vault = lab.path(&format!("vault-{name}"));
    lab.config.set("state_dir", state.to_string_lossy().into_owned());
    lab.config.set("vault.path", vault.to_string_lossy().into_owned());
    let peer = match way {
        Way::Local => {
            lab.add_local(LOCAL)?;
            Peer::None
        }
        Way::Endpoint => {
            let endpoint = lab.serve(&[LOCAL])?;
            lab.add_endpoint(LOCAL, &endpoint)?;
            Peer::Endpoint(endpoint)
        }
        Way::Ssh(offers) => {
            let host = lab.sshd(&format!("host-{name}"), offers, &[LOCAL])?;
            lab.add_ssh(LOCAL, &host)?;
            Peer::Host(host)
        }
    };
    Ok((peer, name))
}

/// Copies, restores and judges; gives a line that sums it up.
fn by_route(lab: &mut Lab, disk: &Disk, way: Way, keep: bool) -> Result<String, LabError> {
    step(format_args!("by route {}", way.name()));
    let source = disk.allocated()?;
    let (mut peer, name) = take(lab, way)?;
    let answer = lab.run(&["copy", "appstack/Office"])?;
    let copy = answer.done()?;
    let bytes = copy.get("bytes").cloned().unwrap_or(Value::Null);
    let [read, zero, wire, stored] = ["read", "zero", "wire", "stored"].map(|key| number(&bytes, key));
    let seconds = copy.get("seconds").and_then(Value::as_f64).unwrap_or_default();
    say(format_args!(
        "  copied in {seconds:.1} s ({}/s of data) with {} credentials: read {}, zero {}, wire {}, stored {}",
        size(per_second(source, &copy)),
        number(&copy, "credentials"),
        size(read),
        size(zero),
        size(wire),
        size(stored)
    ));
    say(format_args!("  memory: the service took at most {}", size(answer.peak_memory)));
    if let Peer::Endpoint(endpoint) = &mut peer {
        say(format_args!("  memory: the endpoint took at most {}", size(endpoint.peak_memory())));
    }
    expect(text(&copy, "route") == way.route(), || format!("it came by another route: {copy}"))?;
    let (logical, mapped) = (number(&bytes, "logical"), way.knows_holes());
    let most_read = if mapped { most(source) } else { logical };
    expect(read <= most_read, || format!("more was read than {most_read} bytes: {bytes}"))?;
    let most_wire = if mapped { most(source) } else { most(logical) };
    expect(wire <= most_wire, || format!("more was sent than {most_wire} bytes: {bytes}"))?;
    expect(stored <= source, || format!("more was stored than the {source} bytes of data: {bytes}"))?;
    expect(answer.peak_memory <= MOST_MEMORY, || format!("the service took {} bytes", answer.peak_memory))?;

    let vault = lab.path(&format!("vault-{name}"));
    let version = vault.join("volumes").join("appstack/Office").join(text(&copy, "version"));
    let to = lab.path(&format!("restored-{name}"));
    let restoring = lab.run(&["restore".as_ref(), "appstack/Office".as_ref(), "--to".as_ref(), to.as_os_str()])?;
    let restored = restoring.done()?;
    say(format_args!(
        "  restored {} files in {:.1} s, with {} of memory at most",
        list(&restored, "files").len(),
        restoring.seconds,
        size(restoring.peak_memory)
    ));
    let kept = judge(disk, &version, &to)?;
    match peer {
        Peer::None => {}
        Peer::Endpoint(mut endpoint) => drop(endpoint.terminate()?.ends(0)?),
        Peer::Host(mut host) => host.kill()?,
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
        way.name(),
        ratio(read),
        ratio(wire),
        ratio(kept),
        size(answer.peak_memory)
    ))
}

/// Whether what is stored and what came back are what they should be, in our eyes and in others'. Gives the bytes that
/// the version takes on disk.
fn judge(disk: &Disk, version: &Path, to: &Path) -> Result<u64, LabError> {
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
    taken(disk, Some(version))
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
