//! What a version's disk holds, by its descriptors: asked of what was just copied, and of versions in the vault.

use std::io;

use stackferry_vault::Version;
use stackferry_volume::FileName;
use stackferry_volume::content::{self, ContentRecord};
use stackferry_volume::descriptor::{Descriptor, MAX_TEXT_BYTES};
use stackferry_volume::io::Source;
use stackferry_volume::manifest::{FileRecord, FileRole};

/// Inspects the disks that these files describe; `open` opens one of them. A disk that can't be read as one is damaged.
///
/// # Errors
/// Reading failed.
pub(super) fn inspect<S: Source>(
    files: &[FileRecord],
    open: impl Fn(&FileName) -> io::Result<S>,
) -> io::Result<ContentRecord> {
    let mut disks = Vec::new();
    for file in files.iter().filter(|file| file.role == FileRole::Descriptor) {
        let text = read_small(&open(&file.name)?)?;
        disks.push(match Descriptor::parse(&text, &file.name) {
            Ok(descriptor) => ContentRecord::from(&content::inspect(&descriptor, |name| open(called(files, name)))?),
            Err(error) => ContentRecord::damaged(error.to_string()),
        });
    }
    Ok(ContentRecord::all(disks).unwrap_or_else(|| ContentRecord::damaged("it has no descriptor".to_owned())))
}

/// Inspects a version in the vault.
///
/// # Errors
/// Reading failed.
pub(super) fn of(version: &Version) -> io::Result<ContentRecord> {
    let open = |name: &FileName| version.open(name.as_str()).map_err(|error| io::Error::other(error.to_string()));
    inspect(&version.manifest().files, open)
}

/// The name of the file that a descriptor means: the one that is called so, or else the only one that is but for capitals.
fn called<'n>(files: &'n [FileRecord], name: &'n FileName) -> &'n FileName {
    let lower = name.as_str().to_lowercase();
    let mut alike = files.iter().map(|file| &file.name).filter(|own| own.as_str().to_lowercase() == lower);
    match (files.iter().any(|file| file.name == *name), alike.next(), alike.next()) {
        (false, Some(only), None) => only,
        _ => name,
    }
}

fn read_small(file: &impl Source) -> io::Result<Vec<u8>> {
    let bytes = usize::try_from(file.bytes()).ok().filter(|bytes| *bytes <= MAX_TEXT_BYTES);
    let mut text = vec![0; bytes.ok_or_else(|| io::Error::other("it is too long for a descriptor"))?];
    file.read_at(0, &mut text)?;
    Ok(text)
}
